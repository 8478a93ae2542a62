/* depthwise_s8 with AVX2: two taps of 16 channels are widened to 16 bits and laid side by side, so that vpmaddwd adds both
 * to each channel's sum, exactly. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#define LANES 16
#define TAPS 64 /* of a kernel, an even number */

typedef struct plan { /* for 16 channels; halves in the order of unpack: channels 0-3 8-11, 4-7 12-15 */
    __m256i w[TAPS / 2][2];
    ptrdiff_t at[TAPS]; /* where in x the taps are; one tap more than there are has weights 0 */
    __m256i bias[2];
    __m256 multiplier[2], lo, hi;
    __m256i zero_point;
    int32_t pairs;
} plan;

EP_AVX2 EP_INLINE __m256i load16(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* 16 values of 4 bytes, in the order of unpack. */
EP_AVX2 EP_INLINE void load_words(__m256i v[2], const void *p)
{
    const __m256i a = _mm256_loadu_si256((const __m256i *)p), b = _mm256_loadu_si256((const __m256i *)p + 1);
    v[0] = _mm256_permute2x128_si256(a, b, 0x20);
    v[1] = _mm256_permute2x128_si256(a, b, 0x31);
}

EP_AVX2 static void make_plan(plan *p, const ep_depthwise_s8 *d, int32_t c)
{
    const int32_t taps = d->kernel_h * d->kernel_w;
    __m256i words[2], before = _mm256_setzero_si256();
    p->pairs = (taps + 1) / 2;
    for (int32_t t = 0; t < 2 * p->pairs; t++) {
        const int32_t ky = t < taps ? t / d->kernel_w : 0, kx = t < taps ? t % d->kernel_w : 0;
        const __m256i w = t < taps ? load16(d->w + ky * d->w_row + kx * d->w_tap + c) : _mm256_setzero_si256();
        p->at[t] = ky * d->x_row + kx * d->x_tap;
        if (t % 2 != 0) {
            p->w[t / 2][0] = _mm256_unpacklo_epi16(before, w);
            p->w[t / 2][1] = _mm256_unpackhi_epi16(before, w);
        }
        before = w;
    }
    load_words(p->bias, d->bias + c);
    load_words(words, d->q.multiplier + c);
    p->multiplier[0] = _mm256_castsi256_ps(words[0]);
    p->multiplier[1] = _mm256_castsi256_ps(words[1]);
    p->lo = _mm256_set1_ps(d->q.lo);
    p->hi = _mm256_set1_ps(d->q.hi);
    p->zero_point = _mm256_set1_epi32(d->q.zero_point);
}

EP_AVX2 EP_INLINE __m256i quantize(const plan *p, __m256i sums, int half)
{
    const __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), p->multiplier[half]);
    return _mm256_add_epi32(_mm256_cvtps_epi32(_mm256_min_ps(_mm256_max_ps(v, p->lo), p->hi)), p->zero_point);
}

EP_AVX2 EP_INLINE void position(const plan *p, const int8_t *x, int8_t *y)
{
    __m256i lo = p->bias[0], hi = p->bias[1];
    for (int32_t i = 0; i < p->pairs; i++) {
        const __m256i a = load16(x + p->at[2 * i]), b = load16(x + p->at[2 * i + 1]);
        lo = _mm256_add_epi32(lo, _mm256_madd_epi16(_mm256_unpacklo_epi16(a, b), p->w[i][0]));
        hi = _mm256_add_epi32(hi, _mm256_madd_epi16(_mm256_unpackhi_epi16(a, b), p->w[i][1]));
    }
    const __m256i words = _mm256_packs_epi32(quantize(p, lo, 0), quantize(p, hi, 1));
    _mm_storeu_si128((__m128i *)(void *)y,
                     _mm_packs_epi16(_mm256_castsi256_si128(words), _mm256_extracti128_si256(words, 1)));
}

/* The last channels, fewer than 16, are taken together with some before them, whose codes come out the same again. */
EP_AVX2 void ep_depthwise_s8_avx2(const ep_depthwise_s8 *d)
{
    if (d->channels < LANES || d->kernel_h * d->kernel_w > TAPS) {
        ep_depthwise_s8_portable(d);
        return;
    }
    for (int32_t c = 0; c < d->channels; c += LANES) {
        const int32_t from = c + LANES <= d->channels ? c : d->channels - LANES;
        plan p;
        make_plan(&p, d, from);
        for (int32_t l = 0; l < d->lines; l++) {
            for (int32_t i = 0; i < d->run; i++) {
                position(&p, d->x + l * d->x_line + i * d->x_step + from, d->y + l * d->y_line + i * d->y_step + from);
            }
        }
    }
}

#else
typedef int ep_depthwise_s8_avx2_left_out; /* ISO C wants a declaration in every file */
#endif
