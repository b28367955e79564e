//! Chat templates: a conversation as the one text that an instruct model was trained on.
//!
//! A template is Jinja written for Python. This is the environment that transformers gives it (`trim_blocks`,
//! `lstrip_blocks`, loop controls, `raise_exception`, `strftime_now`, a plain `tojson`, marks of generated text), on top of
//! minijinja, with what jinja2 has otherwise: [`rewrite`] for what the syntax decides, the other files for values.

mod arguments;
mod date;
mod filters;
mod globals;
#[cfg(test)]
mod hostile;
mod json;
mod methods;
mod parts;
mod predicates;
mod python;
mod rewrite;
mod settings;
mod values;

use std::collections::BTreeMap;
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex};
use std::time::Duration;

use faults::{Fault, Place, Stopped, apart, apart_again};
use minijinja::syntax::SyntaxConfig;
use minijinja::{Environment, Error, ErrorKind, Value};
use serde_json::{Map, Value as Json};

pub use date::Moment;
pub use settings::ChatSettings;

use crate::conversation::{Conversation, Message};
use crate::mentions::Mentions;
use rewrite::{MARK_END, MARK_START};

/// What one rendering may take: an instruction is one, and so are 64 bytes of what is made. A hundred times what a long
/// conversation needs, yet seconds and some hundred megabytes at most.
const FUEL: u64 = 5_000_000;

/// How long compiling or rendering may take. Fuel ends nearly everything long before; to compare two values that are made of
/// one another can take for ever, and is one instruction.
const LIMIT: Duration = Duration::from_secs(60);

/// A compiled chat template with the special tokens it may name.
pub(crate) struct ChatTemplate {
    environment: Arc<Environment<'static>>,
    /// A rendering did not come back: none is begun again.
    is_given_up: AtomicBool,
    tokens: BTreeMap<String, Value>,
    file: String,
    source: String,
    mentions: Mentions,
    /// It marks what the assistant generates.
    is_marked: bool,
    /// By role, whether it goes over a content in parts; those that were asked about.
    goes_over_parts: Mutex<BTreeMap<String, bool>>,
}

/// A conversation as text.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Rendered {
    /// The text.
    pub text: String,
    /// The bytes of it that `{% generation %}` marks.
    pub generated: Vec<Range<usize>>,
}

impl ChatTemplate {
    /// Compiles `source`, read from `file`; `moment` is its now.
    pub fn new(file: &str, source: &str, tokens: &[(&str, String)], moment: Moment) -> Result<Self, Fault> {
        let owned = source.to_owned();
        let compiled = apart(LIMIT, move || {
            let mut environment = environment(moment);
            let rewritten = rewrite::rewritten(&owned)?;
            environment.add_template_owned("chat", rewritten).map_err(|error| explain(&error))?;
            Ok(environment)
        });
        let mend = format!(
            "mend the template in `{file}`, or name another in its place; rows of `prompt` and `completion` do without it"
        );
        let fault =
            |reason: String| Fault::new(format!("cannot read the chat template: {reason}")).at(Place::file(file));
        let environment = compiled
            .map_err(|stopped| fault(stopped.to_string()).hint(stopped.hint(&mend)))?
            .map_err(|reason: String| fault(reason).hint(&mend))?;
        let tokens = tokens.iter().map(|(name, text)| (name.to_string(), Value::from(text.clone()))).collect();
        Ok(Self {
            environment: Arc::new(environment),
            is_given_up: AtomicBool::new(false),
            tokens,
            file: file.to_string(),
            source: source.to_string(),
            mentions: Mentions::of(source),
            is_marked: has_marks(source),
            goes_over_parts: Mutex::default(),
        })
    }

    /// True when the template speaks of `role`.
    pub fn names(&self, role: &str) -> bool {
        [format!("'{role}'"), format!("\"{role}\"")].iter().any(|word| self.source.contains(word))
    }

