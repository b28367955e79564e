//! Causal attention with grouped queries, rotary encoding and an optional window, forward and backward, in blocks of
//! queries: no tensor grows with the square of the positions (Dao et al. 2022, arXiv 2205.14135; here a block of queries
//! sees all its keys at once, because a row of scores fits a processor's cache).
//!
//! Queries, keys and values come side by side as their projection leaves them; the rotary encoding (rotate-half layout,
//! Su et al. 2021, arXiv 2104.09864) is applied while they are read, and taken back while gradients are written.

mod rotation;
mod rows;
mod seen;

use std::ops::Range;

use rayon::prelude::*;

use crate::element::Element;
use crate::parallel::{Build, Shared};
use crate::product::{LeftSide, RightSide, Segment, Start, Target, sum_here};

use rotation::{Rotation, Turn};
use rows::{cap_row, cap_slopes, dot, slope_row, softmax_row};
pub use seen::AttentionTree;
use seen::{Head, Seen};

/// Queries of a block: whole register tiles.
const BLOCK: usize = 48;

/// The sizes and switches of one attention.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct AttentionShape {
    /// Sequences.
    pub batch: usize,
    /// Positions of a sequence.
    pub positions: usize,
    /// Query heads.
    pub heads: usize,
    /// Key and value heads; divides the number of query heads.
    pub key_heads: usize,
    /// Width of a head, even.
    pub head_dim: usize,
    /// How many values of a head, even and its first, the rotary encoding turns.
    pub rotary: usize,
    /// How many positions back a query sees, itself included; `None` sees all.
    pub window: Option<usize>,
    /// Factor of the products of queries and keys.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub cap: Option<f32>,
}

impl AttentionShape {
    /// Whole heads that are turned and see all positions before them, with the scale `1 / sqrt(head_dim)`; of no
    /// sequence yet.
    pub fn new(heads: usize, key_heads: usize, head_dim: usize) -> Self {
        let scale = 1.0 / (head_dim as f32).sqrt();
        Self { batch: 0, positions: 0, heads, key_heads, head_dim, rotary: head_dim, window: None, scale, cap: None }
    }

    /// Values of queries, keys and values of one position.
    fn width(&self) -> usize {
        (self.heads + 2 * self.key_heads) * self.head_dim
    }

    fn check<E>(&self, qkv: &[E], cosine: &[f32], sine: &[f32]) {
        assert!(self.key_heads > 0 && self.heads.is_multiple_of(self.key_heads), "heads share keys evenly");
        assert!(self.rotary.is_multiple_of(2) && self.rotary <= self.head_dim, "rotary encoding turns pairs");
        assert_eq!(qkv.len(), self.batch * self.positions * self.width(), "queries, keys and values of another shape");
        let table = self.positions * self.rotary / 2;
        assert!(cosine.len() == table && sine.len() == table, "rotary tables of another shape");
        assert!(self.window != Some(0), "a window holds the position itself");
    }

    /// The keys that any query of a block sees.
    fn seen(&self, queries: &Range<usize>, tree: Option<&AttentionTree>) -> Seen {
        let first = self.first_key(queries.start);
        match tree.map(|tree| tree.places(queries)) {
            Some(places) => Seen { first: 0, count: places.len(), places: Some(places) },
            None => Seen { first, count: queries.end - first, places: None },
        }
    }

    /// The part of the seen keys that a query of a block may see.
    fn part(&self, seen: &Seen, block: &Range<usize>, query: usize) -> Range<usize> {
        let after = block.end - query - 1;
        let first = if seen.places.is_some() { 0 } else { self.first_key(query) - seen.first };
        first..seen.count - after
    }

    fn first_key(&self, query: usize) -> usize {
        self.window.map_or(0, |window| (query + 1).saturating_sub(window))
    }

    fn blocks(&self) -> impl Iterator<Item = Range<usize>> {
        let positions = self.positions;
        (0..positions).step_by(BLOCK).map(move |first| first..(first + BLOCK).min(positions))
    }
}

/// The score of a hidden key: its exponential is 0.
const HIDDEN: f32 = -1e30;

