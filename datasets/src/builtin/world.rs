//! The grammar behind the world's data: sampling, exact probabilities, and the whole support of a prompt.
//!
//! # The distribution
//!
//! A prompt is a question of a family about a subject; the subject's index in its family is `k`. An answer is made in
//! two moves: choose one of the family's sentences, then fill its slots from left to right. Every choice among `n`
//! options is drawn from the same law, a Zipf law rotated by a context `c`:
//!
//! ```text
//! p(option i | c) = (1 / (1 + (i + c) mod n)) / H_n        H_n = 1 + 1/2 + ... + 1/n
//! ```
//!
//! The context of the sentence is `k`. That of a slot is written in the grammar: `k` again, or the index of the option
//! taken in an earlier slot of the same sentence. The probability of an answer is the product of its choices. No answer
//! can be derived in two ways (tested over all of them), so this is its probability.
//!
//! [`Law`] chooses the power of the weights: 1 is the law above and 2 that of the base model's corpus, in which the
//! head of every slot drowns its tail. Weights are quotients of small integers, never powers or exponentials of
//! floating point numbers, so that every machine draws the same rows.

use std::sync::LazyLock;

use rand_chacha::rand_core::RngCore;

use super::words::FAMILIES;

/// Questions of one form and the sentences that answer them.
pub(super) struct Family {
    /// What stands before and after the subject in the question.
    pub question: (&'static str, &'static str),
    pub subjects: &'static [Subject],
    pub sentences: &'static [&'static [Piece]],
}

/// What a question is about.
pub(super) struct Subject {
    pub name: &'static str,
    /// Phrases that only this subject has, for [`Piece::Own`].
    pub own: &'static [&'static str],
}

/// A piece of a sentence.
pub(super) enum Piece {
    /// Fixed words.
    Words(&'static str),
    /// The name of the subject.
    Name,
    /// One of the options of a list.
    Slot(&'static [&'static str], Given),
    /// One of the subject's own phrases.
    Own(Given),
}

/// What the order of a slot's options depends on.
#[derive(Clone, Copy)]
pub(super) enum Given {
    /// The index of the subject.
    Subject,
    /// The index of the option taken in an earlier slot of the sentence, counted from 0.
    Slot(usize),
}

/// How steep the choices are.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(super) enum Law {
    /// Every option alike.
    Uniform,
    /// The law of the world.
    Zipf,
    /// The square of the world's weights: what the base model is shown.
    Head,
}

impl Law {
    /// The probability of option `i` of `n` in context `c`.
    fn probability(self, i: usize, n: usize, c: usize) -> f64 {
        self.weight(i, n, c) / (0..n).map(|j| self.weight(j, n, 0)).sum::<f64>()
    }

    /// Draws an option of `n` in context `c`.
    pub fn draw(self, n: usize, c: usize, rng: &mut impl RngCore) -> usize {
        let mut left = unit(rng);
        for i in 0..n {
            left -= self.probability(i, n, c);
            if left < 0.0 {
                return i;
            }
        }
        // Rounding can leave a few 1e-16 after the last option.
        n - 1
    }

    fn weight(self, i: usize, n: usize, c: usize) -> f64 {
        let rank = (1 + (i + c) % n) as f64;
        match self {
            Law::Uniform => 1.0,
            Law::Zipf => 1.0 / rank,
            Law::Head => 1.0 / (rank * rank),
        }
    }
}

/// A number in [0, 1) with 53 random bits.
fn unit(rng: &mut impl RngCore) -> f64 {
    (rng.next_u64() >> 11) as f64 * (1.0 / (1u64 << 53) as f64)
}

/// A question with its place in the grammar.
pub(super) struct Question {
    pub text: String,
    family: &'static Family,
    subject: usize,
}

