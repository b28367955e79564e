//! Numbers of a run come back from its files as they were, to the bit.

use std::collections::BTreeMap;

use checkpoints::{Adapter, AdapterConfig, Cache, Contents, Retention, Run, StoredTensor, Trained};
use proptest::prelude::*;
use serde_json::{Value, json};

/// What is near a power of two, subnormal or at an end of the range, where readers that round twice go wrong.
const EDGES: [f64; 12] = [
    0.0,
    -0.0,
    f64::MIN_POSITIVE,
    5e-324,
    2.225_073_858_507_201e-308,
    f64::MAX,
    f64::MIN,
    f64::EPSILON,
    0.1,
    9_007_199_254_740_993.0,
    1.797_693_134_862_315_7e308,
    2.251_938_343_048_096,
];

/// Any bits that are a finite number, and small and usual ones more often than that gives them.
fn number() -> impl Strategy<Value = f64> {
    prop_oneof![
        any::<u64>().prop_map(f64::from_bits).prop_filter("finite", |value| value.is_finite()),
        (0..1u64 << 52).prop_map(f64::from_bits),
        0.0..10.0f64,
        any::<f32>().prop_filter("finite", |value| value.is_finite()).prop_map(f64::from),
        proptest::sample::select(&EDGES[..]),
    ]
}

fn bits(value: &Value) -> u64 {
    value.as_f64().expect("a number").to_bits()
}

fn contents(state: Value) -> Contents {
    let tensors = BTreeMap::from([
        (Adapter::key_a("m.q_proj"), StoredTensor::from_f32([1, 1], &[1.0])),
        (Adapter::key_b("m.q_proj"), StoredTensor::from_f32([1, 1], &[1.0])),
    ]);
    let config = AdapterConfig::new(1, 1.0, vec!["q_proj".into()]);
    Contents {
        weights: Trained::Adapter(Adapter { config, tensors }),
        training_state: BTreeMap::from([("x".into(), StoredTensor::from_f32([1], &[1.0]))]),
        state,
        beside: Vec::new(),
        best: false,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20))]

    #[test]
    fn of_a_state_and_of_metrics(numbers in proptest::collection::vec(number(), 500)) {
        let folder = tempfile::tempdir().expect("a folder");
        let run = Run::create(&folder.path().join("run")).expect("a run");
        run.save(1, &contents(json!({"best": [3, numbers[0]], "numbers": numbers})), &Retention { keep: 1 }).expect("saved");
        let state = run.latest().expect("a run").expect("a checkpoint").state().expect("a state");
        let mut read: Vec<u64> = state["numbers"].as_array().expect("a list").iter().map(bits).collect();
        prop_assert_eq!(read.pop(), numbers.last().map(|number| number.to_bits()));
        prop_assert_eq!(read, numbers[..499].iter().map(|number| number.to_bits()).collect::<Vec<_>>());
        prop_assert_eq!(bits(&state["best"][1]), numbers[0].to_bits());

        for (step, number) in numbers.iter().enumerate() {
            run.append_metrics(&json!({"step": step, "loss": number, "objective": {"gap": number}})).expect("written");
        }
        // What a cut leaves is what was there.
        run.cut_metrics(numbers.len()).expect("a cut");
        let metrics = run.metrics().expect("metrics");
        for (line, number) in metrics.iter().zip(&numbers) {
            prop_assert_eq!((bits(&line["loss"]), bits(&line["objective"]["gap"])), (number.to_bits(), number.to_bits()));
        }
        prop_assert_eq!(metrics.len(), numbers.len());
    }

    #[test]
    fn of_an_adapters_configuration(numbers in proptest::collection::vec(1e-30..1e30f64, 50), plain in 1e-3..1e3f64) {
        let mut config = AdapterConfig::new(4, numbers[0], vec!["q_proj".into()]);
        config.lora_dropout = plain;
        config.alpha_pattern = numbers.iter().chain([&plain]).enumerate().map(|(place, alpha)| (format!("m{place}"), *alpha)).collect();
        let read = AdapterConfig::from_json(config.to_json().to_string().as_bytes());
        prop_assert_eq!(read, Ok(config));
    }

    /// Any bits at all: no number is written as text there.
    #[test]
    fn of_the_cache_of_embeddings(bits in proptest::collection::vec(any::<u32>(), 1..200)) {
        let folder = tempfile::tempdir().expect("a folder");
        let cache = Cache::at(folder.path());
        let vectors = StoredTensor::from_f32([bits.len()], &bits.iter().map(|bits| f32::from_bits(*bits)).collect::<Vec<_>>());
        cache.put("embeddings-0", BTreeMap::from([("vectors".into(), vectors)])).expect("kept");
        let read = cache.get("embeddings-0").expect("readable").expect("there").remove("vectors").expect("it");
        let read: Vec<u32> = read.to_f32().expect("f32").into_iter().map(f32::to_bits).collect();
        prop_assert_eq!(read, bits);
    }
}
