//! Weights, indices of weights, adapters, and what says of a checkpoint that it is whole.

use std::cell::LazyCell;
use std::path::Path;

use checkpoints::{Adapter, Checkpoint, Run, StoredTensor, Weights, files_beside};
use tempfile::TempDir;

use crate::{Target, fixture, shown};

pub(crate) const TARGETS: [Target; 4] = [
    Target {
        name: "weights",
        seeds: || {
            let names = ["checkpoints/tests/fixtures/base", "tests/fixtures/llama", "tests/fixtures/gemma2"];
            names.map(|name| fixture(&format!("{name}/model.safetensors"))).into()
        },
        words: &[
            "\"dtype\":\"F32\"",
            "\"dtype\":\"BF16\"",
            "\"dtype\":\"F8_E4M3\"",
            "\"dtype\":\"I64\"",
            "\"dtype\":\"BOOL\"",
            "\"shape\":[]",
            "\"shape\":[0]",
            "\"data_offsets\":[0,0]",
            "\"__metadata__\":{\"format\":\"pt\"}",
            "lm_head.weight",
            "model.embed_tokens.weight",
            "model.model.",
        ],
        run: weights,
    },
    Target {
        name: "index",
        seeds: || {
            let entries: Vec<String> = INDEXED.iter().map(|name| format!("{name:?}: \"a.safetensors\"")).collect();
            let whole = format!("{{\"metadata\": {{\"total_size\": 99}}, \"weight_map\": {{{}}}}}", entries.join(", "));
            vec![whole.into_bytes()]
        },
        words: &[
            "\"weight_map\":",
            "\"metadata\":",
            "\"a.safetensors\"",
            "\"b.safetensors\"",
            "\"../a.safetensors\"",
            "\"/dev/zero\"",
            "\"model.safetensors.index.json\"",
            "\"pipe\"",
            "\"total_size\":",
        ],
        run: index,
    },
    Target {
        name: "adapter",
        seeds: || {
            let folders = ["dora", "patterns", "plain"].map(|name| format!("checkpoints/tests/fixtures/{name}"));
            let both = |folder: &String| {
                let tensors = fixture(&format!("{folder}/adapter_model.safetensors"));
                [fixture(&format!("{folder}/adapter_config.json")), MARK.to_vec(), tensors].concat()
            };
            folders.iter().map(both).collect()
        },
        words: &[
            "\"rank_pattern\":{",
            "\"alpha_pattern\":{",
            "\"target_modules\":\"all-linear\"",
            "\"target_modules\":\"(a|b)*\"",
            "\"use_dora\":true",
            "\"use_rslora\":true",
            "\"bias\":\"all\"",
            "\"modules_to_save\":[\"lm_head\"]",
            "\"r\":0",
            "\"lora_alpha\":1e-300",
            "\"layers_to_transform\":[0]",
            "\"layers_pattern\":\"layers\"",
            "\"exclude_modules\":[\"a\"]",
            "(?:(?:a{999}){999}){999}",
            "\"base_model_name_or_path\":\"../..\"",
            "lora_A.weight",
            "lora_B.weight",
            "lora_magnitude_vector",
            "lora_embedding_A",
            "base_model.model.",
            "\"init_lora_weights\":\"pissa\"",
        ],
        run: adapter,
    },
    Target {
        name: "manifest",
        seeds: || {
            let manifest = std::fs::read(saved().join("MANIFEST.json")).expect("a checkpoint has a manifest");
            vec![manifest]
        },
        words: &[
            "\"files\":",
            "\"step\":",
            "\"size\":",
            "\"sha256\":",
            "\"../latest\"",
            "\"/dev/zero\"",
            "\"state.json\"",
            "\"adapter_model.safetensors\"",
            "\".\"",
            "\"\"",
        ],
        run: manifest,
    },
];

/// Stands between the files of an input that is several.
pub(crate) const MARK: &[u8] = b"\n=====\n";

/// The two files of an input; the second is empty where there is no mark.
pub(crate) fn two(input: &[u8]) -> (&[u8], &[u8]) {
    match input.windows(MARK.len()).position(|window| window == MARK) {
        Some(at) => (&input[..at], &input[at + MARK.len()..]),
        None => (input, &[]),
    }
}

thread_local! {
    /// A folder of this thread.
    static FOLDER: LazyCell<TempDir> = LazyCell::new(folder);
    /// One with the shards that an index may name, and things that are no files.
    static SHARDS: LazyCell<TempDir> = LazyCell::new(|| {
        let folder = folder();
        for (name, from) in [("a.safetensors", FIRST), ("b.safetensors", SECOND)] {
            std::fs::write(folder.path().join(name), fixture(from)).expect("a file");
        }
        std::fs::create_dir(folder.path().join("pipe")).expect("a folder");
        folder
    });
    /// A run with a checkpoint.
    static RUN: LazyCell<TempDir> = LazyCell::new(folder);
}

