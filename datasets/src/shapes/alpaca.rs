//! `{"instruction", "input", "output"}` in the wording of Stanford Alpaca
//! (<https://github.com/tatsu-lab/stanford_alpaca>, `train.py`, `PROMPT_DICT`): the answer follows `### Response:` at once.
//!
//! That wording knows one question. Where rows have more, they are written as LLaMA-Factory's template `alpaca` writes
//! them: `system` takes the place of the first paragraph, and each pair of `history` is a question and an answer before,
//! which ends with the end token and is learned as well.

use faults::Fault;
use serde_json::Value;

use super::{Context, Format, Shape};
use crate::draft::{Draft, Part, Piece};
use crate::options::TrainOn;
use crate::row::{Row, decoded, is_nothing, string};

pub(super) const SHAPE: Shape = Shape {
    format: Format::Alpaca,
    word: "alpaca",
    required: &["instruction", "output"],
    optional: &["input", "system", "history"],
    stops: true,
    read: |row, context| Ok(vec![vec![draft(row, context)?]]),
};

fn draft(row: &Row<'_>, context: &Context<'_>) -> Result<Draft, Fault> {
    let instruction = row.filled_text("instruction")?;
    let input = row.optional_text("input")?.filter(|input| !input.is_empty());
    let first = match (row.optional_text("system")?.filter(|system| !system.is_empty()), input) {
        (Some(system), _) => system,
        (None, Some(_)) => {
            "Below is an instruction that describes a task, paired with an input that provides further context. \
             Write a response that appropriately completes the request."
        }
        (None, None) => {
            "Below is an instruction that describes a task. \
             Write a response that appropriately completes the request."
        }
    };
    let learns = |part| context.train_on.learns(part);
    let end = context.tokenizer.end_token().map_or(Ok(String::new()), |end| context.tokenizer.decode(&[end], false))?;
    let mut prompt = format!("{first}\n\n");
    let mut pieces = Vec::new();
    for (question, answer) in history(row, "history")? {
        prompt += &format!("### Instruction:\n{question}\n\n### Response:");
        pieces.push(Piece { text: std::mem::take(&mut prompt), part: Part::Prompt, learned: learns(Part::Prompt) });
        let learned = learns(Part::Response) && context.train_on != TrainOn::Last;
        pieces.push(Piece { text: format!("{answer}{end}"), part: Part::Response, learned });
        prompt = "\n\n".into();
    }
    prompt += &match input {
        Some(input) => format!("### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"),
        None => format!("### Instruction:\n{instruction}\n\n### Response:"),
    };
    pieces.push(Piece { text: prompt, part: Part::Prompt, learned: learns(Part::Prompt) });
    let output = row.filled_text("output")?.to_owned();
    pieces.push(Piece { text: output, part: Part::Response, learned: learns(Part::Response) });
    Ok(Draft { pieces, special: true, end: true, weight: 1.0, oddities: Vec::new() })
}

/// The questions and answers before, in pairs.
pub(super) fn history(row: &Row<'_>, key: &str) -> Result<Vec<(String, String)>, Fault> {
    let column = row.names().column_of(key);
    let Some(value) = row.get(key).filter(|value| !is_nothing(value)) else { return Ok(Vec::new()) };
    let no_pairs = |name: &str| {
        let fault = Fault::new(format!("`{name}` is no pair of a question and its answer"));
        fault.hint("write `[[\"question\", \"answer\"], ..]`, or the whole conversation as `messages`")
    };
    let Value::Array(pairs) = decoded(column, value)? else { return Err(no_pairs(column)) };
    let pair = |(index, value): (usize, &Value)| {
        let name = format!("{column}[{index}]");
        let [question, answer] = value.as_array().map_or(&[][..], Vec::as_slice) else { return Err(no_pairs(&name)) };
        let text = |value, at| match string(&format!("{name}[{at}]"), value)? {
            "" => Err(Fault::new(format!("`{name}[{at}]` is empty")).hint("take the pair out")),
            text => Ok(text.to_owned()),
        };
        Ok((text(question, 0)?, text(answer, 1)?))
    };
    pairs.iter().enumerate().map(pair).collect()
}
