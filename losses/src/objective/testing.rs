//! What the tests of all objectives share: tokens from plain numbers, and the check of a gradient.

use burn::tensor::{Device, Tensor};
use faults::{Document, Faults};

use crate::{Objective, ObjectiveKind, Tokens};

/// The probabilities of the check values.
pub const Q: [f64; 4] = [0.9, 0.3, 0.05, 0.001];

/// Losses at which a neutral setting must give weights of exactly 1.
pub const NEUTRAL: [f64; 8] = [0.0, 1e-7, 0.1, 0.7, 3.0, 17.0, 90.0, 500.0];

pub fn nll_of(q: f64) -> f64 {
    -q.ln()
}

/// The objective as a recipe with these keys in `[objective]` builds it.
pub fn build(kind: ObjectiveKind, keys: &str) -> Result<Box<dyn Objective>, Faults> {
    let document = Document::parse("recipe.toml", &format!("[objective]\n{keys}\n"), &[])?;
    let mut root = document.root();
    let mut section = root.section("objective");
    let objective = (kind.build)(&mut section);
    root.close(section);
    root.end();
    document.finish().map(|()| objective)
}

/// The weights of one row.
pub fn weights(objective: &mut dyn Objective, nll: &[f64]) -> Vec<f32> {
    weights_of_rows(objective, &[nll])
}

/// What an objective may ask to be told of each token beside its nll.
#[derive(Default)]
pub struct Told<'a> {
    pub entropy: Option<&'a [f64]>,
    pub sum_of_squares: Option<&'a [f64]>,
    pub base_nll: Option<&'a [f64]>,
    pub column: Option<&'a [f64]>,
}

/// The weights of one row of which more than the nll is known.
pub fn weights_told(objective: &mut dyn Objective, nll: &[f64], told: &Told) -> Vec<f32> {
    weights_of(objective, &[nll], told)
}

/// The weights of several rows, one after another.
pub fn weights_of_rows(objective: &mut dyn Objective, rows: &[&[f64]]) -> Vec<f32> {
    weights_of(objective, rows, &Told::default())
}

fn weights_of(objective: &mut dyn Objective, rows: &[&[f64]], told: &Told) -> Vec<f32> {
    let device = Device::flex();
    let tensor = |values: Vec<f32>| Tensor::<1>::from_data(values.as_slice(), &device);
    let single = |values: &[f64]| values.iter().map(|value| *value as f32).collect::<Vec<f32>>();
    let nll = single(&rows.concat());
    let position = rows.iter().flat_map(|row| (1..=row.len()).map(|place| place as f32)).collect();
    let length = rows.iter().flat_map(|row| vec![row.len() as f32; row.len()]).collect();
    let mut start = 0;
    let mut ranges = Vec::new();
    for row in rows {
        ranges.push(start..start + row.len());
        start += row.len();
    }
    let tokens = Tokens {
        row_weight: tensor(vec![1.0; nll.len()]),
        nll: tensor(nll),
        position: tensor(position),
        length: tensor(length),
        entropy: told.entropy.map(|entropy| tensor(single(entropy))),
        sum_of_squares: told.sum_of_squares.map(|squares| tensor(single(squares))),
        base_nll: told.base_nll.map(|nll| tensor(single(nll))),
        column: told.column.map(|numbers| tensor(single(numbers))),
        rows: &ranges,
    };
    objective.weights(&tokens).into_data().try_to_vec().expect("f32 weights")
}

/// Equality within a relative error (absolute below 1e-30).
#[track_caller]
pub fn assert_close(found: &[f32], expected: &[f64], tolerance: f64) {
    assert_eq!(found.len(), expected.len());
    for (found, expected) in found.iter().zip(expected) {
        let error = (f64::from(*found) - expected).abs();
        assert!(error <= tolerance * expected.abs() + 1e-30, "found {found}, expected {expected}");
    }
}

