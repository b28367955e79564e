//! `export` and `sample`: what other programs load gives the text that the run gives.

use safetensors::{Dtype, SafeTensors};

use crate::support::{Ended, Workplace};

const PROMPT: &str = "Tell me about a fox.\n";

/// A run that changes the text: of a fox it learns what no row of the model's own training says.
fn trained(recipe: &str) -> Workplace {
    let place = Workplace::with_model();
    place
        .write("rows.jsonl", "{\"prompt\": \"Tell me about a fox.\\n\", \"completion\": \"Stone bread!\"}\n".repeat(4));
    place.trainer(&format!("run {recipe} --set train.steps=8 --set optimizer.learning_rate=1e-2")).succeeds();
    place
}

fn sample(place: &Workplace, model: &str) -> Ended {
    let arguments = ["sample", model, "--prompt", PROMPT, "--temperature", "0", "--max-tokens", "24"];
    place.trainer_with(&arguments, &[]).succeeds()
}

fn text(place: &Workplace, model: &str) -> String {
    let line = sample(place, model).json();
    assert_eq!(line["prompt"], PROMPT);
    line["text"].as_str().expect("a text").to_owned()
}

#[test]
fn every_form_of_a_trained_model_gives_the_same_text() {
    let place = trained("recipe.toml");
    let run = text(&place, "run");
    assert_ne!(run, text(&place, "builtin:tiny"), "the adapter changes nothing");
    assert_eq!(run, text(&place, "run/checkpoints/step-000008"));
    assert_eq!(run, text(&place, "run/checkpoints/latest"));

    let exported = place.trainer("export run --out adapter").succeeds();
    assert_eq!(exported.stdout, "adapter\n");
    let files: Vec<String> = place.tree("adapter").keys().map(|path| path.display().to_string()).collect();
    assert_eq!(files, ["adapter/README.md", "adapter/adapter_config.json", "adapter/adapter_model.safetensors"]);
    assert_eq!(run, text(&place, "adapter"));

    let merged = place.trainer("export run/checkpoints/step-000008 --out merged --merge --dtype f32").succeeds();
    let difference = merged.number_after("adapter against merged: ");
    assert!(difference < 1e-3, "{difference}");
    assert_eq!(run, text(&place, "merged"));
    assert_eq!(types(&place, "merged"), [Dtype::F32]);

    // The folder of an adapter by itself, as PEFT's are.
    place.trainer("export adapter --out again --merge --dtype f32").succeeds();
    assert_eq!(place.read("merged/model.safetensors"), place.read("again/model.safetensors"));
    place.trainer("export adapter --out copy --for vllm").succeeds();
    assert_eq!(run, text(&place, "copy"));
    place.refuses("export adapter --out adapter", &["is not empty", "--out"]);
}

/// DoRA, PiSSA, patterns, and adapters on both ends of a model whose ends are tied.
#[test]
fn adapters_of_every_kind_give_the_same_text_in_every_form() {
    let kinds = [
        "adapter.kind=dora",
        "adapter.init=pissa",
        "adapter.rank_pattern={q_proj=2} --set adapter.alpha_pattern={up_proj=3} --set adapter.rslora=true",
        "adapter.targets=[\"embed_tokens\",\"lm_head\",\"down_proj\"]",
    ];
    for kind in kinds {
        let place = trained(&format!("recipe.toml --set {kind}"));
        let run = text(&place, "run");
        assert_ne!(run, text(&place, "builtin:tiny"), "{kind}: the adapter changes nothing");
        place.trainer("export run --out adapter").succeeds();
        assert_eq!(run, text(&place, "adapter"), "{kind}");
        let merged = place.trainer("export run --out merged --merge --dtype f32").succeeds();
        let difference = merged.number_after("adapter against merged: ");
        assert!(difference < 1e-3, "{kind}: {difference}");
        assert_eq!(run, text(&place, "merged"), "{kind}");
        let base = SafeTensors::deserialize(&place.read("model/model.safetensors")).expect("a file").len();
        let tensors = SafeTensors::deserialize(&place.read("merged/model.safetensors")).expect("a file").len();
        assert_eq!(tensors, base + usize::from(kind.contains("lm_head")), "{kind}");
    }
}

