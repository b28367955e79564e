//! `trainer run`: a recipe goes in, a mergeable adapter comes out.

mod resume;

use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use checkpoints::Run;
use clap::Args;
use datasets::{Part, Template, Tokenizer};
use faults::{Fault, Faults, Place};
use losses::Registry;

use super::{Outcome, announce, read_recipe, tell};
use crate::engine::train::{self, Learner, Log, Rows, train};
use crate::plan::{Plan, order};
use crate::recipe::{Adapter, Backbone};
use crate::report::Reporter;
use resume::Resumed;

/// Train as a recipe says.
#[derive(Debug, Args)]
pub struct Arguments {
    /// The recipe, a TOML file.
    recipe: PathBuf,
    /// Change a value of the recipe: `table.key=value`.
    #[arg(long = "set", value_name = "KEY=VALUE")]
    set: Vec<String>,
    /// Go on from the latest checkpoint of the output directory. Base and rows may lie elsewhere now (`--set
    /// model.path=DIR`): what they hold is compared.
    #[arg(long)]
    resume: bool,
}

/// Runs the command.
///
/// # Errors
/// All that is wrong with recipe, model, data, output directory or checkpoint.
pub fn run(arguments: &Arguments, registry: &Registry) -> Result<Outcome, Faults> {
    let recipe = read_recipe(&arguments.recipe, &arguments.set, registry)?;
    let folder = recipe.output.dir.clone();
    Run::refuse_in_use(&folder)?;
    let resumed = arguments.resume.then(|| Resumed::find(&folder, &recipe)).transpose()?;
    let mut plan = match &resumed {
        Some(resumed) => resumed.plan(recipe)?,
        None => Plan::new(recipe)?,
    };
    for warning in &plan.recipe.warnings {
        tracing::warn!("{warning}");
    }
    // Before anything is built: fitting codes may take minutes.
    let (base, encoders) = match &resumed {
        Some(resumed) => resumed.compare(&plan)?,
        None => {
            Run::refuse_used(&folder)?;
            (plan.identity()?, plan.encoder_fingerprints()?)
        }
    };
    let done = resumed.as_ref().map_or(0, |resumed| resumed.checkpoint.step);
    if let Some(resumed) = resumed.as_ref().filter(|r| done >= plan.steps || r.state.stopped_early) {
        let mut run = Run::open(&folder)?;
        match resumed.finish(&mut run, &plan)? {
            true => announce(&closing_words(&run, &plan)?),
            false => tracing::info!("the run is done already, at step {done}"),
        }
        return Ok(Outcome::Done);
    }
    let goes_on = resumed.as_ref().map_or_else(String::new, |resumed| resumed.line(&plan));
    announce(&format!("{plan}{goes_on}"));
    if let Some(warning) = resumed.as_ref().and_then(|resumed| resumed.rate_warning(&plan, registry)) {
        tracing::warn!("{warning}");
    }
    let mut trainee = plan.build()?;
    // Up to here there is nothing to save, and Ctrl-C ends the program as it ends any other.
    let interrupted = watch_for_interrupt()?;
    let mut settings = plan.settings(&mut trainee);
    (settings.origin.base, settings.origin.encoders) = (base, encoders);
    let mut run = match &resumed {
        Some(_) => Run::open(&folder)?,
        None => Run::create(&folder)?,
    };
    run.lock()?;
    run.write_recipe(&plan.recipe.resolved_text())?;
    let mut order = order(&plan.recipe, &plan.train, plan.width_multiple);
    let mut reporter = Reporter::new(plan.steps, done);
    let trained = train(
        &settings,
        Learner { trainee: &mut trainee, objective: plan.recipe.objective.as_mut() },
        Rows { order: &mut order, evaluation: plan.eval.as_ref().map_or(&[], |eval| eval.examples.as_slice()) },
        Log { run: &mut run, reporter: &mut reporter },
        resumed.as_ref().map(|resumed| &resumed.checkpoint),
        &interrupted,
    );
    let reported = reporter.finish(&run, &plan.recipe.resolved);
    // What stopped the run comes before what kept it from being told: a full disk does both.
    let outcome = trained?;
    reported?;
    match outcome {
        train::Outcome::Finished => {
            announce(&closing_words(&run, &plan)?);
            Ok(Outcome::Done)
        }
        train::Outcome::Interrupted { step } => {
            let set: String = arguments.set.iter().map(|set| format!(" --set {}", quoted(set))).collect();
            let recipe = quoted(&arguments.recipe.display().to_string());
            // Said even when logs are held back: it is what the user needs next.
            tell(&format!(
                "interrupted after step {step} of {}; go on with\n  trainer run {recipe}{set} --resume",
                plan.steps
            ));
            Ok(Outcome::Interrupted)
        }
    }
}

/// Ctrl-C, or a request to end (SIGTERM), asks the loop to stop after its step; a second one stops at once.
fn watch_for_interrupt() -> Result<Arc<AtomicBool>, Fault> {
    let interrupted = Arc::new(AtomicBool::new(false));
    #[cfg(unix)]
    {
        use signal_hook::{consts::SIGTERM, flag};
        // The first looks at what the second sets, and so comes before it.
        flag::register_conditional_shutdown(SIGTERM, 143, interrupted.clone())
            .and_then(|_| flag::register(SIGTERM, interrupted.clone()))
            .map_err(|error| {
                let fault = Fault::new(format!("cannot watch for requests to end: {error}"));
                fault.at(Place::Named("SIGTERM".into())).hint("start the program by itself, not inside of another")
            })?;
    }
    let flag = interrupted.clone();
    ctrlc::set_handler(move || {
        if flag.swap(true, Ordering::SeqCst) {
            std::process::exit(130);
        }
        tracing::warn!("stopping after this step, with a checkpoint; press Ctrl-C again to stop at once");
    })
    .map_err(|error| {
        let fault = Fault::new(format!("cannot watch for Ctrl-C: {error}")).at(Place::Named("SIGINT".into()));
        fault.hint("start the program by itself, not inside of another that watches for it")
    })?;
    Ok(interrupted)
}

