use datasets::{Conversation, Message};
use serde_json::{Value, json};

use super::*;

fn greeting() -> Conversation {
    Conversation::new(vec![Message::new("user", "hi")])
}

/// A folder of the embedded model, with some files in place of its own or beside them; an empty text takes one away.
fn base(files: &[(&str, &str)]) -> (tempfile::TempDir, ModelFiles) {
    let folder = tempfile::tempdir().expect("a folder");
    for (name, bytes) in ModelFiles::Embedded.base().expect("the embedded model").files {
        std::fs::write(folder.path().join(name), bytes).expect("a written file");
    }
    let weights = Path::new(env!("CARGO_MANIFEST_DIR")).join("backbone/src/tiny/model.safetensors");
    std::fs::copy(weights, folder.path().join("model.safetensors")).expect("the embedded weights");
    put(folder.path(), files);
    let found = ModelFiles::Folder(folder.path().to_owned());
    (folder, found)
}

fn put(folder: &Path, files: &[(&str, &str)]) {
    for (name, text) in files {
        match text.is_empty() {
            true => std::fs::remove_file(folder.join(name)).expect("the file"),
            false => std::fs::write(folder.join(name), text).expect("a written file"),
        }
    }
}

fn find(own: &[(&str, &str)], base: &ModelFiles) -> Result<Option<Brought>, Faults> {
    let folder = tempfile::tempdir().expect("a folder");
    put(folder.path(), own);
    Brought::find(folder.path(), base)
}

#[track_caller]
fn brought(own: &[(&str, &str)], base: &ModelFiles) -> Brought {
    find(own, base).unwrap_or_else(|faults| panic!("{faults}")).expect("something of its own")
}

/// `tokenizer.json` of the embedded model, changed.
fn tokenizer(change: impl FnOnce(&mut Value)) -> String {
    let mut whole = settings_of(TOKENIZER);
    change(&mut whole);
    whole.to_string()
}

/// `tokenizer_config.json` of the embedded model, changed.
fn settings(change: impl FnOnce(&mut Value)) -> String {
    let mut whole = settings_of(SETTINGS);
    change(&mut whole);
    whole.to_string()
}

fn settings_of(name: &str) -> Value {
    let files = datasets::builtin::tokenizer_files();
    let text = &files.iter().find(|(file, _)| *file == name).expect("the file").1;
    serde_json::from_str(text).expect("JSON")
}

fn opened(brought: &Brought) -> String {
    let tokenizer = brought.tokenizer().unwrap_or_else(|faults| panic!("{faults}"));
    tokenizer.render_chat(&greeting(), true).unwrap_or_else(|fault| panic!("{fault}"))
}

fn file<'a>(brought: &'a Brought, wanted: &str) -> Option<&'a [u8]> {
    brought.files.iter().find(|(name, _)| name == wanted).map(|(_, bytes)| &bytes[..])
}

fn generation(brought: &Brought) -> Value {
    serde_json::from_slice(file(brought, GENERATION).expect("the file")).expect("JSON")
}

const OWN: &str = "{% for m in messages %}[{{ m.role }}] {{ m.content }}{% endfor %}";

#[test]
fn the_same_files_or_none_bring_nothing() {
    let embedded = datasets::builtin::tokenizer_files();
    let same: Vec<(&str, &str)> = embedded.iter().map(|(name, text)| (*name, text.as_str())).collect();
    for own in [&same[..], &[], &[("README.md", "a card")]] {
        assert!(find(own, &ModelFiles::Embedded).unwrap_or_else(|faults| panic!("{faults}")).is_none());
    }
}

/// In each of the forms in which it is saved, over each of those that the base may have.
#[test]
fn a_template_of_its_own_goes_before_the_bases_in_whatever_file_either_is() {
    let with = |template: Value| settings(|whole| whole["chat_template"] = template);
    let text = with(json!(OWN));
    let list = with(json!([{"name": "tool_use", "template": "no"}, {"name": "default", "template": OWN}]));
    let of_processor = json!({"chat_template": OWN}).to_string();
    let none = with(Value::Null);
    let forms: [&[(&str, &str)]; 5] = [
        &[(TEMPLATE, OWN)],
        &[(SETTINGS, &*text)],
        &[(SETTINGS, &*list)],
        &[(TEMPLATE_OF_PROCESSOR, &*of_processor)],
        &[(SETTINGS, &*none), (TEMPLATE, OWN)],
    ];
    for of_base in [&[][..], &[(TEMPLATE, "the base's")], &[(SETTINGS, &*none)]] {
        let (_guard, base) = base(of_base);
        for form in forms {
            let found = brought(form, &base);
            assert_eq!(opened(&found), "[user] hi", "{form:?} over {of_base:?}");
            assert!(found.warnings.is_empty(), "{:?}", found.warnings);
            // A merged model has the same template.
            let merged = tempfile::tempdir().expect("a folder");
            for (name, bytes) in &found.files {
                std::fs::write(merged.path().join(name), bytes).expect("a written file");
            }
            let again = Tokenizer::load(merged.path()).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(again.render_chat(&greeting(), true).expect("text"), "[user] hi");
        }
    }
}

