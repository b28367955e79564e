//! Rows of any other shape: how likely the model finds what they learn.

use datasets::Example;
use faults::json::to_line;
use faults::{Fault, Faults};
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

/// Sums over learned tokens under one sampler.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    nll: f64,
    entropy: f64,
}

/// A line for each file and temperature, then one for each temperature and all files.
pub(super) fn run(measuring: &Measuring<'_>, examples: &[Example]) -> Result<(), Faults> {
    let mut all = vec![Sums::default(); measuring.samplers.len()];
    let (mut rows, mut tokens) = (0, 0);
    for file in examples.chunk_by(|a, b| a.file == b.file) {
        let mut sums = vec![Sums::default(); measuring.samplers.len()];
        let mut learned = 0;
        for batch in batches(file, AT_ONCE, MULTIPLE, None) {
            learned += batch.tokens_learned();
            let found = scores(&measuring.model.decoder, &batch, &measuring.samplers, Entropies::Wanted);
            for (sums, (log_q, entropy)) in sums.iter_mut().zip(found.log_q.iter().zip(&found.entropy)) {
                sums.nll -= log_q.iter().sum::<f64>();
                sums.entropy += entropy.iter().sum::<f64>();
            }
        }
        if sums.iter().any(|sums| !sums.nll.is_finite()) {
            return Err(Fault::new("the model's loss is not finite")
                .at(file[0].place())
                .hint("its weights are not finite: take another checkpoint")
                .into());
        }
        for ((sampler, all), sums) in measuring.samplers.iter().zip(&mut all).zip(&sums) {
            all.nll += sums.nll;
            all.entropy += sums.entropy;
            write(measuring, json!(&*file[0].file), (file.len(), learned), sampler, *sums)?;
        }
        rows += file.len();
        tokens += learned;
    }
    for (sampler, sums) in measuring.samplers.iter().zip(all) {
        write(measuring, Value::Null, (rows, tokens), sampler, sums)?;
    }
    Ok(())
}

fn write(
    measuring: &Measuring<'_>,
    file: Value,
    (rows, tokens): (usize, usize),
    sampler: &Sampler,
    sums: Sums,
) -> Result<(), Fault> {
    let place = [("file", file), ("rows", json!(rows)), ("tokens", json!(tokens))];
    let mut line = beginning(measuring.name, place, sampler);
    let nll = sums.nll / tokens as f64;
    line.insert("nll".into(), json!(nll));
    line.insert("perplexity".into(), json!(nll.exp()));
    line.insert("entropy".into(), json!(sums.entropy / tokens as f64));
    print(&format!("{}\n", to_line(&Value::Object(line))))
}

/// Refuses what has no effect here, before anything is measured.
///
/// Truncation and greedy sampling give most rows no probability at all; and nothing is drawn or covered here.
///
/// # Errors
/// Such flags.
pub(super) fn refuse_cuts(arguments: &Arguments) -> Result<(), Faults> {
    let Arguments { top_p, top_k, min_p, budget, n, no_end_token, temperatures, .. } = arguments;
    let given = [
        ("top-p", top_p.is_some()),
        ("top-k", top_k.is_some()),
        ("min-p", min_p.is_some()),
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