fn closing_words(run: &Run, plan: &Plan) -> Result<String, Fault> {
    let metrics = run.metrics()?;
    let evaluations: Vec<f64> =
        metrics.iter().filter(|line| line["split"] == "eval").filter_map(|line| line["nll"].as_f64()).collect();
    let steps = || metrics.iter().filter(|line| line["split"] == "train");
    let last = steps().filter_map(|line| line["step"].as_u64()).max().unwrap_or_default();
    if last > 0 && steps().all(|line| line["objective"]["active_fraction"] == 0.0) {
        tracing::warn!("no token had a weight above 0 in any step: the objective has taught the model nothing");
    }
    let mut words = format!("done: {last} steps");
    if let [first, .., last] = evaluations[..] {
        words += &format!(", nll of the held-out rows {first:.4} -> {last:.4}");
    }
    let gap = |split: &str| {
        let lines = metrics.iter().rev().filter(|line| line["split"] == split);
        lines.filter_map(|line| line["objective"]["gap"].as_f64()).next()
    };
    match (gap("train"), gap("eval")) {
        (Some(train), Some(eval)) => words += &format!(", gap to the floor {train:.4}, of the held-out rows {eval:.4}"),
        (Some(train), None) => words += &format!(", gap to the floor {train:.4}"),
        (None, _) => {}
    }
    let folder = quoted(&run.folder().display().to_string());
    let (trained, merge) = match plan.recipe.adapter {
        Adapter::Lora(_) => ("adapter", " --merge"),
        Adapter::None => ("model", ""),
    };
    let prompt = prompt_to_try(plan);
    words += &format!("\n\n{trained} and training state are in {folder}, the curves in {folder}/report.html\n");
    if let (Backbone::Init(_), Adapter::Lora(_)) = (&plan.recipe.model.backbone, &plan.recipe.adapter) {
        // Nothing can be made of an adapter whose base is gone; the recipe was warned of.
        return Ok(words);
    }
    words += "next:\n";
    words += &format!("  trainer sample {folder} {prompt} --n 5\n");
    words += &format!("  trainer export {folder} --out exported{merge}\n");
    Ok(words)
}

/// A prompt of the training rows as arguments of `trainer sample`, which reads it as training did; one of our own where none
/// is short and plain enough to be typed. Where rows state intents, samples do.
fn prompt_to_try(plan: &Plan) -> String {
    let tokenizer = &plan.tokenizer;
    let of_row = |example: &datasets::Example| {
        let asked = example.prompt();
        let whole = tokenizer.decode(asked, true).ok()?;
        let template = template_of(example, &whole, tokenizer);
        // A sampler of intents writes the head itself.
        let text = whole.strip_suffix(template.map_or("", Template::head))?;
        let typed = !text.trim().is_empty() && text.len() < 80 && text.chars().all(|c| c == '\n' || !c.is_control());
        let read = typed && tokenizer.encode_beginning(&whole, true).ok()? == asked;
        // In one word, so that a prompt may begin with a dash.
        read.then(|| format!("--prompt={}{}", quoted(text), with_intent(template)))
    };
    let examples = || plan.train.examples.iter().take(PROMPTS_TRIED);
    examples().find_map(of_row).unwrap_or_else(|| {
        let template = examples()
            .find_map(|example| template_of(example, &tokenizer.decode(example.prompt(), true).ok()?, tokenizer));
        let prompt = match tokenizer.has_chat_template() {
            true => "--chat --prompt='Tell me a story.'",
            false => "--prompt='Once upon a time'",
        };
        format!("{prompt}{}", with_intent(template))
    })
}

/// The template of a row with this prompt, if the row states an intent.
fn template_of(example: &datasets::Example, prompt: &str, tokenizer: &Tokenizer) -> Option<Template> {
    let intent = example.parts.iter().position(|part| *part == Part::Intent)?;
    Template::of_text(prompt, &tokenizer.decode(&example.ids[intent..], true).ok()?)
}

fn with_intent(template: Option<Template>) -> String {
    template.map_or_else(String::new, |template| format!(" --intent {}", template.word()))
}

/// Rows that are looked at for a prompt to try.
const PROMPTS_TRIED: usize = 1000;

/// A word as every shell reads it.
fn quoted(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "-_./=:,+@%".contains(c);
    if !text.is_empty() && text.chars().all(plain) { text.into() } else { format!("'{}'", text.replace('\'', "'\\''")) }
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_printed_command_can_be_pasted_into_a_shell() {
        assert_eq!(quoted("runs/a.toml"), "runs/a.toml");
        assert_eq!(quoted("data.train=[\"a b\"]"), "'data.train=[\"a b\"]'");
        assert_eq!(quoted("it's"), "'it'\\''s'");
        // A line break stands for itself: `$'..'` is not of every shell.
        assert_eq!(quoted("it's\n"), "'it'\\''s\n'");
    }
}
