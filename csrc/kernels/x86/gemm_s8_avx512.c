/* gemm_s8 and conv_s8 with VNNI: vpdpbusd adds four products of unsigned by signed codes to each of 16 int32 sums.
 *
 * For many positions, the weights of 16 columns are packed on the stack so that a vector holds four codes of each column;
 * x is copied there, 128 higher, and broadcast; what the 128 adds comes off the bias. For a few rows, vectors run along the rows, the
 * weights are 128 higher, and the sums are folded at the end. */
#include "spans.h"
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#define COLUMNS 16 /* of a panel: one vector of sums */
#define DEPTH 256  /* vectors in a panel: four codes of each column */
#define SPAN 16384 /* bytes of x that are copied at once */
#define FEW 5      /* rows up to which packing does not pay */

typedef struct target { /* how the sums of 16 columns become codes */
    __m512 multiplier, lo, hi;
    __m512i zero_point;
    __m128i lowest, highest; /* lo, hi as codes: rounding first and clamping then gives the same */
    __mmask16 mask;
    int small; /* no product comes near 2^31, so that only codes need to be clamped */
} target;

EP_AVX512 EP_INLINE target make_target(const ep_requant *q, int32_t k, int32_t left)
{
    const int32_t columns = left < COLUMNS ? left : COLUMNS;
    target t;
    t.mask = (__mmask16)((1u << columns) - 1u);
    t.multiplier = _mm512_maskz_loadu_ps(t.mask, q->multiplier + k);
    t.lo = _mm512_set1_ps(q->lo);
    t.hi = _mm512_set1_ps(q->hi);
    t.zero_point = _mm512_set1_epi32(q->zero_point);
    t.lowest = _mm_set1_epi8((char)(_mm512_cvtsi512_si32(_mm512_cvtps_epi32(t.lo)) + q->zero_point));
    t.highest = _mm_set1_epi8((char)(_mm512_cvtsi512_si32(_mm512_cvtps_epi32(t.hi)) + q->zero_point));
    t.small = _mm512_cmp_ps_mask(_mm512_abs_ps(t.multiplier), _mm512_set1_ps(0.5f), _CMP_NLT_UQ) == 0;
    return t;
}

EP_AVX512 EP_INLINE __m512i rounded(const target *t, __m512i sums)
{
    return _mm512_cvtps_epi32(_mm512_mul_ps(_mm512_cvtepi32_ps(sums), t->multiplier));
}

/* Masked stores of bytes are slow on some processors: not where all columns or half of them are there. */
EP_AVX512 EP_INLINE void store_codes(const target *t, int8_t *y, __m128i v)
{
    if (t->mask == 0xFFFF) {
        _mm_storeu_si128((__m128i *)(void *)y, v);
    } else if (t->mask == 0xFF) {
        _mm_storel_epi64((__m128i *)(void *)y, v);
    } else {
        _mm_mask_storeu_epi8(y, t->mask, v);
    }
}

EP_AVX512 EP_INLINE void store(const target *t, int8_t *y, __m512i sums)
{
    __m512 v = _mm512_mul_ps(_mm512_cvtepi32_ps(sums), t->multiplier);
    v = _mm512_min_ps(_mm512_max_ps(v, t->lo), t->hi);
    store_codes(t, y, _mm512_cvtepi32_epi8(_mm512_add_epi32(_mm512_cvtps_epi32(v), t->zero_point)));
}

/* Four rows at once, where t->small. Saturation on the way to codes never goes past the clamp that follows. */
EP_AVX512 EP_INLINE void store4(const target *t, int8_t *y, ptrdiff_t step, const __m512i sums[4])
{
    const __m512i zero_point = _mm512_packs_epi32(t->zero_point, t->zero_point);
    const __m512i order = _mm512_setr_epi32(0, 4, 8, 12, 1, 5, 9, 13, 2, 6, 10, 14, 3, 7, 11, 15);
    const __m512i a = _mm512_packs_epi32(rounded(t, sums[0]), rounded(t, sums[1]));
    const __m512i b = _mm512_packs_epi32(rounded(t, sums[2]), rounded(t, sums[3]));
    __m512i v = _mm512_packs_epi16(_mm512_adds_epi16(a, zero_point), _mm512_adds_epi16(b, zero_point));
    v = _mm512_max_epi8(v, _mm512_broadcast_i32x4(t->lowest));
    v = _mm512_permutexvar_epi32(order, _mm512_min_epi8(v, _mm512_broadcast_i32x4(t->highest)));
    store_codes(t, y, _mm512_castsi512_si128(v));
    store_codes(t, y + step, _mm512_extracti32x4_epi32(v, 1));
    store_codes(t, y + 2 * step, _mm512_extracti32x4_epi32(v, 2));
    store_codes(t, y + 3 * step, _mm512_extracti32x4_epi32(v, 3));
}

