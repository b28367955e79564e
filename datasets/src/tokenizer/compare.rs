//! Two tokenizers beside each other: which tokens they share, and whether these are the same.

use super::Tokenizer;

/// How the tokens of one tokenizer stand to those of another.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct TokensApart {
    /// A token of both that has two ids, the first by its id here: its text, the id here and the one there.
    pub moved: Option<(String, u32, u32)>,
    /// The tokens that only this one has, by id.
    pub new: Vec<(u32, String)>,
}

impl Tokenizer {
    /// Compares the vocabulary with that of `other`, added tokens included.
    pub fn tokens_apart(&self, other: &Tokenizer) -> TokensApart {
        let other = other.inner.get_vocab(true);
        let mut tokens: Vec<(u32, String)> =
            self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        tokens.sort();
        let mut apart = TokensApart::default();
        for (id, token) in tokens {
            match other.get(&token) {
                None => apart.new.push((id, token)),
                Some(there) if *there != id && apart.moved.is_none() => apart.moved = Some((token, id, *there)),
                Some(_) => {}
            }
        }
        apart
    }

    /// The id of a token by its text.
    pub fn id_of(&self, token: &str) -> Option<u32> {
        self.inner.token_to_id(token)
    }

    /// True for a token that texts leave out, such as the end token.
    pub fn is_special(&self, id: u32) -> bool {
        // The decoder knows of no token but by its id; one that is skipped leaves nothing.
        let text = |skip| self.decode(&[id], skip).unwrap_or_default();
        text(true).is_empty() && !text(false).is_empty()
    }
}
