//! Vectors of f32 for the processor at hand, chosen when the program runs.
//!
//! A kernel is written once, generic over [`Lanes`], as an `#[inline(always)]` body. [`multiversion!`] makes of it one
//! function per instruction set, each with that set's target features, and picks one by [`level`].
//!
//! # Safety
//! All methods of [`Lanes`] are unsafe for two reasons: their instruction set must be there, which holds inside a body
//! reached through [`multiversion!`], and their pointers must be valid for the lanes they touch. Pointers need no
//! alignment.

#![allow(clippy::missing_safety_doc, reason = "the two conditions above hold for all methods")]
#![allow(
    clippy::undocumented_unsafe_blocks,
    reason = "each is the body of such a method: its caller keeps both conditions"
)]

use std::sync::OnceLock;

/// The instruction sets that kernels are compiled for.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
#[allow(dead_code, reason = "no processor has all of them")]
pub(crate) enum Level {
    /// AVX-512 with bf16 dot products.
    Avx512,
    /// AVX-512 without them.
    Avx512F,
    /// AVX2 with fused multiply-add.
    Avx2,
    /// NEON.
    Neon,
    /// Whatever the compiler's target has.
    Portable,
}

impl Level {
    /// Whether pairs of bf16 are multiplied; elsewhere bf16 is storage, and arithmetic is that of f32.
    pub(crate) fn multiplies_pairs(self) -> bool {
        self == Self::Avx512
    }

    /// Columns of a register tile, two vectors.
    pub(crate) fn columns(self) -> usize {
        match self {
            Self::Avx512 | Self::Avx512F => 32,
            Self::Avx2 | Self::Neon | Self::Portable => 16,
        }
    }

    /// Steps of a product whose right side, for the columns of a tile, takes two thirds of a first-level cache of 32 KiB.
    pub(crate) fn steps(self) -> usize {
        match self {
            Self::Avx512 | Self::Avx512F => 160,
            Self::Avx2 | Self::Neon | Self::Portable => 320,
        }
    }
}

/// Set to `avx512f`, `avx2` or `portable` (which alone means something on Arm), leaves the better instruction sets unused: for tests, and to find out who is at fault.
/// `avx512` leaves none, and multiplies pairs of bf16 even where nothing would not, since arithmetic in f32 is faster there.
pub const LIMIT: &str = "KERNELS_LIMIT";

/// The words that it can be set to.
pub const LIMITS: [&str; 4] = ["avx512", "avx512f", "avx2", "portable"];

/// What the environment sets it to: an empty text where that is nothing.
///
/// # Errors
/// Another word, as it stands there.
pub fn limit() -> Result<&'static str, String> {
    let written = std::env::var_os(LIMIT).unwrap_or_default().to_string_lossy().into_owned();
    match LIMITS.into_iter().find(|limit| *limit == written) {
        Some(limit) => Ok(limit),
        None if written.is_empty() => Ok(""),
        None => Err(written),
    }
}

/// The best instruction set of this processor.
pub(crate) fn level() -> Level {
    static LEVEL: OnceLock<Level> = OnceLock::new();
    *LEVEL.get_or_init(|| {
        let limit = limit().unwrap_or_else(|word| panic!("{LIMIT} is `{word}`, expected one of {LIMITS:?}"));
        if limit == "portable" {
            return Level::Portable;
        }
        #[cfg(target_arch = "x86_64")]
        {
            let avx2 = is_x86_feature_detected!("avx2") && is_x86_feature_detected!("fma");
            let avx512 = is_x86_feature_detected!("avx512f")
                && is_x86_feature_detected!("avx512bw")
                && is_x86_feature_detected!("avx512dq")
                && is_x86_feature_detected!("avx512vl");
            if avx2 && avx512 && limit != "avx2" {
                let pairs = is_x86_feature_detected!("avx512bf16")
                    && (limit == "avx512" || limit.is_empty() && x86::multiplies_pairs_fast());
                return if pairs { Level::Avx512 } else { Level::Avx512F };
            }
            if avx2 {
                return Level::Avx2;
            }
        }
        if cfg!(target_arch = "aarch64") { Level::Neon } else { Level::Portable }
    })
}

/// What kernels are computed with here, in words.
///
/// # Panics
/// [`LIMIT`] is set to another word than one of [`LIMITS`].
pub fn instruction_set() -> &'static str {
    match level() {
        Level::Avx512 => "AVX-512 with bf16 dot products",
        Level::Avx512F => "AVX-512",
        Level::Avx2 => "AVX2",
        Level::Neon => "NEON",
        Level::Portable => "that of the compiler's target",
    }
}