const FIRST: &str = "checkpoints/tests/fixtures/base/model.safetensors";
const SECOND: &str = "checkpoints/tests/fixtures/plain/adapter_model.safetensors";

/// The names of the tensors of the first shard.
static INDEXED: std::sync::LazyLock<Vec<String>> = std::sync::LazyLock::new(|| {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("..").join(FIRST);
    let weights = Weights::open_file(&path).unwrap_or_else(|fault| panic!("{fault}"));
    weights.names().map(str::to_owned).collect()
});

fn folder() -> TempDir {
    tempfile::tempdir().expect("a folder for temporary files")
}

/// What comes of a reader of an input in a file of this name.
pub(crate) fn in_a_file<T>(name: &str, input: &[u8], read: impl FnOnce(&Path) -> T) -> T {
    FOLDER.with(|folder| {
        let path = folder.path().join(name);
        std::fs::write(&path, input).expect("a temporary file");
        read(&path)
    })
}

fn weights(input: &[u8]) -> bool {
    in_a_file("model.safetensors", input, |path| {
        let weights = match Weights::open_file(path) {
            Ok(weights) => weights,
            Err(fault) => return shown(Err::<(), _>(fault)),
        };
        read_all(&weights)
    })
}

fn read_all(weights: &Weights) -> bool {
    let mut accepted = shown(weights.refuse_not_finite());
    weights.has_two_ends();
    for name in weights.names() {
        let held = weights.bytes(name).map(<[u8]>::len);
        let numbers: usize = weights.shape(name).unwrap_or_default().iter().product();
        let bits = weights.dtype(name).map_or(0, |dtype| dtype.bitsize());
        assert_eq!(held.ok(), Some(numbers * bits / 8), "{name}");
        accepted &= shown(weights.f32(name));
    }
    accepted
}

fn index(input: &[u8]) -> bool {
    SHARDS.with(|folder| {
        let folder = folder.path();
        std::fs::write(folder.join("model.safetensors.index.json"), input).expect("a temporary file");
        match Weights::open(folder) {
            Ok(weights) => read_all(&weights),
            Err(fault) => shown(Err::<(), _>(fault)),
        }
    })
}

fn adapter(input: &[u8]) -> bool {
    let (config, tensors) = two(input);
    FOLDER.with(|folder| {
        let folder = folder.path();
        std::fs::write(folder.join("adapter_config.json"), config).expect("a temporary file");
        std::fs::write(folder.join("adapter_model.safetensors"), tensors).expect("a temporary file");
        shown(files_beside(folder));
        let adapter = match Adapter::read(folder) {
            Ok(adapter) => adapter,
            Err(faults) => return shown(Err::<(), _>(faults)),
        };
        for module in ["model.layers.0.self_attn.q_proj", "model.layers.10.mlp.up_proj"] {
            let _ = (adapter.config.rank(module), adapter.config.scale(module));
        }
        adapter.config.broken_patterns();
        shown(adapter.modules())
    })
}

/// The checkpoint of this thread's run.
fn saved() -> std::path::PathBuf {
    RUN.with(|folder| {
        let run = folder.path().join("run");
        let checkpoint = run.join("checkpoints/step-000001");
        if !checkpoint.is_dir() {
            let adapter = Path::new(env!("CARGO_MANIFEST_DIR")).join("../checkpoints/tests/fixtures/plain");
            let adapter = Adapter::read(&adapter).unwrap_or_else(|faults| panic!("{faults}"));
            let contents = checkpoints::Contents {
                weights: checkpoints::Trained::Adapter(adapter),
                training_state: [("count".to_owned(), StoredTensor::from_f32([1], &[0.0]))].into_iter().collect(),
                state: serde_json::json!({"step": 1}),
                beside: Vec::new(),
                best: true,
            };
            let run = Run::create(&run).unwrap_or_else(|fault| panic!("{fault}"));
            run.save(1, &contents, &checkpoints::Retention { keep: 1 }).unwrap_or_else(|fault| panic!("{fault}"));
        }
        checkpoint
    })
}

fn manifest(input: &[u8]) -> bool {
    let checkpoint = saved();
    std::fs::write(checkpoint.join("MANIFEST.json"), input).expect("a temporary file");
    let run = Run::open(checkpoint.ancestors().nth(2).expect("a run")).unwrap_or_else(|fault| panic!("{fault}"));
    shown(run.latest());
    shown(Checkpoint::open(&checkpoint))
}
