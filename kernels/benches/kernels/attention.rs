//! Causal attention with grouped queries and the rotary encoding inside of it.

use divan::{Bencher, black_box};
use kernels::AttentionShape;

use crate::{assert_same, halved, values};

const HEADS: usize = 9;
const KEY_HEADS: usize = 3;
const HEAD_DIM: usize = 64;
const WIDTH: usize = (HEADS + 2 * KEY_HEADS) * HEAD_DIM;
const SHAPES: [(usize, usize); 3] = [(4, 256), (1, 1024), (1, 2048)];

fn shape(batch: usize, positions: usize) -> AttentionShape {
    AttentionShape { batch, positions, ..AttentionShape::new(HEADS, KEY_HEADS, HEAD_DIM) }
}

/// Cosines and sines, `[positions, HEAD_DIM / 2]`.
fn tables(positions: usize) -> (Vec<f32>, Vec<f32>) {
    let angle =
        |i: usize| (i / (HEAD_DIM / 2)) as f32 * 10_000f32.powf(-((i % (HEAD_DIM / 2)) as f32) / (HEAD_DIM / 2) as f32);
    (0..positions * HEAD_DIM / 2).map(angle).map(|angle| (angle.cos(), angle.sin())).unzip()
}

mod forward {
    use super::*;

    #[divan::bench(args = SHAPES, sample_count = 10)]
    fn ours(bencher: Bencher, (batch, positions): (usize, usize)) {
        let (qkv, (cosine, sine)) = (halved(&values(batch * positions * WIDTH, 1)), tables(positions));
        let shape = shape(batch, positions);
        bencher.bench_local(|| kernels::attention(shape, None, black_box(&qkv), &cosine, &sine));
    }

    #[divan::bench(args = SHAPES, sample_count = 2)]
    fn naive(bencher: Bencher, (batch, positions): (usize, usize)) {
        let (qkv, (cosine, sine)) = (values(batch * positions * WIDTH, 1), tables(positions));
        let naive = Naive { batch, positions, cosine: &cosine, sine: &sine };
        let run = || naive.forward(black_box(&qkv));
        assert_same(&kernels::attention(shape(batch, positions), None, &qkv, &cosine, &sine).0, &run());
        bencher.bench_local(run);
    }
}

mod backward {
    use super::*;

    #[divan::bench(args = SHAPES, sample_count = 10)]
    fn ours(bencher: Bencher, (batch, positions): (usize, usize)) {
        let (qkv, (cosine, sine)) = (halved(&values(batch * positions * WIDTH, 1)), tables(positions));
        let gradient = halved(&values(batch * positions * HEADS * HEAD_DIM, 2));
        let shape = shape(batch, positions);
        let (out, sums) = kernels::attention(shape, None, &qkv, &cosine, &sine);
        bencher.bench_local(|| {
            kernels::attention_backward(shape, None, black_box(&qkv), &cosine, &sine, &out, &sums, &gradient)
        });
    }

    #[divan::bench(args = SHAPES, sample_count = 1)]
    fn naive(bencher: Bencher, (batch, positions): (usize, usize)) {
        let (qkv, (cosine, sine)) = (values(batch * positions * WIDTH, 1), tables(positions));
        let gradient = values(batch * positions * HEADS * HEAD_DIM, 2);
        let naive = Naive { batch, positions, cosine: &cosine, sine: &sine };
        let run = || naive.backward(black_box(&qkv), &gradient);
        let shape = shape(batch, positions);
        let (out, sums) = kernels::attention(shape, None, &qkv, &cosine, &sine);
        let found = kernels::attention_backward(shape, None, &qkv, &cosine, &sine, &out, &sums, &gradient);
        assert_same(&found, &run());
        bencher.bench_local(run);
    }
}

/// A pass of the rotary encoding, then for every head the whole matrix of scores.
struct Naive<'a> {
    batch: usize,
    positions: usize,
    cosine: &'a [f32],
    sine: &'a [f32],
}

