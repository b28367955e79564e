//! The text of tokens that are still being drawn, in pieces that stay.

use datasets::Tokenizer;

/// What is shown of a growing text.
#[derive(Debug, Default)]
pub struct Growing {
    shown: String,
}

impl Growing {
    /// What is new in the text of `ids` but for its last `held_back` bytes; nothing while that may still become another: half
    /// a character, or a text that does not go on where it was.
    pub fn more(&mut self, ids: &[u32], tokenizer: &Tokenizer, held_back: usize) -> String {
        let Ok(text) = tokenizer.decode(ids, true) else { return String::new() };
        let text = text.trim_end_matches('\u{fffd}');
        self.rest(&text[..text.floor_char_boundary(text.len().saturating_sub(held_back))])
    }

    /// What is new of the whole text.
    pub fn rest(&mut self, text: &str) -> String {
        let Some(new) = text.strip_prefix(&self.shown) else { return String::new() };
        let new = new.to_owned();
        self.shown += &new;
        new
    }

    /// All that was shown.
    pub fn shown(&self) -> &str {
        &self.shown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A character of four bytes in tokens of one byte each comes whole.
    #[test]
    fn half_a_character_waits_for_the_other_half() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/tests/fixtures/byte_fallback");
        let tokenizer = Tokenizer::load(folder.as_ref()).unwrap_or_else(|faults| panic!("{faults}"));
        let byte = |byte: u8| tokenizer.id_of(&format!("<0x{byte:02X}>")).expect("a token of each byte");
        let mut ids = vec![tokenizer.id_of("▁cat").expect("a token")];
        let mut growing = Growing::default();
        let mut pieces = vec![growing.more(&ids, &tokenizer, 0)];
        for part in "🦊".bytes() {
            ids.push(byte(part));
            pieces.push(growing.more(&ids, &tokenizer, 0));
        }
        assert_eq!(pieces, ["cat", "", "", "", "🦊"]);
        assert_eq!(growing.shown(), "cat🦊");
        assert_eq!(growing.rest("cat🦊!"), "!");
    }
}
