//! Several processes that train one model: who they are, and what they tell each other.
//!
//! A [`Group`] is handed down from the command to whatever has to agree with the other processes. One process by itself is a
//! group of one, which sends nothing and costs nothing; several are joined by MPI (feature `mpi`), which is opened only where
//! a launcher says that there are several ([`Launch`]).
//!
//! Every sum is taken in the order of the ranks and by one of them for each number, so that all hold the same bits. A process
//! that meets a fault tells the others, and one that is not heard of for [`Terms::limit`] is named, and ends them all.

mod launch;
#[cfg(feature = "mpi")]
mod mpi;
mod pace;
mod pieces;
#[cfg(any(feature = "mpi", test))]
mod waiting;

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use faults::Fault;

pub use launch::{Launch, Launcher};
pub use pace::{Pace, Slow};

/// What a group is opened with.
#[derive(Debug, Clone, Copy)]
pub struct Terms {
    /// For how long a process may say nothing while another waits for it, before it is held for lost.
    pub limit: Duration,
}

/// What it took to speak with the others since it was last asked for.
#[derive(Debug, Clone, Copy, Default, PartialEq)]
pub struct Spent {
    /// Seconds until the last of the others had come to the same place.
    pub waited: f64,
    /// Seconds from then until everything had arrived.
    pub sent: f64,
    /// Bytes that this process has sent.
    pub bytes: u64,
}

/// What joins processes: one message from each to each other.
trait Engine: Send {
    /// Gives `to[r]` to process r, and what each of them has given to this one; its own message comes back as it is.
    ///
    /// # Errors
    /// A process that is lost, or one that has told of a fault.
    fn exchange(&self, to: Vec<Vec<u8>>, spent: &mut Spent) -> Result<Vec<Vec<u8>>, Fault>;

    /// Tells the others of a fault, and waits a little for them to have heard. True when all have.
    fn tell_of_fault(&self, words: &str) -> bool;

    /// True when process `rank` has told of a fault.
    fn has_told(&self, rank: usize) -> bool;

    /// Ends all processes at once.
    fn abort(&self, code: i32) -> !;
}

/// The processes that train together, as one of them sees them. A clone is the same group.
#[derive(Clone)]
pub struct Group {
    rank: usize,
    local_rank: usize,
    /// The machine that each process runs on.
    hosts: Vec<String>,
    engine: Option<Arc<Mutex<dyn Engine>>>,
    spent: Arc<Mutex<Spent>>,
}

/// How a group parted over a fault.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Parted {
    /// All others have heard of it, and end by themselves.
    pub all_heard: bool,
    /// The first process has, and speaks for all.
    pub first_speaks: bool,
}

impl Group {
    /// One process by itself.
    pub fn single() -> Self {
        Self { rank: 0, local_rank: 0, hosts: vec![String::new()], engine: None, spent: Arc::default() }
    }

    /// The group that this process was started in, as its environment says: a single process unless a launcher has started
    /// several.
    ///
    /// # Errors
    /// An environment that contradicts itself, several processes in a program that was built without an engine, or several
    /// that the engine does not see.
    pub fn open(terms: Terms) -> Result<Self, Fault> {
        match Launch::of_environment()? {
            Some(launch) if launch.size > 1 => several(&launch, terms),
            _ => Ok(Self::single()),
        }
    }

    /// The number of this process, from 0.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The number of processes.
    pub fn size(&self) -> usize {
        self.hosts.len()
    }

    /// The number of this process among those of its machine, from 0.
    pub fn local_rank(&self) -> usize {
        self.local_rank
    }

    /// The process that writes and speaks.
    pub fn is_first(&self) -> bool {
        self.rank == 0
    }

    /// There are others.
    pub fn is_several(&self) -> bool {
        self.engine.is_some()
    }

    /// The units of work, of `count`, that this process takes: every [`Group::size`]-th, so that neighbours run at once.
    pub fn share(&self, count: usize) -> impl Iterator<Item = usize> + use<> {
        (self.rank..count).step_by(self.size())
    }

