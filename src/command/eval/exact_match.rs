//! Verdicts without a judge: a sample is right where it is what its row says, whole or in the part that is the answer.

use datasets::Sampled;
use faults::{Causes, Fault, Faults};
use regex::Regex;
use serde_json::Value;

use super::Arguments;
use crate::command::argument;

/// What samples are compared with.
pub(super) struct ExactMatch {
    /// The column with the answer.
    column: String,
    /// Where in a text its answer stands: the first group of the last match.
    pattern: Option<Regex>,
}

impl ExactMatch {
    /// What the command line names.
    ///
    /// # Errors
    /// A pattern that is no regular expression, or has no group or several.
    pub(super) fn of(arguments: &Arguments) -> Result<Option<Self>, Fault> {
        let Some(column) = arguments.exact_match.clone() else { return Ok(None) };
        let pattern = arguments.answer_pattern.as_deref().map(answer_pattern).transpose()?;
        Ok(Some(Self { column, pattern }))
    }

    /// Says of all samples whether they are right.
    ///
    /// # Errors
    /// Samples without the column, or with something else under it than texts and numbers; samples whose rows say already
    /// what is right, or that have no text.
    pub(super) fn judge(&self, sampled: &mut [Sampled]) -> Result<(), Faults> {
        let mut faults = Causes::new();
        for prompt in sampled {
            match self.verdicts(prompt) {
                Ok(correct) => prompt.correct = Some(correct),
                Err(fault) => faults.push(fault.or_at(prompt.place.clone())),
            }
        }
        faults.check()
    }

    fn verdicts(&self, prompt: &Sampled) -> Result<Vec<bool>, Fault> {
        if prompt.correct.is_some() {
            return Err(Fault::new("`--exact-match` would replace what the samples say already: `correct`")
                .hint("leave it out, or take this column out"));
        }
        let Some(texts) = &prompt.texts else {
            return Err(Fault::new("`--exact-match` has nothing to compare: the samples have no `text`"));
        };
        let verdict = |(text, (row, place)): (&String, &(serde_json::Map<String, Value>, faults::Place))| {
            let column = &self.column;
            let given = row.get(column).filter(|value| !value.is_null()).ok_or_else(|| {
                let has: Vec<String> = row.keys().map(|key| format!("`{key}`")).collect();
                let fault = Fault::new(format!("the sample has no `{column}` to be compared with")).at(place.clone());
                fault.hint(format!("its row has {}", has.join(", ")))
            })?;
            let right = answers(given).ok_or_else(|| {
                let message = format!("`{column}` must be a text, a number or a list of them");
                Fault::new(message).at(place.clone()).hint("name the column that has the answer")
            })?;
            // What the row says may be the answer alone.
            let right = right.iter().map(|right| self.answer(right).unwrap_or_else(|| right.trim()).to_owned());
            Ok(self.answer(text).is_some_and(|answer| right.into_iter().any(|right| right == answer)))
        };
        texts.iter().zip(&prompt.rows).map(verdict).collect()
    }

    /// The answer in a text: all of it without a pattern, nothing where the pattern does not match.
    fn answer<'a>(&self, text: &'a str) -> Option<&'a str> {
        let Some(pattern) = &self.pattern else { return Some(text.trim()) };
        Some(pattern.captures_iter(text).last()?.get(1)?.as_str().trim())
    }
}

/// The pattern of the command line.
///
/// # Errors
/// What is no regular expression, or has no group or several.
fn answer_pattern(pattern: &str) -> Result<Regex, Fault> {
    let hint = "`#### (.+)` for example: what its one group holds is the answer";
    let fault = |message: String| Fault::new(message).at(argument("answer-pattern")).hint(hint);
    let regex = Regex::new(pattern).map_err(|error| fault(format!("`{pattern}` is no regular expression: {error}")))?;
    match regex.captures_len() - 1 {
        1 => Ok(regex),
        groups => Err(fault(format!("`{pattern}` must have one group, and has {groups}"))),
    }
}

/// The answers that are right.
fn answers(value: &Value) -> Option<Vec<String>> {
    match value {
        Value::String(text) => Some(vec![text.clone()]),
        Value::Number(number) => Some(vec![number.to_string()]),
        Value::Array(items) if !items.is_empty() && items.iter().all(|item| !item.is_array()) => {
            items.iter().map(|item| answers(item)?.pop()).collect()
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    fn exact_match(pattern: Option<&str>) -> ExactMatch {
        let pattern = pattern.map(|pattern| answer_pattern(pattern).unwrap_or_else(|fault| panic!("{fault}")));
        ExactMatch { column: "answer".into(), pattern }
    }

    #[test]
    fn the_answer_is_the_group_of_the_last_match_or_the_whole_text() {
        let whole = exact_match(None);
        assert_eq!(whole.answer(" 72 \n"), Some("72"));
        let marked = exact_match(Some("#### *(.+)"));
        assert_eq!(marked.answer("3 + 4\n#### 7\nno:\n####  8 \n"), Some("8"));
        assert_eq!(marked.answer("it is 8"), None);
        let number = exact_match(Some(r"(-?\d+)"));
        assert_eq!(number.answer("from 3 to -12."), Some("-12"));
    }

    #[test]
    fn texts_numbers_and_lists_of_them_are_answers() {
        let is = |value, expected: &[&str]| {
            assert_eq!(
                answers(&value).as_deref(),
                Some(expected).map(|e| e.iter().map(|t| (*t).to_string()).collect::<Vec<_>>()).as_deref()
            )
        };
        is(json!("72"), &["72"]);
        is(json!(72), &["72"]);
        is(json!(["a", 2]), &["a", "2"]);
        for none in [json!([]), json!({"a": 1}), json!(true), json!([["a"]]), json!(["a", null])] {
            assert_eq!(answers(&none), None, "{none}");
        }
    }

    #[test]
    fn a_pattern_has_one_group() {
        for (pattern, words) in
            [("(", "no regular expression"), ("####", "must have one group, and has 0"), ("(a)(b)", "and has 2")]
        {
            let fault = answer_pattern(pattern).map(|_| ()).expect_err(pattern).to_string();
            assert!(fault.contains(words), "{fault}");
        }
    }
}
