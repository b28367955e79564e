//! An example as a person reads it, with its mask: what a look at the data must show before a night of training.

use anstyle::{AnsiColor, Style};
use faults::visible;

use crate::draft::{Example, Part};
use crate::tokenizer::Tokenizer;

/// The text of an example, token by token: the prompt dim, a learned intent cyan, a learned response green. Without
/// colour every learned token stands in brackets, of an intent in braces. Control characters are shown as escapes.
pub fn describe(example: &Example, tokenizer: &Tokenizer, colour: bool) -> String {
    let mut text = String::new();
    let masks = example.parts.iter().zip(&example.learned);
    for (token, (part, learned)) in tokenizer.decode_each(&example.ids).iter().zip(masks) {
        if token.is_empty() {
            continue; // the character ends with a later token
        }
        let token = visible(token);
        if colour {
            let style = match (part, learned) {
                (Part::Intent, true) => AnsiColor::Cyan.on_default(),
                (_, true) => AnsiColor::Green.on_default(),
                (_, false) => Style::new().dimmed(),
            };
            text.push_str(&format!("{style}{token}{style:#}"));
        } else {
            text.push_str(&match (part, learned) {
                (_, false) => token,
                (Part::Intent, true) => format!("{{{token}}}"),
                (_, true) => format!("[{token}]"),
            });
        }
    }
    text
}
