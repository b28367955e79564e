//! What a row says and nothing reads. Columns that other programs give a meaning are refused by name, and so are near
//! misses of a name that would be read; the others are counted.

use faults::{Fault, json};
use serde_json::{Map, Value};

use crate::options::Options;
use crate::report::Unread;
use crate::row::{Names, Row, is_nothing, listed};
use crate::shapes::lost::SWITCHES;
use crate::shapes::message::{self, CONTENT, LEARNED, ROLE, THOUGHTS, flag, left_out};
use crate::shapes::messages::BESIDE;
use crate::shapes::results::Awaited;
use crate::shapes::{Format, Shape, TURNS, turns_in};
use crate::tokenizer::Tokenizer;
use crate::way::Way;

/// Fields of a step of an answer.
const STEP: [&str; 2] = ["intent", "text"];

/// Fields of a message that a misspelt one may mean.
const FIELDS: [&str; 4] = ["tool_calls", "reasoning_content", "thinking", "training"];

/// Other people's names for keys of a shape.
const SYNONYMS: [(&str, &str); 17] = [
    ("inputs", "input"),
    ("query", "input"),
    ("question", "input"),
    ("context", "input"),
    ("system_prompt", "system"),
    ("system_message", "system"),
    ("sys", "system"),
    ("functions", "tools"),
    ("docs", "documents"),
    ("contexts", "documents"),
    ("template_arguments", "chat_template_kwargs"),
    ("template_kwargs", "chat_template_kwargs"),
    ("chat_template_args", "chat_template_kwargs"),
    ("weight", "weights"),
    ("probs", "weights"),
    ("probabilities", "weights"),
    ("probability", "weights"),
];

/// Refuses a row with a column that says something which would be lost.
pub(crate) fn refuse_columns(
    row: &Row<'_>,
    shape: &Shape,
    options: &Options,
    tokenizer: &Tokenizer,
) -> Result<(), Fault> {
    let way = row.names().way;
    for (column, value) in row.filled() {
        let key = row.names().key_of(column);
        if key.is_some_and(|key| shape.reads(key, options)) {
            continue;
        }
        let means = |key: &str| shape.reads(key, options) && !row.has(key);
        let refused = |hint: String| {
            let message = format!("nothing reads `{column}` of rows of `{}`", shape.word);
            Err(Fault::new(message).hint(left_out(&hint, column, way)))
        };
        let synonym = SYNONYMS.iter().find(|(name, key)| *name == column && means(key)).map(|(_, key)| *key);
        let near = || shape.keys().find(|key| means(key) && is_near(column, key));
        if let Some(key) = synonym.or_else(near) {
            return refused(format!("is it `{key}`? then set {}", way.rename([(column, key)])));
        }
        if is_switch(column, tokenizer) && shape.reads("chat_template_kwargs", options) {
            return Err(switch(&format!("nothing reads `{column}` of rows of `{}`", shape.word), column, way));
        }
        if is_distribution(value, row.get("targets").filter(|_| shape.format == Format::Targets)) {
            return refused(match row.has("weights") {
                true => "the row has `weights` for its targets already".into(),
                false if column.to_lowercase().contains("logit") => {
                    "these are logits, maybe: `weights` takes their softmax, or any shares that are above zero".into()
                }
                false if are_logarithms(value) => {
                    "these are logarithms: `weights` takes what they are logarithms of, `exp` of each".into()
                }
                false => format!("is it `weights`? then set {}", way.rename([(column, "weights")])),
            });
        }
        if let Some(hint) = meaning(column, value, shape, way) {
            return refused(hint);
        }
    }
    Ok(())
}

/// What to do about `tool_choice`.
const NO_TOOL_CHOICE: &str = "a chat template is not given it: write what is to be called into the turns";

/// Columns that belong to a question which does not say them.
const CONTEXTS: [&str; 3] = ["context", "contexts", "passage"];

/// Columns of what is no text.
const IMAGES: [&str; 6] = ["image", "images", "video", "videos", "audio", "audios"];

/// Further switches of templates, which no answer's text hangs on.
const FURTHER_SWITCHES: [&str; 6] =
    ["reasoning_effort", "thinking_budget", "builtin_tools", "custom_tools", "tools_in_user_message", "date_string"];

/// True for a switch whose value is no flag, and which is nothing else's name.
pub(crate) fn is_further_switch(column: &str) -> bool {
    FURTHER_SWITCHES.contains(&column)
}

