//! Frozen projections of one input with low-rank adapters beside them, forward and backward.
//!
//! Several projections of the same input (queries, keys and values; gate and up) are one call: their outputs stand side
//! by side, their `A` are one product, and their ways back to the input are one sum in registers.

use std::ops::Range;

use rayon::prelude::*;

use crate::dropout::Dropped;
use crate::element::Element;
use crate::packed::{Packed, Precision};
use crate::parallel::{Build, Shared};
use crate::product::{Left, Pair, Start, Target, outer, sum_of_products};

/// One projection: `y = x W^T + b + scale * x A^T B^T`.
#[derive(Clone, Copy)]
pub struct Part<'a> {
    /// W, `[out, in]`.
    pub weight: &'a Packed,
    /// b, `[out]`.
    pub bias: Option<&'a [f32]>,
    /// The adapter.
    pub factors: Option<Factors<'a>>,
    /// The dropout of the inputs, of the adapter's path or of both.
    pub dropped: Dropped,
}

/// The two factors of an adapter.
#[derive(Clone, Copy)]
pub struct Factors<'a> {
    /// A, `[rank, in]`.
    pub a: &'a [f32],
    /// B, `[out, rank]`.
    pub b: &'a [f32],
    /// Factor of their product.
    pub scale: f32,
}

impl Part<'_> {
    /// Rank of the adapter; 0 without one.
    fn rank(&self) -> usize {
        self.factors.map_or(0, |factors| factors.a.len() / self.weight.inputs.max(1))
    }

    fn check(&self, inputs: usize) {
        let [outputs, own_inputs] = self.weight.shape();
        assert!(own_inputs == inputs, "projections of one input");
        assert!(self.bias.is_none_or(|bias| bias.len() == outputs), "a bias of another projection");
        if let Some(factors) = self.factors {
            let rank = self.rank();
            assert!(factors.a.len() == rank * inputs && factors.b.len() == rank * outputs, "factors that do not fit");
        }
    }
}

/// The gradients that [`project_backward`] computes.
pub struct ProjectionGradients<E> {
    /// Gradient of `x`, `[rows, in]`, in its type, if it was asked for.
    pub input: Option<Vec<E>>,
    /// For each part with an adapter the gradients of A `[rank, in]` and B `[out, rank]`.
    pub factors: Vec<Option<(Vec<f32>, Vec<f32>)>>,
}

/// All A of the parts as one matrix `[sum of ranks, in]`.
fn stacked(parts: &[Part], inputs: usize, precision: Precision) -> Option<Packed> {
    let rows: Vec<f32> = parts.iter().filter_map(|part| part.factors).flat_map(|f| f.a.iter().copied()).collect();
    let ranks = rows.len() / inputs.max(1);
    (ranks > 0).then(|| Packed::new(&rows, [ranks, inputs], (inputs, 1), 1.0, precision))
}

/// Columns at which each part's share of something begins, and their number.
fn offsets<'a>(parts: &[Part<'a>], width: impl Fn(&Part<'a>) -> usize) -> (Vec<usize>, usize) {
    let mut total = 0;
    let starts = parts.iter().map(|part| {
        total += width(part);
        total - width(part)
    });
    (starts.collect(), total)
}

