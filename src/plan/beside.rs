//! The files of a tokenizer that a run's checkpoints carry: those that an adapter brought, and what the recipe says of
//! conversations that the base's own files do not.

use backbone::ModelFiles;
use datasets::Tokenizer;
use faults::Fault;

use crate::loading::Brought;
use crate::recipe::Chat;

const TEMPLATE: &str = "chat_template.jinja";
const GENERATION: &str = "generation_config.json";

/// A file's name and content.
type File = (String, Vec<u8>);

/// Those files, so that whoever reads a checkpoint or what is exported of it writes conversations and stops as the run did.
///
/// # Errors
/// A file of the base that cannot be read.
pub fn beside(
    chat: &Chat,
    tokenizer: &Tokenizer,
    brought: Option<Brought>,
    base: Option<&ModelFiles>,
) -> Result<Vec<File>, Fault> {
    let (mut own, whole) = match brought {
        Some(brought) => (brought.own, brought.files),
        None => (Vec::new(), base.map_or_else(|| Ok(Vec::new()), |base| base.base().map(|base| base.files))?),
    };
    let mut put = |name: &str, text: String| {
        own.retain(|(own, _)| own != name);
        own.push((name.to_owned(), text.into_bytes()));
    };
    if let (Some(_), Some(text)) = (&chat.template, tokenizer.chat_template()) {
        put(TEMPLATE, text.to_owned());
    }
    if chat.end_of_turn.is_some() {
        let existing = whole.iter().find(|(name, _)| name == GENERATION);
        let existing = existing.map(|(_, bytes)| String::from_utf8_lossy(bytes)).unwrap_or_default();
        put(GENERATION, tokenizer.generation_config(&existing)?);
    }
    Ok(own)
}
