//! How well texts compress: `bytes / gzip bytes` at level 9 of the texts joined by blanks (Shaib et al. 2024, arXiv
//! 2403.00553). The package `diversity` compresses twice and has other numbers.

use std::io::Write;

use flate2::Compression;
use flate2::write::GzEncoder;

use crate::bounds::Bounds;
use crate::registry::{Better, Measured, SampleMetric};

/// The compression ratio.
pub const COMPRESSION_RATIO: SampleMetric = SampleMetric {
    name: "compression_ratio",
    definition: "bytes of the texts joined by blanks by their gzip bytes at level 9; repetition raises it",
    better: Better::Lower,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| Some(Measured::Number(compression_ratio(&samples.texts?.join(" ")))),
};

/// The ratio of one text.
pub fn compression_ratio(text: &str) -> f64 {
    text.len() as f64 / compressed(text.as_bytes()) as f64
}

/// Bytes of a text in gzip format.
fn compressed(bytes: &[u8]) -> usize {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    let written = encoder.write_all(bytes).and_then(|()| encoder.finish());
    written.expect("a vector takes all bytes").len()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::testing::assert_near;

    /// `len(gzip.compress(text.encode(), 9))` in Python 3.11 is 101.
    #[test]
    fn repeated_texts_compress() {
        let cat = ["the cat sat on the mat. "; 20].concat();
        let dog = ["a completely different sentence about dogs, birds and the sea. "; 3].concat();
        let text = [cat, dog].join(" ");
        assert_eq!((text.len(), compressed(text.as_bytes())), (670, 101));
        assert_near(compression_ratio(&text), 6.633_663_366);
    }
}
