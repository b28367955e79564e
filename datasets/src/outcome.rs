//! What becomes of one row: its examples, no longer than allowed, and what is odd about it.

use faults::{Fault, Place};

use crate::draft::{Draft, Tokens};
use crate::lines::NumberedRow;
use crate::notices::{self, Oddity};
use crate::options::{Options, TooLong};
use crate::row::Row;
use crate::shapes::targets::{self, PrefixFree};
use crate::shapes::{Context, Format, Shape};
use crate::unread;
use crate::way::Way;

/// What became of one answer of one row.
pub(crate) enum Outcome {
    Kept { tokens: Tokens, weight: f64, truncated: bool },
    Dropped(String),
}

/// What became of one row.
pub(crate) struct Outcomes {
    /// Of each prompt, its answers.
    pub prompts: Vec<Vec<Outcome>>,
    pub oddities: Vec<(Oddity, String)>,
    /// What the row has in [`Options::number`].
    pub number: Option<f64>,
    /// Names that nothing reads.
    pub unread: Vec<String>,
}

/// The examples of each prompt of one row, no longer than allowed; `place` is the row's, for warnings.
pub(crate) fn outcomes(
    shape: &Shape,
    row: &NumberedRow,
    options: &Options,
    context: &Context<'_>,
    place: &dyn Fn() -> Place,
) -> Result<Outcomes, Fault> {
    let is_read = |key: &str| shape.reads(key, options);
    unread::refuse_oddities(&row.oddities, &Row::new(&row.object, options.names()), is_read)?;
    // What nothing reads is told of, or refused, by what it says.
    let said = row.with_words();
    let row = &Row::new(&said, options.names());
    let ends = row.flag("eos").ok().flatten().unwrap_or(options.end_token);
    let prompt = |drafts: Vec<Draft>| {
        let outcomes: Vec<Outcome> =
            drafts.iter().map(|draft| outcome(draft, options, context)).collect::<Result<_, _>>()?;
        if shape.format == Format::Targets {
            whole_distribution(&drafts, outcomes, options, place)
        } else {
            Ok(outcomes)
        }
    };
    let drafts = shape.drafts(row, context)?;
    let number = options.number.as_ref().map(|column| row.number(column)).transpose()?.flatten();
    let mut oddities = notices::of_row(row, shape, options, context.tokenizer);
    oddities.extend(drafts.iter().flatten().flat_map(|draft| draft.oddities.iter().cloned()));
    let prompts: Vec<Vec<Outcome>> = drafts.into_iter().map(prompt).collect::<Result<_, _>>()?;
    let kept = || {
        prompts.iter().flatten().filter_map(|outcome| match outcome {
            Outcome::Kept { tokens, truncated, .. } => Some((tokens, *truncated)),
            Outcome::Dropped(_) => None,
        })
    };
    let stops = context.tokenizer.stop_tokens();
    let is_open = |tokens: &Tokens| tokens.ids.last().is_none_or(|last| !stops.contains(last));
    if kept().any(|(tokens, _)| tokens.seam) {
        oddities.push((Oddity::Seam, String::new()));
    }
    if shape.format == Format::Targets && ends && kept().any(|(tokens, truncated)| truncated && is_open(tokens)) {
        oddities.push((Oddity::CutTarget, String::new()));
    }
    // A row counts once for each oddity, be it in several of its turns.
    let mut told = Vec::new();
    oddities.retain(|(oddity, _)| {
        !told.contains(oddity) && {
            told.push(*oddity);
            true
        }
    });
    let unread = unread::unread(row, shape, options, context.tokenizer);
    Ok(Outcomes { prompts, oddities, number, unread })
}

/// What becomes of one answer.
fn outcome(draft: &Draft, options: &Options, context: &Context<'_>) -> Result<Outcome, Fault> {
    let limit = options.max_length;
    // Of its tokens all would be in memory, only to be counted.
    if options.too_long != TooLong::Truncate && draft.exceeds(limit, context.tokenizer)? {
        return too_long(None, options);
    }
    let mut tokens = draft.tokenise(context.tokenizer, options.way)?;
    let (length, weight) = (tokens.ids.len(), draft.weight);
    if length <= limit {
        return Ok(Outcome::Kept { tokens, weight, truncated: false });
    }
    if options.too_long != TooLong::Truncate {
        return too_long(Some(length), options);
    }
    tokens.truncate(limit);
    Ok(if tokens.learned.contains(&true) {
        Outcome::Kept { tokens, weight, truncated: true }
    } else {
        Outcome::Dropped(format!("nothing to learn in the first {limit} of {length} tokens"))
    })
}

/// A row of more tokens than allowed, and not to be truncated; of so many, where that is known.
fn too_long(length: Option<usize>, options: &Options) -> Result<Outcome, Fault> {
    let limit = options.max_length;
    let more = length.map_or_else(|| "more tokens than".into(), |length| format!("{length} tokens, more than"));
    if options.too_long == TooLong::Drop {
        return Ok(Outcome::Dropped(format!("{more} {limit}")));
    }
    if !options.model_limit {
        return Err(Fault::new(format!("the row has {more} {limit}"))
            .hint("raise `data.max_length`, or set `data.too_long` to \"drop\" or \"truncate\""));
    }
    Err(Fault::new(format!("the row has {more} the model's {limit} positions")).hint(match options.way {
        Way::Recipe => "shorten it, or set `data.too_long` to \"drop\" or \"truncate\"",
        Way::Flags => "shorten it, or take it out",
    }))
}

/// Targets are a distribution together: none is dropped alone, all are learned from one place on, and none begins another.
fn whole_distribution(
    drafts: &[Draft],
    mut outcomes: Vec<Outcome>,
    options: &Options,
    place: &dyn Fn() -> Place,
) -> Result<Vec<Outcome>, Fault> {
    let mut dropped = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Dropped(reason) => Some(reason.clone()),
        Outcome::Kept { .. } => None,
    });
    if let Some(reason) = dropped.next() {
        return Ok(vec![Outcome::Dropped(format!("a target has {reason}"))]);
    }
    let mut kept: Vec<&mut Tokens> = outcomes
        .iter_mut()
        .filter_map(|outcome| match outcome {
            Outcome::Kept { tokens, .. } => Some(tokens),
            Outcome::Dropped(_) => None,
        })
        .collect();
    targets::learn_from_one_place(&mut kept)?;
    if options.prefix_free == PrefixFree::Off {
        return Ok(outcomes);
    }
    let names: Vec<String> = drafts.iter().map(targets::name).collect();
    let tokens = outcomes.iter().filter_map(|outcome| match outcome {
        Outcome::Kept { tokens, .. } => Some(tokens),
        Outcome::Dropped(_) => None,
    });
    let is_refused = options.prefix_free == PrefixFree::Error;
    match targets::check(&names, &tokens.collect::<Vec<_>>(), is_refused) {
        Err(fault) if is_refused => Err(fault),
        Err(fault) => {
            tracing::warn!("{}", fault.at(place()).line());
            Ok(outcomes)
        }
        Ok(()) => Ok(outcomes),
    }
}
