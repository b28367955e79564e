//! `{"prompt" or "messages", "targets": [..], "weights": [..]?}`: a prompt with the whole distribution of its answers,
//! for the objective `diffuse` (arXiv 2404.10859); and the same as that paper's own files write it, `{"request",
//! "response", "targets", "eos"}`.
//!
//! `response` is how every answer begins, given and not learned. It may be a list: the paper's code then draws one of
//! them for each target in each step. Here each beginning is a prompt of its own with all targets, which is the mean of
//! those draws.
//!
//! The loss of such a prompt is a divergence only when no answer, as tokens, is the beginning of another: else the model
//! would have to end and to go on at the same place. That is checked here, where the tokens are known.

use faults::{Fault, shortened};
use serde_json::Value;

use super::asked::Asked;
use super::{Format, Shape};
use crate::draft::{Draft, Part, Piece, Tokens};
use crate::row::{Row, string, wrong_type};

/// Pairs of targets that are named one by one.
const NAMED: usize = 20;

/// What becomes of targets that are alike, or of which one begins another.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum PrefixFree {
    /// They are a fault.
    #[default]
    Error,
    /// They are named and learned.
    Warn,
    /// They are learned.
    Off,
}

impl PrefixFree {
    /// The words of `data.prefix_free`.
    pub const WORDS: [(&'static str, PrefixFree); 3] =
        [("error", PrefixFree::Error), ("warn", PrefixFree::Warn), ("off", PrefixFree::Off)];
}

pub(super) const SHAPE: Shape = Shape {
    format: Format::Targets,
    word: "targets",
    required: &["targets"],
    optional: &[
        "prompt",
        "messages",
        "conversations",
        "request",
        "response",
        "weights",
        "eos",
        "system",
        "tools",
        "documents",
        "chat_template_kwargs",
    ],
    stops: true,
    read: |row, context| {
        let asked = Asked::of(row)?.fitted(context.tokenizer, context.options.way)?;
        let targets = targets(row)?;
        let weights = weights(row, targets.len())?;
        let end = row.flag("eos")?.unwrap_or(context.options.end_token);
        let draft = |beginning: &str, target: &str, weight: f64| -> Result<Draft, Fault> {
            let learned = |part| context.train_on.learns(part);
            let given = Piece { text: beginning.into(), part: Part::Prompt, learned: learned(Part::Prompt) };
            let answer = Piece { text: target.into(), part: Part::Response, learned: learned(Part::Response) };
            Ok(Draft { weight, ..asked.draft(vec![given, answer], end, context)? })
        };
        let prompt = |beginning: &str| {
            targets.iter().zip(&weights).map(|(target, weight)| draft(beginning, target, *weight)).collect()
        };
        beginnings(row)?.into_iter().map(prompt).collect()
    },
};

fn targets<'a>(row: &Row<'a>) -> Result<Vec<&'a str>, Fault> {
    let values = row.list("targets")?;
    if values.is_empty() {
        return Err(Fault::new("`targets` is empty").hint("name every answer that is as good as the others"));
    }
    let target = |(index, value): (usize, &'a Value)| match string(&format!("targets[{index}]"), value)? {
        "" => Err(Fault::new(format!("`targets[{index}]` is empty")).hint("a target must have something to learn")),
        target => Ok(target),
    };
    values.iter().enumerate().map(target).collect()
}

