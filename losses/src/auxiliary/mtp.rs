//! Multi-token prediction: `L = sum over k = 1..K of CE(W_k h_t, y_{t+k})`.
//!
//! The degenerate case of Semantic Flow Regularization (arXiv 2605.27971, one-hot targets and a constant source), and
//! the baseline of its controlled comparison: `K` linear heads on the final hidden states, trained beside the adapter
//! and thrown away.
//!
//! `h_t` has seen the tokens up to and including `t`, so head 1 predicts the ordinary next token. A pair `(t, k)` counts
//! when token `t + k` is one that is learned, wherever `t` is: the last tokens of a prompt predict the first ones of its
//! response, as they do in the objective itself. The sum over all pairs is divided by the number of learned tokens, as that
//! of every token-level loss is: the loss of a step is the sum of the heads' means, not their mean.

use burn::tensor::activation::log_softmax;
use burn::tensor::{DType, Device, IndexingUpdateOp, Int, Tensor, TensorData};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use crate::{Auxiliary, AuxiliaryBuilder, AuxiliaryKind, Held, HiddenBatch, Parameter, Row, Surroundings, Widths};

/// `mtp` as listed in the registry.
pub const MTP: AuxiliaryKind = AuxiliaryKind {
    name: "mtp",
    purpose: "linear heads that predict the next `heads` tokens at once; the baseline that sfr is compared with",
    build: |section| {
        let weight = section.value("weight", 1.0);
        section.check(
            "weight",
            f64::is_finite(weight) && weight > 0.0,
            format!("`{}` must be a finite number above 0", section.full("weight")),
            "1 is the usual value; to train without it, remove its table",
        );
        let heads = section.value("heads", 4usize);
        section.check(
            "heads",
            (1..=MOST_HEADS).contains(&heads),
            format!("`{}` must be from 1 to {MOST_HEADS}", section.full("heads")),
            "4 is the usual value",
        );
        AuxiliaryBuilder::new(move |surroundings| Box::new(Mtp::new(surroundings, heads, weight)))
            .holding(move |widths| held(widths, heads))
    },
};

/// Each head is a matrix as large as the model's own.
const MOST_HEADS: usize = 64;

/// Logits that exist at once, in values: 32 MiB of f32.
const CHUNK_VALUES: usize = 1 << 23;

struct Mtp {
    weight: f64,
    /// `W_1` to `W_K`, each `[vocabulary, hidden_size]`, f32.
    heads: Vec<Tensor<2>>,
    names: Vec<String>,
    /// For each head, the sum of its cross-entropies since the last diagnostics, `[1]`.
    sums: Vec<Option<Tensor<1>>>,
    /// For each head, the number of its pairs since the last diagnostics.
    counts: Vec<usize>,
}

impl Mtp {
    fn new(surroundings: &Surroundings, heads: usize, weight: f64) -> Self {
        Self {
            weight,
            heads: (0..heads).map(|head| initial(surroundings, head)).collect(),
            names: (1..=heads).map(|k| format!("heads.{k}.weight")).collect(),
            sums: vec![None; heads],
            counts: vec![0; heads],
        }
    }
}

fn held(widths: &Widths, heads: usize) -> Held {
    let matrix = (widths.vocabulary * widths.hidden_size) as u64;
    let logits = (chunk_rows(widths.vocabulary) * widths.vocabulary) as u64;
    Held {
        parameters: heads as u64 * matrix,
        per_token: 2 * widths.hidden_size as u64,
        // Of every head: itself, its gradient as it is found, on the way back, and in the step's sum. Of one: the product
        // that carries its gradient. Of a chunk: logits, their softmax, its difference, and one in the making.
        passing: 4 * heads as u64 * matrix + matrix + 4 * logits,
    }
}

/// Pairs whose logits exist at once.
fn chunk_rows(vocabulary: usize) -> usize {
    (CHUNK_VALUES / vocabulary).max(16)
}

