//! Sampling at two temperatures (Intent Factored Generation, arXiv 2506.09659): an intent at a high one, up to the
//! separator, then the response at a low one; step by step in the templates that take turns.
//!
//! Each stage reads all before it as text and encodes it anew, as the rows of training were encoded: the separator is
//! written here, whatever the model drew in its place.

use datasets::{SEPARATOR, Template, Tokenizer};
use faults::Fault;

use super::{End, NextToken, Sample, Settings, continuations};

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
    text: String,
    /// Length of the question and the template's head in `text`.
    asked: usize,
    stages: Vec<Stage>,
    done: bool,
    stopped: bool,
}

/// `count` answers to each question, all of the first question first.
///
/// # Errors
/// Text that the tokenizer cannot encode, or tokens that it cannot decode.
pub fn sample_with_intent(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    questions: &[Question],
    count: usize,
    settings: &TwoTemperatures,
) -> Result<Vec<Stated>, Fault> {
    let template = settings.template;
    let special: Vec<bool> = questions.iter().flat_map(|question| vec![question.special; count]).collect();
    let begun = questions.iter().map(|question| format!("{}{}", question.text, template.head()));
    let mut drafts: Vec<Draft> = begun
        .flat_map(|text| {
            let asked = text.len();
            (0..count).map(move |_| Draft { text: text.clone(), asked, stages: vec![], done: false, stopped: false })
        })
        .collect();
    let intent = Settings { stop: vec![template.intent_end().trim_start().into()], ..settings.intent.clone() };
    let mut response = settings.response.clone();
    if !template.response_end().is_empty() {
        response.stop.push(SEPARATOR.into());
    }
    let stages = if template.is_stepwise() { settings.max_stages } else { 2 };
    for stage in 0..stages {
        let open: Vec<usize> = (0..drafts.len()).filter(|index| !drafts[*index].done).collect();
        let row = |index: &usize| {
            let words = ["intent", &(index / count).to_string(), &(index % count).to_string(), &stage.to_string()];
            let ids = tokenizer.encode(&drafts[*index].text, special[*index])?;
            Ok((ids, crate::random::key(settings.intent.seed, &words)))
        };
        let rows = open.iter().map(row).collect::<Result<Vec<_>, Fault>>()?;
        let now = if stage % 2 == 0 { &intent } else { &response };
        for (index, sample) in open.iter().zip(continuations(model, tokenizer, &rows, now)?) {
            match stage % 2 {
                0 => drafts[*index].state(sample, template),
                _ => drafts[*index].respond(sample, template),
            }
        }
    }
    Ok(drafts.into_iter().map(Draft::finish).collect())
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
        let last = template == Template::Code && template.end_mark().is_some_and(|mark| intent.contains(mark));
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

    fn finish(self) -> Stated {
        Stated { text: self.text[self.asked..].into(), stages: self.stages, stopped: self.stopped }
    }
}
