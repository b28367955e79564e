//! Settings that were chosen for another model, or for more rows, than those they meet: told by the numbers of the plan.

use std::ops::RangeInclusive;

use backbone::Config;
use datasets::Report;
use faults::Fault;
use losses::Extent;

use crate::recipe::{Adapter, Backbone, Duration, Recipe, Start};

/// The best learning rate of an adapter of alpha 32 and any rank on a model of this width, as Schulman et al. found it over
/// fourteen models ("LoRA Without Regret", Thinking Machines Lab 2025): 1.3e-3 on SmolLM2-135M, 5e-4 at a width of 2000,
/// 3e-4 on Llama 3.1 8B. `losses/README.md` has what was measured here.
pub fn best_rate(hidden_size: usize) -> f64 {
    5e-4 * (2000.0 / hidden_size.max(1) as f64).powf(0.78)
}

/// As many times that rate are still said nothing of.
const TOLERATED: f64 = 2.0;

/// Others are warned of when the recipe is read, whatever the model.
const POSSIBLE_RATES: RangeInclusive<f64> = 1e-9..=1.0;

/// Below this part of that rate an adapter stays where it began.
const TOO_SMALL: f64 = 0.005;

/// All weights together want about a tenth of an adapter's rate (the same source), and lose what they know at ten times as
/// much.
const OF_ALL_WEIGHTS: f64 = 0.1;

/// The alpha that rates are compared at.
const ALPHA: f64 = 32.0;

/// Passes over the same rows, where a number of steps was asked for, that nobody means.
const MANY_PASSES: usize = 10;

/// What the objective and the auxiliary losses say of a run of so many steps over these rows, of which `steps.1` take each once.
pub(super) fn of_losses(recipe: &Recipe, config: &Config, rows: &Report, steps: (usize, usize)) -> Vec<String> {
    let (steps, steps_per_epoch) = steps;
    let in_all = |of_epoch: usize, steps: usize| of_epoch.saturating_mul(steps).div_ceil(steps_per_epoch.max(1));
    let is_new = matches!(recipe.model.backbone, Backbone::Init(_));
    let extent = |steps: usize, is_new: bool| Extent {
        steps,
        tokens: in_all(rows.learned_tokens, steps),
        rows: in_all(rows.examples, steps),
        untrained: is_new.then_some(config.vocab_size),
    };
    let mut said = match steps.saturating_sub(recipe.warm_start) {
        0 => {
            let never = "the objective never begins, and all is learned by nll";
            vec![format!("`objective.warm_start` is as long as the run: {never}")]
        }
        left => recipe.objective.remarks(&extent(left, is_new && left == steps)),
    };
    let whole = extent(steps, is_new);
    said.extend(recipe.auxiliaries.iter().flat_map(|auxiliary| (auxiliary.remarks)(&whole)));
    said
}

/// What is to be said of the recipe on a model of this width, a sentence with a hint each.
pub(super) fn warnings(recipe: &Recipe, hidden_size: usize, steps: usize, steps_per_epoch: usize) -> Vec<String> {
    let own = matches!(&recipe.model.backbone, Backbone::Pretrained { path, .. } if !path.starts_with("builtin:"));
    let faults = [rate(recipe, hidden_size, own), passes(recipe, steps, steps_per_epoch), words(recipe, own)];
    faults.into_iter().flatten().map(|fault| fault.line()).collect()
}

/// `own` is a model of the user's: the embedded ones have recipes with rates that were measured.
fn rate(recipe: &Recipe, hidden_size: usize, own: bool) -> Option<Fault> {
    let Backbone::Pretrained { .. } = recipe.model.backbone else { return None };
    let rate = recipe.optimizer.learning_rate;
    if !POSSIBLE_RATES.contains(&rate) {
        return None;
    }
    let of_objective = if own { recipe.objective.rate() } else { 1.0 };
    let best = of_objective * best_rate(hidden_size);
    let (usual, most, least, what) = match &recipe.adapter {
        Adapter::None => {
            let usual = OF_ALL_WEIGHTS * best;
            (usual, usual / OF_ALL_WEIGHTS, 0.0, "all weights of a model")
        }
        Adapter::Lora(lora) => {
            let alpha = match &lora.start {
                Start::Fresh(fresh) if fresh.rslora => fresh.alpha * (fresh.rank as f64).sqrt(),
                Start::Fresh(fresh) => fresh.alpha,
                Start::From(_) => ALPHA,
            };
            // With a larger alpha the same step of the factors counts more.
            let usual = best / (alpha / ALPHA).sqrt().clamp(0.5, 2.0);
            (usual, TOLERATED * usual, TOO_SMALL * usual, "an adapter on a model")
        }
    };
    let with = if of_objective == 1.0 { String::new() } else { format!(" with `{}`", recipe.objective.name()) };
    let of = format!("what is best for {what} of width {hidden_size}{with}");
    let message = match rate {
        rate if rate > most => format!("`optimizer.learning_rate` = {rate:e} is {:.0} times about {of}", rate / usual),
        rate if rate < least => format!("`optimizer.learning_rate` = {rate:e} is far below {of}, which hardly moves"),
        _ => return None,
    };
    let hint = format!("at most {usual:.0e}; `trainer recipes cp NAME --model PATH` writes settings for a model");
    Some(Fault::new(message).at(recipe.places.of("optimizer.learning_rate")).hint(hint))
}

