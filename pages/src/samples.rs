//! Samples side by side: a column a model, texts that say the same once with how often they came.

use std::collections::HashSet;

use metrics::words::spoken;
use serde::Serialize;
use serde_json::Value;

use crate::read::{Run, Trouble, as_text, objects};
use crate::text::Shown;

/// Prompts that are shown.
const PROMPTS: usize = 12;

/// Groups of a column that are shown before the rest is folded.
const GROUPS: usize = 12;

/// A text that came once is rare where there are at least so many samples of its prompt in its column.
const ENOUGH: usize = 5;

/// A sample.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Draw {
    /// What was drawn.
    pub text: String,
    /// False where it was cut off by the limit of its length.
    pub ended: Option<bool>,
    /// Whether it is right, where its row says so.
    pub correct: Option<bool>,
    /// What a judge called its cluster.
    pub cluster: Option<String>,
}

/// What a model drew of a prompt.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Drawn {
    /// Name of the model or arm.
    pub model: String,
    /// As it was asked.
    pub prompt: String,
    /// In the order of drawing.
    pub draws: Vec<Draw>,
    /// What is right to say, where the lines have it.
    pub targets: Option<Vec<String>>,
}

/// The texts that are right after each prompt.
pub type Targets = Vec<(String, Vec<String>)>;

/// The samples of what `trainer sample` printed, under the name of their model.
///
/// # Errors
/// A line without `text`.
pub fn read(model: &str, text: &str) -> Result<Vec<Drawn>, Trouble> {
    let mut prompts: Vec<Drawn> = Vec::new();
    for (number, line) in objects(text)? {
        let words = |key: &str| line.get(key).and_then(Value::as_str);
        let Some(sample) = words("text").or_else(|| words("response")) else {
            let message = "`text` is missing: this is no line of `trainer sample`".into();
            return Err(Trouble { line: number, message });
        };
        let asked = ["prompt", "messages", "id"].into_iter().find_map(|key| line.get(key).filter(|v| !v.is_null()));
        let prompt = asked.map(as_text).unwrap_or_default();
        let flag = |key: &str| line.get(key).and_then(Value::as_bool);
        let draw = Draw {
            text: sample.into(),
            ended: flag("stopped"),
            correct: flag("correct"),
            cluster: line.get("cluster").filter(|cluster| !cluster.is_null()).map(as_text),
        };
        match prompts.iter_mut().find(|drawn| drawn.prompt == prompt) {
            Some(drawn) => drawn.draws.push(draw),
            None => {
                let targets = line.get("targets").and_then(texts);
                prompts.push(Drawn { model: model.into(), prompt, draws: vec![draw], targets });
            }
        }
    }
    Ok(prompts)
}

/// A list of texts; `None` of anything else.
pub fn texts(value: &Value) -> Option<Vec<String>> {
    value.as_array()?.iter().map(|text| text.as_str().map(str::to_owned)).collect()
}

/// What stands beside each other.
#[derive(Debug, Default, PartialEq, Eq, Serialize)]
pub struct SideBySide {
    prompts: Vec<Prompt>,
    /// Prompts that are not shown.
    left_out: usize,
}

/// A prompt with the samples of each model.
#[derive(Debug, PartialEq, Eq, Serialize)]
struct Prompt {
    prompt: Shown,
    open: bool,
    columns: Vec<Column>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Column {
    model: String,
    count: usize,
    different: usize,
    /// Samples that are no target or are not right, where that is known.
    invalid: Option<usize>,
    groups: Vec<Group>,
    /// The rest of them, folded.
    folded: Vec<Group>,
}

#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
struct Group {
    count: usize,
    text: Shown,
    /// Other texts of the group.
    others: usize,
    invalid: bool,
    rare: bool,
    cut: bool,
}

/// A model with all that it drew of a prompt.
type Pooled<'a> = (&'a str, Vec<&'a Draw>);

/// Groups what was drawn by prompt, then by model, then by what it says, the most frequent first. What is valid is told by
/// the targets of the lines themselves, by those that are `known`, and by those that `runs` have probabilities of.
pub fn side_by_side(drawn: &[Drawn], runs: &[Run], known: &Targets) -> SideBySide {
    let mut prompts: Vec<(&str, Vec<Pooled<'_>>)> = Vec::new();
    for Drawn { model, prompt, draws, .. } in drawn {
        let place = prompts.iter().position(|(known, _)| known == prompt).unwrap_or_else(|| {
            prompts.push((prompt, Vec::new()));
            prompts.len() - 1
        });
        let columns = &mut prompts[place].1;
        match columns.iter_mut().find(|(known, _)| known == model) {
            Some((_, known)) => known.extend(draws),
            None => columns.push((model, draws.iter().collect())),
        }
    }
    let left_out = prompts.len().saturating_sub(PROMPTS);
    let shown = prompts.into_iter().take(PROMPTS).enumerate().map(|(place, (prompt, columns))| {
        let of_lines = drawn.iter().filter(|drawn| drawn.prompt == prompt).find_map(|drawn| drawn.targets.as_ref());
        let of_rows = known.iter().find(|(other, _)| other == prompt).map(|(_, targets)| targets);
        let of_rows = of_lines.or(of_rows).map(|texts| texts.iter().map(|text| text.trim()).collect());
        let targets: Option<HashSet<&str>> = of_rows.or_else(|| targets(runs, prompt));
        let column = |(model, draws): Pooled<'_>| column(model, &draws, targets.as_ref());
        Prompt { prompt: Shown::of(prompt), open: place < 3, columns: columns.into_iter().map(column).collect() }
    });
    SideBySide { prompts: shown.collect(), left_out }
}

/// The texts that are right after a prompt, where some run has them.
fn targets<'a>(runs: &'a [Run], prompt: &str) -> Option<HashSet<&'a str>> {
    let parts = runs.iter().flat_map(|run| &run.parts).filter(|part| part.is_prompt && part.name == prompt);
    let point = parts.flat_map(|part| &part.points).find(|point| !point.targets.is_empty())?;
    Some(point.targets.iter().map(|target| target.text.trim()).collect())
}