/// `out (+)= left right` on this thread: left by rows and steps of its strides, of which one is 1, right by rows of its
/// stride.
///
/// # Safety
/// All pointers are valid for the shape; `out` is nobody else's.
unsafe fn multiply(
    [rows, columns, steps]: [usize; 3],
    (left, row_stride, left_stride): (*const f32, usize, usize),
    (right, right_stride): (*const f32, usize),
    (out, out_stride): (*mut f32, usize),
    add: bool,
) {
    let left = match left_stride {
        1 => LeftSide::Rows(left.cast(), row_stride),
        _ => LeftSide::Steps(left, left_stride),
    };
    let segment = Segment { left, right: RightSide::Rows(right, right_stride), steps, pairs: false };
    let target = Target { pointer: Shared::new(out), stride: out_stride };
    let start = if add { Start { pointer: out, stride: out_stride } } else { Start::ZERO };
    // SAFETY: as the caller promises.
    unsafe { sum_here(segment, rows, columns, start, target) }
}

/// Attention of `qkv`, `[batch, positions, (heads + 2 * key_heads) * head_dim]` (queries, then keys, then values), with
/// rotary tables `[positions, rotary / 2]`.
///
/// Gives the outputs `[batch, positions, heads * head_dim]` and the log of the sum of each query's exponentials,
/// `[batch, heads, positions]`, that the way back needs. With a tree, the same for all sequences, a query sees what it
/// follows there, and the work grows with the depth of the places, not with their number.
pub fn attention<E: Element>(
    shape: AttentionShape,
    tree: Option<&AttentionTree>,
    qkv: &[E],
    cosine: &[f32],
    sine: &[f32],
) -> (Vec<E>, Vec<f32>) {
    shape.check(qkv, cosine, sine);
    tree.inspect(|tree| tree.check(shape.positions));
    let AttentionShape { batch, positions, heads, key_heads, head_dim, rotary, window, scale, cap, .. } = shape;
    let (width, out_width) = (shape.width(), heads * head_dim);
    let rotation = Rotation { cosine, sine, half: rotary / 2, rest: head_dim - rotary };
    let build = Build::new(batch * positions * out_width);
    let log_sums = Build::<f32>::new(batch * heads * positions);
    (0..batch * heads).into_par_iter().for_each(|task| {
        let (row, head) = (task / heads, task % heads);
        let key_head = head / (heads / key_heads);
        let base = row * positions * width;
        let head_at = |index: usize, position: usize| qkv[base + position * width + index * head_dim..].as_ptr();
        let mut keys = vec![0.0; positions * head_dim];
        let mut values = vec![0.0; positions * head_dim];
        let mut queries = vec![0.0; BLOCK * head_dim];
        let mut scores = vec![0.0; BLOCK * positions];
        let mut outputs = vec![0.0; BLOCK * head_dim];
        // SAFETY: heads lie inside of `qkv` as its length was checked; scratch has the shapes used below; each task
        // writes the outputs of its own head.
        unsafe {
            let (key, value) = (head_at(heads + key_head, 0), head_at(heads + key_heads + key_head, 0));
            rotation.rows(Turn::Forward, 1.0, 0..positions, (key, width), (keys.as_mut_ptr(), head_dim));
            rotation.rows(Turn::None, 1.0, 0..positions, (value, width), (values.as_mut_ptr(), head_dim));
            let (keys, values) = (Head::new(keys, positions, head_dim), Head::new(values, positions, head_dim));
            for block in shape.blocks() {
                let (count, seen) = (block.len(), shape.seen(&block, tree));
                let picked = seen.pick(&keys, &values);
                let (keys, values) = picked.as_ref().map_or((&keys, &values), |(keys, values)| (keys, values));
                let from = (head_at(head, block.start), width);
                rotation.rows(Turn::Forward, scale, block.clone(), from, (queries.as_mut_ptr(), head_dim));
                multiply(
                    [count, seen.count, head_dim],
                    (queries.as_ptr(), head_dim, 1),
                    keys.columns(seen.first),
                    (scores.as_mut_ptr(), positions),
                    false,
                );
                let mut sums = [0.0; BLOCK];
                for (query, position) in block.clone().enumerate() {
                    let Range { start: first, end: last } = shape.part(&seen, &block, position);
                    let scores = &mut scores[query * positions..][..seen.count];
                    if let Some(cap) = cap {
                        cap_row(scores[first..].as_mut_ptr(), last - first, cap);
                    }
                    seen.hide(scores, tree, position, window, HIDDEN);
                    let (largest, sum) = softmax_row(scores.as_mut_ptr(), first, last, seen.count);
                    seen.hide(scores, tree, position, window, 0.0);
                    sums[query] = sum;
                    let place = (row * heads + head) * positions + position;
                    log_sums.at(place).write(largest + sum.ln());
                }
                multiply(
                    [count, head_dim, seen.count],
                    (scores.as_ptr(), positions, 1),
                    values.rows(seen.first),
                    (outputs.as_mut_ptr(), head_dim),
                    false,
                );
                for (query, position) in block.enumerate() {
                    let to = build.at((row * positions + position) * out_width + head * head_dim);
                    let from = (outputs.as_ptr().add(query * head_dim), head_dim);
                    let position = position..position + 1;
                    rotation.rows(Turn::None, 1.0 / sums[query], position, from, (to, head_dim));
                }
            }
        }
    });
    // SAFETY: every head wrote all its positions.
    unsafe { (build.finish(), log_sums.finish()) }
}

