//! Targets of other rows: the control that tells what a meaning does from what any target would do.

use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::{RngCore, SeedableRng};

use super::Set;
use crate::RowVectors;

/// The training rows that have a target to lend.
pub struct Lenders {
    /// Rising.
    rows: Vec<usize>,
}

impl Lenders {
    /// Whoever runs the training has seen to it that there are two: [`crate::Sentences::from_others`].
    pub fn new(train: &RowVectors) -> Self {
        Self { rows: (0..train.rows()).filter(|row| train.has_vector(*row)).collect() }
    }

    /// The row that lends its targets to `example`, another one at every `seed`, which is that of the step. All other rows
    /// are alike likely, whatever the row runs with.
    pub fn draw(&self, example: usize, set: Set, seed: u64) -> usize {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        // The noise has the streams from 0 upwards, the control head the last one.
        random.set_stream(u64::MAX - 1 - example as u64);
        let draw = random.next_u64() as usize;
        let own = self.rows.binary_search(&example).ok().filter(|_| set == Set::Train);
        match own {
            Some(own) => self.rows[(own + 1 + draw % (self.rows.len() - 1)) % self.rows.len()],
            None => self.rows[draw % self.rows.len()],
        }
    }
}

/// The vector of a text, or that of the nearest text of the row that has one, the earlier of two.
pub fn nearest<'a>(texts: &[Option<&'a [f32]>], text: usize) -> Option<&'a [f32]> {
    let with_vector = texts.iter().enumerate().filter_map(|(other, vector)| Some((other, (*vector)?)));
    with_vector.min_by_key(|(other, _)| other.abs_diff(text)).map(|(_, vector)| vector)
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    #[test]
    fn a_row_borrows_of_every_other_row_with_a_vector_and_never_of_itself() {
        // Row 1 has no text and row 3 none with a word.
        let train = RowVectors::new(1, vec![1.0, 2.0, 0.0, 4.0, 5.0], &[1, 0, 1, 1, 2]);
        let lenders = Lenders::new(&train);
        let drawn = |example, set| (0..100).map(|seed| lenders.draw(example, set, seed)).collect::<BTreeSet<usize>>();
        assert_eq!(drawn(2, Set::Train), BTreeSet::from([0, 4]));
        assert_eq!(drawn(1, Set::Train), BTreeSet::from([0, 2, 4]));
        assert_eq!(drawn(2, Set::HeldOut), BTreeSet::from([0, 2, 4]));
        assert_eq!(lenders.draw(2, Set::Train, 7), lenders.draw(2, Set::Train, 7));
    }

    #[test]
    fn a_place_past_the_other_rows_end_has_its_last_text() {
        let (first, second) = ([1.0], [2.0]);
        let texts = [Some(&first[..]), None, Some(&second[..]), None];
        let found: Vec<f32> = (0..5).map(|text| nearest(&texts, text).expect("a vector")[0]).collect();
        assert_eq!(found, [1.0, 1.0, 2.0, 2.0, 2.0]);
        assert_eq!(nearest(&[None, None], 1), None);
    }
}
