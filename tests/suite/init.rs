//! `trainer init` as a user types it: settings of other trainers become recipes that run.

use crate::support::Workplace;

const AXOLOTL: &str = "base_model: builtin:tiny
adapter: lora
lora_r: 4
lora_alpha: 8
lora_target_linear: true
datasets:
  - path: rows.jsonl
    ds_type: json
val_set_size: 0.2
sequence_len: 64
sample_packing: true
micro_batch_size: 2
gradient_accumulation_steps: 2
max_steps: 2
learning_rate: 1e-3
output_dir: ./out
";

/// From a YAML to a merged model, as the README has it.
#[test]
fn a_yaml_of_axolotl_is_trained_and_merged() {
    let place = Workplace::new();
    place.write("config.yml", AXOLOTL);
    let made = place.trainer("init config.yml --out mine.toml").succeeds();
    assert_eq!(made.stdout, "mine.toml\n");
    made.says(&[
        "of config.yml (Axolotl) are in the recipe",
        "the end of mine.toml says which",
        "`trainer check mine.toml`",
    ]);
    let text = place.text("mine.toml");
    assert!(
        text.starts_with("#:schema ./trainer.schema.json\n# Written by `trainer init` from config.yml (Axolotl).\n"),
        "{text}"
    );
    assert!(text.contains("\n#   sample_packing: true\n#       rows are never packed together"), "{text}");
    assert!(text.contains("(`lora_r`).\nrank = 4\n"), "{text}");
    place.trainer("run mine.toml").succeeds();
    place.trainer("export out --out merged --merge").succeeds();
    assert!(place.path("merged/model.safetensors").is_file());
    // The same for the adapter that came of it.
    place
        .trainer("init out/checkpoints/step-000002 --model builtin:tiny --train rows.jsonl --out again.toml")
        .succeeds();
    let text = place.text("again.toml");
    assert!(text.contains("rank = 4\n") && text.contains("train = [\"rows.jsonl\"]"), "{text}");
    place.trainer("check again.toml").succeeds();
}

#[test]
fn what_cannot_be_a_source_is_refused_and_nothing_is_written_over() {
    let place = Workplace::new();
    place.write("dpo.yml", format!("{AXOLOTL}rl: dpo\n"));
    place.trainer("init dpo.yml --out a.toml").fails(&["`rl` is `dpo`", "dpo.yml", "there is no preference training"]);
    place.trainer("init none.yml --out a.toml").fails(&["cannot read the settings", "none.yml"]);
    place.trainer("init rows.jsonl --out a.toml").fails(&["these are no settings in JSON or YAML"]);
    place.trainer("init recipe.toml --out a.toml").fails(&["it is TOML, as recipes are"]);
    place.write("config.yml", AXOLOTL);
    place.trainer("init config.yml --out recipe.toml").fails(&["the file is there already", "--out"]);
    place.trainer("init --out a.toml").fails(&["nobody to ask", "`--model NAME --train FILE`"]);
    place
        .trainer("init config.yml --objective cdvi --out a.toml")
        .fails(&["no objective is named `cdvi`", "did you mean `cdiv`?"]);
    assert!(!place.path("a.toml").exists());
    // Settings in place of a recipe: told where they are mended.
    place.trainer("check config.yml").fails(&["this is YAML, and a recipe is TOML", "`trainer init config.yml`"]);
}

#[test]
fn a_model_and_rows_are_enough() {
    let place = Workplace::with_model();
    place.trainer("init --model model --train rows.jsonl --objective trunc --out mine.toml").succeeds();
    let text = place.text("mine.toml");
    assert!(text.contains("kind = \"trunc\"") && text.contains("eval = 0.05"), "{text}");
    place.trainer("check mine.toml").succeeds();
    let shown = place.trainer("init --model model --train rows.jsonl --out -").succeeds();
    assert!(shown.stdout.contains("kind = \"nll\"") && shown.stdout.ends_with('\n'), "{}", shown.stdout);
}
