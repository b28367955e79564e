//! Whether `data.rename`, or `--rename`, gives columns names that mean something.

use faults::{Fault, Faults, nearest};

use crate::options::Options;

/// Refuses keys of `rename`, the recipe's or that of the command line, that no row has.
pub(crate) fn check_rename(
    rename: &[(String, String)],
    name: &str,
    known: impl Iterator<Item = &'static str> + Clone,
) -> Result<(), Faults> {
    let mut faults = Vec::new();
    for (column, key) in rename {
        if !known.clone().any(|known| known == key) {
            let fault = Fault::new(format!("`{name}` gives `{column}` the unknown key `{key}`"));
            faults.push(match nearest(key, known.clone()) {
                Some(near) => fault.hint(format!("did you mean `{near}`?")),
                None => fault.hint("write the file's column first: `question = \"prompt\"`"),
            });
        }
        if rename.iter().filter(|(_, other)| other == key).count() > 1 {
            let message = format!("`{name}` gives two columns the key `{key}`");
            faults.push(Fault::new(message).hint("each key takes one column"));
        }
    }
    Faults::check(faults)
}

/// Refuses another name for a column that `data.chat` goes by.
pub(crate) fn refuse_names_of_chat(options: &Options) -> Result<(), Fault> {
    let Some(chat) = &options.chat else { return Ok(()) };
    let (rename, chat_key) = (options.way.key("rename"), options.way.key("chat"));
    match options.rename.iter().find(|(column, _)| chat.names().any(|name| name == column)) {
        Some((column, key)) => {
            let fault = Fault::new(format!("{rename} calls `{column}` `{key}`, and {chat_key} names `{column}`"));
            Err(fault.hint("take it out of the renamed ones: one of the two is enough"))
        }
        None => Ok(()),
    }
}