fn passes(recipe: &Recipe, steps: usize, steps_per_epoch: usize) -> Option<Fault> {
    let Duration::Steps(_) = recipe.train.duration else { return None };
    let passes = steps / steps_per_epoch.max(1);
    if passes <= MANY_PASSES || super::by_prompt(recipe).is_some() {
        return None;
    }
    let message = format!("`train.steps` = {steps} takes every row {passes} times: rows are learned by heart");
    Some(Fault::new(message).at(recipe.places.of("train.steps")).hint("`train.epochs` of 1 to 3 is usual"))
}

/// The stand-in for a sentence encoder knows the words of the embedded data.
fn words(recipe: &Recipe, own: bool) -> Option<Fault> {
    let stand_in = |sentences: &losses::Sentences| sentences.encoder == "builtin:words";
    let place = recipe.auxiliaries.iter().filter_map(|auxiliary| auxiliary.sentences.as_ref()).find(|s| stand_in(s))?;
    let message = "`encoder = \"builtin:words\"` knows which words two texts share and nothing of what they mean";
    let hint = "name a sentence encoder, for example \"sentence-transformers/all-MiniLM-L6-v2\"";
    own.then(|| Fault::new(message).at(place.place.clone()).hint(hint))
}

#[cfg(test)]
mod tests {
    use losses::Registry;

    use super::*;

    fn recipe(keys: &[&str]) -> Recipe {
        let text = "[model]\npath = \"org/name\"\n[data]\ntrain = [\"a\"]\n";
        let set: Vec<String> = keys.iter().map(|key| (*key).to_string()).collect();
        crate::recipe::parse("r.toml", text, &set, &Registry::default()).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn said(hidden_size: usize, keys: &[&str]) -> Vec<String> {
        warnings(&recipe(keys), hidden_size, 100, 50)
    }

    /// The widths of the embedded model, SmolLM2-135M, Llama 3.2 1B, Llama 3.1 8B and 70B.
    #[test]
    fn a_rate_that_is_far_above_what_is_best_for_the_width_is_said() {
        for width in [128, 576] {
            assert_eq!(said(width, &["optimizer.learning_rate=1e-3"]), Vec::<String>::new());
        }
        for width in [2048, 4096, 8192] {
            let said = said(width, &["optimizer.learning_rate=1e-3"]);
            assert!(said.len() == 1 && said[0].starts_with("--set:1:27: "), "{width}: {said:?}");
        }
        let large = said(4096, &["optimizer.learning_rate=1e-3"]);
        assert!(
            large[0].contains("3 times about what is best for an adapter") && large[0].contains("at most 3e-4"),
            "{large:?}"
        );
        // The defaults of this and other programs.
        for width in [576, 2048, 4096, 8192] {
            for rate in ["1e-4", "2e-4"] {
                assert_eq!(said(width, &[&format!("optimizer.learning_rate={rate}")]), Vec::<String>::new());
            }
        }
        assert_eq!(said(2048, &["optimizer.learning_rate=1e-6"]).len(), 1, "it would not move");
    }

    #[test]
    fn alpha_and_training_every_weight_count() {
        let rate = "optimizer.learning_rate=5e-4";
        assert_eq!(said(4096, &[rate]), Vec::<String>::new());
        assert_eq!(said(4096, &[rate, "adapter.alpha=128"]).len(), 1);
        assert_eq!(said(4096, &["optimizer.learning_rate=1e-3", "adapter.alpha=8"]), Vec::<String>::new());
        let all = ["adapter.kind=none", "optimizer.learning_rate=1e-3"];
        assert_eq!((said(128, &all).len(), said(2048, &all).len()), (0, 1));
        assert_eq!(said(2048, &["adapter.kind=none", "optimizer.learning_rate=1e-6"]), Vec::<String>::new());
    }

    #[test]
    fn an_objective_that_wants_a_lower_rate_is_said() {
        let rate = "optimizer.learning_rate=1e-3";
        let of_few = said(576, &[rate, "objective.kind=lambda_pr"]);
        assert!(of_few.len() == 1 && of_few[0].contains("8 times about what is best for"), "{of_few:?}");
        assert!(
            of_few[0].contains("of width 576 with `lambda_pr`") && of_few[0].contains("at most 1e-4"),
            "{of_few:?}"
        );
        let all_tokens = ["objective.kind=lambda_pr", "objective.lambda=1", rate];
        assert_eq!(said(576, &all_tokens), Vec::<String>::new());
        assert_eq!(said(576, &["objective.kind=lambda_pr", "optimizer.learning_rate=1e-4"]), Vec::<String>::new());
        assert_eq!(said(128, &[rate, "objective.kind=lambda_pr", "model.path=builtin:tiny"]), Vec::<String>::new());
    }

    #[test]
    fn many_passes_and_the_stand_in_for_an_encoder_are_said() {
        let many = warnings(&recipe(&["train.steps=200"]), 576, 200, 4);
        assert!(many.len() == 1 && many[0].contains("takes every row 50 times"), "{many:?}");
        assert_eq!(warnings(&recipe(&["train.epochs=50"]), 576, 200, 4), Vec::<String>::new());
        let set = "auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\"}]";
        assert_eq!(said(576, &[set]).len(), 1);
        assert_eq!(said(576, &[set, "model.path=builtin:tiny"]), Vec::<String>::new());
    }
}