/// A vector of f32 and what kernels do with it.
pub trait Lanes: Copy + 'static {
    /// Values of a vector.
    const WIDTH: usize;
    /// Rows of a register tile of two vectors that leaves room for operands.
    const ROWS: usize;
    /// The vector.
    type V: Copy;

    unsafe fn splat(value: f32) -> Self::V;
    unsafe fn load(from: *const f32) -> Self::V;
    /// The first `count` lanes, zero in the rest.
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V;
    unsafe fn store(to: *mut f32, v: Self::V);
    unsafe fn store_part(to: *mut f32, count: usize, v: Self::V);
    unsafe fn load_bf16_part(from: *const u16, count: usize) -> Self::V;
    /// Rounded to nearest, ties to even.
    unsafe fn store_bf16_part(to: *mut u16, count: usize, v: Self::V);
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V;
    unsafe fn sqrt(a: Self::V) -> Self::V;
    /// `a * b + c`
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V;
    /// `2^n` where the low bits of `v` hold the integer `n`, as they do after 1.5 * 2^23 was added to it.
    unsafe fn pow2_of_low_bits(v: Self::V) -> Self::V;
    unsafe fn sum(v: Self::V) -> f32;
    unsafe fn largest(v: Self::V) -> f32;
    /// The low and the high halves of words, each a bf16.
    unsafe fn widen_pairs(from: *const u32) -> (Self::V, Self::V);
    /// As many signed bytes as there are lanes.
    unsafe fn load_i8(from: *const u8) -> Self::V;
    /// The values of `table` that half as many bytes as there are lanes name, four bits each, the high ones first.
    unsafe fn look_up(from: *const u8, table: &[f32; 16]) -> Self::V;

    /// `e^x` to 2 units in the last place; 0 below -87.3, e^88 above 88. NaN stays NaN.
    #[inline(always)]
    unsafe fn exp(x: Self::V) -> Self::V {
        unsafe {
            // Operands in this order give NaN back when `x` is NaN.
            let x = Self::min(Self::splat(88.0), x);
            let clamped = Self::max(Self::splat(-87.3), x);
            let magic = Self::splat(12_582_912.0);
            let shifted = Self::fma(clamped, Self::splat(std::f32::consts::LOG2_E), magic);
            let n = Self::sub(shifted, magic);
            // ln 2 in two parts, the first with few enough bits that its product with n is exact.
            let r = Self::fma(n, Self::splat(-0.693_359_4), clamped);
            let r = Self::fma(n, Self::splat(2.121_944_4e-4), r);
            // Coefficients of the Cephes library's expf.
            let mut p = Self::splat(1.987_569_2e-4);
            for coefficient in [1.398_2e-3, 8.333_452e-3, 4.166_579_6e-2, 1.666_666_5e-1, 5e-1] {
                p = Self::fma(p, r, Self::splat(coefficient));
            }
            let p = Self::add(Self::fma(Self::mul(p, r), r, r), Self::splat(1.0));
            Self::mul(p, Self::pow2_of_low_bits(shifted))
        }
    }
}

/// Arrays of eight, for any processor.
#[derive(Clone, Copy)]
pub struct Portable;

macro_rules! lanewise {
    ($($name:ident($a:ident, $b:ident) = $value:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name(a: Self::V, b: Self::V) -> Self::V {
            std::array::from_fn(|lane| { let ($a, $b) = (a[lane], b[lane]); $value })
        })*
    };
}

