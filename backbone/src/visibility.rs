//! Which positions a position sees, where that is not simply all before it: a tree of continuations packed into one
//! sequence, or rows of different lengths side by side.

use std::cell::OnceCell;
use std::sync::Arc;

use burn::tensor::{Bool, Device, Int, Tensor, TensorData};
use kernels::AttentionTree;

/// Which keys each query sees, beside the order in the sequence: none sees what stands after it.
pub struct Visibility {
    layout: Layout,
    device: Device,
    /// Made when an attention is composed that needs it: it grows with the square of the places.
    mask: OnceCell<Mask>,
    /// Made when a kernel needs it.
    #[cfg(feature = "cuda-untuned")]
    seen: OnceCell<Tensor<1, Int>>,
}

enum Layout {
    Tree(Arc<AttentionTree>),
    /// Rows padded on the left, and the numbers of queries and keys.
    Padded(Vec<usize>, [usize; 2]),
}

struct Mask {
    /// True where the key is hidden from the query, `[1 or batch, 1, queries, keys]`.
    hidden: Tensor<4, Bool>,
    /// Position of the query less that of the key, `[1, 1, queries, keys]`: what a sliding window goes by.
    distance: Tensor<4, Int>,
    /// The largest distance between a query and a key that it sees.
    farthest: usize,
}

impl Visibility {
    /// A tree in one sequence: each place sees its ancestors and itself. A place stands before all that follow it, and
    /// these side by side.
    pub fn tree(positions: &[usize], parents: &[Option<usize>], device: &Device) -> Self {
        let mut ends: Vec<usize> = (1..=positions.len()).collect();
        for (place, parent) in parents.iter().enumerate().rev() {
            if let Some(parent) = parent {
                ends[*parent] = ends[*parent].max(ends[place]);
            }
        }
        let tree = AttentionTree { ends, depths: positions.to_vec() };
        Self::new(Layout::Tree(Arc::new(tree)), device)
    }

    /// Rows that are padded on the left by so many places each; the queries are the last of `keys` places.
    pub fn padded(padding: &[usize], queries: usize, keys: usize, device: &Device) -> Self {
        Self::new(Layout::Padded(padding.to_vec(), [queries, keys]), device)
    }

    fn new(layout: Layout, device: &Device) -> Self {
        Self {
            layout,
            device: device.clone(),
            mask: OnceCell::new(),
            #[cfg(feature = "cuda-untuned")]
            seen: OnceCell::new(),
        }
    }

    /// The tree, if it is one.
    pub(super) fn as_tree(&self) -> Option<Arc<AttentionTree>> {
        match &self.layout {
            Layout::Tree(tree) => Some(tree.clone()),
            Layout::Padded(..) => None,
        }
    }

    /// The same for kernels of a GPU, as [`cube::seen`] says it: a key is seen by what stands before its end.
    #[cfg(feature = "cuda-untuned")]
    pub(super) fn seen(&self) -> Tensor<1, Int> {
        let made = self.seen.get_or_init(|| {
            let word = |place: &usize| *place as u32;
            let words = match &self.layout {
                Layout::Tree(tree) => {
                    let [ends, depths] = [&tree.ends, &tree.depths].map(|all| all.iter().map(word).collect::<Vec<_>>());
                    cube::seen(&ends, &depths, ends.len())
                }
                Layout::Padded(padding, [_, keys]) => {
                    // Padding is seen by itself alone.
                    let end = |key: usize, padding: usize| if key < padding { key + 1 } else { *keys } as u32;
                    let ends: Vec<u32> = padding.iter().flat_map(|p| (0..*keys).map(|key| end(key, *p))).collect();
                    let depths: Vec<u32> = padding.iter().flat_map(|_| 0..*keys as u32).collect();
                    cube::seen(&ends, &depths, *keys)
                }
            };
            let words: Vec<i32> = words.into_iter().map(|word| word as i32).collect();
            let count = words.len();
            Tensor::from_data(TensorData::new(words, [count]), &self.device)
        });
        made.clone()
    }

    /// True where the key is hidden, `[batch, heads, queries, keys]`.
    pub(super) fn mask(&self, window: Option<usize>, [batch, heads]: [usize; 2]) -> Tensor<4, Bool> {
        let Mask { hidden, distance, farthest } = self.mask.get_or_init(|| match &self.layout {
            Layout::Tree(tree) => tree_mask(tree, &self.device),
            Layout::Padded(padding, [queries, keys]) => padded_mask(padding, *queries, *keys, &self.device),
        });
        let hidden = match window.filter(|window| window <= farthest) {
            Some(window) => {
                let far = distance.clone().greater_equal_elem(window as i64);
                let [rows, _, queries, keys] = hidden.dims();
                hidden.clone().bool_or(far.expand([rows, 1, queries, keys]))
            }
            None => hidden.clone(),
        };
        let [_, _, queries, keys] = hidden.dims();
        hidden.expand([batch, heads, queries, keys])
    }
}

fn tree_mask(tree: &AttentionTree, device: &Device) -> Mask {
    let places = tree.depths.len();
    let hidden: Vec<bool> =
        (0..places).flat_map(|query| (0..places).map(move |key| !tree.follows(query, key))).collect();
    let depth = |place: &usize| *place as i32;
    let distances = tree.depths.iter().flat_map(|query| tree.depths.iter().map(move |key| depth(query) - depth(key)));
    let shape = [1, 1, places, places];
    Mask {
        hidden: Tensor::from_data(TensorData::new(hidden, shape), device),
        distance: Tensor::from_data(TensorData::new(distances.collect::<Vec<i32>>(), shape), device),
        farthest: tree.depths.iter().copied().max().unwrap_or(0),
    }
}

fn padded_mask(padding: &[usize], queries: usize, keys: usize, device: &Device) -> Mask {
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
    Mask {
        hidden: Tensor::from_data(TensorData::new(hidden, [padding.len(), 1, queries, keys]), device),
        distance: Tensor::from_data(TensorData::new(distance, [1, 1, queries, keys]), device),
        farthest: keys.saturating_sub(1),
    }
}
