//! What the tests of the engine share: the decoders of `tests/fixtures` with their adapters.

use std::path::Path;

use backbone::{Decoder, ModelFiles, Quantise, Source};
use burn::tensor::{DType, Device};
use checkpoints::Adapter;
use datasets::{Example, Part};

use super::backward::Recompute;
use super::schedule::{Kind, Schedule};
use super::step::StepSettings;
use super::trainee::Trainee;

/// Settings of a step.
pub const SETTINGS: StepSettings = StepSettings::plain(1, Recompute::None, Schedule::new(Kind::Constant, 1e-3, 0, 1));

/// A row of which the tokens from `learned_from` on are learned.
pub fn example(ids: &[u32], learned_from: usize) -> Example {
    Example {
        ids: ids.to_vec(),
        parts: vec![Part::Response; ids.len()],
        learned: (0..ids.len()).map(|token| token >= learned_from && token > 0).collect(),
        weight: 1.0,
        number: None,
        alone: None,
        group: 0,
        file: "rows".into(),
        line: 1,
        element: None,
    }
}

/// A decoder of `tests/fixtures`.
#[derive(Debug, Clone)]
pub struct Fixture {
    /// The folder of the model.
    pub family: String,
    /// The folder of the adapter; without one, every weight is trained.
    pub adapter: Option<String>,
    /// How the matrices are kept in fewer bits, if they are.
    pub quantise: Option<Quantise>,
}

impl Fixture {
    /// A family with its adapter.
    pub fn of(family: &str) -> Self {
        let index = std::fs::read_to_string("tests/fixtures/index.json").expect("what belongs together");
        let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
        Self::with(family, index["adapters"][family].as_str().expect("the name of an adapter"))
    }

    /// A family with a certain adapter.
    pub fn with(family: &str, adapter: &str) -> Self {
        Self { family: family.into(), adapter: Some(adapter.into()), quantise: None }
    }

    /// The decoder on a device.
    pub fn on(&self, device: &Device) -> Decoder {
        // Relative, so that the tests may be run on another machine, in a copy of this folder.
        let fixtures = Path::new("tests/fixtures");
        let files = ModelFiles::Folder(fixtures.join(&self.family));
        let weights = files.weights().expect("the fixture's weights");
        let frozen = Source::frozen(&weights, DType::F32, device);
        let source = Source { trained: self.adapter.is_none(), quantise: self.quantise, ..frozen };
        let mut decoder = Decoder::load(files.config().expect("its configuration"), &source).expect("its tensors");
        if let Some(adapter) = &self.adapter {
            let adapter = Adapter::read(&fixtures.join("adapters").join(adapter)).expect("its adapter");
            decoder.attach(&adapter, 0.0).expect("a fitting adapter");
        }
        decoder
    }
}

/// The fixture of a family with its adapter, on the CPU.
pub fn decoder(family: &str) -> Decoder {
    Fixture::of(family).on(&Device::flex())
}

/// That decoder in training, without auxiliary losses.
pub fn trainee(family: &str) -> Trainee {
    Trainee { decoder: decoder(family), auxiliaries: Vec::new() }
}