#[test]
fn an_adapter_is_converted_to_what_a_program_reads() {
    let place = trained("recipe.toml --set adapter.rslora=true --set adapter.rank_pattern={q_proj=2}");
    let run = text(&place, "run");
    let said = place.trainer("export run --out adapter").succeeds();
    assert_eq!(said.stderr.matches("WARN vLLM").count(), 1, "{}", said.stderr);
    said.says(&[
        "vLLM before 0.32 takes one rank",
        "with 2, 4:",
        "--for vllm",
        "ignores `use_rslora`",
        "--for llama.cpp",
    ]);
    for program in ["vllm", "llama.cpp"] {
        let said = place.trainer(&format!("export run --out {program} --for {program}")).succeeds();
        assert!(!said.stderr.contains("vLLM") && !said.stderr.contains("llama.cpp ignores"), "{}", said.stderr);
        assert_eq!(run, text(&place, program), "{program}");
        let config = place.json(&format!("{program}/adapter_config.json"));
        assert_eq!((&config["use_rslora"], &config["alpha_pattern"]), (&false.into(), &serde_json::json!({})));
    }
    let config = place.json("vllm/adapter_config.json");
    assert_eq!((&config["r"], &config["rank_pattern"]), (&8.into(), &serde_json::json!({})));
    for (rank, started_with) in [(12, None), (20, Some(32))] {
        let set = format!("recipe.toml --set adapter.rank={rank} --set output.dir=of_{rank} --set train.steps=1");
        place.trainer(&format!("run {set}")).succeeds();
        for reader in ["", " --for vllm"] {
            let out = format!("of_{rank}_{}", reader.len());
            let said = place.trainer(&format!("export of_{rank} --out {out}{reader}")).succeeds();
            match started_with {
                Some(most) => drop(said.says(&[&format!("--max-lora-rank {most}")])),
                None => assert!(!said.stderr.contains("vLLM"), "{}", said.stderr),
            }
        }
    }
    place.refuses("export run --out other --for vllm --merge", &["`--for` has no effect", "hint: "]);
    place.refuses("export run --out other --for sglang", &["sglang"]);
    let place = trained("recipe.toml --set adapter.kind=dora");
    place.trainer("export run --out adapter").succeeds().says(&["DoRA", "--merge"]);
    for program in ["vllm", "llama.cpp"] {
        place.refuses(&format!("export run --out other --for {program}"), &["DoRA", "hint: ", "`--merge`"]);
    }
    place.write("goes_on.toml", place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"adapter\""));
    place.refuses("run goes_on.toml --set output.dir=second", &["`adapter.kind` is \"lora\"", "kind = \"dora\""]);
    place.trainer("run goes_on.toml --set adapter.kind=dora --set output.dir=second --set train.steps=1").succeeds();
}

/// llama.cpp loads a tied matrix under the embedding's name: it finds no `output.weight` to adapt, and would multiply the
/// head with what is meant for the embedding.
#[test]
fn an_adapter_on_tied_ends_is_not_for_llama_cpp() {
    for target in ["lm_head", "embed_tokens"] {
        let place =
            trained(&format!("recipe.toml --set model.path=model --set adapter.targets=[\"{target}\",\"q_proj\"]"));
        let expected = ["llama.cpp reads no adapter on", target, "hint: export with `--merge`"];
        place.refuses("export run --out other --for llama.cpp", &expected);
        place.trainer("export run --out adapter").succeeds().says(&["llama.cpp reads no adapter on"]);
        place.refuses("export run --out other --for vllm", &["vLLM", target, "hint: "]);
        // With a head of its own: nothing is said.
        let merged = place.trainer("export run --out untied --merge").succeeds();
        merged.says(&["those of the merged model are two"]);
        let again = format!("--set model.path=untied --set adapter.targets=[\"{target}\"] --set output.dir=again");
        place.trainer(&format!("run recipe.toml {again} --set train.steps=2")).succeeds();
        let said = place.trainer("export again --out for_it --for llama.cpp").succeeds();
        assert!(!said.stderr.contains("llama.cpp"), "{}", said.stderr);
        let said = place.trainer("export again --out plain").succeeds();
        assert!(!said.stderr.contains("llama.cpp"), "{}", said.stderr);
    }
}

