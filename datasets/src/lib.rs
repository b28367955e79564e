//! Rows of text become examples: token ids with a mask per token, grouped into the batches of an epoch.
//!
//! A file of rows has a shape (`{"messages": ..}`, `{"prompt", "completion"}`, ..). Each shape is one file under
//! `shapes`, which turns a row into pieces of text that are learned or not; [`read`] tokenises the pieces as one string
//! and marks the tokens by their offsets, so that no shape ever counts tokens. Nothing here knows a model or a tensor.

mod bucketing;
pub mod builtin;
mod chat;
mod conversation;
mod describe;
mod draft;
mod files;
mod form;
mod generations;
mod held_out;
mod json;
mod kinds;
mod lines;
mod mentions;
mod named;
mod notices;
mod open;
mod options;
mod outcome;
mod parquet;
mod prompts;
mod read;
mod references;
mod rename;
mod report;
mod row;
mod samples;
mod separated;
mod shapes;
mod table;
mod tokenizer;
mod unread;
mod way;

pub use bucketing::{epoch, micro_batches};
pub use chat::{ChatSettings, Moment};
pub use conversation::{Conversation, Message};
pub use describe::describe;
pub use draft::{Example, Part};
pub use files::{expand, is_of_rows, split};
pub use kinds::{refuse_other_kinds, refuse_unreadable};
pub use named::{HELD_OUT, Named, TRAIN};
pub use notices::{Notice, Oddity};
pub use options::{NumberColumn, Options, TooLong, TrainOn};
pub use prompts::{Asking, PromptRow, Prompts, read_prompts};
pub use read::{Dataset, Source, read, read_apart, read_sources, read_text};
pub use references::{Reference, References, read_references};
pub use report::{Bar, Dropped, FileReport, Report, Unread};
pub use samples::{Answers, Sampled, Samples, read_samples};
pub use shapes::Format;
pub use shapes::asked::Asked;
pub use shapes::columns::ChatColumns;
pub use shapes::intent::{IntentNoise, NoiseKind, SEPARATOR, Template};
pub use shapes::targets::PrefixFree;
pub use tokenizer::{Encoded, Tokenizer, TokenizerIdentity, TokensApart};
pub use way::Way;
