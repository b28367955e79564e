//! Causal attention on an NVIDIA GPU, forward and back, in memory that grows with the positions and not with their square
//! (Dao et al. 2022, arXiv 2205.14135): scores are made tile by tile, and made again on the way back. Kernels in CUDA C++ in
//! `attention/*.{cuh,cu}`: bf16 on tensor cores (`mma.sync`), or f32.
//!
//! A key is seen by a query when `key <= query < ends[key]` and `depth[query] - depth[key] < window`: what stands before it,
//! documents packed into one row, trees of continuations, rows padded on the left, and windows are one rule. Tiles of which
//! nothing is seen are passed over. Every sum is taken in one order, so that results are the same from run to run.

use cubecl::client::Client;
use cubecl::ir::{ElemType, FloatKind};
use cubecl::server::Handle;

use crate::Buffer;
use crate::compiled::{Launch, architecture, argument, launch, shared_bytes};
use crate::on_stream::{Place, is_cuda, on_stream};

/// Keys whose ends are told together.
const TALLIED: usize = 64;

/// Where heads stand in a buffer: numbers from one row of the batch, one head and one position to the next. The values of a
/// head stand side by side.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[repr(C)]
pub struct Heads {
    /// From one row of the batch to the next.
    pub batch: i64,
    /// From one head to the next.
    pub head: i64,
    /// From one position to the next.
    pub position: i64,
}

impl Heads {
    /// The last number that is read, and the one behind it.
    fn end(&self, [batch, heads, positions, width]: [usize; 4]) -> usize {
        let steps = [(batch, self.batch), (heads, self.head), (positions, self.position)];
        steps.iter().map(|(count, step)| (count - 1) * *step as usize).sum::<usize>() + width
    }

    /// Whether every head begins where 16 bytes can be read at once.
    fn aligned(&self, buffer: &Buffer) -> bool {
        let line = 16 / buffer.element.size();
        [self.batch, self.head, self.position].iter().all(|step| (*step as usize).is_multiple_of(line))
            && buffer.offset().is_multiple_of(16)
    }
}

/// Sizes of an attention, and what its scores become.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Attention {
    /// Rows.
    pub batch: usize,
    /// Queries of a row: the last of its positions.
    pub queries: usize,
    /// Positions of a row: keys and values.
    pub keys: usize,
    /// Heads of queries.
    pub heads: usize,
    /// Heads of keys and values, a divisor of `heads`.
    pub key_heads: usize,
    /// Values of a head.
    pub width: usize,
    /// Factor of the scores.
    pub scale: f32,
    /// Scores become `cap * tanh(score / cap)`.
    pub cap: Option<f32>,
    /// How many positions back a query sees, itself included.
    pub window: Option<usize>,
}

/// What attention reads: queries, keys and values of one type, and where they stand.
#[derive(Clone)]
pub struct AttentionForward {
    /// Queries, keys and values.
    pub inputs: [Buffer; 3],
    /// Where their heads stand.
    pub heads: [Heads; 3],
    /// The words that [`seen`] made; without them, a query sees all before it.
    pub seen: Option<Buffer>,
}

/// What the way back reads beside that and writes.
pub struct AttentionGradients<'a> {
    /// What [`attention`] wrote.
    pub output: &'a Buffer,
    /// What it wrote of its sums.
    pub log_sums: &'a Buffer,
    /// Gradient of the output, of its shape.
    pub gradient: &'a Buffer,
    /// Of queries `[batch, queries, heads, width]`, keys and values `[batch, keys, key_heads, width]`, contiguous.
    pub into: [&'a Buffer; 3],
}

/// As the kernels have it.
#[derive(Clone, Copy)]
#[repr(C)]
struct Shape {
    queries: i32,
    keys: i32,
    heads: i32,
    key_heads: i32,
    inputs: [Heads; 3],
    scale: f32,
    cap: f32,
    window: i32,
    seen: i64,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Kernel {
    Forward,
    Queries,
    Keys,
}

/// Constants of a kernel: rows of its tiles, how many of those that it goes through it has room for, and its shared memory.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Variant {
    rows: usize,
    other: usize,
    stages: usize,
    shared_bytes: usize,
}

