//! The shape of a file told from the columns of its first row, where the recipe does not say it.

use faults::Fault;
use serde_json::Value;

use super::{ALL, Format, Shape};
use crate::options::Options;
use crate::row::{Row, is_nothing, listed};
use crate::way::Way;

/// Names of columns that answers stand under, or questions: beside `text`, it may be the other half.
const HALVES: [&str; 26] = [
    "answer",
    "answers",
    "code",
    "completion",
    "completions",
    "expected",
    "gold",
    "instruction",
    "label",
    "output",
    "outputs",
    "prompt",
    "query",
    "question",
    "reply",
    "response",
    "responses",
    "result",
    "solution",
    "sql",
    "summary",
    "target",
    "translation",
    "assistant",
    "user",
    "input",
];

/// Column names of other people's files, with the key each stands for.
const USUAL_NAMES: [(&str, &str); 43] = [
    ("question", "prompt"),
    ("query", "prompt"),
    ("problem", "prompt"),
    ("input", "prompt"),
    ("instruction", "prompt"),
    ("user", "prompt"),
    ("human", "prompt"),
    ("source", "prompt"),
    ("article", "prompt"),
    ("document", "prompt"),
    ("inputs", "prompt"),
    ("answer", "completion"),
    ("response", "completion"),
    ("solution", "completion"),
    ("output", "completion"),
    ("assistant", "completion"),
    ("target", "completion"),
    ("summary", "completion"),
    ("highlights", "completion"),
    ("complete", "completion"),
    ("generated_solution", "completion"),
    ("chosen", "completion"),
    ("outputs", "completion"),
    ("response", "output"),
    ("answer", "output"),
    ("completion", "output"),
    ("outputs", "output"),
    ("target", "targets"),
    ("completions", "targets"),
    ("responses", "targets"),
    ("answers", "targets"),
    ("outputs", "targets"),
    ("references", "targets"),
    ("intents", "intent"),
    ("intention", "intent"),
    ("conversation", "messages"),
    ("dialogue", "messages"),
    ("dialog", "messages"),
    ("chat", "messages"),
    ("msgs", "messages"),
    ("chat_rounds", "messages"),
    ("content", "text"),
    ("document", "text"),
];

