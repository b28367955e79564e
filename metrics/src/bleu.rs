//! self-BLEU: how much each text is made of the others' n-grams, by two conventions that differ by a factor of 2 on short
//! texts, so that the name has to say which it is.
//!
//! * `self_bleu_nltk`, 0 to 1: BLEU-4 of NLTK's `sentence_bleu` with `SmoothingFunction().method1` (a count of 0 becomes
//!   0.1) and the closest reference length, on words in lower case without punctuation (arXiv 2506.09659, which reports
//!   `1 - BLEU`; `pr-4-llm`).
//! * `self_bleu_sacrebleu`, 0 to 100: `BLEU(lowercase=True, effective_order=True).sentence_score` of sacreBLEU 2, tokens
//!   `13a`, exponential smoothing (arXiv 2605.00195).
//!
//! Both are means over the texts, each against all others. The counts of an n-gram in the others are at most the largest
//! count of any text, or the second largest for the text that has the largest: so the cost is that of one pass.

use std::collections::HashMap;

use crate::bounds::Bounds;
use crate::registry::{Better, Measured, SampleMetric};
use crate::words::bare_words;

/// The longest n-grams.
const ORDER: usize = 4;

/// By NLTK's convention.
pub const SELF_BLEU_NLTK: SampleMetric = SampleMetric {
    name: "self_bleu_nltk",
    definition: "mean BLEU-4 of each text against the others, 0 to 1: NLTK, method1, bare words in lower case",
    better: Better::Lower,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| mean(&nltk_scores(samples.texts?)),
};

/// By sacreBLEU's convention.
pub const SELF_BLEU_SACREBLEU: SampleMetric = SampleMetric {
    name: "self_bleu_sacrebleu",
    definition: "mean BLEU-4 of each text against the others, 0 to 100: sacreBLEU, 13a, lower case, effective order",
    better: Better::Lower,
    bounds: Bounds::UNKNOWN,
    headline: None,
    measure: |samples| mean(&sacrebleu_scores(samples.texts?)),
};

fn mean(scores: &[f64]) -> Option<Measured> {
    (scores.len() > 1).then(|| Measured::Number(scores.iter().sum::<f64>() / scores.len() as f64))
}

/// The score of each text against all others by NLTK's convention.
pub fn nltk_scores(texts: &[String]) -> Vec<f64> {
    let words: Vec<Vec<String>> = texts.iter().map(|text| bare_words(text)).collect();
    Matches::of_each(&words).iter().map(Matches::nltk).collect()
}

/// Self-BLEU with sacreBLEU's tokens and smoothing.
pub fn sacrebleu_scores(texts: &[String]) -> Vec<f64> {
    let tokens: Vec<Vec<String>> = texts.iter().map(|text| tokens_13a(&text.to_lowercase())).collect();
    Matches::of_each(&tokens).iter().map(|matches| matches.sacrebleu(true)).collect()
}

/// What BLEU is computed from: of each order the n-grams of a text and those that a reference has too.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Matches {
    /// n-grams of the text that references have, each as often as the one that has it most.
    correct: [usize; ORDER],
    /// n-grams of the text.
    total: [usize; ORDER],
    /// Tokens of the text.
    length: usize,
    /// Tokens of the reference whose length is nearest, the shorter of two.
    reference_length: usize,
}

impl Matches {
    /// Of a text against references.
    pub fn new(text: &[String], references: &[&[String]]) -> Self {
        let mut matches = Self {
            length: text.len(),
            reference_length: closest(text.len(), references.iter().map(|reference| reference.len())),
            ..Self::default()
        };
        for n in 1..=ORDER {
            let mut most: HashMap<&[String], usize> = HashMap::new();
            for reference in references {
                for (gram, count) in grams(reference, n) {
                    let known = most.entry(gram).or_default();
                    *known = (*known).max(count);
                }
            }
            matches.add(n, text, |gram| most.get(gram).copied().unwrap_or(0));
        }
        matches
    }

