//! What an exported folder says of itself, and how it goes up.

use crate::support::Workplace;

/// A run that looks at prompts with known answers, and so has exact numbers.
fn trained() -> Workplace {
    let place = Workplace::with_model();
    let set = "--set train.steps=2 --set checkpoint.every=2 --set eval.samples=0";
    place
        .trainer(&format!("run recipe.toml {set} --set eval.prompts=\"builtin:numbers\" --set objective.kind=cdiv"))
        .succeeds();
    place
}

#[test]
fn an_export_has_a_card_with_the_run_s_numbers_and_recipe() {
    let place = trained();
    place.trainer("export run --out adapter").succeeds();
    let card = place.text("adapter/README.md");
    assert!(card.starts_with("---\nlibrary_name: peft\npipeline_tag: text-generation\ntags:\n- lora\n"), "{card}");
    for part in [
        "\n# adapter\n\nA LoRA adapter for `builtin:tiny`, trained by the objective `cdiv` (`alpha = 1.4`",
        ", 2 steps.\n",
        "mean negative log-likelihood of a token in nats: ",
        " after step 2.\n",
        "| | precision | recall (F_8) | coverage at 100 |",
        "\n| before | ",
        "\n| difference | ",
        " \u{b1} ",
        "AutoPeftModelForCausalLM",
        "top_k=0",
        "```toml\n",
        "rank = 4\n",
    ] {
        assert!(card.contains(part), "{part:?} is missing in\n{card}");
    }
    let here = place.path("").display().to_string();
    assert!(!card.contains(here.trim_end_matches('/')), "where files lie is nothing to others");

    place.trainer("export run --out merged --merge").succeeds();
    let card = place.text("merged/README.md");
    assert!(
        card.contains("library_name: transformers\n") && card.contains("with an adapter merged into its weights"),
        "{card}"
    );
    assert!(card.contains("AutoTokenizer, AutoModelForCausalLM") && !card.contains("AutoPeft"), "{card}");
    // An adapter by itself has no run to tell of.
    place.trainer("export adapter --out again").succeeds();
    let card = place.text("again/README.md");
    assert!(card.contains("A LoRA adapter for") && !card.contains("## Recipe") && !card.contains("measured"), "{card}");
}

#[test]
fn what_is_no_export_is_not_pushed() {
    let place = trained();
    place.trainer("push run org/name").fails(&["this is a run", "`trainer export run --out DIR`"]);
    place.trainer("push run/checkpoints/step-000002 org/name").fails(&["this is a run"]);
    place.trainer("push none org/name").fails(&["there is no such folder"]);
    place.trainer("push . org/name").fails(&["neither an adapter nor a model"]);
    place.trainer("push model name").fails(&["cannot be the name of a repository"]);
    // The tests' programs are offline.
    place.trainer("push model org/name").fails(&["HF_HUB_OFFLINE"]);
    let online = [("HF_HUB_OFFLINE", "0"), ("HF_ENDPOINT", "http://127.0.0.1:1")];
    place
        .trainer_with(&["push", "model", "org/name"], &online)
        .fails(&["takes files of those alone whom it knows", "HF_TOKEN"]);
    let with_token = [online[0], online[1], ("HF_TOKEN", "hf_verysecret")];
    let refused = place.trainer_with(&["push", "model", "org/name"], &with_token).fails(&["cannot reach", "refused"]);
    assert!(!refused.stderr.contains("verysecret"), "{}", refused.stderr);
}
