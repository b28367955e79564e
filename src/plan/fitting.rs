//! What fitting nf4's codes to rows of the run takes before the first step, in memory and in time: the terms are the
//! tensors of `Decoder::fit_codes` and the operations of `kernels::Quantised::fitted`.

use backbone::{Config, Quantise};
use burn::tensor::DType;
use datasets::Dataset;
use kernels::feedback_parts;

use super::adaptation::Adaptation;
use crate::recipe::Recipe;

/// Tokens of a row, from its beginning, that codes are fitted to.
const LONGEST: usize = 512;

/// The rows of the training data that nf4's codes are fitted to, spread over all of it; none where the codes are the
/// nearest. What PiSSA leaves of a matrix is another matrix, which has the nearest codes.
pub(super) fn rows<'a>(
    recipe: &Recipe,
    adaptation: &Adaptation,
    train: &'a Dataset,
    width_multiple: usize,
) -> Vec<&'a [u32]> {
    let wanted = recipe.model.quantise.filter(|_| !adaptation.is_pissa()).map_or(0, |quantise| quantise.rows);
    let all = &train.examples;
    let count = wanted.min(all.len());
    // Few lengths: a GPU tunes its kernels for each. And none so long that what all of them hold does not fit.
    let cut = |ids: &'_ [u32]| match ids.len().min(LONGEST) {
        short if short < width_multiple => short,
        length => length / width_multiple * width_multiple,
    };
    let rows = (0..count).map(|index| &all[index * all.len() / count].ids[..]);
    rows.map(|ids| &ids[..cut(ids)]).filter(|ids| !ids.is_empty()).collect()
}

/// The sums of products of all inputs of one width: how many values they have, and those of the largest part.
fn sums(inputs: usize) -> (u64, u64) {
    let parts = feedback_parts(inputs).map(|part| (part.len() as u64).pow(2));
    parts.fold((0, 0), |(all, largest), part| (all + part, largest.max(part)))
}

/// The widths of the inputs of the projections of block `layer`, each as often as it is met.
fn input_widths(config: &Config, layer: usize) -> Vec<usize> {
    let by_input = config.projections_by_input(layer);
    by_input.iter().filter_map(|together| together.first()).map(|projection| projection.sides[1]).collect()
}

/// Bytes beside the weights at the largest moment of fitting codes to `tokens` tokens.
pub(super) fn memory(config: &Config, dtype: DType, quantise: Quantise, tokens: usize) -> u64 {
    let states = 4 * tokens as u64 * (config.hidden_size + 2 * config.head_dim) as u64;
    // In f32 as they are read, a byte for each code, and the pairs of them.
    let of_matrix = |values: u64| 4 * values + values + values / 2;
    // The sums, a copy of them, and their factor: in f64 while it is found, in f32 then.
    let of_inputs = |widths: &[usize]| {
        let held: u64 = widths.iter().map(|width| 4 * sums(*width).0).sum();
        let factor = widths.iter().map(|width| 8 * sums(*width).0 + 8 * sums(*width).1).max().unwrap_or(0);
        held + factor
    };
    let of_block = |layer: usize| {
        let matrices = config.projections(layer);
        let values = || matrices.iter().map(|projection| projection.values() as u64);
        let exact = values().sum::<u64>() * dtype.size() as u64;
        exact + of_inputs(&input_widths(config, layer)) + of_matrix(values().max().unwrap_or(0)) + states
    };
    let block = (0..config.num_hidden_layers).map(of_block).max().unwrap_or(0);
    let embedding = (config.vocab_size * config.hidden_size) as u64;
    let ends = if quantise.embeddings { of_inputs(&[config.hidden_size]) + of_matrix(embedding) } else { 0 };
    block.max(ends)
}