/// A matrix as PyTorch's linear layer starts, uniform within `1/sqrt(hidden_size)`, each head from a stream of its own.
fn initial(surroundings: &Surroundings, head: usize) -> Tensor<2> {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&surroundings.seed.to_le_bytes());
    key[8..21].copy_from_slice(b"auxiliary.mtp");
    let mut stream = ChaCha8Rng::from_seed(key);
    stream.set_stream(head as u64);
    let bound = 1.0 / (surroundings.hidden_size as f32).sqrt();
    let shape = [surroundings.vocabulary, surroundings.hidden_size];
    // 24 random bits are the digits of an f32 in [0, 1).
    let unit = |bits: u32| (bits >> 8) as f32 / (1u32 << 24) as f32;
    let values: Vec<f32> = (0..shape[0] * shape[1]).map(|_| (2.0 * unit(stream.next_u32()) - 1.0) * bound).collect();
    let options = (&surroundings.device, DType::F32);
    Tensor::<2>::from_data(TensorData::new(values, shape), options).autodiff().require_grad()
}

/// The pairs of head `k`: flat indices of hidden states, and the tokens to predict.
fn pairs(rows: &[Row], width: usize, k: usize) -> (Vec<i32>, Vec<i32>) {
    let mut positions = Vec::new();
    let mut targets = Vec::new();
    for (index, row) in rows.iter().enumerate() {
        for target in (k..row.ids.len()).filter(|target| row.learned[*target]) {
            positions.push(i32::try_from(index * width + target - k).expect("a batch has fewer than 2^31 tokens"));
            targets.push(i32::try_from(row.ids[target]).expect("a vocabulary has fewer than 2^31 tokens"));
        }
    }
    (positions, targets)
}

/// The sum of the cross-entropies of a head, `[1]`, and its gradients with respect to `inputs` and `head`.
struct CrossEntropy {
    sum: Tensor<1>,
    /// `[pairs, hidden_size]`
    inputs: Tensor<2>,
    /// `[vocabulary, hidden_size]`
    head: Tensor<2>,
}

/// The gradient of the logits is `softmax - onehot`, so the logits need not outlive their chunk of pairs.
///
/// # Shapes
/// - `inputs`: `[pairs, hidden_size]`, at least one pair, and `head`: `[vocabulary, hidden_size]`, both without autodiff.
///   `rows` pairs make a chunk.
fn cross_entropy(inputs: &Tensor<2>, head: &Tensor<2>, targets: &[i32], rows: usize) -> CrossEntropy {
    let device = inputs.device();
    let mut sum = Tensor::zeros([1], &device);
    let mut inputs_gradient = Vec::new();
    let mut head_gradient = head.zeros_like();
    for (index, targets) in targets.chunks(rows).enumerate() {
        let count = targets.len();
        let inputs = inputs.clone().narrow(0, index * rows, count);
        let targets = indices(targets, &device).reshape([count, 1]);
        let log_probabilities = log_softmax(inputs.clone().matmul(head.clone().transpose()), 1);
        sum = sum - log_probabilities.clone().gather(1, targets.clone()).sum();
        let minus_one = Tensor::full([count, 1], -1.0, &device);
        let difference = log_probabilities.exp().scatter(1, targets, minus_one, IndexingUpdateOp::Add);
        inputs_gradient.push(difference.clone().matmul(head.clone()));
        head_gradient = head_gradient + difference.transpose().matmul(inputs);
    }
    CrossEntropy { sum, inputs: Tensor::cat(inputs_gradient, 0), head: head_gradient }
}

fn indices(values: &[i32], device: &Device) -> Tensor<1, Int> {
    Tensor::from_data(values, device)
}

impl Auxiliary for Mtp {
    fn name(&self) -> &str {
        MTP.name
    }

    fn weight(&self, _step: usize) -> f64 {
        self.weight
    }

    /// The number of learned tokens that have one before them.
    fn units(&self, rows: &[Row]) -> f64 {
        let learned = |row: &Row| row.learned.iter().skip(1).filter(|learned| **learned).count();
        rows.iter().map(learned).sum::<usize>() as f64
    }

    fn loss(&mut self, batch: &HiddenBatch) -> Tensor<1> {
        let [rows, width, hidden_size] = batch.hidden.dims();
        let hidden = batch.hidden.clone().reshape([rows * width, hidden_size]).cast(DType::F32);
        let constant = hidden.clone().inner();
        let device = constant.device();
        let mut value = Tensor::<1>::zeros([1], &device);
        let mut hidden_gradient = constant.zeros_like();
        // A tensor whose gradients are the ones computed above; its value means nothing.
        let mut carrier = Tensor::<1>::zeros([1], &device).autodiff();
        for (index, head) in self.heads.iter().enumerate() {
            let (positions, targets) = pairs(batch.rows, width, index + 1);
            let matrix = head.clone().inner();
            if targets.is_empty() {
                carrier = carrier + (head.clone() * matrix.zeros_like()).sum();
                continue;
            }
            let positions = indices(&positions, &device);
            let inputs = constant.clone().select(0, positions.clone());
            let rows = chunk_rows(matrix.dims()[0]);
            let found = cross_entropy(&inputs, &matrix, &targets, rows);
            hidden_gradient = hidden_gradient.select_assign(0, positions, found.inputs, IndexingUpdateOp::Add);
            carrier = carrier + (head.clone() * found.head).sum();
            value = value + found.sum.clone();
            self.sums[index] = Some(self.sums[index].take().map_or(found.sum.clone(), |sum| sum + found.sum));
            self.counts[index] += targets.len();
        }
        carrier = carrier + (hidden * hidden_gradient).sum();
        let constant = carrier.clone().inner();
        carrier - constant + value
    }

