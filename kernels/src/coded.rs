//! A matrix in codes as the right side of a product: its strips are packed one at a time, when a thread comes to them.

use std::ops::Range;
use std::sync::Arc;

use half::bf16;

use crate::packed::{Precision, STRIP, transpose_words, weave};
use crate::quantised::{Quantised, dequantise_rows};

/// The matrix, or the transpose of some of its rows.
#[derive(Debug, Clone)]
pub(crate) struct Coded {
    pub(crate) matrix: Arc<Quantised>,
    /// The type its strips are packed in.
    pub(crate) precision: Precision,
    /// The rows whose transpose this is.
    pub(crate) turned: Option<Range<usize>>,
}

impl Coded {
    /// Packs a strip of `steps` steps, words of f32 or of two neighbouring bf16.
    pub(crate) fn fill(&self, strip: usize, steps: usize, to: &mut [u32]) {
        match self.precision {
            // SAFETY: f32 and u32 have the same size, and any bits are an f32.
            Precision::F32 => f32::fill(self, strip, steps, unsafe {
                std::slice::from_raw_parts_mut(to.as_mut_ptr().cast(), to.len())
            }),
            Precision::Bf16 => u32::fill(self, strip, steps, to),
        }
    }
}

/// A word of a packed strip: f32, or u32 for two neighbouring bf16.
trait Word: Copy + Default {
    /// Packs a strip of `steps` steps, laid out as a strip of a packed matrix of this type.
    fn fill(coded: &Coded, strip: usize, steps: usize, to: &mut [Self]);
}

/// Words of a block, each side of it.
const SIDE: usize = STRIP;

impl Word for f32 {
    fn fill(coded: &Coded, strip: usize, steps: usize, to: &mut [Self]) {
        let matrix = &*coded.matrix;
        let [outputs, inputs] = matrix.shape();
        match &coded.turned {
            None => {
                let (row, rows) = (strip * STRIP, STRIP.min(outputs - strip * STRIP));
                let mut block = [0.0; SIDE * SIDE];
                for (piece, to) in to[..steps * STRIP].chunks_mut(SIDE * STRIP).enumerate() {
                    let column = piece * SIDE;
                    let size = (rows, SIDE.min(inputs - column));
                    // SAFETY: the rows and columns were cut to the matrix, and the block has room for them.
                    unsafe { dequantise_rows(matrix, (row, column), size, block.as_mut_ptr(), SIDE) }
                    turn(&block, to);
                }
            }
            Some(rows) => {
                let (column, columns) = (strip * STRIP, STRIP.min(inputs - strip * STRIP));
                assert!(to.len() >= rows.len() * STRIP && steps == rows.len(), "a strip of this matrix");
                if columns < STRIP {
                    to.fill(0.0);
                }
                // SAFETY: rows of the strip are columns of the matrix, cut to it; the strip has room for all of them.
                unsafe {
                    dequantise_rows(matrix, (rows.start, column), (rows.len(), columns), to.as_mut_ptr(), STRIP);
                }
            }
        }
    }
}

impl Word for u32 {
    fn fill(coded: &Coded, strip: usize, steps: usize, to: &mut [Self]) {
        let matrix = &*coded.matrix;
        let [outputs, inputs] = matrix.shape();
        match &coded.turned {
            None => {
                let (row, rows) = (strip * STRIP, STRIP.min(outputs - strip * STRIP));
                let mut block = [0; SIDE * SIDE];
                for (piece, to) in to[..steps * STRIP].chunks_mut(SIDE * STRIP).enumerate() {
                    let column = 2 * SIDE * piece;
                    let columns = (2 * SIDE).min(inputs - column);
                    if columns < 2 * SIDE {
                        block = [0; SIDE * SIDE];
                    }
                    let values = block.as_mut_ptr().cast::<bf16>();
                    // SAFETY: the rows and columns were cut to the matrix, and a word of the block has room for two.
                    unsafe { dequantise_rows(matrix, (row, column), (rows, columns), values, 2 * SIDE) }
                    turn(&block, to);
                }
            }
            Some(rows) => {
                let (column, columns) = (strip * STRIP, STRIP.min(inputs - strip * STRIP));
                let mut block = [0u32; SIDE * SIDE / 2];
                for (piece, to) in to[..steps * STRIP].chunks_mut(SIDE / 2 * STRIP).enumerate() {
                    let row = rows.start + piece * SIDE;
                    let count = SIDE.min(rows.end - row);
                    if count < SIDE {
                        block = [0; SIDE * SIDE / 2];
                    }
                    let values = block.as_mut_ptr().cast::<bf16>();
                    // SAFETY: as above; each row of the block is a strip of bf16.
                    unsafe { dequantise_rows(matrix, (row, column), (count, columns), values, STRIP) }
                    if to.len() == SIDE / 2 * STRIP {
                        // SAFETY: both have the size of a block.
                        unsafe { weave(block.as_ptr(), to.as_mut_ptr()) }
                    } else {
                        let mut woven = [0; SIDE * SIDE / 2];
                        // SAFETY: as above.
                        unsafe { weave(block.as_ptr(), woven.as_mut_ptr()) }
                        to.copy_from_slice(&woven[..to.len()]);
                    }
                }
            }
        }
    }
}

/// Transposes a block of words; `to` may want fewer rows of the transpose than there are.
fn turn<T: Copy + Default>(block: &[T; SIDE * SIDE], to: &mut [T]) {
    const { assert!(size_of::<T>() == 4) };
    if to.len() == SIDE * STRIP {
        // SAFETY: both have the size of a block, and the words are of four bytes.
        unsafe { transpose_words(block.as_ptr().cast(), to.as_mut_ptr().cast(), SIDE) }
    } else {
        let mut turned = [T::default(); SIDE * SIDE];
        // SAFETY: as above.
        unsafe { transpose_words(block.as_ptr().cast(), turned.as_mut_ptr().cast(), SIDE) }
        to.copy_from_slice(&turned[..to.len()]);
    }
}
