//! `{"instruction", "input", "output"}` in the wording of Stanford Alpaca
//! (<https://github.com/tatsu-lab/stanford_alpaca>, `train.py`, `PROMPT_DICT`): the answer follows `### Response:` at once.

use super::{Format, Shape, prompt_completion};

pub(super) const SHAPE: Shape = Shape {
    format: Format::Alpaca,
    word: "alpaca",
    required: &["instruction", "output"],
    optional: &["input"],
    stops: true,
    read: |row, context| {
        let instruction = row.filled_text("instruction")?;
        let prompt = match row.optional_text("input")?.filter(|input| !input.is_empty()) {
            Some(input) => format!(
                "Below is an instruction that describes a task, paired with an input that provides further context. \
                 Write a response that appropriately completes the request.\n\n\
                 ### Instruction:\n{instruction}\n\n### Input:\n{input}\n\n### Response:"
            ),
            None => format!(
                "Below is an instruction that describes a task. \
                 Write a response that appropriately completes the request.\n\n\
                 ### Instruction:\n{instruction}\n\n### Response:"
            ),
        };
        Ok(vec![vec![prompt_completion::draft(prompt, row.filled_text("output")?.into(), context.train_on)]])
    },
};
