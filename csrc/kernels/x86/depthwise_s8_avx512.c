/* depthwise_s8 with VNNI: the codes of up to four rows of a kernel's column are laid side by side, channel by channel, so
 * that vpdpbusd adds them to 16 channels' sums at once. 64 lanes are 64 channels of one position or, where there are fewer
 * channels, those of several positions. x is the unsigned side, 128 higher; what that adds comes off the bias. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#define COLUMNS 16 /* columns of a kernel, times groups of four rows, that fit the plan */
#define TAPS 49    /* taps of a kernel that can be collected from scattered positions */

typedef struct plan {
    __m512i w[COLUMNS][4]; /* quarter j: channels 4 j .. 4 j + 3 of every 16, four rows each */
    __m512i bias[4];
    __m512 multiplier[4];
    __m512 lo, hi;
    __m512i zero_point;
    __mmask64 mask; /* lanes that are there */
} plan;

typedef struct source { /* of 64 lanes of x: steps from row to row and from tap to tap of the kernel */
    const int8_t *x;
    ptrdiff_t row, tap;
    __mmask64 mask,
        behind; /* which of the 64 bytes at x are read, and of the 64 behind them if every other group counts */
    __m512i every_other; /* where among these 128 bytes the lanes are */
} source;

/* Bytes of four vectors side by side, in the order of plan.w. */
EP_AVX512 EP_INLINE void interleave(__m512i q[4], __m512i a, __m512i b, __m512i c, __m512i d)
{
    const __m512i ab_lo = _mm512_unpacklo_epi8(a, b), ab_hi = _mm512_unpackhi_epi8(a, b);
    const __m512i cd_lo = _mm512_unpacklo_epi8(c, d), cd_hi = _mm512_unpackhi_epi8(c, d);
    q[0] = _mm512_unpacklo_epi16(ab_lo, cd_lo);
    q[1] = _mm512_unpackhi_epi16(ab_lo, cd_lo);
    q[2] = _mm512_unpacklo_epi16(ab_hi, cd_hi);
    q[3] = _mm512_unpackhi_epi16(ab_hi, cd_hi);
}

/* 128-bit part l of vector j <-> part j of vector l: 64 values by lane -> in the order of plan.w, and back. */
EP_AVX512 EP_INLINE void swap_parts(__m512i v[4])
{
    const __m512i a = _mm512_shuffle_i32x4(v[0], v[1], 0x44), b = _mm512_shuffle_i32x4(v[0], v[1], 0xee);
    const __m512i c = _mm512_shuffle_i32x4(v[2], v[3], 0x44), d = _mm512_shuffle_i32x4(v[2], v[3], 0xee);
    v[0] = _mm512_shuffle_i32x4(a, c, 0x88);
    v[1] = _mm512_shuffle_i32x4(a, c, 0xdd);
    v[2] = _mm512_shuffle_i32x4(b, d, 0x88);
    v[3] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* `channels` codes, as often as they fit 64 lanes if they are fewer. */
EP_AVX512 EP_INLINE __m512i load_codes(const int8_t *p, int32_t channels)
{
    const __m512i v = _mm512_maskz_loadu_epi8(~(__mmask64)0 >> (channels < 64 ? 64 - channels : 0), p);
    switch (channels) {
    case 8: return _mm512_broadcastq_epi64(_mm512_castsi512_si128(v));
    case 16: return _mm512_broadcast_i32x4(_mm512_castsi512_si128(v));
    case 32: return _mm512_broadcast_i64x4(_mm512_castsi512_si256(v));
    default: return v;
    }
}

/* The same of 4-byte values, 64 lanes in the order of plan.w. */
EP_AVX512 EP_INLINE void load_words(__m512i v[4], const void *p, int32_t channels)
{
    EP_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        const int32_t from = channels <= 16 ? 0 : channels == 32 ? i % 2 * 16 : i * 16, left = channels - from;
        const __mmask16 mask = (__mmask16)(left >= 16 ? 0xFFFF : left > 0 ? (1 << left) - 1 : 0);
        v[i] = _mm512_maskz_loadu_epi32(mask, (const int32_t *)p + from);
        if (channels == 8) v[i] = _mm512_broadcast_i64x4(_mm512_castsi512_si256(v[i]));
    }
    swap_parts(v);
}

