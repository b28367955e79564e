//! AVX2 and AVX-512 of x86-64 processors.

use std::arch::x86_64::*;

use super::Lanes;

/// Eight lanes.
#[derive(Clone, Copy)]
pub struct Avx2;

/// Whether dot products of bf16 do more than f32's multiply-add, as AMD's do. Intel's (Sapphire Rapids) do half of it.
/// By the maker, not by the clock: a processor must not compute otherwise on another day.
pub(super) fn multiplies_pairs_fast() -> bool {
    let maker = __cpuid(0);
    [maker.ebx, maker.edx, maker.ecx].map(u32::to_le_bytes).concat() == b"AuthenticAMD"
}

/// Eight bytes as sixteen of four bits each, the high ones first.
#[inline(always)]
unsafe fn halves(bytes: __m128i) -> __m128i {
    unsafe {
        let wide = _mm_cvtepu8_epi16(bytes);
        let low = _mm_slli_epi16::<8>(_mm_and_si128(wide, _mm_set1_epi16(15)));
        _mm_or_si128(_mm_srli_epi16::<4>(wide), low)
    }
}

/// Lanes below `count` have all bits set.
#[inline(always)]
unsafe fn mask8(count: usize) -> __m256i {
    unsafe {
        let lane = _mm256_setr_epi32(0, 1, 2, 3, 4, 5, 6, 7);
        _mm256_cmpgt_epi32(_mm256_set1_epi32(count.min(8) as i32), lane)
    }
}

#[inline(always)]
fn mask16(count: usize) -> __mmask16 {
    if count >= 16 { u16::MAX } else { (1 << count) - 1 }
}

impl Lanes for Avx2 {
    const WIDTH: usize = 8;
    const ROWS: usize = 6;
    type V = __m256;

