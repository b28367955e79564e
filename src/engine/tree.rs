//! The targets of a prompt as one packed sequence: the prompt once, and every common beginning of targets once, as a trie
//! whose branches see their own ancestors and nothing else.
//!
//! What a token of a target costs depends on the tokens before it alone. So two targets with the same beginning have the
//! same nll there, and its sum weighted by `p*` is the nll once, weighted by the sum of their `p*`: the loss and its
//! gradient are those of the targets one by one.

use std::collections::HashMap;

use datasets::Example;
use losses::Row;

use super::batch::Learned;
use crate::model::{Context, Decoder, Visibility};

/// A trie of rows of tokens.
pub struct Tree {
    /// The token of each node; a node stands after its parent.
    pub ids: Vec<u32>,
    /// Number of tokens before each.
    positions: Vec<usize>,
    parents: Vec<Option<usize>>,
    /// The place of each in `learned`, if it is learned.
    places: Vec<Option<usize>>,
    /// Of each row, the nodes of its tokens.
    pub paths: Vec<Vec<usize>>,
    /// The tokens that some row learns, each weighted by the sum of its rows' weights.
    pub learned: Vec<Learned>,
}

impl Tree {
    /// The trie of the examples at `indices`.
    pub fn new(examples: &[Example], indices: &[usize]) -> Self {
        let mut tree = Self {
            ids: Vec::new(),
            positions: Vec::new(),
            parents: Vec::new(),
            places: Vec::new(),
            paths: Vec::new(),
            learned: Vec::new(),
        };
        let mut children: HashMap<(Option<usize>, u32), usize> = HashMap::new();
        for &index in indices {
            let example = &examples[index];
            let length = example.learned.iter().filter(|learned| **learned).count();
            let (mut parent, mut path, mut position) = (None, Vec::with_capacity(example.ids.len()), 0);
            for (depth, (&id, &learned)) in example.ids.iter().zip(&example.learned).enumerate() {
                let node = *children.entry((parent, id)).or_insert_with(|| {
                    tree.ids.push(id);
                    tree.positions.push(depth);
                    tree.parents.push(parent);
                    tree.places.push(None);
                    tree.ids.len() - 1
                });
                if let (Some(parent), true) = (parent, learned) {
                    position += 1;
                    match tree.places[node] {
                        Some(place) => {
                            tree.learned[place].weight += example.weight;
                            tree.learned[place].rows += 1;
                        }
                        None => {
                            let weight = example.weight;
                            tree.places[node] = Some(tree.learned.len());
                            tree.learned.push(Learned {
                                hidden: parent,
                                target: id,
                                position,
                                length,
                                weight,
                                rows: 1,
                            });
                        }
                    }
                }
                path.push(node);
                parent = Some(node);
            }
            tree.paths.push(path);
        }
        tree
    }

    /// For each row, the sum of what its learned tokens have in `values`, one value for each of `learned`.
    pub fn row_sums(&self, rows: &[Row], values: &[f32]) -> Vec<f64> {
        let sum = |(row, path): (&Row, &Vec<usize>)| {
            let learned = path.iter().zip(&row.learned).filter(|(_, learned)| **learned);
            learned.filter_map(|(node, _)| self.places[*node]).map(|place| f64::from(values[place])).sum()
        };
        rows.iter().zip(&self.paths).map(sum).collect()
    }

    /// Number of tokens.
    pub fn length(&self) -> usize {
        self.ids.len()
    }

    /// Positions and ancestors of the packed sequence, padded to `width` with places that see themselves alone.
    pub fn context(&self, decoder: &Decoder, width: usize, dropout_seed: Option<u64>) -> Context {
        let (mut positions, mut parents) = (self.positions.clone(), self.parents.clone());
        positions.resize(width, 0);
        parents.resize(width, None);
        let visibility = Visibility::tree(&positions, &parents, decoder.device());
        decoder.context_at(&positions, 1, visibility, dropout_seed)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use datasets::Part;

    fn example(ids: &[u32], weight: f64) -> Example {
        Example {
            ids: ids.to_vec(),
            parts: vec![Part::Response; ids.len()],
            learned: (0..ids.len()).map(|token| token >= 2).collect(),
            weight,
            group: 0,
            file: "rows".into(),
            line: 1,
        }
    }

    #[test]
    fn common_beginnings_stand_once_with_the_sum_of_their_weights() {
        let examples = [example(&[1, 2, 3, 4], 0.5), example(&[1, 2, 3, 5, 6], 0.25), example(&[1, 2, 7], 0.25)];
        let tree = Tree::new(&examples, &[0, 1, 2]);
        assert_eq!(tree.ids, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tree.positions, [0, 1, 2, 3, 3, 4, 2]);
        assert_eq!(tree.parents, [None, Some(0), Some(1), Some(2), Some(2), Some(4), Some(1)]);
        assert_eq!(tree.paths, [vec![0, 1, 2, 3], vec![0, 1, 2, 4, 5], vec![0, 1, 6]]);
        let learned: Vec<(usize, u32, f64)> = tree.learned.iter().map(|l| (l.hidden, l.target, l.weight)).collect();
        assert_eq!(learned, [(1, 3, 0.75), (2, 4, 0.5), (2, 5, 0.25), (4, 6, 0.25), (1, 7, 0.25)]);
    }
}
