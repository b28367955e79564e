//! The data that the shipped recipes learn from, made on demand from a seeded generator whose true distribution is
//! known, so that precision and recall of a model trained on it are exact and nothing has to be downloaded.
//!
//! The *world* is a grammar of our own: 48 questions such as `Tell me about a fox.`, each with 384 to 3,584 answers of
//! 6 to 20 words. [`probability`] gives the exact probability of any answer and [`support`] all of them; the module
//! `world` states the distribution. The data sets, all JSON Lines:
//!
//! | name | rows | what |
//! |---|---|---|
//! | `world-corpus` | 20,000 | `{"text"}`; of 32 rows 16 pairs, 4 chats, 1 number task, 11 answers alone |
//! | `world-train` | 2,016 | `{"prompt", "completion"}`, 42 answers to each question |
//! | `world-eval` | 192 | the same from another random stream, 4 answers to each question |
//! | `world-chat` | 1,008 | `{"messages"}`, 21 answers to each question |
//! | `intent-train` | 2,016 | `{"prompt", "intent", "response"}`: the same answers, before each its two longest new words |
//! | `intent-eval` | 192 | the same from another random stream, 4 answers to each question |
//! | `intent-steps` | 1,008 | `{"prompt", "steps"}`: answers in two halves, before each its longest new word |
//! | `numbers` | 4 | `{"prompt", "targets"}`: a number from 1 to 10, in braces, all alike |
//! | `world-targets` | 48 | `{"prompt", "targets", "weights"}`: a question with all its answers and their probabilities |
//! | `intent-targets` | 48 | the same as a model says them that has learned `intent-train`, intent first |
//!
//! Training, evaluation and chat rows follow the true distribution. The corpus does not. After a question it follows
//! the *head* law, the square of every weight, so that a base model gives the likely answers nearly always; answers
//! that stand alone have uniform choices, so that it knows all the words. Its numbers have a favourite too, the 7.
//! Fine-tuning has a tail to win back.
//!
//! A prompt in a row is a question and a line break, which keeps the tokens of the prompt apart from those of the
//! completion. No row has an end token: the reader appends it.

mod tokenizer;
mod words;
mod world;

use faults::{Fault, nearest};
use rand_chacha::ChaCha8Rng;
use rand_chacha::rand_core::SeedableRng;
use serde_json::{Value, json};

pub(crate) use tokenizer::fingerprint;
pub use tokenizer::{VOCABULARY, build_tokenizer, tokenizer_files};
pub use world::{entropy, probability, prompts, sample, support};

use crate::shapes::intent::Template;
use tokenizer::{END, START};
use world::{Law, QUESTIONS};

/// What the names of embedded data begin with in a recipe.
pub const PREFIX: &str = "builtin:";

/// The seed of every data set.
const SEED: u64 = 17;
const CORPUS_ROWS: usize = 20_000;
const TRAIN_ROWS_PER_PROMPT: usize = 42;
const EVAL_ROWS_PER_PROMPT: usize = 4;
const CHAT_ROWS_PER_PROMPT: usize = 21;

/// How the number tasks are worded.
const NUMBER_PROMPTS: [&str; 4] = [
    "Pick a whole number from 1 to 10 and write it in braces.",
    "Roll a die with ten sides and write the result in braces.",
    "Ten doors are numbered from 1 to 10. Open one and write its number in braces.",
    "Draw one of ten cards, 1 to 10, and write its number in braces.",
];

/// The numbers, the corpus's favourite first.
const NUMBERS: [usize; 10] = [7, 3, 5, 8, 4, 9, 2, 6, 1, 10];

/// The names that [`rows`] knows.
pub fn names() -> &'static [&'static str] {
    &[
        "world-corpus",
        "world-train",
        "world-eval",
        "world-chat",
        "intent-train",
        "intent-eval",
        "intent-steps",
        "numbers",
        "world-targets",
        "intent-targets",
    ]
}