    fn visit_parameters(&mut self, visit: &mut dyn FnMut(&str, Parameter<'_>)) {
        for (name, head) in self.names.iter().zip(&mut self.heads) {
            visit(name, Parameter::Matrix(head));
        }
    }

    /// For each head, the sum of its cross-entropies and the number of its pairs.
    fn sums(&self) -> Vec<f64> {
        let sum = |sum: &Option<Tensor<1>>| sum.clone().map_or(0.0, |sum| f64::from(sum.into_scalar::<f32>()));
        self.sums.iter().zip(&self.counts).flat_map(|(own, count)| [sum(own), *count as f64]).collect()
    }

    fn set_sums(&mut self, sums: &[f64]) {
        for (index, pair) in sums.chunks_exact(2).enumerate() {
            let sum = || Tensor::from_data([pair[0] as f32], &self.heads[index].clone().inner().device());
            self.sums[index] = (pair[1] > 0.0).then(sum);
            self.counts[index] = pair[1] as usize;
        }
    }

    /// The mean cross-entropy of each head: `head_1` is that of the next token.
    fn diagnostics(&mut self) -> Vec<(String, f64)> {
        let mut means = Vec::new();
        for (index, (sum, count)) in self.sums.iter_mut().zip(&mut self.counts).enumerate() {
            let count = std::mem::take(count);
            if let Some(sum) = sum.take() {
                means.push((format!("head_{}", index + 1), f64::from(sum.into_scalar::<f32>()) / count as f64));
            }
        }
        means
    }
}

#[cfg(test)]
mod tests {
    use faults::{Document, Faults};

    use super::*;

    fn build(keys: &str, surroundings: &Surroundings) -> Result<Box<dyn Auxiliary>, Faults> {
        let document = Document::parse("recipe.toml", &format!("[auxiliary]\n{keys}\n"), &[])?;
        let mut root = document.root();
        let mut section = root.section("auxiliary");
        let builder = (MTP.build)(&mut section);
        root.close(section);
        root.end();
        document.finish().map(|()| (builder.build)(surroundings))
    }

    fn surroundings(seed: u64) -> Surroundings {
        Surroundings { hidden_size: 3, vocabulary: 4, device: Device::flex(), seed, steps: 1, embeddings: None }
    }

    const HEADS: [[[f32; 3]; 4]; 2] = [
        [[0.3, -0.2, 0.5], [-0.4, 0.1, 0.2], [0.6, 0.7, -0.1], [-0.5, 0.4, -0.3]],
        [[-0.1, 0.8, 0.2], [0.5, -0.6, 0.3], [0.2, 0.2, -0.7], [0.9, -0.3, 0.1]],
    ];

    /// Two rows of 5 and 3 tokens, and hidden states with padding of 9.
    fn rows() -> [Row; 2] {
        [
            Row { ids: vec![2, 0, 3, 1, 1], learned: vec![false, false, true, true, true], example: 0 },
            Row { ids: vec![1, 3, 0], learned: vec![false, true, false], example: 1 },
        ]
    }

    fn hidden() -> Tensor<3> {
        let rows: [[[f32; 3]; 5]; 2] = [
            [[0.1, -0.4, 0.7], [0.5, 0.2, -0.3], [-0.6, 0.9, 0.4], [0.8, -0.1, 0.2], [0.3, 0.3, -0.9]],
            [[-0.2, 0.6, 0.1], [0.7, -0.5, 0.4], [0.2, 0.1, -0.8], [9.0; 3], [9.0; 3]],
        ];
        Tensor::from_data(rows, &Device::flex())
    }

