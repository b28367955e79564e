//! `[data]`: the rows, how they are read, and which of their tokens are learned.

use std::collections::{BTreeMap, BTreeSet};

use datasets::{ChatColumns, Format, NoiseKind, PrefixFree, Template, TooLong, TrainOn};
use faults::{FromToml, Section, Shape, nearest};

use super::chat::{self, Chat};
use super::model::{Backbone, Model};
use super::sources::{self, Entry, Held};

/// `[data]`.
#[derive(Debug, Clone, PartialEq)]
pub struct Data {
    /// What to train on.
    pub train: Vec<Entry>,
    /// What to evaluate on.
    pub eval: Held,
    /// The shape of the rows.
    pub format: Format,
    /// Which tokens of a row are learned.
    pub train_on: TrainOn,
    /// Longest row in tokens; the model's own limit unless written.
    pub max_length: Option<usize>,
    /// What to do with a longer row.
    pub too_long: TooLong,
    /// Whether rows come in a new order in every epoch.
    pub shuffle: bool,
    /// Columns under another name.
    pub rename: Rename,
    /// Columns and fields of messages that are left out on purpose.
    pub ignore: Vec<String>,
    /// Columns that are the turns of a conversation.
    pub columns: Option<ChatColumns>,
    /// How conversations are written.
    pub chat: Chat,
    /// What rows with targets alone have.
    pub targets: TargetRows,
    /// What rows with an intent alone have.
    pub intent: IntentRows,
}

/// Keys of rows with targets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct TargetRows {
    /// `data.end_token`: targets end with the end token.
    pub end_token: bool,
    /// `data.prefix_free`
    pub prefix_free: PrefixFree,
    /// Whether the user wrote one of these keys.
    pub written: bool,
}

/// Keys of rows with an intent.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct IntentRows {
    /// `data.template`
    pub template: Option<Template>,
    /// `data.allow_empty_intent`
    pub allow_empty: bool,
    /// `data.intent_noise`: kind and fraction.
    pub noise: Option<(NoiseKind, f64)>,
    /// Whether the user wrote one of these keys.
    pub written: bool,
}

/// Names of files; one alone may stand without brackets.
#[derive(Clone)]
pub(super) struct Files(pub Vec<String>);

impl FromToml for Files {
    const EXPECTED: &'static str = "a file or a list of files";

    fn shape() -> Shape {
        Shape::Either(vec![Shape::Text, Shape::List(Box::new(Shape::Text))])
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        match value {
            toml::Value::String(file) => Some(Files(vec![file.clone()])),
            value => Vec::from_toml(value).map(Files),
        }
    }

    fn to_toml(&self) -> toml::Value {
        self.0.to_toml()
    }
}

/// `[data.rename]`: from the name of a column in the file to the key that the format knows.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Rename(pub BTreeMap<String, String>);

impl Rename {
    /// The pairs of a column and its key.
    pub fn pairs(&self) -> Vec<(String, String)> {
        self.0.iter().map(|(column, key)| (column.clone(), key.clone())).collect()
    }
}

impl FromToml for Rename {
    const EXPECTED: &'static str = "a table of `column = \"key\"`";

    fn shape() -> Shape {
        Shape::Map(Box::new(Shape::Text))
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        let pairs = value.as_table()?.iter();
        pairs.map(|(column, key)| Some((column.clone(), key.as_str()?.to_string()))).collect::<Option<_>>().map(Rename)
    }

    fn to_toml(&self) -> toml::Value {
        toml::Value::Table(
            self.0.iter().map(|(column, key)| (column.clone(), toml::Value::String(key.clone()))).collect(),
        )
    }
}

pub(super) fn read(section: &mut Section, model: &Model) -> Data {
    let train = sources::read_train(section);
    let eval = sources::read_held(section);
    let format = section.choice("format", &Format::words(), "auto");
    let train_on = read_train_on(section);
    let max_length = section.optional("max_length");
    check_length(section, max_length, model);
    let too_long = section.choice("too_long", &TooLong::WORDS, "error");
    let shuffle = section.value("shuffle", true);
    let rename: Rename = section.optional("rename").unwrap_or_default();
    let distinct = rename.0.values().collect::<BTreeSet<_>>().len() == rename.0.len();
    let hint = "each key takes one column";
    section.check("rename", distinct, "`data.rename` gives two columns the same key", hint);
    let ignore = section.optional("ignore").unwrap_or_default();
    let columns = read_columns(section, format);
    let chat = chat::read(section);
    let targets = read_targets(section);
    let intent = read_intent(section);
    let spoiled = matches!(eval, Held::Part(_)) && intent.noise.is_some();
    let message = "`data.intent_noise` would be in the rows that `data.eval` holds out";
    section.check("intent_noise", !spoiled, message, "name held-out rows in a file of their own");
    Data {
        train,
        eval,
        format,
        train_on,
        max_length,
        too_long,
        shuffle,
        rename,
        ignore,
        columns,
        chat,
        targets,
        intent,
    }
}

/// `data.chat.user`: one column, or several.
#[derive(Clone, Default)]
struct Columns(Vec<String>);

impl FromToml for Columns {
    const EXPECTED: &'static str = "the name of a column, or a list of names";

    fn shape() -> Shape {
        Shape::Either(vec![Shape::Text, Shape::List(Box::new(Shape::Text))])
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        String::from_toml(value).map(|name| vec![name]).or_else(|| Vec::from_toml(value)).map(Self)
    }