pub(super) static QUESTIONS: LazyLock<Vec<Question>> = LazyLock::new(|| {
    let mut questions = Vec::new();
    for family in FAMILIES {
        for (subject, Subject { name, .. }) in family.subjects.iter().enumerate() {
            let text = format!("{}{name}{}", family.question.0, family.question.1);
            questions.push(Question { text, family, subject });
        }
    }
    questions
});

/// Every prompt of the world.
pub fn prompts() -> impl ExactSizeIterator<Item = &'static str> {
    QUESTIONS.iter().map(|question| question.text.as_str())
}

/// Draws an answer to `prompt` from the true distribution; `None` when `prompt` is not one of [`prompts`]. White space
/// at its end does not matter here or in the functions below.
pub fn sample(prompt: &str, rng: &mut impl RngCore) -> Option<String> {
    Some(question(prompt)?.draw(Law::Zipf, rng))
}

/// The true probability of `completion` after `prompt`: 0 for anything the grammar cannot say.
pub fn probability(prompt: &str, completion: &str) -> f64 {
    question(prompt).map_or(0.0, |question| question.probability(Law::Zipf, completion))
}

/// Every answer to `prompt`, each once, with its probability; they sum to 1. Empty when `prompt` is not one of
/// [`prompts`].
pub fn support(prompt: &str) -> impl Iterator<Item = (String, f64)> + use<> {
    question(prompt).map(|question| question.support(Law::Zipf)).unwrap_or_default().into_iter()
}

/// The entropy of the answers to `prompt` in nats, 0 when `prompt` is not one of [`prompts`].
pub fn entropy(prompt: &str) -> f64 {
    support(prompt).map(|(_, p)| -p * p.ln()).sum()
}

fn question(prompt: &str) -> Option<&'static Question> {
    QUESTIONS.iter().find(|question| question.text == prompt.trim_end())
}

impl Question {
    /// Draws an answer.
    pub fn draw(&self, law: Law, rng: &mut impl RngCore) -> String {
        let sentence = self.family.sentences[law.draw(self.family.sentences.len(), self.subject, rng)];
        let mut answer = String::new();
        let mut taken = Vec::new();
        for piece in sentence {
            match self.step(piece, &taken) {
                Step::Fixed(words) => answer.push_str(words),
                Step::Choice(options, context) => {
                    let option = law.draw(options.len(), context, rng);
                    answer.push_str(options[option]);
                    taken.push(option);
                }
            }
        }
        answer
    }

    /// The probability of an answer: the sum over its derivations.
    pub fn probability(&self, law: Law, answer: &str) -> f64 {
        let mut total = 0.0;
        self.sentences(law, &mut |sentence, p| {
            total += p * self.derive(law, sentence, answer, &mut Vec::new());
        });
        total
    }

    /// Every derivation with its answer and probability.
    pub fn support(&self, law: Law) -> Vec<(String, f64)> {
        let mut all = Vec::new();
        self.sentences(law, &mut |sentence, p| {
            self.extend(law, sentence, (String::new(), p), &mut Vec::new(), &mut all);
        });
        all
    }