/// Outputs of all parts side by side, `[rows, sum of out]`, on top of `residual` (which takes one part without a bias);
/// and the low-rank activations `x A^T`, `[rows, sum of ranks]`, that the way back needs.
pub fn project<E: Element, O: Element>(
    x: &[E],
    rows: usize,
    parts: &[Part],
    residual: Option<&[f32]>,
) -> (Vec<O>, Vec<f32>) {
    let first = parts.first().expect("at least one projection");
    let (inputs, precision) = (first.weight.inputs, first.weight.precision());
    parts.iter().for_each(|part| part.check(inputs));
    assert_eq!(x.len(), rows * inputs, "an input of another shape");
    let (columns, outputs) = offsets(parts, |part| part.weight.outputs);
    let (ranks, rank) = offsets(parts, Part::rank);
    let alone = parts.len() == 1 && first.bias.is_none();
    assert!(residual.is_none_or(|residual| alone && residual.len() == rows * outputs), "a residual of another shape");
    let left = Left::new(x, inputs, precision);
    let low = low_rank(x, &left, rows, parts, inputs);
    let build = Build::new(rows * outputs);
    for (index, part) in parts.iter().enumerate() {
        let width = part.rank();
        let seen = part.dropped.of_matrix(x, inputs);
        let seen = seen.as_ref().map(|seen| Left::new(seen, inputs, precision));
        let share;
        let mut pairs = vec![Pair { left: seen.as_ref().unwrap_or(&left), inputs, offset: 0, right: part.weight }];
        let b;
        if let Some(factors) = part.factors {
            let shape = [part.weight.outputs, width];
            b = Packed::new(factors.b, shape, (width, 1), factors.scale, precision);
            share = columns_of(&low, rank, ranks[index], width, precision);
            pairs.push(Pair { left: &share, inputs: width, offset: 0, right: &b });
        }
        let start = match (part.bias, residual) {
            (Some(bias), _) => Start { pointer: bias.as_ptr(), stride: 0 },
            (None, Some(residual)) => Start { pointer: residual.as_ptr(), stride: outputs },
            (None, None) => Start::ZERO,
        };
        // SAFETY: each part has columns of its own, and the starts were checked to have their shapes.
        unsafe {
            let target = Target { pointer: Shared::new(build.at(columns[index])), stride: outputs };
            sum_of_products(&pairs, rows, start, target);
        }
    }
    // SAFETY: the parts fill all columns.
    (unsafe { build.finish() }, low)
}

/// `x A^T` of all parts side by side, `[rows, sum of ranks]`: one product where all adapters see the same inputs.
fn low_rank<E: Element>(x: &[E], left: &Left, rows: usize, parts: &[Part], inputs: usize) -> Vec<f32> {
    let precision = parts[0].weight.precision();
    let (ranks, rank) = offsets(parts, Part::rank);
    let build = Build::new(rows * rank);
    let fill = |left: &Left, first: usize, a: &Packed| {
        // SAFETY: `build` has `rows * rank` places, and `first` is a column of its first row.
        let target = Target { pointer: Shared::new(unsafe { build.at(first) }), stride: rank };
        // SAFETY: the columns from `first` on are those of the rows of `a`.
        unsafe { sum_of_products(&[Pair { left, inputs, offset: 0, right: a }], rows, Start::ZERO, target) }
    };
    if parts.iter().all(|part| matches!(part.dropped, Dropped::Nothing)) {
        if let Some(a) = stacked(parts, inputs, precision) {
            fill(left, 0, &a);
        }
    } else {
        for (part, first) in parts.iter().zip(ranks) {
            let seen = part.dropped.of_adapter(x, inputs);
            let seen = seen.as_ref().map(|seen| Left::new(seen, inputs, precision));
            if let Some(a) = stacked(&[*part], inputs, precision) {
                fill(seen.as_ref().unwrap_or(left), first, &a);
            }
        }
    }
    // SAFETY: all adapters together have all columns.
    unsafe { build.finish() }
}

/// Columns of low-rank activations as the left side of a product.
fn columns_of(values: &[f32], stride: usize, first: usize, width: usize, precision: Precision) -> Left<'static> {
    let share: Vec<f32> = values.chunks_exact(stride).flat_map(|row| &row[first..first + width]).copied().collect();
    match Left::new(&share, width, precision) {
        Left::F32(_) => Left::F32(std::borrow::Cow::Owned(share)),
        Left::Bf16 { values, stride } => Left::Bf16 { values: std::borrow::Cow::Owned(values.into_owned()), stride },
    }
}

fn multiply(pairs: &[Pair], rows: usize) -> Vec<f32> {
    let outputs = pairs[0].right.outputs;
    let build = Build::new(rows * outputs);
    // SAFETY: the product fills the output.
    unsafe {
        let target = Target { pointer: Shared::new(build.at(0)), stride: outputs };
        sum_of_products(pairs, rows, Start::ZERO, target);
        build.finish()
    }
}