    fn to_toml(&self) -> toml::Value {
        match &self.0[..] {
            [name] => name.to_toml(),
            names => names.to_vec().to_toml(),
        }
    }
}

fn read_columns(section: &mut Section, format: Format) -> Option<ChatColumns> {
    section.skip("chat");
    if !section.has("chat") {
        return None;
    }
    let mut chat = section.section("chat");
    let hint = "the column of what the user says, for example \"question\"";
    let Columns(user) = chat.required("user", hint);
    chat.check("user", !chat.has("user") || !user.is_empty(), "`data.chat.user` names no column", hint);
    let columns = ChatColumns {
        user,
        assistant: chat.required("assistant", "the column of what the assistant answers, for example \"answer\""),
        system: chat.optional("system"),
        history: chat.optional("history"),
        reasoning_content: chat.optional("reasoning_content"),
    };
    section.close(chat);
    let message = "`data.chat` and `data.format` exclude each other";
    section.check("chat", format == Format::Auto, message, "leave `data.format` out: the columns are named");
    Some(columns)
}

fn read_targets(section: &mut Section) -> TargetRows {
    let written = section.has("end_token") || section.has("prefix_free");
    let end_token = section.optional("end_token").unwrap_or(true);
    section.skip("prefix_free");
    let prefix_free = match section.has("prefix_free") {
        true => section.choice("prefix_free", &PrefixFree::WORDS, "error"),
        false => PrefixFree::Error,
    };
    TargetRows { end_token, prefix_free, written }
}

fn read_intent(section: &mut Section) -> IntentRows {
    let written = ["template", "allow_empty_intent", "intent_noise"].iter().any(|key| section.has(key));
    section.skip("template");
    section.skip("intent_noise");
    let template = section.has("template").then(|| section.choice("template", &Template::WORDS, "chat"));
    let allow_empty = section.optional("allow_empty_intent").unwrap_or(false);
    let noise = section.has("intent_noise").then(|| {
        let mut noise = section.section("intent_noise");
        let kind = noise.choice("kind", &NoiseKind::WORDS, "shuffle");
        let fraction = noise.required::<f64>("fraction", "the part of the intents, for example 0.1");
        let message = "`data.intent_noise.fraction` must be from 0 to 1";
        noise.check("fraction", (0.0..=1.0).contains(&fraction), message, "0.1 spoils every tenth intent");
        section.close(noise);
        (kind, fraction)
    });
    IntentRows { template, allow_empty, noise, written }
}

/// What a list in `data.train_on` may name.
const PARTS: [&str; 2] = ["intent", "response"];

/// `data.train_on`: a word, or the list of the parts that are learned.
#[derive(Clone)]
enum Learned {
    Word(String),
    Parts(Vec<String>),
}

impl FromToml for Learned {
    const EXPECTED: &'static str = "\"assistant\", \"last\", \"all\", or a list of \"intent\" and \"response\"";

    fn shape() -> Shape {
        let words = |words: &[&str]| Shape::Words(words.iter().map(|word| (*word).to_owned()).collect());
        let parts = Shape::List(Box::new(words(&PARTS)));
        Shape::Either(vec![words(&TrainOn::WORDS.map(|(word, _)| word)), parts])
    }

    fn from_toml(value: &toml::Value) -> Option<Self> {
        String::from_toml(value).map(Learned::Word).or_else(|| Vec::from_toml(value).map(Learned::Parts))
    }

    fn to_toml(&self) -> toml::Value {
        match self {
            Learned::Word(word) => word.to_toml(),
            Learned::Parts(parts) => parts.to_toml(),
        }
    }
}

fn read_train_on(section: &mut Section) -> TrainOn {
    let value = section.value("train_on", Learned::Word("assistant".into()));
    let reject = |word: &str, known: &[&str]| {
        let hint = match nearest(word, known.iter().copied()) {
            Some(near) => format!("did you mean \"{near}\"?"),
            None => format!("any of: {}", known.join(", ")),
        };
        section.reject("train_on", format!("`data.train_on` cannot name \"{word}\""), hint);
    };
    match value {
        Learned::Word(word) => {
            let found = TrainOn::WORDS.iter().find(|(known, _)| *known == word);
            if found.is_none() {
                reject(&word, &TrainOn::WORDS.map(|(known, _)| known));
            }
            found.map_or(TrainOn::Assistant, |(_, train_on)| *train_on)
        }
        Learned::Parts(parts) => {
            for word in parts.iter().filter(|word| !PARTS.contains(&word.as_str())) {
                reject(word, &PARTS);
            }
            let twice = parts.iter().collect::<BTreeSet<_>>().len() < parts.len();
            section.check("train_on", !twice, "`data.train_on` names a part twice", "name each part once");
            let empty = "`data.train_on` is empty: nothing would be learned";
            section.check("train_on", !parts.is_empty(), empty, "[\"intent\", \"response\"]");
            let has = |part: &str| parts.iter().any(|word| word == part);
            TrainOn::Parts { intent: has("intent"), response: has("response") }
        }
    }
}

fn check_length(section: &Section, max_length: Option<usize>, model: &Model) {
    let Some(length) = max_length else { return };
    let hint = "a row has at least one token to read and one to learn";
    section.check("max_length", length >= 2, "`data.max_length` must be at least 2", hint);
    if let Backbone::Init(init) = &model.backbone {
        let limit = init.max_positions;
        let message = format!("`data.max_length` = {length} is more than the model's {limit} positions");
        section.check("max_length", length <= limit, message, "lower it, or raise `model.init.max_positions`");
    }
}
