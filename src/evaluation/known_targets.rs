//! The answers of a prompt that are known to be right, and which of them samples say.

use std::collections::BTreeSet;

use datasets::{Example, Tokenizer};
use faults::Fault;

/// The texts of a prompt's targets.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KnownTargets {
    texts: BTreeSet<String>,
    /// The targets are beginnings, after which the model goes on as it likes.
    open: bool,
}

impl KnownTargets {
    /// Of texts as rows have them; `open` where they are beginnings.
    pub fn new<'a>(texts: impl IntoIterator<Item = &'a str>, open: bool) -> Self {
        Self { texts: texts.into_iter().map(|text| text.trim().to_owned()).collect(), open }
    }

    /// Of all targets of one prompt, which end alike.
    ///
    /// # Errors
    /// Tokens that the tokenizer does not have.
    pub fn of_examples(targets: &[Example], tokenizer: &Tokenizer) -> Result<Self, Fault> {
        let text = |target: &Example| tokenizer.decode(&target.learned_ids().collect::<Vec<u32>>(), true);
        let texts = targets.iter().map(text).collect::<Result<Vec<String>, Fault>>()?;
        Ok(Self::new(texts.iter().map(String::as_str), Self::are_open_in(targets, tokenizer)))
    }

    /// Whether these targets of one prompt are beginnings: none has an end token.
    pub fn are_open_in(targets: &[Example], tokenizer: &Tokenizer) -> bool {
        let stops = tokenizer.stop_tokens();
        targets[0].ids.last().is_none_or(|last| !stops.contains(last))
    }

    /// The target that a sample says, blanks at its ends left out. One that has not `ended`, but was cut at its greatest length,
    /// says a target only where targets are beginnings: what would have come next is not known.
    pub fn find(&self, sample: &str, ended: bool) -> Option<&str> {
        let sample = sample.trim();
        match self.open {
            true => self.texts.iter().find(|target| sample.starts_with(target.as_str())),
            false => self.texts.get(sample).filter(|_| ended),
        }
        .map(String::as_str)
    }

    /// Whether what comes after a target is the model's own.
    pub fn are_open(&self) -> bool {
        self.open
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_sample_says_a_target_whole_or_where_targets_are_open_begins_with_it() {
        let closed = KnownTargets::new(["red fox", " owl\n"], false);
        assert_eq!(closed.find(" red fox \n", true), Some("red fox"));
        assert_eq!(closed.find("owl", true), Some("owl"));
        assert_eq!(closed.find("owl", false), None);
        assert_eq!(
            (closed.find("red fox runs", true), closed.find("Owl", true), closed.find("", true)),
            (None, None, None)
        );
        let open = KnownTargets::new(["red fox", "owl"], true);
        assert_eq!(open.find("red fox runs", false), Some("red fox"));
        assert_eq!(open.find("red", true), None);
    }
}
