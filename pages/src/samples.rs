//! Samples side by side: a column a model, equal texts once with how often they came.

use serde::Serialize;

/// What a model drew of a prompt.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Drawn {
    /// Name of the model or arm.
    pub model: String,
    /// As it was asked.
    pub prompt: String,
    /// In the order of drawing.
    pub texts: Vec<String>,
}

/// A prompt with the samples of each model.
#[derive(Debug, PartialEq, Eq, Serialize)]
pub struct Prompt {
    prompt: String,
    columns: Vec<Column>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Column {
    model: String,
    count: usize,
    groups: Vec<Group>,
}

#[derive(Debug, PartialEq, Eq, Serialize)]
struct Group {
    count: usize,
    text: String,
}

/// Groups what was drawn by prompt, then by model, then by equal text, the most frequent first.
pub fn side_by_side(drawn: &[Drawn]) -> Vec<Prompt> {
    let mut prompts: Vec<Prompt> = Vec::new();
    for Drawn { model, prompt, texts } in drawn {
        let column = Column { model: model.clone(), count: texts.len(), groups: groups(texts) };
        match prompts.iter_mut().find(|known| known.prompt == *prompt) {
            Some(known) => known.columns.push(column),
            None => prompts.push(Prompt { prompt: prompt.clone(), columns: vec![column] }),
        }
    }
    prompts
}

fn groups(texts: &[String]) -> Vec<Group> {
    let mut groups: Vec<Group> = Vec::new();
    for text in texts {
        match groups.iter_mut().find(|group| group.text == *text) {
            Some(group) => group.count += 1,
            None => groups.push(Group { count: 1, text: text.clone() }),
        }
    }
    groups.sort_by_key(|group| std::cmp::Reverse(group.count));
    groups
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn equal_texts_stand_once_with_their_count() {
        let drawn = |model: &str, texts: &[&str]| Drawn {
            model: model.into(),
            prompt: "p".into(),
            texts: texts.iter().map(|text| (*text).to_owned()).collect(),
        };
        let found = side_by_side(&[drawn("a", &["x", "y", "y"]), drawn("b", &["z"])]);
        let [Prompt { columns, .. }] = &found[..] else { panic!("{found:?}") };
        let counts: Vec<(usize, &str)> = columns[0].groups.iter().map(|group| (group.count, &group.text[..])).collect();
        assert_eq!(counts, [(2, "y"), (1, "x")]);
        assert_eq!((columns[0].count, columns[1].count), (3, 1));
    }
}