    /// Of each text against all others.
    pub fn of_each(texts: &[Vec<String>]) -> Vec<Self> {
        let lengths = |own: usize| texts.iter().enumerate().filter(move |(text, _)| *text != own);
        let mut all: Vec<Self> = texts
            .iter()
            .enumerate()
            .map(|(own, text)| Self {
                length: text.len(),
                reference_length: closest(text.len(), lengths(own).map(|(_, other)| other.len())),
                ..Self::default()
            })
            .collect();
        for n in 1..=ORDER {
            // The text that has an n-gram most often, how often, and how often the next one.
            let mut most: HashMap<&[String], (usize, usize, usize)> = HashMap::new();
            for (own, text) in texts.iter().enumerate() {
                for (gram, count) in grams(text, n) {
                    let (first, largest, second) = most.entry(gram).or_insert((own, 0, 0));
                    if count > *largest {
                        (*first, *largest, *second) = (own, count, *largest);
                    } else {
                        *second = count.max(*second);
                    }
                }
            }
            for (own, (matches, text)) in all.iter_mut().zip(texts).enumerate() {
                matches.add(n, text, |gram| match most[gram] {
                    (first, _, second) if first == own => second,
                    (_, largest, _) => largest,
                });
            }
        }
        all
    }

    fn add<'a>(&mut self, n: usize, text: &'a [String], in_references: impl Fn(&'a [String]) -> usize) {
        for (gram, count) in grams(text, n) {
            self.total[n - 1] += count;
            self.correct[n - 1] += count.min(in_references(gram));
        }
    }

    fn brevity_penalty(&self) -> f64 {
        match (self.length, self.reference_length) {
            (0, _) => 0.0,
            (length, reference) if length < reference => (1.0 - reference as f64 / length as f64).exp(),
            _ => 1.0,
        }
    }

    /// BLEU-4 as NLTK has it with `method1`, 0 to 1.
    pub fn nltk(&self) -> f64 {
        if self.correct[0] == 0 {
            return 0.0;
        }
        let log = |n: usize| {
            let correct = if self.correct[n] == 0 { 0.1 } else { self.correct[n] as f64 };
            (correct / self.total[n].max(1) as f64).ln()
        };
        self.brevity_penalty() * ((0..ORDER).map(log).sum::<f64>() / ORDER as f64).exp()
    }

    /// BLEU-4 as sacreBLEU has it with exponential smoothing, 0 to 100. The effective order leaves out orders that the text
    /// is too short for; without it, as for a whole corpus, such a text has 0.
    pub fn sacrebleu(&self, effective_order: bool) -> f64 {
        let orders = self.total.iter().take_while(|total| **total > 0).count();
        if self.correct.iter().all(|correct| *correct == 0) || (orders < ORDER && !effective_order) {
            return 0.0;
        }
        let mut smoothing = 1.0;
        let mut log = 0.0;
        for n in 0..orders {
            let total = self.total[n] as f64;
            log += match self.correct[n] {
                0 => {
                    smoothing *= 2.0;
                    (100.0 / (smoothing * total)).ln()
                }
                correct => (100.0 * correct as f64 / total).ln(),
            };
        }
        self.brevity_penalty() * (log / orders as f64).exp()
    }
}

fn grams(text: &[String], n: usize) -> HashMap<&[String], usize> {
    let mut counts = HashMap::new();
    for gram in text.windows(n) {
        *counts.entry(gram).or_default() += 1;
    }
    counts
}

fn closest(length: usize, others: impl Iterator<Item = usize>) -> usize {
    others.min_by_key(|other| (other.abs_diff(length), *other)).unwrap_or(0)
}

/// sacreBLEU's tokenizer `13a`: Western languages, marks apart, points and commas of numbers not.
pub fn tokens_13a(text: &str) -> Vec<String> {
    let mut line = text.replace("<skipped>", "").replace("-\n", "").replace('\n', " ");
    if line.contains('&') {
        line = line.replace("&quot;", "\"").replace("&amp;", "&").replace("&lt;", "<").replace("&gt;", ">");
    }
    let apart = |letter: char| matches!(letter, '{'..='~' | '['..='`' | ' '..='&' | '('..='+' | ':'..='@' | '/');
    let mut spaced = String::new();
    for letter in format!(" {line} ").chars() {
        match apart(letter) {
            true => spaced.extend([' ', letter, ' ']),
            false => spaced.push(letter),
        }
    }
    let digit = |letter: char| letter.is_ascii_digit();
    let mark = |letter: char| letter == '.' || letter == ',';
    let after = split_pairs(&spaced, |a, b| !digit(a) && mark(b), |a, b| format!("{a} {b} "));
    let before = split_pairs(&after, |a, b| mark(a) && !digit(b), |a, b| format!(" {a} {b}"));
    let dashes = split_pairs(&before, |a, b| digit(a) && b == '-', |a, b| format!("{a} {b} "));
    dashes.split_whitespace().map(str::to_owned).collect()
}

