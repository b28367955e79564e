//! NEON, which every 64-bit Arm processor has.
//!
//! Vectors are pairs of four, so that tiles and sums are those of AVX2, and so are the bits of every result: both have a fused
//! multiply-add, and round alike.

use std::arch::aarch64::*;

use super::Lanes;

/// Eight lanes.
#[derive(Clone, Copy)]
pub struct Neon;

/// Lanes 0 to 3, and 4 to 7.
#[derive(Clone, Copy)]
pub struct Pair(float32x4_t, float32x4_t);

macro_rules! both {
    ($($name:ident($a:ident, $b:ident) = $value:expr;)*) => {
        $(#[inline(always)]
        unsafe fn $name(a: Self::V, b: Self::V) -> Self::V {
            let of_four = |$a: float32x4_t, $b: float32x4_t| unsafe { $value };
            Pair(of_four(a.0, b.0), of_four(a.1, b.1))
        })*
    };
}

/// Words that have the bits of bf16 in their low halves, as f32.
#[inline(always)]
unsafe fn widened(halves: uint16x8_t) -> Pair {
    unsafe {
        let low = vshlq_n_u32::<16>(vmovl_u16(vget_low_u16(halves)));
        let high = vshlq_n_u32::<16>(vmovl_high_u16(halves));
        Pair(vreinterpretq_f32_u32(low), vreinterpretq_f32_u32(high))
    }
}

/// The four nearest bf16, ties to even, in the high halves of words.
#[inline(always)]
unsafe fn rounded(v: float32x4_t) -> uint32x4_t {
    unsafe {
        let bits = vreinterpretq_u32_f32(v);
        let odd = vandq_u32(vshrq_n_u32::<16>(bits), vdupq_n_u32(1));
        let rounded = vaddq_u32(bits, vaddq_u32(odd, vdupq_n_u32(0x7fff)));
        // What is no number stays none: a bit of it is set that rounding might have left out.
        let quiet = vorrq_u32(bits, vdupq_n_u32(0x0040_0000));
        vbslq_u32(vceqq_f32(v, v), rounded, quiet)
    }
}

/// Eight signed words as f32.
#[inline(always)]
unsafe fn numbers(words: int16x8_t) -> Pair {
    unsafe { Pair(vcvtq_f32_s32(vmovl_s16(vget_low_s16(words))), vcvtq_f32_s32(vmovl_high_s16(words))) }
}

impl Lanes for Neon {
    const WIDTH: usize = 8;
    // 24 of the 32 registers hold sums, four the right side, one or two the left.
    const ROWS: usize = 6;
    type V = Pair;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { Pair(vdupq_n_f32(value), vdupq_n_f32(value)) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { Pair(vld1q_f32(from), vld1q_f32(from.add(4))) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
        unsafe {
            if count >= 8 {
                return Self::load(from);
            }
            let mut padded = [0f32; 8];
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count);
            Self::load(padded.as_ptr())
        }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe {
            vst1q_f32(to, v.0);
            vst1q_f32(to.add(4), v.1);
        }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut f32, count: usize, v: Self::V) {
        unsafe {
            if count >= 8 {
                return Self::store(to, v);
            }
            let mut padded = [0f32; 8];
            Self::store(padded.as_mut_ptr(), v);
            std::ptr::copy_nonoverlapping(padded.as_ptr(), to, count);
        }
    }
    #[inline(always)]
    unsafe fn load_bf16_part(from: *const u16, count: usize) -> Self::V {
        unsafe {
            if count >= 8 {
                return widened(vld1q_u16(from));
            }
            let mut padded = [0u16; 8];
            std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count);
            widened(vld1q_u16(padded.as_ptr()))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_part(to: *mut u16, count: usize, v: Self::V) {
        unsafe {
            let halves = vshrn_high_n_u32::<16>(vshrn_n_u32::<16>(rounded(v.0)), rounded(v.1));
            if count >= 8 {
                return vst1q_u16(to, halves);
            }
            let mut padded = [0u16; 8];
            vst1q_u16(padded.as_mut_ptr(), halves);
            std::ptr::copy_nonoverlapping(padded.as_ptr(), to, count);
        }
    }
    both! {
        add(a, b) = vaddq_f32(a, b);
        sub(a, b) = vsubq_f32(a, b);
        mul(a, b) = vmulq_f32(a, b);
        div(a, b) = vdivq_f32(a, b);
        // As the x86 instructions: the second operand where either is NaN.
        max(a, b) = vbslq_f32(vcgtq_f32(a, b), a, b);
        min(a, b) = vbslq_f32(vcltq_f32(a, b), a, b);
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        unsafe { Pair(vsqrtq_f32(a.0), vsqrtq_f32(a.1)) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { Pair(vfmaq_f32(c.0, a.0, b.0), vfmaq_f32(c.1, a.1, b.1)) }
    }
    #[inline(always)]
    unsafe fn pow2_of_low_bits(v: Self::V) -> Self::V {
        let of_four = |v: float32x4_t| unsafe {
            let shifted = vshlq_n_u32::<23>(vreinterpretq_u32_f32(v));
            vreinterpretq_f32_u32(vaddq_u32(shifted, vdupq_n_u32(127 << 23)))
        };
        Pair(of_four(v.0), of_four(v.1))
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe {
            let four = vaddq_f32(v.0, v.1);
            let two = vadd_f32(vget_low_f32(four), vget_high_f32(four));
            vget_lane_f32::<0>(two) + vget_lane_f32::<1>(two)
        }
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe {
            let four = Self::max(v, Pair(v.1, v.0)).0;
            let mut lanes = [0f32; 4];
            vst1q_f32(lanes.as_mut_ptr(), four);
            let larger = |a: f32, b: f32| if a > b { a } else { b };
            larger(larger(lanes[0], lanes[2]), larger(lanes[1], lanes[3]))
        }
    }
    #[inline(always)]
    unsafe fn widen_pairs(from: *const u32) -> (Self::V, Self::V) {
        unsafe {
            let (a, b) = (vld1q_u32(from), vld1q_u32(from.add(4)));
            let low = |bits| vreinterpretq_f32_u32(vshlq_n_u32::<16>(bits));
            let high = |bits| vreinterpretq_f32_u32(vandq_u32(bits, vdupq_n_u32(0xffff_0000)));
            (Pair(low(a), low(b)), Pair(high(a), high(b)))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::V {
        unsafe { numbers(vmovl_s8(vld1_s8(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn look_up(from: *const u8, table: &[f32; 16]) -> Self::V {
        unsafe {
            let pairs = from.cast::<[u8; 4]>().read_unaligned();
            let value = |lane: usize| {
                let pair = pairs[lane / 2];
                table[usize::from(if lane.is_multiple_of(2) { pair >> 4 } else { pair & 15 })]
            };
            let values: [f32; 8] = std::array::from_fn(value);
            Self::load(values.as_ptr())
        }
    }
}