    fn sentences(&self, law: Law, visit: &mut dyn FnMut(&'static [Piece], f64)) {
        let sentences = self.family.sentences;
        for (i, sentence) in sentences.iter().enumerate() {
            visit(sentence, law.probability(i, sentences.len(), self.subject));
        }
    }

    /// The probability that the pieces left make up exactly the text left, given the options taken.
    fn derive(&self, law: Law, pieces: &[Piece], text: &str, taken: &mut Vec<usize>) -> f64 {
        let Some((piece, pieces)) = pieces.split_first() else { return f64::from(text.is_empty()) };
        match self.step(piece, taken) {
            Step::Fixed(words) => text.strip_prefix(words).map_or(0.0, |text| self.derive(law, pieces, text, taken)),
            Step::Choice(options, context) => {
                let mut total = 0.0;
                for (i, option) in options.iter().enumerate() {
                    if let Some(text) = text.strip_prefix(option) {
                        taken.push(i);
                        total += law.probability(i, options.len(), context) * self.derive(law, pieces, text, taken);
                        taken.pop();
                    }
                }
                total
            }
        }
    }

    fn extend(
        &self,
        law: Law,
        pieces: &[Piece],
        (answer, p): (String, f64),
        taken: &mut Vec<usize>,
        all: &mut Vec<(String, f64)>,
    ) {
        let Some((piece, pieces)) = pieces.split_first() else {
            all.push((answer, p));
            return;
        };
        match self.step(piece, taken) {
            Step::Fixed(words) => self.extend(law, pieces, (answer + words, p), taken, all),
            Step::Choice(options, context) => {
                for (i, option) in options.iter().enumerate() {
                    let grown = (format!("{answer}{option}"), p * law.probability(i, options.len(), context));
                    taken.push(i);
                    self.extend(law, pieces, grown, taken, all);
                    taken.pop();
                }
            }
        }
    }

    fn step(&self, piece: &Piece, taken: &[usize]) -> Step {
        let subject = &self.family.subjects[self.subject];
        let context = |given: &Given| match given {
            Given::Subject => self.subject,
            Given::Slot(slot) => taken[*slot],
        };
        match piece {
            Piece::Words(words) => Step::Fixed(words),
            Piece::Name => Step::Fixed(subject.name),
            Piece::Slot(options, given) => Step::Choice(options, context(given)),
            Piece::Own(given) => Step::Choice(subject.own, context(given)),
        }
    }
}

/// A piece seen from a question: fixed, or a choice in a context.
enum Step {
    Fixed(&'static str),
    Choice(&'static [&'static str], usize),
}

#[cfg(test)]
mod tests {
    use std::collections::HashMap;

    use rand_chacha::ChaCha8Rng;
    use rand_chacha::rand_core::SeedableRng;

    use super::*;

    #[test]
    fn the_probabilities_of_a_prompt_sum_to_one_and_no_answer_has_two_derivations() {
        for question in QUESTIONS.iter() {
            for law in [Law::Uniform, Law::Zipf, Law::Head] {
                let all = question.support(law);
                let sum: f64 = all.iter().map(|(_, p)| p).sum();
                assert!((sum - 1.0).abs() < 1e-12, "{}: {sum}", question.text);
                let distinct: HashMap<&str, f64> = all.iter().map(|(answer, p)| (answer.as_str(), *p)).collect();
                assert_eq!(distinct.len(), all.len(), "{}", question.text);
            }
        }
    }

    #[test]
    fn reading_an_answer_gives_the_probability_of_writing_it() {
        for prompt in prompts() {
            for (answer, p) in support(prompt) {
                let read = probability(prompt, &answer);
                assert!((read - p).abs() <= 1e-15 * p, "{answer}: {read} and {p}");
            }
        }
    }

    #[test]
    fn answers_are_six_to_twenty_words_and_hundreds_to_thousands_a_prompt() {
        for prompt in prompts() {
            let answers: Vec<String> = support(prompt).map(|(answer, _)| answer).collect();
            assert!((300..=5000).contains(&answers.len()), "{prompt}: {} answers", answers.len());
            for answer in answers {
                assert!((6..=20).contains(&answer.split_whitespace().count()), "{answer}");
                assert!(!answer.contains("  ") && answer.trim() == answer && answer.is_ascii(), "{answer}");
            }
        }
    }

    /// Worked by hand from the formula: `Tell me about a bear.` is subject 1 of 8.
    #[test]
    fn a_probability_worked_by_hand() {
        let harmonic = |n: usize| (1..=n).map(|r| 1.0 / r as f64).sum::<f64>();
        // Sentence 0 has rank 2 of 2; trait 9 rank 1 of 10; habit 0 rank 2 of 8; place 2 given habit 0 rank 3 of 8;
        // reason 1 given trait 9 rank 1 of 5.
        let expected = 1.0 / 2.0 / harmonic(2) / harmonic(10) / 2.0 / harmonic(8) / 3.0 / harmonic(8) / harmonic(5);
        let answer = "The famous bear sleeps behind the old mill until the rain stops.";
        let actual = probability("Tell me about a bear.", answer);
        assert!((actual - expected).abs() < 1e-15, "{actual} and {expected}");
    }

