//! Sampling at two temperatures (Intent Factored Generation, arXiv 2506.09659): an intent at a high one, up to the
//! separator, then the response at a low one; step by step in the templates that take turns.
//!
//! Each stage reads all before it as text and encodes it anew, as the rows of training were encoded: the separator is
//! written here, whatever the model drew in its place.

use datasets::{SEPARATOR, Template, Tokenizer};
use faults::Fault;

use super::{AT_ONCE, End, News, NextToken, Sample, Settings, Take, WINDOW, continuations};

/// How intents and responses are drawn.
#[derive(Debug, Clone, PartialEq)]
pub struct TwoTemperatures {
    /// How intent and response become one text.
    pub template: Template,
    /// For the intents: temperature and most tokens. Stop strings are the template's own.
    pub intent: Settings,
    /// For the responses; the template's own stop strings are added.
    pub response: Settings,
    /// Most stages of a stepwise answer, an intent or a response each.
    pub max_stages: usize,
}

/// What is asked, as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Question {
    /// The text that the answer follows.
    pub text: String,
    /// The tokenizer puts its own tokens around it.
    pub special: bool,
}

/// A part of an answer.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stage {
    /// What the model said it was about to say, without the separator.
    pub intent: String,
    /// What it then said; empty where the answer or the budget ended with the intent.
    pub response: String,
}

/// An answer with its intents.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stated {
    /// One, or one a step.
    pub stages: Vec<Stage>,
    /// The answer as the model saw it, separators and all.
    pub text: String,
    /// True when the model ended it, false at a limit.
    pub stopped: bool,
}

/// An answer in the making.
struct Draft {
    /// Its question, and which answer to that it is.
    at: (usize, usize),
    text: String,
    /// The tokenizer puts its own tokens around it.
    special: bool,
    /// Length of the question and the template's head in `text`.
    asked: usize,
    stages: Vec<Stage>,
    done: bool,
    stopped: bool,
}

/// `count` answers to each question, all of the first question first. Each is given to `take` when the stage is over in which
/// it and those before it end.
///
/// # Errors
/// Text that the tokenizer cannot encode, tokens that it cannot decode, or what `take` has to say.
pub fn sample_with_intent(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    questions: &[Question],
    count: usize,
    settings: &TwoTemperatures,
    take: &mut Take<Stated>,
) -> Result<(), Fault> {
    let mut window = AT_ONCE;
    let mut next = 0;
    while next < questions.len() * count {
        let end = (questions.len() * count).min(next + window);
        let drafts = (next..end).map(|index| {
            let Question { text, special } = &questions[index / count];
            let text = format!("{text}{}", settings.template.head());
            let at = (index / count, index % count);
            Draft { at, special: *special, asked: text.len(), text, stages: vec![], done: false, stopped: false }
        });
        answers(model, tokenizer, drafts.collect(), settings, take)?;
        next = end;
        window = WINDOW.min(2 * window);
    }
    Ok(())
}

/// Ends the drafts, stage by stage side by side.
fn answers(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    mut drafts: Vec<Draft>,
    settings: &TwoTemperatures,
    take: &mut Take<Stated>,
) -> Result<(), Fault> {
    let template = settings.template;
    let intent = Settings { stop: vec![template.intent_end().trim_start().into()], ..settings.intent.clone() };
    let mut response = settings.response.clone();
    if !template.response_end().is_empty() {
        response.stop.push(SEPARATOR.into());
    }
    let stages = if template.is_stepwise() { settings.max_stages } else { 2 };
    let mut given = 0;
    for stage in 0..stages {
        let open: Vec<usize> = (0..drafts.len()).filter(|index| !drafts[*index].done).collect();
        let row = |index: &usize| {
            let Draft { at: (question, sample), text, special, .. } = &drafts[*index];
            let words = ["intent", &question.to_string(), &sample.to_string(), &stage.to_string()];
            let ids = tokenizer.encode_beginning(text, *special)?;
            Ok((ids, backbone::random::key(settings.intent.seed, &words)))
        };
        let rows = open.iter().map(row).collect::<Result<Vec<_>, Fault>>()?;
        let now = if stage % 2 == 0 { &intent } else { &response };
        continuations(model, tokenizer, &rows, now, &mut |news| {
            let (row, sample) = match news {
                News::Tokens(count) => return take(News::Tokens(count)),
                News::Done(done) => done,
            };
            let draft = &mut drafts[open[row]];
            // The model has no place left.
            if template.is_stepwise() && sample.ids.is_empty() && sample.end == End::Limit {
                draft.done = true;
            } else if stage % 2 == 0 {
                draft.state(sample, template);
            } else {
                draft.respond(sample, template);
            }
            while let Some(draft) = drafts.get_mut(given).filter(|draft| draft.done) {
                given += 1;
                take(News::Done(draft.finish()))?;
            }
            Ok(())
        })?;
    }
    drafts[given..].iter_mut().try_for_each(|draft| take(News::Done(draft.finish())))
}

