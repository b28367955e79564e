//! Which of the marks that `{% generation %}` makes in a whole conversation are of the turns that are to be learned.
//!
//! A template may mark a turn by what follows it (a thought only behind the last question), so that marks cannot be counted in
//! the conversation's beginnings. Each part of each message is changed instead: a mark whose text changes with it is that
//! message's. One that never changes (an empty thought, an end token) is of a turn between the messages before and after it.

use std::collections::BTreeSet;
use std::ops::Range;

use super::lost::with;
use super::said::parts;
use crate::chat::Rendered;
use crate::conversation::Conversation;
use crate::tokenizer::Tokenizer;

/// The marked spans of `whole`, the text of the conversation, but for those of turns of the assistant that are not `learned`.
pub(super) fn of_turns(
    conversation: &Conversation,
    learned: &BTreeSet<usize>,
    whole: &Rendered,
    tokenizer: &Tokenizer,
) -> Vec<Range<usize>> {
    let is_assistant = |index: &usize| conversation.messages[*index].role == "assistant";
    if (0..conversation.messages.len()).filter(is_assistant).all(|index| learned.contains(&index)) {
        return whole.generated.clone();
    }
    let changes = changes(conversation, whole, tokenizer);
    let is_learned = |(place, mark): &(usize, &Range<usize>)| {
        let owners: Vec<usize> =
            changes.iter().filter(|change| change.marks.contains(place)).map(|change| change.message).collect();
        let of = if owners.iter().any(is_assistant) { owners } else { around(&changes, mark, conversation) };
        of.iter().filter(|index| is_assistant(index)).all(|index| learned.contains(index))
    };
    whole.generated.iter().enumerate().filter(is_learned).map(|(_, mark)| mark.clone()).collect()
}

/// What another word in a message does to the whole.
struct Change {
    message: usize,
    /// The first byte of the text that is another.
    at: usize,
    /// The marks whose text is another.
    marks: BTreeSet<usize>,
}

fn changes(conversation: &Conversation, whole: &Rendered, tokenizer: &Tokenizer) -> Vec<Change> {
    let mut found = Vec::new();
    for (message, said) in conversation.messages.iter().enumerate() {
        for part in parts(said) {
            let changed = tokenizer.render_marked(&with(conversation, message, &part.otherwise), false);
            let Some(changed) = changed.ok().filter(|changed| changed.text != whole.text) else { continue };
            let at = common(whole.text.bytes(), changed.text.bytes());
            // Inserted text stands behind the byte before it.
            let until = (whole.text.len() - common(whole.text.bytes().rev(), changed.text.bytes().rev())).max(at);
            let touches =
                |mark: &Range<usize>| mark.start < at && at <= mark.end || at <= mark.start && mark.start < until;
            let is_other = |place: &usize| match whole.generated.len() == changed.generated.len() {
                true => whole.text[whole.generated[*place].clone()] != changed.text[changed.generated[*place].clone()],
                false => touches(&whole.generated[*place]),
            };
            let marks = (0..whole.generated.len()).filter(is_other).collect();
            found.push(Change { message, at, marks });
        }
    }
    found
}

/// The messages from the one whose words stand before the mark to the one whose words stand behind it.
fn around(changes: &[Change], mark: &Range<usize>, conversation: &Conversation) -> Vec<usize> {
    let before = changes.iter().filter(|change| change.at <= mark.start).max_by_key(|change| change.at);
    let behind =
        changes.iter().filter(|change| change.at >= mark.end.max(mark.start + 1)).min_by_key(|change| change.at);
    let before = before.map_or(0, |change| change.message);
    let behind = behind.map_or(conversation.messages.len() - 1, |change| change.message);
    (before.min(behind)..=before.max(behind)).collect()
}

/// How many bytes two texts have in common from where they begin.
fn common(a: impl Iterator<Item = u8>, b: impl Iterator<Item = u8>) -> usize {
    a.zip(b).take_while(|(a, b)| a == b).count()
}