/// Gradients from that of the outputs, `[rows, sum of out]`, with what [`project`] was given and gave.
pub fn project_backward<E: Element, G: Element>(
    x: &[E],
    rows: usize,
    parts: &[Part],
    low: &[f32],
    gradient: &[G],
    want_input: bool,
) -> ProjectionGradients<E> {
    let first = parts.first().expect("at least one projection");
    let inputs = first.weight.inputs;
    parts.iter().for_each(|part| part.check(inputs));
    let sides = OutputGradient::new(gradient, parts);
    let (ranks, rank) = offsets(parts, Part::rank);
    assert!(x.len() == rows * inputs && gradient.len() == rows * sides.outputs, "a gradient of another shape");
    assert_eq!(low.len(), rows * rank, "low-rank activations of another shape");
    let mut low_gradients = Vec::with_capacity(parts.len());
    let mut factors = Vec::with_capacity(parts.len());
    for (index, part) in parts.iter().enumerate() {
        let Some(own) = part.factors else {
            low_gradients.push(None);
            factors.push(None);
            continue;
        };
        let width = part.rank();
        let low_gradient = sides.through_b(index, part, own, rows);
        let da = match part.dropped.of_adapter(x, inputs) {
            Some(seen) => outer(rows, (&low_gradient, width, 0..width), (&seen, inputs, 0..inputs)),
            None => outer(rows, (&low_gradient, width, 0..width), (x, inputs, 0..inputs)),
        };
        let db = sides.gradient_of_b(index, part, own, (low, rank, ranks[index]..ranks[index] + width), rows);
        factors.push(Some((da, db)));
        low_gradients.push(Some(low_gradient));
    }
    let input = want_input.then(|| input_gradient(&sides, parts, &low_gradients, rows));
    ProjectionGradients { input, factors }
}

/// The gradient of the outputs, `[rows, sum of out]`, and the same as the left side of products with each part.
struct OutputGradient<'a, G> {
    gradient: &'a [G],
    /// Where the columns of each part begin.
    columns: Vec<usize>,
    outputs: usize,
    /// For all parts whose columns can be addressed in pairs.
    whole: Left<'a>,
    /// For each of the others.
    shares: Vec<Option<Left<'a>>>,
    precision: Precision,
}

impl<'a, G: Element> OutputGradient<'a, G> {
    fn new(gradient: &'a [G], parts: &[Part]) -> Self {
        let precision = parts[0].weight.precision();
        let (columns, outputs) = offsets(parts, |part| part.weight.outputs);
        let whole = Left::new(gradient, outputs, precision);
        let addressable = precision == Precision::F32 || columns.iter().all(|column| column % 2 == 0);
        let share = |(part, column): (&Part, &usize)| {
            (!addressable).then(|| {
                let wide: Vec<f32> = crate::convert(gradient);
                columns_of(&wide, outputs, *column, part.weight.outputs, precision)
            })
        };
        let shares = parts.iter().zip(&columns).map(share).collect();
        Self { gradient, columns, outputs, whole, shares, precision }
    }

    /// The product of the columns of a part with `right`.
    fn pair<'b>(&'b self, index: usize, part: &Part, right: &'b Packed) -> Pair<'b, 'b> {
        match &self.shares[index] {
            Some(left) => Pair { left, inputs: part.weight.outputs, offset: 0, right },
            None => Pair { left: &self.whole, inputs: self.outputs, offset: self.columns[index], right },
        }
    }

    /// The gradient of `x A^T` of a part, `[rows, rank]`.
    fn through_b(&self, index: usize, part: &Part, factors: Factors, rows: usize) -> Vec<f32> {
        let width = part.rank();
        // Row r of the transpose of B: value (r, o) stands at o * rank + r.
        let b = Packed::new(factors.b, [width, part.weight.outputs], (1, width), factors.scale, self.precision);
        multiply(&[self.pair(index, part, &b)], rows)
    }

    /// The gradient of B of a part, `[out, rank]`, from its columns of the low-rank activations.
    fn gradient_of_b(
        &self,
        index: usize,
        part: &Part,
        factors: Factors,
        low: (&[f32], usize, Range<usize>),
        rows: usize,
    ) -> Vec<f32> {
        let (width, out, first) = (part.rank(), part.weight.outputs, self.columns[index]);
        let turned = outer(rows, low, (self.gradient, self.outputs, first..first + out));
        let mut gradient = vec![0.0; out * width];
        for (r, row) in turned.chunks_exact(out).enumerate() {
            for (o, value) in row.iter().enumerate() {
                gradient[o * width + r] = value * factors.scale;
            }
        }
        gradient
    }
}

