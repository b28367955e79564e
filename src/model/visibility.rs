//! Which positions a position sees, where that is not simply all before it: a tree of continuations packed into one
//! sequence, or rows of different lengths side by side.

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};

/// Which keys each query sees, beside the order in the sequence: none sees what stands after it.
pub struct Visibility {
    /// True where the key is hidden from the query, `[1 or batch, 1, queries, keys]`.
    hidden: Tensor<4, Bool>,
    /// Position of the query less that of the key, `[1, 1, queries, keys]`: what a sliding window goes by.
    distance: Tensor<4, Int>,
    /// The largest distance between a query and a key that it sees.
    farthest: usize,
}

impl Visibility {
    /// A tree in one sequence: each place sees its ancestors and itself. A place's parent stands before it.
    pub fn tree(positions: &[usize], parents: &[Option<usize>], device: &Device) -> Self {
        let places = positions.len();
        let mut hidden = vec![true; places * places];
        for (place, parent) in parents.iter().enumerate() {
            if let Some(parent) = parent {
                hidden.copy_within(parent * places..(parent + 1) * places, place * places);
            }
            hidden[place * places + place] = false;
        }
        let distance: Vec<i32> =
            positions.iter().flat_map(|query| positions.iter().map(move |key| *query as i32 - *key as i32)).collect();
        let shape = [1, 1, places, places];
        Self {
            hidden: Tensor::from_data(TensorData::new(hidden, shape), device),
            distance: Tensor::from_data(TensorData::new(distance, shape), device),
            farthest: positions.iter().copied().max().unwrap_or(0),
        }
    }

    /// Rows that are padded on the left by so many places each; the queries are the last of `keys` places.
    pub fn padded(padding: &[usize], queries: usize, keys: usize, device: &Device) -> Self {
        let query_places = keys - queries..keys;
        let mut hidden = Vec::with_capacity(padding.len() * queries * keys);
        for &padding in padding {
            for query in query_places.clone() {
                // Padding sees itself: a place that saw nothing would not be a number, and spoil what it is multiplied by.
                hidden.extend((0..keys).map(|key| key < padding && key != query));
            }
        }
        let distance: Vec<i32> =
            query_places.flat_map(|query| (0..keys).map(move |key| query as i32 - key as i32)).collect();
        Self {
            hidden: Tensor::from_data(TensorData::new(hidden, [padding.len(), 1, queries, keys]), device),
            distance: Tensor::from_data(TensorData::new(distance, [1, 1, queries, keys]), device),
            farthest: keys.saturating_sub(1),
        }
    }

    /// True where the key is hidden, `[batch, heads, queries, keys]`.
    pub(super) fn mask(&self, window: Option<usize>, [batch, heads]: [usize; 2]) -> Tensor<4, Bool> {
        let hidden = match window.filter(|window| *window <= self.farthest) {
            Some(window) => {
                let far = self.distance.clone().greater_equal_elem(window as i64);
                let [rows, _, queries, keys] = self.hidden.dims();
                self.hidden.clone().bool_or(far.expand([rows, 1, queries, keys]))
            }
            None => self.hidden.clone(),
        };
        let [_, _, queries, keys] = hidden.dims();
        hidden.expand([batch, heads, queries, keys])
    }
}
