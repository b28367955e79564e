//! Rows of any other shape: how likely the model finds what they learn.

use datasets::Example;
use faults::json::to_line;
use faults::{Fault, Faults};
use metrics::Likelihood;
use metrics::temperature::Sampler;
use serde_json::{Value, json};

use super::{Arguments, Measuring};
use crate::command::{argument, print};
use crate::engine::evaluate::batches;
use crate::evaluation::lines::beginning;
use crate::evaluation::{Entropies, scores};

/// Rows that are computed at once.
const AT_ONCE: usize = 8;

/// Where samples of plain rows are drawn.
const OF_PROMPTS: &str = "measure the others by themselves, without it; `--prompts FILE` draws samples of any rows";

/// Rows are padded to a multiple of this.
const MULTIPLE: usize = 8;

/// A line for each file and temperature, then one for each temperature and all files.
pub(super) fn run(measuring: &Measuring<'_>, examples: &[Example]) -> Result<(), Faults> {
    let mut all = vec![Likelihood::default(); measuring.samplers.len()];
    let mut rows = 0;
    for file in examples.chunk_by(|a, b| a.file == b.file) {
        let found = of_file(measuring, file)?;
        for ((sampler, all), found) in measuring.samplers.iter().zip(&mut all).zip(found) {
            all.add(found);
            write(measuring, json!(&*file[0].file), file.len(), sampler, &found)?;
        }
        rows += file.len();
    }
    for (sampler, found) in measuring.samplers.iter().zip(all) {
        write(measuring, Value::Null, rows, sampler, &found)?;
    }
    Ok(())
}

/// The sums of a file's rows under each sampler.
fn of_file(measuring: &Measuring<'_>, file: &[Example]) -> Result<Vec<Likelihood>, Fault> {
    let tokenizer = &measuring.model.tokenizer;
    let bytes = file.iter().map(|row| row.learned_bytes(tokenizer)).sum::<Result<usize, Fault>>()?;
    let mut sums = vec![Likelihood { bytes, ..Likelihood::default() }; measuring.samplers.len()];
    for batch in batches(file, AT_ONCE, MULTIPLE, None) {
        let found = scores(&measuring.model.decoder, &batch, &measuring.samplers, Entropies::Wanted);
        for (sums, (log_q, entropy)) in sums.iter_mut().zip(found.log_q.iter().zip(&found.entropy)) {
            sums.tokens += batch.tokens_learned();
            sums.nll -= log_q.iter().sum::<f64>();
            sums.entropy += entropy.iter().sum::<f64>();
        }
    }
    if sums.iter().any(|sums| !sums.nll.is_finite()) {
        return Err(Fault::new("the model's loss is not finite")
            .at(file[0].place())
            .hint("its weights are not finite: take another checkpoint"));
    }
    Ok(sums)
}

fn write(
    measuring: &Measuring<'_>,
    file: Value,
    rows: usize,
    sampler: &Sampler,
    found: &Likelihood,
) -> Result<(), Fault> {
    let sizes = [("rows", json!(rows)), ("tokens", json!(found.tokens)), ("bytes", json!(found.bytes))];
    let mut line = beginning(measuring.name, [("file", file)].into_iter().chain(sizes), sampler);
    let registry = measuring.arguments.registry();
    line.extend(registry.likelihood.iter().map(|metric| (metric.name.into(), json!((metric.measure)(found)))));
    print(&format!("{}\n", to_line(&Value::Object(line))))
}

/// Refuses what has no effect here, before anything is measured.
///
/// Truncation and greedy sampling give most rows no probability at all; and nothing is drawn or covered here.
///
/// # Errors
/// Such flags.
pub(super) fn refuse_cuts(arguments: &Arguments) -> Result<(), Faults> {
    let Arguments { top_p, top_k, min_p, typical_p, budget, n, no_end_token, temperatures, .. } = arguments;
    let given = [
        ("top-p", top_p.is_some()),
        ("top-k", top_k.is_some()),
        ("min-p", min_p.is_some()),
        ("typical-p", typical_p.is_some()),
        ("budget", !budget.is_empty()),
        ("n", n.is_some_and(|n| n > 0)),
        ("no-end-token", *no_end_token),
    ];
    let mut faults: Vec<Fault> = given
        .iter()
        .filter(|(_, given)| *given)
        .map(|(name, _)| {
            let fault = Fault::new(format!("`--{name}` is for rows with `targets`, which not all files have"));
            fault.at(argument(name)).hint(if *name == "n" {
                OF_PROMPTS
            } else {
                "measure the others by themselves, without it"
            })
        })
        .collect();
    if temperatures.contains(&0.0) {
        let fault = Fault::new("at temperature 0 all but one text have no probability").at(argument("temperatures"));
        faults.push(fault.hint("take temperatures above 0 for rows without `targets`"));
    }
    Faults::check(faults)
}
