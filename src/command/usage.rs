//! A command line that cannot be read, as a fault like every other: what is wrong, with which argument, and what to do.

use std::error::Error as _;
use std::num::{ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use faults::{Fault, Place};

/// The fault that a refusal of clap's is.
pub fn fault(refusal: &clap::Error) -> Fault {
    let argument = words(refusal, ContextKind::InvalidArg);
    let named = listed(&argument);
    let value = words(refusal, ContextKind::InvalidValue).join(" ");
    let message = match refusal.kind() {
        ErrorKind::UnknownArgument if named.starts_with("`-") => format!("there is no option {named}"),
        ErrorKind::UnknownArgument => format!("the argument {named} is one too many"),
        ErrorKind::InvalidSubcommand => {
            format!("there is no command {}", listed(&words(refusal, ContextKind::InvalidSubcommand)))
        }
        ErrorKind::MissingRequiredArgument => {
            format!("{named} {} missing", if argument.len() == 1 { "is" } else { "are" })
        }
        ErrorKind::InvalidValue if value.is_empty() => format!("{named} needs a value"),
        ErrorKind::InvalidValue => format!("{named} cannot be `{value}`"),
        ErrorKind::ValueValidation => {
            let reason = refusal.source().map(|source| {
                match (source.downcast_ref::<ParseIntError>(), source.downcast_ref::<ParseFloatError>()) {
                    (Some(_), _) => "expected a whole number, zero or more".into(),
                    (_, Some(_)) => "expected a number".into(),
                    _ => source.to_string(),
                }
            });
            format!("{named} cannot be `{value}`: {}", reason.unwrap_or_default())
        }
        ErrorKind::ArgumentConflict => match words(refusal, ContextKind::PriorArg) {
            prior if prior.is_empty() || prior == argument => format!("{named} is given more than once"),
            prior => format!("{named} and {} exclude each other", listed(&prior)),
        },
        _ => of_clap(refusal),
    };
    let place = if argument.is_empty() { "the command line".into() } else { argument.join(" ") };
    Fault::new(message).at(Place::Named(place)).hint(hint(refusal))
}

/// The nearest that there is, else how the command is written.
fn hint(refusal: &clap::Error) -> String {
    let near = [ContextKind::SuggestedArg, ContextKind::SuggestedSubcommand, ContextKind::SuggestedValue];
    let near: Vec<String> = near.into_iter().flat_map(|kind| words(refusal, kind)).take(1).collect();
    if !near.is_empty() {
        return format!("did you mean {}?", listed(&near));
    }
    let values = words(refusal, ContextKind::ValidValue);
    if !values.is_empty() {
        return format!("one of: {}", values.join(", "));
    }
    let usage = refusal.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    let usage = usage.trim().trim_start_matches("Usage:").split_whitespace().collect::<Vec<_>>().join(" ");
    let command: Vec<&str> = usage.split(' ').take_while(|word| word.starts_with(|c: char| c.is_lowercase())).collect();
    match command[..] {
        [] => "`trainer --help` lists the commands and their options".into(),
        _ => format!("it is written `{usage}`; `{} --help` says more", command.join(" ")),
    }
}

/// The first paragraph of what clap would print, on one line.
fn of_clap(refusal: &clap::Error) -> String {
    let text = refusal.render().to_string();
    let paragraph = text.trim_start_matches("error: ").split("\n\n").next().unwrap_or_default();
    paragraph.split_whitespace().collect::<Vec<_>>().join(" ")
}

fn words(refusal: &clap::Error, kind: ContextKind) -> Vec<String> {
    match refusal.get(kind) {
        Some(ContextValue::String(word)) => vec![word.clone()],
        Some(ContextValue::Strings(words)) => words.clone(),
        _ => Vec::new(),
    }
}

fn listed(words: &[String]) -> String {
    words.iter().map(|word| format!("`{word}`")).collect::<Vec<_>>().join(" and ")
}
