//! Samples together, when all of them are drawn.

use datasets::Tokenizer;
use faults::Fault;

use super::{News, NextToken, Sample, Settings, keyed, sample, sample_numbered};

/// All that [`sample`] gives, in its order; `done` is told how many there are, each time there is one more.
///
/// # Errors
/// Tokens that the tokenizer cannot turn into text.
pub fn sample_all(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    prompts: &[Vec<u32>],
    count: usize,
    settings: &Settings,
    done: &mut dyn FnMut(usize),
) -> Result<Vec<Sample>, Fault> {
    let mut samples = Vec::with_capacity(prompts.len() * count);
    sample(model, tokenizer, prompts, count, settings, &mut |news| {
        if let News::Done(sample) = news {
            samples.push(sample);
            done(samples.len());
        }
        Ok(())
    })?;
    Ok(samples)
}

/// The same of some prompts of many, each with its number among all: what is drawn for one is what [`sample_all`] draws
/// for it.
///
/// # Errors
/// As [`sample_all`].
pub fn sample_some(
    model: &mut dyn NextToken,
    tokenizer: &Tokenizer,
    prompts: &[(usize, Vec<u32>)],
    count: usize,
    settings: &Settings,
) -> Result<Vec<Sample>, Fault> {
    let mut samples = Vec::with_capacity(prompts.len() * count);
    let prompts = prompts.iter().map(|(number, ids)| (*number, ids));
    sample_numbered(model, tokenizer, &mut keyed(prompts, count, settings.seed), settings, &mut |news| {
        if let News::Done(sample) = news {
            samples.push(sample);
        }
        Ok(())
    })?;
    Ok(samples)
}
