//! What the processes of a group give each other: the gradient and the sums of a step, the numbers of an evaluation, and
//! whether they are still the same.

use std::sync::atomic::{AtomicBool, Ordering};

use backbone::values as read;
use burn::tensor::{Device, Tensor, TensorData};
use faults::{Fault, Place};
use group::{Group, Spent};
use losses::{Auxiliary, Objective};
use serde::Serialize;
use serde::de::DeserializeOwned;
use sha2::{Digest, Sha256};

use super::step::StepGradient;
use super::totals::Totals;
use crate::report::Numbers;

/// What the processes of a group tell each other along with the gradient of a step.
#[derive(Debug, Clone, Default)]
pub struct Told {
    /// The processes that somebody asked to end.
    pub asked_to_end: Vec<usize>,
    /// Seconds that each waited for the others, up to this step; of one process by itself there are none.
    pub waited: Vec<f64>,
    /// The time and the bytes that this process spent on exchanging it.
    pub spent: Spent,
}

/// Adds up the gradient of a step and all that was summed with it, over all processes; what `interrupted` says of one is
/// told to all. An `objective` that all of them have shown everything has no sums of its own.
///
/// # Errors
/// Another process that is lost, or has told of a fault.
pub fn add_up(
    group: &Group,
    interrupted: &AtomicBool,
    found: &mut StepGradient,
    mut objective: Option<&mut dyn Objective>,
    auxiliaries: &mut [Box<dyn Auxiliary>],
) -> Result<Told, Fault> {
    let asked = interrupted.load(Ordering::SeqCst);
    if !group.is_several() {
        let asked_to_end = asked.then_some(group.rank()).into_iter().collect();
        return Ok(Told { asked_to_end, ..Told::default() });
    }
    let device = found.gradient.device();
    let mut gradient = read(found.gradient.clone());
    group.all_reduce(&mut gradient)?;
    let length = gradient.len();
    found.gradient = Tensor::from_data(TensorData::new(gradient, [length]), &device);

    let spent = group.take_spent();
    let mut tail = Tail::default();
    tail.put([f64::from(u8::from(asked)), spent.waited]);
    tail.put(found.totals.numbers());
    for loss in &found.auxiliary_losses {
        let value = loss.clone().map_or(0.0, |loss| f64::from(read(loss)[0]));
        tail.put([f64::from(u8::from(loss.is_some())), value]);
    }
    let of_objective = objective.as_ref().map_or_else(Vec::new, |objective| objective.sums());
    let count_of_objective = of_objective.len();
    tail.put(of_objective);
    auxiliaries.iter().for_each(|auxiliary| tail.put(auxiliary.sums()));
    let tails = gathered(group, &tail.numbers)?;

    let mut all = Parts { tails: &tails, place: 0 };
    let [asked, waited] = all.next(2).try_into().expect("two");
    found.totals = Totals::from_numbers(&all.next(Totals::LENGTH), &device);
    for loss in &mut found.auxiliary_losses {
        let (count, value) = (sum(&all.next(1)[0]), sum(&all.next(1)[0]));
        *loss = (count > 0.0).then(|| number(value, &device));
    }
    let of_objective = all.sums(count_of_objective);
    if let Some(objective) = &mut objective {
        objective.set_sums(&of_objective);
    }
    for auxiliary in auxiliaries {
        let count = auxiliary.sums().len();
        auxiliary.set_sums(&all.sums(count));
    }
    let asked_to_end = asked.iter().enumerate().filter(|(_, asked)| **asked > 0.0).map(|(rank, _)| rank).collect();
    Ok(Told { asked_to_end, waited, spent })
}

/// The numbers that each process gives, of which all give as many or none, in the order of their ranks.
///
/// # Errors
/// Another process that is lost, or has told of a fault.
pub fn gathered(group: &Group, numbers: &[f64]) -> Result<Vec<Vec<f64>>, Fault> {
    let all = group.all_gather(bytemuck::cast_slice(numbers))?;
    Ok(all.iter().map(|bytes| bytes.chunks_exact(8).map(bytemuck::pod_read_unaligned).collect()).collect())
}

