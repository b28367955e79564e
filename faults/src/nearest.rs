//! The nearest known word for a misspelt one.

/// The candidate closest to `word`, when it is close enough to be what was meant.
pub fn nearest<'a>(word: &str, candidates: impl IntoIterator<Item = &'a str>) -> Option<&'a str> {
    candidates
        .into_iter()
        .map(|candidate| (strsim::damerau_levenshtein(word, candidate), candidate))
        .filter(|(distance, candidate)| *distance <= 1 + word.len().max(candidate.len()) / 3)
        .min()
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::nearest;

    #[test]
    fn a_typo_finds_its_word_and_nonsense_finds_none() {
        let known = ["learning_rate", "rank", "alpha"];
        assert_eq!(nearest("learnig_rate", known), Some("learning_rate"));
        assert_eq!(nearest("rnak", known), Some("rank"));
        assert_eq!(nearest("zzzzzz", known), None);
    }
}