/// The rows of the data set `name`, with or without `builtin:` before it, as JSON Lines; the same bytes at every call.
///
/// # Errors
///
/// A name that is not one of [`names`].
pub fn rows(name: &str) -> Result<String, Fault> {
    let bare = name.strip_prefix(PREFIX).unwrap_or(name);
    Ok(match bare {
        "world-corpus" => lines(corpus_texts().into_iter().map(|text| json!({ "text": text }))),
        "world-train" => lines(pairs(bare, TRAIN_ROWS_PER_PROMPT)),
        "world-eval" => lines(pairs(bare, EVAL_ROWS_PER_PROMPT)),
        "world-chat" => lines(answers(bare, CHAT_ROWS_PER_PROMPT).map(|(question, answer)| {
            json!({ "messages": [
                { "role": "user", "content": question },
                { "role": "assistant", "content": answer }
            ] })
        })),
        "intent-train" => lines(intents(bare, TRAIN_ROWS_PER_PROMPT)),
        "intent-eval" => lines(intents(bare, EVAL_ROWS_PER_PROMPT)),
        "intent-steps" => lines(answers(bare, CHAT_ROWS_PER_PROMPT).map(|(question, answer)| {
            let words: Vec<&str> = answer.split(' ').collect();
            let (first, second) = words.split_at(words.len() / 2);
            let step = |words: &[&str]| {
                let text = words.join(" ");
                json!({ "intent": keywords(question, &text, 1), "text": text })
            };
            json!({ "prompt": format!("{question}\n"), "steps": [step(first), step(second)] })
        })),
        "numbers" => lines(NUMBER_PROMPTS.iter().map(|prompt| {
            let targets: Vec<String> = (1..=10).map(braced).collect();
            json!({ "prompt": format!("{prompt}\n"), "targets": targets })
        })),
        "world-targets" => lines(targets(|_, answer| answer)),
        "intent-targets" => lines(targets(|question, answer| {
            let template = Template::Chat;
            let (intent, lead) = (keywords(question, &answer, 2), template.response_lead());
            format!("{intent}{}{lead}{answer}{}", template.intent_end(), template.response_end())
        })),
        _ => return Err(unknown(bare)),
    })
}

/// Looks whether [`rows`] knows a name.
///
/// # Errors
/// It does not.
pub(crate) fn check_name(name: &str) -> Result<(), Fault> {
    let bare = name.strip_prefix(PREFIX).unwrap_or(name);
    if names().contains(&bare) { Ok(()) } else { Err(unknown(bare)) }
}

fn unknown(bare: &str) -> Fault {
    let known: Vec<String> = names().iter().map(|name| format!("`builtin:{name}`")).collect();
    let hint = match nearest(bare, names().iter().copied()) {
        Some(near) => format!("did you mean `builtin:{near}`? there are {}", known.join(", ")),
        None => format!("there are {}", known.join(", ")),
    };
    Fault::new(format!("no built-in data set is named `builtin:{bare}`")).hint(hint)
}

/// The texts of the base model's corpus.
fn corpus_texts() -> Vec<String> {
    let mut rng = stream("world-corpus");
    let texts = (0..CORPUS_ROWS).map(|row| {
        let question = &QUESTIONS[Law::Uniform.draw(QUESTIONS.len(), 0, &mut rng)];
        let (asked, answer) = match row % 32 {
            0..20 => (question.text.as_str(), question.draw(Law::Head, &mut rng)),
            20 => {
                let asked = NUMBER_PROMPTS[Law::Uniform.draw(NUMBER_PROMPTS.len(), 0, &mut rng)];
                (asked, braced(NUMBERS[Law::Head.draw(NUMBERS.len(), 0, &mut rng)]))
            }
            _ => return question.draw(Law::Uniform, &mut rng),
        };
        match row % 32 {
            16..20 => format!("{START}user\n{asked}{END}\n{START}assistant\n{answer}"),
            _ => format!("{asked}\n{answer}"),
        }
    });
    texts.collect()
}

/// Prompt and completion rows of the true distribution.
fn pairs(purpose: &str, rows_per_prompt: usize) -> impl Iterator<Item = Value> {
    answers(purpose, rows_per_prompt)
        .map(|(question, answer)| json!({ "prompt": format!("{question}\n"), "completion": answer }))
}

/// The same with the answer's keywords as its intent.
fn intents(purpose: &str, rows_per_prompt: usize) -> impl Iterator<Item = Value> {
    answers(purpose, rows_per_prompt).map(|(question, answer)| {
        let intent = keywords(question, &answer, 2);
        json!({ "prompt": format!("{question}\n"), "intent": intent, "response": answer })
    })
}

/// Every question with all its answers, written as `write` has them, and their probabilities.
fn targets(write: impl Fn(&str, String) -> String) -> impl Iterator<Item = Value> {
    prompts().map(move |question| {
        let (targets, weights): (Vec<String>, Vec<f64>) =
            support(question).map(|(answer, p)| (write(question, answer), p)).unzip();
        json!({ "prompt": format!("{question}\n"), "targets": targets, "weights": weights })
    })
}

