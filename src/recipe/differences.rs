//! What changed between two resolved recipes, and which changes leave the steps already done as they are.

use std::fmt;

use losses::Registry;

/// Keys that say what is kept or how often the run looks at itself, and nothing about what is computed.
/// By which number the best is chosen, and of which prompts numbers are, is none of them: numbers of two kinds cannot be
/// compared.
const WITHOUT_TRACE: [&str; 8] = [
    "checkpoint.every",
    "checkpoint.keep",
    "checkpoint.keep_best",
    "checkpoint.patience",
    "eval.every",
    "eval.temperatures",
    "output.dir",
    "train.recompute",
];

/// Lengths of a run: they may grow.
const LENGTHS: [&str; 2] = ["train.epochs", "train.steps"];

struct Difference<'a> {
    key: String,
    old: Option<&'a toml::Value>,
    new: Option<&'a toml::Value>,
}

impl fmt::Display for Difference<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "`{}`: {} -> {}", self.key, Written(self.old), Written(self.new))
    }
}

struct Written<'a>(Option<&'a toml::Value>);

impl fmt::Display for Written<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0 {
            Some(value) => write!(f, "{value}"),
            None => f.write_str("not set"),
        }
    }
}

/// Each key that differs, with both values.
pub fn differences(old: &toml::Table, new: &toml::Table) -> Vec<String> {
    compare(old, new).iter().map(Difference::to_string).collect()
}

/// What changed since a run was started, of what decides about its steps.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Changes {
    /// An unbroken run of the new recipe would have done other steps than those on disk. Longer runs are let through: with
    /// a schedule that falls to zero at the end, the steps to come follow the new schedule.
    pub blocking: Vec<String>,
    /// The base has another path.
    pub base: Vec<String>,
    /// A sentence encoder has another path.
    pub encoders: Vec<String>,
    /// Rows have another path.
    pub rows: Vec<String>,
    /// The chat template is another file.
    pub template: Vec<String>,
    /// The adapter that the run began with has another path; it is in the checkpoints since.
    pub begun_with: Vec<String>,
}

/// A resolved recipe of an earlier version of this program, with the keys that it did not know yet: their defaults are what it
/// did. One that can be read no more stays as it is.
pub fn up_to_date(old: toml::Table, registry: &Registry) -> toml::Table {
    let read = |text: String| super::parse("recipe.toml", &text, &[], registry).ok();
    toml::to_string(&old).ok().and_then(read).map_or(old, |recipe| recipe.resolved)
}

/// What changed between the recipe that a run was started with and the one it is to go on with.
pub fn since_start(old: &toml::Table, new: &toml::Table) -> Changes {
    let mut changes = Changes::default();
    let differences = compare(old, new);
    // Numbers of prompts that come or go have nothing that they could be wrongly compared with.
    let prompts = differences.iter().find(|difference| difference.key == "eval.prompts");
    let come_or_go = prompts.is_some_and(|prompts| prompts.old.is_none() || prompts.new.is_none());
    let counts =
        |difference: &&Difference| !(harmless(difference) || come_or_go && difference.key.starts_with("eval."));
    for difference in differences.iter().filter(counts) {
        let of_encoder = || difference.key.starts_with("auxiliary[") && difference.key.ends_with("].encoder");
        // Keys that come or go are no paths that moved.
        let moved = difference.old.is_some() && difference.new.is_some();
        let list = match difference.key.as_str() {
            "model.revision" => &mut changes.base,
            "model.path" if moved => &mut changes.base,
            "data.chat_template" if moved => &mut changes.template,
            "data.train" | "data.eval" if moved => &mut changes.rows,
            "adapter.init_from" if moved => &mut changes.begun_with,
            _ if moved && of_encoder() => &mut changes.encoders,
            _ => &mut changes.blocking,
        };
        list.push(difference.to_string());
    }
    changes
}

fn harmless(difference: &Difference) -> bool {
    let key = difference.key.as_str();
    if WITHOUT_TRACE.iter().any(|free| if free.ends_with('.') { key.starts_with(free) } else { key == *free }) {
        return true;
    }
    let integer = |value: Option<&toml::Value>| value.and_then(toml::Value::as_integer);
    match (integer(difference.old), integer(difference.new)) {
        (Some(old), Some(new)) => LENGTHS.contains(&key) && new > old,
        _ => false,
    }
}

fn compare<'a>(old: &'a toml::Table, new: &'a toml::Table) -> Vec<Difference<'a>> {
    let mut found = Vec::new();
    compare_tables("", old, new, &mut found);
    found
}

fn compare_tables<'a>(path: &str, old: &'a toml::Table, new: &'a toml::Table, found: &mut Vec<Difference<'a>>) {
    let added = new.keys().filter(|key| !old.contains_key(*key));
    for key in old.keys().chain(added) {
        let dotted = if path.is_empty() { key.clone() } else { format!("{path}.{key}") };
        compare_values(dotted, old.get(key), new.get(key), found);
    }
}

fn compare_values<'a>(
    key: String,
    old: Option<&'a toml::Value>,
    new: Option<&'a toml::Value>,
    found: &mut Vec<Difference<'a>>,
) {
    match (old, new) {
        (Some(toml::Value::Table(old)), Some(toml::Value::Table(new))) => compare_tables(&key, old, new, found),
        (Some(toml::Value::Array(olds)), Some(toml::Value::Array(news)))
            if olds.iter().chain(news).all(toml::Value::is_table) =>
        {
            for index in 0..olds.len().max(news.len()) {
                compare_values(format!("{key}[{index}]"), olds.get(index), news.get(index), found);
            }
        }
        (old, new) if old != new => found.push(Difference { key, old, new }),
        _ => {}
    }
}
