//! Settings that were chosen for another model, or for more rows, than those they meet: told by the numbers of the plan.

use faults::Fault;

use crate::recipe::{Adapter, Backbone, Duration, Fresh, Recipe, Start};

/// The learning rate that is usual for an adapter of `scale` 2 on a model with so many parameters: 1e-3 on the embedded
/// model of a million, 3e-4 on SmolLM2-135M (measured for both, `losses/README.md`), 2e-4 to 1e-4 from 1 to 13 billion
/// (QLoRA, Dettmers et al. 2023, arXiv 2305.14314, appendix B), 1e-4 and less above.
fn usual_rate(parameters: u64) -> f64 {
    1e-3 * (parameters.max(1) as f64 / 1e6).powf(-0.25)
}

/// As many times the usual rate are still said nothing of: an adapter forgives more than all weights do.
const TOLERATED: f64 = 3.0;

/// Below this part of the usual rate an adapter stays where it began.
const TOO_SMALL: f64 = 0.01;

/// All weights together want about a tenth of an adapter's rate, and lose what they know at ten times as much.
const OF_ALL_WEIGHTS: f64 = 0.1;

/// Passes over the same rows, where a number of steps was asked for, that nobody means.
const MANY_PASSES: usize = 10;

/// What is to be said of the recipe on a model with so many parameters, a sentence with a hint each.
pub(super) fn warnings(recipe: &Recipe, parameters: u64, steps: usize, steps_per_epoch: usize) -> Vec<String> {
    let own = matches!(&recipe.model.backbone, Backbone::Pretrained { path, .. } if !path.starts_with("builtin:"));
    let faults = [rate(recipe, parameters), passes(recipe, steps, steps_per_epoch), words(recipe, own)];
    faults.into_iter().flatten().map(|fault| fault.line()).collect()
}

fn rate(recipe: &Recipe, parameters: u64) -> Option<Fault> {
    let Backbone::Pretrained { .. } = recipe.model.backbone else { return None };
    let rate = recipe.optimizer.learning_rate;
    let (usual, most, least, what) = match &recipe.adapter {
        Adapter::None => {
            let usual = OF_ALL_WEIGHTS * usual_rate(parameters);
            (usual, usual / OF_ALL_WEIGHTS * 1.05, 0.0, "all weights of a model")
        }
        Adapter::Lora(lora) => {
            let scale = match &lora.start {
                Start::Fresh(fresh) => scale(fresh),
                Start::From(_) => 2.0,
            };
            // A larger scale lets the same step of the factors count more.
            let usual = usual_rate(parameters) / (scale / 2.0).sqrt().clamp(0.5, 1.5);
            (usual, TOLERATED * usual, TOO_SMALL * usual, "an adapter on a model")
        }
    };
    let of = format!("what is usual for {what} of {} parameters", super::print::count(parameters));
    let message = match rate {
        rate if rate > most => format!("`optimizer.learning_rate` = {rate:e} is {:.0} times {of}", rate / usual),
        rate if rate < least => format!("`optimizer.learning_rate` = {rate:e} is far below {of}, which hardly moves"),
        _ => return None,
    };
    let hint = format!("about {usual:.0e}; `trainer recipes cp NAME --model PATH` writes settings for such a model");
    Some(Fault::new(message).at(recipe.places.of("optimizer.learning_rate")).hint(hint))
}

fn scale(fresh: &Fresh) -> f64 {
    let rank = fresh.rank.max(1) as f64;
    fresh.alpha / if fresh.rslora { rank.sqrt() } else { rank }
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

    /// Which of the cases of `parameters`, keys are spoken of.
    fn said(parameters: u64, keys: &[&str]) -> Vec<String> {
        warnings(&recipe(keys), parameters, 100, 50)
    }

    #[test]
    fn the_rate_of_the_embedded_model_is_too_much_for_a_real_one() {
        let tiny = 900_000;
        assert_eq!(said(tiny, &["optimizer.learning_rate=1e-3"]), Vec::<String>::new());
        let real = said(134_500_000, &["optimizer.learning_rate=1e-3"]);
        assert!(real.len() == 1 && real[0].contains("3 times what is usual for an adapter"), "{real:?}");
        assert!(real[0].starts_with("--set:1:27: ") && real[0].contains("hint: about 3e-4"), "{real:?}");
        // The defaults of this and other programs, on models from 100 million to 13 billion.
        for parameters in [134_500_000, 1_100_000_000, 7_000_000_000, 13_000_000_000] {
            for rate in ["1e-4", "2e-4"] {
                assert_eq!(said(parameters, &[&format!("optimizer.learning_rate={rate}")]), Vec::<String>::new());
            }
        }
        assert_eq!(said(7_000_000_000, &["optimizer.learning_rate=5e-4"]).len(), 1);
        assert_eq!(said(1_000_000_000, &["optimizer.learning_rate=1e-6"]).len(), 1, "it would not move");
    }

    #[test]
    fn the_scale_of_the_adapter_and_training_every_weight_count() {
        let rate = "optimizer.learning_rate=8e-4";
        assert_eq!(said(134_500_000, &[rate]), Vec::<String>::new());
        assert_eq!(said(134_500_000, &[rate, "adapter.alpha=128"]).len(), 1);
        assert_eq!(said(134_500_000, &["optimizer.learning_rate=1e-3", "adapter.alpha=8"]), Vec::<String>::new());
        let all = ["adapter.kind=none", "optimizer.learning_rate=1e-3"];
        assert_eq!((said(900_000, &all).len(), said(134_500_000, &all).len()), (0, 1));
        assert_eq!(said(1_000_000_000, &["adapter.kind=none", "optimizer.learning_rate=1e-6"]), Vec::<String>::new());
    }

    #[test]
    fn many_passes_and_the_stand_in_for_an_encoder_are_said() {
        let many = warnings(&recipe(&["train.steps=200"]), 134_500_000, 200, 4);
        assert!(many.len() == 1 && many[0].contains("takes every row 50 times"), "{many:?}");
        assert_eq!(warnings(&recipe(&["train.epochs=50"]), 134_500_000, 200, 4), Vec::<String>::new());
        let set = "auxiliary=[{kind=\"sfr\",encoder=\"builtin:words\"}]";
        assert_eq!(said(134_500_000, &[set]).len(), 1);
        assert_eq!(said(134_500_000, &[set, "model.path=builtin:tiny"]), Vec::<String>::new());
    }
}
