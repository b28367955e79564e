//! The tokenizer of the tiny base model: byte-level BPE over the world's corpus.
//!
//! The files are checked in under `tiny/`; [`build_tokenizer`] makes `tokenizer.json` again, byte by byte. The merges
//! are learned here and not by the `tokenizers` crate, whose trainer promises no order among equally frequent pairs.
//! Encoding is that crate's.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::corpus_texts;

/// Entries of the vocabulary: the special tokens, the 256 bytes, and the merges.
pub const VOCABULARY: usize = 768;

const PAD: &str = "<|pad|>";
const BOS: &str = "<|bos|>";
pub(super) const START: &str = "<|im_start|>";
pub(super) const END: &str = "<|im_end|>";

/// The special tokens; their ids are their indices.
const SPECIAL: [&str; 4] = [PAD, BOS, START, END];

/// The tokenizer's files as they stand in a model directory, by name. `<|bos|>` begins every sequence, `<|im_end|>`
/// ends a turn and a text, `<|pad|>` is neither; every byte has a token, so there is no unknown token.
pub fn tokenizer_files() -> Vec<(&'static str, String)> {
    vec![
        ("tokenizer.json", include_str!("tiny/tokenizer.json").to_owned()),
        ("tokenizer_config.json", include_str!("tiny/tokenizer_config.json").to_owned()),
        ("generation_config.json", include_str!("tiny/generation_config.json").to_owned()),
    ]
}

/// The fingerprint of the tokenizer's file, as [`crate::Tokenizer::fingerprint`] gives it.
pub(crate) fn fingerprint() -> &'static str {
    static FINGERPRINT: LazyLock<String> = LazyLock::new(|| {
        Sha256::digest(include_str!("tiny/tokenizer.json")).iter().map(|byte| format!("{byte:02x}")).collect()
    });
    &FINGERPRINT
}

/// `tokenizer.json`, learned anew from the corpus: the same bytes every time.
pub fn build_tokenizer() -> String {
    let mut counts: BTreeMap<String, u64> = BTreeMap::new();
    for text in corpus_texts() {
        for word in words(&text.replace(START, "\n").replace(END, "\n")) {
            *counts.entry(word).or_default() += 1;
        }
    }
    let letters = byte_letters();
    let mut tokens: Vec<String> = SPECIAL.iter().map(|special| special.to_string()).collect();
    tokens.extend(letters.iter().map(char::to_string));
    let spelled =
        counts.iter().map(|(word, count)| (word.bytes().map(|byte| SPECIAL.len() + byte as usize).collect(), *count));
    let merges = merge(spelled.collect(), &mut tokens);
    serde_json::to_string_pretty(&document(&tokens, &merges)).expect("strings and numbers are JSON") + "\n"
}

/// Cuts a text as the `ByteLevel` pre-tokenizer does, as far as the corpus needs it: runs of letters, of digits and of
/// other signs, each with the one space before it. Line breaks are left out: they merge with nothing.
fn words(text: &str) -> Vec<String> {
    let class = |c: char| (c.is_alphabetic(), c.is_numeric());
    let mut all = Vec::new();
    for line in text.lines() {
        for (i, spaced) in line.split(' ').enumerate() {
            let mut word = String::from(if i == 0 { "" } else { " " });
            let mut last = None;
            for c in spaced.chars() {
                if last.is_some_and(|last| last != class(c)) {
                    all.push(std::mem::take(&mut word));
                }
                word.push(c);
                last = Some(class(c));
            }
            all.push(word);
        }
    }
    all
}

