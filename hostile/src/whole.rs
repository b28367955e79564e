//! Recipes, configurations of models, states of runs, and the lines that a page is made of.

use faults::Fault;
use trainer::backbone::Config;
use trainer::engine::state::RunState;
use trainer::losses::Registry;
use trainer::recipe;
use trainer::report::comparison;

use crate::files::{MARK, in_a_file, two};
use crate::{Target, fixture, fixtures, shown};

pub(crate) const TARGETS: [Target; 4] = [
    Target {
        name: "recipe",
        seeds: || {
            let mut seeds = fixtures("recipes", ".toml");
            // What follows a mark is a `--set`.
            let set = |(seed, set): (&Vec<u8>, &str)| [seed, MARK, set.as_bytes()].concat();
            let sets = ["train.steps=3", "data.train=[\"a.jsonl\"]", "seed=5", "output.dir=\"x\""];
            seeds.extend(seeds.clone().iter().zip(sets).map(set));
            seeds
        },
        words: &[
            "[model]",
            "[adapter]",
            "[data]",
            "[objective]",
            "[optimizer]",
            "[schedule]",
            "[train]",
            "[checkpoint]",
            "[eval]",
            "[output]",
            "[[auxiliary]]",
            "path = ",
            "kind = \"diffuse\"",
            "kind = \"trunc_r\"",
            "kind = \"sfr\"",
            "steps = ",
            "batch_size = ",
            "learning_rate = ",
            "rank = ",
            "alpha = ",
            "targets = ",
            "epochs = ",
            "seed = ",
            "train_on = ",
            "\"builtin:tiny\"",
            "inf",
            "nan",
            "1_000",
            "0x10",
            "1979-05-27",
            "\"\"\"",
            "'''",
            "{kind=\"none\"}",
            "= {",
            "= [",
        ],
        run: recipe,
    },
    Target {
        name: "config",
        seeds: || {
            let names = [
                "llama",
                "llama3",
                "gemma",
                "gemma2",
                "gemma3",
                "gemma3_images",
                "granite",
                "longrope",
                "mistral",
                "olmo",
                "olmo2",
                "phi3",
                "qwen2",
                "qwen3",
                "dynamic",
            ];
            names.map(|name| fixture(&format!("tests/fixtures/{name}/config.json"))).into()
        },
        words: &[
            "\"model_type\":",
            "\"llama\"",
            "\"qwen3\"",
            "\"gemma3_text\"",
            "\"rope_scaling\":{",
            "\"rope_type\":\"yarn\"",
            "\"rope_type\":\"linear\"",
            "\"rope_type\":\"longrope\"",
            "\"rope_type\":\"dynamic\"",
            "\"factor\":",
            "\"hidden_size\":",
            "\"num_hidden_layers\":",
            "\"num_attention_heads\":",
            "\"num_key_value_heads\":",
            "\"head_dim\":",
            "\"vocab_size\":",
            "\"sliding_window\":",
            "\"layer_types\":[",
            "\"quantization_config\":{}",
            "\"text_config\":{",
            "\"hidden_act\":\"gelu\"",
            "{\"__float__\":\"Infinity\"}",
            "\"short_factor\":[",
            "\"long_factor\":[",
            "\"rms_norm_eps\":",
        ],
        run: config,
    },
    Target {
        name: "state",
        seeds: || {
            let state = serde_json::json!({
                "step": 3, "skipped": 0, "best": [2, 0.5], "evaluations_since_best": 1, "pass_loss": 0.25,
                "train_fingerprint": "ab", "eval_fingerprint": null, "encoders": [null, "cd"],
                "moment": "2026-11-28T09:05:07", "version": "0.1.0",
                "recipe": "[model]\npath = \"builtin:tiny\"\n[train]\nsteps = 5\n",
            });
            vec![state.to_string().into_bytes()]
        },
        words: &["\"best\":[", "\"recipe\":", "\"step\":", "\"base\":{", "\"moment\":", "[model]\\n", "\"encoders\":["],
        run: state,
    },
    Target {
        name: "page",
        seeds: || {
            let line = |model: &str, seed: u32, temperature: f64| {
                let f8 = 0.5 + 0.1 * temperature;
                format!(
                    "{{\"model\": \"runs/kind={model},seed={seed}\", \"prompt\": null, \"temperature\": {temperature}, \"targets\": 12, \
                     \"mass\": 0.9, \"f8\": {f8}, \"coverage\": {{\"10\": 0.2, \"100\": 0.4}}, \"kl\": null}}\n"
                )
            };
            let mut arms = String::new();
            for (model, seed, temperature) in [("nll", 1, 0.5), ("nll", 2, 1.0), ("cdiv", 1, 0.5), ("cdiv", 2, 1.0)] {
                arms += &line(model, seed, temperature);
            }
            vec![arms.into_bytes(), line("nll", 1, 1.0).into_bytes()]
        },
        words: &[
            "\"model\":",
            "\"prompt\":",
            "\"temperature\":",
            "\"targets\":",
            "\"mass\":",
            "\"f8\":",
            "\"coverage\":{",
            "\"file\":",
            "\"nll\":",
            "\"samples\":",
            "\"pass@1\":",
            "\"top_p\":",
            "<script>alert(1)</script>",
            "<img src=x onerror=alert(1)>",
            "javascript:",
            "\\u2028",
            "]]>",
            "<!--",
        ],
        run: page,
    },
];

fn recipe(input: &[u8]) -> bool {
    let (text, set) = two(input);
    let (Ok(text), Ok(set)) = (std::str::from_utf8(text), std::str::from_utf8(set)) else { return false };
    let set: Vec<String> = set.lines().map(str::to_owned).collect();
    match recipe::parse("recipe.toml", text, &set, &Registry::default()) {
        Ok(_) => true,
        Err(faults) => {
            // As the terminal shows it, with the lines drawn.
            assert!(faults.list().iter().all(|fault: &Fault| !fault.render(true).is_empty()));
            shown(Err::<(), _>(faults))
        }
    }
}

fn config(input: &[u8]) -> bool {
    let Ok(text) = std::str::from_utf8(input) else { return false };
    match Config::parse(text, "config.json") {
        Ok(config) => {
            shown(config.check_training());
            true
        }
        Err(fault) => shown(Err::<(), _>(fault)),
    }
}

fn state(input: &[u8]) -> bool {
    match serde_json::from_slice::<RunState>(input) {
        Ok(state) => shown(recipe::backbone("recipe.toml", &state.recipe)),
        Err(error) => shown(Err::<(), _>(error)),
    }
}

fn page(input: &[u8]) -> bool {
    in_a_file("evaluation.jsonl", input, |path| match comparison::of_paths(&[path.to_owned()]) {
        Ok(read) => match pages::render(&read) {
            Ok(page) => {
                for word in ["<script>alert", "<img src=x"] {
                    assert!(!page.contains(word), "the page holds {word}");
                }
                true
            }
            Err(_) => false,
        },
        Err(fault) => shown(Err::<(), _>(fault)),
    })
}
