//! `metrics.jsonl`: one JSON object per line, appended while training.
//!
//! A process that dies leaves a torn last line; a resumed run starts at an earlier step than the last line has. Both are
//! cut off before anything is appended.

use std::path::Path;

use faults::{Fault, Place};
use serde_json::Value;

use crate::files;

/// The file's name in a run's directory.
pub(crate) const METRICS: &str = "metrics.jsonl";

/// A line as it is appended: in one write, so that a reader beside us sees whole lines.
pub(crate) fn line(line: &Value) -> Vec<u8> {
    format!("{line}\n").into_bytes()
}

/// All lines; a torn last line is left out.
pub(crate) fn read(path: &Path) -> Result<Vec<Value>, Fault> {
    let text = if files::is_there(path)? { files::read(path)? } else { Vec::new() };
    let mut values = Vec::new();
    for (number, line) in lines(&text) {
        match (serde_json::from_slice(line.content), line.ended) {
            (Ok(value), true) => values.push(value),
            (_, false) => {}
            (Err(error), true) => {
                return Err(Fault::new(format!("not a JSON object: {error}"))
                    .at(Place::line(path, number))
                    .hint("the line was damaged or changed: remove it"));
            }
        }
    }
    Ok(values)
}

/// What of a file's text remains after a cut at `step`: all lines but torn ones and those of later steps.
pub(crate) fn kept(text: &[u8], step: usize) -> Vec<u8> {
    let mut kept = Vec::with_capacity(text.len());
    for (_, line) in lines(text) {
        let value: Result<Value, _> = serde_json::from_slice(line.content);
        let later = |value: &Value| value["step"].as_u64().is_some_and(|found| found > step as u64);
        if line.ended && value.is_ok_and(|value| !later(&value)) {
            kept.extend_from_slice(line.content);
            kept.push(b'\n');
        }
    }
    kept
}

struct Line<'a> {
    content: &'a [u8],
    ended: bool,
}

/// Numbered lines; blank ones are left out.
fn lines(text: &[u8]) -> impl Iterator<Item = (usize, Line<'_>)> {
    text.split_inclusive(|byte| *byte == b'\n')
        .enumerate()
        .map(|(index, line)| match line.strip_suffix(b"\n") {
            Some(content) => (index + 1, Line { content, ended: true }),
            None => (index + 1, Line { content: line, ended: false }),
        })
        .filter(|(_, line)| !line.content.trim_ascii().is_empty())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cut_drops_later_steps_and_the_torn_line() {
        let text = b"{\"step\":1,\"loss\":2.50}\n{\"step\":3}\n{\"note\":1}\n{\"step\":2}\n{\"step\":2,\"lo";
        assert_eq!(kept(text, 2), b"{\"step\":1,\"loss\":2.50}\n{\"note\":1}\n{\"step\":2}\n");
        assert_eq!(kept(b"{\"step\":1}\n{\"step\":2}", 9), b"{\"step\":1}\n");
        assert_eq!(kept(b"", 9), b"");
    }
}