/* ---- Many rows --------------------------------------------------------------------------------------------------- */

/* Columns of dwords become rows: v[i] dword j <-> v[j] dword i. */
EP_AVX512 EP_INLINE void transpose16(__m512i v[16])
{
    __m512i t[16];
    EP_UNROLL
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(v[i], v[i + 1]);
    }
    EP_UNROLL
    for (int i = 0; i < 16; i += 4) {
        v[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    EP_UNROLL
    for (int i = 0; i < 4; i++) { /* v[4 q + i] holds dwords i, 4 + i, 8 + i, 12 + i of rows 4 q .. 4 q + 3 */
        t[i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0x88);
        t[4 + i] = _mm512_shuffle_i32x4(v[i], v[4 + i], 0xdd);
        t[8 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0x88);
        t[12 + i] = _mm512_shuffle_i32x4(v[8 + i], v[12 + i], 0xdd);
    }
    EP_UNROLL
    for (int i = 0; i < 4; i++) {
        v[i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0x88);
        v[8 + i] = _mm512_shuffle_i32x4(t[i], t[8 + i], 0xdd);
        v[4 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0x88);
        v[12 + i] = _mm512_shuffle_i32x4(t[4 + i], t[12 + i], 0xdd);
    }
}

/* Pieces of a position, four codes at a time; the last four of a piece may overlap those before, whose weights are 0 then. */
EP_INLINE int32_t fours(int32_t piece)
{
    return (piece + 3) / 4;
}

/* The last dword of a piece, without the codes that the dword before it has. */
EP_INLINE int32_t last_four(const int8_t *w, int32_t piece)
{
    uint32_t word;
    memcpy(&word, w + piece - 4, 4);
    const int32_t had = 8 * (4 * fours(piece) - piece);
    return (int32_t)(word >> had << had);
}

/* One piece: w (columns, codes), `step` from one column to the next -> panel (fours(piece), 16, 4); 0 beyond the columns. */
EP_AVX512 static void pack(__m512i *panel, const int8_t *w, ptrdiff_t step, int32_t columns, int32_t piece)
{
    const int32_t whole = piece / 4 * 4;
    for (int32_t i = 0; i < whole; i += 64) {
        const int32_t bytes = whole - i < 64 ? whole - i : 64;
        const __mmask64 mask = ~(__mmask64)0 >> (64 - bytes);
        __m512i v[16];
        EP_UNROLL
        for (int32_t k = 0; k < 16; k++) {
            v[k] = k < columns ? _mm512_maskz_loadu_epi8(mask, w + k * step + i) : _mm512_setzero_si512();
        }
        transpose16(v);
        memcpy(panel + i / 4, v, (size_t)bytes / 4 * sizeof *v);
    }
    if (whole < piece) {
        int32_t last[16] = {0};
        for (int32_t k = 0; k < 16 && k < columns; k++) last[k] = last_four(w + k * step, piece);
        panel[whole / 4] = _mm512_loadu_si512(last);
    }
}

/* `rows` positions, a constant where this is called, by one panel; at: where the dwords of a position are. */
EP_AVX512 EP_INLINE void multiply(const ep_conv_s8 *c, const target *t, const __m512i *panel, __m512i bias,
                                  const int32_t *at, const int8_t *x, int8_t *y, const int rows)
{
    const int32_t depth = c->pieces * fours(c->piece);
    const ptrdiff_t step = c->x_step;
    __m512i sums[8];
    EP_UNROLL
    for (int r = 0; r < rows; r++) sums[r] = bias;
    for (int32_t i = 0; i < depth; i++) {
        const __m512i w = panel[i];
        const int8_t *p = x + at[i], *p4 = p + 4 * step;
        __asm__("" : "+r"(p4)); /* or gcc keeps eight offsets in vector registers */
        EP_UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, r < 4 ? p + r * step : p4 + (r - 4) * step, 4);
            ep_add_products(&sums[r], _mm512_set1_epi32(four), w);
        }
    }
    if (rows % 4 == 0 && t->small) {
        EP_UNROLL
        for (int r = 0; r < rows; r += 4) store4(t, y + r * c->y_step, c->y_step, sums + r);
        return;
    }
    EP_UNROLL
    for (int r = 0; r < rows; r++) store(t, y + r * c->y_step, sums[r]);
}