/// The shape of a file with this first row.
pub(super) fn shape(first: &Row<'_>) -> Result<&'static Shape, Fault> {
    let Some(shape) = ALL.into_iter().find(|shape| shape.fits(first)) else {
        // A row whose values are null has its shape all the same, and its fault is told as that of a row.
        let named = ALL.into_iter().find(|shape| shape.required.iter().all(|key| first.names_key(key)));
        return named.ok_or_else(|| unknown(first));
    };
    let both = |other: &&&Shape| {
        let is_own = other.required.iter().any(|key| shape.keys().any(|own| own == *key));
        other.format != Format::Text && !is_own && other.fits(first)
    };
    if let Some(other) = ALL.iter().find(both) {
        let keys = |shape: &Shape| listed(shape.required.iter().copied());
        let message = format!("the row is both `{}` ({}) and `{}`", shape.word, keys(shape), other.word);
        let hint = format!(
            "say which is meant: {} or \"{}\"; the columns of the other are then not read",
            first.names().way.key(&format!("format = \"{}\"", shape.word)),
            other.word
        );
        return Err(Fault::new(message).hint(hint));
    }
    if shape.format == Format::Text {
        refuse_half(first)?;
    }
    Ok(shape)
}

/// `text` alone is not taken where another column may be its answer.
fn refuse_half(row: &Row<'_>) -> Result<(), Fault> {
    let is_text = |value: &Value| value.is_string() || value.is_array();
    let mut halves = row.filled().filter(|(column, value)| HALVES.contains(column) && is_text(value));
    let Some((half, _)) = halves.next() else { return Ok(()) };
    let text = row.names().column_of("text");
    let (user, assistant) = match half {
        "prompt" | "query" | "question" | "instruction" | "user" | "input" => (half, text),
        _ => (text, half),
    };
    let message =
        format!("the row has `{text}`, and `{half}` which may belong to it: as rows of `text`, `{half}` is not read");
    let way = row.names().way;
    Err(Fault::new(message).hint(format!(
        "{} trains `{text}` alone; {} trains the answers, {} through the chat template",
        way.key("format = \"text\""),
        way.rename([(user, "prompt"), (assistant, "completion")]),
        way.chat(user, assistant)
    )))
}

/// The fault of a file of another shape than the one that is asked for.
pub(super) fn other_shape(options: &Options, found: &Shape) -> Fault {
    let words = Format::words();
    let asked = words.iter().find(|(_, format)| *format == options.format).map_or("", |(word, _)| word);
    let keys = listed(found.required.iter().copied());
    if options.way == Way::Recipe {
        let message = format!("the rows are `{}` ({keys}), and `data.format` says `{asked}`", found.word);
        return Fault::new(message).hint("leave `data.format` out, or choose the other file");
    }
    Fault::new(format!("the rows are `{}` ({keys}), and `{asked}` are measured here", found.word)).hint(
        "for the loss of other rows, name the file in `data.eval` of a recipe: `trainer run` evaluates by it as it trains",
    )
}

fn unknown(row: &Row<'_>) -> Fault {
    let way = row.names().way;
    let has = match row.columns().next() {
        None => "the row is empty".to_owned(),
        Some(_) => format!("no row shape has {}", listed(row.columns())),
    };
    let mut left_out = ALL.into_iter().flat_map(|shape| shape.required).filter(|key| row.leaves_out(key));
    let fault = Fault::new(match left_out.next() {
        Some(key) => format!("{has}; {} leaves `{key}` out", way.key("ignore")),
        None => has,
    });
    let columns: Vec<&str> = row.columns().collect();
    if let Some(hint) = of_another_kind(row) {
        return fault.hint(hint);
    }
    for shape in ALL {
        let absent = || shape.required.iter().copied().filter(|key| !row.has(key));
        if absent().next().is_some() && absent().all(|key| row.names().ignores(key)) {
            let left_out = listed(absent());
            let word = shape.word;
            return fault.hint(format!(
                "{} leaves {left_out} out, without which there is no row of `{word}`",
                way.key("ignore")
            ));
        }
    }
    for shape in ALL {
        let absent: Vec<&str> = shape.required.iter().copied().filter(|key| !row.has(key)).collect();
        let usual = |key: &str| {
            let mut names = USUAL_NAMES.iter().filter(|(_, to)| *to == key).map(|(name, _)| *name);
            let named = |name: &str| columns.iter().find(|column| column.eq_ignore_ascii_case(name)).copied();
            let column = names.find_map(|name| named(name).filter(|column| holds(row, column, key)))?;
            Some((column, key.to_owned()))
        };
        let Some(renames) = absent.iter().copied().map(usual).collect::<Option<Vec<_>>>() else { continue };
        let pairs = renames.iter().map(|(column, key)| (*column, &key[..]));
        let hint = format!("name the columns with {}", way.rename(pairs));
        let column_of = |wanted: &str| {
            renames.iter().find(|(_, key)| key == wanted).map_or(wanted.to_owned(), |(c, _)| (*c).to_owned())
        };
        return fault.hint(match shape.format {
            Format::PromptCompletion => format!(
                "{hint}, or put them through the chat template with {}",
                way.chat(&column_of("prompt"), &column_of("completion"))
            ),
            _ => hint,
        });
    }
    for shape in ALL {
        let absent: Vec<&str> = shape.required.iter().copied().filter(|key| !row.has(key)).collect();
        let near = |key: &str| {
            let near = faults::nearest(key, columns.iter().copied()).filter(|column| holds(row, column, key));
            near.map(|column| (key.to_string(), column))
        };
        if let Some(pairs) = absent.iter().copied().map(near).collect::<Option<Vec<_>>>() {
            let meant: Vec<String> = pairs.iter().map(|(key, column)| format!("`{key}` for `{column}`")).collect();
            return fault.hint(format!("did you mean {}?", meant.join(" and ")));
        }
    }
    let shapes: Vec<String> =
        ALL.iter().map(|shape| format!("{} ({})", shape.word, listed(shape.required.iter().copied()))).collect();
    fault.hint(format!("one of: {}; or name the columns with {}", shapes.join(", "), way.key("rename")))
}

/// True where the column could be what `key` asks for: a list of texts is `targets`, and no answer.
fn holds(row: &Row<'_>, column: &str, key: &str) -> bool {
    let value = row.filled().find(|(name, _)| *name == column).map(|(_, value)| value);
    value.is_none_or(|value| {
        value.as_array().is_some_and(|list| list.iter().any(Value::is_string)) == (key == "targets")
    })
}

/// What to do with a file that is one object with rows in it, by the names of splits or by numbers.
fn of_whole_file(row: &Row<'_>) -> Option<String> {
    let mut values = row.columns().filter_map(|column| Some((column, row.get(column)?)));
    if row.columns().any(|column| ["train", "test", "validation"].contains(&column))
        && let Some((column, _)) =
            values.find(|(_, value)| value.as_array().and_then(|rows| rows.first()).is_some_and(Value::is_object))
    {
        return Some(format!(
            "the rows lie under `{column}`: `jq -c '.{column}[]' FILE > rows.jsonl` writes them one a line"
        ));
    }
    let is_numbered = row.columns().next().is_some() && row.columns().all(|column| column.parse::<u64>().is_ok());
    let of_rows = is_numbered && row.columns().all(|column| row.get(column).is_some_and(Value::is_object));
    of_rows.then(|| "the rows lie under numbers: `jq -c '.[]' FILE > rows.jsonl` writes them one a line".into())
}

/// What to do with rows that are made for another purpose, or a file in which they lie deeper.
fn of_another_kind(row: &Row<'_>) -> Option<String> {
    if row.has("role") && row.has("content") || row.has("from") && row.has("value") {
        return Some("this is one message: a row is an object with all turns, `{\"messages\": [..]}`".into());
    }
    if row.has("input_ids") {
        return Some("these are token ids of another tokenizer, maybe: rows are read as text".into());
    }
    if row.has("rejected") && row.has("chosen") {
        let key = if row.get("chosen").is_some_and(Value::is_array) { "messages" } else { "completion" };
        return Some(format!(
            "these are pairs of preferences, which are not trained on; the chosen answers alone are: \
             {} and {}",
            row.names().way.rename([("chosen", key)]),
            row.names().way.key("ignore = [\"rejected\"]")
        ));
    }
    if let Some(hint) = of_whole_file(row) {
        return Some(hint);
    }
    let rows = |value: &Value| value.as_array().is_some_and(|rows| rows.first().is_some_and(Value::is_object));
    let mut lists = row.filled().filter(|(_, value)| rows(value));
    match (lists.next(), row.columns().filter(|column| row.get(column).is_some_and(|value| !is_nothing(value))).count())
    {
        (Some((column, Value::Array(list))), 1)
            if list[0].get("role").or(list[0].get("from")).is_none()
                && (list.len() > 1 || !USUAL_NAMES.iter().any(|(name, _)| *name == column)) =>
        {
            Some(format!(
                "the rows lie under `{column}`: `jq -c '.{column}[]' FILE > rows.jsonl` writes them one a line"
            ))
        }
        _ => None,
    }
}