    /// True when the template reads a variable or a field of this name.
    pub fn mentions(&self, name: &str) -> bool {
        self.mentions.has(name)
    }

    /// True when the template reads a field of this name of something.
    pub fn reads_field(&self, name: &str) -> bool {
        self.mentions.has_field(name)
    }

    /// True when the template reads a variable of this name.
    pub fn reads_variable(&self, name: &str) -> bool {
        self.mentions.has_variable(name)
    }

    /// The names that may be variables.
    pub fn variables(&self) -> impl Iterator<Item = &str> {
        self.mentions.variables()
    }

    /// True when the template writes calls of tools as JSON, whatever the type of their arguments.
    pub fn writes_calls_as_json(&self) -> bool {
        self.mentions.writes_calls_as_json()
    }

    /// True when the template marks what the assistant generates.
    pub fn marks_generation(&self) -> bool {
        self.is_marked
    }

    /// What the template was compiled from.
    pub fn source(&self) -> &str {
        &self.source
    }

    /// The file that it stands in.
    pub fn file(&self) -> &str {
        &self.file
    }

    /// The text of a conversation; `defaults` are switches of the template that the conversation itself does not set.
    pub fn render(
        &self,
        conversation: &Conversation,
        defaults: &Map<String, Json>,
        add_generation_prompt: bool,
    ) -> Result<Rendered, Fault> {
        let given = |message| values::given(&Json::Object(as_given(message, self.content(message))));
        let messages = conversation.messages.iter().map(given).collect();
        let context = self.context(messages, conversation, defaults, add_generation_prompt);
        if self.is_marked && conversation.messages.iter().any(|message| message.text().contains([MARK_START, MARK_END]))
        {
            let message = "a message holds the character U+FDD0 or U+FDD1, by which generated text is marked here";
            return Err(Fault::new(message).hint("no text has a use for it: take it out"));
        }
        let text = self.rendered(context, LIMIT).map_err(|reason| {
            Fault::new(format!("the chat template refuses this conversation: {reason}"))
                .hint(format!("the template is in `{}`", self.file))
        })?;
        self.without_marks(text)
    }

    /// The variables of a rendering: these messages, and what stands beside them in the conversation.
    fn context(
        &self,
        messages: Value,
        conversation: &Conversation,
        defaults: &Map<String, Json>,
        add_generation_prompt: bool,
    ) -> BTreeMap<String, Value> {
        let mut context = self.tokens.clone();
        let switches = defaults.iter().chain(&conversation.arguments);
        context.extend(switches.map(|(key, value)| (key.clone(), values::given(value))));
        context.insert("messages".into(), messages);
        context.insert("add_generation_prompt".into(), Value::from(add_generation_prompt));
        let beside = |value: &Option<Json>| values::given(value.as_ref().unwrap_or(&Json::Null));
        context.insert("tools".into(), beside(&conversation.tools));
        context.insert("documents".into(), beside(&conversation.documents));
        context
    }

    /// What the template makes of these variables, or why it does not.
    fn rendered(&self, context: BTreeMap<String, Value>, limit: Duration) -> Result<String, String> {
        if self.is_given_up.load(Ordering::Relaxed) {
            return Err("it did not come to an end with another".into());
        }
        let environment = self.environment.clone();
        let rendered = apart_again(limit, move || {
            let template = environment.get_template("chat").expect("the template was added at the start");
            template.render(Value::from_pairs(context)).map_err(|error| explain(&error))
        });
        rendered
            .map_err(|stopped| {
                self.is_given_up.fetch_or(matches!(stopped, Stopped::Endless(_)), Ordering::Relaxed);
                stopped.to_string()
            })
            .flatten()
    }

