//! Weights by other names than a model has for them itself, as transformers 5.23 loads them: without `model.` before them,
//! one of two tied matrices alone, two where the configuration says one. What it does not load is refused with the reason.

use std::collections::BTreeMap;

use serde_json::{Map, Value, json};

use crate::support::Workplace;

const EMBEDDING: &str = "model.embed_tokens.weight";
const HEAD_WEIGHT: &str = "lm_head.weight";
const WEIGHTS: &str = "model/model.safetensors";

type Tensors = BTreeMap<String, (Value, Vec<u8>)>;

/// The same model's tensors by other names.
type Variant = fn(&Tensors) -> Tensors;

/// The tensors of a file by their names there: type and shape, and the bytes.
fn read(place: &Workplace, file: &str) -> Tensors {
    let bytes = place.read(file);
    let length = u64::from_le_bytes(bytes[..8].try_into().expect("a length")) as usize;
    let header: Map<String, Value> = serde_json::from_slice(&bytes[8..8 + length]).expect("a header");
    let data = &bytes[8 + length..];
    let entries = header.into_iter().filter(|(name, _)| name != "__metadata__");
    entries
        .map(|(name, entry)| {
            let at = |index: usize| entry["data_offsets"][index].as_u64().expect("an offset") as usize;
            let shape = json!({"dtype": entry["dtype"], "shape": entry["shape"]});
            (name, (shape, data[at(0)..at(1)].to_vec()))
        })
        .collect()
}

fn write(place: &Workplace, file: &str, tensors: &Tensors) {
    let (mut header, mut data) = (Map::new(), Vec::<u8>::new());
    for (name, (shape, bytes)) in tensors {
        let mut entry = shape.clone();
        entry["data_offsets"] = json!([data.len(), data.len() + bytes.len()]);
        header.insert(name.clone(), entry);
        data.extend(bytes);
    }
    let mut text = Value::Object(header).to_string();
    text.extend(std::iter::repeat_n(' ', text.len().next_multiple_of(8) - text.len()));
    let mut whole = (text.len() as u64).to_le_bytes().to_vec();
    whole.extend(text.as_bytes());
    whole.extend(data);
    place.write(file, whole);
}

fn renamed(tensors: &Tensors, name: impl Fn(&str) -> String) -> Tensors {
    tensors.iter().map(|(old, tensor)| (name(old), tensor.clone())).collect()
}

fn bare(tensors: &Tensors) -> Tensors {
    renamed(tensors, |name| name.trim_start_matches("model.").to_owned())
}

/// The head's name in place of the embedding's.
fn head_alone(tensors: &Tensors) -> Tensors {
    renamed(tensors, |name| if name == EMBEDDING { HEAD_WEIGHT.to_owned() } else { name.to_owned() })
}

const RUN: &str = "run recipe.toml --set model.path=model --set train.steps=3";

#[test]
fn weights_by_other_names_are_the_same_model_and_keep_their_names_when_merged() {
    let place = Workplace::with_model();
    let own = read(&place, WEIGHTS);
    place.trainer(RUN).succeeds();
    let steps = place.timeless("run");
    place.trainer("export run --out merged --merge").succeeds();
    let merged = read(&place, "merged/model.safetensors");
    assert_ne!(merged, own);
    let variants: [(&str, Variant); 4] = [
        ("without a prefix", bare),
        ("the head alone", head_alone),
        ("the head alone, without a prefix", |tensors| bare(&head_alone(tensors))),
        ("some without a prefix", |tensors| {
            renamed(tensors, |name| match name.contains("layers.0.") {
                true => name.trim_start_matches("model.").to_owned(),
                false => name.to_owned(),
            })
        }),
    ];
    for (what, variant) in variants {
        let stored = variant(&own);
        assert_ne!(stored.keys().collect::<Vec<_>>(), own.keys().collect::<Vec<_>>(), "{what}");
        write(&place, WEIGHTS, &stored);
        for folder in ["run", "merged"] {
            std::fs::remove_dir_all(place.path(folder)).expect("removed");
        }
        place.trainer(RUN).succeeds();
        assert_eq!(place.timeless("run"), steps, "{what}");
        place.trainer("export run --out merged --merge").succeeds();
        assert_eq!(read(&place, "merged/model.safetensors"), variant(&merged), "{what}");
        place.trainer("check recipe.toml --set model.path=merged").succeeds();
    }
}

