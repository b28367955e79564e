//! A model's weights, and what its configuration says of them.

use std::collections::{BTreeMap, BTreeSet};

use backbone::ModelFiles;
use checkpoints::Weights;
use faults::Fault;
use serde::Serialize;

use super::architecture::Architecture;
use super::page::{Page, named, number};
use crate::inspection::Tensor;
use crate::plan::print::{bytes, count};

#[derive(Serialize)]
pub(super) struct ModelReport {
    /// `None` where there is no `config.json`, or one that cannot be trained here.
    #[serde(flatten)]
    architecture: Option<Architecture>,
    /// Why it cannot be trained here.
    #[serde(skip_serializing_if = "Option::is_none")]
    unknown: Option<String>,
    /// Numbers in all tensors.
    values: u64,
    /// Their size.
    bytes: u64,
    /// Numbers of each type.
    dtypes: BTreeMap<String, u64>,
    /// Tensors with values that are NaN or infinite.
    not_finite: Vec<String>,
    tensors: Vec<Tensor>,
}

impl ModelReport {
    /// # Errors
    /// Tensors that cannot be read. A configuration that cannot be: the weights are there to be looked at all the same.
    pub(super) fn new(files: Option<&ModelFiles>, weights: &Weights) -> Result<Self, Fault> {
        let (architecture, unknown) = match files.map(ModelFiles::config) {
            None => (None, None),
            Some(Ok(config)) => (Some(Architecture(config)), None),
            Some(Err(fault)) => (None, Some(fault.message)),
        };
        let tensors = Tensor::all(weights)?;
        let (mut dtypes, mut bytes) = (BTreeMap::new(), 0);
        for tensor in &tensors {
            *dtypes.entry(tensor.dtype.to_string()).or_default() += tensor.values();
            bytes += weights.bytes(&tensor.name)?.len() as u64;
        }
        let not_finite = tensors.iter().filter(|tensor| tensor.not_finite > 0).map(|tensor| tensor.name.clone());
        let (values, not_finite) = (tensors.iter().map(Tensor::values).sum(), not_finite.collect());
        Ok(Self { architecture, unknown, values, bytes, dtypes, not_finite, tensors })
    }

    pub(super) fn show(&self, page: &mut Page) {
        if let Some(architecture) = &self.architecture {
            architecture.show(page);
        }
        if let Some(why) = &self.unknown {
            page.line("model", format!("not one that can be trained here: {why}"));
        }
        let kinds: Vec<String> = self.dtypes.iter().map(|(dtype, n)| format!("{} {dtype}", count(*n))).collect();
        let weights = format!("{} tensors, {}, {}", self.tensors.len(), kinds.join(", "), bytes(self.bytes));
        page.line("weights", weights);
        page.line("not finite", named(&self.not_finite));
        let groups = self.tensors.chunk_by(|one, next| one.group() == next.group());
        page.table(&["part", "tensors", "values", "type", "norm"], groups.map(group));
        page.table(&["tensor", "shape", "type", "of them"], self.shapes());
    }

    /// A row for each shape of each tensor, those of all layers together.
    fn shapes(&self) -> impl Iterator<Item = Vec<String>> {
        let mut counted: Vec<([String; 3], usize)> = Vec::new();
        for tensor in &self.tensors {
            let name = match tensor.name.strip_prefix(tensor.group()).zip(tensor.group().rsplit_once('.')) {
                Some((rest, (stem, number))) if number.parse::<usize>().is_ok() => format!("{stem}.*{rest}"),
                _ => tensor.name.clone(),
            };
            let row = [name, format!("{:?}", tensor.shape), tensor.dtype.to_string()];
            match counted.iter_mut().find(|(known, _)| *known == row) {
                Some((_, count)) => *count += 1,
                None => counted.push((row, 1)),
            }
        }
        counted.into_iter().map(|(row, count)| row.into_iter().chain([count.to_string()]).collect())
    }
}

/// The row of a layer, or of a tensor beside them.
fn group(tensors: &[Tensor]) -> Vec<String> {
    let types: BTreeSet<String> = tensors.iter().map(|tensor| tensor.dtype.to_string()).collect();
    let squares: Option<f64> = tensors.iter().map(|tensor| tensor.norm.map(|norm| norm * norm)).sum();
    vec![
        tensors[0].group().into(),
        tensors.len().to_string(),
        count(tensors.iter().map(Tensor::values).sum()),
        types.into_iter().collect::<Vec<_>>().join(" "),
        squares.map_or("-".into(), |squares| number(squares.sqrt())),
    ]
}