EP_AVX512 static void multiply_line(const ep_conv_s8 *c, const target *t, const __m512i *panel, __m512i bias,
                                    const int32_t *at, const int8_t *x, int8_t *y)
{
    int32_t r = 0;
    for (; r + 8 <= c->run; r += 8) {
        multiply(c, t, panel, bias, at, x + r * c->x_step, y + r * c->y_step, 8);
    }
    for (; r + 4 <= c->run; r += 4) {
        multiply(c, t, panel, bias, at, x + r * c->x_step, y + r * c->y_step, 4);
    }
    for (; r < c->run; r++) {
        multiply(c, t, panel, bias, at, x + r * c->x_step, y + r * c->y_step, 1);
    }
}

/* Columns k .. k + 15 at all positions. */
EP_AVX512 static void multiply_columns(const ep_conv_s8 *c, const int32_t *at, int32_t k)
{
    const target t = make_target(&c->q, k, c->columns - k);
    const ptrdiff_t step = (ptrdiff_t)c->pieces * c->piece;
    const int32_t deep = fours(c->piece);
    __m512i panel[DEPTH], bias = _mm512_maskz_loadu_epi32(t.mask, c->bias + k), extra = _mm512_setzero_si512();
    for (int32_t s = 0; s < c->pieces; s++) {
        pack(panel + s * deep, c->w + k * step + s * c->piece, step, c->columns - k, c->piece);
    }
    for (int32_t i = 0; i < c->pieces * deep; i++) {
        extra = _mm512_dpbusd_epi32(extra, _mm512_set1_epi8(-128), panel[i]);
    }
    bias = _mm512_sub_epi32(bias, extra);
    for (int32_t l = 0; l < c->lines; l++) {
        multiply_line(c, &t, panel, bias, at, c->x + l * c->x_line, c->y + l * c->y_line + k);
    }
}

static int fits(int32_t pieces, int32_t piece)
{
    return piece >= 4 && (int64_t)pieces * fours(piece) <= DEPTH;
}

/* x, from the first code to the last that is seen, 128 higher. */
EP_AVX512 static void copy_span(int8_t *to, const int8_t *x, ptrdiff_t size)
{
    const __m512i high = _mm512_set1_epi8(-128);
    ptrdiff_t i = 0;
    for (; i + 64 <= size; i += 64) {
        _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_loadu_si512(x + i), high));
    }
    if (i < size) {
        const __mmask64 mask = ~(__mmask64)0 >> (64 - (size - i));
        _mm512_storeu_si512(to + i, _mm512_xor_si512(_mm512_maskz_loadu_epi8(mask, x + i), high));
    }
}

/* What fits a span. */
EP_AVX512 static void multiply_span(const ep_conv_s8 *c, const void *at)
{
    __m512i x[SPAN / 64 + 1];
    ep_conv_s8 copy = *c;
    copy_span((int8_t *)x, c->x, ep_span_of(c, c->lines, c->run));
    copy.x = (const int8_t *)x;
    for (int32_t k = 0; k < c->columns; k += COLUMNS) multiply_columns(&copy, at, k);
}

EP_AVX512 void ep_conv_s8_avx512(const ep_conv_s8 *c)
{
    int32_t at[DEPTH], deep = fours(c->piece);
    const int possible = fits(c->pieces, c->piece);
    for (int32_t s = 0; possible && s < c->pieces; s++) {
        for (int32_t i = 0; i < deep; i++) {
            at[s * deep + i] = (int32_t)(s * c->x_piece) + (4 * i + 4 <= c->piece ? 4 * i : c->piece - 4);
        }
    }
    if (!possible || !ep_by_spans(c, SPAN, 8, multiply_span, at)) ep_conv_s8_portable(c);
}

/* ---- A few rows -------------------------------------------------------------------------------------------------- */

