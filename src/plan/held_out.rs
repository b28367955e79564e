//! Rows to evaluate by that are trained on, too.

use std::collections::HashSet;

use datasets::{Dataset, Example};
use faults::Fault;

use crate::recipe::Recipe;

/// What is to be said where rows of `data.eval` are rows of `data.train` as well, token by token: their loss falls as they
/// are learned by heart. Rows of an embedded world are drawn again on purpose, and nothing is said of them.
pub(super) fn repeated(recipe: &Recipe, train: &Dataset, eval: &Dataset) -> Option<String> {
    let of_user = || eval.examples.iter().filter(|example| !example.file.starts_with("builtin:"));
    // The held-out rows go into the set: they are fewer.
    let looked_for: HashSet<_> = of_user().map(content).collect();
    let trained: HashSet<_> = train.examples.iter().map(content).filter(|row| looked_for.contains(row)).collect();
    let repeated: Vec<&Example> = of_user().filter(|example| trained.contains(&content(example))).collect();
    let first = repeated.first()?;
    let all = eval.examples.len();
    let message = format!(
        "{} of {all} row{} of `data.eval` can be trained on, too, the first of them {}: their loss is not held-out",
        repeated.len(),
        if all == 1 { "" } else { "s" },
        first.place(),
    );
    let hint = "take them out of one of the two, unless it is to be seen how well rows are learned by heart";
    Some(Fault::new(message).at(recipe.places.of("data.eval")).hint(hint).line())
}

/// The tokens of a row with those that are learned: rows with the same are repeated.
fn content(example: &Example) -> (&[u32], &[bool]) {
    (&example.ids, &example.learned)
}