impl Draft {
    /// Takes an intent: without the commas and blanks at its end, and with the separator, drawn or not.
    fn state(&mut self, sample: Sample, template: Template) {
        let intent = sample.text.trim_end_matches(|c: char| c == ',' || c.is_whitespace());
        if template.is_stepwise() && sample.end == End::Token && intent.is_empty() {
            (self.done, self.stopped) = (true, true);
            return;
        }
        self.text += intent;
        self.text += template.intent_end();
        self.stages.push(Stage { intent: intent.trim_start().into(), response: String::new() });
        let last =
            template == Template::Code && template.end_mark().is_some_and(|mark| intent.trim_start().starts_with(mark));
        // In steps, the end token in place of an intent ends the answer.
        if last || template.is_stepwise() && sample.end == End::Token {
            (self.done, self.stopped) = (true, true);
        }
    }

    fn respond(&mut self, sample: Sample, template: Template) {
        let response = sample.text.trim_end();
        self.text += response;
        if let Some(stage) = self.stages.last_mut() {
            // The indentation of code is its own.
            stage.response = response.trim_start_matches(template.response_lead()).into();
        }
        let marked =
            template == Template::Mathematics && template.end_mark().is_some_and(|mark| response.contains(mark));
        if !template.is_stepwise() {
            (self.done, self.stopped) = (true, sample.end != End::Limit);
        } else if sample.end == End::Token || marked {
            (self.done, self.stopped) = (true, true);
        } else {
            // It opens the next intent.
            self.text += template.response_end();
        }
    }

    /// The answer without the question; what is left of the draft is not used any more.
    fn finish(&mut self) -> Stated {
        let (text, stages) = (self.text.split_off(self.asked), std::mem::take(&mut self.stages));
        Stated { text, stages, stopped: self.stopped }
    }
}

#[cfg(test)]
mod tests {
    use backbone::embedded_tokenizer;
    use metrics::temperature::Sampler;

    use super::super::tests::Table;
    use super::*;