    fn with_heads() -> Box<dyn Auxiliary> {
        let mut mtp = build("heads = 2", &surroundings(1)).expect("valid keys");
        let mut heads = HEADS.into_iter();
        mtp.visit_parameters(&mut |_, parameter| {
            let Parameter::Matrix(matrix) = parameter else { panic!("heads are matrices") };
            let head = heads.next().expect("two heads");
            *matrix = Tensor::<2>::from_data(head, &Device::flex()).autodiff().require_grad();
        });
        mtp
    }

    fn values<const D: usize>(tensor: Tensor<D>) -> Vec<f32> {
        tensor.into_data().try_to_vec().expect("f32")
    }

    fn assert_close(found: Vec<f32>, expected: &[f32]) {
        assert_eq!(found.len(), expected.len());
        for (found, expected) in found.iter().zip(expected) {
            assert!((found - expected).abs() < 2e-6, "found {found}, expected {expected}");
        }
    }

    #[test]
    fn loss_and_gradients_are_those_of_pytorch() {
        // for row; for k in (1, 2); for t in range(len(ids) - k), if learned[t + k]:
        //     loss += cross_entropy(W[k - 1] @ h[row, t], ids[t + k])
        let mut mtp = with_heads();
        let rows = rows();
        // Four tokens are learned, of which three have two before them: seven pairs.
        assert_eq!(mtp.units(&rows), 4.0);
        let leaf = hidden().autodiff().require_grad();
        let loss = mtp.loss(&HiddenBatch { hidden: leaf.clone(), rows: &rows, step: 1, seed: 0 });
        assert_close(values(loss.clone().inner()), &[10.673775]);
        // The engine scales the loss before it goes back.
        let mut gradients = loss.mul_scalar(0.5).backward();
        let mut hidden_gradient = vec![
            -0.431996, 0.160775, -0.011225, 0.512815, 0.536376, -0.019222, -0.042386, 1.183834, -0.458655, 0.567315,
            0.149621, -0.074174, 0.0, 0.0, 0.0, 0.481936, -0.100597, 0.327587,
        ];
        hidden_gradient.resize(30, 0.0);
        let doubled = |gradient: Option<Tensor<2>>| values(gradient.expect("a gradient").mul_scalar(2.0));
        let found = leaf.grad_remove(&mut gradients).map(|gradient| gradient.reshape([10, 3]));
        assert_close(doubled(found), &hidden_gradient);
        let mut expected = [
            [
                0.248515, 0.266067, 0.082106, -0.186455, -0.378252, -0.482468, 0.266526, 0.421442, 0.079378, -0.328586,
                -0.309256, 0.320983,
            ],
            [
                -0.219324, 0.483724, 0.298193, 0.171964, -1.102167, 0.14791, 0.039684, 0.180161, 0.084196, 0.007676,
                0.438282, -0.530299,
            ],
        ]
        .into_iter();
        let mut names = Vec::new();
        mtp.visit_parameters(&mut |name, parameter| {
            let Parameter::Matrix(matrix) = parameter else { panic!("heads are matrices") };
            names.push(name.to_string());
            assert_close(doubled(matrix.grad_remove(&mut gradients)), &expected.next().expect("two heads"));
        });
        assert_eq!(names, ["heads.1.weight", "heads.2.weight"]);
    }

    #[test]
    fn diagnostics_are_the_mean_of_each_head_and_start_again() {
        let mut mtp = with_heads();
        let rows = rows();
        for _ in 0..2 {
            mtp.loss(&HiddenBatch { hidden: hidden().autodiff().require_grad(), rows: &rows, step: 1, seed: 0 });
        }
        let means = mtp.diagnostics();
        assert_eq!([&means[0].0, &means[1].0], ["head_1", "head_2"]);
        assert!((4.0 * means[0].1 + 3.0 * means[1].1 - 10.673775).abs() < 1e-5, "{means:?}");
        assert_eq!(mtp.diagnostics(), []);
    }

