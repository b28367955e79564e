//! Text from a model: prompts in, continuations out.
//!
//! Prompts of different lengths run side by side, each continuation with a random stream of its own, so that what is drawn
//! for one does not depend on what stands beside it.

mod all;
mod draw;
mod growing;
mod heard;
mod model;
mod question;
mod stop;
mod two_temperatures;

use std::collections::VecDeque;

use datasets::Tokenizer;
use faults::Fault;
use metrics::temperature::Sampler;
use rand::SeedableRng;
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

pub use all::{sample_all, sample_some};
use draw::{draw, penalised};
pub use growing::Growing;
pub use heard::Heard;
pub use model::{DecoderRows, NextToken, last_logits};
pub use question::{check_room, question};
pub use two_temperatures::{Question, Stage, Stated, TwoTemperatures, sample_with_intent};

/// Continuations that run at once.
const AT_ONCE: usize = 64;

/// Most rows that are put in the order of their lengths: enough to have those of one length side by side. It is reached in
/// steps, so that the first samples come soon.
const WINDOW: usize = 8 * AT_ONCE;

/// How tokens are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct Settings {
    /// From which tokens, and how likely each is.
    pub sampler: Sampler,
    /// Makes tokens that stand in the prompt or were drawn less likely where it is above 1; 1 leaves them as they are.
    pub repetition_penalty: f64,
    /// Most tokens to draw.
    pub max_tokens: usize,
    /// Ends a text where one of these begins, be it a special token, which no text shows.
    pub stop: Vec<String>,
    /// Seed of the draws: each sample has a stream of its own.
    pub seed: u64,
}

/// One continuation.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Sample {
    /// The tokens, without the stop token; the last is whole, though a stop string begins inside of it.
    pub ids: Vec<u32>,
    /// The tokens as text, up to the stop string.
    pub text: String,
    /// Why it ends.
    pub end: End,
}

impl Sample {
    /// True where a token or a text ends it, and not its greatest length.
    pub fn has_ended(&self) -> bool {
        self.end != End::Limit
    }

    /// What a row of samples says of it.
    pub fn columns(&self) -> [(&'static str, Value); 3] {
        [("text", json!(self.text)), ("ids", json!(self.ids)), ("stopped", json!(self.has_ended()))]
    }
}

/// Why a continuation ends.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub enum End {
    /// The model drew a token that ends a text.
    Token,
    /// A stop string.
    Text,
    /// The most tokens, or the last position of the model.
    Limit,
}

/// What is told while samples are drawn.
#[derive(Debug, Clone, PartialEq)]
pub enum News<T> {
    /// So many tokens more were drawn, of samples that are done or go on.
    Tokens(usize),
    /// A sample that is done, and those before it are.
    Done(T),
}

/// Takes what is told; a fault ends the drawing.
pub type Take<'a, T> = dyn FnMut(News<T>) -> Result<(), Fault> + 'a;

/// `count` continuations of each prompt, none of which may be empty; all of the first prompt first. Each is given to
/// `take` as soon as it and those before it are there.
///
/// # Errors
/// Tokens that the tokenizer cannot turn into text, or what `take` has to say.
pub fn sample(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    count: usize,
    settings: &Settings,
    take: &mut Take<Sample>,
) -> Result<(), Fault> {
    sample_numbered(model, tokenizer, &mut keyed(prompts.iter().enumerate(), count, settings.seed), settings, take)
}

/// Each prompt `count` times, with the seed of the draws of each, by the prompt's number.
fn keyed<'a>(
    prompts: impl Iterator<Item = (usize, &'a Vec<u32>)>,
    count: usize,
    seed: u64,
) -> impl Iterator<Item = (Vec<u32>, u64)> {
    prompts.flat_map(move |(prompt, ids)| {
        (0..count).map(move |index| {
            let key = backbone::random::key(seed, &["sample", &prompt.to_string(), &index.to_string()]);
            (ids.clone(), key)
        })
    })
}

/// One continuation of each row, a prompt with the seed of its draws.
fn sample_numbered(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    rows: &mut dyn Iterator<Item = (Vec<u32>, u64)>,
    settings: &Settings,
    take: &mut Take<Sample>,
) -> Result<(), Fault> {
    let mut window = AT_ONCE;
    loop {
        let part: Vec<(Vec<u32>, u64)> = (&mut *rows).take(window).collect();
        if part.is_empty() {
            return Ok(());
        }
        let mut waiting: VecDeque<Option<Sample>> = vec![None; part.len()].into();
        let mut given = 0;
        continuations(model, tokenizer, &part, settings, &mut |news| {
            let (row, sample) = match news {
                News::Tokens(count) => return take(News::Tokens(count)),
                News::Done(done) => done,
            };
            waiting[row - given] = Some(sample);
            while let Some(sample) = waiting.front_mut().and_then(Option::take) {
                waiting.pop_front();
                given += 1;
                take(News::Done(sample))?;
            }
            Ok(())
        })?;
        window = WINDOW.min(2 * window);
    }
}

