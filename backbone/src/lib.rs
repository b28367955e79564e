//! The backbone: one decoder for all families, its adapter, and how it is loaded.
//!
//! Nothing outside this crate knows an architecture, and nothing in it knows recipes, plans or training. Weights keep their Hugging Face names and shapes.

mod adapter;
mod attention;
mod block;
mod config;
mod decoder;
pub mod device;
mod encoder;
pub mod families;
mod fields;
mod files;
mod fitting;
mod identity;
mod linear;
mod lora;
mod mlp;
mod neutral;
mod norm;
pub mod ops;
mod pissa;
mod projections;
mod quantise;
pub mod random;
mod rope;
mod rotary;
mod scratch;
mod shapes;
mod source;
mod svd;
mod visibility;

pub use adapter::{AdapterSettings, Targets, fitting_modules, remarks};
pub use attention::LayerCache;
pub use block::{Block, block_bytes};
pub use config::{Activation, Config, LayerRotary, NormKind, NormPlaces, QueryKeyNorm};
pub use decoder::{Decoder, HEAD, is_embedding};
pub use encoder::{Encoder, EncoderFiles};
pub use files::{ModelFiles, embedded_tokenizer};
pub use fitting::Inputs;
pub use identity::{Identity, TokenizerParts, local_folder};
pub use linear::Linear;
pub use lora::Lora;
pub use projections::ProjectionShape;
pub use quantise::Quantise;
pub use rope::{Rope, RopeScaling};
pub use rotary::Rotary;
pub use scratch::{INITIALIZER_RANGE, Init, config_json};
pub use source::Source;
pub use visibility::Visibility;

use std::rc::Rc;

use burn::tensor::Tensor;

/// Positions, masks and dropout, which all layers of one pass share.
pub struct Context {
    /// Cosines and sines of the positions of this pass.
    pub rotary: Rotary,
    /// The rotary tables of layers with a sliding window, where they differ.
    pub local_rotary: Option<Rotary>,
    /// Those that turn nothing, where there are layers without a rotary encoding.
    pub no_rotary: Option<Rotary>,
    /// Which positions a position sees; `None` for all before it.
    pub visibility: Option<Visibility>,
    /// Seed of the micro-batch's dropout; `None` drops nothing.
    pub dropout_seed: Option<u64>,
    /// The pass leaves the adapter out: the model is the one that it was put beside.
    pub without_adapter: bool,
    /// Where the inputs of projections are summed, while codes are fitted to them.
    pub inputs: Option<Rc<Inputs>>,
}

impl Context {
    /// Sums the input of a projection, where that is asked for.
    pub(crate) fn watch(&self, name: &str, x: &Tensor<2>) {
        if let Some(inputs) = &self.inputs {
            inputs.see(name, x);
        }
    }

    /// The cosines and sines of a layer.
    pub(crate) fn rotary(&self, layer: LayerRotary) -> &Rotary {
        let own = match layer {
            LayerRotary::Global => None,
            LayerRotary::Local => self.local_rotary.as_ref(),
            LayerRotary::None => self.no_rotary.as_ref(),
        };
        own.unwrap_or(&self.rotary)
    }
}

#[cfg(test)]
impl Context {
    /// For what does not look at positions.
    fn without_positions(dropout_seed: Option<u64>) -> Self {
        let rotary = Rotary::at(&Rope::plain(2, 10_000.0), &[0], 1, 1, &burn::tensor::Device::flex());
        Self {
            rotary,
            local_rotary: None,
            no_rotary: None,
            visibility: None,
            dropout_seed,
            without_adapter: false,
            inputs: None,
        }
    }
}

/// The values of a vector on the host.
pub fn values(tensor: Tensor<1>) -> Vec<f32> {
    tensor.into_data().convert::<f32>().try_into_vec().expect("the data was converted to f32")
}