/// What all processes have of `count` units of work, in the order of the units, where each has what [`Group::share`] gives
/// it.
///
/// # Errors
/// Another process that is lost, or has told of a fault.
pub fn in_order<T: Serialize + DeserializeOwned>(group: &Group, own: Vec<T>, count: usize) -> Result<Vec<T>, Fault> {
    if !group.is_several() {
        return Ok(own);
    }
    let given = group.all_gather(&serde_json::to_vec(&own).expect("plain data"))?;
    let read =
        |bytes: &Vec<u8>| serde_json::from_slice::<Vec<T>>(bytes).expect("what a process has written").into_iter();
    let mut parts: Vec<_> = given.iter().map(read).collect();
    Ok((0..count).map(|unit| parts[unit % group.size()].next().expect("a share of all units")).collect())
}

/// Named numbers in groups, as the first process has found them.
///
/// # Errors
/// Another process that is lost, or has told of a fault.
pub fn from_first(group: &Group, found: Vec<(String, Numbers)>) -> Result<Vec<(String, Numbers)>, Fault> {
    // By their bits: JSON has no word for what is not finite.
    type Bits = Vec<(String, Vec<(String, u64)>)>;
    if !group.is_several() {
        return Ok(found);
    }
    let bits = |numbers: Numbers| numbers.into_iter().map(|(name, value)| (name, value.to_bits())).collect();
    let found: Bits = found.into_iter().map(|(name, numbers)| (name, bits(numbers))).collect();
    let bytes = group.broadcast(0, &serde_json::to_vec(&found).expect("plain data"))?;
    let given: Bits = serde_json::from_slice(&bytes).expect("what the first process has written");
    let numbers =
        |bits: Vec<(String, u64)>| bits.into_iter().map(|(name, bits)| (name, f64::from_bits(bits))).collect();
    Ok(given.into_iter().map(|(name, bits)| (name, numbers(bits))).collect())
}

/// Holds what the processes have become against each other: what is `trained`, which has the same bits in all.
///
/// # Errors
/// A process that has others than the first.
pub fn check_same(group: &Group, trained: impl Iterator<Item = Tensor<1>>, what: &str) -> Result<(), Fault> {
    if !group.is_several() {
        return Ok(());
    }
    let mut hash = Sha256::new();
    trained.for_each(|numbers| hash.update(bytemuck::cast_slice(&read(numbers))));
    let all = group.all_gather(&hash.finalize())?;
    match all.iter().position(|other| *other != all[0]) {
        None => Ok(()),
        Some(rank) => Err(Fault::new(format!("{what} of {} are no longer those of {}", group.named(rank), group.named(0)))
            .at(Place::Named(group.named(rank)))
            .hint(
                "all processes must compute alike: the same program on processors of one kind (or `KERNELS_LIMIT=avx2` for all); \
                 where they do, test that machine's memory",
            )),
    }
}

/// The numbers that one process sends.
#[derive(Default)]
struct Tail {
    numbers: Vec<f64>,
}

impl Tail {
    fn put(&mut self, numbers: impl IntoIterator<Item = f64>) {
        self.numbers.extend(numbers);
    }
}

/// Reads the tails of all processes, number by number.
struct Parts<'a> {
    tails: &'a [Vec<f64>],
    place: usize,
}

impl Parts<'_> {
    /// The next `count` numbers, each of all processes.
    fn next(&mut self, count: usize) -> Vec<Vec<f64>> {
        let start = self.place;
        self.place += count;
        (start..self.place).map(|place| self.tails.iter().map(|tail| tail[place]).collect()).collect()
    }

    /// The next `count` numbers, added up.
    fn sums(&mut self, count: usize) -> Vec<f64> {
        self.next(count).iter().map(|numbers| sum(numbers)).collect()
    }
}

/// In the order of the ranks.
fn sum(numbers: &[f64]) -> f64 {
    numbers.iter().sum()
}

fn number(value: f64, device: &Device) -> Tensor<1> {
    Tensor::from_data(TensorData::new(vec![value as f32], [1]), device)
}
