use super::*;
use crate::files::hook::{Failure, failing};

fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

fn base() -> Base {
    Base::open(&fixture("base")).unwrap()
}

fn names(weights: &Weights) -> Vec<String> {
    weights.names().map(str::to_owned).collect()
}

#[test]
fn a_file_that_grows_too_large_is_split_and_listed() {
    let folder = tempfile::tempdir().unwrap();
    let (base, out) = (base(), folder.path().join("out"));
    let limit = 3_000;
    let nothing = Change { updates: BTreeMap::new(), untied: false, dtype: None };
    write_model(&base, &nothing, &out, limit).unwrap();
    assert!(!out.join(SINGLE).exists());
    let split = Weights::open(&out).unwrap();
    assert_eq!(names(&split), names(&base.weights));
    for name in base.weights.names() {
        assert_eq!(split.bytes(name).unwrap(), base.weights.bytes(name).unwrap());
    }
    let shards = split.shards();
    assert!(shards.len() > 3, "{shards:?}");
    for (name, tensors) in shards {
        let size: usize = tensors.iter().map(|tensor| split.bytes(tensor).unwrap().len()).sum();
        assert!(size as u64 <= limit && out.join(name).exists(), "{name}");
    }
    let index: Value = serde_json::from_slice(&fs::read(out.join(INDEX)).unwrap()).unwrap();
    assert_eq!(index["metadata"]["total_size"], base.weights.parameters() * 4);
}

#[test]
fn an_export_cut_at_any_operation_is_whole_or_not_there() {
    let adapter = Adapter::read(&fixture("plain")).unwrap();
    for failure in [Failure::Crash, Failure::Full] {
        for at in 0.. {
            let folder = tempfile::tempdir().unwrap();
            let out = folder.path().join("out");
            let (written, struck) = failing(at, failure, || merged(&base(), &adapter, &out, None));
            if !struck {
                written.unwrap();
                assert!(at > 10, "an export has many operations, this one {at}");
                break;
            }
            assert!(written.is_err());
            if out.exists() {
                assert_eq!(names(&Weights::open(&out).unwrap()), names(&base().weights));
                assert!(out.join(CONFIG).exists());
            } else {
                assert!(failure == Failure::Crash || fs::read_dir(folder.path()).unwrap().count() == 0);
                merged(&base(), &adapter, &out, None).unwrap();
            }
            assert_eq!(fs::read_dir(folder.path()).unwrap().count(), 1, "operation {at}: only the output is left");
        }
    }
}

#[test]
fn every_template_of_a_tokenizer_goes_along() {
    let folder = tempfile::tempdir().unwrap();
    let (from, out) = (folder.path().join("base"), folder.path().join("out"));
    let templates = from.join(FURTHER_TEMPLATES);
    fs::create_dir_all(&templates).unwrap();
    for entry in fs::read_dir(fixture("base")).unwrap().map(Result::unwrap) {
        fs::copy(entry.path(), from.join(entry.file_name())).unwrap();
    }
    for name in ["rag.jinja", "tool_use.jinja", "notes.txt"] {
        fs::write(templates.join(name), name).unwrap();
    }
    let exported = model(&Base::open(&from).unwrap(), &out, None).unwrap();
    let read = |name: &str| fs::read_to_string(out.join(FURTHER_TEMPLATES).join(name)).ok();
    assert_eq!((read("rag.jinja"), read("notes.txt")), (Some("rag.jinja".into()), None));
    assert!(exported.files.iter().any(|name| name == FURTHER_TEMPLATES), "{exported:?}");
}

#[test]
fn types_that_are_not_converted_keep_their_bytes_and_all_are_aligned() {
    let tensors = BTreeMap::from([
        ("a".to_string(), crate::StoredTensor { dtype: Dtype::I64, shape: vec![1], bytes: vec![7; 8] }),
        ("b".to_string(), crate::StoredTensor::from_f32([3], &[1.0, -2.5, f32::NAN])),
        ("c".to_string(), crate::StoredTensor { dtype: Dtype::U8, shape: vec![3], bytes: vec![1, 2, 3] }),
    ]);
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("model.safetensors");
    crate::weights::write_tensors(&path, &tensors).unwrap();
    let base = Base { weights: Weights::open_file(&path).unwrap(), files: Vec::new() };
    for dtype in [Dtype::F64, Dtype::F32, Dtype::BF16, Dtype::F16] {
        let out = folder.path().join(dtype.to_string());
        model(&base, &out, Some(dtype)).unwrap();
        let written = Weights::open(&out).unwrap();
        assert_eq!((written.dtype("a"), written.bytes("a").unwrap()), (Some(Dtype::I64), &[7; 8][..]));
        assert_eq!(written.bytes("c").unwrap(), [1, 2, 3]);
        let values = written.f32("b").unwrap();
        assert_eq!((written.dtype("b"), values[0], values[1], values[2].is_nan()), (Some(dtype), 1.0, -2.5, true));
        let order: Vec<&str> = written.shards()[0].1.clone();
        assert!(order.is_sorted_by_key(|name| std::cmp::Reverse(written.dtype(name))), "{order:?}");
    }
}

#[test]
fn the_configuration_says_the_type_under_the_key_it_uses() {
    let text = |bytes: &str| {
        String::from_utf8(config(bytes.as_bytes(), Some(Dtype::BF16), false).unwrap().into_owned()).unwrap()
    };
    assert_eq!(text(r#"{"dtype":"float32","z":1}"#), "{\n  \"dtype\": \"bfloat16\",\n  \"z\": 1\n}");
    assert_eq!(text(r#"{"torch_dtype":"float32"}"#), "{\n  \"torch_dtype\": \"bfloat16\"\n}");
    assert_eq!(text("{}"), "{\n  \"torch_dtype\": \"bfloat16\"\n}");
    assert!(config(b"[]", Some(Dtype::F32), false).is_err());
    // Written by Python, and read by it.
    let python = text(r#"{"dtype":"float32","limit":[0.0,Infinity],"eps":NaN}"#);
    assert_eq!(
        python,
        "{\n  \"dtype\": \"bfloat16\",\n  \"limit\": [\n    0.0,\n    Infinity\n  ],\n  \"eps\": NaN\n}"
    );
    let untied = config(br#"{"tie_word_embeddings":true}"#, None, true).unwrap();
    assert_eq!(untied, b"{\n  \"tie_word_embeddings\": false\n}".as_slice());
}