/// The gradient of `x`, `[rows, in]`: one sum of all products whose inputs are not dropped, on top of what comes back
/// through dropped inputs of single parts.
fn input_gradient<E: Element, G: Element>(
    sides: &OutputGradient<G>,
    parts: &[Part],
    low_gradients: &[Option<Vec<f32>>],
    rows: usize,
) -> Vec<E> {
    let (inputs, precision) = (parts[0].weight.inputs, sides.precision);
    let turned: Vec<Packed> = parts.iter().map(|part| part.weight.transposed(0..part.weight.outputs)).collect();
    let lows: Vec<Option<(Left, Packed, usize)>> = parts
        .iter()
        .zip(low_gradients)
        .map(|(part, gradient)| {
            let (own, gradient, width) = (part.factors?, gradient.as_ref()?, part.rank());
            // Value (i, r) of the transpose of A stands at r * in + i.
            let a = Packed::new(own.a, [inputs, width], (1, inputs), 1.0, precision);
            Some((Left::new(gradient, width, precision), a, width))
        })
        .collect();
    let mut pairs = Vec::with_capacity(2 * parts.len());
    let mut dropped: Option<Vec<f32>> = None;
    for (index, (part, turned)) in parts.iter().zip(&turned).enumerate() {
        let matrix = sides.pair(index, part, turned);
        let adapter = (lows[index].as_ref()).map(|(left, a, width)| Pair { left, inputs: *width, offset: 0, right: a });
        let mut own = Vec::with_capacity(2);
        match part.dropped {
            Dropped::Nothing | Dropped::Adapter(_) => pairs.push(matrix),
            Dropped::Both(_) | Dropped::Rest(_) => own.push(matrix),
        }
        match part.dropped {
            Dropped::Nothing => pairs.extend(adapter),
            _ => own.extend(adapter),
        }
        if !own.is_empty() {
            let through = part.dropped.back(multiply(&own, rows), inputs);
            dropped = Some(match dropped {
                Some(sum) => sum.into_par_iter().zip(through).map(|(sum, through)| sum + through).collect(),
                None => through,
            });
        }
    }
    let start = match &dropped {
        Some(sum) if pairs.is_empty() => return crate::convert(sum),
        Some(sum) => Start { pointer: sum.as_ptr(), stride: inputs },
        None => Start::ZERO,
    };
    let build = Build::new(rows * inputs);
    // SAFETY: the product fills the output, and the start has its shape.
    unsafe {
        let target = Target { pointer: Shared::new(build.at(0)), stride: inputs };
        sum_of_products(&pairs, rows, start, target);
        build.finish()
    }
}

#[cfg(test)]
mod tests {
    use half::bf16;

    use super::*;
    use crate::dropout::Dropout;

    fn values(count: usize, seed: f32) -> Vec<f32> {
        (0..count).map(|i| bf16::from_f32((i as f32 * 0.7 + seed).sin()).to_f32()).collect()
    }

    /// `[rows, inner] [inner, columns]` in f64, with the strides of the two sides.
    fn matmul(
        (a, a_row, a_step): (&[f64], usize, usize),
        (b, b_step, b_column): (&[f64], usize, usize),
        [rows, inner, columns]: [usize; 3],
    ) -> Vec<f64> {
        let sum = |row: usize, column: usize| {
            (0..inner).map(|k| a[row * a_row + k * a_step] * b[k * b_step + column * b_column]).sum()
        };
        (0..rows).flat_map(|row| (0..columns).map(move |column| sum(row, column))).collect()
    }

    fn wide(values: &[f32]) -> Vec<f64> {
        values.iter().map(|v| f64::from(*v)).collect()
    }

