//! What a block of queries sees: keys side by side, or places of a tree.

use std::ops::Range;

/// Continuations of one beginning packed into one sequence: each place stands before all that follow it in the tree, these
/// side by side, and sees nothing but what it follows and itself.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AttentionTree {
    /// Behind the last place of the tree that begins at each place.
    pub ends: Vec<usize>,
    /// Number of places that each follows: what a window goes by.
    pub depths: Vec<usize>,
}

impl AttentionTree {
    pub(super) fn check(&self, positions: usize) {
        assert!(self.ends.len() == positions && self.depths.len() == positions, "a tree of another length");
        let inside = |(place, end): (usize, &usize)| (place + 1..=positions).contains(end);
        assert!(self.ends.iter().enumerate().all(inside), "a place ends behind itself and inside of the sequence");
    }

    /// Whether `query` stands in the tree that begins at `key`.
    pub fn follows(&self, query: usize, key: usize) -> bool {
        key <= query && query < self.ends[key]
    }

    pub(super) fn sees(&self, query: usize, key: usize, window: Option<usize>) -> bool {
        self.follows(query, key) && window.is_none_or(|window| self.depths[query] - self.depths[key] < window)
    }

    /// What a query of `block` may see: a place before the block that any of them follows, all of its first one does.
    pub(super) fn places(&self, block: &Range<usize>) -> Vec<usize> {
        (0..block.start).filter(|place| self.ends[*place] > block.start).chain(block.clone()).collect()
    }
}

/// The keys that a block of queries sees.
pub(super) struct Seen {
    /// The first of those that lie side by side.
    pub(super) first: usize,
    pub(super) count: usize,
    /// Places of a tree, which do not lie side by side.
    pub(super) places: Option<Vec<usize>>,
}

/// Keys or values of one head, by rows and by columns.
pub(super) struct Head {
    /// `[count, width]`
    rows: Vec<f32>,
    /// `[width, count]`
    columns: Vec<f32>,
    count: usize,
    width: usize,
}

impl Head {
    pub(super) fn new(rows: Vec<f32>, count: usize, width: usize) -> Self {
        Self { columns: transpose(&rows, count, width), rows, count, width }
    }

    pub(super) fn pick(&self, places: &[usize]) -> Self {
        let rows = places.iter().flat_map(|place| &self.rows[place * self.width..(place + 1) * self.width]);
        Self::new(rows.copied().collect(), places.len(), self.width)
    }

    /// Rows from `first` on, with their stride.
    pub(super) fn rows(&self, first: usize) -> (*const f32, usize) {
        (self.rows[first * self.width..].as_ptr(), self.width)
    }

    /// Columns from row `first` on, with their stride.
    pub(super) fn columns(&self, first: usize) -> (*const f32, usize) {
        (self.columns[first..].as_ptr(), self.count)
    }
}

impl Seen {
    /// Copies of the keys and values that are seen, where they do not lie side by side.
    pub(super) fn pick(&self, keys: &Head, values: &Head) -> Option<(Head, Head)> {
        self.places.as_ref().map(|places| (keys.pick(places), values.pick(places)))
    }

    /// Adds the gradients of what is seen to those of all, `[positions, width]`.
    pub(super) fn scatter(&self, gradients: &mut [f32], seen: &[f32], width: usize) {
        for (place, row) in self.places.iter().flatten().zip(seen.chunks_exact(width)) {
            let sums = &mut gradients[place * width..(place + 1) * width];
            sums.iter_mut().zip(row).for_each(|(sum, value)| *sum += value);
        }
    }

    /// Puts `value` where `query` does not see one of the places.
    pub(super) fn hide(
        &self,
        scores: &mut [f32],
        tree: Option<&AttentionTree>,
        query: usize,
        window: Option<usize>,
        value: f32,
    ) {
        let (Some(places), Some(tree)) = (&self.places, tree) else { return };
        for (score, place) in scores.iter_mut().zip(places) {
            if !tree.sees(query, *place, window) {
                *score = value;
            }
        }
    }
}

/// `[rows, columns]` to `[columns, rows]`.
fn transpose(values: &[f32], rows: usize, columns: usize) -> Vec<f32> {
    let mut turned = vec![0.0; values.len()];
    for first in (0..rows).step_by(16) {
        for column in 0..columns {
            for row in first..(first + 16).min(rows) {
                turned[column * rows + row] = values[row * columns + column];
            }
        }
    }
    turned
}
