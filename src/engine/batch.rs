//! A micro-batch: rows padded on the right to one width, or the targets of a prompt packed as a tree, and the places of
//! its learned tokens.

use std::ops::Range;

use backbone::{Context, Decoder};
use burn::tensor::{Device, Int, Tensor, TensorData};
use datasets::Example;
use losses::Row;

use super::learned::Learned;
use super::tree::Tree;

/// Rows of token ids with what the head and the losses need to know of them.
pub struct Batch {
    /// `[rows, width]`, padded with token 0: behind a causal mask no row sees its padding, and no padding is learned.
    ids: Vec<i32>,
    /// Number of rows.
    pub height: usize,
    /// Length of the padded rows.
    pub width: usize,
    /// The rows without padding.
    pub rows: Vec<Row>,
    /// The learned tokens, row after row.
    pub learned: Vec<Learned>,
    /// The learned tokens of each row, as ranges of `learned`.
    pub ranges: Vec<Range<usize>>,
    /// The prompt that each row belongs to.
    pub groups: Vec<usize>,
    /// The rows as one packed sequence, if they are: then there is one row of ids, and `ranges` is all of `learned`.
    tree: Option<Tree>,
}

impl Batch {
    /// Puts the examples at `indices` together, padded to a multiple of `multiple`.
    pub fn new(examples: &[Example], indices: &[usize], multiple: usize) -> Self {
        let longest = indices.iter().map(|&index| examples[index].ids.len()).max().unwrap_or(1);
        let width = longest.next_multiple_of(multiple);
        let mut batch = Self {
            ids: vec![0; indices.len() * width],
            height: indices.len(),
            width,
            rows: Vec::new(),
            learned: Vec::new(),
            ranges: Vec::new(),
            groups: Vec::new(),
            tree: None,
        };
        for (row, &index) in indices.iter().enumerate() {
            batch.put(row, index, &examples[index]);
        }
        batch
    }

    /// The examples at `indices` as one packed sequence, in which shared prefixes stand once.
    pub fn packed(examples: &[Example], indices: &[usize], multiple: usize) -> Self {
        let tree = Tree::new(examples, indices);
        let width = tree.length().next_multiple_of(multiple);
        let mut ids: Vec<i32> = tree.ids.iter().map(|id| token(*id)).collect();
        ids.resize(width, 0);
        Self {
            ids,
            height: 1,
            width,
            rows: indices.iter().map(|&index| row_of(&examples[index], index)).collect(),
            learned: tree.learned.clone(),
            ranges: std::iter::once(0..tree.learned.len()).collect(),
            groups: indices.iter().map(|&index| examples[index].group).collect(),
            tree: Some(tree),
        }
    }

    fn put(&mut self, row: usize, index: usize, example: &Example) {
        let start = row * self.width;
        for (place, id) in self.ids[start..].iter_mut().zip(&example.ids) {
            *place = token(*id);
        }
        let targets: Vec<usize> = (1..example.ids.len()).filter(|&token| example.learned[token]).collect();
        let first = self.learned.len();
        self.learned.extend(targets.iter().enumerate().map(|(place, &token)| {
            let place = (place + 1, targets.len());
            Learned::new(start + token - 1, example.ids[token], place, example)
        }));
        self.groups.push(example.group);
        self.ranges.push(first..self.learned.len());
        self.rows.push(row_of(example, index));
    }

    /// Positions, visibility and dropout of a pass over this batch.
    pub fn context(&self, decoder: &Decoder, dropout_seed: Option<u64>) -> Context {
        match &self.tree {
            Some(tree) => tree.context(decoder, self.width, dropout_seed),
            None => {
                let longest = self.rows.iter().map(|row| row.ids.len()).max().unwrap_or(0);
                decoder.context(0, self.width, longest, dropout_seed)
            }
        }
    }