    fn close(found: &[f32], expected: &[f64], tolerance: f64) {
        assert_eq!(found.len(), expected.len());
        let scale = expected.iter().fold(1.0f64, |largest, v| largest.max(v.abs()));
        for (found, expected) in found.iter().zip(expected) {
            assert!((f64::from(*found) - expected).abs() < tolerance * scale, "{found} {expected}");
        }
    }

    /// What the matrix and the adapter see of inputs of ones.
    fn seen(dropped: Dropped, rows: usize, inputs: usize) -> [Vec<f64>; 2] {
        let ones = vec![1.0; rows * inputs];
        let kept = |dropout: Dropout| wide(&dropout.mask(rows, inputs));
        match dropped {
            Dropped::Nothing => [ones.clone(), ones],
            Dropped::Adapter(dropout) => [ones, kept(dropout)],
            Dropped::Both(dropout) => [kept(dropout), kept(dropout)],
            Dropped::Rest(dropout) => [0, 1].map(|_| kept(dropout).iter().map(|kept| 1.0 - kept).collect()),
        }
    }

    /// Three projections of different widths, the second without an adapter, the third with a bias.
    #[test]
    fn outputs_and_gradients_match_plain_products() {
        let (rows, inputs) = (31, 47);
        let (outs, ranks) = ([33, 8, 70], [3, 0, 5]);
        let total: usize = outs.iter().sum();
        let dropout = |key| Dropout::new(key, 0.3);
        let precisions = [(Precision::F32, 3e-6), (Precision::Bf16, 8e-3)];
        let cases = [
            [Dropped::Nothing; 3],
            [Dropped::Adapter(dropout(1)), Dropped::Nothing, Dropped::Adapter(dropout(2))],
            [Dropped::Both(dropout(1)), Dropped::Rest(dropout(2)), Dropped::Adapter(dropout(3))],
            [Dropped::Both(dropout(1)), Dropped::Rest(dropout(1)), Dropped::Both(dropout(2))],
        ];
        for ((precision, tolerance), dropped) in precisions.into_iter().flat_map(|p| cases.map(|case| (p, case))) {
            let x = values(rows * inputs, 0.1);
            let gradient = values(rows * total, 0.4);
            let weights: Vec<Vec<f32>> = outs.iter().map(|out| values(out * inputs, 0.2)).collect();
            let bias = values(70, 0.8);
            let packed: Vec<Packed> = (weights.iter().zip(outs))
                .map(|(w, out)| Packed::new(w, [out, inputs], (inputs, 1), 1.0, precision))
                .collect();
            let (a, b): (Vec<_>, Vec<_>) =
                (outs.iter().zip(ranks)).map(|(out, r)| (values(r * inputs, 0.3), values(out * r, 0.6))).unzip();
            let parts: Vec<Part> = (0..3)
                .map(|i| Part {
                    weight: &packed[i],
                    bias: (i == 2).then_some(bias.as_slice()),
                    factors: (ranks[i] > 0).then(|| Factors { a: &a[i], b: &b[i], scale: 0.5 }),
                    dropped: dropped[i],
                })
                .collect();
            let (y, low): (Vec<f32>, _) = project(&x, rows, &parts, None);
            let back = project_backward(&x, rows, &parts, &low, &gradient, true);
            let x = wide(&x);
            let mut dx = vec![0.0; rows * inputs];
            let mut column = 0;
            for i in 0..3 {
                let (out, r) = (outs[i], ranks[i]);
                let (w, a, b) = (wide(&weights[i]), wide(&a[i]), wide(&b[i]));
                let dy: Vec<f64> = gradient.chunks(total).flat_map(|row| wide(&row[column..column + out])).collect();
                let masks = seen(dropped[i], rows, inputs);
                let [by_matrix, by_adapter] =
                    masks.each_ref().map(|mask| x.iter().zip(mask).map(|(x, mask)| x * mask).collect::<Vec<f64>>());
                let u = matmul((&by_adapter, inputs, 1), (&a, 1, inputs), [rows, inputs, r]);
                let low_rank = matmul((&u, r, 1), (&b, 1, r), [rows, r, out]);
                let base = matmul((&by_matrix, inputs, 1), (&w, 1, inputs), [rows, inputs, out]);
                let expected: Vec<f64> = (base.iter().zip(low_rank).enumerate())
                    .map(|(j, (base, low))| base + 0.5 * low + if i == 2 { f64::from(bias[j % out]) } else { 0.0 })
                    .collect();
                let found: Vec<f32> = y.chunks(total).flat_map(|row| row[column..column + out].to_vec()).collect();
                close(&found, &expected, tolerance);
                let du = matmul((&dy, out, 1), (&b, r, 1), [rows, out, r]);
                let through_w = matmul((&dy, out, 1), (&w, inputs, 1), [rows, out, inputs]);
                let through_a = matmul((&du, r, 1), (&a, inputs, 1), [rows, r, inputs]);
                for (place, (w, a)) in through_w.iter().zip(through_a).enumerate() {
                    dx[place] += masks[0][place] * w + 0.5 * masks[1][place] * a;
                }
                if let Some((da, db)) = &back.factors[i] {
                    let expected = matmul((&du, 1, r), (&by_adapter, inputs, 1), [r, rows, inputs]);
                    close(da, &expected.iter().map(|v| 0.5 * v).collect::<Vec<_>>(), tolerance);
                    let expected = matmul((&dy, 1, out), (&u, r, 1), [out, rows, r]);
                    close(db, &expected.iter().map(|v| 0.5 * v).collect::<Vec<_>>(), tolerance);
                }
                column += out;
            }
            close(&back.input.expect("it was asked for"), &dx, tolerance);
        }
    }

