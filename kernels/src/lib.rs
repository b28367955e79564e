//! The hot loops of LoRA training on a CPU, forward and backward, over plain slices of f32 or bf16.
//!
//! Frozen weights are what makes this worth while: they are packed once, in the order in which the product reads them,
//! and need no gradient. Everything else is about few passes over memory: a function here does in one pass what a
//! composition of tensor operations does in five.
//!
//! Every result is the same whatever the number of threads: however work is cut into pieces, each output value is summed
//! by one thread in one order, and sums over pieces are cut by shape alone.

mod adamw;
mod attention;
mod checksum;
mod coded;
mod columns;
mod cross_entropy;
mod dropout;
mod element;
mod fitted;
mod functions;
mod norm;
mod packed;
mod parallel;
mod peak;
mod product;
mod projection;
mod quantised;
mod simd;
mod swiglu;

pub use adamw::{AdamWStep, adamw, sum_of_squares};
pub use attention::{AttentionShape, AttentionTree, attention, attention_backward};
pub use columns::{row_squares, scale_columns, scale_columns_backward};
pub use cross_entropy::{
    Bend, LogSums, More, RowStatistics, log_sums, logits_gradient, means, scale_and_cap, softmax_statistics,
};
pub use dropout::{Dropout, Dropped};
pub use element::{Element, convert};
pub use fitted::{Feedback, feedback_parts};
pub use half::bf16;
pub use norm::{rms_norm, rms_norm_backward};
pub use packed::{Packed, Precision};
pub use peak::peak_flops;
pub use product::{outer, product, product_transposed};
pub use projection::{Factors, Part, ProjectionGradients, project, project_backward};
pub use quantised::{BLOCK, LEVELS, PART, Quantisation, Quantised, SCALE_BLOCK, Scales, dynamic_map};
pub use simd::{LIMIT, LIMITS, instruction_set, limit};
pub use swiglu::{geglu, geglu_backward, swiglu, swiglu_backward};

#[cfg(test)]
mod tests {
    use super::*;

    /// All tests again with each instruction set: those too that this processor would not choose.
    #[test]
    fn lesser_instruction_sets_pass_the_same_tests() {
        let limit = crate::simd::LIMIT;
        if std::env::var_os(limit).is_some() {
            return;
        }
        for level in LIMITS {
            let tests = std::env::current_exe().expect("the running tests");
            let output = std::process::Command::new(tests).env(limit, level).output().expect("the tests start");
            assert!(output.status.success(), "{level}: {}", String::from_utf8_lossy(&output.stdout));
        }
    }

    /// A word that is not known would leave a test to pass that tested nothing.
    #[test]
    fn a_limit_that_is_not_known_is_no_limit_and_no_silence() {
        let tests = std::env::current_exe().expect("the running tests");
        let with = |limit: &str| {
            let one = "tests::results_do_not_depend_on_the_number_of_threads";
            std::process::Command::new(&tests).env(LIMIT, limit).arg(one).output().expect("the tests start")
        };
        for word in ["AVX2", "avx", "sse2", "1"] {
            let output = with(word);
            let told = String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
            assert!(!output.status.success(), "{word}");
            assert!(told.contains(&format!("KERNELS_LIMIT is `{word}`, expected one of")), "{word}: {told}");
        }
        for word in ["", "avx512", "avx512f", "avx2"] {
            assert!(with(word).status.success(), "{word}");
        }
    }

    /// Everything that sums, on one thread and on three: not a bit may differ, or a resumed run would leave its path.
    #[test]
    fn results_do_not_depend_on_the_number_of_threads() {
        let values = |count: usize, seed: f32| (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect::<Vec<f32>>();
        let all = || {
            let (rows, inputs, outputs, rank) = (211, 70, 99, 5);
            let weight =
                Packed::new(&values(outputs * inputs, 0.1), [outputs, inputs], (inputs, 1), 1.0, Precision::Bf16);
            let (a, b) = (values(rank * inputs, 0.2), values(outputs * rank, 0.3));
            let factors = Some(Factors { a: &a, b: &b, scale: 0.5 });
            let part = Part { weight: &weight, bias: None, factors, dropped: Dropped::Both(Dropout::new(5, 0.1)) };
            let (x, gradient) = (values(rows * inputs, 0.4), values(rows * outputs, 0.5));
            let (y, low): (Vec<f32>, _) = project(&x, rows, &[part], None);
            let back = project_backward(&x, rows, &[part], &low, &gradient, true);
            let matrix = Quantised::new(&values(outputs * inputs, 0.1), [outputs, inputs], Quantisation::Nf4);
            let coded = product(&x, rows, &Packed::quantised(matrix, Precision::Bf16));
            let (da, db) = back.factors[0].clone().expect("the part has an adapter");
            let norm = rms_norm_backward(&x, &values(inputs, 0.6), &x, 1e-5, true);
            let shape = AttentionShape { batch: 2, positions: 105, ..AttentionShape::new(4, 2, 8) };
            let (qkv, table) = (values(210 * 64, 0.7), values(105 * 4, 0.8));
            let (out, sums) = attention(shape, None, &qkv, &table, &table);
            let attended = attention_backward(shape, None, &qkv, &table, &table, &out, &sums, &out);
            let logits = values(9 * 5003, 0.9);
            let statistics = softmax_statistics(&logits, 5003, &[7; 9]);
            let squares = vec![sum_of_squares(&values(100_003, 1.0)) as f32];
            let norm_weight = norm.1.expect("it was asked for");
            let input = back.input.expect("it was asked for");
            let (_, gains) = scale_columns_backward(&x, &values(inputs, 1.1), &x);
            [y, low, coded, input, da, db, norm.0, norm_weight, out, sums, attended, statistics.nll, squares, gains]
        };
        let on =
            |threads: usize| rayon::ThreadPoolBuilder::new().num_threads(threads).build().expect("a pool").install(all);
        assert_eq!(on(1), on(3));
    }
}