/// Rewrites each pair of letters that is meant, from left to right, none overlapping another.
fn split_pairs(text: &str, meant: impl Fn(char, char) -> bool, write: impl Fn(char, char) -> String) -> String {
    let letters: Vec<char> = text.chars().collect();
    let (mut written, mut place) = (String::new(), 0);
    while place < letters.len() {
        match letters.get(place + 1) {
            Some(next) if meant(letters[place], *next) => {
                written += &write(letters[place], *next);
                place += 2;
            }
            _ => {
                written.push(letters[place]);
                place += 1;
            }
        }
    }
    written
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::samples::tests::CATS;
    use crate::testing::{assert_all_near, assert_near};

    fn cats() -> Vec<String> {
        CATS.map(str::to_owned).to_vec()
    }

    #[test]
    fn nltk_has_these_scores() {
        let scores = nltk_scores(&cats());
        assert_all_near(&scores, &[0.102_669_010, 0.102_949_942, 0.058_335_447]);
        assert_near(1.0 - scores.iter().sum::<f64>() / 3.0, 0.912_015_200);
    }

    #[test]
    fn sacrebleu_has_these_scores() {
        assert_all_near(&sacrebleu_scores(&cats()), &[19.304_869_755, 19.357_693_494, 14.127_216_462]);
        // `corpus_bleu` of one text, with a stream for each reference, and with all references in one stream, of which it
        // sees the first alone.
        let tokens: Vec<Vec<String>> = cats().iter().map(|text| tokens_13a(text)).collect();
        let of = |own: usize, most: usize| {
            let others: Vec<&[String]> =
                (0..3).filter(|other| *other != own).map(|other| &tokens[other][..]).take(most).collect();
            Matches::new(&tokens[own], &others).sacrebleu(false)
        };
        assert_all_near(&[0, 1, 2].map(|own| of(own, 2)), &[19.304_869_755, 19.357_693_494, 0.0]);
        assert_all_near(&[0, 1, 2].map(|own| of(own, 1)), &[17.965_205_598, 19.357_693_494, 0.0]);
    }

    /// Texts with marks, numbers and dashes: `Tokenizer13a()(text)`, `BLEU(lowercase=True, effective_order=True)
    /// .sentence_score(text, others).score` of sacreBLEU 2.6.0, and `sentence_bleu(.., smoothing_function=method1)` of NLTK
    /// 3.10.4 on `text.translate(str.maketrans("", "", string.punctuation)).lower().split()`.
    #[test]
    fn marks_and_numbers_are_as_the_packages_have_them() {
        let texts = [
            "He said: \"it's 3.5 o'clock, or 1,000.\" (maybe)",
            "He said it is 3.5 o'clock -- or 1,000 & more...",
            "it's 4-5 o'clock, e.g. 5.",
            "HE SAID: it's 3.5 o'clock, or so.",
            "x",
        ]
        .map(str::to_owned);
        let expected = [
            "He said : \" it's 3.5 o'clock , or 1,000 . \" ( maybe )",
            "He said it is 3.5 o'clock -- or 1,000 & more . . .",
            "it's 4 - 5 o'clock , e . g . 5 .",
            "HE SAID : it's 3.5 o'clock , or so .",
            "x",
        ];
        for (text, expected) in texts.iter().zip(expected) {
            assert_eq!(tokens_13a(text).join(" "), expected);
        }
        let odd = "a..b,,c 1.2.3 x-y 3-4 -5 $5.00 &amp; <skipped>a/b [c] {d}~e";
        assert_eq!(tokens_13a(odd).join(" "), "a . . b , , c 1.2.3 x-y 3 - 4 -5 $ 5.00 & a / b [ c ] { d } ~ e");
        let sacrebleu = [36.158_552_251_455, 10.136_454_611_883, 8.913_765_521_398, 44.300_069_361_968, 0.0];
        assert_all_near(&sacrebleu_scores(&texts), &sacrebleu);
        let nltk = [0.840_896_415_254, 0.354_948_105_601, 0.042_829_637_105, 0.701_396_726_800, 0.0];
        assert_all_near(&nltk_scores(&texts), &nltk);
    }

    #[test]
    fn one_pass_over_all_texts_has_the_scores_of_each_against_the_others() {
        let texts = ["a b a b a b", "a b a b", "b a b", "", "a", "c c c c c", "a b a b a b"];
        let words: Vec<Vec<String>> = texts.iter().map(|text| bare_words(text)).collect();
        for (own, found) in Matches::of_each(&words).into_iter().enumerate() {
            let others: Vec<&[String]> =
                (0..texts.len()).filter(|other| *other != own).map(|other| &words[other][..]).collect();
            assert_eq!(found, Matches::new(&words[own], &others), "{}", texts[own]);
        }
    }
}
