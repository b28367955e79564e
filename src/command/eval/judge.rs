//! `--judge COMMAND`: a program that gives verdicts. It is given a line of JSON for each sample, the sample's row, and
//! answers each with a line: `true`, `false`, `null` for no verdict, or `{"correct": .., "score": ..}`.
//!
//! A sample that it does not answer (it ends, takes too long, or writes what is no verdict) has none, which is counted and
//! named; the program is started anew for the next one. Where it has never answered, or fails several times in a row, or
//! writes more lines than it was asked, no verdict can be trusted, and that is a fault.

mod process;

use std::time::Duration;

use datasets::Sampled;
use faults::{Fault, Faults, Place, counted, shortened};
use serde_json::{Map, Value};

use super::Arguments;
use crate::command::argument;
use crate::report::progress::Counter;
use process::{Heard, Process};

/// Failures one after another that end it.
const MOST_FAILURES: usize = 3;

/// Samples without a verdict that are named.
const NAMED: usize = 5;

/// How long it is given to end when there are no more samples.
const END: Duration = Duration::from_secs(5);

/// What is to be known of how a judge answers.
const PROTOCOL: &str = "it gets a line of JSON for each sample and writes one: `true`, `false`, `null`, or \
    `{\"correct\": true, \"score\": 7}`; all other words go to its stderr";

/// What it says of a sample.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
struct Verdict {
    correct: Option<bool>,
    score: Option<f64>,
}

/// The program, and how it has done so far.
pub(super) struct Judge {
    command: String,
    limit: Duration,
    process: Option<Process>,
    /// Answers that could be read.
    answers: usize,
    /// Failures since the last of them.
    failures: usize,
}

/// What the judge has not said of the samples of each prompt.
pub(super) type Without = Vec<usize>;

impl Judge {
    /// The judge that the command line names, not yet started.
    pub(super) fn of(arguments: &Arguments) -> Option<Self> {
        let command = arguments.judge.clone()?;
        let limit = Duration::from_secs_f64(arguments.judge_seconds);
        Some(Self { command, limit, process: None, answers: 0, failures: 0 })
    }

    /// Has all samples judged: `correct` and `scores` are set as far as it says them. Gives, for each prompt, the number of
    /// samples without a verdict, which are not right.
    ///
    /// # Errors
    /// A judge whose verdicts cannot be trusted, or that has given none; samples that have verdicts already.
    pub(super) fn judge(&mut self, sampled: &mut [Sampled]) -> Result<Without, Faults> {
        refuse_judged(sampled)?;
        let total = sampled.iter().map(|prompt| prompt.rows.len()).sum();
        let mut counter = Counter::new(total, "samples judged".into());
        let (mut verdicts, mut missing) = (Vec::with_capacity(total), Vec::new());
        for (row, place) in sampled.iter().flat_map(|prompt| &prompt.rows) {
            match self.ask(row, place)? {
                Ok(verdict) => verdicts.push(verdict),
                Err(why) => {
                    missing.push(format!("{place}: {why}"));
                    verdicts.push(Verdict::default());
                }
            }
            counter.at(verdicts.len());
        }
        drop(counter);
        self.finish()?;
        self.assign(sampled, &verdicts, &missing)
    }

    fn assign(&self, sampled: &mut [Sampled], verdicts: &[Verdict], missing: &[String]) -> Result<Without, Faults> {
        let says_correct = verdicts.iter().any(|verdict| verdict.correct.is_some());
        let scored = verdicts.iter().filter(|verdict| verdict.score.is_some()).count();
        if !says_correct && scored == 0 {
            let fault = self.fault("the judge has no verdict on any sample".into());
            return Err(fault.hint("it answered each with `null`").into());
        }
        if 0 < scored && scored < verdicts.len() {
            let of = verdicts.len();
            tracing::warn!("the judge has scored {scored} of {of} samples: no score is counted");
        }
        let mut left = verdicts;
        let mut without = Vec::with_capacity(sampled.len());
        for prompt in sampled {
            let (own, rest) = left.split_at(prompt.rows.len());
            left = rest;
            let is_missing =
                |verdict: &&Verdict| if says_correct { verdict.correct.is_none() } else { verdict.score.is_none() };
            without.push(own.iter().filter(is_missing).count());
            if says_correct {
                prompt.correct = Some(own.iter().map(|verdict| verdict.correct.unwrap_or(false)).collect());
            }
            if scored == verdicts.len() {
                prompt.scores = own.iter().map(|verdict| verdict.score).collect();
            }
        }
        tell_of_missing(without.iter().sum(), verdicts.len(), missing);
        Ok(without)
    }