    #[inline(always)]
    unsafe fn splat(value: f32) -> Self::V {
        unsafe { _mm256_set1_ps(value) }
    }
    #[inline(always)]
    unsafe fn load(from: *const f32) -> Self::V {
        unsafe { _mm256_loadu_ps(from) }
    }
    #[inline(always)]
    unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
        unsafe { if count >= 8 { _mm256_loadu_ps(from) } else { _mm256_maskload_ps(from, mask8(count)) } }
    }
    #[inline(always)]
    unsafe fn store(to: *mut f32, v: Self::V) {
        unsafe { _mm256_storeu_ps(to, v) }
    }
    #[inline(always)]
    unsafe fn store_part(to: *mut f32, count: usize, v: Self::V) {
        unsafe { if count >= 8 { _mm256_storeu_ps(to, v) } else { _mm256_maskstore_ps(to, mask8(count), v) } }
    }
    #[inline(always)]
    unsafe fn load_bf16_part(from: *const u16, count: usize) -> Self::V {
        unsafe {
            let bits = if count >= 8 {
                _mm_loadu_si128(from.cast())
            } else {
                let mut padded = [0u16; 8];
                std::ptr::copy_nonoverlapping(from, padded.as_mut_ptr(), count);
                _mm_loadu_si128(padded.as_ptr().cast())
            };
            _mm256_castsi256_ps(_mm256_slli_epi32::<16>(_mm256_cvtepu16_epi32(bits)))
        }
    }
    #[inline(always)]
    unsafe fn store_bf16_part(to: *mut u16, count: usize, v: Self::V) {
        unsafe {
            let bits = _mm256_castps_si256(v);
            let odd = _mm256_and_si256(_mm256_srli_epi32::<16>(bits), _mm256_set1_epi32(1));
            let rounded = _mm256_add_epi32(bits, _mm256_add_epi32(odd, _mm256_set1_epi32(0x7fff)));
            // What is no number stays none: a bit of it is set that rounding might have left out.
            let quiet = _mm256_or_si256(bits, _mm256_set1_epi32(0x0040_0000));
            let nan = _mm256_castps_si256(_mm256_cmp_ps::<_CMP_UNORD_Q>(v, v));
            let words = _mm256_srli_epi32::<16>(_mm256_blendv_epi8(rounded, quiet, nan));
            let halves = _mm_packus_epi32(_mm256_castsi256_si128(words), _mm256_extracti128_si256::<1>(words));
            if count >= 8 {
                _mm_storeu_si128(to.cast(), halves);
            } else {
                let mut padded = [0u16; 8];
                _mm_storeu_si128(padded.as_mut_ptr().cast(), halves);
                std::ptr::copy_nonoverlapping(padded.as_ptr(), to, count);
            }
        }
    }
    #[inline(always)]
    unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_add_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_sub_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_mul_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_div_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_max_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
        unsafe { _mm256_min_ps(a, b) }
    }
    #[inline(always)]
    unsafe fn sqrt(a: Self::V) -> Self::V {
        unsafe { _mm256_sqrt_ps(a) }
    }
    #[inline(always)]
    unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
        unsafe { _mm256_fmadd_ps(a, b, c) }
    }
    #[inline(always)]
    unsafe fn pow2_of_low_bits(v: Self::V) -> Self::V {
        unsafe {
            let shifted = _mm256_slli_epi32::<23>(_mm256_castps_si256(v));
            _mm256_castsi256_ps(_mm256_add_epi32(shifted, _mm256_set1_epi32(127 << 23)))
        }
    }
    #[inline(always)]
    unsafe fn sum(v: Self::V) -> f32 {
        unsafe {
            let four = _mm_add_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_add_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_add_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn largest(v: Self::V) -> f32 {
        unsafe {
            let four = _mm_max_ps(_mm256_castps256_ps128(v), _mm256_extractf128_ps::<1>(v));
            let two = _mm_max_ps(four, _mm_movehl_ps(four, four));
            _mm_cvtss_f32(_mm_max_ss(two, _mm_shuffle_ps::<1>(two, two)))
        }
    }
    #[inline(always)]
    unsafe fn widen_pairs(from: *const u32) -> (Self::V, Self::V) {
        unsafe {
            let bits = _mm256_loadu_si256(from.cast());
            let high = _mm256_and_si256(bits, _mm256_set1_epi32(0xffff_0000u32 as i32));
            (_mm256_castsi256_ps(_mm256_slli_epi32::<16>(bits)), _mm256_castsi256_ps(high))
        }
    }
    #[inline(always)]
    unsafe fn load_i8(from: *const u8) -> Self::V {
        unsafe { _mm256_cvtepi32_ps(_mm256_cvtepi8_epi32(_mm_loadl_epi64(from.cast()))) }
    }
    #[inline(always)]
    unsafe fn look_up(from: *const u8, table: &[f32; 16]) -> Self::V {
        unsafe {
            let bytes = _mm_cvtsi32_si128(from.cast::<i32>().read_unaligned());
            let places = _mm256_cvtepu8_epi32(halves(bytes));
            let low = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr()), places);
            let high = _mm256_permutevar8x32_ps(_mm256_loadu_ps(table.as_ptr().add(8)), places);
            // The fourth bit of a place, where the choice looks for a sign.
            _mm256_blendv_ps(low, high, _mm256_castsi256_ps(_mm256_slli_epi32::<28>(places)))
        }
    }
}

/// Sixteen lanes and bf16 dot products.
#[derive(Clone, Copy)]
pub struct Avx512;

/// Sixteen lanes.
#[derive(Clone, Copy)]
pub struct Avx512F;

/// The sixteen nearest bf16, ties to even, by the processor's own instruction.
#[inline(always)]
unsafe fn halves_by_instruction(v: __m512) -> __m256i {
    unsafe { std::mem::transmute(_mm512_cvtneps_pbh(v)) }
}

/// The same by arithmetic.
#[inline(always)]
unsafe fn halves_by_arithmetic(v: __m512) -> __m256i {
    unsafe {
        let bits = _mm512_castps_si512(v);
        let odd = _mm512_and_si512(_mm512_srli_epi32::<16>(bits), _mm512_set1_epi32(1));
        let rounded = _mm512_add_epi32(bits, _mm512_add_epi32(odd, _mm512_set1_epi32(0x7fff)));
        // As in the rounding of eight.
        let quiet = _mm512_or_si512(bits, _mm512_set1_epi32(0x0040_0000));
        let words = _mm512_mask_blend_epi32(_mm512_cmp_ps_mask::<_CMP_UNORD_Q>(v, v), rounded, quiet);
        _mm512_cvtepi32_epi16(_mm512_srli_epi32::<16>(words))
    }
}