/* For channels from c on, of which the plan takes `channels`. */
EP_AVX512 static void make_plan(plan *p, const ep_depthwise_s8 *d, int32_t c, int32_t channels)
{
    __m512i words[4], extra[4];
    EP_UNROLL
    for (int j = 0; j < 4; j++) extra[j] = _mm512_setzero_si512();
    for (int32_t ky = 0, at = 0; ky < d->kernel_h; ky += 4) {
        for (int32_t kx = 0; kx < d->kernel_w; kx++, at++) {
            __m512i rows[4];
            EP_UNROLL
            for (int32_t i = 0; i < 4; i++) {
                const int8_t *w = d->w + (ky + i) * d->w_row + kx * d->w_tap + c;
                rows[i] = ky + i < d->kernel_h ? load_codes(w, channels) : _mm512_setzero_si512();
            }
            interleave(p->w[at], rows[0], rows[1], rows[2], rows[3]);
            EP_UNROLL
            for (int j = 0; j < 4; j++) {
                extra[j] = _mm512_dpbusd_epi32(extra[j], _mm512_set1_epi8(-128), p->w[at][j]);
            }
        }
    }
    load_words(words, d->bias + c, channels);
    EP_UNROLL
    for (int j = 0; j < 4; j++) p->bias[j] = _mm512_sub_epi32(words[j], extra[j]);
    load_words(words, d->q.multiplier + c, channels);
    EP_UNROLL
    for (int j = 0; j < 4; j++) p->multiplier[j] = _mm512_castsi512_ps(words[j]);
    p->lo = _mm512_set1_ps(d->q.lo);
    p->hi = _mm512_set1_ps(d->q.hi);
    p->zero_point = _mm512_set1_epi32(d->q.zero_point);
    p->mask = ~(__mmask64)0 >> (channels < 64 ? 64 - channels : 0);
}

EP_AVX512 EP_INLINE __m512i quantize(const plan *p, __m512i sums, int j)
{
    const __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), p->multiplier[j]);
    return _mm512_add_epi32(_mm512_cvtps_epi32(_mm512_min_ps(_mm512_max_ps(v, p->lo), p->hi)), p->zero_point);
}

/* 64 lanes of x, 128 higher. `stride`, a constant: 2 if the positions leave one out. */
EP_AVX512 EP_INLINE __m512i load_lanes(const source *s, const int8_t *x, const int stride)
{
    __m512i v = _mm512_maskz_loadu_epi8(s->mask, x);
    if (stride == 2) {
        v = _mm512_permutex2var_epi64(v, s->every_other, _mm512_maskz_loadu_epi8(s->behind, x + 64));
    }
    return _mm512_xor_si512(v, _mm512_set1_epi8(-128));
}

/* One column of up to four rows; rows that the kernel does not have count nothing, so any will do. */
EP_AVX512 EP_INLINE void add_column(__m512i sums[4], const __m512i w[4], const source *s, const int8_t *x, int32_t rows,
                                    const int stride)
{
    const __m512i a = load_lanes(s, x, stride);
    __m512i b = a, c = a, d = a, q[4];
    if (rows > 1) b = load_lanes(s, x + s->row, stride);
    if (rows > 2) c = load_lanes(s, x + 2 * s->row, stride);
    if (rows > 3) d = load_lanes(s, x + 3 * s->row, stride);
    interleave(q, a, b, c, d);
    EP_UNROLL
    for (int j = 0; j < 4; j++) sums[j] = _mm512_dpbusd_epi32(sums[j], q[j], w[j]);
}

/* 64 lanes of output. */
EP_AVX512 EP_INLINE __m512i outputs(const plan *p, const source *s, int32_t kernel_h, int32_t kernel_w,
                                    const int stride)
{
    __m512i sums[4] = {p->bias[0], p->bias[1], p->bias[2], p->bias[3]};
    for (int32_t ky = 0, at = 0; ky < kernel_h; ky += 4) {
        const int32_t rows = kernel_h - ky < 4 ? kernel_h - ky : 4;
        const int8_t *x = s->x + ky * s->row;
        for (int32_t kx = 0; kx < kernel_w; kx++, at++, x += s->tap) {
            add_column(sums, p->w[at], s, x, rows, stride);
        }
    }
    const __m512i lo = _mm512_packs_epi32(quantize(p, sums[0], 0), quantize(p, sums[1], 1));
    const __m512i hi = _mm512_packs_epi32(quantize(p, sums[2], 2), quantize(p, sums[3], 3));
    return _mm512_packs_epi16(lo, hi);
}

/* A kernel of 3 x 3 gets code of its own. */
EP_AVX512 EP_INLINE __m512i outputs_of(const plan *p, const ep_depthwise_s8 *d, const source *s, const int stride)
{
    return d->kernel_h == 3 && d->kernel_w == 3 ? outputs(p, s, 3, 3, stride)
                                                : outputs(p, s, d->kernel_h, d->kernel_w, stride);
}

EP_INLINE __mmask64 first(int32_t lanes)
{
    return lanes <= 0 ? 0 : ~(__mmask64)0 >> (lanes < 64 ? 64 - lanes : 0);
}

/* Masked stores of bytes are slow on some processors. */
EP_AVX512 EP_INLINE void store_lanes(int8_t *y, __mmask64 mask, __m512i v)
{
    if (mask == ~(__mmask64)0) {
        _mm512_storeu_si512(y, v);
    } else {
        _mm512_mask_storeu_epi8(y, mask, v);
    }
}

/* Positions whose lanes lie side by side, from one line's first on: `lanes` of them. */
EP_AVX512 static void run_lanes(const plan *p, const ep_depthwise_s8 *d, const int8_t *x, int8_t *y, int32_t lanes)
{
    for (int32_t i = 0; i < lanes; i += 64) {
        const source s = {.x = x + i,
                          .row = d->x_row,
                          .tap = d->x_tap,
                          .mask = first(lanes - i),
                          .every_other = _mm512_setzero_si512()};
        store_lanes(y + i, s.mask, outputs_of(p, d, &s, 1));
    }
}

