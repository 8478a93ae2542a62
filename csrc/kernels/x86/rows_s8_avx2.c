/* The int8 kernels over plain rows with AVX2, 8 or 32 codes at a time; what is left at the end is for the portable ones. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

/* The low bytes of 8 words. */
EP_AVX2 EP_INLINE void store8(int8_t *y, __m256i codes)
{
    const __m128i words = _mm_packs_epi32(_mm256_castsi256_si128(codes), _mm256_extracti128_si256(codes, 1));
    _mm_storel_epi64((__m128i *)(void *)y, _mm_packs_epi16(words, words));
}

EP_AVX2 EP_INLINE __m256i clamped(__m256 v, __m256 lo, __m256 hi)
{
    return _mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, lo), hi));
}

EP_AVX2 void ep_requantize_s8_avx2(int8_t *y, const int32_t *sums, const ep_requant *q, int32_t count)
{
    const __m256 lo = _mm256_set1_ps(q->lo), hi = _mm256_set1_ps(q->hi);
    const __m256i zero_point = _mm256_set1_epi32(q->zero_point);
    ep_requant rest = *q;
    int32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const __m256 sum = _mm256_cvtepi32_ps(_mm256_loadu_si256((const __m256i *)(const void *)(sums + i)));
        const __m256 v = _mm256_mul_ps(sum, _mm256_loadu_ps(q->multiplier + i));
        store8(y + i, _mm256_add_epi32(clamped(v, lo, hi), zero_point));
    }
    rest.multiplier += i;
    ep_requantize_s8_portable(y + i, sums + i, &rest, count - i);
}

EP_AVX2 EP_INLINE __m256 load8(const int8_t *p, __m256i offset)
{
    const __m256i v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)p));
    return _mm256_cvtepi32_ps(_mm256_add_epi32(v, offset));
}

EP_AVX2 void ep_add_s8_avx2(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    const __m256 a_ratio = _mm256_set1_ps(args->a_ratio), b_ratio = _mm256_set1_ps(args->b_ratio);
    const __m256 fixed = _mm256_set1_ps(args->fixed), lo = _mm256_set1_ps(args->lo), hi = _mm256_set1_ps(args->hi);
    const __m256i offset = _mm256_set1_epi32(args->offset);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256 v = _mm256_fmadd_ps(load8(b + i, offset), b_ratio, fixed);
        v = _mm256_fmadd_ps(load8(a + i, offset), a_ratio, v);
        store8(y + i, _mm256_sub_epi32(clamped(v, lo, hi), offset));
    }
    ep_add_s8_portable(args, y + i, a + i, b + i, count - i);
}

EP_AVX2 void ep_max_s8_avx2(int8_t *y, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    for (; i + 32 <= count; i += 32) {
        __m256i *to = (__m256i *)(void *)(y + i);
        const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        _mm256_storeu_si256(to, _mm256_max_epi8(_mm256_loadu_si256(to), v));
    }
    ep_max_s8_portable(y + i, x + i, count - i);
}

EP_AVX2 void ep_sum_s8_avx2(int32_t *sums, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        __m256i *to = (__m256i *)(void *)(sums + i);
        const __m256i v = _mm256_cvtepi8_epi32(_mm_loadl_epi64((const __m128i *)(const void *)(x + i)));
        _mm256_storeu_si256(to, _mm256_add_epi32(_mm256_loadu_si256(to), v));
    }
    ep_sum_s8_portable(sums + i, x + i, count - i);
}

#else
typedef int ep_rows_s8_avx2_left_out; /* ISO C wants a declaration in every file */
#endif