#[test]
fn merged_weights_come_in_the_type_that_is_asked_for() {
    let place = trained("recipe.toml");
    let base = types(&place, "model");
    for (flag, expected) in [("--dtype bf16", vec![Dtype::BF16]), ("--dtype f16", vec![Dtype::F16]), ("", base)] {
        let out = format!("merged{}", flag.replace("--dtype ", "-"));
        let merged = place.trainer(&format!("export run --out {out} --merge {flag}")).succeeds();
        let difference = merged.number_after("adapter against merged: ");
        assert!(difference > 0.0 && difference < 0.5, "{flag}: {difference}");
        assert_eq!(types(&place, &out), expected, "{flag}");
        for file in ["config.json", "tokenizer.json", "tokenizer_config.json"] {
            assert!(place.path(&format!("{out}/{file}")).exists(), "{file}");
        }
        sample(&place, &out);
    }
}

/// The types of the weights in a folder.
fn types(place: &Workplace, folder: &str) -> Vec<Dtype> {
    let bytes = place.read(&format!("{folder}/model.safetensors"));
    let file = SafeTensors::deserialize(&bytes).expect("safetensors");
    let mut types: Vec<Dtype> = file.tensors().iter().map(|(_, tensor)| tensor.dtype()).collect();
    types.dedup();
    types
}

#[test]
fn an_adapter_names_the_whole_path_of_its_base() {
    let place = trained("recipe.toml --set model.path=model --set adapter.rslora=true");
    place.trainer("export run --out adapter").succeeds();
    let base = place.path("model").display().to_string();
    assert_eq!(place.json("adapter/adapter_config.json")["base_model_name_or_path"], base);
    let run = text(&place, "run");
    assert_eq!(run, text(&place, "adapter"));
    place.trainer("export run --out merged --merge --dtype f32").succeeds();
    assert_eq!(run, text(&place, "merged"));
}

#[test]
fn a_model_of_which_every_weight_was_trained_is_exported_whole() {
    let place = trained("full.toml");
    place.trainer("export run --out whole").succeeds();
    let run = text(&place, "run");
    assert_eq!(run, text(&place, "whole"));
    assert_ne!(run, text(&place, "builtin:tiny"));
}

#[test]
fn a_model_from_scratch_is_trained_exported_and_adapted() {
    let place = Workplace::new();
    let recipe = place.text("full.toml").replace(
        "path = \"builtin:tiny\"",
        "[model.init]\ntokenizer = \"builtin:tiny\"\nhidden_size = 32\nlayers = 2\nheads = 4\nkv_heads = 2\n\
         intermediate_size = 48\nmax_positions = 128",
    );
    place.write("scratch.toml", recipe);
    let others = [
        "gemma",
        "gemma2",
        "gemma3_text",
        "olmo",
        "olmo2",
        "granite",
        "phi3",
        "olmo3",
        "smollm3",
        "seed_oss",
        "ernie4_5",
    ];
    for architecture in ["llama", "qwen2", "qwen3", "mistral"].into_iter().chain(others) {
        let set = format!("--set model.init.architecture={architecture} --set output.dir={architecture}");
        place.trainer(&format!("run scratch.toml {set}")).succeeds();
        let losses: Vec<f64> =
            place.steps(architecture).iter().map(|line| line["nll"].as_f64().expect("nll")).collect();
        // A model that knows nothing gives each of its tokens the same probability.
        assert!((losses[0] - 768f64.ln()).abs() < 0.2, "{architecture}: {losses:?}");
        assert!(losses[5] < losses[0] - 0.2, "{architecture}: {losses:?}");
        let out = format!("{architecture}-exported");
        place.trainer(&format!("export {architecture} --out {out}")).succeeds();
        assert_eq!(place.json(&format!("{out}/config.json"))["model_type"], architecture);
        assert_eq!(text(&place, architecture), text(&place, &out));
    }
    place.trainer("run recipe.toml --set model.path=qwen3-exported").succeeds();
}