fn column(model: &str, draws: &[&Draw], targets: Option<&HashSet<&str>>) -> Column {
    let is_valid = |draw: &Draw| match (draw.correct, targets) {
        (Some(correct), _) => Some(correct),
        (None, Some(targets)) => Some(targets.contains(draw.text.trim())),
        (None, None) => None,
    };
    let mut groups: Vec<(String, Vec<&Draw>)> = Vec::new();
    for draw in draws {
        let key = draw.cluster.clone().unwrap_or_else(|| spoken(&draw.text));
        match groups.iter_mut().find(|(known, _)| *known == key) {
            Some((_, group)) => group.push(draw),
            None => groups.push((key, vec![draw])),
        }
    }
    groups.sort_by_key(|(_, group)| std::cmp::Reverse(group.len()));
    let invalid = draws.iter().filter(|draw| is_valid(draw) == Some(false)).count();
    let different = groups.len();
    let group = |(_, group): (String, Vec<&Draw>)| {
        let mut texts: Vec<&str> = group.iter().map(|draw| draw.text.trim()).collect();
        texts.sort_unstable();
        texts.dedup();
        Group {
            count: group.len(),
            text: Shown::of(&group[0].text),
            others: texts.len() - 1,
            invalid: group.iter().all(|draw| is_valid(draw) == Some(false)),
            rare: group.len() == 1 && draws.len() >= ENOUGH && different < draws.len(),
            cut: group.iter().any(|draw| draw.ended == Some(false)),
        }
    };
    let mut groups: Vec<Group> = groups.into_iter().map(group).collect();
    let folded = if groups.len() > GROUPS + 3 { groups.split_off(GROUPS) } else { Vec::new() };
    Column {
        model: model.into(),
        count: draws.len(),
        different,
        invalid: draws.iter().any(|draw| is_valid(draw).is_some()).then_some(invalid),
        groups,
        folded,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn lines(texts: &[&str]) -> String {
        let line =
            |text: &&str| format!("{}\n", serde_json::json!({"prompt": "p", "text": text, "stopped": *text != "cut"}));
        texts.iter().map(line).collect()
    }

    #[test]
    fn texts_that_say_the_same_stand_once_with_their_count() {
        let mut drawn = read("a", &lines(&["x", "Y.", "y", "y", "cut"])).expect("samples");
        drawn.extend(read("b", &lines(&["z"])).expect("samples"));
        let found = side_by_side(&drawn, &[], &Vec::new());
        let [Prompt { columns, .. }] = &found.prompts[..] else { panic!("{found:?}") };
        let groups: Vec<_> = columns[0].groups.iter().map(|g| (g.count, g.others, g.rare, g.cut)).collect();
        // `Y.` is counted with `y`; what came once of five is rare.
        assert_eq!(groups, [(3, 1, false, false), (1, 0, true, false), (1, 0, true, true)]);
        assert_eq!((columns[0].count, columns[0].different, columns[0].invalid, columns[1].count), (5, 3, None, 1));
        assert!(!columns[1].groups[0].rare, "one sample says nothing of what is rare");
    }

    #[test]
    fn what_is_no_target_is_invalid() {
        let text = r#"{"model":"m","file":"f","line":1,"prompt":"p","temperature":1,"probabilities":[{"target":" x","p":1.0,"q":0.5}]}"#;
        let mut runs = Vec::new();
        crate::read::evaluations(text, "", &mut runs).expect("a line");
        let drawn = read("a", &lines(&["x", "w", "w"])).expect("samples");
        let marked = |found: SideBySide| {
            let column = &found.prompts[0].columns[0];
            (column.invalid, column.groups[0].invalid, column.groups[1].invalid)
        };
        assert_eq!(marked(side_by_side(&drawn, &runs, &Vec::new())), (Some(2), true, false));
        // Rows that were read tell it without a probability, and the lines themselves before both.
        let known = vec![("p".to_owned(), vec!["w ".to_owned()])];
        assert_eq!(marked(side_by_side(&drawn, &[], &known)), (Some(1), false, true));
        let own = r#"{"prompt":"p","text":"x","targets":["y"]}"#;
        let drawn = read("a", own).expect("a line");
        assert_eq!(side_by_side(&drawn, &runs, &known).prompts[0].columns[0].invalid, Some(1));
        assert_eq!(
            side_by_side(&read("a", &lines(&["x"])).expect("one"), &[], &Vec::new()).prompts[0].columns[0].invalid,
            None
        );
    }

    #[test]
    fn seeds_of_an_arm_share_a_column_and_what_is_no_sample_is_named() {
        let drawn = [read("a", &lines(&["x"])).expect("one"), read("a", &lines(&["x"])).expect("other")].concat();
        assert_eq!(side_by_side(&drawn, &[], &Vec::new()).prompts[0].columns.len(), 1);
        assert_eq!(read("m", "{\"prompt\": \"a\"}").expect_err("no text").line, 1);
        let turns = r#"{"prompt":[{"role":"user","content":"Hi"}],"text":"x"}"#;
        assert_eq!(read("m", turns).expect("a conversation")[0].prompt, "user: Hi");
    }
}