/// One continuation of each row, a prompt with the seed of its draws: each is given with the place of its row, in the order
/// in which they end.
fn continuations(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    rows: &[(Vec<u32>, u64)],
    settings: &Settings,
    take: &mut Take<(usize, Sample)>,
) -> Result<(), Fault> {
    // Rows of one length side by side are not padded, and rows with one prompt compute it once.
    let mut order: Vec<usize> = (0..rows.len()).collect();
    order.sort_by(|a, b| rows[*a].0.len().cmp(&rows[*b].0.len()).then_with(|| rows[*a].0.cmp(&rows[*b].0)));
    for part in order.chunks(AT_ONCE) {
        let drafts: Vec<Draft> = part.iter().map(|row| Draft::new(rows[*row].1)).collect();
        let prompts: Vec<&Vec<u32>> = part.iter().map(|row| &rows[*row].0).collect();
        let mut drawing = Drawing { tokenizer, settings, limit: model.positions() };
        side_by_side(model, &prompts, drafts, &mut drawing, &mut |news| match news {
            News::Tokens(count) => take(News::Tokens(count)),
            News::Done((place, draft)) => take(News::Done((part[place], draft.finish(settings, tokenizer)?))),
        })?;
    }
    Ok(())
}

fn side_by_side(
    model: &mut dyn NextToken,
    prompts: &[&Vec<u32>],
    mut drafts: Vec<Draft>,
    drawing: &mut Drawing,
    take: &mut Take<(usize, Draft)>,
) -> Result<(), Fault> {
    let mut distinct: Vec<Vec<u32>> = Vec::new();
    let mut places = Vec::new();
    for prompt in prompts {
        if distinct.last() != Some(*prompt) {
            distinct.push(prompt.to_vec());
        }
        places.push(distinct.len() - 1);
    }
    let first = model.start(&distinct);
    model.keep(&places);
    for ((draft, prompt), place) in drafts.iter_mut().zip(prompts).zip(&places) {
        drawing.push(draft, &first[*place], prompt)?;
    }
    // The model's rows are the drafts that go on, in order.
    let mut open: Vec<usize> = (0..drafts.len()).collect();
    loop {
        take(News::Tokens(open.len()))?;
        let (going, ended): (Vec<usize>, Vec<usize>) =
            (0..open.len()).partition(|row| drafts[open[*row]].end.is_none());
        for row in ended {
            let draft = std::mem::replace(&mut drafts[open[row]], Draft::new(0));
            take(News::Done((open[row], draft)))?;
        }
        if going.is_empty() {
            return Ok(());
        }
        if going.len() < open.len() {
            model.keep(&going);
            open = going.iter().map(|row| open[*row]).collect();
        }
        let newest = |index: &usize| *drafts[*index].ids.last().expect("a draft that goes on has drawn a token");
        let logits = model.step(&open.iter().map(newest).collect::<Vec<_>>());
        for (index, logits) in open.iter().zip(&logits) {
            drawing.push(&mut drafts[*index], logits, prompts[*index])?;
        }
    }
}

/// A continuation in the making.
struct Draft {
    ids: Vec<u32>,
    /// A special token was drawn.
    special: bool,
    random: ChaCha8Rng,
    end: Option<End>,
}

impl Draft {
    fn new(seed: u64) -> Self {
        Self { ids: Vec::new(), special: false, random: ChaCha8Rng::seed_from_u64(seed), end: None }
    }

    fn finish(self, settings: &Settings, tokenizer: &Tokenizer) -> Result<Sample, Fault> {
        let end = self.end.unwrap_or(End::Limit);
        let (ids, text) = match stop::cut(tokenizer, &self.ids, self.special, &settings.stop)? {
            Some(cut) => (self.ids[..cut.tokens].to_vec(), cut.text),
            None => (self.ids.clone(), tokenizer.decode(&self.ids, true)?),
        };
        Ok(Sample { ids, text, end })
    }
}

/// The settings and inputs that all draws of one pass share.
struct Drawing<'a> {
    tokenizer: &'a Tokenizer,
    settings: &'a Settings,
    /// Positions of the model.
    limit: usize,
}

