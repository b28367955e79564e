//! What passes between an auxiliary loss and a frozen sentence encoder, which this crate does not know.
//!
//! The loss says before training which texts of each row it needs ([`Sentences`]); whoever runs the training decodes
//! them, embeds them once, and hands the vectors back ([`Embeddings`]).

use faults::Place;

use crate::Row;

/// Texts to be embedded before training, and by what.
pub struct Sentences {
    /// The encoder as the recipe names it: a folder, a name on the hub, or one that is built in.
    pub encoder: String,
    /// Where the recipe names it.
    pub place: Place,
    /// Put before every text.
    pub prefix: String,
    /// The token ids of each text of a row, in the model's own vocabulary. A pure function of the row.
    pub texts: Texts,
    /// Where the recipe says that a row learns from the texts of another training row: one row with a text is too few then.
    pub from_others: Option<Place>,
}

/// The token ids of each text of a row.
pub type Texts = Box<dyn Fn(&Row) -> Vec<Vec<u32>>>;

/// The embeddings of all rows of a run.
#[derive(Debug, Clone, PartialEq)]
pub struct Embeddings {
    /// Width of the vectors.
    pub dimension: usize,
    /// Embeddings of the training rows.
    pub train: RowVectors,
    /// Embeddings of the held-out rows.
    pub eval: RowVectors,
}

/// For each row of a data set, the embeddings of its texts.
#[derive(Debug, Clone, PartialEq)]
pub struct RowVectors {
    dimension: usize,
    /// `[texts, dimension]`; zeros for a text without a word.
    values: Vec<f32>,
    /// The first text of each row, and the number of all texts.
    starts: Vec<usize>,
}

impl RowVectors {
    /// Vectors of unit length in the order of the rows; zeros stand for a text without a word, which has no embedding.
    ///
    /// # Shapes
    /// - `values`: `[sum of counts, dimension]`, flat; `counts`: the number of texts of each row.
    pub fn new(dimension: usize, values: Vec<f32>, counts: &[usize]) -> Self {
        let mut starts = vec![0];
        starts.extend(counts.iter().scan(0, |sum, count| {
            *sum += count;
            Some(*sum)
        }));
        assert_eq!(values.len(), starts[counts.len()] * dimension, "one vector for each text");
        Self { dimension, values, starts }
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.starts.len() - 1
    }

    /// Whether a text of row `example` has a word.
    pub fn has_vector(&self, example: usize) -> bool {
        self.of(example).flatten().next().is_some()
    }

    /// The vectors of the texts of row `example`; `None` where a text had no word.
    pub fn of(&self, example: usize) -> impl ExactSizeIterator<Item = Option<&[f32]>> {
        let range = self.starts[example]..self.starts[example + 1];
        range.map(|text| {
            let vector = &self.values[text * self.dimension..(text + 1) * self.dimension];
            vector.iter().any(|value| *value != 0.0).then_some(vector)
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_row_gets_its_own_vectors_back() {
        let vectors = RowVectors::new(2, vec![1.0, 0.0, 0.0, 0.0, 0.6, 0.8], &[2, 0, 1]);
        let of = |row| vectors.of(row).collect::<Vec<_>>();
        assert_eq!(of(0), [Some(&[1.0, 0.0][..]), None]);
        assert_eq!(of(1), [None::<&[f32]>; 0]);
        assert_eq!(of(2), [Some(&[0.6, 0.8][..])]);
        assert_eq!((0..vectors.rows()).map(|row| vectors.has_vector(row)).collect::<Vec<_>>(), [true, false, true]);
    }
}