#[test]
fn named_templates_of_the_base_that_are_left_out_are_told_of() {
    let named = json!([{"name": "default", "template": "a"}, {"name": "tool_use", "template": "b"}]);
    let (_guard, listed) = base(&[(SETTINGS, &*settings(|whole| whole["chat_template"] = named))]);
    let found = brought(&[(TEMPLATE, OWN)], &listed);
    assert_eq!((opened(&found).as_str(), found.warnings.len()), ("[user] hi", 1));
    let told = "of the base's named ones `tool_use` are left out";
    assert!(found.warnings[0].ends_with(told), "{:?}", found.warnings);
    let (guard, base) = base(&[(TEMPLATE, "a")]);
    std::fs::create_dir(guard.path().join("additional_chat_templates")).expect("a folder");
    std::fs::write(guard.path().join("additional_chat_templates/tool_use.jinja"), "b").expect("written");
    let found = brought(&[(TEMPLATE, OWN)], &base);
    assert!(found.warnings[0].ends_with(told), "{:?}", found.warnings);
    assert!(found.files.iter().all(|(name, _)| !name.contains('/')), "it would be asked for rows with tools");
}

#[test]
fn a_tokenizer_without_a_template_leaves_the_bases() {
    let none = settings(|whole| whole["chat_template"] = Value::Null);
    for of_base in [&[][..], &[(TEMPLATE, OWN)]] {
        let (_guard, base) = base(of_base);
        let found = brought(&[(SETTINGS, &*none)], &base);
        let expected = base.tokenizer().and_then(|t| Ok(t.render_chat(&greeting(), true)?));
        assert_eq!(opened(&found), expected.unwrap_or_else(|faults| panic!("{faults}")));
        assert!(found.warnings[0].contains("has no chat template"), "{:?}", found.warnings);
    }
}

