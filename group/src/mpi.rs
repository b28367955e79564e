//! Processes that MPI joins.
//!
//! Everything is point to point and never blocks, because a collective of MPI waits for ever and does not say for whom: a
//! process that waits knows who is missing, hears whether the others wait as well, and can name who is lost.

mod flight;

use std::cell::RefCell;
use std::mem::ManuallyDrop;
use std::time::{Duration, Instant};

use faults::{Fault, Place};
use mpi::Threading;
use mpi::environment::Universe;
use mpi::point_to_point::MatchedReceiveVec;
use mpi::topology::{Communicator, Process, SimpleCommunicator};
use mpi::traits::*;

use crate::waiting::lost;
use crate::{Engine, Launch, Spent, Terms, named};
use flight::{Arriving, Flight, Leaving};

/// What is exchanged.
const DATA: i32 = 1;
/// What is said beside it: that one waits, or that one has met a fault.
const BESIDE: i32 = 2;

const WAITS: u8 = b'w';
const FAULT: u8 = b'f';

/// How often a process that waits says so.
const EVERY: Duration = Duration::from_secs(1);

/// Words of a fault are cut to this, so that they are sent without being waited for.
const LONGEST_WORDS: usize = 2000;

/// For how long a process that has met a fault waits for the others to have heard of it.
const GRACE: Duration = Duration::from_secs(5);

/// For how long one looks for messages without a pause: what comes within a step of a small model comes sooner.
const BUSY: Duration = Duration::from_micros(500);
/// The pause after that.
const PAUSE: Duration = Duration::from_micros(50);

/// The world of MPI's processes.
pub struct Joined {
    /// Leaving it waits for the others; it is left in [`Drop`] alone.
    universe: ManuallyDrop<Universe>,
    world: SimpleCommunicator,
    rank: usize,
    hosts: Vec<String>,
    limit: Duration,
    said: RefCell<Said>,
}

// SAFETY: MPI was asked for calls of any thread, one at a time (`Threading::Serialized`), and a lock around it sees to that. The
// bytes of messages on their way belong to it alone.
unsafe impl Send for Joined {}

/// What has been said beside the exchanges.
struct Said {
    /// Exchanges so far.
    exchanges: u64,
    /// When each process last said that it waits.
    waits: Vec<Option<Instant>>,
    /// What each process has met.
    faults: Vec<Option<String>>,
    /// What this one says, on its way.
    own: Vec<Flight>,
}

impl Joined {
    /// Joins the processes that `launch` speaks of.
    ///
    /// # Errors
    /// MPI that sees other processes than the launcher has started.
    pub fn open(launch: &Launch, terms: Terms) -> Result<Self, Fault> {
        let opened = mpi::initialize_with_threading(Threading::Serialized);
        let (universe, threading) = opened.expect("a group is opened once");
        if threading < Threading::Serialized {
            return Err(Fault::new("this MPI can be used by one thread alone")
                .at(Place::Named("MPI".into()))
                .hint("take one that was built with threads, as Open MPI and MPICH are unless said otherwise"));
        }
        let world = universe.world();
        let (rank, size) = (world.rank() as usize, world.size() as usize);
        if size != launch.size {
            return Err(unseen(launch, size));
        }
        let nothing = || (0..size).map(|_| None).collect();
        let said = Said { exchanges: 0, waits: nothing(), faults: (0..size).map(|_| None).collect(), own: Vec::new() };
        // Until they are known, the processes have no names.
        let hosts = vec![String::new(); size];
        let mut joined = Self {
            universe: ManuallyDrop::new(universe),
            world,
            rank,
            hosts,
            limit: terms.limit,
            said: RefCell::new(said),
        };
        let own = mpi::environment::processor_name().unwrap_or_default();
        let hosts = joined.exchange(vec![own.into_bytes(); size], &mut Spent::default())?;
        joined.hosts = hosts.iter().map(|host| String::from_utf8_lossy(host).into_owned()).collect();
        Ok(joined)
    }

    /// The number of this process.
    pub fn rank(&self) -> usize {
        self.rank
    }

    /// The machine of each process.
    pub fn hosts(&self) -> &[String] {
        &self.hosts
    }

    fn others(&self) -> impl Iterator<Item = usize> + use<> {
        let own = self.rank;
        (0..self.hosts.len()).filter(move |rank| *rank != own)
    }