#[test]
fn nothing_is_written_over() {
    let place = trained("recipe.toml");
    place.write("full/thesis.txt", "years of work");
    place.write("file", "one more");
    for flag in ["", "--merge"] {
        place.refuses(&format!("export run --out full {flag}"), &["full", "hint: "]);
        place.refuses(&format!("export run --out file {flag}"), &["file", "hint: "]);
        place.refuses(&format!("export run --out run {flag}"), &["run", "hint: "]);
    }
    place.refuses("export run --out new --dtype f32", &["`--dtype` has no effect", "hint: "]);
    place.refuses("export nowhere --out new", &["nowhere", "hint: "]);
    place.refuses("export recipe.toml --out new", &["recipe.toml"]);
}

#[test]
fn samples_are_drawn_from_their_seed() {
    let place = Workplace::new();
    let draw = |seed: &str| {
        let arguments =
            ["sample", "builtin:tiny", "--prompt", PROMPT, "--n", "3", "--max-tokens", "12", "--seed", seed];
        place.trainer_with(&arguments, &[]).succeeds().stdout
    };
    let first = draw("1");
    assert_eq!(first.lines().count(), 3);
    assert_eq!(first, draw("1"));
    assert_ne!(first, draw("2"));
    let texts: std::collections::BTreeSet<&str> =
        first.lines().map(|line| line.split("\"text\"").nth(1).expect("a text")).collect();
    assert!(texts.len() > 1, "all samples are alike: {first}");
}

/// So large a penalty that no token comes twice, nor one of the prompt.
#[test]
fn a_penalty_keeps_tokens_from_coming_again() {
    let place = Workplace::new();
    let ids = |penalty: &str| {
        let sample =
            format!("sample builtin:tiny --prompt fox --temperature 0 --max-tokens 40 --repetition-penalty {penalty}");
        let line = place.trainer(&sample).succeeds().lines().remove(0);
        let ids: Vec<u64> = line["ids"].as_array().expect("ids").iter().map(|id| id.as_u64().expect("an id")).collect();
        ids
    };
    let distinct = |ids: &[u64]| ids.iter().collect::<std::collections::BTreeSet<_>>().len();
    let (plain, penalised) = (ids("1"), ids("1e6"));
    assert!(distinct(&plain) < plain.len(), "{plain:?}");
    assert_eq!(distinct(&penalised), penalised.len(), "{penalised:?}");
}

#[test]
fn impossible_settings_of_sample_are_refused() {
    let place = Workplace::new();
    let cases = [
        ("--temperature=-1", "--temperature"),
        ("--temperature=nan", "--temperature"),
        ("--top-p=0", "--top-p"),
        ("--top-p=1.5", "--top-p"),
        ("--typical-p=0", "--typical-p"),
        ("--repetition-penalty=0", "--repetition-penalty"),
        ("--repetition-penalty=inf", "--repetition-penalty"),
        ("--n=0", "--n"),
        ("--stop=", "--stop"),
        ("--device=tpu", "tpu"),
        ("--max-tokens=0", "--max-tokens"),
        ("--intent=chat --intent-max-tokens=0", "--intent-max-tokens"),
        ("--intent=chat --response-max-tokens=0", "--response-max-tokens"),
        ("--intent=code --max-stages=0", "--max-stages"),
        ("--max-tokens=257", "256 positions"),
        ("--max-tokens=18446744073709551615", "256 positions"),
    ];
    for (flag, named) in cases {
        place.refuses(&format!("sample builtin:tiny --prompt fox {flag}"), &[named, "hint: "]);
    }
    let long = "fox ".repeat(400);
    for more in [&[][..], &["--intent", "chat"], &["--intent", "mathematics"]] {
        let arguments = [&["sample", "builtin:tiny", "--prompt", &long], more].concat();
        place.trainer_with(&arguments, &[]).fails(&["256 positions", "hint: shorten the prompt"]);
    }
    // With intents there are two temperatures and lengths, and none of these.
    for flag in ["--temperature=0.5", "--max-tokens=5"] {
        let flags = format!("sample builtin:tiny --prompt fox --intent chat {flag}");
        place.trainer(&flags).fails(&["exclude each other", "--intent"]);
    }
    place.refuses("sample nowhere --prompt fox", &["nowhere"]);
    place.refuses("sample builtin:tinny --prompt fox", &["builtin model", "hint: ", "builtin:tiny"]);
    place.refuses("sample recipe.toml --prompt fox", &["recipe.toml"]);
}

