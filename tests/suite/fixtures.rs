//! The models and adapters in `tests/fixtures`, and the numbers that `make.py` there got from transformers and PEFT.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};

use backbone::values;
use backbone::{Config, Decoder, Source};
use burn::tensor::{DType, Device, Int, Tensor, TensorData};
use checkpoints::{Adapter, Weights};
use datasets::{Example, Part};
use losses::Terms;
use serde::Deserialize;
use trainer::engine::backward::{MicroStep, Recompute, StepScale};
use trainer::engine::schedule::{Kind, Schedule};
use trainer::engine::step::StepSettings;

use crate::support::larger;

/// A folder or a file there.
pub fn fixture(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/fixtures").join(name)
}

/// The first micro-batch of a step that normalises nothing.
pub fn micro_step(terms: Terms) -> MicroStep {
    let plain = StepSettings::plain(0, Recompute::None, Schedule::new(Kind::Constant, 1e-3, 0, 1));
    let scale = StepScale { objective: 1.0, auxiliaries: Vec::new() };
    StepSettings { terms, ..plain }.micro_step(1, 0, scale)
}

/// What the models share.
#[derive(Deserialize)]
struct Index {
    rows: Vec<Row>,
    /// For each model the adapter that it trains.
    adapters: BTreeMap<String, String>,
}

#[derive(Deserialize)]
struct Row {
    ids: Vec<u32>,
    learned: Vec<bool>,
}

fn index() -> Index {
    let text = std::fs::read_to_string(fixture("index.json")).expect("what the models share");
    serde_json::from_str(&text).expect("rows and adapters")
}

/// The rows of all numbers, as they come out of a data set.
pub fn examples() -> Vec<Example> {
    let rows = index().rows.into_iter().enumerate();
    rows.map(|(place, row)| example(place, row.ids, row.learned)).collect()
}

/// A row of these tokens, as it comes out of a data set.
pub fn example(place: usize, ids: Vec<u32>, learned: Vec<bool>) -> Example {
    Example {
        parts: vec![Part::Response; ids.len()],
        ids,
        learned,
        weight: 1.0,
        number: None,
        alone: None,
        group: place,
        file: "rows".into(),
        line: place + 1,
        element: None,
    }
}

/// The adapter that a model trains.
pub fn adapter_of(model: &str) -> Adapter {
    adapter(&index().adapters[model])
}

/// One of the folders in `adapters/`.
pub fn adapter(name: &str) -> Adapter {
    Adapter::read(&fixture("adapters").join(name)).unwrap_or_else(|faults| panic!("{faults}"))
}

/// The parts of a model in a folder, on the CPU.
pub fn with_source<T>(folder: &Path, trained: bool, dtype: DType, use_it: impl FnOnce(Config, &Source) -> T) -> T {
    let text = std::fs::read_to_string(folder.join("config.json")).expect("the configuration");
    let config = Config::parse(&text, "config.json").unwrap_or_else(|fault| panic!("{}: {fault}", folder.display()));
    let weights = Weights::open(folder).expect("the weights");
    config.check_weights(&weights).unwrap_or_else(|fault| panic!("{fault}"));
    let device = Device::flex();
    use_it(config, &Source { trained, ..Source::frozen(&weights, dtype, &device) })
}

/// The model in a folder, frozen or with every weight trained.
pub fn load(folder: &Path, trained: bool, dtype: DType) -> Decoder {
    with_source(folder, trained, dtype, |config, source| {
        Decoder::load(config, source).unwrap_or_else(|fault| panic!("{fault}"))
    })
}

pub fn ids(row: &[u32]) -> Tensor<2, Int> {
    let row: Vec<i32> = row.iter().map(|id| *id as i32).collect();
    let width = row.len();
    Tensor::from_data(TensorData::new(row, [1, width]), &Device::flex())
}

/// The logits of a row, position after position.
pub fn logits(decoder: &Decoder, row: &[u32]) -> Vec<f32> {
    let hidden = decoder.hidden(ids(row), false, None).flatten(0, 1);
    values(decoder.logits(hidden).flatten(0, 1))
}

/// The largest difference between numbers and those expected.
#[track_caller]
pub fn largest_difference(found: &[f32], expected: &[f32]) -> f32 {
    assert_eq!(found.len(), expected.len());
    found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, larger)
}

/// The numbers of the other programs, by name.
pub struct Expected(Weights);

impl Expected {
    /// Those of a model, or of one of the folders in `adapters/`.
    pub fn of(name: &str) -> Self {
        let path = fixture(name).join("expected.safetensors");
        Self(Weights::open_file(&path).unwrap_or_else(|fault| panic!("{fault}")))
    }

    pub fn numbers(&self, name: &str) -> Vec<f32> {
        self.0.f32(name).unwrap_or_else(|fault| panic!("{fault}"))
    }

    /// Those whose name has this part.
    pub fn named(&self, part: &str) -> BTreeMap<String, Vec<f32>> {
        let names = self.0.names().filter(|name| name.contains(part));
        names.map(|name| (name.to_owned(), self.numbers(name))).collect()
    }

    /// The logits of each row of a model.
    pub fn logits(&self) -> Vec<Vec<f32>> {
        let vocabulary = self.0.shape("logits").expect("logits")[1];
        let all = self.numbers("logits");
        let mut rest = all.as_slice();
        let mut rows = Vec::new();
        for example in examples() {
            let (row, others) = rest.split_at(example.ids.len() * vocabulary);
            rows.push(row.to_vec());
            rest = others;
        }
        assert!(rest.is_empty(), "logits of other rows");
        rows
    }
}