    /// To the bit, forward and back, beside adapters and for a part that is not in codes.
    #[test]
    fn projections_in_codes_are_those_of_their_values() {
        use crate::quantised::{Quantisation, Quantised};
        let (rows, inputs, outs) = (131, 64, [33, 8, 70]);
        let total: usize = outs.iter().sum();
        let (x, gradient) = (values(rows * inputs, 0.1), values(rows * total, 0.4));
        for precision in [Precision::F32, Precision::Bf16] {
            let (mut coded, mut plain) = (Vec::new(), Vec::new());
            for (index, out) in outs.into_iter().enumerate() {
                let quantisation = if index == 1 { Quantisation::Int8 } else { Quantisation::Nf4 };
                let matrix = Quantised::new(&values(out * inputs, 0.2), [out, inputs], quantisation);
                let values = matrix.dequantise();
                plain.push(Packed::new(&values, [out, inputs], (inputs, 1), 1.0, precision));
                coded.push(if index == 2 { plain[2].clone() } else { Packed::quantised(matrix, precision) });
            }
            let (a, b) = (values(4 * inputs, 0.3), values(70 * 4, 0.6));
            let both = [coded, plain].map(|weights| {
                let part = |i: usize| {
                    let factors = Factors { a: &a, b: &b[..outs[i] * 4], scale: 0.5 };
                    let factors = (i != 1).then_some(factors);
                    Part { weight: &weights[i], bias: None, factors, dropped: Dropped::Nothing }
                };
                let parts = [part(0), part(1), part(2)];
                let (y, low): (Vec<f32>, _) = project(&x, rows, &parts, None);
                let back = project_backward(&x, rows, &parts, &low, &gradient, true);
                (y, low, back.input, back.factors)
            });
            assert!(both[0] == both[1], "{precision:?}");
        }
    }

    #[test]
    fn a_residual_is_what_the_product_is_added_to() {
        let (rows, inputs, outputs) = (50, 16, 34);
        let (x, w, residual) = (values(rows * inputs, 0.1), values(outputs * inputs, 0.5), values(rows * outputs, 0.9));
        let weight = Packed::new(&w, [outputs, inputs], (inputs, 1), 1.0, Precision::F32);
        let part = Part { weight: &weight, bias: None, factors: None, dropped: Dropped::Nothing };
        let (plain, _): (Vec<f32>, _) = project(&x, rows, &[part], None);
        let (added, _): (Vec<f32>, _) = project(&x, rows, &[part], Some(&residual));
        let expected: Vec<f64> = plain.iter().zip(&residual).map(|(y, r)| f64::from(*y) + f64::from(*r)).collect();
        close(&added, &expected, 1e-6);
    }
}
