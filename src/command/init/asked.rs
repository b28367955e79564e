//! The few questions of `trainer init` at a terminal.

use std::io::{BufRead, Write};
use std::path::Path;

use faults::{Fault, Place};

use super::super::recipes::RealRun;

/// Asks for what is not given yet.
///
/// # Errors
/// An input that ends, or cannot be read.
pub(super) fn ask(
    input: &mut dyn BufRead,
    output: &mut dyn Write,
    model: Option<String>,
    train: Vec<String>,
    eval: Vec<String>,
) -> Result<RealRun, Fault> {
    let mut asking = Asking { input, output };
    let model = match model {
        Some(model) => model,
        None => asking.until("Model (a folder, or `org/name` on the Hugging Face hub)", None, is_model)?,
    };
    let train = match train.is_empty() {
        false => train,
        true => vec![asking.until("Rows to train on (a file, a folder, or `org/name`)", None, is_rows)?],
    };
    let eval = match eval.is_empty() {
        false => eval,
        true => {
            let answer = asking.until("Rows to evaluate on", Some("5 % of those"), is_rows)?;
            if answer.is_empty() { Vec::new() } else { vec![answer] }
        }
    };
    Ok(RealRun { model, train, eval })
}

struct Asking<'a> {
    input: &'a mut dyn BufRead,
    output: &'a mut dyn Write,
}

impl Asking<'_> {
    /// Asks until the answer can be meant; an empty one stands for `default` where there is one.
    fn until(
        &mut self,
        question: &str,
        default: Option<&str>,
        possible: fn(&str) -> Result<(), String>,
    ) -> Result<String, Fault> {
        loop {
            let shown = default.map(|default| format!(" [{default}]")).unwrap_or_default();
            // Nobody can be told that a terminal is gone.
            let _ = write!(self.output, "{question}{shown}: ");
            let _ = self.output.flush();
            let mut line = String::new();
            let read = self.input.read_line(&mut line);
            let here = || Place::Named("trainer init".into());
            match read {
                Ok(0) => {
                    let _ = writeln!(self.output);
                    return Err(Fault::new("the answers ended before all was asked")
                        .at(here())
                        .hint("write `--model NAME --train FILE` in place of answers"));
                }
                Ok(_) => {}
                Err(error) => return Err(Fault::new(format!("an answer cannot be read: {error}")).at(here())),
            }
            let answer = line.trim().trim_matches(['"', '\'']);
            match (answer.is_empty(), default) {
                (true, Some(_)) => return Ok(String::new()),
                (true, None) => continue,
                (false, _) => match possible(answer) {
                    Ok(()) => return Ok(answer.to_owned()),
                    Err(why) => drop(writeln!(self.output, "  {why}")),
                },
            }
        }
    }
}

/// One slash, and nothing that only a path has.
fn is_of_hub(name: &str) -> bool {
    let parts: Vec<&str> = name.split('/').collect();
    parts.len() >= 2 && !name.starts_with(['/', '.', '~']) && !parts.iter().any(|part| part.is_empty())
}

fn is_model(name: &str) -> Result<(), String> {
    let path = Path::new(name);
    match path.is_dir() {
        true if !path.join("config.json").is_file() => Err(format!("there is no `config.json` in `{name}`")),
        true => Ok(()),
        false if path.is_file() => Err(format!("`{name}` is a file, and a model is a folder")),
        false if name.starts_with("builtin:") || is_of_hub(name) => Ok(()),
        false => Err(format!("there is no folder `{name}`; a model of the hub is `org/name`")),
    }
}

fn is_rows(name: &str) -> Result<(), String> {
    let is_known = Path::new(name).exists() || name.contains(['*', '?', ':']) || is_of_hub(name);
    if is_known { Ok(()) } else { Err(format!("there is no `{name}` here")) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn answered(answers: &str) -> (Result<RealRun, Fault>, String) {
        let mut output = Vec::new();
        let run = ask(&mut answers.as_bytes(), &mut output, None, Vec::new(), Vec::new());
        (run, String::from_utf8(output).expect("text"))
    }

    #[test]
    fn each_question_is_asked_until_its_answer_can_be_meant() {
        let (run, shown) = answered("\nno-such-folder\norg/name\nnone.jsonl\norg/rows\n\n");
        let run = run.unwrap_or_else(|fault| panic!("{fault}"));
        assert_eq!((run.model.as_str(), &run.train[..]), ("org/name", &["org/rows".to_owned()][..]));
        assert!(run.eval.is_empty());
        assert!(
            shown.contains("there is no folder `no-such-folder`") && shown.contains("there is no `none.jsonl` here")
        );
        assert_eq!(shown.matches("Model (").count(), 3, "{shown}");
    }

    #[test]
    fn answers_that_end_are_a_fault() {
        let (run, _) = answered("org/name\n");
        assert!(run.err().expect("no rows").to_string().contains("--train FILE"));
    }
}