impl Drawing<'_> {
    /// Draws the next token of a draft of this prompt.
    fn push(&mut self, draft: &mut Draft, logits: &[f32], prompt: &[u32]) -> Result<(), Fault> {
        let most = self.settings.max_tokens.min(self.limit.saturating_sub(prompt.len()));
        if draft.ids.len() < most {
            let before = prompt.iter().chain(&draft.ids).copied();
            let logits = penalised(logits, self.settings.repetition_penalty, before);
            let token = draw(&logits, &self.settings.sampler, &mut draft.random).ok_or_else(|| {
                Fault::new("the model's logits are not finite").hint("its weights are not: take another checkpoint")
            })?;
            if self.tokenizer.stop_tokens().contains(&token) {
                draft.end = Some(End::Token);
                return Ok(());
            }
            draft.ids.push(token);
            let stop = &self.settings.stop;
            draft.special |= !stop.is_empty() && self.tokenizer.is_special(token);
            if stop::stops(self.tokenizer, &draft.ids, draft.special, stop)? {
                draft.end = Some(End::Text);
                return Ok(());
            }
        }
        if draft.ids.len() >= most {
            draft.end = Some(End::Limit);
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use backbone::embedded_tokenizer;

    use super::*;

    /// Logits of the next token after some tokens.
    type Logits = Box<dyn Fn(&[u32]) -> Vec<f32>>;

    /// A model whose next token depends on the last one alone, by a table that a test writes.
    pub(super) struct Table {
        pub next: Logits,
        pub rows: Vec<Vec<u32>>,
        pub positions: usize,
    }

    impl NextToken for Table {
        fn start(&mut self, prompts: &[Vec<u32>]) -> Vec<Vec<f32>> {
            self.rows = prompts.to_vec();
            self.rows.iter().map(|row| (self.next)(row)).collect()
        }

        fn keep(&mut self, rows: &[usize]) {
            self.rows = rows.iter().map(|row| self.rows[*row].clone()).collect();
        }

        fn step(&mut self, tokens: &[u32]) -> Vec<Vec<f32>> {
            for (row, token) in self.rows.iter_mut().zip(tokens) {
                row.push(*token);
            }
            self.rows.iter().map(|row| (self.next)(row)).collect()
        }

        fn positions(&self) -> usize {
            self.positions
        }
    }

    fn all(
        model: &mut dyn NextToken,
        tokenizer: &Tokenizer,
        prompts: &[Vec<u32>],
        count: usize,
        settings: &Settings,
    ) -> Vec<Sample> {
        sample_all(model, tokenizer, prompts, count, settings, &mut |_| ()).expect("text")
    }

    /// Counts up from the last token, and ends after token 40.
    fn counting(end: u32) -> Table {
        let next = move |row: &[u32]| {
            let last = *row.last().expect("a token");
            let mut logits = vec![f32::NEG_INFINITY; 768];
            logits[if last >= 40 { end } else { last + 1 } as usize] = 0.0;
            logits
        };
        Table { next: Box::new(next), rows: Vec::new(), positions: 64 }
    }

    #[test]
    fn every_row_goes_on_from_its_own_prompt_whatever_stands_beside_it() {
        let tokenizer = embedded_tokenizer().unwrap_or_else(|faults| panic!("{faults}"));
        let end = tokenizer.end_token().expect("the tokenizer has one");
        let mut model = counting(end);
        let prompts = [vec![30, 31, 32, 38], vec![39], vec![30, 20]];
        let settings = Settings { max_tokens: 5, ..settings(1.0, 1.0, 0) };
        let samples = all(&mut model, &tokenizer, &prompts, 2, &settings);
        let ids: Vec<&[u32]> = samples.iter().map(|sample| sample.ids.as_slice()).collect();
        let long: &[u32] = &[21, 22, 23, 24, 25];
        assert_eq!(ids, [&[39u32, 40][..], &[39, 40], &[40], &[40], long, long]);
        let ends: Vec<End> = samples.iter().map(|sample| sample.end).collect();
        assert_eq!(ends, [End::Token, End::Token, End::Token, End::Token, End::Limit, End::Limit]);
        model.positions = 6;
        let short = all(&mut model, &tokenizer, &prompts[2..], 1, &settings);
        assert_eq!(short[0].ids, [21, 22, 23, 24]);
    }

    /// The second row ends three tokens before the first, and waits for it.
    #[test]
    fn a_sample_is_given_as_soon_as_it_and_those_before_it_are_done() {
        let tokenizer = embedded_tokenizer().unwrap_or_else(|faults| panic!("{faults}"));
        let end = tokenizer.end_token().expect("the tokenizer has one");
        let mut model = counting(end);
        let mut told = |prompts: &[Vec<u32>]| {
            let mut told = Vec::new();
            let settings = Settings { max_tokens: 9, ..settings(1.0, 1.0, 0) };
            let take = &mut |news: News<Sample>| {
                told.push(match news {
                    News::Tokens(count) => format!("{count}"),
                    News::Done(sample) => format!("{:?}", sample.ids),
                });
                Ok(())
            };
            sample(&mut model, &tokenizer, prompts, 1, &settings, take).expect("text");
            told
        };
        assert_eq!(told(&[vec![39], vec![37]]), ["2", "2", "[40]", "1", "1", "[38, 39, 40]"]);
        assert_eq!(told(&[vec![37], vec![39]]), ["2", "2", "1", "1", "[38, 39, 40]", "[40]"]);
        // What takes them may end the drawing.
        let fault =
            sample(&mut model, &tokenizer, &[vec![1]], 1, &settings(1.0, 1.0, 0), &mut |_| Err(Fault::new("enough")));
        assert_eq!(fault.expect_err("a fault").message, "enough");
    }

    /// The model writes one text, token by token; stop strings lie across its tokens.
    #[test]
    fn a_stop_string_ends_a_text_wherever_its_tokens_are_cut() {
        let tokenizer = embedded_tokenizer().unwrap_or_else(|faults| panic!("{faults}"));
        let (text, end) = ("The quiet fox sleeps", tokenizer.end_token().expect("the tokenizer has one"));
        let ids = tokenizer.encode(text, false).expect("ids");
        assert!(ids.len() > 4, "several tokens");
        let next = move |row: &[u32]| {
            let mut logits = vec![f32::NEG_INFINITY; 768];
            logits[ids.get(row.len() - 1).copied().unwrap_or(end) as usize] = 0.0;
            logits
        };
        let mut model = Table { next: Box::new(next), rows: Vec::new(), positions: 64 };
        for (stop, expected, why) in [
            (&["t f"][..], "The quie", End::Text),
            (&["The"], "", End::Text),
            (&["sleeps", "x s"], "The quiet fo", End::Text),
            (&["zebra"], text, End::Token),
        ] {
            let stop = stop.iter().map(|stop| stop.to_string()).collect();
            let settings = Settings { max_tokens: 40, stop, ..settings(1.0, 1.0, 0) };
            let found = all(&mut model, &tokenizer, &[vec![5]], 1, &settings).remove(0);
            assert_eq!((found.text.as_str(), found.end), (expected, why), "{:?}", settings.stop);
            // The tokens are those of the text, and no more than the one that the stop begins in.
            let whole = tokenizer.decode(&found.ids, true).expect("text");
            assert!(whole.starts_with(expected), "{whole:?} is not {expected:?}");
            let short = tokenizer.decode(&found.ids[..found.ids.len().saturating_sub(1)], true).expect("text");
            assert!(short.len() < expected.len() || expected.is_empty() && short.is_empty(), "{short:?}");
        }
    }

    /// Special tokens are in no text, and end one all the same.
    #[test]
    fn the_text_of_a_special_token_stops() {
        let tokenizer = embedded_tokenizer().unwrap_or_else(|faults| panic!("{faults}"));
        let bos = tokenizer.bos().expect("the tokenizer has one");
        let mark = tokenizer.decode(&[bos], false).expect("text");
        let text = |text: &str| tokenizer.encode(text, false).expect("ids");
        let ids = [text("The quiet fox"), vec![bos], text(" sleeps")].concat();
        let next = move |row: &[u32]| {
            let mut logits = vec![f32::NEG_INFINITY; 768];
            logits[ids.get(row.len() - 1).copied().unwrap_or(5) as usize] = 0.0;
            logits
        };
        let mut model = Table { next: Box::new(next), rows: Vec::new(), positions: 64 };
        let inside = format!("x{mark} sl");
        let half = &mark[1..];
        for (stop, expected) in [
            (vec![mark.as_str()], "The quiet fox"),
            // Across it, and inside of it.
            (vec![&inside], "The quiet fo"),
            (vec![half], "The quiet fox"),
            // What the text shows without it.
            (vec!["fox sleeps"], "The quiet "),
            (vec!["zebra", "leeps", &mark], "The quiet fox"),
            (vec!["quiet", &mark], "The "),
        ] {
            let stop: Vec<String> = stop.into_iter().map(str::to_owned).collect();
            let settings = Settings { max_tokens: 40, stop, ..settings(1.0, 1.0, 0) };
            let found = all(&mut model, &tokenizer, &[vec![5]], 1, &settings).remove(0);
            assert_eq!((found.text.as_str(), found.end), (expected, End::Text), "{:?}", settings.stop);
            let decoded = tokenizer.decode(&found.ids, false).expect("text");
            assert!(!decoded.contains(&mark), "{decoded:?}");
        }
    }

    /// One token at a time.
    pub(super) fn settings(temperature: f64, top_p: f64, top_k: usize) -> Settings {
        let sampler = Sampler { top_p, top_k, ..Sampler::at(temperature) };
        Settings { sampler, repetition_penalty: 1.0, max_tokens: 1, stop: Vec::new(), seed: 1 }
    }
}