/// The gradient of `qkv` from that of the outputs, with what [`attention`] was given and gave.
#[allow(clippy::too_many_arguments, reason = "what the way forward was given and gave")]
pub fn attention_backward<E: Element, G: Element>(
    shape: AttentionShape,
    tree: Option<&AttentionTree>,
    qkv: &[E],
    cosine: &[f32],
    sine: &[f32],
    outputs: &[E],
    log_sums: &[f32],
    gradient: &[G],
) -> Vec<E> {
    shape.check(qkv, cosine, sine);
    tree.inspect(|tree| tree.check(shape.positions));
    let AttentionShape { batch, positions, heads, key_heads, head_dim, rotary, .. } = shape;
    assert!(
        outputs.len() == batch * positions * heads * head_dim && gradient.len() == outputs.len(),
        "outputs that fit"
    );
    assert_eq!(log_sums.len(), batch * heads * positions, "one sum a query");
    let rotation = Rotation { cosine, sine, half: rotary / 2, rest: head_dim - rotary };
    let way = WayBack { shape, tree, qkv, rotation, outputs, log_sums, gradient };
    let build = Build::<E>::new(qkv.len());
    // Gradients of keys and values for each query head; those that share a key are added up afterwards, in order.
    // SAFETY: each task writes the gradients of its own queries, and the shapes were checked.
    let head = |task| unsafe { way.head(task, &build) };
    let shares: Vec<(Vec<f32>, Vec<f32>)> = (0..batch * heads).into_par_iter().map(head).collect();
    // SAFETY: each task writes the gradients of its own key head.
    let meet = |task| unsafe { way.meet(task, &shares, &build) };
    (0..batch * key_heads).into_par_iter().for_each(meet);
    // SAFETY: queries, keys and values of all heads were written.
    unsafe { build.finish() }
}

/// The inputs of the backward pass.
struct WayBack<'a, E, G> {
    shape: AttentionShape,
    tree: Option<&'a AttentionTree>,
    qkv: &'a [E],
    rotation: Rotation<'a>,
    outputs: &'a [E],
    log_sums: &'a [f32],
    gradient: &'a [G],
}

/// Room for a block of queries of one head.
struct Room {
    /// The queries, turned and scaled, and the gradients of their outputs, `[block, head_dim]`.
    queries: Vec<f32>,
    given: Vec<f32>,
    /// Scores that become weights, and their gradients, `[block, positions]`.
    scores: Vec<f32>,
    slopes: Vec<f32>,
    /// A row of capped scores, where there is a cap.
    capped: Vec<f32>,
    /// `[block, head_dim]`
    query_gradients: Vec<f32>,
    /// Gradients of the places of a tree, before they are added to those of all, `[positions, head_dim]`.
    seen_gradients: Vec<f32>,
}

