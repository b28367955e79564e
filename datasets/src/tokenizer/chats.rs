//! What a tokenizer knows of chats: the template with its switches, and the tokens at which a turn ends.

use faults::{Fault, Place, nearest};
use serde_json::Value;

use super::{Tokenizer, end_ids, parse_object};
use crate::builtin;
use crate::chat::{ChatSettings, ChatTemplate, Moment, Rendered};
use crate::conversation::Conversation;
use crate::shapes::fitting::GIVEN;

impl Tokenizer {
    /// This tokenizer with another chat template, switches for it, one more token that ends turns, or another date.
    ///
    /// # Errors
    /// A template that cannot be read, or a token that there is not.
    pub fn with_chat(mut self, settings: &ChatSettings) -> Result<Self, Fault> {
        self.moment = settings.moment.unwrap_or(self.moment);
        let own = self.template.as_ref().map(|template| (template.file().to_owned(), template.source().to_owned()));
        self.template = match settings.template.clone().or(own) {
            Some((file, source)) => Some(ChatTemplate::new(&file, &source, &self.named, self.moment)?),
            None => None,
        };
        if self.template.is_some() {
            self.unread_template = None;
        }
        self.has_tool_template &= settings.template.is_none();
        for name in settings.arguments.keys() {
            self.refuse_no_switch(name)?;
        }
        self.arguments.extend(settings.arguments.clone());
        if let Some(text) = &settings.end_of_turn {
            let Some(id) = self.inner.token_to_id(text).filter(|_| self.added.contains(text)) else {
                let fault = self.fault(format!("`{text}` is no token that was added to the vocabulary"));
                let near = nearest(text, self.added.iter().map(String::as_str));
                return Err(fault.hint(match near {
                    Some(near) => format!("did you mean `{near}`?"),
                    None => "name the token that the chat template writes after an answer".into(),
                }));
            };
            if !self.stop.contains(&id) {
                self.stop.push(id);
                self.end = self.end.or(Some(id));
                self.name_stops();
            }
        }
        Ok(self)
    }

    /// Refuses a switch that the chat template does not have.
    fn refuse_no_switch(&self, name: &str) -> Result<(), Fault> {
        let Some(template) = &self.template else {
            let fault = self.fault(format!("`{name}` is a switch of a chat template, and the model has none"));
            return Err(fault.hint("take it out, or name a template"));
        };
        let switch = Place::Named(template.file().to_owned());
        if GIVEN.contains(&name) {
            let fault = Fault::new(format!("`{name}` is no switch of the chat template")).at(switch);
            return Err(fault.hint("the program gives it, or a row does"));
        }
        if template.reads_variable(name) {
            return Ok(());
        }
        let fault = Fault::new(format!("the chat template has no switch `{name}`")).at(switch);
        Err(match nearest(name, template.variables()) {
            Some(near) => fault.hint(format!("did you mean `{near}`?")),
            None => fault.hint("take it out, or name a template that has it"),
        })
    }

    /// Keeps the texts of the stop tokens that a text can hold.
    pub(super) fn name_stops(&mut self) {
        let texts = self.stop.iter().filter_map(|id| self.inner.id_to_token(*id));
        self.stop_texts = texts.filter(|text| !text.is_empty() && self.added.contains(text)).collect();
    }

    /// True when a text can hold a token at which the model stops.
    pub(crate) fn stops_in_texts(&self) -> bool {
        !self.stop_texts.is_empty()
    }

    /// True when the chat template reads a variable or a field of this name.
    pub(crate) fn template_mentions(&self, name: &str) -> bool {
        self.template.as_ref().is_some_and(|template| template.mentions(name))
    }

    /// True when the chat template reads a field of this name: a switch of the same name is none.
    pub(crate) fn template_reads_field(&self, name: &str) -> bool {
        self.template.as_ref().is_some_and(|template| template.reads_field(name))
    }

    /// True when the chat template reads a variable of this name.
    pub(crate) fn template_reads_variable(&self, name: &str) -> bool {
        self.template.as_ref().is_some_and(|template| template.reads_variable(name))
    }

    /// True when the chat template marks what the assistant generates.
    pub(crate) fn template_marks_generation(&self) -> bool {
        self.template.as_ref().is_some_and(ChatTemplate::marks_generation)
    }