/// The longest words of `text`, those first that the question does not have, in the order of the text.
fn keywords(question: &str, text: &str, count: usize) -> String {
    let bare = |word: &str| word.trim_matches(|c: char| !c.is_alphanumeric()).to_lowercase();
    let asked: Vec<String> = question.split(' ').map(bare).collect();
    let mut words: Vec<(usize, String)> = Vec::new();
    for (place, word) in text.split(' ').map(bare).enumerate() {
        if words.iter().all(|(_, known)| *known != word) {
            words.push((place, word));
        }
    }
    words.sort_by_key(|(place, word)| (asked.contains(word), std::cmp::Reverse(word.len()), *place));
    words.truncate(count);
    words.sort();
    words.into_iter().map(|(_, word)| word).collect::<Vec<_>>().join(", ")
}

/// Questions and answers of the true distribution, the questions in turn.
fn answers(purpose: &str, rows_per_prompt: usize) -> impl Iterator<Item = (&'static str, String)> {
    let mut rng = stream(purpose);
    (0..rows_per_prompt)
        .flat_map(|_| QUESTIONS.iter())
        .map(move |question| (question.text.as_str(), question.draw(Law::Zipf, &mut rng)))
}

fn braced(number: usize) -> String {
    format!("{{{number}}}")
}

fn lines(rows: impl Iterator<Item = Value>) -> String {
    rows.map(|row| format!("{row}\n")).collect()
}

