//! What a tensor is called now, and what it was called.
//!
//! In transformers 4.52 the parts of models for more than text moved: what was `language_model.model` is
//! `model.language_model`. Files on the hub have the names of before, which transformers still writes; adapters have those
//! of the version they were made with. Files that were saved without a head (`AutoModel`) have no `model.` before any name,
//! and files that were saved by a program that keeps one of two tied matrices may have the head's alone. All of these
//! transformers loads. Here everything goes by its present name, by which PEFT finds it too, and is written under the name
//! that its base has for it.

use std::borrow::Cow;

use crate::adapter::{Adapter, PREFIX, split};

/// Where parts of a model were, or are without what is around them, and where they are.
const MOVED: [(&str, &str); 8] = [
    ("language_model.model.", "model.language_model."),
    ("language_model.lm_head.", "lm_head."),
    ("vision_tower.", "model.vision_tower."),
    ("multi_modal_projector.", "model.multi_modal_projector."),
    ("language_model.", "model.language_model."),
    ("embed_tokens.", "model.embed_tokens."),
    ("layers.", "model.layers."),
    ("norm.", "model.norm."),
];

/// The prefix of all names of a decoder now, which older files lack.
const AROUND: &str = "model.";

/// How the name of a matrix ends that every decoder has, and no part beside one.
const IN_A_DECODER: &str = ".layers.0.self_attn.o_proj.weight";

/// A name of a decoder that was saved as the part of another one, with what is around it twice.
pub(crate) fn doubled<'n>(mut names: impl Iterator<Item = &'n str>) -> Option<&'n str> {
    let is_doubled = |name: &&str| {
        let inner = name.strip_prefix(AROUND).filter(|inner| inner.starts_with(AROUND));
        inner.is_some_and(|inner| inner.ends_with(IN_A_DECODER))
    };
    names.find(is_doubled)
}

/// The head's weight, wherever the rest is.
pub(crate) const HEAD_WEIGHT: &str = "lm_head.weight";

/// True for the weight of the tokens' embedding.
pub(crate) fn is_embedding(name: &str) -> bool {
    name.ends_with(".embed_tokens.weight")
}

/// The present name of a tensor that is called `name` in a file.
pub(crate) fn present(name: &str) -> Cow<'_, str> {
    replaced(name, MOVED)
}

/// What a tensor that is not among them would be called in files whose names are these, each present one with the stored.
pub(crate) fn stored_like<'a, 'n>(name: &'a str, mut names: impl Iterator<Item = (&'n str, &'n str)>) -> Cow<'a, str> {
    let known = names.find(|(present, _)| present.ends_with(IN_A_DECODER));
    match known {
        Some((present, stored)) if present.strip_prefix(AROUND) == Some(stored) => {
            Cow::Borrowed(name.strip_prefix(AROUND).unwrap_or(name))
        }
        Some((present, stored)) if present != stored => {
            replaced(name, MOVED.map(|(former, present)| (present, former)))
        }
        _ => Cow::Borrowed(name),
    }
}

/// The name of the embedding of the decoder that is among these present names.
pub(crate) fn embedding_beside<'n>(mut names: impl Iterator<Item = &'n str>) -> Option<String> {
    names.find_map(|name| Some(format!("{}.embed_tokens.weight", name.strip_suffix(IN_A_DECODER)?)))
}

fn replaced<'a>(name: &'a str, prefixes: [(&str, &str); 8]) -> Cow<'a, str> {
    let replaced = |(from, to): (&str, &str)| name.strip_prefix(from).map(|rest| Cow::Owned(format!("{to}{rest}")));
    prefixes.into_iter().find_map(replaced).unwrap_or(Cow::Borrowed(name))
}