    /// The hidden states of each row by itself, right-padded, from those of the batch, `[rows, width, hidden_size]`; and
    /// where each of them comes from, if the rows are packed.
    pub fn unpack(&self, hidden: Tensor<3>) -> (Tensor<3>, Option<Tensor<1, Int>>) {
        let Some(tree) = &self.tree else { return (hidden, None) };
        let [_, packed, hidden_size] = hidden.dims();
        let width = tree.paths.iter().map(Vec::len).max().unwrap_or(1);
        let places: Vec<i32> = tree
            .paths
            .iter()
            .flat_map(|path| (0..width).map(|place| path.get(place).map_or(0, |node| *node as i32)))
            .collect();
        let rows = tree.paths.len();
        let places: Tensor<1, Int> =
            Tensor::from_data(TensorData::new(places, [rows * width]), &hidden.device().inner());
        let unpacked = hidden.reshape([packed, hidden_size]).select(0, places.clone());
        (unpacked.reshape([rows, width, hidden_size]), Some(places))
    }

    /// The learned tokens of each row within a range of all, counted from its start; rows that have none are left out.
    pub fn rows_within(&self, range: Range<usize>) -> Vec<Range<usize>> {
        (self.ranges.iter())
            .map(|row| row.start.max(range.start)..row.end.min(range.end))
            .filter(|row| row.start < row.end)
            .map(|row| row.start - range.start..row.end - range.start)
            .collect()
    }

    /// `[rows, width]`
    pub fn ids(&self, device: &Device) -> Tensor<2, Int> {
        Tensor::from_data(TensorData::new(self.ids.clone(), [self.height, self.width]), device)
    }

    /// Tokens processed, padding included.
    pub fn tokens(&self) -> usize {
        self.height * self.width
    }

    /// Learned tokens of all rows; one that rows share counts for each.
    pub fn tokens_learned(&self) -> usize {
        self.learned.iter().map(|token| token.rows).sum()
    }

    /// For each row, the sum of what its learned tokens have in `values`, one value for each of `learned`.
    pub fn row_sums<T: Copy + Into<f64>>(&self, values: &[T]) -> Vec<f64> {
        let Some(tree) = &self.tree else {
            return self
                .ranges
                .iter()
                .map(|row| values[row.clone()].iter().map(|value| (*value).into()).sum())
                .collect();
        };
        tree.row_sums(&self.rows, values)
    }

    /// True where rows are packed as a tree.
    pub fn is_tree(&self) -> bool {
        self.tree.is_some()
    }

    /// Tokens without padding.
    pub fn tokens_real(&self) -> usize {
        match &self.tree {
            Some(tree) => tree.length(),
            None => self.rows.iter().map(|row| row.ids.len()).sum(),
        }
    }
}

fn row_of(example: &Example, index: usize) -> Row {
    Row { ids: example.ids.clone(), learned: example.learned.clone(), example: index }
}

fn token(id: u32) -> i32 {
    i32::try_from(id).expect("a vocabulary has fewer than 2^31 tokens")
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures::example;

    #[test]
    fn a_learned_token_is_predicted_by_the_hidden_state_before_it() {
        let examples = [example(&[5, 6, 7], 2), example(&[8, 9, 10, 11, 12], 3)];
        let batch = Batch::new(&examples, &[1, 0], 4);
        assert_eq!((batch.width, batch.tokens(), batch.tokens_real()), (8, 16, 8));
        let seen: Vec<(usize, u32, usize, usize)> =
            batch.learned.iter().map(|l| (l.hidden, l.target, l.position, l.length)).collect();
        assert_eq!(seen, [(2, 11, 1, 2), (3, 12, 2, 2), (9, 7, 1, 1)]);
        assert_eq!(batch.ranges, [0..2, 2..3]);
        assert_eq!(batch.ids[8..16], [5, 6, 7, 0, 0, 0, 0, 0]);
    }

    #[test]
    fn a_padding_token_that_is_also_the_end_token_stays_learned() {
        let batch = Batch::new(&[example(&[3, 0], 1)], &[0], 4);
        assert_eq!(batch.learned.iter().map(|l| l.target).collect::<Vec<_>>(), [0]);
    }
}