/// The targets' probabilities: the given weights over their sum, or all alike.
fn weights(row: &Row<'_>, targets: usize) -> Result<Vec<f64>, Fault> {
    if !row.has("weights") {
        return Ok(vec![1.0 / targets as f64; targets]);
    }
    let values = row.list("weights")?;
    if values.len() != targets {
        let message = format!("{} weights for {targets} targets", values.len());
        return Err(Fault::new(message).hint("give each target its weight, or leave `weights` out"));
    }
    let weight = |(index, value): (usize, &Value)| {
        let name = format!("weights[{index}]");
        let number = value.as_f64().ok_or_else(|| wrong_type(&name, "a number", value))?;
        if number > 0.0 && number.is_finite() {
            Ok(number)
        } else {
            Err(Fault::new(format!("`{name}` = {number} must be above 0")).hint("take a target of weight 0 out"))
        }
    };
    let weights: Vec<f64> = values.iter().enumerate().map(weight).collect::<Result<_, _>>()?;
    // Divided by the largest first, so that no sum overflows.
    let largest = weights.iter().copied().fold(0.0, f64::max);
    let sum: f64 = weights.iter().map(|weight| weight / largest).sum();
    let probabilities: Vec<f64> = weights.iter().map(|weight| weight / largest / sum).collect();
    match probabilities.iter().position(|probability| *probability == 0.0) {
        Some(index) => {
            let message = format!("`weights[{index}]` = {} is nothing beside the largest, {largest}", weights[index]);
            Err(Fault::new(message).hint("take the target out"))
        }
        None => Ok(probabilities),
    }
}

/// `response`: how answers begin, given to the model and not learned; one text, or several that are all as good.
pub(crate) fn beginnings<'a>(row: &Row<'a>) -> Result<Vec<&'a str>, Fault> {
    let mut texts: Vec<&str> = Vec::new();
    match row.get("response") {
        None => {}
        Some(Value::Array(values)) => {
            for (index, value) in values.iter().enumerate() {
                let text = string(&format!("response[{index}]"), value)?;
                if texts.contains(&text) {
                    return Err(Fault::new(format!("`response[{index}]` stands there twice")).hint("take one out"));
                }
                texts.push(text);
            }
        }
        Some(value) => texts.push(string("response", value)?),
    }
    if texts.is_empty() {
        texts.push("");
    }
    Ok(texts)
}

/// The text that is learned of a target, for messages.
pub(crate) fn name(draft: &Draft) -> String {
    draft.pieces.iter().filter(|piece| piece.part == Part::Response).map(|piece| piece.text.as_str()).collect()
}

/// Makes what is learned of all targets of a prompt begin at one place.
///
/// A token may lie across the prompt and an answer, and with one answer and not with another: after `owl or fox? ` the answer
/// `fox` may take the blank into its first token, where `owl` does not. Each would then be learned after other tokens, and their
/// probabilities would be of different questions, whose sum can pass 1. They are learned from the last place that all share.
///
/// # Errors
/// The very first token depends on the target.
pub(crate) fn learn_from_one_place(targets: &mut [&mut Tokens]) -> Result<(), Fault> {
    let own = |tokens: &Tokens| tokens.parts.iter().position(|part| *part != Part::Prompt).unwrap_or(tokens.ids.len());
    let Some(first) = targets.first() else { return Ok(()) };
    let alike = |tokens: &&mut Tokens| first.ids.iter().zip(&tokens.ids).take_while(|(a, b)| a == b).count();
    let (own_places, shared): (Vec<usize>, Vec<usize>) =
        targets.iter().map(|tokens| (own(tokens), alike(tokens))).unzip();
    let last_shared = own_places.iter().chain(&shared).copied().min().unwrap_or_default();
    if own_places.iter().all(|place| *place == last_shared) {
        return Ok(());
    }
    if last_shared == 0 {
        return Err(Fault::new("the tokens of the prompt depend on the target, from the first one on")
            .hint("end the prompt with one line break, or begin each target with the blank"));
    }
    for (tokens, own) in targets.iter_mut().zip(own_places) {
        if own > last_shared && own < tokens.ids.len() {
            // A sampler has the prompt alone, whatever is learned.
            tokens.alone.get_or_insert_with(|| tokens.ids[..own].into());
            tokens.seam = true;
            let learned = tokens.learned[own];
            tokens.parts[last_shared..own].fill(Part::Response);
            tokens.learned[last_shared..own].fill(learned);
        }
    }
    Ok(())
}

