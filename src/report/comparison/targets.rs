//! What is right to say after the prompts that samples are shown of.

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};

use datasets::{Asked, Asking, read_prompts};
use pages::{Comparison, samples};

/// What is right to say after the prompts that samples are shown of, by the rows that were measured; a file that is no
/// longer there is told, for then nothing can be marked as invalid. Where targets have no end nothing is said: an answer goes
/// on after them as it likes.
pub(super) fn add_targets<'a>(
    files: impl Iterator<Item = &'a str>,
    from: &Path,
    recipe: &toml::Table,
    comparison: &mut Comparison,
) {
    let end = recipe.get("data").and_then(|data| data.get("targets")?.get("end_token")?.as_bool());
    if end == Some(false) {
        return;
    }
    let without = comparison.samples.iter().filter(|drawn| drawn.targets.is_none());
    let mut wanted: BTreeSet<String> = without.map(|drawn| drawn.prompt.clone()).collect();
    let renamed = recipe.get("data").and_then(|data| data.get("rename")).and_then(toml::Value::as_table);
    let pair = |(column, key): (&String, &toml::Value)| Some((column.clone(), key.as_str()?.to_owned()));
    let rename: Vec<(String, String)> = renamed.into_iter().flatten().filter_map(pair).collect();
    let asking = Asking { rename: &rename, ..Asking::default() };
    for file in files {
        if wanted.is_empty() {
            return;
        }
        let path = if file.starts_with(datasets::builtin::PREFIX) { PathBuf::from(file) } else { from.join(file) };
        if !file.starts_with(datasets::builtin::PREFIX) && !path.is_file() {
            let note = format!("{} is not there: it is not known which of the samples are invalid.", path.display());
            comparison.notes.push(note);
            continue;
        }
        // Rows without a question have no targets either.
        let rows = read_prompts(&path, asking).map(|prompts| prompts.rows).unwrap_or_default();
        for row in rows.iter().filter(|row| row.beginning.is_empty()) {
            let asked = match &row.asked {
                Asked::Text(text) => text.clone(),
                Asked::Conversation(conversation) => pages::read::as_text(&serde_json::json!(conversation.messages)),
            };
            if let Some(targets) = row.columns.get("targets").and_then(samples::texts)
                && wanted.remove(&asked)
            {
                comparison.targets.push((asked, targets));
            }
        }
    }
}