/// An adapter on one end makes two matrices of one: both are there, each by its name.
#[test]
fn an_adapter_on_one_end_of_a_base_that_has_the_head_alone_gives_both() {
    let place = Workplace::with_model();
    let own = read(&place, WEIGHTS);
    let run = format!("{RUN} --set adapter.targets=[\"lm_head\"]");
    place.trainer(&run).succeeds();
    place.trainer("export run --out merged --merge").succeeds();
    let merged = read(&place, "merged/model.safetensors");
    assert!(
        merged.contains_key(HEAD_WEIGHT)
            && merged[EMBEDDING] == own[EMBEDDING]
            && merged[HEAD_WEIGHT] != own[EMBEDDING]
    );
    let variants: [fn(&Tensors) -> Tensors; 2] = [head_alone, |tensors| bare(&head_alone(tensors))];
    let names: [fn(&Tensors) -> Tensors; 2] = [Tensors::clone, bare];
    for (variant, names) in variants.into_iter().zip(names) {
        write(&place, WEIGHTS, &variant(&own));
        for folder in ["run", "merged"] {
            std::fs::remove_dir_all(place.path(folder)).expect("removed");
        }
        place.trainer(&run).succeeds();
        place.trainer("export run --out merged --merge").succeeds();
        assert_eq!(read(&place, "merged/model.safetensors"), names(&merged));
        assert_eq!(place.json("merged/config.json")["tie_word_embeddings"], false);
    }
}

/// transformers 5 believes the weights, and older versions the configuration: a merge says what the weights are.
#[test]
fn two_matrices_that_the_configuration_calls_one_are_two() {
    let place = Workplace::with_model();
    let mut tensors = read(&place, WEIGHTS);
    let (shape, mut bytes) = tensors[EMBEDDING].clone();
    bytes.rotate_left(1 << 10);
    tensors.insert(HEAD_WEIGHT.into(), (shape, bytes));
    write(&place, WEIGHTS, &tensors);
    let tied = place.text("model/config.json");
    let run = |config: &str| {
        place.write("model/config.json", config);
        let _ = std::fs::remove_dir_all(place.path("run"));
        let _ = std::fs::remove_dir_all(place.path("merged"));
        place.trainer(RUN).succeeds();
        let ended = place.trainer("export run --out merged --merge").succeeds();
        (
            place.timeless("run"),
            read(&place, "merged/model.safetensors"),
            place.json("merged/config.json"),
            ended.stderr,
        )
    };
    let mut config: Value = serde_json::from_str(&tied).expect("JSON");
    assert_eq!(config["tie_word_embeddings"], true);
    config["tie_word_embeddings"] = false.into();
    let two = run(&config.to_string());
    let one_in_words = run(&tied);
    assert_eq!((&two.0, &two.1), (&one_in_words.0, &one_in_words.1));
    assert_eq!(one_in_words.2["tie_word_embeddings"], false);
    assert_eq!(one_in_words.1[HEAD_WEIGHT], tensors[HEAD_WEIGHT]);
    assert!(one_in_words.3.contains("its weights are two"), "{}", one_in_words.3);
    assert!(!two.3.contains("its weights are two"), "{}", two.3);
    // A copy is none of its own.
    let copy = tensors[EMBEDDING].clone();
    tensors.insert(HEAD_WEIGHT.into(), copy);
    write(&place, WEIGHTS, &tensors);
    assert_eq!(run(&tied).2["tie_word_embeddings"], true);
}

#[test]
fn weights_that_transformers_does_not_load_either_are_refused_with_the_reason() {
    let place = Workplace::with_model();
    let own = read(&place, WEIGHTS);
    let check = "check recipe.toml --set model.path=model";
    write(&place, WEIGHTS, &renamed(&own, |name| format!("_orig_mod.{name}")));
    place.refuses(check, &["is missing", "there is `_orig_mod.model.", "without `_orig_mod.`"]);
    write(&place, WEIGHTS, &head_alone(&own));
    let mut config = place.json("model/config.json");
    config["tie_word_embeddings"] = false.into();
    place.write("model/config.json", config.to_string());
    place.refuses(check, &["hold one matrix, `lm_head.weight`", "tie_word_embeddings"]);
    write(&place, WEIGHTS, &own);
    place.refuses(check, &["`lm_head.weight` is missing"]);
    let mut both = bare(&own);
    both.extend(own.clone());
    write(&place, WEIGHTS, &both);
    place.refuses(check, &["two names of one tensor"]);
}

/// What a clone without `git lfs` leaves in place of large files.
#[test]
fn a_pointer_in_the_place_of_a_file_is_named() {
    let place = Workplace::new();
    let pointer = "version https://git-lfs.github.com/spec/v1\noid sha256:4d7a21\nsize 269060552\n";
    for file in ["config.json", "tokenizer.json", "model.safetensors", "tokenizer_config.json"] {
        place.model("model");
        place.write(&format!("model/{file}"), pointer);
        for command in ["check recipe.toml --set model.path=model", "sample model --prompt a"] {
            place.refuses(command, &[&format!("model/{file}"), "Git LFS pointer", "`git -C model lfs pull`"]);
        }
    }
}

/// As a model within a model is saved.
#[test]
fn weights_with_model_before_their_names_twice_are_told_as_such() {
    let place = Workplace::with_model();
    write(&place, WEIGHTS, &renamed(&read(&place, WEIGHTS), |name| format!("model.{name}")));
    let told = "the names of the tensors have `model.` twice, as in `model.model.layers.0.";
    place.refuses("check recipe.toml --set model.path=model", &[told, "hint: "]);
}