    #[test]
    fn what_the_grammar_cannot_say_has_no_probability() {
        let prompt = "Tell me about a fox.";
        let answer = "The quiet fox sleeps in the forest.";
        assert!(probability(prompt, answer) > 0.0);
        assert!(probability("Tell me about a fox.\n", answer) > 0.0);
        for wrong in ["", "The", "The quiet fox sleeps in the forest", "The quiet bear sleeps in the forest."] {
            assert_eq!(probability(prompt, wrong), 0.0, "{wrong}");
        }
        assert_eq!(probability(prompt, &format!("{answer} ")), 0.0);
        assert_eq!(probability("Tell me about a unicorn.", answer), 0.0);
        assert_eq!(support("Tell me about a unicorn.").count(), 0);
        assert_eq!(sample("Tell me about a unicorn.", &mut ChaCha8Rng::seed_from_u64(0)), None);
    }

    /// Pearson's statistic over all answers expected at least five times, the others pooled. With d degrees of freedom
    /// it has mean d and variance about 2 d: the bound is five standard deviations, and a fixed seed makes it one
    /// number.
    #[test]
    fn drawn_frequencies_match_the_probabilities() {
        for (purpose, prompt) in prompts().enumerate() {
            let mut rng = ChaCha8Rng::seed_from_u64(purpose as u64);
            let draws = 40_000;
            let mut counts: HashMap<String, f64> = HashMap::new();
            for _ in 0..draws {
                *counts.entry(sample(prompt, &mut rng).expect("a known prompt")).or_default() += 1.0;
            }
            let (mut statistic, mut cells) = (0.0, 0.0);
            let (mut rest_expected, mut rest_seen) = (0.0, 0.0);
            for (answer, p) in support(prompt) {
                let expected = p * draws as f64;
                let seen = counts.remove(&answer).unwrap_or(0.0);
                if expected >= 5.0 {
                    statistic += (seen - expected).powi(2) / expected;
                    cells += 1.0;
                } else {
                    rest_expected += expected;
                    rest_seen += seen;
                }
            }
            assert!(counts.is_empty(), "{prompt}: drawn outside of the support: {counts:?}");
            if rest_expected > 0.0 {
                statistic += (rest_seen - rest_expected).powi(2) / rest_expected;
                cells += 1.0;
            }
            let freedom: f64 = cells - 1.0;
            assert!(
                (statistic - freedom).abs() < 5.0 * (2.0 * freedom).sqrt(),
                "{prompt}: {statistic} for {freedom} degrees of freedom"
            );
        }
    }

    #[test]
    fn entropy_is_that_of_the_choices() {
        // The chain rule by hand for `Tell me about a fox.`: rotation does not change the entropy of a choice.
        let zipf = |n: usize| {
            let harmonic: f64 = (1..=n).map(|r| 1.0 / r as f64).sum();
            (1..=n).map(|r| (r as f64 * harmonic).ln() / (r as f64 * harmonic)).sum::<f64>()
        };
        let first = zipf(10) + zipf(8) + zipf(8) + zipf(5);
        let second = zipf(6) + zipf(8) + zipf(8);
        let expected = zipf(2) + (2.0 * first + second) / 3.0;
        let actual = entropy("Tell me about a fox.");
        assert!((actual - expected).abs() < 1e-10, "{actual} and {expected}");
    }

    #[test]
    fn the_head_law_is_narrower() {
        for question in QUESTIONS.iter() {
            let entropy = |law| question.support(law).iter().map(|(_, p)| -p * p.ln()).sum::<f64>();
            assert!(entropy(Law::Head) < entropy(Law::Zipf) - 1.0, "{}", question.text);
        }
    }
}
