use super::*;

fn fixture() -> PathBuf {
    PathBuf::from(concat!(env!("CARGO_MANIFEST_DIR"), "/../tests/fixtures/bert"))
}

/// Texts and their vectors, computed by transformers.
fn reference(pooling: &str) -> (Vec<String>, Vec<f32>) {
    let text = fs_err::read_to_string(fixture().join("reference.json")).expect("the fixture");
    let read: serde_json::Value = serde_json::from_str(&text).expect("JSON");
    let texts = read["texts"].as_array().expect("texts").iter().map(|text| text.as_str().expect("a text").to_string());
    let vectors = read[pooling].as_array().expect("vectors").iter().flat_map(|vector| vector.as_array().expect("one"));
    (texts.collect(), vectors.map(|value| value.as_f64().expect("a number") as f32).collect())
}

fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max)
}

fn copy_of_fixture() -> tempfile::TempDir {
    let folder = tempfile::tempdir().expect("a folder");
    for name in ["config.json", "tokenizer.json", "model.safetensors"] {
        fs_err::copy(fixture().join(name), folder.path().join(name)).expect("a copy");
    }
    fs_err::create_dir(folder.path().join("1_Pooling")).expect("a folder");
    folder
}

fn embed(folder: &std::path::Path, texts: &[String]) -> Vec<f32> {
    let files = EncoderFiles::locate(folder.to_str().expect("a plain path")).expect("an encoder");
    assert_eq!(files.dimension(), 8);
    let encoder = files.load(&Device::flex()).unwrap_or_else(|faults| panic!("{faults}"));
    encoder.embed(texts, &mut |_| {}).expect("texts of known words")
}

#[test]
fn vectors_are_those_of_transformers() {
    // The third text is longer than the model can read, and all are of different lengths: padding is masked.
    let (texts, expected) = reference("mean");
    let difference = largest_difference(&embed(&fixture(), &texts), &expected);
    assert!(difference < 2e-6, "{difference}");
}

#[test]
fn the_pooling_of_the_folder_is_honoured() {
    let folder = copy_of_fixture();
    let pooling = folder.path().join(POOLING_FILE);
    let (texts, expected) = reference("cls");
    fs_err::write(&pooling, r#"{"pooling_mode_cls_token": true, "pooling_mode_mean_tokens": false}"#).expect("a write");
    let difference = largest_difference(&embed(folder.path(), &texts), &expected);
    assert!(difference < 2e-6, "{difference}");
    fs_err::write(&pooling, r#"{"pooling_mode_max_tokens": true}"#).expect("a write");
    let files = EncoderFiles::locate(folder.path().to_str().expect("a plain path")).expect("an encoder");
    assert!(files.load(&Device::flex()).is_err());
}

#[test]
fn equal_texts_share_a_vector_and_blank_ones_have_none() {
    let texts = ["owl", "", "a fox", "owl", " \n"].map(String::from);
    let found = embed(&fixture(), &texts);
    assert_eq!(found[..8], found[24..32]);
    assert_eq!((&found[8..16], &found[32..40]), (&[0.0; 8][..], &[0.0; 8][..]));
    let length: f32 = found[16..24].iter().map(|value| value * value).sum();
    assert!((length - 1.0).abs() < 1e-5);
}

#[test]
fn the_fingerprint_changes_with_every_file() {
    let folder = copy_of_fixture();
    let path = folder.path();
    let fingerprint =
        || EncoderFiles::locate(path.to_str().expect("a plain path")).and_then(|files| files.fingerprint());
    let mut seen = vec![fingerprint().expect("whole files")];
    fs_err::write(path.join(POOLING_FILE), "{}").expect("a write");
    seen.push(fingerprint().expect("whole files"));
    let mut weights = fs_err::read(path.join("model.safetensors")).expect("weights");
    let last = weights.len() - 1;
    weights[last] ^= 1;
    fs_err::write(path.join("model.safetensors"), weights).expect("a write");
    seen.push(fingerprint().expect("whole files"));
    assert!(seen[0] != seen[1] && seen[1] != seen[2] && seen[0] != seen[2]);
}

#[test]
fn what_is_no_encoder_is_refused() {
    for name in ["builtin:word", "./no/such/folder"] {
        assert!(EncoderFiles::locate(name).is_err(), "{name}");
    }
    let folder = copy_of_fixture();
    let config = folder.path().join("config.json");
    let text = fs_err::read_to_string(&config).expect("the configuration");
    fs_err::write(&config, text.replace("\"hidden_size\": 8", "\"hidden_size\": 16")).expect("a write");
    let files = EncoderFiles::locate(folder.path().to_str().expect("a plain path")).expect("an encoder");
    let fault = files.load(&Device::flex()).err().expect("weights of another shape");
    assert!(fault.to_string().contains("embeddings"), "{fault}");
}

/// What loading reads is looked at before: a fault of the one is a fault of the other.
#[test]
fn a_look_at_the_files_finds_what_loading_would() {
    let located = |folder: &tempfile::TempDir| {
        EncoderFiles::locate(folder.path().to_str().expect("a plain path")).expect("a configuration")
    };
    assert!(located(&copy_of_fixture()).check().is_ok() && EncoderFiles::Words.check().is_ok());
    let weights = fs_err::read(fixture().join("model.safetensors")).expect("weights");
    let config = fs_err::read_to_string(fixture().join("config.json")).expect("a configuration");
    let renamed = |from: &str, to: &str| {
        let places = weights.windows(from.len()).position(|window| window == from.as_bytes()).expect("a name");
        [&weights[..places], to.as_bytes(), &weights[places + from.len()..]].concat()
    };
    let cases: [(&str, Option<Vec<u8>>, &str); 6] = [
        ("model.safetensors", None, "no weights here"),
        ("model.safetensors", Some(weights[..weights.len() - 9].to_vec()), "model.safetensors"),
        (
            "model.safetensors",
            Some(renamed("layer.0.output.dense.bias", "layer.0.output.dense.bios")),
            "output.dense.bias",
        ),
        ("tokenizer.json", None, "`tokenizer.json` is missing"),
        ("tokenizer.json", Some(b"{".to_vec()), "cannot read the tokenizer"),
        (
            "config.json",
            Some(config.replace("\"intermediate_size\": ", "\"intermediate_size\": 1").into()),
            "intermediate",
        ),
    ];
    for (name, content, expected) in cases {
        let folder = copy_of_fixture();
        match &content {
            Some(content) => fs_err::write(folder.path().join(name), content).expect("a write"),
            None => fs_err::remove_file(folder.path().join(name)).expect("a file"),
        }
        let files = located(&folder);
        let fault = files.check().expect_err(expected).to_string();
        assert!(fault.contains(expected), "{fault}");
        assert!(files.load(&Device::flex()).is_err(), "{fault}");
    }
}
