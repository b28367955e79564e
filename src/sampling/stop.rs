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
    let holds = |skip_special: bool| {
        let text = tokenizer.decode(ids, skip_special)?;
        Ok::<_, Fault>(first(tokenizer, ids, &text, skip_special, stop)?.is_some())
    };
    Ok(holds(true)? || special && holds(false)?)
}

/// The text of `ids` up to the first of `stop`; `None` where it holds none.
pub(super) fn cut(tokenizer: &Tokenizer, ids: &[u32], special: bool, stop: &[String]) -> Result<Option<Cut>, Fault> {
    let mut found: Option<Cut> = None;
    let views: &[bool] = if special { &[true, false] } else { &[true] };
    for skip_special in views.iter().filter(|_| !stop.is_empty()) {
        let text = tokenizer.decode(ids, *skip_special)?;
        let Some(at) = first(tokenizer, ids, &text, *skip_special, stop)? else { continue };
        let cut = before(tokenizer, ids, &text, at, *skip_special)?;
        if found.as_ref().is_none_or(|found| cut.tokens < found.tokens || cut.text.len() < found.text.len()) {
            found = Some(cut);
        }
    }
    Ok(found)
}

/// Where the first stop string begins in `text`, which is that of `ids`.
fn first(
    tokenizer: &Tokenizer,
    ids: &[u32],
    text: &str,
    skip_special: bool,
    stop: &[String],
) -> Result<Option<usize>, Fault> {
    let begins = |stop: &String| stop.strip_prefix(' ').is_some_and(|rest| !rest.is_empty() && text.starts_with(rest));
    if stop.iter().any(begins) && loses_blank(tokenizer, ids, text, skip_special)? {
        return Ok(Some(0));
    }
    Ok(stop.iter().filter_map(|stop| text.find(stop.as_str())).min())
}

/// True where the text of `ids` begins with a blank, of which some tokenizers take the first off: it is there once more
/// behind a token.
fn loses_blank(tokenizer: &Tokenizer, ids: &[u32], text: &str, skip_special: bool) -> Result<bool, Fault> {
    let Some(one) = ids.iter().find(|id| !tokenizer.is_special(**id)) else { return Ok(false) };
    let before = tokenizer.decode(&[*one], skip_special)?;
    let both = tokenizer.decode(&[&[*one], ids].concat(), skip_special)?;
    Ok(both.strip_prefix(&before).and_then(|rest| rest.strip_prefix(' ')) == Some(text))
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

#[cfg(test)]
mod tests {
    use super::*;

    /// Of these tokens `▁the`, `▁cat` and `.` make `the cat.`, as `the`, `▁cat` and `.` do.
    #[test]
    fn a_stop_string_begins_with_a_blank_that_the_text_has_lost() {
        let folder = concat!(env!("CARGO_MANIFEST_DIR"), "/datasets/tests/fixtures/byte_fallback");
        let tokenizer = Tokenizer::load(folder.as_ref()).unwrap_or_else(|faults| panic!("{faults}"));
        let ids = |tokens: [&str; 3]| tokens.map(|token| tokenizer.id_of(token).expect("a token"));
        let (apart, joined) = (ids(["▁the", "▁cat", "."]), ids(["the", "▁cat", "."]));
        assert_eq!(tokenizer.decode(&apart, true), tokenizer.decode(&joined, true));
        for (ids, stop, expected) in [
            (apart, " the", Some(("", 0))),
            (apart, "the", Some(("", 0))),
            (apart, " cat", Some(("the", 1))),
            (joined, " the", None),
            (joined, "the", Some(("", 0))),
        ] {
            let stop = [stop.to_owned()];
            let found = cut(&tokenizer, &ids, false, &stop).expect("text");
            let expected = expected.map(|(text, tokens)| Cut { text: text.to_owned(), tokens });
            assert_eq!(
                (&found, stops(&tokenizer, &ids, false, &stop)),
                (&expected, Ok(expected.is_some())),
                "{stop:?}"
            );
        }
    }
}
