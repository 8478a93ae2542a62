/* The int8 kernels over plain rows, 16 or 64 codes at a time; the last ones under a mask. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

EP_INLINE __mmask16 mask16(size_t left)
{
    return (__mmask16)(left < 16 ? (1u << left) - 1u : 0xFFFFu);
}

EP_INLINE __mmask64 mask64(size_t left)
{
    return ~(__mmask64)0 >> (left < 64 ? 64 - left : 0);
}

/* Masked stores of bytes are slow on some processors. */
EP_AVX512 EP_INLINE void store16(int8_t *y, __mmask16 mask, __m512i codes)
{
    const __m128i v = _mm512_cvtepi32_epi8(codes);
    if (mask == 0xFFFF) {
        _mm_storeu_si128((__m128i *)(void *)y, v);
    } else {
        _mm_mask_storeu_epi8(y, mask, v);
    }
}

EP_AVX512 void ep_requantize_s8_avx512(int8_t *y, const int32_t *sums, const ep_requant *q, int32_t count)
{
    const __m512 lo = _mm512_set1_ps(q->lo), hi = _mm512_set1_ps(q->hi);
    for (int32_t i = 0; i < count; i += 16) {
        const __mmask16 mask = mask16((size_t)(count - i));
        const __m512 sum = _mm512_cvtepi32_ps(_mm512_maskz_loadu_epi32(mask, sums + i));
        const __m512 v = _mm512_mul_ps(sum, _mm512_maskz_loadu_ps(mask, q->multiplier + i));
        const __m512i code = _mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, lo), hi));
        store16(y + i, mask, _mm512_add_epi32(code, _mm512_set1_epi32(q->zero_point)));
    }
}

EP_AVX512 EP_INLINE __m512 load16(const int8_t *p, __mmask16 mask, __m512i offset)
{
    return _mm512_cvtepi32_ps(_mm512_add_epi32(_mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, p)), offset));
}

EP_AVX512 void ep_add_s8_avx512(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    const __m512 a_ratio = _mm512_set1_ps(args->a_ratio), b_ratio = _mm512_set1_ps(args->b_ratio);
    const __m512 fixed = _mm512_set1_ps(args->fixed), lo = _mm512_set1_ps(args->lo), hi = _mm512_set1_ps(args->hi);
    const __m512i offset = _mm512_set1_epi32(args->offset);
    for (size_t i = 0; i < count; i += 16) {
        const __mmask16 mask = mask16(count - i);
        __m512 v = _mm512_fmadd_ps(load16(b + i, mask, offset), b_ratio, fixed);
        v = _mm512_fmadd_ps(load16(a + i, mask, offset), a_ratio, v);
        v = _mm512_min_ps(_mm512_max_ps(v, lo), hi);
        store16(y + i, mask, _mm512_sub_epi32(_mm512_cvtps_epi32(v), offset));
    }
}

EP_AVX512 void ep_max_s8_avx512(int8_t *y, const int8_t *x, int32_t count)
{
    for (int32_t i = 0; i < count; i += 64) {
        const __mmask64 mask = mask64((size_t)(count - i));
        const __m512i v = _mm512_maskz_loadu_epi8(mask, y + i);
        _mm512_mask_storeu_epi8(y + i, mask, _mm512_max_epi8(v, _mm512_maskz_loadu_epi8(mask, x + i)));
    }
}

EP_AVX512 void ep_sum_s8_avx512(int32_t *sums, const int8_t *x, int32_t count)
{
    for (int32_t i = 0; i < count; i += 16) {
        const __mmask16 mask = mask16((size_t)(count - i));
        const __m512i v = _mm512_cvtepi8_epi32(_mm_maskz_loadu_epi8(mask, x + i));
        _mm512_mask_storeu_epi32(sums + i, mask, _mm512_add_epi32(_mm512_maskz_loadu_epi32(mask, sums + i), v));
    }
}

#else
typedef int ep_rows_s8_avx512_left_out; /* ISO C wants a declaration in every file */
#endif
