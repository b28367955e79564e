//! Adapters of every kind against PEFT: the numbers in `tests/fixtures/adapters`, made by `make.py` there.

use backbone::{AdapterSettings, Decoder};
use burn::tensor::DType;
use checkpoints::export::{self, Base};
use checkpoints::{Adapter, Dtype, Weights};
use trainer::engine::Trainee;

use crate::fixtures::{Expected, adapter, examples, fixture, largest_difference, load, logits, with_source};
use crate::six_steps::{self, STEPS, Steps, train};

fn base(model: &str) -> Decoder {
    load(&fixture(model), false, DType::F32)
}

/// The model that a case is for.
fn model_of(case: &str) -> String {
    adapter(case).config.base_model_name_or_path.expect("the name of a model")
}

fn expected(case: &str) -> Expected {
    Expected::of(&format!("adapters/{case}"))
}

/// The model of a case with the adapter that PEFT starts from.
fn adapted(case: &str) -> Decoder {
    let mut decoder = base(&model_of(case));
    decoder.attach(&adapter(case), 0.0).unwrap_or_else(|faults| panic!("{faults}"));
    decoder
}

/// The logits of the first row are those expected.
#[track_caller]
fn assert_logits(case: &str, decoder: &Decoder, expected: &[f32], tolerance: f32) {
    let difference = largest_difference(&logits(decoder, &examples()[0].ids), expected);
    assert!(difference < tolerance, "{case}: {difference}");
}

/// Losses, norms, and the logits before and after; gives a trained model.
#[track_caller]
fn assert_steps(case: &str, steps: Steps, decoder: impl Fn() -> Decoder) -> Decoder {
    let expected = expected(case);
    assert_logits(case, &decoder(), &expected.numbers("before"), 1e-4);
    let trained = six_steps::assert_steps(&format!("adapters/{case}"), "", &[1, 3], steps, decoder);
    assert_logits(case, &trained, &expected.numbers("after"), 1e-3);
    trained
}

