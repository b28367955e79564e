//! Adapters of every kind against PEFT: the numbers in `tests/fixtures/adapters`, made by `adapters.py` beside it.

use std::path::{Path, PathBuf};

use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use checkpoints::export::{self, Base};
use checkpoints::{Adapter, Weights};
use datasets::Example;
use serde::Deserialize;
use trainer::engine::Trainee;
use trainer::engine::backward::Recompute;
use trainer::engine::trainee::values;
use trainer::model::{AdapterSettings, Config, Decoder, Source};

use crate::six_steps::{STEPS, Steps, train};
use crate::support::{FixtureRow, examples, larger};

#[derive(Deserialize)]
struct Expected {
    /// The fixture of the base model.
    base: String,
    losses: Vec<f64>,
    norms: Vec<f64>,
    /// Logits of the first row at each position, before the first step and after the sixth.
    before: Vec<Vec<f32>>,
    after: Vec<Vec<f32>>,
    /// DoRA's trained lengths after the sixth step, under the names of PEFT's parameters.
    magnitudes: std::collections::BTreeMap<String, Vec<f32>>,
}

#[derive(Deserialize)]
struct Rows {
    rows: Vec<FixtureRow>,
}

fn fixtures() -> PathBuf {
    PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures")
}

fn read<T: for<'de> Deserialize<'de>>(folder: &str) -> T {
    let text = std::fs::read_to_string(fixtures().join(folder).join("expected.json")).expect("the numbers");
    serde_json::from_str(&text).expect("numbers")
}

fn expected(case: &str) -> Expected {
    read(&format!("adapters/{case}"))
}

fn with_source<T>(folder: &Path, dtype: DType, use_it: impl FnOnce(Config, &Source) -> T) -> T {
    let text = std::fs::read_to_string(folder.join("config.json")).expect("the configuration");
    let config = Config::parse(&text, "config.json").unwrap_or_else(|fault| panic!("{fault}"));
    let weights = Weights::open(folder).expect("the weights");
    let device = Device::flex();
    use_it(config, &Source::frozen(&weights, dtype, &device))
}

fn load(folder: &Path) -> Decoder {
    with_source(folder, DType::F32, |config, source| Decoder::load(config, source).unwrap_or_else(|f| panic!("{f}")))
}

fn base(model: &str) -> Decoder {
    load(&fixtures().join(model))
}