/// True for a column that the chat template reads as a variable.
pub(crate) fn is_switch(column: &str, tokenizer: &Tokenizer) -> bool {
    (SWITCHES.contains(&column) || is_further_switch(column)) && tokenizer.template_reads_variable(column)
}

/// The fault of a switch that stands as a column.
pub(crate) fn switch(message: &str, column: &str, way: Way) -> Fault {
    let hint = format!("it is a switch of the chat template: write `\"chat_template_kwargs\": {{\"{column}\": ..}}`");
    Fault::new(message).hint(left_out(&hint, column, way))
}

/// True for a number for each target, be it in a list or by name: what a distribution looks like.
fn is_distribution(value: &Value, targets: Option<&Value>) -> bool {
    let Some(Value::Array(targets)) = targets else { return false };
    match value {
        Value::Array(values) => values.len() == targets.len() && values.iter().all(Value::is_number),
        Value::Object(fields) => {
            fields.len() == targets.len()
                && targets.iter().all(|target| target.as_str().is_some_and(|name| fields.contains_key(name)))
                && fields.values().all(Value::is_number)
        }
        _ => false,
    }
}

/// True where a number is below zero, which no weight is.
fn are_logarithms(value: &Value) -> bool {
    let is_negative = |value: &Value| value.as_f64().is_some_and(|number| number < 0.0);
    match value {
        Value::Array(values) => values.iter().any(is_negative),
        Value::Object(fields) => fields.values().any(is_negative),
        _ => false,
    }
}

/// What to do about a column that other programs give a meaning; `None` for one without, or with a value that changes
/// nothing.
fn meaning(column: &str, value: &Value, shape: &Shape, way: Way) -> Option<String> {
    let told = |hint: &str| Some(hint.to_owned());
    let is = |names: &[&str]| names.contains(&column);
    let begins = |beginnings: &[&str]| beginnings.iter().any(|beginning| column.starts_with(beginning));
    let learned = LEARNED.iter().find(|(name, _)| *name == column);
    if let Some((_, learns)) = learned
        && flag(value) == Some(*learns)
    {
        return None;
    }
    if is(&["sample_weight", "weight", "weights"]) && value.is_number() {
        return told(match way {
            Way::Recipe => {
                "rows count by a number where the objective goes by its column: `objective.kind = \"weighted\"`"
            }
            Way::Flags => "every row counts alike here",
        });
    }
    if learned.is_some() || is(&["sample_weight", "weights"]) || message::is_mask(column) && !message::is_neutral(value)
    {
        let has_turns =
            TURNS.iter().any(|key| shape.reads(key, &Options::default())) && shape.format != Format::PromptCompletion;
        return Some(match has_turns {
            true => "a row is learned as it is: `weight: 0` or `train: false` of a message leaves that turn out".into(),
            false => format!(
                "a row is learned as it is: take out what is not to be learned; `weight` of an entry of {} says how often its rows are",
                way.key("train")
            ),
        });
    }
    if is(&["label", "kto_tag"]) && value.is_boolean() || begins(&["rejected", "chosen"]) || is(&["chosen", "rejected"])
    {
        return told("preferences are not trained on: take the rows whose answers are bad out");
    }
    if opens_otherwise(column, value) {
        return told("what is learned of a conversation does not hang on how it is opened");
    }
    if column == "tool_choice" && shape.reads("messages", &Options::default()) {
        return told(NO_TOOL_CHOICE);
    }
    if column == "chat_template" {
        return Some("a template is a file of its own: ".to_owned() + &way.key("chat_template"));
    }
    if BESIDE.contains(&column) || is(&["system_prompt", "functions", "tool_choice"]) {
        return Some("only conversations have it: write `messages`, or set ".to_owned() + &way.key("chat"));
    }
    if is(&["history", "conversation_history"]) {
        return told("write the turns before as `messages`");
    }
    if THOUGHTS.contains(&column) || is(&["thought", "thoughts", "cot", "chain_of_thought"]) {
        return Some(
            "write it into the answer or the message, or name it as `reasoning_content` of ".to_owned()
                + &way.key("chat"),
        );
    }
    if CONTEXTS.contains(&column) && shape.format != Format::Text {
        return told("put it into the question");
    }
    if is(&["probabilities", "probs", "probability"]) {
        return told("rows with `targets` have `weights`");
    }
    if is(&["completions", "candidates"]) && value.is_array() {
        return told("a row has one answer: write a row for each");
    }
    if IMAGES.contains(&column) {
        return told("only text is read");
    }
    if is(&["input_ids", "attention_mask", "completion_mask", "assistant_masks", "labels", "token_ids"]) {
        return told("rows are read as text and tokenised here");
    }
    None
}

