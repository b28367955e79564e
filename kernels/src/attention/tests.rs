//! Attention against its definition in f64, forward and backward.

use super::*;

fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| (i as f32 * 0.7 + seed).sin()).collect()
}

fn tables(positions: usize, half: usize) -> (Vec<f32>, Vec<f32>) {
    let angles = (0..positions).flat_map(|p| (0..half).map(move |i| p as f32 * 0.9f32.powi(i as i32)));
    angles.map(|angle| (angle.cos(), angle.sin())).unzip()
}

/// The definition, in f64, one query at a time.
fn reference(
    shape: AttentionShape,
    tree: Option<&AttentionTree>,
    qkv: &[f64],
    cosine: &[f32],
    sine: &[f32],
) -> Vec<f64> {
    let AttentionShape { batch, positions, heads, key_heads, head_dim, rotary, window, scale, cap } = shape;
    let (width, half) = (shape.width(), rotary / 2);
    let head = |row: usize, position: usize, index: usize, turn: bool| -> Vec<f64> {
        let values = &qkv[(row * positions + position) * width + index * head_dim..][..head_dim];
        if !turn {
            return values.to_vec();
        }
        let table = |t: &[f32], i: usize| f64::from(t[position * half + i % half]);
        let turned = (0..head_dim).map(|i| {
            if i >= rotary {
                return values[i];
            }
            let other = if i < half { -values[i + half] } else { values[i - half] };
            values[i] * table(cosine, i) + other * table(sine, i)
        });
        turned.collect()
    };
    let mut out = vec![0.0; batch * positions * heads * head_dim];
    for (row, position) in (0..batch).flat_map(|row| (0..positions).map(move |p| (row, p))) {
        for h in 0..heads {
            let key_head = h / (heads / key_heads);
            let q = head(row, position, h, true);
            let near = |key: &usize| match tree {
                None => window.is_none_or(|window| position - key < window),
                Some(AttentionTree { ends, depths }) => {
                    position < ends[*key] && window.is_none_or(|window| depths[position] - depths[*key] < window)
                }
            };
            let seen: Vec<usize> = (0..=position).filter(near).collect();
            let scores: Vec<f64> = seen
                .iter()
                .map(|&key| {
                    let k = head(row, key, heads + key_head, true);
                    let score = q.iter().zip(k).map(|(a, b)| a * b).sum::<f64>() * f64::from(scale);
                    cap.map(f64::from).map_or(score, |cap| cap * (score / cap).tanh())
                })
                .collect();
            let sum: f64 = scores.iter().map(|s| s.exp()).sum();
            for (key, score) in seen.into_iter().zip(scores) {
                let v = head(row, key, heads + key_heads + key_head, false);
                for (i, v) in v.iter().enumerate() {
                    out[((row * positions + position) * heads + h) * head_dim + i] += score.exp() / sum * v;
                }
            }
        }
    }
    out
}

#[test]
fn outputs_and_gradients_match_the_definition() {
    let of = |positions: usize, heads: usize, key_heads: usize, head_dim: usize, window: Option<usize>| {
        AttentionShape { batch: 2, positions, window, ..AttentionShape::new(heads, key_heads, head_dim) }
    };
    let shapes = [
        of(1, 1, 1, 2, None),
        of(53, 4, 2, 10, None),
        of(70, 3, 1, 64, Some(17)),
        of(100, 2, 2, 36, Some(64)),
        AttentionShape { scale: 0.9, cap: Some(1.5), ..of(53, 4, 2, 10, None) },
        AttentionShape { scale: 0.3, cap: Some(2.0), ..of(100, 2, 1, 36, Some(21)) },
        AttentionShape { rotary: 6, ..of(53, 2, 1, 10, None) },
        AttentionShape { rotary: 4, ..of(20, 1, 1, 41, Some(7)) },
    ];
    for shape in shapes {
        assert_is_the_definition(shape, None);
    }
}