    /// The verdict on a row; in words why there is none.
    fn ask(&mut self, row: &Map<String, Value>, place: &Place) -> Result<Result<Verdict, String>, Fault> {
        let line = faults::json::to_line(&Value::Object(row.clone()));
        loop {
            self.look_before()?;
            let process = match &mut self.process {
                Some(process) => process,
                none => none.insert(Process::start(&self.command).map_err(|error| {
                    let fault = Fault::new(format!("the judge cannot be started: {error}")).at(argument("judge"));
                    fault.hint("it is run by the shell: try the command there")
                })?),
            };
            let (heard, had_answered) = (process.ask(&line, self.limit), process.answered > 0);
            let why = match heard {
                Heard::Line(answer) => match verdict(&answer) {
                    Ok(verdict) => {
                        process.answered += 1;
                        self.answers += 1;
                        self.failures = 0;
                        return Ok(Ok(verdict));
                    }
                    Err(why) => why,
                },
                Heard::TooLong => "its answer is longer than a megabyte".to_owned(),
                Heard::Late => format!("no answer in {} s", self.limit.as_secs_f64()),
                Heard::End => {
                    // A program may answer so many lines and end: a new one is asked, which has no excuse.
                    if had_answered {
                        self.process = None;
                        continue;
                    }
                    format!("it ended without an answer ({})", told(process.status()))
                }
            };
            // What it writes from here on belongs to this sample.
            let words = process.last_words();
            self.process = None;
            return self.failed(why, place, &words);
        }
    }

    /// Before a sample is asked about: a judge that has ended is started anew, and one that goes on writing is refused.
    fn look_before(&mut self) -> Result<(), Fault> {
        let Some(process) = &mut self.process else { return Ok(()) };
        match process.heard() {
            None => Ok(()),
            Some(Heard::End) => {
                self.process = None;
                Ok(())
            }
            Some(_) => Err(self.out_of_step()),
        }
    }

    fn failed(&mut self, why: String, place: &Place, words: &str) -> Result<Result<Verdict, String>, Fault> {
        self.failures += 1;
        let so_far = match self.answers {
            0 => "the judge has not given a single verdict",
            _ if self.failures >= MOST_FAILURES => "the judge fails again and again",
            _ => return Ok(Err(why)),
        };
        let said = if words.is_empty() { String::new() } else { format!("; the last it said: {words}") };
        let fault = self.fault(format!("{so_far}: {why}, asked about {place}{said}"));
        Err(match why.starts_with("no answer") {
            true => fault.hint(
                "does it flush its output after each line (`python3 -u`)? `--judge-seconds` gives it more time, the first line \
                 has what it needs to start too",
            ),
            false => fault.hint(PROTOCOL),
        })
    }

    /// Ends the program, which must not have more to say.
    fn finish(&mut self) -> Result<(), Fault> {
        let Some(mut process) = self.process.take() else { return Ok(()) };
        match process.finish(self.limit.min(END)) {
            Heard::Line(_) | Heard::TooLong => Err(self.out_of_step()),
            Heard::Late => {
                tracing::warn!("the judge did not end when there were no more samples, and was ended");
                Ok(())
            }
            Heard::End => {
                if let Some(status) = process.status().filter(|status| !status.success()) {
                    tracing::warn!("the judge ended with {status} after its last verdict");
                }
                Ok(())
            }
        }
    }

    fn out_of_step(&self) -> Fault {
        self.fault("the judge has written more lines than it was asked, so that no verdict can be trusted".into())
            .hint(PROTOCOL)
    }