    fn tokenizer() -> Tokenizer {
        embedded_tokenizer().unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn settings(template: Template, temperatures: [f64; 2], most: [usize; 2]) -> TwoTemperatures {
        let draws = |temperature, max_tokens| Settings {
            sampler: Sampler::at(temperature),
            repetition_penalty: 1.0,
            max_tokens,
            stop: Vec::new(),
            seed: 5,
        };
        TwoTemperatures {
            template,
            intent: draws(temperatures[0], most[0]),
            response: draws(temperatures[1], most[1]),
            max_stages: 6,
        }
    }

    /// A model that goes on as `law` says of the text so far: words with probabilities; an empty word is the end.
    fn model(law: fn(&str) -> Vec<(&'static str, f64)>) -> Table {
        let tokenizer = tokenizer();
        let vocabulary = tokenizer.vocabulary();
        let next = move |row: &[u32]| {
            let text = tokenizer.decode(row, false).expect("text").replace("<|bos|>", "");
            let mut logits = vec![f32::NEG_INFINITY; vocabulary];
            for (word, probability) in law(&text) {
                let ids = tokenizer.encode(word, false).expect("ids");
                let id = ids.first().copied().or(tokenizer.end_token()).expect("an end token");
                logits[id as usize] = probability.ln() as f32;
            }
            logits
        };
        Table { next: Box::new(next), rows: Vec::new(), positions: 4096 }
    }

    fn answers(law: fn(&str) -> Vec<(&'static str, f64)>, count: usize, settings: &TwoTemperatures) -> Vec<Stated> {
        let question = Question { text: "q:".into(), special: true };
        answered(&mut model(law), &question, count, settings)
    }

    fn answered(model: &mut Table, question: &Question, count: usize, settings: &TwoTemperatures) -> Vec<Stated> {
        let mut stated = Vec::new();
        let take = &mut |news| {
            if let News::Done(answer) = news {
                stated.push(answer);
            }
            Ok(())
        };
        sample_with_intent(model, &tokenizer(), std::slice::from_ref(question), count, settings, take).expect("text");
        stated
    }

    fn near(found: usize, of: usize, expected: f64) {
        let (found, deviation) = (found as f64 / of as f64, (expected * (1.0 - expected) / of as f64).sqrt());
        assert!((found - expected).abs() < 4.0 * deviation, "{found} is not {expected} within {deviation}");
    }

    /// `a` and `b` with probabilities 0.8 and 0.2, in the intent and in the response: at temperature T the first comes
    /// with `0.8^(1/T) / (0.8^(1/T) + 0.2^(1/T))`.
    #[test]
    fn each_stage_has_its_own_temperature() {
        let law = |text: &str| match text.rsplit_once("###") {
            None if text.ends_with(':') => vec![("a", 0.8), ("b", 0.2)],
            None => vec![("#", 1.0)],
            Some((_, "")) => vec![("a", 0.8), ("b", 0.2)],
            Some(_) => vec![("", 1.0)],
        };
        let share = |t: f64| 0.8f64.powf(1.0 / t) / (0.8f64.powf(1.0 / t) + 0.2f64.powf(1.0 / t));
        for temperatures in [[1.0, 0.5], [2.0, 0.7], [1.5, 0.0]] {
            let stated = answers(law, 2000, &settings(Template::Chat, temperatures, [10, 10]));
            let first = |part: fn(&Stage) -> &str| stated.iter().filter(|s| part(&s.stages[0]) == "a").count();
            near(first(|stage| &stage.intent), 2000, share(temperatures[0]));
            match temperatures[1] {
                0.0 => assert_eq!(first(|stage| &stage.response), 2000),
                t => near(first(|stage| &stage.response), 2000, share(t)),
            }
            assert!(stated.iter().all(|s| s.stopped && s.stages[0].intent.len() == 1 && s.text.contains(" ###")));
        }
    }

    /// An intent that never ends, and a response that never ends: both stop at their caps, with the separator between.
    #[test]
    fn the_separator_is_never_lost_and_both_stages_stop_at_their_caps() {
        let law = |text: &str| if text.contains("###") { vec![("b", 1.0)] } else { vec![("a", 0.5), (",", 0.5)] };
        for stated in answers(law, 20, &settings(Template::Chat, [1.0, 1.0], [4, 7])) {
            let (intent, response) = stated.text.split_once(" ###").expect("the separator");
            assert!(intent.len() <= 4 && !intent.ends_with(','), "{intent:?}");
            assert_eq!(response, "bbbbbbb");
            assert!(!stated.stopped);
        }
    }

    #[test]
    fn a_model_that_ends_in_place_of_the_separator_still_responds_after_one() {
        let law = |text: &str| match text {
            "q:" => vec![("a", 1.0)],
            _ if text.ends_with("###") => vec![("b", 1.0)],
            _ => vec![("", 1.0)],
        };
        let stated = answers(law, 1, &settings(Template::Chat, [1.0, 0.5], [9, 9])).remove(0);
        assert_eq!((stated.text.as_str(), stated.stopped), ("a ###b", true));
        let stated = answers(law, 1, &settings(Template::Comments, [1.0, 0.5], [9, 9])).remove(0);
        assert_eq!(stated.text, "\n### Comment:\n");
    }

    /// A token that no text shows ends a response; an intent has the template's own end alone.
    #[test]
    fn a_special_token_ends_a_response_where_it_is_to() {
        let law = |text: &str| match text.rsplit_once("###") {
            None if text.ends_with(':') => vec![("a", 1.0)],
            None => vec![("#", 1.0)],
            Some((_, "")) => vec![("b", 1.0)],
            Some(_) => vec![("<|bos|>", 1.0)],
        };
        let plain = settings(Template::Chat, [1.0, 0.5], [9, 9]);
        let drawn = |stop: &[&str]| {
            let stop: Vec<String> = stop.iter().map(|stop| stop.to_string()).collect();
            let response = Settings { stop: stop.clone(), ..plain.response.clone() };
            let intent = Settings { stop, ..plain.intent.clone() };
            let stated = answers(law, 1, &TwoTemperatures { intent, response, ..plain.clone() }).remove(0);
            (stated.stages[0].intent.clone(), stated.stages[0].response.clone(), stated.stopped)
        };
        let part = |text: &str| text.to_owned();
        assert_eq!(drawn(&[]), (part("a"), part("b"), false));
        assert_eq!(drawn(&["zebra", "<|bos|>"]), (part("a"), part("b"), true));
        assert_eq!(drawn(&["b<|bos|>"]), (part("a"), part(""), true));
        assert_eq!(drawn(&["a"]), (part("a"), part("b"), false));
    }

    /// So many steps of an intent `i` and a fragment `x`.
    fn stated_text(steps: usize) -> String {
        "i ###x\n###".repeat(steps)
    }

    #[test]
    fn steps_take_turns_until_the_end_mark_or_the_budget() {
        // An intent `i`, a fragment `x` and the mark, for ever.
        let endless = |text: &str| match text.chars().last() {
            Some('i' | 'x') => vec![("#", 1.0)],
            Some('#') if text.ends_with("###") => match text.matches("###").count() % 2 {
                1 => vec![("i", 1.0)],
                _ => vec![("x", 1.0)],
            },
            _ => vec![("#", 1.0)],
        };
        let drawn = answers(endless, 1, &settings(Template::Mathematics, [1.0, 0.5], [9, 9])).remove(0);
        let stage = Stage { intent: "i".into(), response: "x".into() };
        assert_eq!((drawn.stages, drawn.stopped), (vec![stage.clone(); 3], false));
        assert_eq!(drawn.text, stated_text(3));

        // A model of few positions: the answer ends where these do, and no stage is empty.
        let question = Question { text: "q:".into(), special: true };
        let settings_of_steps = settings(Template::Mathematics, [1.0, 0.5], [9, 9]);
        let whole = tokenizer().encode(&format!("q:###{}", stated_text(3)), true).expect("ids").len();
        let mut short = Table { positions: whole, ..model(endless) };
        let long = TwoTemperatures { max_stages: 40, ..settings_of_steps };
        let ended = answered(&mut short, &question, 1, &long).remove(0);
        assert!(!ended.stopped && ended.stages.len() <= 4, "{ended:?}");
        assert!(ended.stages.iter().all(|stage| !stage.intent.is_empty()), "{ended:?}");

        // The same, and the end after the second fragment.
        let ending = |text: &str| match text.chars().last() {
            Some('x') if text.matches('x').count() == 2 => vec![("", 1.0)],
            Some('#') if text.ends_with("###") && text.matches("###").count() % 2 == 1 => vec![("i", 1.0)],
            Some('#') if text.ends_with("###") => vec![("x", 1.0)],
            _ => vec![("#", 1.0)],
        };
        let stated = answers(ending, 1, &settings(Template::Mathematics, [1.0, 0.5], [9, 9])).remove(0);
        assert_eq!((stated.stages, stated.stopped), (vec![stage; 2], true));

        // Code ends with an intent that says so.
        let code = |text: &str| match text.matches("###").count() {
            1 if text.ends_with('#') => vec![("End", 1.0)],
            1 if text.ends_with("End") => vec![(" of", 1.0)],
            1 if text.ends_with(" of") => vec![(" code", 1.0)],
            _ => vec![("#", 1.0)],
        };
        let words = tokenizer().encode(" code", false).expect("ids").len();
        let stated = answers(code, 1, &settings(Template::Code, [1.0, 0.5], [40, 9])).remove(0);
        if words == 1 {
            assert!(stated.stopped && stated.stages.len() == 1, "{stated:?}");
        }
    }
}