impl<E: Element, G: Element> WayBack<'_, E, G> {
    /// Writes the gradients of the queries of a head, `task` of all rows' heads; gives what they add to those of its keys and
    /// values, `[positions, head_dim]`.
    ///
    /// # Safety
    /// The shapes were checked, and no other task is the same.
    unsafe fn head(&self, task: usize, build: &Build<E>) -> (Vec<f32>, Vec<f32>) {
        let AttentionShape { positions, heads, key_heads, head_dim, scale, .. } = self.shape;
        let (width, out_width, head_size) = (self.shape.width(), heads * head_dim, positions * head_dim);
        let (row, head) = (task / heads, task % heads);
        let key_head = head / (heads / key_heads);
        let base = row * positions * width;
        let head_at = |index: usize, position: usize| self.qkv[base + position * width + index * head_dim..].as_ptr();
        let zeros = |count: usize| vec![0.0f32; count];
        let (mut keys, mut values) = (zeros(head_size), zeros(head_size));
        let mut room = Room {
            queries: zeros(BLOCK * head_dim),
            given: zeros(BLOCK * head_dim),
            scores: zeros(BLOCK * positions),
            slopes: zeros(BLOCK * positions),
            capped: zeros(if self.shape.cap.is_some() { positions } else { 0 }),
            query_gradients: zeros(BLOCK * head_dim),
            seen_gradients: zeros(if self.tree.is_some() { head_size } else { 0 }),
        };
        let (mut key_gradients, mut value_gradients) = (zeros(head_size), zeros(head_size));
        let rotation = &self.rotation;
        // SAFETY: the heads lie inside of `qkv`, whose shape was checked, and the room is as large as a block and a
        // head need.
        unsafe {
            let (key, value) = (head_at(heads + key_head, 0), head_at(heads + key_heads + key_head, 0));
            rotation.rows(Turn::Forward, 1.0, 0..positions, (key, width), (keys.as_mut_ptr(), head_dim));
            rotation.rows(Turn::None, 1.0, 0..positions, (value, width), (values.as_mut_ptr(), head_dim));
            let (keys, values) = (Head::new(keys, positions, head_dim), Head::new(values, positions, head_dim));
            for block in self.shape.blocks() {
                let seen = self.shape.seen(&block, self.tree);
                let picked = seen.pick(&keys, &values);
                let (keys, values) = picked.as_ref().map_or((&keys, &values), |(keys, values)| (keys, values));
                let from = (head_at(head, block.start), width);
                rotation.rows(Turn::Forward, scale, block.clone(), from, (room.queries.as_mut_ptr(), head_dim));
                let place = (row * positions + block.start) * out_width + head * head_dim;
                let from = (self.gradient[place..].as_ptr(), out_width);
                rotation.rows(Turn::None, 1.0, block.clone(), from, (room.given.as_mut_ptr(), head_dim));
                let inner = [block.len(), seen.count, head_dim];
                let columns = keys.columns(seen.first);
                multiply(
                    inner,
                    (room.queries.as_ptr(), head_dim, 1),
                    columns,
                    (room.scores.as_mut_ptr(), positions),
                    false,
                );
                let columns = values.columns(seen.first);
                multiply(
                    inner,
                    (room.given.as_ptr(), head_dim, 1),
                    columns,
                    (room.slopes.as_mut_ptr(), positions),
                    false,
                );
                self.slopes((row, head), &block, &seen, &mut room);
                self.add_to_keys(&block, &seen, &mut room, [&mut key_gradients, &mut value_gradients]);
                multiply(
                    [block.len(), head_dim, seen.count],
                    (room.slopes.as_ptr(), positions, 1),
                    keys.rows(seen.first),
                    (room.query_gradients.as_mut_ptr(), head_dim),
                    false,
                );
                let to = build.at(base + block.start * width + head * head_dim);
                rotation.rows(Turn::Back, scale, block, (room.query_gradients.as_ptr(), head_dim), (to, width));
            }
        }
        (key_gradients, value_gradients)
    }

    /// Makes weights of a block's scores, and of the gradients of the weights those of the scores.
    ///
    /// # Safety
    /// As [`WayBack::head`].
    unsafe fn slopes(&self, (row, head): (usize, usize), block: &Range<usize>, seen: &Seen, room: &mut Room) {
        let AttentionShape { positions, heads, head_dim, window, cap, .. } = self.shape;
        for (query, position) in block.clone().enumerate() {
            let Range { start: first, end: last } = self.shape.part(seen, block, position);
            let out = self.outputs[(row * positions + position) * heads * head_dim + head * head_dim..].as_ptr();
            let log_sum = self.log_sums[(row * heads + head) * positions + position];
            let at = query * positions;
            let (scores, slopes) = (&mut room.scores[at..][..seen.count], &mut room.slopes[at..][..seen.count]);
            // SAFETY: as [`WayBack::head`]; the rows of scores and slopes were sliced to what is seen.
            unsafe {
                let delta = dot(out, room.given.as_ptr().add(query * head_dim), head_dim);
                if let Some(cap) = cap {
                    cap_row(scores[first..].as_mut_ptr(), last - first, cap);
                    room.capped[..last - first].copy_from_slice(&scores[first..last]);
                }
                seen.hide(scores, self.tree, position, window, HIDDEN);
                let (scores_at, slopes_at) = (scores.as_mut_ptr(), slopes.as_mut_ptr());
                slope_row(scores_at, slopes_at, first, last, seen.count, log_sum, delta);
                seen.hide(scores, self.tree, position, window, 0.0);
                seen.hide(slopes, self.tree, position, window, 0.0);
                if let Some(cap) = cap {
                    cap_slopes(slopes[first..].as_mut_ptr(), room.capped.as_ptr(), last - first, 1.0 / cap);
                }
            }
        }
    }

    /// Adds what a block gives to the gradients of the keys and the values that it sees.
    ///
    /// # Safety
    /// As [`WayBack::head`].
    unsafe fn add_to_keys(
        &self,
        block: &Range<usize>,
        seen: &Seen,
        room: &mut Room,
        [key_gradients, value_gradients]: [&mut Vec<f32>; 2],
    ) {
        let AttentionShape { positions, head_dim, .. } = self.shape;
        let outer = [seen.count, head_dim, block.len()];
        let (given_rows, query_rows) = ((room.given.as_ptr(), head_dim), (room.queries.as_ptr(), head_dim));
        let (p, slope) = ((room.scores.as_ptr(), 1, positions), (room.slopes.as_ptr(), 1, positions));
        // SAFETY: as [`WayBack::head`]; scores, slopes and rows have the strides that they are given with.
        unsafe {
            if seen.places.is_some() {
                let sum = room.seen_gradients.as_mut_ptr();
                multiply(outer, p, given_rows, (sum, head_dim), false);
                seen.scatter(value_gradients, &room.seen_gradients, head_dim);
                multiply(outer, slope, query_rows, (sum, head_dim), false);
                seen.scatter(key_gradients, &room.seen_gradients, head_dim);
            } else {
                let at = seen.first * head_dim;
                multiply(outer, p, given_rows, (value_gradients[at..].as_mut_ptr(), head_dim), true);
                multiply(outer, slope, query_rows, (key_gradients[at..].as_mut_ptr(), head_dim), true);
            }
        }
    }

    /// Writes the gradients of the keys and values of a key head, `task` of all rows' key heads: the sum over its queries'.
    ///
    /// # Safety
    /// As [`WayBack::head`]; `shares` are what that gave, in order.
    unsafe fn meet(&self, task: usize, shares: &[(Vec<f32>, Vec<f32>)], build: &Build<E>) {
        let AttentionShape { positions, heads, key_heads, head_dim, .. } = self.shape;
        let (width, group) = (self.shape.width(), heads / key_heads);
        let (row, key_head) = (task / key_heads, task % key_heads);
        let first = row * heads + key_head * group;
        let mut sums = shares[first].clone();
        for share in &shares[first + 1..first + group] {
            sums.0.iter_mut().zip(&share.0).for_each(|(sum, value)| *sum += value);
            sums.1.iter_mut().zip(&share.1).for_each(|(sum, value)| *sum += value);
        }
        // SAFETY: the places are those of this key head in the gradient of `qkv`, which no other task writes.
        unsafe {
            let to = |index: usize| build.at(row * positions * width + index * head_dim);
            let (keys, values) = ((sums.0.as_ptr(), head_dim), (sums.1.as_ptr(), head_dim));
            self.rotation.rows(Turn::Back, 1.0, 0..positions, keys, (to(heads + key_head), width));
            self.rotation.rows(Turn::None, 1.0, 0..positions, values, (to(heads + key_heads + key_head), width));
        }
    }
}

#[cfg(test)]
mod tests;
