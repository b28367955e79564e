//! Sums over processes in a fixed order: each number is added up by one process, in the order of the ranks.

use std::ops::Range;

/// The numbers that each of `size` processes adds up, of `length`: pieces one after another, as even as they can be.
pub fn ranges(length: usize, size: usize) -> Vec<Range<usize>> {
    let bound = |rank: usize| rank * (length / size) + rank.min(length % size);
    (0..size).map(|rank| bound(rank)..bound(rank + 1)).collect()
}

/// The sum of what each process gives, as bytes of f32 numbers, in the order of the ranks.
pub fn sum(given: &[Vec<u8>]) -> Vec<f32> {
    let mut all = given.iter().map(|bytes| numbers(bytes));
    let mut sum = all.next().unwrap_or_default();
    for more in all {
        assert_eq!(sum.len(), more.len(), "processes add up vectors of one length");
        sum.iter_mut().zip(more).for_each(|(sum, more)| *sum += more);
    }
    sum
}

/// Bytes as the numbers that they were.
pub fn numbers(bytes: &[u8]) -> Vec<f32> {
    bytes.chunks_exact(4).map(bytemuck::pod_read_unaligned).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pieces_take_every_number_once() {
        assert_eq!(ranges(7, 3), [0..3, 3..5, 5..7]);
        assert_eq!(ranges(2, 3), [0..1, 1..2, 2..2]);
        assert_eq!(ranges(0, 2), [0..0, 0..0]);
        for (length, size) in [(1_000_003, 7), (8, 8), (9, 2)] {
            let all = ranges(length, size);
            assert_eq!((all[0].start, all[size - 1].end), (0, length));
            assert!(all.windows(2).all(|pair| pair[0].end == pair[1].start));
            let most = all.iter().map(Range::len).max().unwrap_or(0);
            assert!(all.iter().all(|piece| most - piece.len() <= 1));
        }
    }

    /// In another order the sum of these has another value.
    #[test]
    fn numbers_are_added_in_the_order_of_the_ranks() {
        let of = |values: &[f32]| bytemuck::cast_slice::<f32, u8>(values).to_vec();
        let given = [of(&[1e8, 1.0]), of(&[3.0, 2.0]), of(&[-1e8, 3.0]), of(&[3.0, 4.0])];
        assert_eq!(sum(&given), [((1e8f32 + 3.0) - 1e8) + 3.0, 10.0]);
        assert_ne!(sum(&given)[0], ((3.0 + 3.0) + 1e8f32) - 1e8);
    }
}
