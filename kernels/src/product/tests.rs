//! Products against their definition in f64.

use half::bf16;

use super::*;
use crate::packed::Precision;
use crate::quantised::{Quantisation, Quantised};

fn values(count: usize, seed: f32) -> Vec<f32> {
    (0..count).map(|i| bf16::from_f32((i as f32 * 0.7 + seed).sin()).to_f32()).collect()
}

fn naive(left: &[f32], right: &[f32], rows: usize, columns: usize, inner: usize) -> Vec<f64> {
    let sum = |row: usize, column: usize| {
        (0..inner).map(|k| f64::from(left[row * inner + k]) * f64::from(right[column * inner + k])).sum()
    };
    (0..rows).flat_map(|row| (0..columns).map(move |column| sum(row, column))).collect()
}

fn close(found: &[f32], expected: &[f64]) {
    assert_eq!(found.len(), expected.len());
    for (index, (found, expected)) in found.iter().zip(expected).enumerate() {
        assert!((f64::from(*found) - expected).abs() < 2e-5 * expected.abs().max(1.0), "{index}: {found} {expected}");
    }
}

#[test]
fn products_of_odd_shapes_match_plain_sums() {
    for (rows, outputs, inputs) in [(47, 31, 123), (1, 1, 1), (5, 64, 32), (200, 33, 70), (13, 130, 7)] {
        let (x, w) = (values(rows * inputs, 0.1), values(outputs * inputs, 0.5));
        let dy = values(rows * outputs, 0.9);
        for precision in [Precision::F32, Precision::Bf16] {
            let packed = Packed::new(&w, [outputs, inputs], (inputs, 1), 1.0, precision);
            close(&product::<f32, f32>(&x, rows, &packed), &naive(&x, &w, rows, outputs, inputs));
            let turned: Vec<f32> =
                (0..inputs).flat_map(|i| w.iter().skip(i).step_by(inputs).copied().collect::<Vec<_>>()).collect();
            close(&product_transposed(&dy, rows, &packed), &naive(&dy, &turned, rows, inputs, outputs));
            let halves: Vec<bf16> = crate::convert(&x);
            close(&product::<bf16, f32>(&halves, rows, &packed), &naive(&x, &w, rows, outputs, inputs));
        }
    }
}

/// To the bit: only where the strips come from differs.
#[test]
fn products_with_codes_are_those_with_their_values() {
    for (rows, outputs, inputs) in [(47, 31, 123), (1, 1, 1), (5, 64, 32), (200, 33, 70), (13, 130, 192), (300, 97, 65)]
    {
        let (x, w) = (values(rows * inputs, 0.1), values(outputs * inputs, 0.5));
        let dy = values(rows * outputs, 0.9);
        for quantisation in [Quantisation::Int8, Quantisation::Nf4] {
            for precision in [Precision::F32, Precision::Bf16] {
                let matrix = Quantised::new(&w, [outputs, inputs], quantisation);
                let plain = Packed::new(&matrix.dequantise(), [outputs, inputs], (inputs, 1), 1.0, precision);
                let coded = Packed::quantised(matrix, precision);
                assert_eq!(product::<f32, f32>(&x, rows, &coded), product::<f32, f32>(&x, rows, &plain));
                assert_eq!(product_transposed(&dy, rows, &coded), product_transposed(&dy, rows, &plain));
                let (mut a, mut b) = (vec![0.0; inputs], vec![0.0; inputs]);
                for output in 0..outputs {
                    coded.row(output, &mut a);
                    plain.row(output, &mut b);
                    assert_eq!(a, b);
                }
            }
        }
    }
}

