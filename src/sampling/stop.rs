//! Where a text stops: at the first of some strings, in what it shows or in what its tokens spell out.
//!
//! A string may begin inside of a token and lie across several. Special tokens are left out of a text; here they count.

use datasets::Tokenizer;
use faults::Fault;

/// A text without what stops it.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Cut {
    /// What is shown.
    pub text: String,
    /// The tokens that it takes, the last of which may go on.
    pub tokens: usize,
}

/// True when the text of `ids` holds one of `stop`; `special` says whether a special token is among them.
pub(super) fn stops(tokenizer: &Tokenizer, ids: &[u32], special: bool, stop: &[String]) -> Result<bool, Fault> {
    if stop.is_empty() {
        return Ok(false);
    }
    let holds = |text: String| first(&text, stop).is_some();
    Ok(holds(tokenizer.decode(ids, true)?) || special && holds(tokenizer.decode(ids, false)?))
}

/// The text of `ids` up to the first of `stop`; `None` where it holds none.
pub(super) fn cut(tokenizer: &Tokenizer, ids: &[u32], special: bool, stop: &[String]) -> Result<Option<Cut>, Fault> {
    let mut found: Option<Cut> = None;
    let views: &[bool] = if special { &[true, false] } else { &[true] };
    for skip_special in views.iter().filter(|_| !stop.is_empty()) {
        let text = tokenizer.decode(ids, *skip_special)?;
        let Some(at) = first(&text, stop) else { continue };
        let cut = before(tokenizer, ids, &text, at, *skip_special)?;
        if found.as_ref().is_none_or(|found| cut.tokens < found.tokens || cut.text.len() < found.text.len()) {
            found = Some(cut);
        }
    }
    Ok(found)
}

/// Where the first stop string begins.
fn first(text: &str, stop: &[String]) -> Option<usize> {
    stop.iter().filter_map(|stop| text.find(stop.as_str())).min()
}

/// What is shown of the first `at` bytes of `text`, which is that of `ids`.
fn before(tokenizer: &Tokenizer, ids: &[u32], text: &str, at: usize, skip_special: bool) -> Result<Cut, Fault> {
    // The most tokens whose text ends no later; half a character is no beginning of the text.
    let mut whole = (0, 0);
    for tokens in 1..=ids.len() {
        let beginning = tokenizer.decode(&ids[..tokens], skip_special)?;
        if beginning.len() <= at && text.starts_with(&beginning) {
            whole = (tokens, beginning.len());
        }
    }
    let (tokens, length) = whole;
    let within = &text[length..at];
    let shows = skip_special || ids.get(tokens).is_none_or(|id| !tokenizer.is_special(*id));
    let mut shown = tokenizer.decode(&ids[..tokens], true)?;
    if shows {
        shown.push_str(within);
    }
    Ok(Cut { text: shown, tokens: tokens + usize::from(shows && !within.is_empty()) })
}
