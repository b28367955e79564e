//! What a recipe or a command line says of chats.

use serde_json::{Map, Value};

use super::Moment;

/// How conversations are written and where their turns end, beside what the model's own files say.
#[derive(Debug, Clone, Default, PartialEq)]
pub struct ChatSettings {
    /// A template in place of the model's: the name of its file, and its text.
    pub template: Option<(String, String)>,
    /// Switches of the template, such as `enable_thinking`; those of a row go before them.
    pub arguments: Map<String, Value>,
    /// A token that ends a turn, at which the model is to stop, although its files do not say so.
    pub end_of_turn: Option<String>,
    /// The moment that the template is given as now; else that at which the tokenizer was read.
    pub moment: Option<Moment>,
}
