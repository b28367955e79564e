//! Two adapters beside each other.

use std::collections::{BTreeMap, BTreeSet};

use checkpoints::Adapter;
use faults::{Fault, Faults, Place};
use rayon::prelude::*;
use serde::Serialize;
use serde_json::{Map, Value, json};

use super::adapter::updates;
use super::page::{Page, named, number};
use crate::inspection::{Difference, Update};

#[derive(Serialize)]
pub(super) struct DifferenceReport {
    first: String,
    second: String,
    /// Keys of the configuration with both values, where they differ.
    config: Map<String, Value>,
    only_first: Vec<String>,
    only_second: Vec<String>,
    modules: Vec<Apart>,
    all: Apart,
    /// `|m_U - m_V| / |m_U|` of all of DoRA's magnitudes, where both have them.
    magnitudes: Option<f64>,
}

/// The updates of a module, or of all.
#[derive(Serialize)]
struct Apart {
    norm_first: f64,
    norm_second: f64,
    distance: f64,
    cosine: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    path: Option<String>,
}

impl Apart {
    fn new(path: Option<&Update>, difference: &Difference) -> Self {
        Self {
            norm_first: difference.first(),
            norm_second: difference.second(),
            distance: difference.distance(),
            cosine: difference.cosine(),
            path: path.map(|update| update.path.clone()),
        }
    }

    fn row(&self) -> Vec<String> {
        let mut row = vec![self.path.clone().unwrap_or_else(|| "all".into())];
        row.extend([self.norm_first, self.norm_second, self.distance].map(number));
        row.push(self.cosine.map_or("-".into(), |cosine| format!("{cosine:.4}")));
        row
    }
}

impl DifferenceReport {
    /// # Errors
    /// Modules whose sides are not the same in both.
    pub(super) fn new((first, one): (&str, &Adapter), (second, other): (&str, &Adapter)) -> Result<Self, Faults> {
        let (left, right) = (updates(one)?, updates(other)?);
        let by_path: BTreeMap<&str, &Update> = right.iter().map(|update| (update.path.as_str(), update)).collect();
        let (mut faults, mut pairs, mut only_first) = (Vec::new(), Vec::new(), Vec::new());
        for update in &left {
            match by_path.get(update.path.as_str()) {
                None => only_first.push(update),
                Some(same) if same.sides == update.sides => pairs.push((update, *same)),
                Some(same) => faults.push(
                    Fault::new(format!(
                        "the sides of this module are {:?} in one adapter and {:?} in the other",
                        update.sides, same.sides
                    ))
                    .at(Place::Named(update.path.clone()))
                    .hint("the two were made for different base models and cannot be compared"),
                ),
            }
        }
        Faults::check(faults)?;
        let known: BTreeSet<&str> = left.iter().map(|update| update.path.as_str()).collect();
        let only_second: Vec<&Update> = right.iter().filter(|update| !known.contains(update.path.as_str())).collect();
        let differences: Vec<Difference> = pairs.par_iter().map(|(u, v)| Difference::new(Some(u), Some(v))).collect();
        let alone = (only_first.iter().map(|update| Difference::new(Some(update), None)))
            .chain(only_second.iter().map(|update| Difference::new(None, Some(update))));
        let alone: Vec<Difference> = alone.collect();
        let magnitudes = pairs.iter().filter_map(|(u, v)| u.magnitudes_apart(v));
        let magnitudes = magnitudes.reduce(|[a, b], [c, d]| [a + c, b + d]);
        let paths = |updates: &[&Update]| updates.iter().map(|update| update.path.clone()).collect();
        Ok(Self {
            first: first.into(),
            second: second.into(),
            config: changed(&one.config.to_json(), &other.config.to_json()),
            only_first: paths(&only_first),
            only_second: paths(&only_second),
            modules: pairs.iter().zip(&differences).map(|((u, _), apart)| Apart::new(Some(u), apart)).collect(),
            all: Apart::new(None, &Difference::total(differences.iter().chain(&alone))),
            magnitudes: magnitudes.map(|[apart, own]| (apart / own).sqrt()),
        })
    }

    pub(super) fn show(&self, page: &mut Page) {
        page.line("first", &self.first);
        page.line("second", &self.second);
        page.lines("config", self.config.iter().map(|(key, both)| format!("`{key}`: {} -> {}", both[0], both[1])));
        if self.config.is_empty() {
            page.line("config", "the same");
        }
        page.line("first alone", named(&self.only_first));
        page.line("second alone", named(&self.only_second));
        if let Some(apart) = self.magnitudes {
            let apart = number(apart);
            page.line("magnitudes", format!("|m - m'| / |m| {apart} of all modules (DoRA); not in U and V"));
        }
        let rows = self.modules.iter().chain([&self.all]).map(Apart::row);
        page.table(&["module", "|U|", "|V|", "|U - V| / |U|", "cosine"], rows);
    }
}

/// The keys of the first configuration that have another value in the second.
fn changed(old: &Value, new: &Value) -> Map<String, Value> {
    let keys = old.as_object().into_iter().flatten().filter(|(key, value)| new[key.as_str()] != **value);
    keys.map(|(key, value)| (key.clone(), json!([value, new[key.as_str()]]))).collect()
}