impl Variant {
    /// The first of a few that a block's shared memory holds.
    fn of(kernel: Kernel, width: usize, element: ElemType, most: usize) -> Option<Self> {
        let float = is_f32(element);
        let (size, spare) = if float { (4, 4) } else { (2, 8) };
        let choices: &[[usize; 3]] = match (float, kernel) {
            (true, _) => &[[32, 32, 1]],
            (false, Kernel::Forward) => &[[64, 64, 1], [32, 32, 1]],
            // Sums and scores of a warp would not fit its registers.
            (false, _) if width > 128 => &[[64, 32, 2], [64, 32, 1], [32, 32, 1]],
            (false, _) => &[[64, 64, 2], [64, 64, 1], [32, 32, 1]],
        };
        let choices = choices.iter().map(|[rows, other, stages]| {
            let (tile, shares) = (width + spare, rows * (other + spare));
            let numbers = match kernel {
                Kernel::Forward => (rows + 2 * other) * tile + if float { shares } else { 0 },
                Kernel::Queries => 2 * (rows + stages * other) * tile + shares,
                Kernel::Keys => 2 * (rows + stages * other) * tile + 2 * shares,
            };
            Self { rows: *rows, other: *other, stages: *stages, shared_bytes: numbers * size }
        });
        choices.into_iter().find(|variant| variant.shared_bytes <= most)
    }

    fn source(&self, width: usize, element: ElemType, packed: bool, kernel: &str) -> String {
        let Self { rows, other, stages, .. } = self;
        let (float, packed) = (u8::from(is_f32(element)), u8::from(packed));
        let constants = format!(
            "#define D {width}\n#define ROWS {rows}\n#define OTHER {other}\n#define STAGES {stages}\n#define FLOAT {float}\n\
             #define PACKED {packed}\n"
        );
        [&constants, include_str!("attention/common.cuh"), kernel].concat()
    }
}

fn is_f32(element: ElemType) -> bool {
    element == ElemType::Float(FloatKind::F32)
}

/// That the kernels run for heads of this width and type on the device of `client`: an NVIDIA GPU of compute capability 8.0 or
/// newer with the shared memory that they need, widths that are a multiple of 16, bf16 or f32.
///
/// # Errors
/// What is missing, in words.
pub fn attention_fits(client: &Client, width: usize, element: ElemType) -> Result<(), String> {
    if !is_cuda(client) {
        return Err("the device is no NVIDIA GPU".into());
    }
    if !is_f32(element) && element != ElemType::Float(FloatKind::BF16) {
        return Err(format!("numbers are {element:?}, neither bf16 nor f32"));
    }
    if width == 0 || width > 256 || !width.is_multiple_of(16) {
        return Err(format!("heads have {width} values, no multiple of 16 up to 256"));
    }
    let device = usize::from(client.service_id().device.index_id);
    let (architecture, most) = (architecture(device), shared_bytes(device));
    if architecture < 80 {
        let (major, minor) = (architecture / 10, architecture % 10);
        return Err(format!("the GPU's compute capability is {major}.{minor}, below 8.0"));
    }
    let fits = |kernel| Variant::of(kernel, width, element, most).is_some();
    match [Kernel::Forward, Kernel::Queries, Kernel::Keys].into_iter().all(fits) {
        true => Ok(()),
        false => Err(format!("heads of {width} values need more than the {most} bytes of shared memory of a block")),
    }
}

