//! Which samples mean the same, from a judge of pairs: two ways, which differ where the judge is not transitive.

use std::collections::BTreeMap;

/// The sizes of the clusters of `count` samples of which the pairs `alike` mean the same, the largest first: the connected
/// components, as Relaxed Semantic Entropy has them. One bridge joins two clusters.
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
    let mut members: BTreeMap<usize, usize> = BTreeMap::new();
    for sample in 0..count {
        *members.entry(root(&mut parent, sample)).or_default() += 1;
    }
    let mut sizes: Vec<usize> = members.into_values().collect();
    sizes.sort_unstable_by(|a, b| b.cmp(a));
    sizes
}

/// The class of each of `count` samples, from 0: that of the first class whose first member means the same, else a new one,
/// as NoveltyBench and semantic entropy have it. The order of the samples matters.
pub fn greedy_classes(count: usize, mut same: impl FnMut(usize, usize) -> bool) -> Vec<usize> {
    let mut firsts: Vec<usize> = Vec::new();
    let mut classes = Vec::with_capacity(count);
    for sample in 0..count {
        let known = firsts.iter().position(|first| same(*first, sample));
        classes.push(known.unwrap_or(firsts.len()));
        if known.is_none() {
            firsts.push(sample);
        }
    }
    classes
}

/// Both of the above by one judge: the sizes of the clusters, and the class of each sample.
pub fn judged(count: usize, same: impl Fn(usize, usize) -> bool) -> (Vec<usize>, Vec<usize>) {
    let pairs = (0..count).flat_map(|i| (i + 1..count).map(move |j| (i, j)));
    (clusters(count, pairs.filter(|(i, j)| same(*i, *j))), greedy_classes(count, &same))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clusters_are_connected_components() {
        assert_eq!(clusters(4, []), [1, 1, 1, 1]);
        assert_eq!(clusters(4, [(2, 3), (3, 2), (1, 1)]), [2, 1, 1]);
        // A chain joins its ends, in whatever order its links come.
        assert_eq!(clusters(5, [(0, 1), (3, 4), (1, 3)]), [4, 1]);
        assert_eq!(clusters(0, []), [0; 0]);
    }

    #[test]
    fn a_bridge_joins_components_and_no_classes() {
        // 0 - 1 - 2, where 0 and 2 are not the same.
        let same = |i: usize, j: usize| i.abs_diff(j) <= 1;
        assert_eq!(clusters(3, [(0, 1), (1, 2)]), [3]);
        assert_eq!(greedy_classes(3, same), [0, 0, 1]);
        assert_eq!(greedy_classes(4, |_, _| false), [0, 1, 2, 3]);
        assert!(greedy_classes(0, same).is_empty());
    }
}