/// A beginning longer than a block, branches that fork again and again, a second tree, and places on their own.
fn tree() -> AttentionTree {
    let mut parents: Vec<Option<usize>> = (0..60usize).map(|place| place.checked_sub(1)).collect();
    for branch in 0..6 {
        let fork = parents.len();
        parents.extend([Some(59 - branch), Some(fork), Some(fork + 1)]);
        for _ in 0..3 {
            parents.push(Some(fork + 1));
            parents.push(Some(parents.len() - 1));
        }
    }
    parents.extend([None, Some(parents.len())]);
    parents.extend([None; 5]);
    let mut ends: Vec<usize> = (1..=parents.len()).collect();
    let mut depths = vec![0; parents.len()];
    for (place, parent) in parents.iter().enumerate() {
        depths[place] = parent.map_or(0, |parent| depths[parent] + 1);
        let mut above = *parent;
        while let Some(ancestor) = above {
            ends[ancestor] = place + 1;
            above = parents[ancestor];
        }
    }
    AttentionTree { ends, depths }
}

#[test]
fn a_query_in_a_tree_sees_what_it_follows() {
    let tree = tree();
    let positions = tree.ends.len();
    assert!(positions > 2 * BLOCK, "{positions}");
    for (window, cap) in [(None, None), (Some(9), None), (None, Some(1.5)), (Some(61), Some(1.5))] {
        let shape = AttentionShape { batch: 2, positions, window, cap, ..AttentionShape::new(4, 2, 10) };
        assert_is_the_definition(shape, Some(&tree));
    }
}

#[track_caller]
fn assert_is_the_definition(shape: AttentionShape, tree: Option<&AttentionTree>) {
    let AttentionShape { positions, heads, head_dim, rotary, .. } = shape;
    let qkv = values(2 * positions * shape.width(), 0.2);
    let gradient = values(2 * positions * heads * head_dim, 0.5);
    let (cosine, sine) = tables(positions, rotary / 2);
    let wide: Vec<f64> = qkv.iter().map(|v| f64::from(*v)).collect();
    let (out, log_sums) = attention(shape, tree, &qkv, &cosine, &sine);
    for (found, expected) in out.iter().zip(reference(shape, tree, &wide, &cosine, &sine)) {
        assert!((f64::from(*found) - expected).abs() < 3e-6, "{found} {expected}");
    }
    let back = attention_backward(shape, tree, &qkv, &cosine, &sine, &out, &log_sums, &gradient);
    let loss = |qkv: &[f64]| -> f64 {
        let out = reference(shape, tree, qkv, &cosine, &sine);
        out.iter().zip(&gradient).map(|(o, g)| o * f64::from(*g)).sum()
    };
    let step = (back.len() / 23).max(1);
    for index in (0..back.len()).step_by(step) {
        let at = |delta: f64| {
            let mut moved = wide.clone();
            moved[index] += delta;
            loss(&moved)
        };
        let expected = (at(1e-5) - at(-1e-5)) / 2e-5;
        assert!((f64::from(back[index]) - expected).abs() < 1e-5, "{index}: {} {expected}", back[index]);
    }
}

#[test]
fn bf16_differs_by_its_rounding_alone() {
    let shape = AttentionShape { batch: 1, positions: 60, ..AttentionShape::new(2, 1, 32) };
    let halves: Vec<half::bf16> = crate::convert(&values(60 * shape.width(), 0.2));
    let qkv: Vec<f32> = crate::convert(&halves);
    let gradient = values(60 * 64, 0.5);
    let (cosine, sine) = tables(60, 16);
    let ((a, a_sums), (b, b_sums)) =
        (attention(shape, None, &halves, &cosine, &sine), attention(shape, None, &qkv, &cosine, &sine));
    assert_eq!(a_sums, b_sums);
    assert!(a.iter().zip(&b).all(|(a, b)| (a.to_f32() - b).abs() <= 4e-3 * b.abs()));
    let a = attention_backward(shape, None, &halves, &cosine, &sine, &a, &a_sums, &gradient);
    let b = attention_backward(shape, None, &qkv, &cosine, &sine, &b, &b_sums, &gradient);
    assert!(a.iter().zip(&b).all(|(a, b)| (a.to_f32() - b).abs() < 2e-2));
}
