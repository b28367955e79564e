//! What a checkpoint holds beside the weights, and how a run takes it back.

use std::collections::BTreeMap;

use backbone::{Identity, values as read};
use burn::tensor::{DType, Device, Tensor, TensorData};
use checkpoints::{Checkpoint, Dtype, StoredTensor};
use faults::{Fault, Place};
use losses::{Objective, State};
use serde::{Deserialize, Serialize};

use super::optimizer::Moments;
use super::parameters::Layout;
use super::trainee::Trainee;

/// `state.json`: where the run stands.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct RunState {
    /// Optimizer steps done.
    pub step: usize,
    /// Steps skipped because a loss or gradient was not finite.
    pub skipped: usize,
    /// Step of the best evaluation so far, and the number that it is the best by.
    pub best: Option<(usize, f64)>,
    /// Evaluations since then.
    #[serde(default, skip_serializing_if = "is_zero")]
    pub evaluations_since_best: usize,
    /// Loss of this pass through the prompts so far, summed over them; 0 where there are none.
    #[serde(default)]
    pub pass_loss: f64,
    /// The objective ended the run before its last step.
    #[serde(default)]
    pub stopped_early: bool,
    /// Fingerprint of the training rows.
    pub train_fingerprint: String,
    /// Fingerprint of the evaluation rows.
    pub eval_fingerprint: Option<String>,
    /// What the base is; `None` for a model built from scratch, and in states of before it was kept.
    #[serde(default)]
    pub base: Option<Identity>,
    /// For each auxiliary loss, the fingerprint of the sentence encoder that it needs.
    #[serde(default)]
    pub encoders: Vec<Option<String>>,
    /// The moment that the chat template is given as now, fixed when the run starts; `None` where no template asks for it.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub moment: Option<String>,
    /// The processes that shared the steps.
    #[serde(default = "one", skip_serializing_if = "is_one")]
    pub processes: usize,
    /// The resolved recipe, as TOML.
    pub recipe: String,
    /// Version of this program.
    pub version: String,
}

/// A state is written as older versions did where the number says nothing.
fn is_zero(count: &usize) -> bool {
    *count == 0
}

/// A state does not say it of a process by itself.
fn is_one(count: &usize) -> bool {
    *count == 1
}

fn one() -> usize {
    1
}

impl RunState {
    /// Whether there were as many evaluations as `patience` without one that is the best.
    pub fn is_out_of_patience(&self, patience: Option<usize>) -> bool {
        patience.is_some_and(|patience| self.evaluations_since_best >= patience)
    }

    /// Where the run of a checkpoint stood.
    ///
    /// # Errors
    /// A `state.json` that is not one of this program.
    pub fn read(checkpoint: &Checkpoint) -> Result<Self, Fault> {
        serde_json::from_value(checkpoint.state()?).map_err(|error| {
            Fault::new(format!("`state.json` is not a state of this program: {error}"))
                .at(Place::file(&checkpoint.folder))
                .hint("the checkpoint was written by another version")
        })
    }
}

/// The optimizer's bias corrections among the tensors.
const CORRECTIONS: &str = "optimizer.corrections";

/// Everything of a run that is neither a weight of the adapter nor a number of [`RunState`].
pub fn save(
    layout: &Layout,
    values: &Tensor<1>,
    moments: &Moments,
    objective: &dyn Objective,
    trainee: &Trainee,
) -> BTreeMap<String, StoredTensor> {
    let mut tensors = BTreeMap::new();
    let (first, second, values) = (read(moments.first.clone()), read(moments.second.clone()), read(values.clone()));
    tensors.insert(CORRECTIONS.into(), StoredTensor::from_f32([2], &read(moments.corrections.clone())));
    for slot in &layout.slots {
        let range = slot.offset..slot.offset + slot.length;
        let mut put = |prefix: &str, all: &[f32]| {
            let tensor = StoredTensor::from_f32(slot.shape.clone(), &all[range.clone()]);
            tensors.insert(format!("{prefix}.{}", slot.name), tensor);
        };
        put("optimizer.first", &first);
        put("optimizer.second", &second);
        // The exact f32 values: the adapter's file holds the same, a bf16 backbone's does not.
        put("value", &values);
    }
    put_state(&mut tensors, "objective", objective.state().unwrap_or_default());
    for (index, auxiliary) in trainee.auxiliaries.iter().enumerate() {
        put_state(&mut tensors, &format!("auxiliary.{index}.state"), auxiliary.state());
    }
    tensors
}