/// What a query sees, for the kernels: of each row, ends and depths of its keys (`[rows * keys]` both), and of every 64 keys
/// the largest end and the smallest. One row stands for all of a batch.
///
/// # Panics
/// The two are not of the same length, or `keys` does not divide it.
pub fn seen(ends: &[u32], depths: &[u32], keys: usize) -> Vec<u32> {
    assert!(ends.len() == depths.len() && ends.len().is_multiple_of(keys.max(1)), "an end and a depth for each key");
    (ends.chunks(keys.max(1)).zip(depths.chunks(keys.max(1))))
        .flat_map(|(ends, depths)| {
            let largest = ends.chunks(TALLIED).map(|ends| *ends.iter().max().expect("not empty"));
            let smallest = ends.chunks(TALLIED).map(|ends| *ends.iter().min().expect("not empty"));
            ends.iter().chain(depths).copied().chain(largest).chain(smallest).collect::<Vec<u32>>()
        })
        .collect()
}

impl Attention {
    fn check(&self, given: &AttentionForward) -> Shape {
        let Self { batch, queries, keys, heads, key_heads, width, scale, cap, window } = *self;
        assert!(
            queries <= keys && key_heads > 0 && heads.is_multiple_of(key_heads),
            "queries are the last of the keys"
        );
        assert!(keys <= i32::MAX as usize / 2 && batch <= 65535 && heads <= 65535, "a grid that a device takes");
        let counts = [(heads, queries), (key_heads, keys), (key_heads, keys)];
        for ((buffer, place), (heads, positions)) in given.inputs.iter().zip(&given.heads).zip(counts) {
            assert!(buffer.element == given.inputs[0].element && place.aligned(buffer), "one type, whole lines");
            assert!(place.end([batch, heads, positions, width]) <= buffer.length, "heads inside of their buffer");
        }
        let of_row = 2 * keys + 2 * keys.div_ceil(TALLIED);
        let rows = given.seen.as_ref().map_or(1, |seen| seen.length / of_row.max(1));
        let whole = given.seen.as_ref().is_none_or(|seen| seen.length == rows * of_row);
        assert!(whole && (rows == 1 || rows == batch), "what is seen, of these keys, once or for each row");
        Shape {
            queries: queries as i32,
            keys: keys as i32,
            heads: heads as i32,
            key_heads: key_heads as i32,
            inputs: given.heads,
            scale,
            cap: cap.unwrap_or(0.0),
            window: window.unwrap_or(keys).min(keys) as i32,
            seen: if rows == 1 { 0 } else { of_row as i64 },
        }
    }

    fn variant(&self, client: &Client, kernel: Kernel, element: ElemType) -> Variant {
        let most = shared_bytes(usize::from(client.service_id().device.index_id));
        Variant::of(kernel, self.width, element, most).expect("`attention_fits` was asked")
    }
}

/// `softmax(scores) values`.
///
/// # Shapes
/// - `output`: `[batch, queries, heads, width]`, contiguous, of the type of the inputs.
/// - `log_sums`: `[batch, heads, queries]`, f32: the logarithm to the base of two of each query's sum, for the way back.
///
/// # Panics
/// Sizes do not agree, or [`attention_fits`] would have said no.
pub fn attention(client: &Client, shape: Attention, given: &AttentionForward, output: &Buffer, log_sums: &Buffer) {
    let Attention { batch, queries, heads, width, .. } = shape;
    assert!(output.length == batch * queries * heads * width && log_sums.length == batch * queries * heads, "rooms");
    let mut sizes = shape.check(given);
    if output.length == 0 {
        return;
    }
    let element = output.element;
    let variant = shape.variant(client, Kernel::Forward, element);
    let source = variant.source(width, element, given.seen.is_some(), include_str!("attention/forward.cu"));
    let grid = Launch {
        blocks: [queries.div_ceil(variant.rows), heads, batch],
        threads: variant.rows / 16 * 32,
        shared_bytes: variant.shared_bytes,
    };
    let writes = vec![output.handle.clone(), log_sums.handle.clone()];
    on_stream(client, handles(given, &[]), writes, move |place: Place<'_>| {
        let (mut reads, mut writes) = (addresses(place.reads), addresses(place.writes));
        let [q, k, v, seen] = reads.each_mut().map(argument);
        let [output, log_sums] = writes.each_mut().map(argument);
        let mut arguments = [q, k, v, seen, output, log_sums, argument(&mut sizes)];
        // SAFETY: these are the kernel's arguments, and lengths were checked against each other.
        unsafe { launch(&place, &source, "attention_forward", grid, &mut arguments) }
    });
}

