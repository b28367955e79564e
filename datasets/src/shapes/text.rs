//! `{"text"}`: plain text, all of it learned but the first token, which nothing predicts.

use super::{Format, Shape};
use crate::draft::{Draft, Part, Piece};

pub(super) const SHAPE: Shape = Shape {
    format: Format::Text,
    word: "text",
    required: &["text"],
    optional: &[],
    stops: false,
    read: |row, _| {
        let text = row.filled_text("text")?.to_string();
        let pieces = vec![Piece { text, part: Part::Response, learned: true }];
        Ok(vec![vec![Draft { pieces, special: true, end: true, weight: 1.0, oddities: Vec::new() }]])
    },
};
