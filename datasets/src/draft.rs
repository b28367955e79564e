//! Pieces of text become one row of token ids with a mask.
//!
//! The pieces are joined and encoded once, so that a token may lie across two of them as it will when the model is used;
//! which piece a token counts to is then read off its end offset.

use std::sync::Arc;

use faults::{Fault, Place};

use crate::notices::Oddity;
use crate::tokenizer::{Encoded, Tokenizer};
use crate::way::Way;

/// What a token belongs to.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// What the model is given.
    Prompt,
    /// What the model says it is about to say.
    Intent,
    /// What the model answers.
    Response,
}

/// One row of token ids, ready to be learned.
#[derive(Debug, Clone, PartialEq)]
pub struct Example {
    /// The token ids.
    pub ids: Vec<u32>,
    /// What each token belongs to.
    pub parts: Vec<Part>,
    /// True for each token that is predicted from those before it and learned. The first token never is.
    pub learned: Vec<bool>,
    /// The row's share of its group, 1 unless the file gives another.
    pub weight: f64,
    /// What the row has in [`Options::number`](crate::Options::number), if it is asked for it.
    pub number: Option<f64>,
    /// The tokens of the prompt as it is read alone, which is what a sampler begins from; `None` where the row begins with
    /// them. Of several prompts, the first.
    pub alone: Option<Arc<[u32]>>,
    /// Examples of one prompt share a number; numbers rise in the order of the files.
    pub group: usize,
    /// The file that the row stands in, as the recipe names it.
    pub file: Arc<str>,
    /// The line of the file; the first is 1.
    pub line: usize,
    /// Of a file that is one list, the element; the first is 1.
    pub element: Option<usize>,
}

impl Example {
    /// Where the row stands.
    pub fn place(&self) -> Place {
        crate::lines::place(&self.file, self.line, self.element)
    }

    /// The tokens that are learned, in their order.
    pub fn learned_ids(&self) -> impl DoubleEndedIterator<Item = u32> {
        self.ids.iter().zip(&self.learned).filter(|(_, learned)| **learned).map(|(id, _)| *id)
    }

    /// Bytes of the text that the learned tokens stand for, in UTF-8; a special token, such as the end of a text, stands for
    /// none. The text is the same whatever the tokenizer, but for a token that lies across its beginning.
    ///
    /// # Errors
    /// Tokens that the tokenizer cannot decode.
    pub fn learned_bytes(&self, tokenizer: &Tokenizer) -> Result<usize, Fault> {
        let (mut bytes, mut start) = (0, 0);
        for run in self.learned.chunk_by(|a, b| a == b) {
            let end = start + run.len();
            if run[0] {
                // What a token adds depends on those before it: some tokenizers leave out the blank that a text begins with.
                let upto = |end: usize| tokenizer.decode(&self.ids[..end], true).map(|text| text.len());
                bytes += upto(end)?.saturating_sub(upto(start)?);
            }
            start = end;
        }
        Ok(bytes)
    }

    /// The tokens of the prompt, of several the first, as a sampler reads it that has nothing else.
    pub fn prompt(&self) -> &[u32] {
        let answer = self.parts.iter().position(|part| *part != Part::Prompt).unwrap_or(self.parts.len());
        self.alone.as_deref().unwrap_or(&self.ids[..answer])
    }
}

/// A part of a row's text.
#[derive(Debug, Clone)]
pub(crate) struct Piece {
    pub text: String,
    pub part: Part,
    pub learned: bool,
}

/// What a row shape makes of a row, before tokenising.
#[derive(Debug, Clone)]
pub(crate) struct Draft {
    /// Consecutive pieces of one text.
    pub pieces: Vec<Piece>,
    /// The tokenizer puts its own tokens around the text.
    pub special: bool,
    /// The end token follows the text.
    pub end: bool,
    /// [`Example::weight`].
    pub weight: f64,
    /// What is odd about how the row became this text.
    pub oddities: Vec<(Oddity, String)>,
}

/// Ids and masks of one row.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Tokens {
    pub ids: Vec<u32>,
    pub parts: Vec<Part>,
    pub learned: Vec<bool>,
    /// [`Example::alone`].
    pub alone: Option<Arc<[u32]>>,
    /// Some prompt of the row is other tokens alone.
    pub seam: bool,
}