/// True for true or false, be it as a word in the cell of a table.
pub(crate) fn is_flag(value: &Value) -> bool {
    let is_word = |text: &str| text.eq_ignore_ascii_case("true") || text.eq_ignore_ascii_case("false");
    value.is_boolean() || value.as_str().is_some_and(is_word)
}

/// True for what other programs are told of the turn that an answer stands in, where it is not what is done here.
fn opens_otherwise(column: &str, value: &Value) -> bool {
    match column {
        "add_generation_prompt" => flag(value) == Some(false),
        "continue_final_message" => flag(value) == Some(true),
        _ => false,
    }
}

/// Refuses a row of prompts with a column without which its question is another.
pub(crate) fn refuse_of_prompt(row: &Row<'_>, is_turn: &impl Fn(&str) -> bool) -> Result<(), Fault> {
    let own_name = |column: &str| row.names().key_of(column) == Some(column) && !is_turn(column);
    for (column, value) in row.filled().filter(|(column, _)| own_name(column)) {
        let synonym = SYNONYMS.iter().find(|(name, key)| *name == column && BESIDE.contains(key)).map(|(_, key)| *key);
        let near = || BESIDE.into_iter().find(|key| column != *key && is_near(column, key));
        let is_switch = SWITCHES.contains(&column) && is_flag(value) || column == "reasoning_effort";
        let hint = match synonym.or_else(near).filter(|key| !row.has(key)) {
            Some(key) => format!("is it `{key}`? then set {}", row.names().way.rename([(column, key)])),
            None if opens_otherwise(column, value) => "the assistant's turn is opened for each".into(),
            None if column == "tool_choice" => NO_TOOL_CHOICE.into(),
            None if column == "chat_template" => {
                "a template is a file of its own: ".to_owned() + &row.names().way.key("chat_template")
            }
            None if is_switch => {
                format!(
                    "it is a switch of chat templates: where the model's has it, write \
                     `\"chat_template_kwargs\": {{\"{column}\": ..}}`"
                )
            }
            None if IMAGES.contains(&column) => "only text is read".into(),
            None if column == "history" => "write the whole conversation as `messages`".into(),
            None if column == "input" || CONTEXTS.contains(&column) => "write it into the question".into(),
            None => continue,
        };
        let fault = Fault::new(format!("nothing reads `{column}` of a prompt"));
        return Err(fault.hint(left_out(&hint, column, row.names().way)));
    }
    Ok(())
}

/// True for a name that is one slip of the pen away, of long ones two.
pub(crate) fn is_near(word: &str, key: &str) -> bool {
    let both = [word, key].map(|word| word.to_lowercase().replace(['-', ' '], "_"));
    let most = if word.len().min(key.len()) >= 7 { 2 } else { 1 };
    // Of short words, one letter is another word.
    word.len().min(key.len()) >= 4 && distance(&both[0], &both[1]) <= most
}

/// Letters to put in, take out, change or swap with the next to make one word of the other.
fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut rows = vec![(0..=b.len()).collect::<Vec<usize>>()];
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let changed = rows[i - 1][j - 1] + usize::from(a[i - 1] != b[j - 1]);
            let mut least = changed.min(rows[i - 1][j] + 1).min(row[j - 1] + 1);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                least = least.min(rows[i - 2][j - 2] + 1);
            }
            row.push(least);
        }
        rows.push(row);
    }
    rows[a.len()][b.len()]
}

/// Refuses a misspelt field of a message, which the template would not find, and what is said of a whole row.
pub(crate) fn refuse_fields(row: &Row<'_>, tokenizer: &Tokenizer) -> Result<(), Fault> {
    fields_unread(row, tokenizer).into_iter().try_for_each(|(_, field)| refuse_field(field, row.names().way))
}

/// Refuses a field of a message, which no template reads, where it is misspelt or said of a whole row.
pub(crate) fn refuse_field(field: &str, way: Way) -> Result<(), Fault> {
    let fault = |hint: String| {
        Err(Fault::new(format!("nothing reads `{field}` of a message")).hint(left_out(&hint, field, way)))
    };
    if let Some(column) = column_beside(field) {
        return fault(format!("write it beside the messages, as the row's `{column}`"));
    }
    match FIELDS.into_iter().chain(LEARNED.map(|(name, _)| name)).find(|known| is_near(field, known)) {
        Some(near) => fault(format!("did you mean `{near}`? then give it that name")),
        None => Ok(()),
    }
}