/// Takes back what [`save`] gave: the flat values and the moments.
///
/// # Errors
/// A tensor that is missing or of another shape, or a state that the objective refuses.
pub fn restore(
    mut tensors: BTreeMap<String, StoredTensor>,
    layout: &Layout,
    objective: &mut dyn Objective,
    trainee: &mut Trainee,
) -> Result<(Tensor<1>, Moments), Fault> {
    let device = trainee.decoder.device().clone();
    let mut flat = |prefix: &str| -> Result<Tensor<1>, Fault> {
        let mut all = Vec::with_capacity(layout.length());
        for slot in &layout.slots {
            let name = format!("{prefix}.{}", slot.name);
            let tensor = tensors.remove(&name).ok_or_else(|| misfit(&name, "is missing"))?;
            if tensor.shape != slot.shape {
                return Err(misfit(&name, &format!("has the shape {:?}, expected {:?}", tensor.shape, slot.shape)));
            }
            all.extend(tensor.to_f32()?);
        }
        Ok(vector(all, &device))
    };
    let (first, second, values) = (flat("optimizer.first")?, flat("optimizer.second")?, flat("value")?);
    let corrections = tensors.remove(CORRECTIONS).ok_or_else(|| misfit(CORRECTIONS, "is missing"))?;
    if corrections.shape != [2] {
        return Err(misfit(CORRECTIONS, &format!("has the shape {:?}, expected [2]", corrections.shape)));
    }
    let corrections = vector(corrections.to_f32()?, &device);
    objective.restore(take_state(&mut tensors, "objective")?)?;
    for (index, auxiliary) in trainee.auxiliaries.iter_mut().enumerate() {
        auxiliary.restore(take_state(&mut tensors, &format!("auxiliary.{index}.state"))?)?;
    }
    if let Some(name) = tensors.keys().next() {
        return Err(misfit(name, "belongs to nothing in this run"));
    }
    layout.scatter(&values, trainee);
    Ok((values, Moments { first, second, corrections, factors: None }))
}

fn misfit(name: &str, what: &str) -> Fault {
    Fault::new(format!("the training state does not fit this recipe: `{name}` {what}"))
        .at(Place::Named(name.into()))
        .hint("resume with the recipe the run was started with")
}

fn vector(values: Vec<f32>, device: &Device) -> Tensor<1> {
    let length = values.len();
    Tensor::from_data(TensorData::new(values, [length]), device)
}

fn put_state(tensors: &mut BTreeMap<String, StoredTensor>, prefix: &str, state: State) {
    for (key, data) in state {
        let dtype = match data.dtype() {
            DType::F32 => Dtype::F32,
            DType::F64 => Dtype::F64,
            DType::I64 => Dtype::I64,
            DType::I32 => Dtype::I32,
            DType::U8 => Dtype::U8,
            other => unreachable!("a state of type {other:?} has no place on disk"),
        };
        let stored = StoredTensor { dtype, shape: data.shape().to_vec(), bytes: data.bytes().to_vec() };
        tensors.insert(format!("{prefix}.{key}"), stored);
    }
}

fn take_state(tensors: &mut BTreeMap<String, StoredTensor>, prefix: &str) -> Result<State, Fault> {
    let prefix = format!("{prefix}.");
    let names: Vec<String> = tensors.keys().filter(|name| name.starts_with(&prefix)).cloned().collect();
    let mut state = State::new();
    for name in names {
        let tensor = tensors.remove(&name).expect("the name was just listed");
        let dtype = match tensor.dtype {
            Dtype::F32 => DType::F32,
            Dtype::F64 => DType::F64,
            Dtype::I64 => DType::I64,
            Dtype::I32 => DType::I32,
            Dtype::U8 => DType::U8,
            other => return Err(misfit(&name, &format!("has the type {other:?}"))),
        };
        let data = TensorData::from_bytes_vec(tensor.bytes, tensor.shape, dtype);
        state.insert(name[prefix.len()..].into(), data);
    }
    Ok(state)
}

#[cfg(test)]
mod tests {
    use rand::{Rng, SeedableRng};

    use super::*;

    /// As a checkpoint keeps it: as a value, as a text, and back.
    #[test]
    fn numbers_of_a_state_come_back_to_the_bit() {
        let mut random = rand_chacha::ChaCha8Rng::seed_from_u64(1);
        let mut numbers: Vec<f64> = (0..20_000).map(|_| f64::from_bits(random.random())).collect();
        numbers.extend((0..2_000).map(|_| f64::from_bits(random.random::<u64>() >> 12)));
        numbers.extend((0..2_000).map(|_| random.random::<f64>() * 5.0));
        numbers.extend([0.0, -0.0, 5e-324, f64::MIN_POSITIVE, f64::MAX, f64::MIN, 0.1]);
        numbers.retain(|number| number.is_finite());
        for pair in numbers.chunks_exact(2) {
            let state = RunState {
                step: usize::MAX >> 1,
                skipped: 0,
                best: Some((7, pair[0])),
                pass_loss: pair[1],
                stopped_early: false,
                evaluations_since_best: 0,
                train_fingerprint: "a".into(),
                eval_fingerprint: None,
                base: None,
                encoders: Vec::new(),
                moment: None,
                processes: 1,
                recipe: String::new(),
                version: String::new(),
            };
            let text = serde_json::to_vec_pretty(&serde_json::to_value(&state).expect("plain data")).expect("JSON");
            let value: serde_json::Value = serde_json::from_slice(&text).expect("JSON");
            let read: RunState = serde_json::from_value(value).expect("a state");
            let bits =
                |state: &RunState| (state.best.map(|(step, loss)| (step, loss.to_bits())), state.pass_loss.to_bits());
            assert_eq!(bits(&read), bits(&state));
            assert_eq!(read.step, state.step);
        }
    }
}
