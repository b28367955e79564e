//! Numbers that say how diverse and how right samples are.

use std::collections::BTreeMap;

/// Entropy in nats of the empirical distribution of `samples`.
pub fn entropy<T: Ord>(samples: &[T]) -> f64 {
    let mut sizes: Vec<usize> = counts(samples).into_values().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    relaxed_semantic_entropy(&sizes)
}

/// The most that the entropy of `count` samples can be: no two are the same.
pub fn ceiling(count: usize) -> f64 {
    (count as f64).ln()
}

/// Entropy in nats of a distribution over outcomes whose probabilities are above 0.
pub fn entropy_of(probabilities: impl IntoIterator<Item = f64>) -> f64 {
    // Taken from 0: a sum would be -0 where there is one outcome.
    probabilities.into_iter().fold(0.0, |entropy, p| entropy - p * p.ln())
}

/// How often each sample occurs.
pub fn counts<T: Ord>(samples: &[T]) -> BTreeMap<&T, usize> {
    let mut counts = BTreeMap::new();
    for sample in samples {
        *counts.entry(sample).or_insert(0) += 1;
    }
    counts
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

/// The sizes of the clusters of `count` samples of which the pairs `alike` mean the same, the largest first: the connected
/// components.
pub fn clusters(count: usize, alike: impl IntoIterator<Item = (usize, usize)>) -> Vec<usize> {
    let mut parent: Vec<usize> = (0..count).collect();
    let root = |parent: &mut Vec<usize>, mut sample: usize| {
        while parent[sample] != sample {
            parent[sample] = parent[parent[sample]];
            sample = parent[sample];
        }
        sample
    };
    for (i, j) in alike {
        let (i, j) = (root(&mut parent, i), root(&mut parent, j));
        parent[j] = i;
    }
    let roots: Vec<usize> = (0..count).map(|sample| root(&mut parent, sample)).collect();
    let mut sizes: Vec<usize> = counts(&roots).into_values().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

/// Relaxed Semantic Entropy in nats of samples in clusters of these sizes, the largest first (arXiv 2506.09659):
/// `-sum p ln p`, `p = size / samples`. The 1e-9 that is added to `p` there guards against clusters without a sample,
/// which there are none of here; so clusters of equal texts give [`entropy`] to the last digit.
pub fn relaxed_semantic_entropy(clusters: &[usize]) -> f64 {
    let total: usize = clusters.iter().sum();
    entropy_of(clusters.iter().map(|size| *size as f64 / total as f64))
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
        // What is printed of it is no `-0.0`.
        assert!(entropy(&["a"; 5]).is_sign_positive() && entropy::<u32>(&[]).is_sign_positive());
    }

    #[test]
    fn total_variation_counts_what_lies_outside() {
        let (p, q) = ([0.5, 0.25, 0.25], [0.25, 0.25, 0.25]);
        assert_close(total_variation(&p, &q), 0.25);
        assert_eq!(total_variation(&p, &p), 0.0);
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
        assert_close(relaxed_semantic_entropy(&[1, 1, 1]), 1.0986);
        assert_close(relaxed_semantic_entropy(&[2, 1]), 0.6365);
        assert_eq!(relaxed_semantic_entropy(&[3]), 0.0);
        assert_close(relaxed_semantic_entropy(&[1; 10]), 10f64.ln());
    }

    /// To the bit, in whatever order the texts are sorted.
    #[test]
    fn clusters_of_equal_texts_have_the_entropy_of_the_texts() {
        for texts in
            [&["b", "b", "b", "a", "c", "c", "d"][..], &["x", "y", "y", "z", "z", "z"], &["q"], &["r", "s", "t"]]
        {
            let sizes = clusters(
                texts.len(),
                (0..texts.len()).flat_map(|i| (0..i).map(move |j| (i, j))).filter(|(i, j)| texts[*i] == texts[*j]),
            );
            assert_eq!(relaxed_semantic_entropy(&sizes).to_bits(), entropy(texts).to_bits(), "{texts:?}");
            assert!(entropy(texts) <= ceiling(texts.len()) + 1e-12);
        }
    }

    #[test]
    fn clusters_are_connected_components() {
        assert_eq!(clusters(4, []), [1, 1, 1, 1]);
        assert_eq!(clusters(4, [(2, 3), (3, 2), (1, 1)]), [2, 1, 1]);
        // A chain joins its ends, in whatever order its links come.
        assert_eq!(clusters(5, [(0, 1), (3, 4), (1, 3)]), [4, 1]);
        assert_eq!(clusters(0, []), [0; 0]);
    }
}
