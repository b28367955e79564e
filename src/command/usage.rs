//! A command line that cannot be read, as a fault like every other: what is wrong, with which argument, and what to do.

use std::error::Error as _;
use std::num::{IntErrorKind, ParseFloatError, ParseIntError};

use clap::error::{ContextKind, ContextValue, ErrorKind};
use faults::{Fault, Place};

use crate::recipe;

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
                    (Some(error), _) if *error.kind() == IntErrorKind::Zero => {
                        "expected a whole number above zero".into()
                    }
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

/// What other trainers call a command, and what it is here.
const COMMANDS: &[(&[&str], &str)] = &[
    (
        &[
            "train",
            "finetune",
            "fine-tune",
            "fine_tune",
            "fit",
            "tune",
            "lora",
            "sft",
            "start",
            "launch",
            "qlora",
            "pretrain",
        ],
        "`trainer run RECIPE` trains; `trainer recipes` lists recipes to start from",
    ),
    (
        &["merge", "fuse", "merge-lora", "merge_lora", "merge-adapter", "merge_and_unload"],
        "`trainer export RUN --out DIR --merge` merges an adapter into its base",
    ),
    (&["convert", "save", "to-gguf", "gguf"], "`trainer export RUN --out DIR` writes what other programs read"),
    (
        &["generate", "inference", "infer", "predict", "complete", "prompt", "gen"],
        "`trainer sample MODEL --prompt '..'` writes continuations",
    ),
    (
        &["talk", "ask", "repl"],
        "`trainer chat MODEL` talks with a model, `trainer sample MODEL --chat --prompt '..'` answers once",
    ),
    (
        &["serve", "server", "api", "webchat", "webui", "deploy"],
        "there is no server here: `trainer export RUN --out DIR --merge` writes a folder that vLLM and others serve",
    ),
    (&["evaluate", "score"], "`trainer eval MODEL --data FILE`, or `trainer eval --samples FILE`"),
    (&["test"], "`trainer eval` measures a model, `trainer check RECIPE` tries a recipe without training"),
    (
        &["preprocess", "validate", "lint", "dry-run", "dryrun", "plan", "verify", "preview", "tokenize", "prepare"],
        "`trainer check RECIPE` shows the plan, the rows and an example, and trains nothing",
    ),
    (
        &["init", "new", "create", "template", "templates", "config", "cp", "copy", "ls", "list"],
        "`trainer recipes` lists recipes to start from, `trainer recipes cp NAME` writes one here",
    ),
    (&["resume", "continue"], "`trainer run RECIPE --resume` goes on from the latest checkpoint"),
    (&["benchmark", "profile", "speed"], "`trainer bench` measures the speed of training steps"),
    (
        &["info", "show", "describe", "diff", "compare"],
        "`trainer inspect PATH [--diff OTHER]` says what a model or adapter holds",
    ),
    (&["download", "fetch", "pull"], "`model.path = \"org/name\"` in a recipe fetches a model when it is needed"),
    (&["push", "upload", "publish"], "`trainer export RUN --out DIR` writes a folder to upload"),
    (
        &["quantize", "quantise"],
        "`model.quantize = \"nf4\"` in a recipe keeps the base in fewer bits while it is trained",
    ),
    (
        &["dpo", "orpo", "kto", "grpo", "ppo", "rm", "reward", "rlhf"],
        "there is no training on preferences or rewards here; `losses/README.md` says what there is",
    ),
];

/// What a command of another trainer, or a recipe where a command should be, is written as here.
fn command_here(word: &str) -> Option<String> {
    let lower = word.to_lowercase();
    let known = COMMANDS.iter().find(|(names, _)| names.contains(&lower.as_str()));
    known.map(|(_, here)| (*here).to_owned()).or_else(|| {
        let recipe = [".toml", ".yaml", ".yml"].iter().any(|ending| lower.ends_with(ending));
        recipe.then(|| format!("`trainer run {word}` trains as a recipe says, `trainer check {word}` looks at it"))
    })
}

