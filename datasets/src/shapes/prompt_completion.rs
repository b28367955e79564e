//! `{"prompt", "completion"}`: one text, of which the part past the prompt is learned, and its end.

use super::{Format, Shape};
use crate::draft::{Draft, Part, Piece};
use crate::options::TrainOn;

pub(super) const SHAPE: Shape = Shape {
    format: Format::PromptCompletion,
    word: "prompt_completion",
    required: &["prompt", "completion"],
    optional: &[],
    stops: true,
    read: |row, context| {
        Ok(vec![vec![draft(row.text("prompt")?.into(), row.filled_text("completion")?.into(), context.train_on)]])
    },
};

/// A prompt and its answer as one text.
pub(super) fn draft(prompt: String, completion: String, train_on: TrainOn) -> Draft {
    let pieces = vec![
        Piece { text: prompt, part: Part::Prompt, learned: train_on.learns(Part::Prompt) },
        Piece { text: completion, part: Part::Response, learned: train_on.learns(Part::Response) },
    ];
    Draft { pieces, special: true, end: true, weight: 1.0, oddities: Vec::new() }
}
