//! Tokens that cut a text: the tokenizer looks for them first, and what stands between two of them becomes tokens by itself.

use std::collections::BTreeSet;

use faults::Fault;

use super::{Encoded, Tokenizer};

/// The added tokens that are found in a text as it is written, wherever they stand, and take nothing beside them.
pub(super) fn of(inner: &tokenizers::Tokenizer) -> BTreeSet<u32> {
    let tokens = inner.get_added_tokens_decoder().into_iter();
    let cuts = |token: &tokenizers::AddedToken| {
        !(token.normalized || token.single_word || token.lstrip || token.rstrip || token.content.is_empty())
    };
    tokens.filter(|(_, token)| cuts(token)).map(|(id, _)| id).collect()
}

impl Tokenizer {
    /// True where the tokens of `text[..end]` alone are the first of those of the `whole` text, as far as a boundary before `end`
    /// tells without all of it: it parts what stands before it from what stands after it, in both.
    ///
    /// # Errors
    /// As [`Tokenizer::encode`].
    pub(crate) fn begins_alike(&self, text: &str, end: usize, whole: &Encoded) -> Result<bool, Fault> {
        let within = whole.offsets.iter().take_while(|offset| offset.end <= end).count();
        let tokens = || whole.ids[..within].iter().zip(&whole.offsets);
        let Some(last) = tokens().rposition(|(id, place)| self.boundaries.contains(id) && !place.is_empty()) else {
            return Ok(false);
        };
        let tail = self.encode(&text[whole.offsets[last].start..end], false)?;
        Ok(tail == whole.ids[last..within])
    }
}