/// The trained lengths are those of PEFT, and all of them.
#[track_caller]
fn assert_magnitudes(case: &str, decoder: &mut Decoder) {
    let expected = expected(case).named("lora_magnitude");
    let tensors = decoder.adapter_tensors();
    let found = tensors.keys().filter(|key| key.ends_with("lora_magnitude_vector")).count();
    assert_eq!(found, expected.len());
    for (name, lengths) in expected {
        let key = name.replace(".default.weight", "");
        let found = tensors[&key].to_f32().expect("f32");
        let worst = largest_difference(&found, &lengths);
        assert!(worst < 1e-4, "{case}: {key}: {worst}");
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

/// The settings that `make.py` gives PEFT.
fn pissa() -> AdapterSettings {
    AdapterSettings { rslora: true, pissa: true, ..AdapterSettings::new(4, 6.0) }
}

fn started_from_pissa(dtype: DType, saved: Option<&Adapter>) -> Decoder {
    with_source(&fixture("llama"), false, dtype, |config, source| {
        let mut decoder = Decoder::load(config, source).unwrap_or_else(|fault| panic!("{fault}"));
        decoder.attach_pissa(&pissa(), 3, source, saved).unwrap_or_else(|faults| panic!("{faults}"));
        decoder
    })
}

fn as_saved(decoder: &mut Decoder) -> Adapter {
    let config = pissa().to_config("llama", decoder.adapted_modules());
    Adapter { config, tensors: decoder.adapter_tensors() }
}

/// `init_lora_weights="pissa"`, PEFT's whole decomposition: six steps have the same losses whichever the vectors' signs.
#[test]
fn pissa_trains_as_in_peft_and_leaves_as_plain_lora_on_the_original_base() {
    let mut decoder = assert_steps("pissa", STEPS, || started_from_pissa(DType::F32, None));
    let expected = expected("pissa").numbers("after");
    let adapter = as_saved(&mut decoder);
    assert_eq!((adapter.config.r, adapter.config.use_rslora), (8, true));
    let mut plain = base("llama");
    plain.attach(&adapter, 0.0).unwrap_or_else(|faults| panic!("{faults}"));
    assert_logits("on the base", &plain, &expected, 1e-3);
    let folder = tempfile::tempdir().expect("a folder");
    let out = folder.path().join("merged");
    let base = Base::open(&fixture("llama")).expect("a base");
    export::merged(&base, &adapter, &out, Some(Dtype::F32)).expect("a merge");
    assert_logits("merged", &load(&out, false, DType::F32), &expected, 1e-3);
    // Training goes on from it as from any other adapter.
    let mut trainee = Trainee { decoder: plain, auxiliaries: Vec::new() };
    let losses: Vec<f64> = train(&mut trainee, STEPS).into_iter().map(|(loss, _)| loss).collect();
    let mut longer = Trainee { decoder, auxiliaries: Vec::new() };
    assert!((losses[0] - train(&mut longer, STEPS)[0].0).abs() < 1e-4);
    assert!(losses.is_sorted_by(|a, b| a > b), "{losses:?}");
}

/// A resumed run takes the factors of its checkpoint, to the bit, and they are those that a new run would find.
#[test]
fn pissa_goes_on_from_its_checkpoint_to_the_bit() {
    for dtype in [DType::F32, DType::BF16] {
        let adapter = as_saved(&mut started_from_pissa(dtype, None));
        let mut again = started_from_pissa(dtype, Some(&adapter));
        assert_eq!(as_saved(&mut again), adapter);
        let steps = |saved| {
            let decoder = started_from_pissa(dtype, saved);
            let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
            (train(&mut trainee, STEPS), as_saved(&mut trainee.decoder))
        };
        assert!(steps(None) == steps(Some(&adapter)), "{dtype:?}");
    }
}

/// Base and adapter as one model: PEFT's logits of base and adapter. Where the ends of the base are tied and one of them
/// is adapted, they are tied no more.
#[test]
fn merged_adapters_have_the_logits_of_peft() {
    for case in ["dora", "dora_head", "dora_embedding", "patterns", "embeddings", "tied", "plus"] {
        let model = model_of(case);
        let base = Base::open(&fixture(&model)).expect("a base");
        let folder = tempfile::tempdir().expect("a folder");
        let out = folder.path().join("merged");
        let exported = export::merged(&base, &adapter(case), &out, Some(Dtype::F32)).expect("a merge");
        assert_logits(case, &load(&out, false, DType::F32), &expected(case).numbers("before"), 1e-4);
        let untied = ["tied", "dora_head", "dora_embedding"].contains(&case);
        assert_eq!(exported.warnings.iter().any(|warning| warning.contains("two")), untied, "{case}");
        let config = std::fs::read_to_string(out.join("config.json")).expect("a configuration");
        assert_eq!(config.contains("\"tie_word_embeddings\": false"), model == "llama" || untied, "{case}");
    }
}

/// Some programs know no head in families where it is always the embedding.
#[test]
fn a_merged_head_that_others_pass_over_is_told_of() {
    let mut adapter = adapter("tied");
    adapter.tensors.retain(|key, _| key.contains("lm_head.lora_"));
    for (family, readers) in [("gemma", "llama.cpp"), ("gemma2", "vLLM"), ("gemma3", "")] {
        let folder = tempfile::tempdir().expect("a folder");
        let base = Base::open(&fixture(family)).expect("a base");
        let exported = export::merged(&base, &adapter, &folder.path().join("merged"), None).expect("a merge");
        let told = exported.warnings.iter().any(|warning| warning.contains("drops the head"));
        assert_eq!(told, !readers.is_empty(), "{family}: {:?}", exported.warnings);
        assert!(exported.warnings.iter().any(|warning| warning.contains(readers)), "{family}: {:?}", exported.warnings);
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
    let weights = Weights::open(&fixture("llama")).expect("the weights");
    let faults = adapter.check_base_copies(&weights).expect_err("another embedding").to_string();
    assert!(faults.contains("model.embed_tokens") && faults.contains("of its own"), "{faults}");
    let folder = tempfile::tempdir().expect("a folder");
    let base = Base::open(&fixture("llama")).expect("a base");
    let faults = export::merged(&base, &adapter, &folder.path().join("out"), None).expect_err("the same").to_string();
    assert!(faults.contains("model.embed_tokens") && faults.contains("of its own"), "{faults}");
}

#[test]
fn new_adapters_of_every_kind_start_as_the_base() {
    let names = |names: &[&str]| backbone::Targets::Named(names.iter().map(|name| name.to_string()).collect());
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
        let expected = Expected::of(model).logits().remove(0);
        for settings in &cases {
            let mut decoder = base(model);
            decoder.attach_fresh(settings, 1).unwrap_or_else(|faults| panic!("{faults}"));
            assert_logits(&format!("{settings:?}"), &decoder, &expected, 1e-4);
            let mut trainee = Trainee { decoder, auxiliaries: Vec::new() };
            let losses: Vec<f64> = train(&mut trainee, STEPS).into_iter().map(|(loss, _)| loss).collect();
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
    let names = |names: &[&str]| backbone::Targets::Named(names.iter().map(|name| name.to_string()).collect());
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
    let rank = refused(&AdapterSettings { pissa: true, ..AdapterSettings::new(17, 6.0) });
    assert!(rank.contains("rank 17 is more than a matrix"), "{rank}");
    let embedding = refused(&AdapterSettings { pissa: true, targets: names(&["embed_tokens"]), ..plain() });
    assert!(embedding.contains("cannot start an adapter on an embedding"), "{embedding}");
}
