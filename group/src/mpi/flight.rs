//! Messages on their way. MPI reads and writes their bytes while this program goes on: they stay where they are until it is
//! done with them, and for good where it never is.

use std::mem;

use mpi::request::{Request, StaticScope};
use mpi::topology::Process;
use mpi::traits::*;

use super::DATA;

/// The bytes that go as one: MPI counts them by a C int.
const BLOCK: usize = 1 << 26;

/// A message that is under way, or was.
pub struct Flight {
    request: Option<Request<'static, [u8], StaticScope>>,
    bytes: *mut [u8],
}

impl Flight {
    /// Sends `bytes` to a process.
    pub fn sending(to: &Process<'_>, bytes: Box<[u8]>, tag: i32) -> Self {
        let bytes = Box::into_raw(bytes);
        // SAFETY: the bytes are given free by `take` and `drop` alone, after MPI is done with them.
        let request = to.immediate_send_with_tag(StaticScope, unsafe { &*bytes }, tag);
        Self { request: Some(request), bytes }
    }

    /// Receives `length` bytes from a process.
    pub fn receiving(from: &Process<'_>, length: usize, tag: i32) -> Self {
        let bytes = Box::into_raw(vec![0u8; length].into_boxed_slice());
        // SAFETY: as above; nothing else looks at the bytes before.
        let request = from.immediate_receive_into_with_tag(StaticScope, unsafe { &mut *bytes }, tag);
        Self { request: Some(request), bytes }
    }

    /// MPI is done with it.
    pub fn has_landed(&mut self) -> bool {
        if let Some(request) = self.request.take() {
            self.request = request.test().err();
        }
        self.request.is_none()
    }

    /// The bytes of a message that has landed.
    fn take(self) -> Box<[u8]> {
        assert!(self.request.is_none(), "MPI still writes these bytes");
        let bytes = self.bytes;
        mem::forget(self);
        // SAFETY: they come from a box, and MPI has no part in them any more.
        unsafe { Box::from_raw(bytes) }
    }
}

impl Drop for Flight {
    fn drop(&mut self) {
        match self.request.take() {
            // The program ends over a fault: MPI may still use the bytes.
            Some(request) => mem::forget(request),
            // SAFETY: as in `take`.
            None => drop(unsafe { Box::from_raw(self.bytes) }),
        }
    }
}

/// What goes to one process in an exchange: a head of two numbers, the exchange's and the length, and the bytes in blocks.
pub struct Leaving(Vec<Flight>);

impl Leaving {
    /// Sends `bytes` in exchange `number`.
    pub fn of(to: &Process<'_>, number: u64, bytes: Vec<u8>) -> Self {
        let head = [number.to_le_bytes(), (bytes.len() as u64).to_le_bytes()].concat();
        let mut flights = vec![Flight::sending(to, head.into_boxed_slice(), DATA)];
        if bytes.len() <= BLOCK {
            if !bytes.is_empty() {
                flights.push(Flight::sending(to, bytes.into_boxed_slice(), DATA));
            }
        } else {
            flights.extend(bytes.chunks(BLOCK).map(|block| Flight::sending(to, block.into(), DATA)));
        }
        Self(flights)
    }

    /// MPI is done with all of it.
    pub fn has_left(&mut self) -> bool {
        self.0.iter_mut().all(Flight::has_landed)
    }
}

/// What comes from one process in an exchange.
pub struct Arriving {
    /// From whom.
    pub rank: usize,
    number: u64,
    head: Option<Flight>,
    blocks: Vec<Flight>,
    is_here: bool,
}

impl Arriving {
    /// What process `rank` sends in exchange `number`.
    pub fn from(process: &Process<'_>, rank: usize, number: u64) -> Self {
        let head = Some(Flight::receiving(process, 16, DATA));
        Self { rank, number, head, blocks: Vec::new(), is_here: false }
    }

    /// The process has come to this exchange.
    pub fn has_come(&self) -> bool {
        self.head.is_none()
    }

    /// All of it is here, as was last seen.
    pub fn is_here(&self) -> bool {
        self.is_here
    }

    /// Looks whether all of it is here.
    pub fn has_arrived(&mut self, process: &Process<'_>) -> bool {
        if self.head.as_mut().is_some_and(Flight::has_landed) {
            let head = self.head.take().expect("it has just landed").take();
            let part = |place: usize| u64::from_le_bytes(head[place..place + 8].try_into().expect("eight bytes"));
            assert_eq!(part(0), self.number, "process {} is at another exchange", self.rank);
            let length = part(8) as usize;
            let blocks = (0..length).step_by(BLOCK).map(|start| BLOCK.min(length - start));
            self.blocks = blocks.map(|length| Flight::receiving(process, length, DATA)).collect();
        }
        self.is_here = self.head.is_none() && self.blocks.iter_mut().all(Flight::has_landed);
        self.is_here
    }

    /// The bytes, all of which are here.
    pub fn take(mut self) -> Vec<u8> {
        match self.blocks.len() {
            1 => self.blocks.remove(0).take().into_vec(),
            _ => self.blocks.drain(..).flat_map(|block| block.take().into_vec()).collect(),
        }
    }
}
