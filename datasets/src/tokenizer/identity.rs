//! What a tokenizer does, apart from how its files are written: two of which one was saved again are the same.

use serde::{Deserialize, Serialize};
use sha2::{Digest, Sha256};

use super::Tokenizer;

/// What a tokenizer does to texts and chats, to be compared with what another does.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct TokenizerIdentity {
    /// SHA-256 over the tokens with their ids, the merges, and the ids of some texts.
    tokens: String,
    /// SHA-256 of the chat template.
    template: Option<String>,
    /// The tokens at which the model stops, sorted.
    stops: Vec<u32>,
}

/// A text in which the rules of tokenizers differ: letter case, digits, blanks, line breaks, other scripts, characters that
/// are composed, or that no vocabulary has whole.
const PROBE: &str = "The quick brown fox's 1,234.5 jumps -- OVER\tthe\n\n   lazy dog!\r\n    def f(x):\n\treturn x ** 2  # na\u{ef}ve \
                     cafe\u{301} Gr\u{f6}\u{df}e \u{65e5}\u{672c}\u{8a9e} \u{1f600} \u{fb01}n \u{a0}\u{200b}... don't ";

impl Tokenizer {
    /// What this tokenizer does.
    pub fn identity(&self) -> TokenizerIdentity {
        let mut hash = Sha256::new();
        let mut field = |bytes: &[u8]| {
            hash.update((bytes.len() as u64).to_le_bytes());
            hash.update(bytes);
        };
        let mut tokens: Vec<(u32, String)> =
            self.inner.get_vocab(true).into_iter().map(|(token, id)| (id, token)).collect();
        tokens.sort();
        for (id, token) in &tokens {
            field(&id.to_le_bytes());
            field(token.as_bytes());
        }
        field(self.order().as_bytes());
        let mut added: Vec<String> = self.added.iter().map(|token| format!("a {token} b{token}")).collect();
        added.sort();
        for text in std::iter::once(PROBE).chain(added.iter().map(String::as_str)) {
            let ids = self.encode(text, true).unwrap_or_default();
            field(&ids.into_iter().flat_map(u32::to_le_bytes).collect::<Vec<u8>>());
        }
        let mut stops = self.stop.clone();
        stops.sort_unstable();
        let template = self.chat_template().map(|text| hexadecimal(text.replace("\r\n", "\n").trim_end().as_bytes()));
        let tokens = hash.finalize().iter().map(|byte| format!("{byte:02x}")).collect();
        TokenizerIdentity { tokens, template, stops }
    }

    /// What says which tokens go before others: merges, or the scores of a vocabulary that has some.
    fn order(&self) -> String {
        let model = serde_json::to_string(self.inner.get_model()).unwrap_or_default();
        // The last keys of such models, as the library writes them.
        let at = ["\"merges\":", "\"vocab\":["].into_iter().find_map(|key| model.find(key));
        at.map(|at| model[at..].to_owned()).unwrap_or_default()
    }
}

impl TokenizerIdentity {
    /// How another differs: in its tokens, in the chat template, in where the model stops.
    pub fn differences(&self, other: &Self) -> [bool; 3] {
        [self.tokens != other.tokens, self.template != other.template, self.stops != other.stops]
    }
}

fn hexadecimal(bytes: &[u8]) -> String {
    Sha256::digest(bytes).iter().map(|byte| format!("{byte:02x}")).collect()
}
