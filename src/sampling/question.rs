//! Prompts as a model is asked them: their text and tokens, and whether there is room for an answer.

use datasets::{PromptRow, Tokenizer, Way};
use faults::Fault;

/// The text of a prompt as the model sees it, and its tokens; `max_tokens` is set where `way` says.
///
/// # Errors
/// A prompt that the tokenizer or its chat template cannot write, or as [`check_room`], at the prompt's row.
pub fn question(
    row: &PromptRow,
    tokenizer: &Tokenizer,
    max_tokens: usize,
    limit: usize,
    way: Way,
) -> Result<(String, Vec<u32>), Fault> {
    let setting = match way {
        Way::Recipe => "eval.max_tokens",
        Way::Flags => "--max-tokens",
    };
    let found = row.fitted(tokenizer, way).and_then(|asked| {
        let (text, special) = asked.text_with(&row.beginning, tokenizer, way)?;
        let ids = tokenizer.encode_beginning(&text, special)?;
        check_room(&ids, max_tokens, limit, setting)?;
        Ok((text, ids))
    });
    found.map_err(|fault| Fault { place: row.place.clone(), ..fault })
}

/// Refuses a prompt without any token, or one that leaves no room for `max_tokens` more among the model's `limit` positions;
/// `setting` is what is lowered to mend that.
///
/// # Errors
/// Such a prompt.
pub fn check_room(prompt: &[u32], max_tokens: usize, limit: usize, setting: &str) -> Result<(), Fault> {
    if prompt.is_empty() {
        return Err(Fault::new("a prompt without any token").hint("give each prompt some text"));
    }
    if prompt.len().saturating_add(max_tokens) > limit {
        let message = format!("{} tokens of prompt and {max_tokens} to draw", prompt.len());
        let fault = Fault::new(format!("{message} are more than the model's {limit} positions"));
        return Err(match max_tokens {
            ..=1 => fault.hint("shorten the prompt"),
            _ => fault.hint(format!("shorten the prompt, or lower `{setting}`")),
        });
    }
    Ok(())
}