impl Lanes for Portable {
    const WIDTH: usize = 8;
    const ROWS: usize = 4;
    type V = [f32; 8];

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        [value; 8]
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { from.cast::<[f32; 8]>().read_unaligned() }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
        std::array::from_fn(|lane| if lane < count { unsafe { from.add(lane).read_unaligned() } } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { to.cast::<[f32; 8]>().write_unaligned(v) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut f32, count: usize, v: Self::V) {
        for (lane, value) in v.into_iter().enumerate().take(count) {
            unsafe { to.add(lane).write_unaligned(value) }
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_part(from: *const u16, count: usize) -> Self::V {
        let bits = |lane: usize| u32::from(unsafe { from.add(lane).read_unaligned() }) << 16;
        std::array::from_fn(|lane| if lane < count { f32::from_bits(bits(lane)) } else { 0.0 })
    }
    #[inline(always)]
    unsafe fn store_bf16_part(to: *mut u16, count: usize, v: Self::V) {
        for (lane, value) in v.into_iter().enumerate().take(count) {
            unsafe { to.add(lane).write_unaligned(half::bf16::from_f32(value).to_bits()) }
        }
    }
    lanewise! {
        add(a, b) = a + b;
        sub(a, b) = a - b;
        mul(a, b) = a * b;
        div(a, b) = a / b;
        // As the x86 instructions: the second operand where either is NaN.
        max(a, b) = if a > b { a } else { b };
        min(a, b) = if a < b { a } else { b };
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        a.map(f32::sqrt)
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        // Not `mul_add`: without the instruction that is a call of the mathematics library.
        std::array::from_fn(|lane| a[lane] * b[lane] + c[lane])
    }
    #[inline(always)]
    unsafe fn pow2_of_low_bits(v: Self::V) -> Self::V {
        v.map(|v| f32::from_bits((v.to_bits() << 23).wrapping_add(127 << 23)))
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        ((v[0] + v[4]) + (v[1] + v[5])) + ((v[2] + v[6]) + (v[3] + v[7]))
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        v.into_iter().fold(f32::NEG_INFINITY, f32::max)
    }
    #[inline(always)]
    unsafe fn widen_pairs(from: *const u32) -> (Self::V, Self::V) {
        let pairs = unsafe { from.cast::<[u32; 8]>().read_unaligned() };
        (pairs.map(|pair| f32::from_bits(pair << 16)), pairs.map(|pair| f32::from_bits(pair & 0xffff_0000)))
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::V {
        std::array::from_fn(|lane| f32::from(unsafe { *from.add(lane) } as i8))
    }
    #[inline(always)]
    unsafe fn look_up(from: *const u8, table: &[f32; 16]) -> Self::V {
        std::array::from_fn(|lane| {
            let pair = unsafe { *from.add(lane / 2) };
            table[usize::from(if lane % 2 == 0 { pair >> 4 } else { pair & 15 })]
        })
    }
}

#[cfg(target_arch = "x86_64")]
mod x86;
#[cfg(target_arch = "x86_64")]
pub(crate) use x86::{Avx2, Avx512, Avx512F};

#[cfg(target_arch = "aarch64")]
mod aarch64;
#[cfg(target_arch = "aarch64")]
pub(crate) use aarch64::Neon;

/// Makes a function that runs a body, generic over [`Lanes`], with the best instruction set of the processor.
///
/// `fn name<Type: Trait>(argument: Type) -> Result = body;` calls `body::<SomeLanes, Type>(argument)`. The function is
/// unsafe as its body is.
macro_rules! multiversion {
    ($(#[$attribute:meta])* $vis:vis fn $name:ident $(<$($generic:ident : $bound:path),+>)? ($($argument:ident : $type:ty),* $(,)?)
        $(-> $result:ty)? = $body:ident;) => {
        $(#[$attribute])*
        #[allow(clippy::too_many_arguments, reason = "as the body takes them")]
        #[allow(
            clippy::undocumented_unsafe_blocks,
            reason = "the caller keeps the body's conditions, and `level` says which instruction sets are there"
        )]
        $vis unsafe fn $name $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $result)? {
            #[cfg(target_arch = "x86_64")]
            {
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl,avx512bf16")]
                #[allow(clippy::too_many_arguments, reason = "as the body takes them")]
                unsafe fn avx512 $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $result)? {
                    unsafe { $body::<$crate::simd::Avx512 $(, $($generic),+)?>($($argument),*) }
                }
                #[target_feature(enable = "avx2,fma")]
                #[allow(clippy::too_many_arguments, reason = "as the body takes them")]
                unsafe fn avx2 $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $result)? {
                    unsafe { $body::<$crate::simd::Avx2 $(, $($generic),+)?>($($argument),*) }
                }
                #[target_feature(enable = "avx2,fma,avx512f,avx512bw,avx512dq,avx512vl")]
                #[allow(clippy::too_many_arguments, reason = "as the body takes them")]
                unsafe fn avx512f $(<$($generic: $bound),+>)? ($($argument: $type),*) $(-> $result)? {
                    unsafe { $body::<$crate::simd::Avx512F $(, $($generic),+)?>($($argument),*) }
                }
                match $crate::simd::level() {
                    $crate::simd::Level::Avx512F => return unsafe { avx512f $(::<$($generic),+>)? ($($argument),*) },
                    $crate::simd::Level::Avx512 => return unsafe { avx512 $(::<$($generic),+>)? ($($argument),*) },
                    $crate::simd::Level::Avx2 => return unsafe { avx2 $(::<$($generic),+>)? ($($argument),*) },
                    $crate::simd::Level::Neon | $crate::simd::Level::Portable => {}
                }
            }
            #[cfg(target_arch = "aarch64")]
            if $crate::simd::level() == $crate::simd::Level::Neon {
                return unsafe { $body::<$crate::simd::Neon $(, $($generic),+)?>($($argument),*) };
            }
            unsafe { $body::<$crate::simd::Portable $(, $($generic),+)?>($($argument),*) }
        }
    };
}
pub(crate) use multiversion;
