//! The order of an epoch, micro-batches and padded rectangles.

use std::sync::Arc;

use datasets::{Example, Part, batch, epoch, micro_batches};
use proptest::prelude::*;

fn sorted(mut rows: Vec<usize>) -> Vec<usize> {
    rows.sort_unstable();
    rows
}

fn examples(lengths: &[usize]) -> Vec<Example> {
    let example = |(group, length): (usize, &usize)| Example {
        ids: (0..*length).map(|at| (group * 1000 + at) as u32).collect(),
        parts: vec![Part::Response; *length],
        learned: (0..*length).map(|at| at > 0).collect(),
        weight: 1.0,
        group,
        file: Arc::from("rows"),
        line: group + 1,
    };
    lengths.iter().enumerate().map(example).collect()
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
    fn micro_batches_hold_the_step_and_rectangles_the_rows(
        lengths in prop::collection::vec(1usize..60, 1..40), micro in 1usize..10, multiple in 1usize..17,
    ) {
        let step: Vec<usize> = (0..lengths.len()).rev().collect();
        let examples = examples(&lengths);
        let parts = micro_batches(&step, &lengths, micro);
        prop_assert_eq!(sorted(parts.concat()), sorted(step));
        let order: Vec<usize> = parts.concat().iter().map(|row| lengths[*row]).collect();
        prop_assert!(order.is_sorted_by(|a, b| a >= b));
        for rows in parts {
            prop_assert!(rows.len() <= micro);
            let made = batch(&examples, &rows, multiple);
            let longest = rows.iter().map(|row| lengths[*row]).max().unwrap();
            prop_assert!(made.width.is_multiple_of(multiple) && made.width >= longest && made.width < longest + multiple);
            prop_assert_eq!(made.tokens(), rows.iter().map(|row| lengths[*row]).sum::<usize>());
            prop_assert_eq!(made.learned_tokens(), made.tokens() - rows.len());
            for (index, row) in rows.iter().enumerate() {
                let cells = index * made.width..(index + 1) * made.width;
                let (ids, padding) = made.ids[cells.clone()].split_at(made.lengths[index]);
                let want: Vec<i32> = examples[*row].ids.iter().map(|id| *id as i32).collect();
                prop_assert_eq!(ids, &want[..]);
                prop_assert!(padding.iter().all(|id| *id == 0));
                let (learned, padding) = made.learned[cells].split_at(made.lengths[index]);
                prop_assert_eq!(learned, &examples[*row].learned[..]);
                prop_assert!(!padding.contains(&true));
            }
        }
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
    let made = batch(&[], &[], 8);
    assert_eq!((made.ids.len(), made.width), (0, 0));
}