/* 128 times the sum of one row of x. */
EP_AVX512 EP_INLINE int32_t sum_row(const int8_t *x, int32_t count)
{
    const __m512i high = _mm512_set1_epi8(-128);
    __m512i sum = _mm512_setzero_si512();
    int32_t i = 0;
    for (; i + 64 <= count; i += 64) {
        sum = _mm512_dpbusd_epi32(sum, high, _mm512_loadu_si512(x + i));
    }
    if (i < count) {
        const __mmask64 mask = ~(__mmask64)0 >> (64 - (count - i));
        sum = _mm512_dpbusd_epi32(sum, high, _mm512_maskz_loadu_epi8(mask, x + i));
    }
    return _mm512_reduce_add_epi32(sum);
}

/* The 8 totals of 8 vectors. */
EP_AVX512 EP_INLINE __m256i fold8(const __m256i v[8])
{
    __m256i t[4], q[2];
    EP_UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_add_epi32(_mm256_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                                _mm256_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    }
    EP_UNROLL
    for (int i = 0; i < 2; i++) {
        q[i] = _mm256_add_epi32(_mm256_unpacklo_epi64(t[2 * i], t[2 * i + 1]),
                                _mm256_unpackhi_epi64(t[2 * i], t[2 * i + 1]));
    }
    return _mm256_add_epi32(_mm256_permute2x128_si256(q[0], q[1], 0x20), _mm256_permute2x128_si256(q[0], q[1], 0x31));
}

/* 8 columns by one row; from `last` on, the column of that number again. Vectors of 256 bits are as fast here, for what is
 * read comes from the second level of the cache, and are folded in half the time. */
EP_AVX512 EP_INLINE __m256i dot8(const int8_t *x, const int8_t *w, int32_t count, int32_t last)
{
    const __m256i high = _mm256_set1_epi8(-128);
    __m256i sums[8];
    int32_t i = 0;
    EP_UNROLL
    for (int j = 0; j < 8; j++) sums[j] = _mm256_setzero_si256();
    for (; last >= 7 && i + 32 <= count; i += 32) {
        const __m256i v = _mm256_loadu_si256((const __m256i *)(const void *)(x + i));
        EP_UNROLL
        for (int32_t j = 0; j < 8; j++) {
            const __m256i c = _mm256_loadu_si256((const __m256i *)(const void *)(w + (ptrdiff_t)j * count + i));
            sums[j] = _mm256_dpbusd_epi32(sums[j], _mm256_xor_si256(c, high), v);
        }
    }
    for (; i < count; i += 32) {
        const __mmask32 mask = ~(__mmask32)0 >> (count - i < 32 ? 32 - (count - i) : 0);
        const __m256i v = _mm256_maskz_loadu_epi8(mask, x + i);
        EP_UNROLL
        for (int32_t j = 0; j < 8; j++) {
            const __m256i c = _mm256_maskz_loadu_epi8(mask, w + (ptrdiff_t)(j < last ? j : last) * count + i);
            sums[j] = _mm256_dpbusd_epi32(sums[j], _mm256_xor_si256(c, high), v);
        }
    }
    return fold8(sums);
}

EP_AVX512 static void dot_row(const ep_gemm_s8 *g, const int8_t *x, int8_t *y, int32_t row_sum)
{
    for (int32_t k = 0; k < g->columns; k += COLUMNS) {
        const target t = make_target(&g->q, k, g->columns - k);
        const int8_t *w = g->w + (ptrdiff_t)k * g->count;
        const int32_t last = g->columns - k - 1;
        const __m256i a = dot8(x, w, g->count, last),
                      b = last >= 8 ? dot8(x, w + (ptrdiff_t)8 * g->count, g->count, last - 8) : a;
        const __m512i bias = _mm512_maskz_loadu_epi32(t.mask, g->bias + k);
        const __m512i sums = _mm512_inserti64x4(_mm512_castsi256_si512(a), b, 1);
        store(&t, y + k, _mm512_add_epi32(sums, _mm512_sub_epi32(bias, _mm512_set1_epi32(row_sum))));
    }
}

EP_AVX512 void ep_gemm_s8_avx512(const ep_gemm_s8 *g)
{
    if (g->rows > FEW && fits(1, g->count)) {
        const ep_conv_s8 c = ep_as_conv(g);
        ep_conv_s8_avx512(&c);
        return;
    }
    for (int32_t r = 0; r < g->rows; r++) {
        const int8_t *x = g->x + r * g->x_step;
        dot_row(g, x, g->y + r * g->y_step, sum_row(x, g->count));
    }
}

#else
typedef int ep_gemm_s8_avx512_left_out; /* ISO C wants a declaration in every file */
#endif