/// What an option, or a word too many, is written as here: settings stand in the recipe and are changed by `--set`.
fn argument_here(argument: &str) -> Option<String> {
    let set = |key: &str| format!("settings stand in the recipe: `--set {key}=VALUE` changes one");
    if let Some((key, _)) = argument.split_once('=').filter(|(key, _)| !key.starts_with('-') && key.contains('.')) {
        return Some(format!("write `--set {argument}`")).filter(|_| !key.contains(char::is_whitespace));
    }
    let name = argument.strip_prefix('-')?.trim_start_matches('-').split('=').next().unwrap_or_default();
    match name {
        "config" | "recipe" | "c" | "config-file" | "config_file" => {
            Some("a recipe is named without an option: `trainer run RECIPE`".into())
        }
        "gpu" | "gpus" | "cuda" => Some(set("model.device")),
        "base" => Some(set("model.path")),
        name if name.contains('.') => Some(set(name)),
        name => own(name).or_else(|| recipe::own_key(name)).map(set),
    }
}

/// A key of the recipe that somebody writes as an option.
fn own(name: &str) -> Option<&'static str> {
    const KEYS: [&str; 12] = [
        "optimizer.learning_rate",
        "optimizer.weight_decay",
        "train.batch_size",
        "train.micro_batch_size",
        "train.steps",
        "adapter.rank",
        "adapter.alpha",
        "adapter.dropout",
        "schedule.warmup",
        "model.quantize",
        "objective.kind",
        "seed",
    ];
    let name = name.to_lowercase().replace('-', "_");
    let last = |key: &str| key.rsplit('.').next() == Some(&name[..]);
    KEYS.into_iter().find(|key| last(key)).or_else(|| (name == "objective").then_some("objective.kind"))
}

/// True for the commands that read a recipe; a command that is not known may be one.
fn takes_set(refusal: &clap::Error) -> bool {
    let usage = refusal.get(ContextKind::Usage).map(ToString::to_string).unwrap_or_default();
    !["eval", "sample", "export", "inspect", "report", "bench"]
        .iter()
        .any(|name| usage.contains(&format!("trainer {name} ")))
}

/// The nearest that there is, else how the command is written.
fn hint(refusal: &clap::Error) -> String {
    if let [word] = &words(refusal, ContextKind::InvalidSubcommand)[..]
        && let Some(here) = command_here(word)
    {
        return here;
    }
    if let ([argument], ErrorKind::UnknownArgument) = (&words(refusal, ContextKind::InvalidArg)[..], refusal.kind())
        && let Some(here) = argument_here(argument).filter(|here| takes_set(refusal) || !here.contains("--set"))
    {
        return here;
    }
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_of_other_trainers_are_named_with_ours() {
        for (word, here) in [
            ("train", "`trainer run RECIPE`"),
            ("Finetune", "`trainer run RECIPE`"),
            ("merge", "`trainer export RUN --out DIR --merge`"),
            ("generate", "`trainer sample MODEL --prompt"),
            ("talk", "`trainer chat MODEL`"),
            ("preprocess", "`trainer check RECIPE`"),
            ("my.toml", "`trainer run my.toml`"),
        ] {
            assert!(command_here(word).is_some_and(|found| found.contains(here)), "{word}");
        }
        assert_eq!(command_here("rum"), None, "a typing error has its nearest command");
        let mut seen = std::collections::BTreeSet::new();
        assert!(COMMANDS.iter().flat_map(|(names, _)| *names).all(|name| seen.insert(name)), "a name stands twice");
    }

    #[test]
    fn options_of_other_trainers_are_keys_of_the_recipe() {
        for (argument, here) in [
            ("--lr", "--set optimizer.learning_rate=VALUE"),
            ("--lora-r", "--set adapter.rank=VALUE"),
            ("--num_train_epochs", "--set train.epochs=VALUE"),
            ("--model", "--set model.path=VALUE"),
            ("--base", "--set model.path=VALUE"),
            ("--learning-rate", "--set optimizer.learning_rate=VALUE"),
            ("--batch_size=8", "--set train.batch_size=VALUE"),
            ("--objective", "--set objective.kind=VALUE"),
            ("--train.steps", "--set train.steps=VALUE"),
            ("--config", "`trainer run RECIPE`"),
            ("optimizer.learning_rate=1e-4", "`--set optimizer.learning_rate=1e-4`"),
        ] {
            assert!(argument_here(argument).is_some_and(|found| found.contains(here)), "{argument}");
        }
        assert_eq!((argument_here("--resum"), argument_here("a.toml"), argument_here("-")), (None, None, None));
    }
}