/* The same where in x, between a position's 8, 16 or 32 channels and the next one's, as many are left out. */
EP_AVX512 static void run_every_other(const plan *p, const ep_depthwise_s8 *d, const int8_t *x, int8_t *y,
                                      int32_t lanes)
{
    const __m512i count = _mm512_setr_epi64(0, 1, 2, 3, 4, 5, 6, 7), group = _mm512_set1_epi64(d->channels / 8 - 1);
    const __m512i every_other = /* word j of the result: its group twice as far, the same place in it */
        _mm512_add_epi64(count, _mm512_andnot_si512(group, count));
    for (int32_t i = 0; i < lanes; i += 64) {
        const int32_t n = lanes - i < 64 ? lanes - i : 64, read = 2 * n - d->channels;
        const source s = {.x = x + 2 * i,
                          .row = d->x_row,
                          .tap = d->x_tap,
                          .mask = first(read),
                          .behind = first(read - 64),
                          .every_other = every_other};
        store_lanes(y + i, first(n), outputs_of(p, d, &s, 2));
    }
}

/* What one position sees, tap after tap, 64 lanes apart. `channels` is a constant where this is called. */
EP_INLINE void collect(const ep_depthwise_s8 *d, int8_t *to, const int8_t *x, size_t channels)
{
    for (int32_t ky = 0; ky < d->kernel_h; ky++, x += d->x_row) {
        for (int32_t kx = 0; kx < d->kernel_w; kx++, to += 64) {
            memcpy(to, x + kx * d->x_tap, channels);
        }
    }
}

/* 8, 16 or 32 channels of positions that do not lie side by side: what they see is collected first. */
EP_AVX512 EP_INLINE void scattered(const plan *p, const ep_depthwise_s8 *d, const int32_t channels)
{
    const int32_t together = 64 / channels, positions = d->lines * d->run;
    __m512i lanes[TAPS + 1];
    int8_t *const taps = (int8_t *)lanes, *const out = taps + TAPS * 64, *ys[8];
    const source s = {
        .x = taps, .row = d->kernel_w * 64, .tap = 64, .mask = ~(__mmask64)0, .every_other = _mm512_setzero_si512()};
    int32_t line = 0, at = 0; /* of the next position */
    for (int32_t i = 0; i < positions; i += together) {
        const int32_t n = positions - i < together ? positions - i : together;
        for (int32_t j = 0; j < n; j++) {
            collect(d, taps + j * channels, d->x + line * d->x_line + at * d->x_step, (size_t)channels);
            ys[j] = d->y + line * d->y_line + at * d->y_step;
            if (++at == d->run) {
                at = 0;
                line++;
            }
        }
        _mm512_store_si512(out, outputs_of(p, d, &s, 1));
        for (int32_t j = 0; j < n; j++) memcpy(ys[j], out + j * channels, (size_t)channels);
    }
}

EP_AVX512 static void few_channels(const ep_depthwise_s8 *d)
{
    plan p;
    make_plan(&p, d, 0, d->channels);
    if (d->y_step == d->channels && d->run > 1 && (d->x_step == d->channels || d->x_step == 2 * d->channels)) {
        for (int32_t l = 0; l < d->lines; l++) {
            (d->x_step == d->channels ? run_lanes : run_every_other)(&p, d, d->x + l * d->x_line, d->y + l * d->y_line,
                                                                     d->run * d->channels);
        }
        return;
    }
    switch (d->channels) {
    case 8: scattered(&p, d, 8); break;
    case 16: scattered(&p, d, 16); break;
    default: scattered(&p, d, 32); break;
    }
}

EP_AVX512 static void by_channels(const ep_depthwise_s8 *d)
{
    plan p;
    for (int32_t c = 0; c < d->channels; c += 64) {
        const int32_t channels = d->channels - c < 64 ? d->channels - c : 64;
        make_plan(&p, d, c, channels);
        for (int32_t l = 0; l < d->lines; l++) {
            for (int32_t i = 0; i < d->run; i++) {
                run_lanes(&p, d, d->x + l * d->x_line + i * d->x_step + c, d->y + l * d->y_line + i * d->y_step + c,
                          channels);
            }
        }
    }
}

EP_AVX512 void ep_depthwise_s8_avx512(const ep_depthwise_s8 *d)
{
    if ((d->kernel_h + 3) / 4 * d->kernel_w > COLUMNS) {
        ep_depthwise_s8_portable(d);
    } else if ((d->channels == 8 || d->channels == 16 || d->channels == 32) && d->kernel_h * d->kernel_w <= TAPS) {
        few_channels(d);
    } else {
        by_channels(d);
    }
}

#else
typedef int ep_depthwise_s8_avx512_left_out; /* ISO C wants a declaration in every file */
#endif