/// Columns of zeros behind a matrix, as an adapter adds them before its first step, leave every bit of a product.
#[test]
fn zeros_behind_a_matrix_change_no_bit() {
    let (rows, outputs) = (9, 40);
    for inputs in [31, 160, 288, 300, 576, 640, 1000] {
        for more in [4, 16, 64] {
            let (x, w) = (values(rows * inputs, 0.1), values(outputs * inputs, 0.5));
            let wide = |values: &[f32], fill: f32| -> Vec<f32> {
                values.chunks(inputs).flat_map(|row| row.iter().copied().chain(vec![fill; more])).collect()
            };
            let packed = |w: &[f32], inputs| Packed::new(w, [outputs, inputs], (inputs, 1), 1.0, Precision::F32);
            let plain: Vec<f32> = product(&x, rows, &packed(&w, inputs));
            let longer: Vec<f32> = product(&wide(&x, 0.7), rows, &packed(&wide(&w, 0.0), inputs + more));
            assert_eq!(plain, longer, "{inputs} {more}");
        }
    }
}

/// One product of a thousand times the others, as a massive activation makes it, costs those behind it few digits.
#[test]
fn a_large_product_does_not_round_all_that_come_behind_it() {
    let (rows, outputs, inputs) = (7, 33, 3072);
    let mut x: Vec<f32> = (0..rows * inputs).map(|i| (i as f32 * 0.7).sin()).collect();
    x.iter_mut().step_by(inputs).for_each(|x| *x = 3.0e4);
    let w: Vec<f32> = (0..outputs * inputs).map(|i| 0.5 + (i as f32 * 0.61).sin()).collect();
    let packed = Packed::new(&w, [outputs, inputs], (inputs, 1), 1.0, Precision::F32);
    let found: Vec<f32> = product(&x, rows, &packed);
    let errors = found.iter().zip(naive(&x, &w, rows, outputs, inputs)).map(|(found, exact)| f64::from(*found) - exact);
    let squares: Vec<f64> = errors.map(|error| error * error).collect();
    let root = (squares.iter().sum::<f64>() / squares.len() as f64).sqrt();
    // In NumPy: 0.041 of a single chain, 0.012 of parts of 320 steps, 0.009 of 160; of the result's own digits 0.0006.
    assert!(root < 0.02, "{root}");
}

#[test]
fn a_long_matrix_is_turned_in_blocks() {
    let (rows, outputs, inputs) = (3, 9001, 5);
    let (dy, w) = (values(rows * outputs, 0.9), values(outputs * inputs, 0.5));
    let packed = Packed::new(&w, [outputs, inputs], (inputs, 1), 1.0, Precision::Bf16);
    let turned: Vec<f32> =
        (0..inputs).flat_map(|i| w.iter().skip(i).step_by(inputs).copied().collect::<Vec<_>>()).collect();
    close(&product_transposed(&dy, rows, &packed), &naive(&dy, &turned, rows, inputs, outputs));
    let matrix = Quantised::new(&w, [outputs, inputs], Quantisation::Nf4);
    let plain = Packed::new(&matrix.dequantise(), [outputs, inputs], (inputs, 1), 1.0, Precision::Bf16);
    let coded = Packed::quantised(matrix, Precision::Bf16);
    assert_eq!(product_transposed(&dy, rows, &coded), product_transposed(&dy, rows, &plain));
}

#[test]
fn outer_products_of_parts_match_plain_sums() {
    let (rows, a, b) = (301, 19, 77);
    let (left, right) = (values(rows * a, 0.2), values(rows * b, 0.4));
    let found = outer(rows, (&left, a, 3..18), (&right, b, 5..71));
    let column = |values: &[f32], width: usize, i: usize| {
        (0..rows).map(move |row| f64::from(values[row * width + i])).collect::<Vec<_>>()
    };
    let expected: Vec<f64> = (3..18)
        .flat_map(|i| (5..71).map(move |j| (i, j)))
        .map(|(i, j)| column(&left, a, i).iter().zip(column(&right, b, j)).map(|(x, y)| x * y).sum())
        .collect();
    close(&found, &expected);
    let halves: Vec<bf16> = crate::convert(&right);
    close(&outer(rows, (&left, a, 3..18), (&halves, b, 5..71)), &expected);
}