/// Finds every target that is alike to another or that another begins with; `is_refused` says what the hint is for.
///
/// # Errors
/// One fault that names the pairs, at most twenty.
pub(crate) fn check(names: &[String], tokens: &[&Tokens], is_refused: bool) -> Result<(), Fault> {
    // In the order of tokens, whatever begins with a sequence follows it without a gap.
    let mut order: Vec<usize> = (0..tokens.len()).collect();
    order.sort_by(|a, b| tokens[*a].ids.cmp(&tokens[*b].ids));
    let mut pairs = Vec::new();
    let mut unnamed = 0;
    let mut begins_another = false;
    for (place, &short) in order.iter().enumerate() {
        let begins = |long: &&usize| tokens[**long].ids.starts_with(&tokens[short].ids);
        for &long in order[place + 1..].iter().take_while(begins) {
            begins_another |= tokens[long].ids.len() > tokens[short].ids.len();
            if pairs.len() == NAMED {
                unnamed += 1;
            } else if tokens[long].ids.len() == tokens[short].ids.len() {
                pairs.push(format!("`{}` stands there twice", shortened(&names[short])));
            } else {
                pairs.push(format!("`{}` begins `{}`", shortened(&names[short]), shortened(&names[long])));
            }
        }
    }
    if pairs.is_empty() {
        return Ok(());
    }
    if unnamed > 0 {
        pairs.push(format!("and {unnamed} more"));
    }
    let hint = match (begins_another, is_refused) {
        (false, _) => "write each once: how likely it is stands in `weights`",
        (true, true) => {
            "close each target with a mark of its own (`{7}`), keep `data.end_token`, or set `data.prefix_free`"
        }
        (true, false) => "close each target with a mark of its own (`{7}`) where that is not meant",
    };
    Err(Fault::new(format!("the targets are not prefix-free as tokens: {}", pairs.join(", "))).hint(hint))
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Tokens of which the first `prompt` are the prompt's.
    fn target(ids: &[u32], prompt: usize) -> Tokens {
        let is_prompt = |place: usize| place < prompt;
        Tokens {
            ids: ids.to_vec(),
            parts: (0..ids.len()).map(|at| if is_prompt(at) { Part::Prompt } else { Part::Response }).collect(),
            learned: (0..ids.len()).map(|at| !is_prompt(at)).collect(),
            alone: None,
            seam: false,
        }
    }

    fn learned_from(mut targets: Vec<Tokens>) -> Result<Vec<usize>, String> {
        learn_from_one_place(&mut targets.iter_mut().collect::<Vec<_>>()).map_err(|fault| fault.to_string())?;
        let from = |tokens: &Tokens| tokens.learned.iter().position(|learned| *learned).expect("something is learned");
        Ok(targets.iter().map(from).collect())
    }

    #[test]
    fn all_targets_are_learned_after_the_same_tokens() {
        // 1 2 3 is the prompt, whose last token is in some targets' first: 34.
        assert_eq!(learned_from(vec![target(&[1, 2, 3, 4], 3), target(&[1, 2, 34], 2)]), Ok(vec![2, 2]));
        // The tokens before differ, too.
        let targets = vec![target(&[1, 2, 3, 4], 3), target(&[1, 23, 5], 2), target(&[1, 2, 3, 6], 3)];
        assert_eq!(learned_from(targets), Ok(vec![1, 1, 1]));
        // Where all begin at one place nothing changes, though they share more.
        let mut same = vec![target(&[1, 2, 3, 4], 2), target(&[1, 2, 3, 5], 2)];
        let before = same.clone();
        learn_from_one_place(&mut same.iter_mut().collect::<Vec<_>>()).expect("nothing is wrong");
        assert_eq!(same, before);
        let first = learned_from(vec![target(&[1, 2], 1), target(&[12, 3], 0)]);
        assert!(first.is_err_and(|fault| fault.contains("depend on the target, from the first one on")));
    }

    #[test]
    fn what_a_sampler_reads_stays_the_prompt_alone() {
        let mut targets = [target(&[1, 2, 3, 4], 3), target(&[1, 2, 34], 2)];
        targets[1].alone = Some([1, 2, 3].into());
        learn_from_one_place(&mut targets.iter_mut().collect::<Vec<_>>()).expect("a shared place");
        assert_eq!(targets[0].alone.as_deref(), Some(&[1, 2, 3][..]));
        assert!(targets[0].seam);
    }
}