#[test]
fn an_end_token_of_its_own_stops_here_and_in_other_programs() {
    let own = settings(|whole| whole["eos_token"] = json!("<|im_start|>"));
    let found = brought(&[(SETTINGS, &*own)], &ModelFiles::Embedded);
    assert_eq!(found.tokenizer().expect("a tokenizer").stop_tokens(), [2, 3]);
    assert_eq!((&generation(&found)["eos_token_id"], &generation(&found)["top_k"]), (&json!([2, 3]), &json!(0)));
    // Where the base lists it behind another, it comes to the front; the order of a base's own is left.
    let (_guard, listing) = base(&[(GENERATION, r#"{"eos_token_id": [3, 2]}"#)]);
    assert_eq!(generation(&brought(&[(SETTINGS, &*own)], &listing)), json!({"eos_token_id": [2, 3]}));
    let of_base = settings(|whole| whole["chat_template"] = json!(OWN));
    let (_guard, listing) = base(&[(GENERATION, r#"{"eos_token_id": [2, 3]}"#)]);
    assert_eq!(generation(&brought(&[(SETTINGS, &*of_base)], &listing)), json!({"eos_token_id": [2, 3]}));
    // Without the file, what its readers would take from `config.json`.
    let (_guard, base) = base(&[(GENERATION, "")]);
    let found = brought(&[(SETTINGS, &*own)], &base);
    assert_eq!(generation(&found), json!({"bos_token_id": 1, "eos_token_id": [2, 3], "pad_token_id": 0}));
    // Its own file says it all.
    let whole = json!({"eos_token_id": [5, 2]}).to_string();
    let found = brought(&[(SETTINGS, &*own), (GENERATION, &*whole)], &base);
    assert_eq!(
        (found.tokenizer().expect("a tokenizer").stop_tokens(), generation(&found)),
        (&[2, 5, 3][..], json!({"eos_token_id": [5, 2]}))
    );
    assert_eq!(found.line(), "tokenizer, chat template, `generation_config.json`");
}

#[test]
fn a_template_beside_a_tokenizer_that_is_damaged_is_taken() {
    for damaged in ["{\"model\": ", "version https://git-lfs.github.com/spec/v1\noid sha256:0\nsize 1\n"] {
        let found = brought(&[(TOKENIZER, damaged), (TEMPLATE, OWN)], &ModelFiles::Embedded);
        assert_eq!(opened(&found), "[user] hi", "{damaged}");
        assert!(file(&found, TEMPLATE).is_some() && found.own.len() == 1, "{damaged}");
    }
}

#[test]
fn an_end_that_is_no_token_is_told_of() {
    let foreign = json!({"eos_token_id": [99_999, 2]}).to_string();
    let found = brought(&[(GENERATION, &*foreign)], &ModelFiles::Embedded).tokenizer().expect("a tokenizer");
    let [remark] = &found.remarks()[..] else { panic!("{:?}", found.remarks()) };
    assert!(remark.contains("`eos_token_id` is 99999") && remark.contains("passed over"), "{remark}");
    assert!(found.stop_tokens().contains(&2) && !found.stop_tokens().contains(&99_999));
    let text = brought(&[(GENERATION, r#"{"eos_token_id": [-1, "x", null]}"#)], &ModelFiles::Embedded);
    let remarks = text.tokenizer().expect("a tokenizer").remarks().join(" ");
    assert!(remarks.contains("`eos_token_id` is -1") && remarks.contains("is \"x\""), "{remarks}");
    let sound = ModelFiles::Embedded.tokenizer().expect("a tokenizer");
    assert_eq!(sound.remarks(), Vec::<String>::new());
}

#[test]
fn a_token_with_two_ids_is_refused_by_name() {
    let swapped = tokenizer(|whole| {
        let vocabulary = whole["model"]["vocab"].as_object_mut().expect("a vocabulary");
        let keys: Vec<String> = vocabulary.keys().skip(300).take(2).cloned().collect();
        let ids = keys.iter().map(|key| vocabulary[key].clone()).collect::<Vec<_>>();
        (vocabulary[&keys[0]], vocabulary[&keys[1]]) = (ids[1].clone(), ids[0].clone());
    });
    let fault = find(&[(TOKENIZER, &*swapped)], &ModelFiles::Embedded).err().expect("a fault").to_string();
    assert!(fault.contains("for the adapter and") && fault.contains("tokenizer.json"), "{fault}");
}

/// Unsloth gives the end token another text (`map_eos_token`): the id is what counts.
#[test]
fn a_token_with_another_text_is_honoured() {
    let whole = tokenizer(|whole| {
        whole["added_tokens"][2]["content"] = json!("<|turn|>");
        let vocabulary = whole["model"]["vocab"].as_object_mut().expect("a vocabulary");
        vocabulary.remove("<|im_start|>");
        vocabulary.insert("<|turn|>".into(), json!(2));
    });
    let config = settings(|whole| whole["eos_token"] = json!("<|turn|>"));
    let found = brought(&[(TOKENIZER, &*whole), (SETTINGS, &*config)], &ModelFiles::Embedded);
    assert_eq!(
        (found.tokenizer().expect("a tokenizer").end_token(), found.warnings.len()),
        (Some(2), 0),
        "{:?}",
        found.warnings
    );
    assert_eq!(found.tokenizer().expect("a tokenizer").encode("<|turn|>", false).expect("ids"), [2]);
}

#[test]
fn a_token_without_a_row_in_the_embedding_is_told_of_and_cannot_be_read() {
    let whole = tokenizer(|whole| {
        let mut token = whole["added_tokens"][0].clone();
        (token["id"], token["content"]) = (json!(768), json!("<think>"));
        whole["added_tokens"].as_array_mut().expect("a list").push(token);
    });
    let found = brought(&[(TOKENIZER, &*whole), (SETTINGS, &*settings(|_| ()))], &ModelFiles::Embedded);
    assert!(found.warnings[0].contains("`<think>` (768)") && found.warnings[0].contains("768 rows"));
    assert!(
        found.tokenizer().expect("a tokenizer").encode("<think>", false).is_err()
            && found.tokenizer().expect("a tokenizer").encode("fox", false).is_ok()
    );
    // An end token that could never be drawn is no tokenizer of this base.
    let config = settings(|whole| whole["eos_token"] = json!("<think>"));
    let fault = find(&[(TOKENIZER, &*whole), (SETTINGS, &*config)], &ModelFiles::Embedded).err().expect("a fault");
    assert!(fault.to_string().contains("769 tokens"), "{fault}");
}

#[test]
fn what_is_partly_there_or_cannot_be_read_is_told_of() {
    // A tokenizer in the form of before `tokenizer.json`.
    let added = json!({"<|im_start|>": 2, "<think>": 768, "<|pad|>": 7}).to_string();
    let slow = [("vocab.json", "{}"), ("merges.txt", "#version"), (ADDED, added.as_str())];
    let found = brought(&slow, &ModelFiles::Embedded);
    let [warning] = &found.warnings[..] else { panic!("{:?}", found.warnings) };
    for part in ["`added_tokens.json`, `merges.txt`, `vocab.json`", "`<think>` (768), `<|pad|>` (7)", "save_pretrained"]
    {
        assert!(warning.contains(part), "{warning}");
    }
    assert!(file(&found, "vocab.json").is_none(), "it would go before the base's `tokenizer.json` elsewhere");
    // Tokens without settings, and settings without the tokens they name.
    let found = brought(&[(TOKENIZER, &*tokenizer(|_| ()))], &ModelFiles::Embedded);
    assert!(found.warnings[0].contains("no `tokenizer_config.json`"), "{:?}", found.warnings);
    let config = settings(|whole| whole["eos_token"] = json!({"content": "<|eot|>"}));
    let found = brought(&[(SETTINGS, &*config)], &ModelFiles::Embedded);
    assert!(found.warnings[0].contains("`eos_token` is `<|eot|>`"), "{:?}", found.warnings);
    assert_eq!(found.tokenizer().expect("a tokenizer").end_token(), Some(3));
    // Nothing that can be used.
    for own in [(TOKENIZER, "{\"model\": "), (TEMPLATE, "{% if %}"), (SETTINGS, "[]")] {
        assert!(find(&[own], &ModelFiles::Embedded).unwrap_or_else(|faults| panic!("{faults}")).is_none(), "{own:?}");
    }
}
