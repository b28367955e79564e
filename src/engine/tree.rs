//! The targets of a prompt as one packed sequence: the prompt once, and every common beginning of targets once, as a trie
//! whose branches see their own ancestors and nothing else.
//!
//! What a token of a target costs depends on the tokens before it alone. So two targets with the same beginning have the
//! same nll there, and its sum weighted by `p*` is the nll once, weighted by the sum of their `p*`: the loss and its
//! gradient are those of the targets one by one.

use std::collections::HashMap;

use backbone::{Context, Decoder, Visibility};
use datasets::Example;
use losses::Row;

use super::learned::Learned;

/// A trie of rows of tokens.
pub struct Tree {
    /// The token of each node; a node stands after its parent, and all nodes below a node side by side.
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
        // In the order of their tokens, rows that begin alike come one after the other, and so do all nodes below a node.
        let mut rows: Vec<(usize, &Example)> = indices.iter().map(|index| &examples[*index]).enumerate().collect();
        rows.sort_by(|(_, one), (_, other)| one.ids.cmp(&other.ids));
        tree.paths = vec![Vec::new(); rows.len()];
        for (row, example) in rows {
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
                        Some(place) => tree.learned[place].share(example.weight),
                        None => {
                            tree.places[node] = Some(tree.learned.len());
                            tree.learned.push(Learned::new(parent, id, (position, length), example));
                        }
                    }
                }
                path.push(node);
                parent = Some(node);
            }
            tree.paths[row] = path;
        }
        tree
    }

    /// For each row, the sum of what its learned tokens have in `values`, one value for each of `learned`.
    pub fn row_sums<T: Copy + Into<f64>>(&self, rows: &[Row], values: &[T]) -> Vec<f64> {
        let sum = |(row, path): (&Row, &Vec<usize>)| {
            let learned = path.iter().zip(&row.learned).filter(|(_, learned)| **learned);
            learned.filter_map(|(node, _)| self.places[*node]).map(|place| values[place].into()).sum::<f64>()
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
    use backbone::values;
    use faults::{Document, Section};
    use losses::Surroundings;

    use super::*;
    use crate::engine::backward::Recompute;
    use crate::engine::batch::Batch;
    use crate::engine::fixtures;
    use crate::engine::step::{StepSettings, Trainer};
    use crate::engine::totals::Sums;
    use crate::engine::trainee::Trainee;

    fn example(ids: &[u32], weight: f64) -> Example {
        Example { weight, ..fixtures::example(ids, 2) }
    }

    #[test]
    fn common_beginnings_stand_once_with_the_sum_of_their_weights() {
        let examples = [example(&[1, 2, 3, 4], 0.5), example(&[1, 2, 3, 5, 6], 0.25), example(&[1, 2, 7], 0.25)];
        let tree = Tree::new(&examples, &[0, 1, 2]);
        assert_eq!(tree.ids, [1, 2, 3, 4, 5, 6, 7]);
        assert_eq!(tree.positions, [0, 1, 2, 3, 3, 4, 2]);
        assert_eq!(tree.parents, [None, Some(0), Some(1), Some(2), Some(2), Some(4), Some(1)]);
        assert_eq!(tree.paths, [vec![0, 1, 2, 3], vec![0, 1, 2, 4, 5], vec![0, 1, 6]]);
        // However the rows come, what follows a node stands side by side.
        let mixed = Tree::new(&examples, &[2, 0, 1]);
        assert_eq!((mixed.ids, mixed.parents), (tree.ids, tree.parents));
        assert_eq!(mixed.paths, [vec![0, 1, 6], vec![0, 1, 2, 3], vec![0, 1, 2, 4, 5]]);
        let learned: Vec<(usize, u32, f64)> = tree.learned.iter().map(|l| (l.hidden, l.target, l.weight)).collect();
        assert_eq!(learned, [(1, 3, 0.75), (2, 4, 0.5), (2, 5, 0.25), (4, 6, 0.25), (1, 7, 0.25)]);
    }

    /// A prompt of 9 tokens, longer than Mistral's window, and targets that share beginnings.
    fn targets() -> Vec<Example> {
        let endings: [&[u32]; 5] = [&[20, 21, 2], &[20, 22, 2], &[20, 21, 23, 24, 25, 26, 2], &[30, 2], &[31, 29, 2]];
        let weights = [0.3, 0.1, 0.25, 0.15, 0.2];
        let prompt: Vec<u32> = vec![1, 7, 4, 13, 7, 9, 9, 27, 14];
        let row = |(ending, weight): (&&[u32], f64)| {
            let ids = [prompt.as_slice(), ending].concat();
            Example { weight, ..fixtures::example(&ids, prompt.len()) }
        };
        endings.iter().zip(weights).map(row).collect()
    }

    /// Sums and flat gradient of a step over `batches`.
    fn step(trainee: &mut Trainee, batches: &[Batch], recompute: Recompute) -> (Sums, Vec<f32>) {
        let document = Document::parse("recipe.toml", "", &[]).expect("an empty recipe");
        let mut objective = (losses::objective::DIFFUSE.build)(&mut document.root());
        let settings = StepSettings { recompute, ..fixtures::SETTINGS };
        let step = Trainer::new(trainee, objective.as_mut(), settings).gradient(1, batches).expect("one process");
        (step.totals.read(), values(step.gradient))
    }

    #[test]
    fn the_tree_has_the_loss_and_the_gradient_of_the_targets_one_by_one() {
        let examples = targets();
        let families =
            ["llama", "mistral", "qwen2", "qwen3", "llama3", "gemma", "gemma2", "gemma3", "olmo", "olmo2", "granite"];
        for family in families.into_iter().chain(["phi3", "olmo3", "smollm3", "ernie4_5"]) {
            let mut trainee = fixtures::trainee(family);
            let plain = [Batch::new(&examples, &[0, 1, 2, 3, 4], 8)];
            let (sums, gradient) = step(&mut trainee, &plain, Recompute::None);
            let whole = [Batch::packed(&examples, &[0, 1, 2, 3, 4], 8)];
            let parts = [Batch::packed(&examples, &[3, 0], 8), Batch::packed(&examples, &[1, 2, 4], 8)];
            for (batches, recompute) in
                [(&whole[..], Recompute::None), (&whole, Recompute::Blocks), (&parts, Recompute::None)]
            {
                let (found, found_gradient) = step(&mut trainee, batches, recompute);
                let numbers = |sums: &Sums| {
                    let tokens = plain[0].tokens_learned();
                    let of_the_model = [("loss", sums.loss), ("nll", sums.nll), ("entropy", sums.entropy)];
                    let of_the_model = of_the_model.map(|(name, value)| (name.to_owned(), value));
                    [of_the_model.to_vec(), sums.weight_diagnostics(tokens)].concat()
                };
                for ((name, found), (_, expected)) in numbers(&found).into_iter().zip(numbers(&sums)) {
                    assert!((found - expected).abs() < 1e-5 * expected, "{family}: {name} {found} is not {expected}");
                }
                assert_near(family, &found_gradient, &gradient);
            }
            assert!(whole[0].tokens_real() == 9 + 15 && plain[0].tokens_real() == 5 * 9 + 18);
        }
    }

    #[test]
    fn an_auxiliary_loss_sees_each_target_by_itself() {
        let examples = targets();
        let mut trainee = fixtures::trainee("llama");
        let surroundings = Surroundings {
            hidden_size: trainee.decoder.config.hidden_size,
            vocabulary: trainee.decoder.config.vocab_size,
            device: trainee.decoder.device().clone(),
            seed: 3,
            steps: 1,
            embeddings: None,
        };
        let builder = (losses::auxiliary::MTP.build)(&mut Section::probe());
        trainee.auxiliaries = vec![(builder.build)(&surroundings)];
        let (_, gradient) = step(&mut trainee, &[Batch::new(&examples, &[0, 1, 2, 3, 4], 8)], Recompute::None);
        let (_, found) = step(&mut trainee, &[Batch::packed(&examples, &[0, 1, 2, 3, 4], 8)], Recompute::None);
        assert_near("llama", &found, &gradient);
    }

    #[track_caller]
    fn assert_near(family: &str, found: &[f32], expected: &[f32]) {
        let largest = expected.iter().fold(0.0f32, |largest, value| largest.max(value.abs()));
        let error = found.iter().zip(expected).map(|(a, b)| (a - b).abs()).fold(0.0, f32::max);
        assert!(largest > 0.1 && error < 1e-5 * largest, "{family}: {error} in gradients up to {largest}");
    }
}
