//! The tokenizer, the chat template and the end token that lie beside an adapter go before its base's, in all that is done
//! with it.

use serde_json::{Value, json};

use crate::support::Workplace;

/// A template that no base has; its text says which one was taken.
const OWN: &str = "{{ bos_token }}{% for m in messages %}[{{ m.role }}] {{ m.content }}{% if m.role == 'assistant' %}<|im_end|>{% endif %}{{ '\n' }}{% endfor %}{% if add_generation_prompt %}[assistant] {% endif %}";

/// What it makes of `hi`.
const OPENED: &str = "<|bos|>[user] hi\n[assistant] ";

/// An adapter on a base whose tokenizer has no template, with a template and an end token of its own beside it.
fn adapter() -> Workplace {
    let place = Workplace::with_model();
    let mut settings = place.json("model/tokenizer_config.json");
    settings.as_object_mut().expect("an object").remove("chat_template");
    place.write("model/tokenizer_config.json", settings.to_string());
    place.trainer("run recipe.toml --set model.path=model --set train.steps=2").succeeds();
    place.trainer("export run --out adapter").succeeds();
    settings["eos_token"] = json!("<|im_start|>");
    place.write("adapter/tokenizer_config.json", settings.to_string());
    place.write("adapter/tokenizer.json", place.text("model/tokenizer.json"));
    place.write("adapter/chat_template.jinja", OWN);
    place
}

/// The tokens drawn of a conversation, and of the text that the template makes of it.
fn chat(place: &Workplace, model: &str) -> Value {
    let draw = |prompt: &[&str]| {
        let fixed = ["sample", model, "--temperature", "0", "--max-tokens", "12"];
        place.trainer_with(&[&fixed, prompt].concat(), &[]).succeeds().json()["ids"].clone()
    };
    let drawn = draw(&["--chat", "--prompt", "hi"]);
    assert_eq!(drawn, draw(&["--prompt", OPENED]), "{model}");
    drawn
}

#[test]
fn an_adapters_template_and_end_token_are_in_what_is_drawn_and_exported() {
    let place = adapter();
    place.refuses("sample model --chat --prompt hi", &["no chat template"]);
    place.refuses("sample run --chat --prompt hi", &["no chat template"]);
    let said = place.trainer("sample adapter --chat --prompt hi --max-tokens 2").succeeds();
    said.says(&["of the adapter's own: tokenizer, chat template", "adapter"]);
    let drawn = chat(&place, "adapter");

    place.trainer("export adapter --out copy").succeeds();
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert_eq!(place.read(&format!("copy/{file}")), place.read(&format!("adapter/{file}")), "{file}");
    }
    assert_eq!(chat(&place, "copy"), drawn);
    place.trainer("export adapter --out merged --merge --dtype f32").succeeds();
    assert_eq!(place.text("merged/chat_template.jinja"), OWN);
    assert_eq!(place.json("merged/tokenizer_config.json")["eos_token"], "<|im_start|>");
    // The tokens at which other programs stop: the adapter's, and those of the base.
    assert_eq!(place.json("merged/generation_config.json")["eos_token_id"], json!([2, 3]));
    assert_eq!(chat(&place, "merged"), drawn);

    let row = json!({"messages": [{"role": "user", "content": "hi"}], "targets": ["yes", "no"]});
    place.write("targets.jsonl", format!("{row}\n"));
    place.refuses("eval model --data targets.jsonl --n 0", &["no chat template"]);
    let loss = |model: &str| place.trainer(&format!("eval {model} --data targets.jsonl")).succeeds().lines().remove(0);
    let apart = loss("adapter")["loss"].as_f64().expect("a loss") - loss("merged")["loss"].as_f64().expect("a loss");
    assert!(apart.abs() < 1e-3, "{apart}");
}

#[test]
fn a_run_that_begins_with_an_adapter_keeps_its_tokenizer() {
    let place = adapter();
    let row = json!({"messages": [{"role": "user", "content": "hi"}, {"role": "assistant", "content": "A fox."}]});
    place.write("rows.jsonl", format!("{row}\n").repeat(4));
    place.write("held_out.jsonl", format!("{row}\n"));
    let recipe = place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"adapter\"");
    place.write("next.toml", recipe.replace("builtin:tiny", "model").replace("\"run\"", "\"next\""));
    place.refuses("run recipe.toml --set model.path=model --set output.dir=other", &["no chat template"]);
    let run = "run next.toml --set train.steps";
    place.trainer(&format!("{run}=4")).succeeds();
    let whole = place.tree("next/checkpoints/step-000004");
    for file in ["tokenizer.json", "tokenizer_config.json", "chat_template.jinja"] {
        assert_eq!(place.read(&format!("next/checkpoints/step-000004/{file}")), place.read(&format!("adapter/{file}")));
    }
    let drawn = chat(&place, "next");
    // What it began with is in the checkpoint: the run goes on without it.
    std::fs::rename(place.path("next"), place.path("unbroken")).expect("a new name");
    place.trainer(&format!("{run}=2")).succeeds();
    std::fs::remove_dir_all(place.path("adapter")).expect("the folder");
    place.trainer(&format!("{run}=4 --resume")).succeeds();
    let again = place.tree("next/checkpoints/step-000004");
    assert!(whole == again, "{:?} {:?}", whole.keys(), again.keys());
    assert_eq!(chat(&place, "next"), drawn);
    place.trainer("export next --out merged --merge --dtype f32").succeeds();
    assert_eq!(place.text("merged/chat_template.jinja"), OWN);
    assert_eq!(chat(&place, "merged"), drawn);
}

#[test]
fn an_adapter_with_other_tokens_than_its_base_is_refused() {
    let place = adapter();
    let mut tokenizer = place.json("adapter/tokenizer.json");
    let vocabulary = tokenizer["model"]["vocab"].as_object_mut().expect("a vocabulary");
    vocabulary.iter_mut().skip(500).take(2).for_each(|(_, id)| *id = json!(1001 - id.as_u64().expect("an id")));
    place.write("adapter/tokenizer.json", tokenizer.to_string());
    let expected = ["the token `", "for the adapter and", "tokenizer.json", "hint: "];
    place.refuses("sample adapter --prompt fox", &expected);
    place.refuses("export adapter --out merged --merge", &expected);
    let recipe = place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"adapter\"");
    place.write("next.toml", recipe.replace("builtin:tiny", "model"));
    place.refuses("check next.toml --set output.dir=next", &expected);
}