/// Logits of four tokens over four words, and the observed words.
const LOGITS: [[f64; 4]; 4] =
    [[2.0, 0.5, -1.0, 0.0], [0.3, -0.7, 1.1, 0.2], [-2.0, 1.5, 0.4, 3.0], [0.1, 0.2, -3.0, 0.4]];
const OBSERVED: [usize; 4] = [0, 3, 1, 2];

/// What a base gives to the observed words, and the column of their rows.
const BASE_NLL: [f64; 4] = [0.1, 1.5, 2.5, 1.4];
const COLUMN: [f64; 4] = [0.5, 2.0, 0.0, 1.0];

/// The softmax of a token's logits at a temperature.
fn softmax(logits: &[f64; 4], temperature: f64) -> [f64; 4] {
    let exponentials = logits.map(|logit| (logit / temperature).exp());
    exponentials.map(|one| one / exponentials.iter().sum::<f64>())
}

/// Compares `sum(weight * T * nll(T)) / 4` and its gradient `weight * (softmax(z / T) - onehot) / 4` with PyTorch's numbers,
/// and the latter with finite differences of the loss in f64, the weights frozen.
///
/// PyTorch's numbers, `weight` and `T` (1 where it is not named) standing in the test that calls:
/// ```text
/// logits = torch.tensor(LOGITS, dtype=torch.float64, requires_grad=True)
/// at = lambda T: -T * (logits / T).log_softmax(1)[torch.arange(4), OBSERVED]
/// nll, l, p = at(1), torch.arange(1., 5.), logits.softmax(1)
/// q, H = (-nll).exp(), -(p * p.log()).sum(1)
/// base, column = torch.tensor(BASE_NLL), torch.tensor(COLUMN)
/// loss = (weight.detach() * at(T)).sum() / 4; loss.backward(); print(loss, logits.grad)
/// ```
#[track_caller]
pub fn check_gradient(objective: &mut dyn Objective, loss: f64, gradient: [[f64; 4]; 4]) {
    let temperature = objective.temperature();
    let nll = |logits: &[f64; 4], word: usize, temperature: f64| -softmax(logits, temperature)[word].ln();
    let each = |of: &dyn Fn(usize) -> f64| [0, 1, 2, 3].map(of);
    let entropy = each(&|token| softmax(&LOGITS[token], 1.0).iter().map(|q| -q * q.ln()).sum());
    let squares = each(&|token| softmax(&LOGITS[token], 1.0).iter().map(|q| q * q).sum());
    let told = Told {
        entropy: Some(&entropy),
        sum_of_squares: Some(&squares),
        base_nll: Some(&BASE_NLL),
        column: Some(&COLUMN),
    };
    let nll_of = each(&|token| nll(&LOGITS[token], OBSERVED[token], 1.0));
    let weights: Vec<f64> = weights_told(objective, &nll_of, &told).into_iter().map(f64::from).collect();
    let loss_of = |token: usize, logits: &[f64; 4]| {
        weights[token] * temperature * nll(logits, OBSERVED[token], temperature) / 4.0
    };
    let found: f64 = (0..4).map(|token| loss_of(token, &LOGITS[token])).sum();
    assert!((found - loss).abs() < 1e-6 * loss, "loss {found}, expected {loss}");
    for token in 0..4 {
        for word in 0..4 {
            let onehot = f64::from(u8::from(OBSERVED[token] == word));
            let found = weights[token] * (softmax(&LOGITS[token], temperature)[word] - onehot) / 4.0;
            let expected = gradient[token][word];
            assert!((found - expected).abs() < 1e-6, "gradient {found}, expected {expected}");
            let shifted = |by: f64| {
                let mut logits = LOGITS[token];
                logits[word] += by;
                loss_of(token, &logits)
            };
            let difference = (shifted(1e-4) - shifted(-1e-4)) / 2e-4;
            assert!((found - difference).abs() < 1e-8, "gradient {found}, finite difference {difference}");
        }
    }
}