    /// True when the chat template has a word for this role.
    pub(crate) fn template_names(&self, role: &str) -> bool {
        self.template.as_ref().is_some_and(|template| template.names(role))
    }

    /// True for a model that was trained to be asked through its chat template; the embedded one was trained on plain
    /// text as well.
    pub(crate) fn is_instructed(&self) -> bool {
        self.has_chat_template() && self.fingerprint != builtin::fingerprint()
    }

    /// True when the chat template writes the calls of tools as JSON and would quote arguments that are a text already.
    pub(crate) fn template_writes_calls_as_json(&self) -> bool {
        self.template.as_ref().is_some_and(|template| template.writes_calls_as_json())
    }

    /// A conversation as the model was trained to read it; `add_generation_prompt` opens the assistant's next turn.
    ///
    /// # Errors
    /// There is no chat template, or the template refuses the conversation.
    pub fn render_chat(&self, conversation: &Conversation, add_generation_prompt: bool) -> Result<String, Fault> {
        Ok(self.render_marked(conversation, add_generation_prompt)?.text)
    }

    /// The same with the places that the template marks as generated.
    pub(crate) fn render_marked(&self, conversation: &Conversation, open: bool) -> Result<Rendered, Fault> {
        match (&self.template, &self.unread_template) {
            (Some(template), _) => template.render(conversation, &self.arguments, open),
            (None, Some(unread)) => Err(unread.clone()),
            (None, None) => Err(self
                .fault("the model has no chat template")
                .hint("convert the rows to `prompt` and `completion`, use an instruct model, or name a template")),
        }
    }

    /// Why the chat template of the model's files cannot be read, if it has one that cannot.
    pub fn unread_template(&self) -> Option<&Fault> {
        self.unread_template.as_ref()
    }

    /// True where the model has another chat template for rows with tools than the one that is read.
    pub(crate) fn has_tool_template(&self) -> bool {
        self.has_tool_template
    }

    /// True when there is a chat template, and it can be read.
    pub fn has_chat_template(&self) -> bool {
        self.template.is_some()
    }

    /// The text of the chat template.
    pub fn chat_template(&self) -> Option<&str> {
        self.template.as_ref().map(ChatTemplate::source)
    }

    /// A model's `generation_config.json` with every token at which this tokenizer stops as an end token: what an exported
    /// model needs for others to stop where it was taught to. `existing` is the file's text, empty where there is none.
    ///
    /// # Errors
    /// A text that is no JSON object.
    pub fn generation_config(&self, existing: &str) -> Result<String, Fault> {
        let text = if existing.trim().is_empty() { "{}" } else { existing };
        let mut config = parse_object("generation_config.json", text)?;
        let mut ids = end_ids(&config);
        ids.extend(self.stop.iter().filter(|id| !ids.contains(id)).copied().collect::<Vec<_>>());
        config.insert("eos_token_id".into(), Value::from(ids));
        Ok(serde_json::to_string_pretty(&config).expect("an object is JSON") + "\n")
    }

    /// True when the chat template asks for the date.
    pub fn is_dated(&self) -> bool {
        self.template_mentions("strftime_now")
    }

    /// The moment that the chat template is given as now.
    pub fn moment(&self) -> Moment {
        self.moment
    }

    /// True for a text that ends with a token at which the model stops.
    pub(crate) fn ends_with_stop(&self, text: &str) -> bool {
        self.stop_texts.iter().any(|stop| text.ends_with(stop.as_str()))
    }

    /// The text of one answer up to where the model stops: up to the first stop token in `after`, which follows the
    /// answer's words; else up to the added token that it ends with; else all of it.
    pub(crate) fn end_of_turn<'a>(&self, after: &'a str) -> &'a str {
        let stops = self.stop_texts.iter().filter_map(|stop| Some((after.find(stop.as_str())?, stop.len())));
        if let Some((at, length)) = stops.min_by_key(|(at, length)| (*at, usize::MAX - length)) {
            return &after[..at + length];
        }
        let trimmed = after.trim_end();
        let is_marked = self.added.iter().any(|token| !token.is_empty() && trimmed.ends_with(token.as_str()));
        if is_marked { trimmed } else { after }
    }
}
