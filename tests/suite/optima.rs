//! What each objective ends at when nothing limits it: one free distribution over four tokens, trained by the engine's own
//! steps until it is stationary. With detached weights that is where `p w(q) / q` is the same for every token.

use backbone::{Config, Decoder, Source, values};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use datasets::Example;
use trainer::engine::Trainee;
use trainer::engine::backward::Recompute;
use trainer::engine::batch::Batch;
use trainer::engine::optimizer::AdamW;
use trainer::engine::schedule::{Kind, Schedule};
use trainer::engine::step::{StepSettings, Trainer};

use crate::fixtures::example;

/// How often each token follows, of twenty rows: .5, .25, .15, .1.
const COUNTS: [usize; 4] = [10, 5, 3, 2];

/// The optima of this distribution, to six digits: roots of the condition above, computed in f64 with NumPy.
const OPTIMA: [(&str, [f64; 4]); 21] = [
    ("kind = \"nll\"", [0.5, 0.25, 0.15, 0.1]),
    ("kind = \"cdiv\"\nalpha = 1.2", [0.456741, 0.256337, 0.167470, 0.119452]),
    ("kind = \"cdiv\"\nalpha = 1.4", [0.425633, 0.259426, 0.180115, 0.134825]),
    ("kind = \"cdiv\"\nalpha = 2", [0.370090, 0.261693, 0.202707, 0.165509]),
    ("kind = \"cdiv\"\nalpha = 0.5", [0.724638, 0.181159, 0.065217, 0.028986]),
    ("kind = \"focal\"\ngamma = 1", [0.423215, 0.268404, 0.180411, 0.127970]),
    ("kind = \"focal\"\ngamma = 2", [0.384856, 0.270571, 0.196827, 0.147745]),
    ("kind = \"focal\"\ngamma = 2\nfull_gradient = true", [0.410768, 0.274791, 0.185705, 0.128736]),
    ("kind = \"focal\"\ngamma = 3\nfull_gradient = true", [0.382486, 0.274609, 0.198332, 0.144573]),
    // The temperature 1 / beta.
    ("kind = \"gem\"\nbeta = 0.7", [0.421903, 0.259712, 0.181634, 0.136752]),
    ("kind = \"tofu\"", [0.366725, 0.270580, 0.204580, 0.158115]),
    ("kind = \"mixce\"\neta = 0.5", [0.574959, 0.223289, 0.122988, 0.078763]),
    ("kind = \"tailr\"\ngamma = 0.1\nmin_weight = 0", [0.611111, 0.25, 0.105556, 0.033333]),
    ("kind = \"tailr\"\ngamma = 0.5\nmin_weight = 0", [1.0, 0.0, 0.0, 0.0]),
    ("kind = \"gold\"\nfloor = 0", [1.0, 0.0, 0.0, 0.0]),
    ("kind = \"dft\"", [1.0, 0.0, 0.0, 0.0]),
    ("kind = \"deft\"", [1.0, 0.0, 0.0, 0.0]),
    // Roots of the same condition with what stands beside the weighted nll: `(1 - eps) p + eps / 4`, and of `losses/src/terms.rs`.
    ("label_smoothing = 0.2", [0.45, 0.25, 0.17, 0.13]),
    ("entropy_bonus = 0.3", [0.439616, 0.256286, 0.174415, 0.129683]),
    ("kind = \"cdiv\"\nlabel_smoothing = 0.1\nentropy_bonus = 0.2", [0.398595, 0.259255, 0.190954, 0.151196]),
    // All tokens of one context have one entropy.
    ("kind = \"eaft\"", [0.5, 0.25, 0.15, 0.1]),
];

/// A model of one context: whatever its hidden state is, the head makes any four logits of it.
const MODEL: &str = r#"{"model_type": "llama", "vocab_size": 4, "hidden_size": 8, "intermediate_size": 8,
    "num_hidden_layers": 1, "num_attention_heads": 1, "num_key_value_heads": 1, "head_dim": 8, "hidden_act": "silu",
    "max_position_embeddings": 8, "rms_norm_eps": 1e-5, "rope_theta": 10000, "tie_word_embeddings": false}"#;

/// Enough for all of them to be stationary to a digit less than is asked for.
const STEPS: usize = 1000;

const SETTINGS: StepSettings = StepSettings {
    optimizer: AdamW { betas: [0.9, 0.999], epsilon: 1e-12, weight_decay: 0.0, clip_norm: None },
    ..StepSettings::plain(0, Recompute::None, Schedule::new(Kind::Cosine, 0.05, 0, STEPS))
};

/// Token 0 and what follows it.
fn rows() -> Vec<Example> {
    let followers = COUNTS.iter().enumerate().flat_map(|(token, count)| vec![token as u32; *count]);
    followers.enumerate().map(|(place, token)| example(place, vec![0, token], vec![false, true])).collect()
}

fn trainee() -> Trainee {
    let device = Device::flex();
    let source = Source {
        weights: None,
        dtype: DType::F32,
        device: &device,
        trained: true,
        quantise: None,
        seed: 1,
        initializer_range: 0.02,
        draws_on_device: false,
        used: Default::default(),
    };
    let config = Config::parse(MODEL, "config.json").unwrap_or_else(|fault| panic!("{fault}"));
    let decoder = Decoder::load(config, &source).unwrap_or_else(|fault| panic!("{fault}"));
    Trainee { decoder, auxiliaries: Vec::new() }
}

/// The distribution that an objective ends at.
fn optimum(objective: &str) -> Vec<f64> {
    let recipe = format!(
        "[model]\npath = \"model\"\n[data]\ntrain = [\"rows\"]\n[train]\nsteps = {STEPS}\n[objective]\n{objective}\n"
    );
    let registry = trainer::losses::Registry::default();
    let mut recipe = trainer::recipe::parse("recipe.toml", &recipe, &[], &registry).unwrap_or_else(|f| panic!("{f}"));
    let mut trainee = trainee();
    let rows = rows();
    let batches = [Batch::new(&rows, &(0..rows.len()).collect::<Vec<_>>(), 1)];
    let settings = StepSettings { terms: recipe.terms, ..SETTINGS };
    let mut trainer = Trainer::new(&mut trainee, recipe.objective.as_mut(), settings);
    for step in 1..=STEPS {
        trainer.step(step, &batches).expect("a step");
    }
    let prompt: Tensor<2, Int> = Tensor::from_data(TensorData::new(vec![0i32], [1, 1]), &Device::flex());
    let hidden = trainee.decoder.hidden(prompt, false, None).flatten(0, 1);
    let logits = values(trainee.decoder.logits(hidden).flatten(0, 1));
    let weights: Vec<f64> = logits.iter().map(|logit| f64::from(*logit).exp()).collect();
    let sum: f64 = weights.iter().sum();
    weights.iter().map(|weight| weight / sum).collect()
}

#[test]
fn each_objective_ends_at_its_own_optimum() {
    for (objective, expected) in OPTIMA {
        let found = optimum(objective);
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 1e-3, "{objective}: {found:.6} is not {expected:.6}");
        }
    }
}
