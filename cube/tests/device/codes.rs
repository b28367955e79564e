//! Matrices in codes back into values, to the bit.

use cube::{Buffer, Coded, Rows, dequantise};

use crate::testing::{Device, values};

/// Values that share a magnitude.
const BLOCK: usize = 64;

/// Magnitudes that share one of their own.
const SCALE_BLOCK: usize = 256;

/// Levels of 4 bits, which stand before the map of the magnitudes.
const LEVELS: usize = 16;

/// The part of its magnitude that a step of 8 bits is, 1 / 127.
const PART: f32 = 7.874_016e-3;

/// Bytes as words, filled up with zeros.
fn words(device: &Device, bytes: &[u8]) -> Buffer {
    let words = bytes.chunks(4).map(|chunk| {
        let mut word = [0; 4];
        word[..chunk.len()].copy_from_slice(chunk);
        u32::from_le_bytes(word)
    });
    device.words(&words.collect::<Vec<_>>())
}

fn bytes(count: usize, step: usize) -> Vec<u8> {
    (0..count).map(|i| (i * step + i / 7) as u8).collect()
}

/// Every value as the definition has it, each operation rounded to f32 by itself and the result to the type asked for:
/// widths that cut blocks and words, a last block that is not whole, magnitudes of more than one block of them.
#[test]
fn values_are_those_of_the_definition_to_the_bit() {
    let device = Device::open();
    for [rows, width] in [[3_usize, 70], [40, 64], [300, 128], [33, 7], [1, 1], [5, 4], [2, 16_400]] {
        let count = rows * width;
        let blocks = count.div_ceil(BLOCK);
        for nf4 in [false, true] {
            let codes = bytes(if nf4 { count.div_ceil(2) } else { count }, 37);
            let scale_codes = bytes(blocks, 11);
            let scales = values(if nf4 { blocks.div_ceil(SCALE_BLOCK) } else { blocks }, 0.4);
            let tables = values(LEVELS + 256, 0.9);
            let offset = 0.123_456_7f32;
            let value = |place: usize| -> f32 {
                let block = place / BLOCK;
                if nf4 {
                    let product = tables[LEVELS + usize::from(scale_codes[block])] * scales[block / SCALE_BLOCK];
                    let code = codes[place / 2] >> if place.is_multiple_of(2) { 4 } else { 0 } & 15;
                    tables[usize::from(code)] * (product + offset)
                } else {
                    (f32::from(codes[place]) - 128.0) * scales[block] * PART
                }
            };
            let matrix = Coded {
                codes: &words(&device, &codes),
                scale_codes: &words(&device, &scale_codes),
                scales: &device.f32(&scales),
                tables: &device.f32(&tables),
                offset,
                nf4,
                shape: [rows, width],
            };
            let some: Vec<u32> = [rows - 1, 0, rows / 2].map(|row| row as u32).to_vec();
            let ids = device.words(&some);
            let first = rows / 3;
            for element in device.elements() {
                let rest = device.empty((rows - first) * width, element);
                dequantise(&device.client, &matrix, Rows::From(first), &rest);
                let expected: Vec<f32> = (first * width..count).map(value).collect();
                assert_eq!(device.read(&rest), device.read(&device.buffer(&expected, element)), "{rows} {width}");
                let picked = device.empty(some.len() * width, element);
                dequantise(&device.client, &matrix, Rows::Of(&ids), &picked);
                let of = |row: &u32| (*row as usize * width..(*row as usize + 1) * width).map(value);
                let expected: Vec<f32> = some.iter().flat_map(of).collect();
                assert_eq!(device.read(&picked), device.read(&device.buffer(&expected, element)));
            }
        }
    }
}