    #[test]
    fn sums_of_two_processes_are_those_of_one() {
        let [mut whole, mut first, mut second] = [(); 3].map(|()| with_heads());
        let rows = rows();
        let loss = |mtp: &mut Box<dyn Auxiliary>| {
            mtp.loss(&HiddenBatch { hidden: hidden().autodiff().require_grad(), rows: &rows, step: 1, seed: 0 });
        };
        (0..3).for_each(|_| loss(&mut whole));
        loss(&mut first);
        (0..2).for_each(|_| loss(&mut second));
        let sums: Vec<f64> = first.sums().iter().zip(second.sums()).map(|(a, b)| a + b).collect();
        let mut idle = with_heads();
        assert_eq!(idle.sums(), [0.0; 4]);
        let expected = whole.diagnostics();
        for mtp in [&mut first, &mut idle] {
            mtp.set_sums(&sums);
            let found = mtp.diagnostics();
            assert!(found.iter().zip(&expected).all(|(a, b)| a.0 == b.0 && (a.1 - b.1).abs() < 1e-6), "{found:?}");
            assert_eq!(found.len(), 2);
        }
    }

    #[test]
    fn without_a_pair_the_loss_is_zero_and_still_tracked() {
        let mut mtp = with_heads();
        let rows = [Row { ids: vec![1, 2], learned: vec![true, false], example: 0 }];
        assert_eq!(mtp.units(&rows), 0.0);
        let leaf = hidden().narrow(0, 0, 1).autodiff().require_grad();
        let loss = mtp.loss(&HiddenBatch { hidden: leaf.clone(), rows: &rows, step: 1, seed: 0 });
        assert_eq!(values(loss.clone().inner()), [0.0]);
        let gradients = loss.backward();
        assert_eq!(values(leaf.grad(&gradients).expect("a gradient")), [0.0; 15]);
        mtp.visit_parameters(&mut |_, parameter| {
            let Parameter::Matrix(matrix) = parameter else { panic!("heads are matrices") };
            assert_eq!(values(matrix.grad(&gradients).expect("a gradient")), [0.0; 12]);
        });
    }

    #[test]
    fn chunks_of_pairs_change_nothing() {
        let matrix = |values: Vec<f32>, shape: [usize; 2]| {
            Tensor::<2>::from_data(TensorData::new(values, shape), &Device::flex())
        };
        let head = matrix((0..34).map(|index| (index * 7 % 17) as f32 / 17.0).collect(), [17, 2]);
        let inputs = matrix((0..80).map(|index| (index % 7) as f32 - 3.0).collect(), [40, 2]);
        let targets: Vec<i32> = (0..40).map(|index| index * 5 % 17).collect();
        let whole = cross_entropy(&inputs, &head, &targets, 40);
        for rows in [1, 16, 39] {
            let cut = cross_entropy(&inputs, &head, &targets, rows);
            assert!((cut.sum.into_scalar::<f32>() / whole.sum.clone().into_scalar::<f32>() - 1.0).abs() < 1e-6);
            assert_close(values(cut.inputs), &values(whole.inputs.clone()));
            for (cut, whole) in values(cut.head).into_iter().zip(values(whole.head.clone())) {
                assert!((cut - whole).abs() < 1e-5, "{cut} {whole}");
            }
        }
    }

    #[test]
    fn heads_start_uniform_and_differ_by_head_and_seed() {
        let matrices = |seed| {
            let device = Device::flex();
            let surroundings =
                Surroundings { hidden_size: 16, vocabulary: 1000, device, seed, steps: 1, embeddings: None };
            let mut found = Vec::new();
            let mut mtp = build("", &surroundings).expect("no keys");
            assert_eq!(mtp.weight(3), 1.0);
            mtp.visit_parameters(&mut |_, parameter| {
                let Parameter::Matrix(matrix) = parameter else { panic!("heads are matrices") };
                assert_eq!(matrix.dims(), [1000, 16]);
                found.push(values(matrix.clone().inner()));
            });
            found
        };
        let first = matrices(1);
        assert_eq!(first.len(), 4);
        assert_eq!(first, matrices(1));
        assert_ne!(first[0], first[1]);
        assert_ne!(first[0], matrices(2)[0]);
        // Uniform within 1/4: mean 0, variance 1/48, and all of the interval.
        let mean = first[0].iter().sum::<f32>() / 16_000.0;
        let variance = first[0].iter().map(|value| value * value).sum::<f32>() / 16_000.0;
        let largest = first[0].iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        assert!(mean.abs() < 0.005 && (variance * 48.0 - 1.0).abs() < 0.03, "{mean} {variance}");
        assert!(largest > 0.2499 && largest <= 0.25, "{largest}");
    }

    #[test]
    fn impossible_values_are_refused() {
        for keys in ["heads = 0", "heads = 65", "weight = 0", "weight = -1", "weight = nan", "haeds = 2"] {
            assert!(build(keys, &surroundings(1)).is_err(), "{keys}");
        }
    }
}