    fn fault(&self, message: String) -> Fault {
        Fault::new(message).at(Place::Named(format!("--judge {}", self.command)))
    }
}

/// What a line says.
fn verdict(answer: &[u8]) -> Result<Verdict, String> {
    let text = std::str::from_utf8(answer).map_err(|_| "its answer is not UTF-8".to_owned())?.trim();
    let shown = || shortened(text);
    let no_verdict = || format!("its answer is no verdict: `{}`", shown());
    match serde_json::from_str(text).map_err(|_| no_verdict())? {
        Value::Null => Ok(Verdict::default()),
        Value::Bool(correct) => Ok(Verdict { correct: Some(correct), score: None }),
        Value::Object(fields) if fields.contains_key("correct") || fields.contains_key("score") => {
            let field = |key: &str| fields.get(key).filter(|value| !value.is_null());
            let wrong = |key: &str, what: &str| format!("`{key}` of its answer must be {what}: `{}`", shown());
            let correct =
                field("correct").map(|value| value.as_bool().ok_or_else(|| wrong("correct", "true or false")));
            let score = field("score").map(|value| value.as_f64().ok_or_else(|| wrong("score", "a number")));
            Ok(Verdict { correct: correct.transpose()?, score: score.transpose()? })
        }
        _ => Err(no_verdict()),
    }
}

fn told(status: Option<std::process::ExitStatus>) -> String {
    status.map_or_else(|| "its output was closed".into(), |status| status.to_string())
}

fn refuse_judged(sampled: &[Sampled]) -> Result<(), Fault> {
    let refused = |prompt: &Sampled, what: &str, hint: &str| {
        let fault = Fault::new(what.to_owned()).at(prompt.place.clone());
        Err(fault.hint(hint.to_owned()))
    };
    for prompt in sampled {
        if prompt.correct.is_some() || prompt.scores.is_some() {
            let what = "`--judge` would replace what the samples say already: `correct` or `score`";
            return refused(prompt, what, "leave `--judge` out, or take these columns out");
        }
        if prompt.texts.is_none() {
            return refused(prompt, "`--judge` has nothing to judge: the samples have no `text`", "leave it out");
        }
    }
    Ok(())
}

fn tell_of_missing(without: usize, of: usize, missing: &[String]) {
    if without == 0 {
        return;
    }
    let more = missing.len().saturating_sub(NAMED);
    let mut named = missing.iter().take(NAMED).cloned().collect::<Vec<_>>().join("; ");
    if more > 0 {
        named += &format!("; and {more} more");
    }
    let named = if named.is_empty() { "the judge answered them with `null`".into() } else { named };
    let samples = counted(without as u64, "sample");
    tracing::warn!("{samples} of {of} without a verdict, which count as not right (`without_verdict`): {named}");
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_are_verdicts_or_it_is_said_why_not() {
        let is = |correct, score| Ok(Verdict { correct, score });
        for (answer, expected) in [
            ("true", is(Some(true), None)),
            (" false \r\n", is(Some(false), None)),
            ("null", is(None, None)),
            (r#"{"correct": true, "score": 7, "why": "sum"}"#, is(Some(true), Some(7.0))),
            (r#"{"correct": null, "score": -0.5}"#, is(None, Some(-0.5))),
        ] {
            assert_eq!(verdict(answer.as_bytes()), expected, "{answer}");
        }
        for (answer, expected) in [
            ("", "no verdict: ``"),
            ("True", "no verdict: `True`"),
            ("1", "no verdict: `1`"),
            ("[true]", "no verdict"),
            (r#"{"corect": true}"#, "no verdict"),
            (r#"{"correct": 1}"#, "`correct` of its answer must be true or false"),
            (r#"{"score": "7"}"#, "`score` of its answer must be a number"),
            (r#"{"correct": true, "score": NaN}"#, "no verdict"),
            ("true\ntrue", "no verdict"),
        ] {
            assert!(verdict(answer.as_bytes()).is_err_and(|why| why.contains(expected)), "{answer}");
        }
        assert!(verdict(b"\xff\xfe").is_err_and(|why| why.contains("not UTF-8")));
    }
}
