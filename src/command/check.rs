//! `trainer check`: the plan, the rows and an example with its mask, without training.

use std::collections::BTreeSet;
use std::num::NonZeroUsize;
use std::path::PathBuf;

use clap::Args;
use datasets::Example;
use faults::{Faults, counted};
use losses::Registry;
use serde_json::json;

use super::{Outcome, print, read_recipe, sweep};
use crate::logging::terminal;
use crate::plan::Plan;
use crate::plan::print::INDENT;

/// Show what a recipe will do, and train nothing.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Change a value of the recipe: `table.key=value`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Show so many examples with their masks
    #[arg(long, value_name = "N", default_value_t = NonZeroUsize::MIN)]
    examples: NonZeroUsize,
    /// Show those in which something may be wrong: the longest, the shortest, and those of which the least is learned
    #[arg(long)]
    worst: bool,
    /// Say what so many processes that share the steps would each hold and send (`docs/clusters.md`).
    #[arg(long, value_name = "N")]
    processes: Option<NonZeroUsize>,
    /// Print one JSON object.
    #[arg(long)]
    json: bool,
}

/// Runs the command.
///
/// # Errors
/// All that is wrong with recipe, model and data.
pub fn run(arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    let recipe = read_recipe(&arguments.recipe, &arguments.set, registry)?;
    let sweep = sweep::check(&arguments.recipe, &arguments.set, registry)?;
    let plan = Plan::new(recipe)?;
    plan.check_values()?;
    let mut warnings = plan.recipe.warnings.clone();
    let of_sweep = sweep.iter().flat_map(|sweep| &sweep.warnings);
    warnings.extend(of_sweep.filter(|warning| !plan.recipe.warnings.contains(warning)).cloned());
    let processes = arguments.processes.map(NonZeroUsize::get);
    warnings.extend(processes.and_then(|processes| plan.idle(processes)));
    let shown = shown(&plan.train.examples, arguments.examples.get(), arguments.worst);
    if arguments.json {
        let mut object = plan.to_json();
        object["warnings"] = json!(warnings);
        if let Some(sweep) = &sweep {
            object["sweep"] = json!({"runs": sweep.runs, "arms": sweep.arms});
        }
        if let Some(processes) = processes {
            object["sharing"] = plan.sharing_json(processes);
        }
        let whole = |why: &str, example: &Example| {
            json!({
                "why": why,
                "file": &*example.file,
                "line": example.line,
                "ids": example.ids,
                "learned": example.learned,
                "text": datasets::describe(example, &plan.tokenizer, false),
            })
        };
        object["example"] = whole("the first", &plan.train.examples[0]);
        if arguments.worst || arguments.examples.get() > 1 {
            let all = shown.iter().flat_map(|(why, examples)| examples.iter().map(move |example| whole(why, example)));
            object["examples"] = all.collect();
        }
        print(&format!("{}\n", faults::json::shown(format!("{object:#}"))))?;
        return Ok(Outcome::Done);
    }
    for warning in warnings {
        tracing::warn!("{warning}");
    }
    let colour = crate::logging::colour_on_stdout();
    let columns = terminal::columns_of_stdout();
    let mut rows = format!("training rows\n{}\n", plan.train.report);
    if let Some(eval) = &plan.eval {
        rows += &format!("evaluation rows\n{}\n", eval.report);
    }
    let fits = |text: &str, indent| terminal::wrapped(&faults::visible(text), columns, indent);
    let of_sweep = sweep.map_or(String::new(), |sweep| format!("{:<INDENT$}{}\n", "sweep", sweep.words()));
    let shared = processes.map_or(String::new(), |processes| plan.sharing_line(processes));
    let mut text =
        format!("{}{}\n{}", fits(&format!("{plan}{shared}"), INDENT), fits(&of_sweep, INDENT), fits(&rows, 4));
    let one = |(why, examples): &(&str, Vec<&Example>)| {
        let several = examples.len() > 1;
        let words = examples.iter().enumerate().map(|(index, example)| {
            let which = match several {
                true => format!("{why} examples, {} of {}", index + 1, examples.len()),
                false => format!("{why} example"),
            };
            let lengths = match arguments.worst {
                true => format!(
                    " ({}, {} learned)",
                    counted(example.ids.len() as u64, "token"),
                    example.learned_ids().count()
                ),
                false => String::new(),
            };
            let described = datasets::describe(example, &plan.tokenizer, colour);
            format!("{which}, {}{lengths}\n{described}\n", example.place())
        });
        words.collect::<Vec<_>>().join("\n")
    };
    text += &shown.iter().map(one).collect::<Vec<_>>().join("\n");
    print(&text)?;
    Ok(Outcome::Done)
}

/// The examples to look at: `most` of the first, or of each kind of the worst, each example once.
fn shown(examples: &[Example], most: usize, worst: bool) -> Vec<(&'static str, Vec<&Example>)> {
    if !worst {
        return vec![("the first", examples.iter().take(most).collect())];
    }
    let learned = |index: &usize| examples[*index].learned_ids().count();
    let length = |index: &usize| examples[*index].ids.len();
    let by = |key: &dyn Fn(&usize) -> (usize, usize)| {
        let mut order: Vec<usize> = (0..examples.len()).collect();
        order.sort_by_key(|index| key(index));
        order
    };
    let kinds = [
        ("the longest", by(&|index| (usize::MAX - length(index), 0))),
        ("the shortest", by(&|index| (length(index), 0))),
        // As a part of the row, in parts of a million: two of the same part go by their tokens.
        ("the least learned", by(&|index| (learned(index) * 1_000_000 / length(index).max(1), learned(index)))),
    ];
    let mut seen: BTreeSet<usize> = BTreeSet::new();
    let kinds = kinds.into_iter().map(|(why, order)| {
        let new: Vec<usize> = order.into_iter().filter(|index| !seen.contains(index)).take(most).collect();
        seen.extend(&new);
        (why, new.into_iter().map(|index| &examples[index]).collect::<Vec<_>>())
    });
    kinds.filter(|(_, examples)| !examples.is_empty()).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::fixtures;

    #[test]
    fn the_worst_are_the_longest_the_shortest_and_the_least_learned() {
        let example = |line: usize, length: usize, learned: usize| Example {
            line,
            ..fixtures::example(&vec![0; length], length - learned)
        };
        let examples = [example(1, 5, 4), example(2, 9, 8), example(3, 2, 1), example(4, 8, 1), example(5, 6, 2)];
        let lines = |most, worst| {
            let lines = |examples: Vec<&Example>| examples.iter().map(|example| example.line).collect::<Vec<_>>();
            shown(&examples, most, worst).into_iter().map(|(why, examples)| (why, lines(examples))).collect::<Vec<_>>()
        };
        assert_eq!(lines(2, false), [("the first", vec![1, 2])]);
        assert_eq!(
            lines(1, true),
            [("the longest", vec![2]), ("the shortest", vec![3]), ("the least learned", vec![4])]
        );
        assert_eq!(lines(9, true), [("the longest", vec![2, 4, 5, 1, 3])]);
    }
}