/// The column of a row that a field of a message or a step is meant to be.
fn column_beside(field: &str) -> Option<&str> {
    match field {
        "functions" => Some("tools"),
        field => Some(field).filter(|field| BESIDE.contains(field)),
    }
}

/// The fields of a step of an answer that nothing reads.
pub(crate) fn fields_of_step<'a>(step: &'a Map<String, Value>, names: Names<'_>) -> impl Iterator<Item = &'a str> {
    let filled = step.iter().filter(|(_, value)| !is_nothing(value)).map(|(field, _)| field.as_str());
    filled.filter(move |field| !STEP.contains(field) && !names.ignores(field))
}

/// Refuses such a field where other programs give it a meaning, or where it is misspelt.
pub(crate) fn refuse_field_of_step(field: &str, way: Way) -> Result<(), Fault> {
    let hint = if LEARNED.iter().any(|(name, _)| *name == field) || message::is_mask(field) {
        "a step is learned whole: take out what is not to be learned".to_owned()
    } else if let Some(column) = column_beside(field) {
        format!("write it beside the question, as the row's `{column}`")
    } else if THOUGHTS.contains(&field) {
        "write it into the step's `text`, as the model is to say it".to_owned()
    } else if let Some(near) = STEP.into_iter().find(|known| is_near(field, known)) {
        format!("did you mean `{near}`? then give it that name")
    } else {
        return Ok(());
    };
    Err(Fault::new(format!("nothing reads `{field}` of a step")).hint(left_out(&hint, field, way)))
}

