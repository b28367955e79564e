//! Numbers that say how diverse and how right samples are.

use std::collections::BTreeMap;

/// Entropy in nats of the empirical distribution of `samples`.
pub fn entropy<T: Ord>(samples: &[T]) -> f64 {
    let total = samples.len().max(1) as f64;
    counts(samples).values().map(|count| *count as f64 / total).map(|p| -p * p.ln()).sum()
}

/// How often each sample occurs.
pub fn counts<T: Ord>(samples: &[T]) -> BTreeMap<&T, usize> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        *counts.entry(sample).or_insert(0) += 1;
    }
    counts
}

/// `KL(p || q)` in nats over an enumerated support; infinite where `q` has no probability and `p` has.
pub fn divergence(p: &[f64], q: &[f64]) -> f64 {
    p.iter().zip(q).filter(|(p, _)| **p > 0.0).map(|(p, q)| p * (p / q).ln()).sum()
}

/// Total variation between `p` and `q` over the support of `p`; what `q` lacks to 1 lies outside of it.
pub fn total_variation(p: &[f64], q: &[f64]) -> f64 {
    let outside = (1.0 - q.iter().sum::<f64>()).max(0.0);
    (p.iter().zip(q).map(|(p, q)| (p - q).abs()).sum::<f64>() + outside) / 2.0
}

/// The unbiased estimate of the chance that one of `k` samples is right, from `n` samples of which `correct` are:
/// `1 - C(n - c, k) / C(n, k)` (Chen et al. 2021, arXiv 2107.03374). `k` is at most `n`.
pub fn pass_at_k(n: usize, correct: usize, k: usize) -> f64 {
    if n - correct.min(n) < k {
        return 1.0;
    }
    1.0 - (n - correct + 1..=n).map(|i| 1.0 - k as f64 / i as f64).product::<f64>()
}

/// Relaxed Semantic Entropy of `m` responses (arXiv 2506.09659): `similar(i, j)` says whether a judge holds response `i`
/// for the same as `j`. Two are joined when both orders say so; clusters are connected components;
/// `-sum p ln(p + 1e-9)` with `p = size / m`.
pub fn relaxed_semantic_entropy(m: usize, similar: impl Fn(usize, usize) -> bool) -> f64 {
    let mut cluster: Vec<usize> = (0..m).collect();
    for i in 0..m {
        for j in i + 1..m {
            if cluster[i] != cluster[j] && similar(i, j) && similar(j, i) {
                let (from, to) = (cluster[j], cluster[i]);
                cluster.iter_mut().filter(|cluster| **cluster == from).for_each(|cluster| *cluster = to);
            }
        }
    }
    counts(&cluster).values().map(|size| *size as f64 / m as f64).map(|p| -p * (p + 1e-9).ln()).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn assert_close(found: f64, expected: f64) {
        assert!((found - expected).abs() < 5e-5, "{found} is not {expected}");
    }

    #[test]
    fn entropy_is_that_of_the_frequencies() {
        assert_close(entropy(&["a", "b", "a", "c"]), 0.5 * 2f64.ln() + 0.5 * 4f64.ln());
        assert_eq!(entropy(&["a"; 5]), 0.0);
        assert_eq!(entropy::<u32>(&[]), 0.0);
    }

    #[test]
    fn distances_to_a_distribution() {
        let (p, q) = ([0.5, 0.25, 0.25], [0.25, 0.25, 0.25]);
        assert_close(divergence(&p, &q), 0.5 * 2f64.ln());
        assert_close(total_variation(&p, &q), 0.25);
        assert_eq!(divergence(&p, &[0.5, 0.5, 0.0]), f64::INFINITY);
        assert_eq!((divergence(&p, &p), total_variation(&p, &p)), (0.0, 0.0));
    }

    #[test]
    fn pass_at_k_has_the_published_values() {
        for (k, expected) in [(1, 0.3), (5, 0.916_667), (10, 1.0)] {
            assert!((pass_at_k(10, 3, k) - expected).abs() < 1e-6, "{k}");
        }
        assert_eq!((pass_at_k(10, 0, 10), pass_at_k(4, 4, 1)), (0.0, 1.0));
    }

    #[test]
    fn relaxed_semantic_entropy_has_the_published_values() {
        assert_close(relaxed_semantic_entropy(3, |i, j| i == j), 1.0986);
        assert_close(relaxed_semantic_entropy(3, |i, j| i.max(j) < 2), 0.6365);
        assert_close(relaxed_semantic_entropy(3, |_, _| true), 0.0);
        // One order alone joins nothing; 0-1 and 1-2 join 0 with 2.
        assert_close(relaxed_semantic_entropy(3, |i, j| i < j), 1.0986);
        assert_close(relaxed_semantic_entropy(3, |i, j| i.abs_diff(j) == 1), 0.0);
    }
}
