//! `trainer check`: the plan, the rows and an example with its mask, without training.

use std::path::PathBuf;

use clap::Args;
use faults::Faults;
use losses::Registry;
use serde_json::json;

use super::{Outcome, print, read_recipe};
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
    let plan = Plan::new(recipe)?;
    plan.check_values()?;
    let warnings = plan.recipe.warnings.clone();
    let example = &plan.train.examples[0];
    if arguments.json {
        let mut object = plan.to_json();
        object["warnings"] = json!(warnings);
        object["example"] = json!({
            "file": &*example.file,
            "line": example.line,
            "ids": example.ids,
            "learned": example.learned,
            "text": datasets::describe(example, &plan.tokenizer, false),
        });
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
    let mut text = format!("{}\n{}", fits(&plan.to_string(), INDENT), fits(&rows, 4));
    text +=
        &format!("the first example, {}\n{}\n", example.place(), datasets::describe(example, &plan.tokenizer, colour));
    print(&text)?;
    Ok(Outcome::Done)
}