/// Learns merges until `tokens` is [`VOCABULARY`] long: always the most frequent pair, and the one of the smallest ids
/// among equals. `words` are spelled in ids, with their counts.
fn merge(mut words: Vec<(Vec<usize>, u64)>, tokens: &mut Vec<String>) -> Vec<String> {
    let mut merges = Vec::new();
    while tokens.len() < VOCABULARY {
        let mut pairs: BTreeMap<(usize, usize), u64> = BTreeMap::new();
        for (word, count) in &words {
            for pair in word.windows(2) {
                *pairs.entry((pair[0], pair[1])).or_default() += count;
            }
        }
        let best = pairs.into_iter().rev().max_by_key(|(_, count)| *count);
        let ((left, right), _) = best.expect("the corpus has more pairs than the vocabulary has room for");
        merges.push(format!("{} {}", tokens[left], tokens[right]));
        let merged = tokens.len();
        tokens.push(format!("{}{}", tokens[left], tokens[right]));
        for (word, _) in &mut words {
            let mut at = 0;
            while at + 1 < word.len() {
                if (word[at], word[at + 1]) == (left, right) {
                    word[at] = merged;
                    word.remove(at + 1);
                }
                at += 1;
            }
        }
    }
    merges
}

/// GPT-2's printable letter for each byte: itself when it is one, else the next from U+0100 on.
fn byte_letters() -> Vec<char> {
    let mut next = 256;
    (0..=255u8)
        .map(|byte| match byte {
            b'!'..=b'~' | 0xA1..=0xAC | 0xAE..=0xFF => byte as char,
            _ => {
                next += 1;
                char::from_u32(next - 1).expect("no surrogate below U+0200")
            }
        })
        .collect()
}