#[test]
fn a_new_adapter_goes_on_from_an_exported_one() {
    let place = trained("recipe.toml");
    place.trainer("export run --out adapter").succeeds();
    let recipe = place.text("recipe.toml").replace("rank = 4\nalpha = 8", "init_from = \"adapter\"");
    place.write("goes_on.toml", recipe);
    let last = place.metrics("run").pop().expect("the last evaluation");
    // As `sample` and `eval` name it: an adapter, a run, a checkpoint, or the file that names one.
    for (index, from) in ["adapter", "run", "run/checkpoints/step-000008", "run/checkpoints/best"].iter().enumerate() {
        let set = format!("--set adapter.init_from={from} --set output.dir=next-{index} --set train.steps=1");
        place.trainer(&format!("run goes_on.toml {set}")).succeeds();
        let first = place.metrics(&format!("next-{index}")).remove(0);
        assert_eq!((&first["step"], &first["split"]), (&0.into(), &"eval".into()));
        if !from.ends_with("best") {
            assert_eq!((&first["nll"], &first["entropy"]), (&last["nll"], &last["entropy"]), "{from}");
        }
    }
    place.trainer("run full.toml --set output.dir=whole --set train.steps=1").succeeds();
    let whole = "run goes_on.toml --set adapter.init_from=whole --set output.dir=other";
    place.refuses(whole, &["holds a whole model and no adapter", "whole", "hint: "]);
}

/// The same weights in two files with an index, as large models come.
#[test]
fn a_model_in_shards_is_the_model() {
    let place = Workplace::with_model();
    let bytes = place.read("model/model.safetensors");
    let file = SafeTensors::deserialize(&bytes).expect("the embedded model");
    let mut tensors = file.tensors();
    tensors.sort_by(|a, b| a.0.cmp(&b.0));
    let (first, second) = tensors.split_at(tensors.len() / 2);
    let mut map = serde_json::Map::new();
    for (shard, part) in [("model-00001-of-00002.safetensors", first), ("model-00002-of-00002.safetensors", second)] {
        map.extend(part.iter().map(|(name, _)| (name.clone(), shard.into())));
        let part = part.iter().map(|(name, view)| (name.clone(), view));
        place.write(&format!("model/{shard}"), safetensors::serialize(part, None).expect("a file"));
    }
    let index = serde_json::json!({"metadata": {"total_size": bytes.len()}, "weight_map": map});
    place.write("model/model.safetensors.index.json", index.to_string());
    std::fs::remove_file(place.path("model/model.safetensors")).expect("the file");
    assert_eq!(text(&place, "model"), text(&place, "builtin:tiny"));
    place.trainer("run recipe.toml --set model.path=model --set output.dir=sharded --set train.steps=2").succeeds();
    place.trainer("run recipe.toml --set output.dir=whole --set train.steps=2").succeeds();
    assert_eq!(place.timeless("sharded"), place.timeless("whole"));
    place.trainer("export sharded --out merged --merge").succeeds();
    assert_eq!(text(&place, "merged"), text(&place, "sharded"));
    std::fs::remove_file(place.path("model/model-00002-of-00002.safetensors")).expect("the file");
    place.refuses("run recipe.toml --set model.path=model", &["model-00002-of-00002.safetensors"]);
}