macro_rules! sixteen_lanes {
    ($name:ident, $halves:ident) => {
        impl Lanes for $name {
            const WIDTH: usize = 16;
            const ROWS: usize = 12;
            type V = __m512;

            #[inline(always)]
            unsafe fn splat(value: f32) -> Self::V {
                unsafe { _mm512_set1_ps(value) }
            }
            #[inline(always)]
            unsafe fn load(from: *const f32) -> Self::V {
                unsafe { _mm512_loadu_ps(from) }
            }
            #[inline(always)]
            unsafe fn load_part(from: *const f32, count: usize) -> Self::V {
                unsafe { _mm512_maskz_loadu_ps(mask16(count), from) }
            }
            #[inline(always)]
            unsafe fn store(to: *mut f32, v: Self::V) {
                unsafe { _mm512_storeu_ps(to, v) }
            }
            #[inline(always)]
            unsafe fn store_part(to: *mut f32, count: usize, v: Self::V) {
                unsafe { _mm512_mask_storeu_ps(to, mask16(count), v) }
            }
            #[inline(always)]
            unsafe fn load_bf16_part(from: *const u16, count: usize) -> Self::V {
                unsafe {
                    let bits = _mm256_maskz_loadu_epi16(mask16(count), from.cast());
                    _mm512_castsi512_ps(_mm512_slli_epi32::<16>(_mm512_cvtepu16_epi32(bits)))
                }
            }
            #[inline(always)]
            unsafe fn store_bf16_part(to: *mut u16, count: usize, v: Self::V) {
                unsafe {
                    _mm256_mask_storeu_epi16(to.cast(), mask16(count), $halves(v));
                }
            }
            #[inline(always)]
            unsafe fn add(a: Self::V, b: Self::V) -> Self::V {
                unsafe { _mm512_add_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn sub(a: Self::V, b: Self::V) -> Self::V {
                unsafe { _mm512_sub_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn mul(a: Self::V, b: Self::V) -> Self::V {
                unsafe { _mm512_mul_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn div(a: Self::V, b: Self::V) -> Self::V {
                unsafe { _mm512_div_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn max(a: Self::V, b: Self::V) -> Self::V {
                unsafe { _mm512_max_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn min(a: Self::V, b: Self::V) -> Self::V {
                unsafe { _mm512_min_ps(a, b) }
            }
            #[inline(always)]
            unsafe fn sqrt(a: Self::V) -> Self::V {
                unsafe { _mm512_sqrt_ps(a) }
            }
            #[inline(always)]
            unsafe fn fma(a: Self::V, b: Self::V, c: Self::V) -> Self::V {
                unsafe { _mm512_fmadd_ps(a, b, c) }
            }
            #[inline(always)]
            unsafe fn pow2_of_low_bits(v: Self::V) -> Self::V {
                unsafe {
                    let shifted = _mm512_slli_epi32::<23>(_mm512_castps_si512(v));
                    _mm512_castsi512_ps(_mm512_add_epi32(shifted, _mm512_set1_epi32(127 << 23)))
                }
            }
            #[inline(always)]
            unsafe fn sum(v: Self::V) -> f32 {
                unsafe { _mm512_reduce_add_ps(v) }
            }
            #[inline(always)]
            unsafe fn largest(v: Self::V) -> f32 {
                unsafe { _mm512_reduce_max_ps(v) }
            }
            #[inline(always)]
            unsafe fn widen_pairs(from: *const u32) -> (Self::V, Self::V) {
                unsafe {
                    let bits = _mm512_loadu_si512(from.cast());
                    let high = _mm512_and_si512(bits, _mm512_set1_epi32(0xffff_0000u32 as i32));
                    (_mm512_castsi512_ps(_mm512_slli_epi32::<16>(bits)), _mm512_castsi512_ps(high))
                }
            }
            #[inline(always)]
            unsafe fn load_i8(from: *const u8) -> Self::V {
                unsafe { _mm512_cvtepi32_ps(_mm512_cvtepi8_epi32(_mm_loadu_si128(from.cast()))) }
            }
            #[inline(always)]
            unsafe fn look_up(from: *const u8, table: &[f32; 16]) -> Self::V {
                unsafe {
                    let places = _mm512_cvtepu8_epi32(halves(_mm_loadl_epi64(from.cast())));
                    _mm512_permutexvar_ps(places, _mm512_loadu_ps(table.as_ptr()))
                }
            }
        }
    };
}

sixteen_lanes!(Avx512, halves_by_instruction);
sixteen_lanes!(Avx512F, halves_by_arithmetic);
