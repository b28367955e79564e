//! The order of an epoch, and micro-batches.

use datasets::{epoch, micro_batches};
use proptest::prelude::*;

fn sorted(mut rows: Vec<usize>) -> Vec<usize> {
    rows.sort_unstable();
    rows
}

proptest! {
    #[test]
    fn every_row_occurs_once_in_full_steps_but_the_last(
        lengths in prop::collection::vec(1usize..300, 0..700), batch_size in 1usize..40,
        seed in prop::option::of(any::<u64>()), number in 0usize..5,
    ) {
        let steps = epoch(&lengths, batch_size, seed, number);
        prop_assert_eq!(sorted(steps.concat()), (0..lengths.len()).collect::<Vec<_>>());
        prop_assert_eq!(steps.len(), lengths.len().div_ceil(batch_size));
        for step in steps.iter().rev().skip(1) {
            prop_assert_eq!(step.len(), batch_size);
        }
        prop_assert_eq!(&steps, &epoch(&lengths, batch_size, seed, number));
    }

    #[test]
    fn micro_batches_hold_the_step_longest_first(
        lengths in prop::collection::vec(1usize..60, 1..40), micro in 1usize..10,
    ) {
        let step: Vec<usize> = (0..lengths.len()).rev().collect();
        let parts = micro_batches(&step, &lengths, micro);
        prop_assert_eq!(sorted(parts.concat()), sorted(step));
        let order: Vec<usize> = parts.concat().iter().map(|row| lengths[*row]).collect();
        prop_assert!(order.is_sorted_by(|a, b| a >= b));
        prop_assert!(parts.iter().all(|rows| rows.len() <= micro));
    }
}

#[test]
fn seeds_and_epochs_give_orders_of_their_own_and_no_seed_keeps_the_file() {
    let lengths: Vec<usize> = (0..100).map(|row| row * 37 % 101).collect();
    assert_eq!(epoch(&lengths, 7, None, 3).concat(), (0..100).collect::<Vec<_>>());
    let first = epoch(&lengths, 7, Some(1), 0);
    assert_ne!(first, epoch(&lengths, 7, Some(2), 0));
    assert_ne!(first, epoch(&lengths, 7, Some(1), 1));
}

/// 4096 rows, half of 10 and half of 1000 tokens: rows met at random would fill half of their rectangles.
#[test]
fn rows_of_similar_length_meet() {
    let lengths: Vec<usize> = (0..4096).map(|row| if row % 2 == 0 { 10 } else { 1000 }).collect();
    let mixed = epoch(&lengths, 16, Some(5), 0)
        .iter()
        .filter(|step| step.iter().any(|row| lengths[*row] != lengths[step[0]]))
        .count();
    assert!(mixed <= 4096 / 16 / 64, "{mixed} steps of 256 are mixed: at most one a window is");
}

#[test]
fn nothing_is_a_batch_of_nothing() {
    assert!(epoch(&[], 4, Some(1), 0).is_empty());
    assert!(micro_batches(&[], &[], 8).is_empty());
}