    /// Takes the marks of generated text out and keeps their places.
    fn without_marks(&self, marked: String) -> Result<Rendered, Fault> {
        if !self.is_marked || !marked.contains([MARK_START, MARK_END]) {
            return Ok(Rendered { text: marked, generated: Vec::new() });
        }
        let misplaced = || {
            Fault::new("a block `{% generation %}` of the chat template stands in another, or was cut")
                .at(Place::file(&self.file))
                .hint("write `{% generation %}` around what the assistant says, outside of filters")
        };
        let (mut text, mut generated, mut open) = (String::with_capacity(marked.len()), Vec::new(), None);
        for letter in marked.chars() {
            match (letter, open) {
                (MARK_START, None) => open = Some(text.len()),
                (MARK_END, Some(start)) => {
                    generated.push(start..text.len());
                    open = None;
                }
                (MARK_START | MARK_END, _) => return Err(misplaced()),
                _ => text.push(letter),
            }
        }
        if open.is_some() { Err(misplaced()) } else { Ok(Rendered { text, generated }) }
    }
}

/// True for a template with a block `{% generation %}`.
fn has_marks(source: &str) -> bool {
    let mut tags = source.split("{%").skip(1);
    tags.any(|tag| tag.trim_start_matches(['-', '+', ' ', '\n', '\r', '\t']).starts_with("generation"))
}

/// The environment of a template.
fn environment(moment: Moment) -> Environment<'static> {
    let mut environment = Environment::new();
    let syntax = SyntaxConfig::builder().trim_blocks(true).lstrip_blocks(true).build();
    environment.set_syntax(syntax.expect("the delimiters are Jinja's own"));
    environment.set_auto_escape_callback(|_| minijinja::AutoEscape::None);
    environment.set_fuel(Some(FUEL));
    environment.set_unknown_method_callback(methods::call);
    environment.set_formatter(|out, state, value| match value.as_str() {
        Some(text) => out.write_str(text).map_err(Error::from),
        None => out.write_str(&python::text(state, value)?).map_err(Error::from),
    });
    filters::add(&mut environment);
    environment.add_test("iterable", predicates::is_iterable);
    environment.add_test("sequence", predicates::is_sequence);
    environment.add_test("callable", predicates::is_callable);
    environment.add_function("raise_exception", globals::raise_exception);
    environment.add_function("dict", globals::dict);
    environment.add_function("cycler", globals::cycler);
    environment.add_function("joiner", globals::joiner);
    environment.add_function("strftime_now", move |format: String| {
        moment.format(&format).map_err(|error| Error::new(ErrorKind::InvalidOperation, error.to_string()))
    });
    environment
}

/// A message as transformers gives it to a template: without what is null, and with the thought under both of its names.
fn as_given(message: &Message, content: Option<Json>) -> Map<String, Json> {
    let mut given = Map::new();
    given.insert("role".into(), Json::from(message.role.as_str()));
    given.extend(content.map(|content| ("content".to_owned(), content)));
    let fields = message.fields.iter().filter(|(_, value)| !value.is_null());
    given.extend(fields.map(|(key, value)| (key.clone(), value.clone())));
    let thought = ["reasoning_content", "thinking", "reasoning"].iter().find_map(|key| given.get(*key)).cloned();
    if let Some(thought) = thought {
        given.entry("thinking").or_insert_with(|| thought.clone());
        given.insert("reasoning_content".into(), thought);
    }
    given
}