    fn process(&self, rank: usize) -> Process<'_> {
        self.world.process_at_rank(rank as i32)
    }

    /// Says something to all others beside the exchanges, without waiting for them to hear it.
    fn say(&self, kind: u8, words: &str) {
        let mut end = words.len().min(LONGEST_WORDS);
        while !words.is_char_boundary(end) {
            end -= 1;
        }
        let message = [&[kind], &words.as_bytes()[..end]].concat();
        let mut said = self.said.borrow_mut();
        said.own.retain_mut(|flight| !flight.has_landed());
        for rank in self.others() {
            said.own.push(Flight::sending(&self.process(rank), message.clone().into_boxed_slice(), BESIDE));
        }
    }

    /// Takes in what the others have said.
    fn hear(&self) {
        while let Some(message) = self.world.any_process().immediate_matched_probe_with_tag(BESIDE) {
            let (bytes, status) = message.matched_receive_vec::<u8>();
            let rank = status.source_rank() as usize;
            let mut said = self.said.borrow_mut();
            match bytes.split_first() {
                Some((&FAULT, words)) => said.faults[rank] = Some(String::from_utf8_lossy(words).into_owned()),
                _ => said.waits[rank] = Some(Instant::now()),
            }
        }
    }

    /// # Errors
    /// Another process has told of a fault.
    fn check_others(&self) -> Result<(), Fault> {
        let said = self.said.borrow();
        let told = said.faults.iter().enumerate().find_map(|(rank, words)| Some((rank, words.as_ref()?)));
        match told {
            Some((rank, words)) => Err(Fault::new(words.clone()).at(Place::Named(named(rank, &self.hosts)))),
            None => Ok(()),
        }
    }

    /// # Errors
    /// A process that is lost.
    fn check_time(&self, arriving: &[Arriving], since: Instant) -> Result<(), Fault> {
        let missing: Vec<usize> = arriving.iter().filter(|one| !one.is_here()).map(|one| one.rank).collect();
        let said = self.said.borrow();
        let Some(lost) = lost(&missing, &said.waits, since, Instant::now(), self.limit) else { return Ok(()) };
        let names: Vec<String> = lost.iter().map(|rank| named(*rank, &self.hosts)).collect();
        Err(Fault::new(format!("nothing has come from {} for {} s", names.join(", "), self.limit.as_secs()))
            .at(Place::Named(named(self.rank, &self.hosts)))
            .hint(
                "it has died, hangs, or is slower than `--wait-limit` allows: look at its machine, and go on from the last \
                 checkpoint with `--resume`",
            ))
    }
}

/// Several processes that MPI does not know of.
fn unseen(launch: &Launch, size: usize) -> Fault {
    let Launch { size: started, by, .. } = launch;
    Fault::new(format!("{} has started {started} processes, and MPI sees {size}", by.name()))
        .at(Place::Named(by.variable().into()))
        .hint("what joins them is MPI: start the program with `mpirun -n N` or `srun --mpi=pmix` of the MPI it was built with")
}

impl Engine for Joined {
    fn exchange(&self, mut to: Vec<Vec<u8>>, spent: &mut Spent) -> Result<Vec<Vec<u8>>, Fault> {
        let number = {
            let mut said = self.said.borrow_mut();
            said.exchanges += 1;
            said.exchanges
        };
        let since = Instant::now();
        let (mut leaving, mut arriving) = (Vec::new(), Vec::new());
        for rank in self.others() {
            let bytes = std::mem::take(&mut to[rank]);
            spent.bytes += bytes.len() as u64;
            leaving.push(Leaving::of(&self.process(rank), number, bytes));
            arriving.push(Arriving::from(&self.process(rank), rank, number));
        }
        let (mut met, mut told) = (None, since);
        loop {
            let mut is_done = true;
            for one in &mut arriving {
                is_done &= one.has_arrived(&self.process(one.rank));
            }
            for one in &mut leaving {
                is_done &= one.has_left();
            }
            if met.is_none() && arriving.iter().all(Arriving::has_come) {
                met = Some(Instant::now());
            }
            if is_done {
                break;
            }
            self.hear();
            self.check_others()?;
            let waiting = since.elapsed();
            if told.elapsed() >= EVERY {
                told = Instant::now();
                self.say(WAITS, "");
            }
            if waiting >= self.limit {
                self.check_time(&arriving, since)?;
            }
            if waiting < BUSY { std::thread::yield_now() } else { std::thread::sleep(PAUSE) }
        }
        let met = met.unwrap_or_else(Instant::now);
        spent.waited += met.duration_since(since).as_secs_f64();
        spent.sent += met.elapsed().as_secs_f64();
        for one in arriving {
            let rank = one.rank;
            to[rank] = one.take();
        }
        Ok(to)
    }

    fn tell_of_fault(&self, words: &str) -> bool {
        self.say(FAULT, words);
        let since = Instant::now();
        loop {
            self.hear();
            let have_heard = {
                let mut said = self.said.borrow_mut();
                said.own.retain_mut(|flight| !flight.has_landed());
                said.own.is_empty() && self.others().all(|rank| said.faults[rank].is_some())
            };
            if have_heard || since.elapsed() >= GRACE {
                return have_heard;
            }
            std::thread::sleep(PAUSE);
        }
    }

    fn has_told(&self, rank: usize) -> bool {
        self.said.borrow().faults[rank].is_some()
    }

    fn abort(&self, code: i32) -> ! {
        self.world.abort(code)
    }
}

impl Drop for Joined {
    fn drop(&mut self) {
        // Leaving MPI in good order waits for the others, who wait for this one.
        if std::thread::panicking() {
            self.abort(2);
        }
        self.said.get_mut().own.clear();
        // SAFETY: it is not used after this.
        unsafe { ManuallyDrop::drop(&mut self.universe) }
    }
}