fn adapter(case: &str) -> Adapter {
    let folder = fixtures().join("adapters").join(case).join("adapter");
    Adapter::read(&folder).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The model of a case with the adapter that PEFT starts from.
fn adapted(case: &str) -> Decoder {
    let mut decoder = base(&expected(case).base);
    decoder.attach(&adapter(case), 0.0).unwrap_or_else(|faults| panic!("{faults}"));
    decoder
}

fn examples_of(model: &str) -> Vec<Example> {
    examples(&read::<Rows>(model).rows)
}

/// The largest difference between the logits of the first row and those expected.
#[track_caller]
fn assert_logits(case: &str, decoder: &Decoder, model: &str, expected: &[Vec<f32>], tolerance: f32) {
    let row: Vec<i32> = examples_of(model)[0].ids.iter().map(|id| *id as i32).collect();
    let width = row.len();
    let ids: Tensor<2, Int> = Tensor::from_data(TensorData::new(row, [1, width]), &Device::flex());
    let hidden = decoder.hidden(ids, false, None).flatten(0, 1);
    let found = values(decoder.logits(hidden).flatten(0, 1));
    let expected = expected.concat();
    assert_eq!(found.len(), expected.len());
    let far = |(_, (a, b)): &(usize, (&f32, &f32))| (**a - **b).is_nan() || (**a - **b).abs() >= tolerance;
    let far: Vec<_> = found.iter().zip(&expected).enumerate().filter(far).take(9).collect();
    assert!(far.is_empty(), "{case}: {far:?}");
}

/// In both ways of going back, and with the rows one by one and together; gives the last trained model.
#[track_caller]
fn assert_steps(case: &str, steps: Steps, decoder: impl Fn() -> Decoder) -> Decoder {
    let expected = expected(case);
    assert_eq!((expected.losses.len(), expected.norms.len()), (6, 6));
    assert_logits(case, &decoder(), &expected.base, &expected.before, 1e-4);
    let mut last = None;
    for recompute in [Recompute::None, Recompute::Blocks] {
        for micro_batch_size in [1, 3] {
            let mut trainee = Trainee { decoder: decoder(), auxiliaries: Vec::new() };
            let found =
                train(&mut trainee, &examples_of(&expected.base), Steps { recompute, micro_batch_size, ..steps });
            for (step, (loss, norm)) in found.into_iter().enumerate() {
                let case = format!("{case}, recompute {recompute:?}, {micro_batch_size} rows at once, step {step}");
                let (expected_loss, expected_norm) = (expected.losses[step], expected.norms[step]);
                assert!((loss - expected_loss).abs() < 3e-4, "{case}: loss {loss} for {expected_loss}");
                assert!((norm / expected_norm - 1.0).abs() < 3e-3, "{case}: norm {norm} for {expected_norm}");
            }
            last = Some(trainee.decoder);
        }
    }
    let decoder = last.expect("four runs");
    assert_logits(case, &decoder, &expected.base, &expected.after, 1e-3);
    decoder
}

/// The trained lengths are those of PEFT, and all of them.
#[track_caller]
fn assert_magnitudes(case: &str, decoder: &mut Decoder) {
    let expected = expected(case).magnitudes;
    let tensors = decoder.adapter_tensors();
    let found = tensors.keys().filter(|key| key.ends_with("lora_magnitude_vector")).count();
    assert_eq!(found, expected.len());
    for (name, lengths) in expected {
        let key = name.replace(".default.weight", "");
        let found = tensors[&key].to_f32().expect("f32");
        let worst = found.iter().zip(&lengths).map(|(a, b)| (a - b).abs()).fold(0.0, larger);
        assert!(found.len() == lengths.len() && worst < 1e-4, "{case}: {key}: {worst}");
    }
}

#[test]
fn dora_trains_as_in_peft() {
    let mut decoder = assert_steps("dora", STEPS, || adapted("dora"));
    assert_magnitudes("dora", &mut decoder);
}

#[test]
fn patterns_of_ranks_and_alphas_train_as_in_peft() {
    assert_steps("patterns", STEPS, || adapted("patterns"));
}

/// `create_loraplus_optimizer(lr=2e-3, loraplus_lr_ratio=8, loraplus_weight_decay=0.05)`.
#[test]
fn lora_plus_trains_as_in_peft() {
    let steps = Steps { rate: 2e-3, weight_decay: 0.05, lora_plus_ratio: Some(8.0), ..STEPS };
    assert_steps("plus", steps, || adapted("plus"));
}

#[test]
fn embeddings_and_heads_train_as_in_peft() {
    assert_steps("embeddings", STEPS, || adapted("embeddings"));
}

/// The adapter of the head leaves the embedding as it is, and the other way round.
#[test]
fn tied_ends_train_as_in_peft() {
    assert_steps("tied", STEPS, || adapted("tied"));
}

#[test]
fn dora_on_the_head_trains_as_in_peft() {
    let mut decoder = assert_steps("dora_head", STEPS, || adapted("dora_head"));
    assert_magnitudes("dora_head", &mut decoder);
}

/// The lengths are those of the columns, and the head of a tied base stays as it is.
#[test]
fn dora_on_an_embedding_trains_as_in_peft() {
    let mut decoder = assert_steps("dora_embedding", STEPS, || adapted("dora_embedding"));
    assert_magnitudes("dora_embedding", &mut decoder);
}

/// The settings that `adapters.py` gives PEFT.
fn principal() -> AdapterSettings {
    AdapterSettings { rslora: true, principal: true, ..AdapterSettings::new(4, 6.0) }
}

fn started_from_principal(dtype: DType, saved: Option<&Adapter>) -> Decoder {
    with_source(&fixtures().join("llama"), dtype, |config, source| {
        let mut decoder = Decoder::load(config, source).unwrap_or_else(|fault| panic!("{fault}"));
        decoder.attach_principal(&principal(), 3, source, saved).unwrap_or_else(|faults| panic!("{faults}"));
        decoder
    })
}

fn as_saved(decoder: &mut Decoder) -> Adapter {
    let config = principal().to_config("llama", decoder.adapted_modules());
    Adapter { config, tensors: decoder.adapter_tensors() }
}

/// `init_lora_weights="pissa"`, PEFT's whole decomposition: six steps have the same losses whichever the vectors' signs.
#[test]
fn pissa_trains_as_in_peft_and_leaves_as_plain_lora_on_the_original_base() {
    let mut decoder = assert_steps("pissa", STEPS, || started_from_principal(DType::F32, None));
    let expected = expected("pissa").after;
    let adapter = as_saved(&mut decoder);
    assert_eq!((adapter.config.r, adapter.config.use_rslora), (8, true));
    let mut plain = base("llama");
    plain.attach(&adapter, 0.0).unwrap_or_else(|faults| panic!("{faults}"));
    assert_logits("on the base", &plain, "llama", &expected, 1e-3);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("merged");
    export::merged(&Base::open(&fixtures().join("llama")).expect("a base"), &adapter, &out, None).expect("a merge");
    assert_logits("merged", &load(&out), "llama", &expected, 1e-3);
    // Training goes on from it as from any other adapter.
    let mut trainee = Trainee { decoder: plain, auxiliaries: Vec::new() };
    let losses: Vec<f64> =
        train(&mut trainee, &examples_of("llama"), STEPS).into_iter().map(|(loss, _)| loss).collect();
    let mut longer = Trainee { decoder, auxiliaries: Vec::new() };
    assert!((losses[0] - train(&mut longer, &examples_of("llama"), STEPS)[0].0).abs() < 1e-4);
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
}

/// A resumed run takes the factors of its checkpoint, to the bit, and they are those that a new run would find.
#[test]
fn pissa_goes_on_from_its_checkpoint_to_the_bit() {
    for dtype in [DType::F32, DType::BF16] {
        let adapter = as_saved(&mut started_from_principal(dtype, None));
        let mut again = started_from_principal(dtype, Some(&adapter));
        assert_eq!(as_saved(&mut again), adapter);
        let steps = |saved| {
            let decoder = started_from_principal(dtype, saved);
            let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
            (train(&mut trainee, &examples_of("llama"), STEPS), as_saved(&mut trainee.decoder))
        };
        assert!(steps(None) == steps(Some(&adapter)), "{dtype:?}");
    }
}

/// Base and adapter as one model: PEFT's logits of base and adapter. Where the ends of the base are tied and one of them
/// is adapted, they are tied no more.
#[test]
fn merged_adapters_have_the_logits_of_peft() {
    for case in ["dora", "dora_head", "dora_embedding", "patterns", "embeddings", "tied", "plus"] {
        let expected = expected(case);
        let base = Base::open(&fixtures().join(&expected.base)).expect("a base");
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("merged");
        let exported = export::merged(&base, &adapter(case), &out, None).unwrap_or_else(|faults| panic!("{faults}"));
        assert_logits(case, &load(&out), &expected.base, &expected.before, 1e-4);
        let untied = ["tied", "dora_head", "dora_embedding"].contains(&case);
        assert_eq!(exported.warnings.iter().any(|warning| warning.contains("two")), untied, "{case}");
        let config = std::fs::read_to_string(out.join("config.json")).expect("a configuration");
        assert_eq!(config.contains("\"tie_word_embeddings\": false"), expected.base == "llama" || untied, "{case}");
    }
}

#[test]
fn an_adapter_with_an_embedding_of_its_own_is_refused_by_name() {
    let mut adapter = adapter("embeddings");
    let (key, copy) =
        adapter.tensors.iter_mut().find(|(key, _)| key.ends_with("embed_tokens.base_layer.weight")).expect("a copy");
    assert!(key.contains("embed_tokens"));
    // The sign of the last number; the first row is that of padding, all zeros.
    *copy.bytes.last_mut().expect("numbers") ^= 0x80;
    let weights = Weights::open(&fixtures().join("llama")).expect("the weights");
    let faults = adapter.check_base_copies(&weights).expect_err("another embedding").to_string();
    assert!(faults.contains("model.embed_tokens") && faults.contains("of its own"), "{faults}");
    let folder = tempfile::tempdir().expect("a folder");
    let base = Base::open(&fixtures().join("llama")).expect("a base");
    let faults = export::merged(&base, &adapter, &folder.path().join("out"), None).expect_err("the same").to_string();
    assert!(faults.contains("model.embed_tokens") && faults.contains("of its own"), "{faults}");
}

#[test]
fn new_adapters_of_every_kind_start_as_the_base() {
    let names = |names: &[&str]| trainer::model::Targets::Named(names.iter().map(|name| name.to_string()).collect());
    let plain = || AdapterSettings::new(3, 6.0);
    let cases = [
        AdapterSettings { dora: true, ..plain() },
        AdapterSettings { dora: true, targets: names(&["lm_head", "v_proj"]), ..plain() },
        AdapterSettings { targets: names(&["lm_head", "embed_tokens"]), ..plain() },
        AdapterSettings { dora: true, targets: names(&["lm_head", "embed_tokens"]), ..plain() },
        AdapterSettings {
            rank_pattern: vec![("q_proj".into(), 2)],
            alpha_pattern: vec![("0.mlp.up_proj".into(), 2.0)],
            ..plain()
        },
    ];
    for model in ["llama", "llama3"] {
        let text: serde_json::Value = read(model);
        let expected: Vec<Vec<f32>> = serde_json::from_value(text["logits"][0].clone()).expect("logits");
        for settings in &cases {
            let mut decoder = base(model);
            decoder.attach_fresh(settings, 1).unwrap_or_else(|faults| panic!("{faults}"));
            assert_logits(&format!("{settings:?}"), &decoder, model, &expected, 1e-4);
            let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
            let losses: Vec<f64> =
                train(&mut trainee, &examples_of(model), STEPS).into_iter().map(|(loss, _)| loss).collect();
            assert!(losses[5] < losses[0] - 0.05, "{settings:?}: {losses:?}");
            let adapter = Adapter {
                config: settings.to_config(model, trainee.decoder.adapted_modules()),
                tensors: trainee.decoder.adapter_tensors(),
            };
            let mut again = base(model);
            again.attach(&adapter, 0.0).unwrap_or_else(|faults| panic!("{faults}"));
            assert_eq!(again.adapter_tensors(), adapter.tensors);
        }
    }
}

#[test]
fn what_cannot_be_adapted_so_is_refused_by_name() {
    let names = |names: &[&str]| trainer::model::Targets::Named(names.iter().map(|name| name.to_string()).collect());
    let plain = || AdapterSettings::new(3, 6.0);
    let pattern = |pattern: &str| vec![(pattern.to_string(), 2)];
    let cases = [
        (AdapterSettings { targets: names(&["lm_haed"]), ..plain() }, "did you mean `lm_head`?"),
        (AdapterSettings { rank_pattern: pattern("lm_head"), ..plain() }, "\"lm_head\" has no effect"),
        (AdapterSettings { rank_pattern: pattern("(q_proj"), ..plain() }, "cannot read the pattern"),
    ];
    for (settings, part) in cases {
        let faults = base("llama").attach_fresh(&settings, 1).expect_err(part).to_string();
        assert!(faults.contains(part), "{faults}");
    }
    let refused = |settings: &AdapterSettings| {
        settings.check(&base("llama").config).expect_err("singular values that are not there").to_string()
    };
    let rank = refused(&AdapterSettings { principal: true, ..AdapterSettings::new(17, 6.0) });
    assert!(rank.contains("rank 17 is more than a matrix"), "{rank}");
    let embedding = refused(&AdapterSettings { principal: true, targets: names(&["embed_tokens"]), ..plain() });
    assert!(embedding.contains("cannot start an adapter on an embedding"), "{embedding}");
}