/// What went wrong, with the template's line.
fn explain(error: &Error) -> String {
    let detail = match error.kind() {
        ErrorKind::OutOfFuel => Some("it takes more steps, or makes more text, than one rendering may"),
        _ => error.detail(),
    };
    let detail = detail.map_or_else(|| error.kind().to_string(), str::to_owned);
    error.line().map_or(detail.clone(), |line| format!("{detail} (line {line} of the template)"))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is otherwise here than in jinja2, by what it is; chat templates do without it.
    const LEFT: [&str; 16] = [
        // Numbers compare with strings.
        "{{ 1 < 'a' }}",
        "{{ 1 in 'abc' }}",
        // A float above 1e16 or below 1e-4 that `~` joins, and a product with a negative number.
        "~ big ~ small",
        "'a' * -1",
        // Formats that minijinja does not know.
        "%r",
        "{!r}",
        "'%d' % 3.9",
        "%-8s|",
        "'%s' % ('a', 'b')",
        // Methods and attributes as values, views of dictionaries and ranges as text.
        ".translate(",
        " is defined }}",
        "{{ map.items() }}",
        "{{ range(3) }}",
        "{{ {1: 2, none: 3, true: 4} | tojson }}",
        // A slice that goes backwards to the first item, and what else is rare.
        "[6:0:-1]",
        "varargs",
    ];

    /// Filters that are not there: a template that uses one is refused by the filter's name.
    const ABSENT: [&str; 7] =
        ["striptags", "xmlattr", "wordwrap", "pprint", "filesizeformat", "random", "(html | e) + "];

    #[test]
    fn small_templates_come_out_as_jinja2_writes_them() {
        let text = include_str!("../../tests/fixtures/chat/snippets.json");
        let file: Json = serde_json::from_str(text).expect("the fixture is JSON");
        let context = file["context"].as_object().expect("an object");
        let moment = Moment::parse("2026-11-28T09:05:07").expect("a moment");
        let conversation =
            Conversation { arguments: context.clone(), documents: Some(Json::Array(vec![])), ..Default::default() };
        let (mut alike, mut left) = (0, 0);
        for case in file["cases"].as_array().expect("a list") {
            let source = case["source"].as_str().expect("a template");
            let template = ChatTemplate::new("t", source, &[], moment);
            let found = template.and_then(|template| template.render(&conversation, &Map::new(), false));
            match (case["text"].as_str(), found) {
                (Some(expected), Ok(found)) if found.text == expected => alike += 1,
                (None, Err(_)) => alike += 1,
                (expected, found) => {
                    let is_known = LEFT.iter().chain(&ABSENT).any(|known| source.contains(known));
                    let is_other = ["N{BULLET}", "missing | indent", "selectattr('v', 'gt', 1)"];
                    let is_known = is_known || is_other.iter().any(|known| source.contains(known));
                    assert!(is_known, "{source:?}\n  jinja2 {expected:?}\n  here   {found:?}");
                    left += 1;
                }
            }
        }
        assert!(alike > 700 && left < 50, "{alike} are alike, {left} are not");
    }

    #[test]
    fn marks_are_taken_out_of_the_text() {
        let source = "a{% generation %}b{{ 'é' }}{% endgeneration %}c{%- generation -%} d {%- endgeneration %}";
        let moment = Moment::parse("2026-11-28").expect("a moment");
        let template = ChatTemplate::new("t", source, &[], moment).expect("a template");
        let rendered = template.render(&Conversation::default(), &Map::new(), false).expect("a text");
        assert_eq!((rendered.text.as_str(), &rendered.generated[..]), ("abécd", &[1..4, 5..6][..]));
        // Blanks around the tags go as they would without marks.
        let source = "x\n  {% generation %}\n    {% if true %}\n  b\n    {% endif %}\n  {%- endgeneration %}\n  {% if true %}\nc{% endif %}";
        let template = ChatTemplate::new("t", source, &[], moment).expect("a template");
        let rendered = template.render(&Conversation::default(), &Map::new(), false).expect("a text");
        let marked: Vec<(usize, usize)> = rendered.generated.iter().map(|span| (span.start, span.end)).collect();
        assert_eq!((rendered.text.as_str(), &marked[..]), ("x\n  b\nc", &[(2, 6)][..]));
        let within = "{% filter upper %}{% generation %}b{% endgeneration %}{% endfilter %}{{ '\u{fdd0}' }}";
        let template = ChatTemplate::new("t", within, &[], moment).expect("a template");
        assert!(template.render(&Conversation::default(), &Map::new(), false).is_err());
    }
}