/// Seconds of fitting codes to `tokens` tokens, where products with packed matrices run at `packed` operations a second and
/// those in f32 at `plain`.
pub(super) fn seconds(config: &Config, quantise: Quantise, tokens: usize, packed: f64, plain: f64) -> f64 {
    let tokens = tokens as f64;
    let ends = if quantise.embeddings { [config.vocab_size, config.hidden_size] } else { [0, 0] };
    // A block as it is and with its codes; and once more for the last hidden states where the head is fitted.
    let passes = if quantise.embeddings { 3.0 } else { 2.0 };
    let matrices: f64 = config.all_projections().map(|(_, projection)| projection.values() as f64).sum();
    let forward = passes * 2.0 * tokens * matrices;
    let widths = || (0..config.num_hidden_layers).flat_map(|layer| input_widths(config, layer));
    let products = 2.0 * tokens * widths().map(|width| sums(width).0 as f64).sum::<f64>();
    let cube = |width: usize| feedback_parts(width).map(|part| (part.len() as f64).powi(3)).sum::<f64>();
    let factors = widths().map(cube).sum::<f64>();
    let of_values = |[outputs, inputs]: [usize; 2]| {
        let rounding = outputs as f64 * sums(inputs).0 as f64;
        FACTOR_OF_ROUNDING * rounding + OPERATIONS_OF_MAGNITUDE * (outputs * inputs) as f64
    };
    let of_blocks = config.all_projections().map(|(_, projection)| of_values(projection.sides)).sum::<f64>();
    let values = of_blocks + of_values(ends);
    (forward / packed + (products + FACTOR_OF_FACTORS * factors + values) / plain) / EFFICIENCY
}

/// How much longer than in a product an operation takes where rows of the factor pass by, and where these are found in
/// f64; and what trying a block's magnitudes takes for each value. As `perf` had them of a model of 494 M parameters.
const FACTOR_OF_ROUNDING: f64 = 3.0;
const FACTOR_OF_FACTORS: f64 = 2.0;
const OPERATIONS_OF_MAGNITUDE: f64 = 700.0;

/// The part of the time that is none of these.
const EFFICIENCY: f64 = 0.85;

#[cfg(test)]
mod tests {
    use kernels::Quantisation;

    use super::*;

    /// One layer of width 128 with two heads and one pair of keys and values, inner width 384, 1000 words.
    fn config() -> Config {
        let text = r#"{"model_type": "llama", "vocab_size": 1000, "hidden_size": 128, "intermediate_size": 384,
            "num_hidden_layers": 1, "num_attention_heads": 2, "num_key_value_heads": 1, "head_dim": 64,
            "max_position_embeddings": 512, "rms_norm_eps": 1e-5, "rope_theta": 1e4, "tie_word_embeddings": true,
            "hidden_act": "silu"}"#;
        Config::parse(text, "config.json").expect("a configuration")
    }

    #[test]
    fn the_memory_is_that_of_the_block_or_of_the_ends() {
        let quantise = |embeddings: bool| Quantise { quantisation: Quantisation::Nf4, embeddings, rows: 1 };
        let projections = 2 * 128 * 128 + 2 * 64 * 128 + 3 * 384 * 128;
        let sums = 4 * (3 * 128 * 128 + 384 * 384) + (8 + 8) * 384 * 384;
        let matrix = 384 * 128 * 11 / 2;
        let states = 4 * 100 * (128 + 2 * 64);
        let found = |embeddings: bool| memory(&config(), DType::BF16, quantise(embeddings), 100);
        assert_eq!(found(false), 2 * projections + sums + matrix + states);
        // The words are fewer than what the block has.
        assert_eq!(found(true), found(false).max(4 * 128 * 128 + 16 * 128 * 128 + 1000 * 128 * 11 / 2));
    }

    #[test]
    fn the_time_grows_with_the_tokens_and_falls_with_the_speed() {
        let quantise = Quantise { quantisation: Quantisation::Nf4, embeddings: true, rows: 1 };
        let of = |tokens: usize, speed: f64| seconds(&config(), quantise, tokens, speed, speed);
        let (none, some) = (of(0, 1e9), of(1000, 1e9));
        assert!(none > 0.0 && (of(2000, 1e9) - some - (some - none)).abs() < 1e-9);
        assert!((of(1000, 2e9) - some / 2.0).abs() < 1e-9);
        // Of tokens: three passes through the block, and the sums of its four inputs.
        let operations = 6.0 * (2.0 * 128.0 * 128.0 + 2.0 * 64.0 * 128.0 + 3.0 * 384.0 * 128.0)
            + 2.0 * (3.0 * 128.0 * 128.0 + 384.0 * 384.0);
        assert!(((some - none) * 1e9 * EFFICIENCY / (1000.0 * operations) - 1.0).abs() < 1e-9);
    }
}