/// The gradients of queries, keys and values.
///
/// # Panics
/// As [`attention`].
pub fn attention_backward(client: &Client, shape: Attention, given: &AttentionForward, back: &AttentionGradients<'_>) {
    let Attention { batch, queries, keys, heads, key_heads, width, .. } = shape;
    let mut sizes = shape.check(given);
    let of_queries = batch * queries * heads;
    let lengths = [of_queries * width, batch * keys * key_heads * width, batch * keys * key_heads * width];
    assert!(back.into.iter().zip(lengths).all(|(room, length)| room.length == length), "gradients of these");
    assert!(back.gradient.length == lengths[0] && back.output.length == lengths[0], "a gradient of the output");
    assert!(back.log_sums.length == of_queries && back.gradient.offset().is_multiple_of(16), "what `attention` wrote");
    if batch * keys == 0 {
        return;
    }
    let element = back.output.element;
    let delta = Buffer::empty(client, of_queries, ElemType::Float(FloatKind::F32));
    let variants =
        [Kernel::Forward, Kernel::Queries, Kernel::Keys].map(|kernel| shape.variant(client, kernel, element));
    let files =
        [include_str!("attention/delta.cu"), include_str!("attention/queries.cu"), include_str!("attention/keys.cu")];
    let packed = given.seen.is_some();
    let sources: [String; 3] =
        std::array::from_fn(|index| variants[index].source(width, element, packed, files[index]));
    let more = [back.output, back.gradient, back.log_sums].map(|buffer| buffer.handle.clone());
    let writes = [back.into.as_slice(), &[&delta]].concat().iter().map(|buffer| buffer.handle.clone()).collect();
    on_stream(client, handles(given, &more), writes, move |place: Place<'_>| {
        let (mut reads, mut writes) = (addresses(place.reads), addresses(place.writes));
        let mut sums = of_queries as i32;
        let [q, k, v, output, gradient, log_sums, seen] = reads.each_mut().map(argument);
        let [dq, dk, dv, delta] = writes.each_mut().map(argument);
        let sizes = argument(&mut sizes);
        let launch = |index: usize, name: &str, blocks, arguments: &mut [_]| {
            let (threads, shared_bytes) = match index {
                0 => (128, 0),
                index => (variants[index].rows / 16 * 64, variants[index].shared_bytes),
            };
            // SAFETY: these are the kernel's arguments, and lengths were checked against each other.
            unsafe { launch(&place, &sources[index], name, Launch { blocks, threads, shared_bytes }, arguments) }
        };
        if of_queries > 0 {
            let blocks = [of_queries.div_ceil(4), 1, 1];
            launch(0, "attention_delta", blocks, &mut [output, gradient, delta, sizes, argument(&mut sums)])?;
            let blocks = [queries.div_ceil(variants[1].rows), heads, batch];
            let arguments = &mut [q, k, v, seen, gradient, log_sums, delta, dq, sizes];
            launch(1, "attention_queries", blocks, arguments)?;
        }
        let blocks = [keys.div_ceil(variants[2].rows), key_heads, batch];
        launch(2, "attention_keys", blocks, &mut [q, k, v, seen, gradient, log_sums, delta, dk, dv, sizes])
    });
}

/// Queries, keys and values, `more`, and what is seen, where it is said.
fn handles(given: &AttentionForward, more: &[Handle]) -> Vec<Handle> {
    let inputs = given.inputs.iter().map(|buffer| buffer.handle.clone());
    inputs.chain(more.iter().cloned()).chain(given.seen.as_ref().map(|seen| seen.handle.clone())).collect()
}

/// So many addresses; the last is null where it was not given.
fn addresses<const N: usize>(all: &[u64]) -> [u64; N] {
    std::array::from_fn(|index| all.get(index).copied().unwrap_or(0))
}
