//! What the tests of the engine share: the decoders of `tests/fixtures` with their adapters.

use burn::tensor::{DType, Device};
use checkpoints::Adapter;

use super::trainee::Trainee;
use crate::model::{Decoder, ModelFiles, Source};

/// The fixture of a family with its adapter, on the CPU.
pub fn decoder(family: &str) -> Decoder {
    decoder_on(family, &Device::flex(), false)
}

/// The fixture of a family on a device: with its adapter, or with every weight trained.
pub fn decoder_on(family: &str, device: &Device, trained: bool) -> Decoder {
    // Relative, so that the tests may be run on another machine, in a copy of this folder.
    let fixtures = std::path::Path::new("tests/fixtures");
    let files = ModelFiles::Folder(fixtures.join(family));
    let weights = files.weights().expect("the fixture's weights");
    let source = Source { trained, ..Source::frozen(&weights, DType::F32, device) };
    let mut decoder = Decoder::load(files.config().expect("its configuration"), &source).expect("its tensors");
    if trained {
        return decoder;
    }
    let index = std::fs::read_to_string(fixtures.join("index.json")).expect("what belongs together");
    let index: serde_json::Value = serde_json::from_str(&index).expect("JSON");
    let adapter = fixtures.join("adapters").join(index["adapters"][family].as_str().expect("the name of an adapter"));
    decoder.attach(&Adapter::read(&adapter).expect("its adapter"), 0.0).expect("a fitting adapter");
    decoder
}

/// The same in training, without auxiliary losses.
pub fn trainee(family: &str) -> Trainee {
    Trainee { decoder: decoder(family), auxiliaries: Vec::new() }
}
