//! How files of rows are read: what a recipe's `[data]` says.

use crate::draft::Part;
use crate::row::Names;
use crate::shapes::Format;
use crate::shapes::columns::ChatColumns;
use crate::shapes::intent::{IntentNoise, Template};
use crate::shapes::targets::PrefixFree;
use crate::way::Way;

/// Which tokens of a row are learned.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TrainOn {
    /// All that the model says: every turn of the assistant, intent and response.
    #[default]
    Assistant,
    /// The assistant's last turn alone.
    Last,
    /// Everything, the prompt too.
    All,
    /// What the model says, by part.
    Parts {
        /// Learn the intent.
        intent: bool,
        /// Learn the response.
        response: bool,
    },
}

impl TrainOn {
    /// The words of `data.train_on`, which may also be a list of `intent` and `response`.
    pub const WORDS: [(&'static str, TrainOn); 3] =
        [("assistant", TrainOn::Assistant), ("last", TrainOn::Last), ("all", TrainOn::All)];

    /// True when tokens of `part` are learned.
    pub(crate) fn learns(self, part: Part) -> bool {
        match (self, part) {
            (TrainOn::All, _) => true,
            (_, Part::Prompt) => false,
            (TrainOn::Parts { intent, .. }, Part::Intent) => intent,
            (TrainOn::Parts { response, .. }, Part::Response) => response,
            (TrainOn::Assistant | TrainOn::Last, _) => true,
        }
    }
}

/// What becomes of a row of more than `max_length` tokens.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum TooLong {
    /// It is a fault.
    #[default]
    Error,
    /// It is left out and counted.
    Drop,
    /// Its end is cut off; it is left out and counted when nothing is left to learn.
    Truncate,
}

impl TooLong {
    /// The words of `data.too_long`.
    pub const WORDS: [(&'static str, TooLong); 3] =
        [("error", TooLong::Error), ("drop", TooLong::Drop), ("truncate", TooLong::Truncate)];
}

/// A column of numbers that is read beside what a row's shape reads.
#[derive(Debug, Clone, PartialEq)]
pub struct NumberColumn {
    /// Its name in the file.
    pub name: String,
    /// The smallest number that it may hold.
    pub least: f64,
    /// A row without it is a fault.
    pub required: bool,
}

/// How files are read: the recipe's `[data]`.
#[derive(Debug, Clone)]
pub struct Options {
    /// `data.format`
    pub format: Format,
    /// `data.train_on`
    pub train_on: TrainOn,
    /// `data.max_length`, in tokens.
    pub max_length: usize,
    /// `max_length` is all the positions that the model has: it cannot be raised.
    pub model_limit: bool,
    /// `data.too_long`
    pub too_long: TooLong,
    /// `data.rename`: a column of the file, and the key of the row shape it stands for.
    pub rename: Vec<(String, String)>,
    /// `data.ignore`: columns, and fields of messages, that are as if they were not there.
    pub ignore: Vec<String>,
    /// `data.chat`: columns that are the turns of a conversation.
    pub chat: Option<ChatColumns>,
    /// `data.end_token`: targets end with the end token or the template's end of a turn.
    pub end_token: bool,
    /// `data.prefix_free`
    pub prefix_free: PrefixFree,
    /// `data.template`, for rows with an intent that name none; by default `chat`, or `mathematics` for steps.
    pub template: Option<Template>,
    /// `data.allow_empty_intent`
    pub allow_empty_intent: bool,
    /// `data.intent_noise`
    pub intent_noise: Option<IntentNoise>,
    /// The column of [`Example::number`](crate::Example::number).
    pub number: Option<NumberColumn>,
    /// Where these are written, which is what hints name.
    pub way: Way,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            format: Format::Auto,
            train_on: TrainOn::Assistant,
            max_length: 2048,
            model_limit: false,
            too_long: TooLong::Error,
            rename: Vec::new(),
            ignore: Vec::new(),
            chat: None,
            end_token: true,
            prefix_free: PrefixFree::Error,
            template: None,
            allow_empty_intent: false,
            intent_noise: None,
            number: None,
            way: Way::Recipe,
        }
    }
}

impl Options {
    /// Whose names columns have.
    pub(crate) fn names(&self) -> Names<'_> {
        Names { rename: &self.rename, ignore: &self.ignore, way: self.way }
    }
}