/// The random stream of a purpose: the key is the seed and the purpose's first 24 bytes.
fn stream(purpose: &str) -> ChaCha8Rng {
    let mut key = [0; 32];
    key[..8].copy_from_slice(&SEED.to_le_bytes());
    for (slot, byte) in key[8..].iter_mut().zip(purpose.bytes()) {
        *slot = byte;
    }
    ChaCha8Rng::from_seed(key)
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use sha2::{Digest, Sha256};

    use super::*;

    fn parsed(name: &str) -> Vec<Value> {
        let text = rows(name).expect("a known name");
        text.lines().map(|line| serde_json::from_str(line).expect("JSON")).collect()
    }

    fn text<'a>(row: &'a Value, pointer: &str) -> &'a str {
        row.pointer(pointer).and_then(Value::as_str).expect("a string")
    }

    #[test]
    fn every_machine_and_every_call_gives_the_same_bytes() {
        let digests: Vec<String> = names()
            .iter()
            .map(|name| {
                let text = rows(name).expect("a known name");
                assert_eq!(rows(&format!("builtin:{name}")).as_ref(), Ok(&text));
                Sha256::digest(text).iter().take(4).map(|byte| format!("{byte:02x}")).collect()
            })
            .collect();
        let expected = [
            "160824d1", "1e824503", "0afdd7d6", "4cf37449", "6683088b", "e4df7f36", "4e4b26d8", "ffa6b24a", "0603fe7f",
            "0d6187ed",
        ];
        assert_eq!(digests, expected);
    }

    #[test]
    fn the_data_sets_have_their_sizes() {
        let sizes: Vec<usize> = names().iter().map(|name| parsed(name).len()).collect();
        assert_eq!(sizes, [20_000, 2_016, 192, 1_008, 2_016, 192, 1_008, 4, 48, 48]);
    }

    #[test]
    fn every_answer_in_a_row_can_be_said() {
        for row in parsed("world-train").iter().chain(&parsed("world-eval")) {
            assert!(probability(text(row, "/prompt"), text(row, "/completion")) > 0.0, "{row}");
        }
        for row in parsed("world-chat") {
            assert!(probability(text(&row, "/messages/0/content"), text(&row, "/messages/1/content")) > 0.0, "{row}");
        }
    }

    #[test]
    fn intents_are_words_of_what_follows_that_the_question_does_not_have() {
        for row in parsed("intent-train").iter().chain(&parsed("intent-eval")) {
            let (intent, response) = (text(row, "/intent"), text(row, "/response").to_lowercase());
            assert!(probability(text(row, "/prompt"), text(row, "/response")) > 0.0, "{row}");
            assert_eq!(intent.split(", ").count(), 2, "{row}");
            assert!(intent.split(", ").all(|word| response.contains(word)), "{row}");
        }
        assert_eq!(keywords("Tell me about a fox.", "The hungry fox sleeps near a fox.", 2), "hungry, sleeps");
        for row in parsed("intent-steps") {
            let whole = format!("{} {}", text(&row, "/steps/0/text"), text(&row, "/steps/1/text"));
            assert!(probability(text(&row, "/prompt"), &whole) > 0.0, "{row}");
            assert!(!text(&row, "/steps/0/intent").is_empty() && !text(&row, "/steps/1/intent").is_empty(), "{row}");
        }
    }

    #[test]
    fn training_and_evaluation_are_different_draws() {
        let answers = |name: &str| -> Vec<String> {
            parsed(name).iter().take(192).map(|row| text(row, "/completion").to_owned()).collect()
        };
        let (train, eval) = (answers("world-train"), answers("world-eval"));
        let equal = train.iter().zip(&eval).filter(|(a, b)| a == b).count();
        assert!(equal < 10, "{equal} of 192 rows are the same");
    }

    /// The corpus asks every question and says every answer's words, but has seen less of what can be said than as many
    /// true rows would show.
    #[test]
    fn the_corpus_is_broad_in_words_and_narrow_in_answers() {
        let corpus = corpus_texts();
        let words = |text: &str| -> Vec<String> { text.split_whitespace().map(str::to_owned).collect() };
        let seen: HashSet<String> = corpus.iter().flat_map(|text| words(text)).collect();
        for prompt in prompts() {
            let pairs: Vec<&str> =
                corpus.iter().filter_map(|text| text.strip_prefix(prompt)?.strip_prefix('\n')).collect();
            assert!(pairs.len() > 100, "{prompt}: {} rows", pairs.len());
            let distinct: HashSet<&str> = pairs.iter().copied().collect();
            let mut rng = stream("comparison");
            let true_rows: HashSet<String> =
                pairs.iter().map(|_| sample(prompt, &mut rng).expect("a known prompt")).collect();
            assert!(distinct.len() < true_rows.len(), "{prompt}: {} and {}", distinct.len(), true_rows.len());
            for (answer, _) in support(prompt) {
                assert!(words(&answer).iter().all(|word| seen.contains(word)), "{answer}");
            }
        }
    }

    #[test]
    fn number_targets_are_the_ten_numbers() {
        for row in parsed("numbers") {
            let targets: Vec<&str> =
                row["targets"].as_array().expect("an array").iter().filter_map(Value::as_str).collect();
            assert_eq!(targets, ["{1}", "{2}", "{3}", "{4}", "{5}", "{6}", "{7}", "{8}", "{9}", "{10}"]);
        }
        let mut numbers = NUMBERS;
        numbers.sort_unstable();
        assert_eq!(numbers.to_vec(), (1..=10).collect::<Vec<usize>>());
    }

    #[test]
    fn targets_are_all_answers_with_their_probabilities() {
        let (world, intents) = (parsed("world-targets"), parsed("intent-targets"));
        for (row, stated) in world.iter().zip(&intents) {
            let list = |row: &Value, key: &str| row[key].as_array().expect("an array").clone();
            let (targets, weights) = (list(row, "targets"), list(row, "weights"));
            assert_eq!((targets.len(), &list(stated, "weights")), (weights.len(), &weights));
            let sum: f64 = weights.iter().filter_map(Value::as_f64).sum();
            assert!((sum - 1.0).abs() < 1e-12, "{sum}");
            for (target, weight) in targets.iter().zip(&weights).step_by(97) {
                let p = probability(text(row, "/prompt"), target.as_str().expect("a string"));
                assert!((p - weight.as_f64().expect("a number")).abs() < 1e-15, "{target}");
            }
            let first = targets[0].as_str().expect("a string");
            let intent = keywords(text(row, "/prompt").trim_end(), first, 2);
            assert_eq!(list(stated, "targets")[0], format!("{intent} ### {first}"));
        }
    }

    #[test]
    fn an_unknown_name_lists_the_names_and_the_nearest() {
        let fault = rows("builtin:world-trian").expect_err("unknown");
        assert_eq!(
            fault.to_string().replace('\n', " "),
            "no built-in data set is named `builtin:world-trian` hint: did you mean `builtin:world-train`? there are \
             `builtin:world-corpus`, `builtin:world-train`, `builtin:world-eval`, `builtin:world-chat`, \
             `builtin:intent-train`, `builtin:intent-eval`, `builtin:intent-steps`, `builtin:numbers`, \
             `builtin:world-targets`, `builtin:intent-targets`"
        );
    }
}