/// Prompts that alone are other tokens than before their answers.
struct Seams {
    /// [`Example::alone`].
    alone: Option<Arc<[u32]>>,
    /// There is such a prompt.
    any: bool,
}

/// Of texts of fewer bytes all tokens may be in memory, for which the tokenizer takes 250 times as much.
const LONG: usize = 1 << 20;
/// So many bytes of a longer one are tokenised at once where its tokens are only counted.
const PART: usize = 1 << 16;
/// The tokens that one part may have and the same text within its whole has not.
const SEAM: usize = 16;

impl Draft {
    /// Whether a long text has more than `limit` tokens, told from parts of it, and no further than it takes. False of a text
    /// that is not long, or that has about as many.
    ///
    /// # Errors
    /// The tokenizer fails.
    pub fn exceeds(&self, limit: usize, tokenizer: &Tokenizer) -> Result<bool, Fault> {
        if self.pieces.iter().map(|piece| piece.text.len()).sum::<usize>() < LONG {
            return Ok(false);
        }
        let mut counted = 0;
        for part in self.pieces.iter().flat_map(|piece| parts(&piece.text)) {
            counted += tokenizer.encode(part, false)?.len().saturating_sub(SEAM);
            if counted > limit {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Encodes the text once and marks every token by its end offset.
    ///
    /// # Errors
    /// The tokenizer fails, the row begins twice, or nothing in it is learned.
    pub fn tokenise(&self, tokenizer: &Tokenizer, way: Way) -> Result<Tokens, Fault> {
        let mut text = String::with_capacity(self.pieces.iter().map(|piece| piece.text.len()).sum());
        let mut ends = Vec::with_capacity(self.pieces.len());
        for piece in &self.pieces {
            text.push_str(&piece.text);
            ends.push(text.len());
        }
        let encoded = tokenizer.encode_with_offsets(&text, self.special && !tokenizer.begins(&text))?;
        let Seams { alone, any: seam } = self.seams(&text, &ends, &encoded, tokenizer)?;
        let last = self.pieces.last().map_or((Part::Response, false), |piece| (piece.part, piece.learned));

        let mut tokens = Tokens { ids: encoded.ids, parts: Vec::new(), learned: Vec::new(), alone, seam };
        for (offset, inserted) in encoded.offsets.iter().zip(&encoded.inserted) {
            let piece = self.pieces.get(ends.partition_point(|end| *end < offset.end));
            tokens.parts.push(piece.map_or(last.0, |piece| piece.part));
            tokens.learned.push(!inserted && !offset.is_empty() && piece.is_some_and(|piece| piece.learned));
        }
        if self.end {
            tokens.end(tokenizer, last, way)?;
        }
        if let Some(first) = tokens.learned.first_mut() {
            *first = false;
        }
        if let (Some(bos), [first, second, ..]) = (tokenizer.bos(), tokens.ids.as_slice())
            && *first == bos
            && *second == bos
        {
            let name = tokenizer.bos_text().unwrap_or_default();
            return Err(Fault::new(format!("the row begins with `{name}` twice"))
                .hint("the text or the chat template writes it, so take it out of the text"));
        }
        if !tokens.learned.contains(&true) {
            return Err(Fault::new("no token of this row is learned")
                .hint(format!("look at {} and at the row", way.key("train_on"))));
        }
        Ok(tokens)
    }

    /// Compares each prompt alone with what stands before its answer. Where prompt and answer meet inside a token, that
    /// token differs, and a tokenizer that looks ahead may split blanks otherwise before a word than at the end.
    fn seams(&self, text: &str, ends: &[usize], whole: &Encoded, tokenizer: &Tokenizer) -> Result<Seams, Fault> {
        let filled = self.pieces.iter().zip(ends).filter(|(piece, _)| !piece.text.is_empty());
        let mut filled = filled.peekable();
        let mut is_first = true;
        while let Some((piece, &end)) = filled.next() {
            let is_answered = filled.peek().is_some_and(|(next, _)| next.part != Part::Prompt);
            if piece.part != Part::Prompt || !is_answered {
                continue;
            }
            // A conversation has many turns, and its beginning up to each of them is long.
            if !tokenizer.begins_alike(text, end, whole)? {
                let alone = tokenizer.encode_beginning(&text[..end], self.special)?;
                let within = whole.offsets.iter().take_while(|offset| offset.end <= end).count();
                if alone != whole.ids[..within] {
                    return Ok(Seams { alone: is_first.then(|| alone.into()), any: true });
                }
            }
            is_first = false;
        }
        Ok(Seams { alone: None, any: false })
    }
}

/// A text in parts of at most [`PART`] bytes.
fn parts(mut text: &str) -> impl Iterator<Item = &str> {
    std::iter::from_fn(move || {
        let (part, rest) = text.split_at(text.floor_char_boundary(PART));
        text = rest;
        (!part.is_empty()).then_some(part)
    })
}

impl Tokens {
    /// Ends the row with the end token unless it ends with a stop token already.
    fn end(&mut self, tokenizer: &Tokenizer, (part, learned): (Part, bool), way: Way) -> Result<(), Fault> {
        if self.ids.last().is_some_and(|id| tokenizer.stop_tokens().contains(id)) {
            self.parts.pop();
            self.learned.pop();
        } else {
            let Some(end) = tokenizer.end_token() else {
                return Err(Fault::new("the tokenizer has no end token").hint(format!(
                    "name one as `eos_token` in the model's `tokenizer_config.json`, or as {}",
                    way.key("end_of_turn")
                )));
            };
            self.ids.push(end);
        }
        self.parts.push(part);
        self.learned.push(learned);
        Ok(())
    }

    /// Keeps the first `length` tokens.
    pub fn truncate(&mut self, length: usize) {
        self.ids.truncate(length);
        self.parts.truncate(length);
        self.learned.truncate(length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::TrainOn;

    /// One token for each byte, `.` the end token.
    fn bytes() -> Tokenizer {
        let vocabulary: serde_json::Map<_, _> =
            (0..256).map(|byte| (format!("<0x{byte:02X}>"), byte.into())).chain([(".".into(), 256.into())]).collect();
        let file = serde_json::json!({
            "version": "1.0", "added_tokens": [],
            "model": {"type": "BPE", "vocab": vocabulary, "merges": [], "byte_fallback": true}
        });
        let config = r#"{"eos_token": "."}"#;
        let files = [("tokenizer.json", &*file.to_string()), ("tokenizer_config.json", config)];
        Tokenizer::from_texts(&files).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn draft(train_on: TrainOn) -> Draft {
        let piece = |text: &str, part| Piece { text: text.into(), part, learned: train_on.learns(part) };
        let pieces = vec![
            piece("ab", Part::Prompt),
            piece("\u{e9}", Part::Intent),
            piece("", Part::Intent),
            piece("c", Part::Response),
        ];
        Draft { pieces, special: true, end: true, weight: 1.0, oddities: Vec::new() }
    }

    #[test]
    fn a_long_text_is_told_to_be_too_long_by_its_parts_alone() {
        let of = |text: String| {
            let pieces = vec![Piece { text, part: Part::Response, learned: true }];
            Draft { pieces, special: true, end: true, weight: 1.0, oddities: Vec::new() }
        };
        let text = "a\u{e9}".repeat(LONG / 3 + 1);
        assert!(parts(&text).all(|part| part.len() <= PART) && parts(&text).collect::<String>() == text);
        let (long, tokens) = (of(text.clone()), text.len());
        let exceeds = |limit| long.exceeds(limit, &bytes());
        assert_eq!((exceeds(10), exceeds(tokens / 2), exceeds(tokens)), (Ok(true), Ok(true), Ok(false)));
        // What is not long is counted as a whole.
        assert_eq!(of("a".repeat(LONG - 1)).exceeds(10, &bytes()), Ok(false));
    }

    #[test]
    fn parts_are_told_apart_and_learned_as_asked() {
        use Part::{Intent, Prompt, Response};
        let learned = |intent, response| {
            let tokens = draft(TrainOn::Parts { intent, response }).tokenise(&bytes(), Way::Recipe)?;
            assert_eq!(tokens.ids, [97, 98, 0xc3, 0xa9, 99, 256]);
            assert_eq!(tokens.parts, [Prompt, Prompt, Intent, Intent, Response, Response]);
            Ok::<_, Fault>(tokens.learned)
        };
        assert_eq!(learned(true, true), Ok(vec![false, false, true, true, true, true]));
        assert_eq!(learned(true, false), Ok(vec![false, false, true, true, false, false]));
        assert_eq!(learned(false, true), Ok(vec![false, false, false, false, true, true]));
        assert!(learned(false, false).is_err_and(|fault| fault.message == "no token of this row is learned"));
    }
}