fn document(tokens: &[String], merges: &[String]) -> Value {
    let vocabulary: Map<String, Value> =
        tokens.iter().enumerate().map(|(id, token)| (token.clone(), id.into())).collect();
    let added: Vec<Value> = SPECIAL
        .iter()
        .enumerate()
        .map(|(id, content)| {
            json!({
                "id": id, "content": content, "single_word": false, "lstrip": false, "rstrip": false,
                "normalized": false, "special": true
            })
        })
        .collect();
    let bos = |segment: usize| json!({ "SpecialToken": { "id": BOS, "type_id": segment } });
    let sequence = |name: &str, segment: usize| json!({ "Sequence": { "id": name, "type_id": segment } });
    json!({
        "version": "1.0",
        "truncation": null,
        "padding": null,
        "added_tokens": added,
        "normalizer": null,
        "pre_tokenizer": { "type": "ByteLevel", "add_prefix_space": false, "trim_offsets": true, "use_regex": true },
        "post_processor": {
            "type": "TemplateProcessing",
            "single": [bos(0), sequence("A", 0)],
            "pair": [bos(0), sequence("A", 0), bos(1), sequence("B", 1)],
            "special_tokens": { BOS: { "id": BOS, "ids": [1], "tokens": [BOS] } }
        },
        "decoder": { "type": "ByteLevel", "add_prefix_space": true, "trim_offsets": true, "use_regex": true },
        "model": {
            "type": "BPE",
            "dropout": null,
            "unk_token": null,
            "continuing_subword_prefix": null,
            "end_of_word_suffix": null,
            "fuse_unk": false,
            "byte_fallback": false,
            "ignore_merges": false,
            "vocab": vocabulary,
            "merges": merges
        }
    })
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;
    use tokenizers::{OffsetReferential, OffsetType, PreTokenizedString, PreTokenizer, Tokenizer};

    use super::*;
    use crate::builtin::rows;

    fn tokenizer() -> Tokenizer {
        include_str!("tiny/tokenizer.json").parse().expect("a valid tokenizer.json")
    }

    #[test]
    fn building_anew_gives_the_checked_in_bytes() {
        // To renew it: cargo run --release -p datasets --example tiny_tokenizer > NEW, then move NEW to its place.
        let file = include_str!("tiny/tokenizer.json");
        assert!(build_tokenizer() == file, "tiny/tokenizer.json is not what the corpus gives");
        assert!(file.len() < 60 * 1024, "{} bytes", file.len());
    }

    #[test]
    fn the_corpus_is_cut_as_the_pre_tokenizer_cuts_it() {
        let (tokenizer, letters) = (tokenizer(), byte_letters());
        let cut = tokenizer.get_pre_tokenizer().expect("a pre-tokenizer");
        for text in corpus_texts().iter().filter(|text| !text.contains(START)).take(5000) {
            let mut string = PreTokenizedString::from(text.as_str());
            cut.pre_tokenize(&mut string).expect("cuts");
            let pieces = string.get_splits(OffsetReferential::Original, OffsetType::Byte);
            let theirs: Vec<&str> =
                pieces.iter().map(|(piece, _, _)| *piece).filter(|piece| *piece != "\u{10a}").collect();
            let ours: Vec<String> =
                words(text).iter().map(|word| word.bytes().map(|byte| letters[byte as usize]).collect()).collect();
            assert_eq!(ours, theirs);
        }
    }

    #[test]
    fn the_files_agree_on_the_special_tokens() {
        let tokenizer = tokenizer();
        assert_eq!(tokenizer.get_vocab_size(true), VOCABULARY);
        let files = tokenizer_files();
        let read = |name: &str| -> Value {
            let text = &files.iter().find(|(file, _)| *file == name).expect("the file").1;
            serde_json::from_str(text).expect("JSON")
        };
        let (configuration, generation) = (read("tokenizer_config.json"), read("generation_config.json"));
        for (kind, token) in [("bos", BOS), ("eos", END), ("pad", PAD)] {
            assert_eq!(configuration[format!("{kind}_token")], token);
            assert_eq!(generation[format!("{kind}_token_id")].as_u64(), tokenizer.token_to_id(token).map(u64::from));
        }
        for (id, token) in SPECIAL.iter().enumerate() {
            assert_eq!(configuration["added_tokens_decoder"][id.to_string()]["content"], *token);
            assert_eq!(tokenizer.token_to_id(token), Some(id as u32));
        }
    }

    #[test]
    fn one_bos_begins_a_sequence_and_nothing_is_appended() {
        let encoding = tokenizer().encode("Tell me about a fox.\n", true).expect("encodes");
        assert_eq!(encoding.get_ids()[0], 1);
        assert_eq!(encoding.get_ids().iter().filter(|id| **id < SPECIAL.len() as u32).count(), 1);
        let chat = tokenizer().encode("<|im_start|>user\nhello<|im_end|>", true).expect("encodes");
        assert_eq!((chat.get_ids()[1], chat.get_ids().last()), (2, Some(&3)));
    }

    /// The end of the prompt is the end of a token, in every row: nothing straddles the line that is learned from.
    #[test]
    fn a_token_ends_where_the_prompt_ends() {
        let tokenizer = tokenizer();
        for row in rows("world-eval").expect("a known name").lines() {
            let row: Value = serde_json::from_str(row).expect("JSON");
            let prompt = row["prompt"].as_str().expect("text");
            let text = format!("{prompt}{}", row["completion"].as_str().expect("text"));
            let encoding = tokenizer.encode(text, true).expect("encodes");
            assert!(encoding.get_offsets().iter().any(|(start, end)| *end == prompt.len() && start < end), "{prompt}");
        }
    }

    #[test]
    fn the_corpus_costs_few_tokens_a_word() {
        let tokenizer = tokenizer();
        let (mut tokens, mut words) = (0, 0);
        for text in corpus_texts().iter().take(2000).filter(|text| !text.contains(START)) {
            tokens += tokenizer.encode(text.as_str(), false).expect("encodes").len();
            words += text.split_whitespace().count();
        }
        let mean = tokens as f64 / words as f64;
        assert!(mean < 1.6, "{mean} tokens a word");
    }

    proptest! {
        #[test]
        fn any_text_comes_back(text in any::<String>()) {
            let tokenizer = tokenizer();
            let ids = tokenizer.encode(text.as_str(), false).expect("encodes");
            prop_assert_eq!(tokenizer.decode(ids.get_ids(), false).expect("decodes"), text);
        }
    }
}