impl Naive<'_> {
    /// Turns queries and keys by their positions, or back with a `sign` of -1.
    fn turned(&self, qkv: &[f32], sign: f32) -> Vec<f32> {
        let mut turned = qkv.to_vec();
        for (row, values) in turned.chunks_mut(WIDTH).enumerate() {
            let table = row % self.positions * (HEAD_DIM / 2);
            for head in values.chunks_mut(HEAD_DIM).take(HEADS + KEY_HEADS) {
                for i in 0..HEAD_DIM / 2 {
                    let (first, second) = (head[i], head[HEAD_DIM / 2 + i]);
                    let (cosine, sine) = (self.cosine[table + i], sign * self.sine[table + i]);
                    head[i] = first * cosine - second * sine;
                    head[HEAD_DIM / 2 + i] = second * cosine + first * sine;
                }
            }
        }
        turned
    }

    /// One head of the rows of a sequence, `[positions, HEAD_DIM]`.
    fn head(&self, qkv: &[f32], row: usize, index: usize) -> Vec<f32> {
        let rows = qkv.chunks(WIDTH).skip(row * self.positions).take(self.positions);
        rows.flat_map(|values| values[index * HEAD_DIM..][..HEAD_DIM].iter().copied()).collect()
    }

    /// The probabilities of a head, `[positions, positions]`, those of later keys 0.
    fn probabilities(&self, queries: &[f32], keys: &[f32]) -> Vec<f32> {
        let mut scores = crate::naive::product(queries, keys, HEAD_DIM);
        for (query, row) in scores.chunks_mut(self.positions).enumerate() {
            row.iter_mut().for_each(|score| *score /= (HEAD_DIM as f32).sqrt());
            row[query + 1..].fill(f32::NEG_INFINITY);
            let largest = row.iter().copied().fold(f32::NEG_INFINITY, f32::max);
            row.iter_mut().for_each(|score| *score = (*score - largest).exp());
            let sum: f32 = row.iter().sum();
            row.iter_mut().for_each(|score| *score /= sum);
        }
        scores
    }

    /// Sequences, heads, and the key head that each shares.
    fn heads(&self) -> impl Iterator<Item = (usize, usize, usize)> {
        (0..self.batch).flat_map(|row| (0..HEADS).map(move |head| (row, head, head * KEY_HEADS / HEADS)))
    }

    fn forward(&self, qkv: &[f32]) -> Vec<f32> {
        let turned = self.turned(qkv, 1.0);
        let mut out = vec![0.0; self.batch * self.positions * HEADS * HEAD_DIM];
        for (row, head, key_head) in self.heads() {
            let (queries, keys) = (self.head(&turned, row, head), self.head(&turned, row, HEADS + key_head));
            let values = self.head(&turned, row, HEADS + KEY_HEADS + key_head);
            let probabilities = self.probabilities(&queries, &keys);
            let given = crate::naive::product_transposed(&probabilities, &values, HEAD_DIM);
            for (position, given) in given.chunks(HEAD_DIM).enumerate() {
                out[((row * self.positions + position) * HEADS + head) * HEAD_DIM..][..HEAD_DIM].copy_from_slice(given);
            }
        }
        out
    }

    fn backward(&self, qkv: &[f32], gradient: &[f32]) -> Vec<f32> {
        let turned = self.turned(qkv, 1.0);
        let mut sums = vec![0.0; qkv.len()];
        for (row, head, key_head) in self.heads() {
            let (queries, keys) = (self.head(&turned, row, head), self.head(&turned, row, HEADS + key_head));
            let values = self.head(&turned, row, HEADS + KEY_HEADS + key_head);
            let rows = gradient.chunks(HEADS * HEAD_DIM).skip(row * self.positions).take(self.positions);
            let gradient: Vec<f32> = rows.flat_map(|row| row[head * HEAD_DIM..][..HEAD_DIM].iter().copied()).collect();
            let probabilities = self.probabilities(&queries, &keys);
            let mut scores = crate::naive::product(&gradient, &values, HEAD_DIM);
            for (scores, row) in scores.chunks_mut(self.positions).zip(probabilities.chunks(self.positions)) {
                let mean: f32 = scores.iter().zip(row).map(|(score, p)| score * p).sum();
                let root = (HEAD_DIM as f32).sqrt();
                scores.iter_mut().zip(row).for_each(|(score, p)| *score = p * (*score - mean) / root);
            }
            let found = [
                (head, crate::naive::product_transposed(&scores, &keys, HEAD_DIM)),
                (HEADS + key_head, crate::naive::outer(&scores, self.positions, &queries, HEAD_DIM)),
                (
                    HEADS + KEY_HEADS + key_head,
                    crate::naive::outer(&probabilities, self.positions, &gradient, HEAD_DIM),
                ),
            ];
            for (index, found) in found {
                for (position, found) in found.chunks(HEAD_DIM).enumerate() {
                    let sums = &mut sums[(row * self.positions + position) * WIDTH + index * HEAD_DIM..][..HEAD_DIM];
                    sums.iter_mut().zip(found).for_each(|(sum, value)| *sum += value);
                }
            }
        }
        self.turned(&sums, -1.0)
    }
}
