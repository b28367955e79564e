//! `{"conversations": [{"from", "value"}]}`: `messages` under ShareGPT's names.

use super::messages::{BESIDE, conversation, drafts, turns_of};
use super::{Format, Shape};

pub(super) const SHAPE: Shape = Shape {
    format: Format::Sharegpt,
    word: "sharegpt",
    required: &["conversations"],
    optional: &BESIDE,
    stops: true,
    read: |row, context| drafts(conversation(row, turns_of(row, "conversations")?)?, context),
};
