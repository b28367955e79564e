//! Texts as words.

use std::collections::HashSet;

/// Words as they stand between blanks: letter case and marks count.
pub fn words(text: &str) -> Vec<&str> {
    text.split_whitespace().collect()
}

/// The words of each text.
pub fn all_words(texts: &[String]) -> Vec<Vec<&str>> {
    texts.iter().map(|text| words(text)).collect()
}

/// The number of different words of all texts.
pub fn different_words<'a>(texts: impl IntoIterator<Item = &'a String>) -> usize {
    texts.into_iter().flat_map(|text| words(text)).collect::<HashSet<_>>().len()
}

/// Words in lower case without ASCII punctuation, as self-BLEU is counted on in arXiv 2506.09659.
pub fn bare_words(text: &str) -> Vec<String> {
    let bare: String = text.chars().filter(|letter| !letter.is_ascii_punctuation()).collect();
    bare.split_whitespace().map(str::to_lowercase).collect()
}

/// What a text says: letter case, blanks and marks at the end of words do not count. What stands inside of a word or before
/// it does: `-5` is not `5`, and `3.5` not `35`.
pub fn spoken(text: &str) -> String {
    let bare = text.split_whitespace().map(|word| word.trim_end_matches(['.', ',', ';', ':', '!', '?']));
    let words: Vec<&str> = bare.filter(|word| !word.is_empty()).collect();
    // A text of marks alone is what it is.
    if words.is_empty() { text.trim().to_owned() } else { words.join(" ").to_lowercase() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn words_are_what_stands_between_blanks() {
        assert_eq!(words(" The cat,\n sat "), ["The", "cat,", "sat"]);
        assert_eq!(bare_words("The cat's \"hat\", - it sat."), ["the", "cats", "hat", "it", "sat"]);
    }
}