    /// A process in words.
    pub fn named(&self, rank: usize) -> String {
        named(rank, &self.hosts)
    }

    /// Adds up `values`, `[n]`, of all processes, in the order of their ranks: all hold the same bits.
    ///
    /// # Errors
    /// A process that is lost, or one that has told of a fault.
    pub fn all_reduce(&self, values: &mut [f32]) -> Result<(), Fault> {
        if !self.is_several() {
            return Ok(());
        }
        let pieces = pieces::ranges(values.len(), self.size());
        let bytes = |range: &std::ops::Range<usize>| bytemuck::cast_slice(&values[range.clone()]).to_vec();
        let found = self.exchange(pieces.iter().map(bytes).collect())?;
        let sum = pieces::sum(&found);
        for (range, sum) in pieces.iter().zip(self.all_gather(bytemuck::cast_slice(&sum))?) {
            values[range.clone()].copy_from_slice(&pieces::numbers(&sum));
        }
        Ok(())
    }

    /// What each process gives, in the order of their ranks.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn all_gather(&self, bytes: &[u8]) -> Result<Vec<Vec<u8>>, Fault> {
        self.exchange(vec![bytes.to_vec(); self.size()])
    }

    /// What process `from` gives; what the others give is passed over.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn broadcast(&self, from: usize, bytes: &[u8]) -> Result<Vec<u8>, Fault> {
        let own = if self.rank == from { bytes } else { &[] };
        Ok(self.all_gather(own)?.swap_remove(from))
    }

    /// Waits until all have come here.
    ///
    /// # Errors
    /// As [`Group::all_reduce`].
    pub fn barrier(&self) -> Result<(), Fault> {
        self.all_gather(&[]).map(drop)
    }

    /// What speaking with the others took since the last call.
    pub fn take_spent(&self) -> Spent {
        std::mem::take(&mut *held(&self.spent))
    }

    /// Tells the others that this process cannot go on, so that they end, too, and waits a little for them to have heard.
    pub fn part(&self, words: &str) -> Parted {
        let Some(engine) = &self.engine else { return Parted { all_heard: true, first_speaks: false } };
        let engine = held(engine);
        let all_heard = engine.tell_of_fault(words);
        Parted { all_heard, first_speaks: !self.is_first() && engine.has_told(0) }
    }

    /// Ends all processes of the group at once with an exit code; one by itself goes on.
    pub fn abort(&self, code: i32) {
        if let Some(engine) = &self.engine {
            held(engine).abort(code);
        }
    }

    fn exchange(&self, to: Vec<Vec<u8>>) -> Result<Vec<Vec<u8>>, Fault> {
        let Some(engine) = &self.engine else { return Ok(to) };
        held(engine).exchange(to, &mut held(&self.spent))
    }
}

/// What a lock holds, whatever became of the thread that held it last.
fn held<T: ?Sized>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// A process in words: its rank, and where it runs.
fn named(rank: usize, hosts: &[String]) -> String {
    format!("rank {rank} of {} on {}", hosts.len(), hosts[rank])
}

#[cfg(feature = "mpi")]
fn several(launch: &Launch, terms: Terms) -> Result<Group, Fault> {
    let joined = mpi::Joined::open(launch, terms)?;
    let (rank, hosts) = (joined.rank(), joined.hosts().to_vec());
    let before = hosts[..rank].iter().filter(|host| **host == hosts[rank]).count();
    let local_rank = launch.local_rank.unwrap_or(before);
    Ok(Group { rank, local_rank, hosts, engine: Some(Arc::new(Mutex::new(joined))), spent: Arc::default() })
}

#[cfg(not(feature = "mpi"))]
fn several(launch: &Launch, _terms: Terms) -> Result<Group, Fault> {
    let Launch { size, by, .. } = launch;
    Err(Fault::new(format!("{} has started {size} processes, and this program has nothing that joins them", by.name()))
        .at(faults::Place::Named(by.variable().into()))
        .hint(
            "build it with `cargo build --release --locked --features mpi` and start it with `mpirun` or `srun`; or start one \
             process",
        ))
}