impl Adapter {
    /// The same adapter with its modules where they are now. What its configuration says of them by their former paths is
    /// said by the whole present ones.
    pub(crate) fn by_present_names(self) -> Self {
        let moved = |key: &str| {
            let Cow::Owned(present) = present(key.strip_prefix(PREFIX)?) else { return None };
            Some(format!("{PREFIX}{present}"))
        };
        let mut paths = Vec::new();
        for (path, part) in self.tensors.keys().filter_map(|key| split(key)) {
            let key = format!("{PREFIX}{path}{part}");
            let present = moved(&key).unwrap_or(key);
            let (present, _) = split(&present).expect("a key with another path");
            paths.push((path.to_owned(), present.to_owned()));
        }
        paths.dedup();
        if paths.iter().all(|(path, present)| path == present) {
            return self;
        }
        let config = self.config.renamed(&paths);
        let tensors = self.tensors.into_iter().map(|(key, tensor)| (moved(&key).unwrap_or(key), tensor)).collect();
        Self { config, tensors }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::{AdapterConfig, StoredTensor, TargetModules};

    /// All of these load in transformers 5.23; a tensor that is new beside them is called as they are.
    #[test]
    fn what_files_lack_before_their_names_is_put_there_and_taken_away_again() {
        let layer = "layers.0.self_attn.o_proj.weight";
        let cases = [
            ("model.", "model.", "lm_head.weight"),
            ("", "model.", "lm_head.weight"),
            ("model.language_model.", "model.language_model.", "lm_head.weight"),
            ("language_model.", "model.language_model.", "lm_head.weight"),
            ("language_model.model.", "model.language_model.", "language_model.lm_head.weight"),
        ];
        for (stored, now, head) in cases {
            for rest in [layer, "embed_tokens.weight", "norm.weight"] {
                assert_eq!(present(&format!("{stored}{rest}")), format!("{now}{rest}"));
            }
            let names = [(format!("{now}{layer}"), format!("{stored}{layer}"))];
            let like = |name: &str| {
                let names = names.iter().map(|(present, stored)| (present.as_str(), stored.as_str()));
                stored_like(name, names).into_owned()
            };
            assert_eq!(like(&format!("{now}embed_tokens.weight")), format!("{stored}embed_tokens.weight"));
            assert_eq!(like(HEAD_WEIGHT), head);
            assert_eq!(embedding_beside([names[0].0.as_str()].into_iter()), Some(format!("{now}embed_tokens.weight")));
        }
        for other in ["bert.encoder.layer.0.output.dense.weight", "optimizer.first.model.norm.weight", "lm_head.weight"]
        {
            assert_eq!(present(other), other);
        }
    }

    /// As transformers 4.50 and 4.51 have Gemma 3; the patterns decide by the paths of then.
    #[test]
    fn an_adapter_of_former_names_has_the_present_ones() {
        let layer = "language_model.model.layers.0";
        let [queries, up] = ["self_attn.q_proj", "mlp.up_proj"].map(|name| format!("{layer}.{name}"));
        let mut tensors = BTreeMap::new();
        for (module, rank) in [(queries.as_str(), 4), (&up, 2), ("language_model.lm_head", 4)] {
            tensors.insert(Adapter::key_a(module), StoredTensor::from_f32([rank, 3], &vec![1.0; 3 * rank]));
            tensors.insert(Adapter::key_b(module), StoredTensor::from_f32([5, rank], &vec![2.0; 5 * rank]));
        }
        let mut former = Adapter { config: AdapterConfig::new(4, 8.0, vec!["q_proj".into()]), tensors };
        former.config.rank_pattern =
            [("language_model.model.layers.0.mlp.up_proj".to_owned(), 2)].into_iter().collect();
        former.config.alpha_pattern = [("^language_model.model.*q_proj".to_owned(), 3.0)].into_iter().collect();
        former.config.exclude_modules = Some(TargetModules::Pattern("vision_tower.*".into()));
        let scales = |adapter: &Adapter| -> Vec<(String, usize, f64)> {
            let modules = adapter.modules().unwrap();
            modules.iter().map(|module| (module.path.to_owned(), module.rank, module.scale)).collect()
        };
        let before = scales(&former);
        let present = former.clone().by_present_names();
        let after = scales(&present);
        let paths: Vec<&str> = after.iter().map(|(path, ..)| path.as_str()).collect();
        let layer = "model.language_model.layers.0";
        let expected = ["lm_head", &format!("{layer}.mlp.up_proj"), &format!("{layer}.self_attn.q_proj")];
        assert_eq!(paths, expected);
        let numbers = |of: &[(String, usize, f64)]| {
            let mut numbers: Vec<_> = of.iter().map(|(_, rank, scale)| (*rank, scale.to_bits())).collect();
            numbers.sort_unstable();
            numbers
        };
        assert_eq!(numbers(&before), numbers(&after));
        let TargetModules::Names(mut names) = present.config.target_modules.clone() else { panic!("names") };
        names.sort();
        assert_eq!((names, &present.config.exclude_modules), (expected.map(str::to_owned).to_vec(), &None));
        assert_eq!(present.clone().by_present_names(), present);
    }
}