/// The columns, and as `messages[].name` the fields of messages, that nothing reads; each once.
pub(crate) fn unread(row: &Row<'_>, shape: &Shape, options: &Options, tokenizer: &Tokenizer) -> Vec<String> {
    let is_read = |column: &str| row.names().key_of(column).is_some_and(|key| shape.reads(key, options));
    let mut names: Vec<String> =
        row.filled().filter(|(column, _)| !is_read(column)).map(|(column, _)| column.to_owned()).collect();
    names.extend(unread_fields(row, tokenizer).into_iter().filter(|name| {
        let key = name.split('[').next().unwrap_or_default();
        is_read(key)
    }));
    let steps = row.get("steps").filter(|_| is_read("steps")).and_then(Value::as_array).into_iter().flatten();
    for field in steps.filter_map(Value::as_object).flat_map(|step| fields_of_step(step, row.names())) {
        let name = format!("steps[].{field}");
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// Of the messages of a row, the fields that nothing reads.
pub(crate) fn unread_fields(row: &Row<'_>, tokenizer: &Tokenizer) -> Vec<String> {
    let mut names: Vec<String> = Vec::new();
    for (key, field) in fields_unread(row, tokenizer) {
        let name = format!("{}[].{field}", row.names().column_of(key));
        if !names.contains(&name) {
            names.push(name);
        }
    }
    names
}

/// The fields that nothing reads, each with the key of its list of turns.
fn fields_unread<'a>(row: &Row<'a>, tokenizer: &Tokenizer) -> Vec<(&'static str, &'a str)> {
    let names = row.names();
    let (mut found, mut awaited) = (Vec::new(), Awaited::default());
    for (key, turn) in turns_in(row) {
        let own = [message::key_in(turn, "role", &ROLE, names), message::key_in(turn, "content", &CONTENT, names)];
        let role = turn.get(own[0]).and_then(Value::as_str).map(message::role).unwrap_or_default();
        let repeated = awaited.repeated(role, turn);
        let is_read = |field: &str| {
            own.contains(&field) || names.ignores(field) || reads_field(field, tokenizer) || repeated.contains(&field)
        };
        let filled = turn.iter().filter(|(_, value)| !is_nothing(value)).map(|(field, _)| field.as_str());
        found.extend(filled.filter(|field| !is_read(field)).map(|field| (key, field)));
    }
    found
}

/// True for a field of a message that has a meaning here or in the chat template.
pub(crate) fn reads_field(field: &str, tokenizer: &Tokenizer) -> bool {
    LEARNED.iter().any(|(name, _)| *name == field)
        || THOUGHTS.contains(&field)
        || field == "tool_calls"
        || tokenizer.template_reads_field(field)
}

/// Refuses what JSON cannot say where it is read.
pub(crate) fn refuse_oddities(
    oddities: &[json::Oddity],
    row: &Row<'_>,
    is_read: impl Fn(&str) -> bool,
) -> Result<(), Fault> {
    for oddity in oddities {
        let mut path = oddity.pointer.split('/').skip(1).map(|part| part.replace("~1", "/").replace("~0", "~"));
        let column = path.next().unwrap_or_default();
        let Some(key) = row.names().key_of(&column).filter(|key| is_read(key) && !row.names().ignores(&column)) else {
            continue;
        };
        let rest: Vec<String> = path.collect();
        // A field of a message that has no meaning for us is a column like any other.
        if let ([_, field, ..], true) = (&rest[..], TURNS.contains(&key)) {
            let reads = ROLE.contains(&field.as_str())
                || CONTENT.contains(&field.as_str())
                || row.names().column_of("content") == field
                || THOUGHTS.contains(&field.as_str())
                || LEARNED.iter().any(|(name, _)| name == field)
                || field == "tool_calls";
            if !reads {
                continue;
            }
        }
        let mut name = column.clone();
        for part in &rest {
            name += &if part.parse::<usize>().is_ok() { format!("[{part}]") } else { format!(".{part}") };
        }
        let (says, hint) = match oddity.kind {
            json::OddityKind::Number => ("is", "write what is meant, or take the row out"),
            json::OddityKind::Whole => ("is", "write it as text, in quotes, or take the row out"),
            json::OddityKind::Surrogate => (
                "holds",
                "half of a character: `text.encode('utf-16', 'surrogatepass').decode('utf-16', 'replace')` mends it",
            ),
        };
        return Err(Fault::new(format!("`{name}` {says} {oddity}")).hint(hint));
    }
    Ok(())
}

/// Adds the names of one more row.
pub(crate) fn count(counts: &mut Vec<Unread>, names: Vec<String>) {
    for name in names {
        match counts.iter_mut().find(|unread| unread.name == name) {
            Some(unread) => unread.rows += 1,
            None => counts.push(Unread { name, rows: 1 }),
        }
    }
}

/// Names with the number of rows that each stands in.
pub(crate) fn counted(names: &[Unread]) -> String {
    let told: Vec<String> =
        names.iter().take(MOST_NAMES).map(|unread| format!("`{}` in {}", unread.name, unread.rows)).collect();
    match names.len().saturating_sub(MOST_NAMES) {
        0 => told.join(", "),
        more => format!("{} and {more} more", told.join(", ")),
    }
}

/// Unread names that are told one by one.
const MOST_NAMES: usize = 20;

/// True for a row that has something of this name, which `data.ignore` leaves out: a column, or a field of a message.
pub(crate) fn meets(object: &Map<String, Value>, name: &str) -> bool {
    // Turns may be JSON in a text.
    let in_text = |value: &Value| value.as_str().is_some_and(|text| text.contains(&Value::from(name).to_string()));
    let in_turn = |turn: &Value| turn.get(name).is_some();
    let in_turns = |value: &Value| value.as_array().map_or(in_text(value), |turns| turns.iter().any(in_turn));
    object.contains_key(name) || TURNS.iter().any(|key| object.get(*key).is_some_and(in_turns))
}

/// The fault of a column of `data.ignore` that a shape must have.
pub(crate) fn refuse_ignored(shape: &Shape, options: &Options) -> Result<(), Fault> {
    match shape.required.iter().find(|key| options.ignore.iter().any(|name| name == *key)) {
        Some(key) => {
            let ignore = options.way.key("ignore");
            Err(Fault::new(format!("{ignore} names `{key}`, without which there is no row of `{}`", shape.word))
                .hint(format!("it may name anything but {}", listed(shape.required.iter().copied()))))
        }
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::{distance, is_near};

    #[test]
    fn near_misses_are_slips_and_not_other_words() {
        assert_eq!([distance("abc", "acb"), distance("", "ab"), distance("tool", "tools")], [1, 2, 1]);
        for (word, key) in [("inputs", "input"), ("sytem", "system"), ("Tools", "tools"), ("histroy", "history")] {
            assert!(is_near(word, key), "{word} {key}");
        }
        for (word, key) in [("topics", "tools"), ("index", "input"), ("output", "input"), ("id", "input")] {
            assert!(!is_near(word, key), "{word} {key}");
        }
    }
}
