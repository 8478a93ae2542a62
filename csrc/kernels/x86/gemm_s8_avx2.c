/* gemm_s8 and conv_s8 with AVX2: vpmaddwd adds two products of 16-bit codes to each of 8 int32 sums, exactly.
 *
 * For many positions, x is widened to 16 bits on the stack and the weights of 16 columns are packed there so that a vector
 * holds two codes of each of 8 columns; for a few rows, vectors run along the rows and the sums are folded at the end. */
#include "spans.h"
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#define COLUMNS 16 /* of a panel: two vectors of sums */
#define DEPTH 512  /* pairs of codes of a column that fit a panel */
#define SPAN 8192  /* codes of x that are widened at once */
#define FEW 4      /* rows up to which packing does not pay */

typedef struct target { /* how the sums of 16 columns become codes */
    __m256 multiplier[2], lo, hi;
    __m256i zero_point;
    int32_t columns;
} target;

EP_AVX2 EP_INLINE target make_target(const ep_requant *q, int32_t k, int32_t left)
{
    target t;
    float multiplier[COLUMNS] = {0};
    t.columns = left < COLUMNS ? left : COLUMNS;
    memcpy(multiplier, q->multiplier + k, (size_t)t.columns * sizeof *multiplier);
    t.multiplier[0] = _mm256_loadu_ps(multiplier);
    t.multiplier[1] = _mm256_loadu_ps(multiplier + 8);
    t.lo = _mm256_set1_ps(q->lo);
    t.hi = _mm256_set1_ps(q->hi);
    t.zero_point = _mm256_set1_epi32(q->zero_point);
    return t;
}

EP_AVX2 EP_INLINE __m256i quantize(const target *t, __m256i sums, int half)
{
    __m256 v = _mm256_mul_ps(_mm256_cvtepi32_ps(sums), t->multiplier[half]);
    v = _mm256_min_ps(_mm256_max_ps(v, t->lo), t->hi);
    return _mm256_add_epi32(_mm256_cvtps_epi32(v), t->zero_point);
}

EP_AVX2 EP_INLINE void store(const target *t, int8_t *y, const __m256i sums[2])
{
    const __m256i words = _mm256_packs_epi32(quantize(t, sums[0], 0), quantize(t, sums[1], 1));
    const __m256i ordered = _mm256_permute4x64_epi64(words, 0xd8);
    const __m128i codes = _mm_packs_epi16(_mm256_castsi256_si128(ordered), _mm256_extracti128_si256(ordered, 1));
    if (t->columns == COLUMNS) {
        _mm_storeu_si128((__m128i *)(void *)y, codes);
    } else {
        int8_t some[COLUMNS];
        _mm_storeu_si128((__m128i *)(void *)some, codes);
        memcpy(y, some, (size_t)t->columns);
    }
}

/* ---- Many positions ---------------------------------------------------------------------------------------------- */

EP_INLINE int32_t pairs(int32_t piece)
{
    return (piece + 1) / 2;
}

/* Columns of dwords become rows. */
EP_AVX2 EP_INLINE void transpose8(__m256i v[8])
{
    __m256i t[8];
    EP_UNROLL
    for (int i = 0; i < 8; i += 2) {
        t[i] = _mm256_unpacklo_epi32(v[i], v[i + 1]);
        t[i + 1] = _mm256_unpackhi_epi32(v[i], v[i + 1]);
    }
    EP_UNROLL
    for (int i = 0; i < 8; i += 4) {
        v[i] = _mm256_unpacklo_epi64(t[i], t[i + 2]);
        v[i + 1] = _mm256_unpackhi_epi64(t[i], t[i + 2]);
        v[i + 2] = _mm256_unpacklo_epi64(t[i + 1], t[i + 3]);
        v[i + 3] = _mm256_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    EP_UNROLL
    for (int i = 0; i < 4; i++) {
        t[i] = _mm256_permute2x128_si256(v[i], v[4 + i], 0x20);
        t[4 + i] = _mm256_permute2x128_si256(v[i], v[4 + i], 0x31);
    }
    memcpy(v, t, sizeof t);
}

/* 8 columns of one piece: w, `step` from one column to the next -> panel (pairs(piece), 2 vectors, of which this is one).
 * The last pair of an odd piece has the code before it once more, with weight 0. */
EP_AVX2 static void pack(__m256i *panel, const int8_t *w, ptrdiff_t step, int32_t columns, int32_t piece)
{
    for (int32_t i = 0; i < piece; i += 16) {
        const int32_t n = piece - i < 16 ? piece - i : 16;
        __m256i v[8];
        for (int32_t k = 0; k < 8; k++) {
            int8_t some[16] = {0};
            if (k < columns) memcpy(some, w + k * step + i, (size_t)n);
            if (n % 2 != 0) {
                some[n] = some[n - 1];
                some[n - 1] = 0;
            }
            v[k] = _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)some));
        }
        transpose8(v);
        for (int32_t k = 0; k < (n + 1) / 2; k++) panel[2 * (i / 2 + k)] = v[k];
    }
}

EP_AVX2 EP_INLINE void add_products(__m256i *sums, __m256i x, __m256i w)
{
    *sums = _mm256_add_epi32(*sums, _mm256_madd_epi16(x, w));
}

/* `rows` positions, a constant where this is called, by one panel; at: where the pairs of a position are. */
EP_AVX2 EP_INLINE void multiply(const ep_conv_s8 *c, const target *t, const __m256i *panel, const __m256i bias[2],
                                const int32_t *at, const int16_t *x, int8_t *y, const int rows)
{
    const int32_t depth = c->pieces * pairs(c->piece);
    __m256i sums[4][2];
    EP_UNROLL
    for (int r = 0; r < rows; r++) {
        sums[r][0] = bias[0];
        sums[r][1] = bias[1];
    }
    for (int32_t i = 0; i < depth; i++) {
        const __m256i w0 = panel[2 * i], w1 = panel[2 * i + 1];
        EP_UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t two;
            memcpy(&two, x + at[i] + r * c->x_step, 4);
            const __m256i v = _mm256_set1_epi32(two);
            add_products(&sums[r][0], v, w0);
            add_products(&sums[r][1], v, w1);
        }
    }
    EP_UNROLL
    for (int r = 0; r < rows; r++) store(t, y + r * c->y_step, sums[r]);
}

/* Columns k .. k + 15 at all positions of a span, x being its copy. */
EP_AVX2 static void multiply_columns(const ep_conv_s8 *c, const int32_t *at, const int16_t *x, int32_t k)
{
    const target t = make_target(&c->q, k, c->columns - k);
    const ptrdiff_t step = (ptrdiff_t)c->pieces * c->piece;
    int32_t start[COLUMNS] = {0};
    __m256i panel[2 * DEPTH], bias[2];
    memcpy(start, c->bias + k, (size_t)t.columns * sizeof *start);
    bias[0] = _mm256_loadu_si256((const __m256i *)(const void *)start);
    bias[1] = _mm256_loadu_si256((const __m256i *)(const void *)(start + 8));
    for (int32_t s = 0; s < c->pieces; s++) {
        const int8_t *w = c->w + k * step + s * c->piece;
        pack(panel + 2 * s * pairs(c->piece), w, step, t.columns, c->piece);
        pack(panel + 2 * s * pairs(c->piece) + 1, w + 8 * step, step, t.columns - 8, c->piece);
    }
    for (int32_t l = 0; l < c->lines; l++) {
        const int16_t *from = x + l * c->x_line;
        int8_t *to = c->y + l * c->y_line + k;
        int32_t r = 0;
        for (; r + 4 <= c->run; r += 4) {
            multiply(c, &t, panel, bias, at, from + r * c->x_step, to + r * c->y_step, 4);
        }
        for (; r < c->run; r++) {
            multiply(c, &t, panel, bias, at, from + r * c->x_step, to + r * c->y_step, 1);
        }
    }
}

EP_AVX2 static void widen(int16_t *to, const int8_t *x, ptrdiff_t count)
{
    ptrdiff_t i = 0;
    for (; i + 16 <= count; i += 16) {
        const __m128i v = _mm_loadu_si128((const __m128i *)(const void *)(x + i));
        _mm256_storeu_si256((__m256i *)(void *)(to + i), _mm256_cvtepi8_epi16(v));
    }
    for (; i < count; i++) to[i] = x[i];
}

EP_AVX2 static void multiply_span(const ep_conv_s8 *c, const void *at)
{
    __m256i x[SPAN / 16];
    widen((int16_t *)x, c->x, ep_span_of(c, c->lines, c->run));
    for (int32_t k = 0; k < c->columns; k += COLUMNS) {
        multiply_columns(c, at, (const int16_t *)x, k);
    }
}

static int fits(int32_t pieces, int32_t piece)
{
    return piece >= 2 && (int64_t)pieces * pairs(piece) <= DEPTH;
}

EP_AVX2 void ep_conv_s8_avx2(const ep_conv_s8 *c)
{
    int32_t at[DEPTH], deep = pairs(c->piece);
    const int possible = fits(c->pieces, c->piece);
    for (int32_t s = 0; possible && s < c->pieces; s++) {
        for (int32_t i = 0; i < deep; i++) {
            at[s * deep + i] = (int32_t)(s * c->x_piece) + (2 * i + 2 <= c->piece ? 2 * i : c->piece - 2);
        }
    }
    if (!possible || !ep_by_spans(c, SPAN, 4, multiply_span, at)) ep_conv_s8_portable(c);
}

/* ---- A few rows -------------------------------------------------------------------------------------------------- */

/* The 4 totals of 4 vectors. */
EP_AVX2 EP_INLINE __m128i fold4(const __m256i v[4])
{
    const __m256i t = _mm256_hadd_epi32(_mm256_hadd_epi32(v[0], v[1]), _mm256_hadd_epi32(v[2], v[3]));
    return _mm_add_epi32(_mm256_castsi256_si128(t), _mm256_extracti128_si256(t, 1));
}

EP_AVX2 EP_INLINE __m256i load16(const int8_t *p)
{
    return _mm256_cvtepi8_epi16(_mm_loadu_si128((const __m128i *)(const void *)p));
}

/* 4 columns by one row; columns beyond the last are the last again. */
EP_AVX2 EP_INLINE __m128i dot4(const int8_t *x, const int8_t *w, int32_t count, int32_t last)
{
    __m256i sums[4];
    int32_t i = 0, rest[4] = {0};
    EP_UNROLL
    for (int j = 0; j < 4; j++) sums[j] = _mm256_setzero_si256();
    for (; i + 16 <= count; i += 16) {
        const __m256i v = load16(x + i);
        EP_UNROLL
        for (int32_t j = 0; j < 4; j++) {
            add_products(&sums[j], v, load16(w + (ptrdiff_t)(j < last ? j : last) * count + i));
        }
    }
    for (int32_t j = 0; j < 4; j++) {
        const int8_t *column = w + (ptrdiff_t)(j < last ? j : last) * count;
        for (int32_t t = i; t < count; t++) rest[j] += x[t] * column[t];
    }
    return _mm_add_epi32(fold4(sums), _mm_loadu_si128((const __m128i *)(const void *)rest));
}

EP_AVX2 static void dot_row(const ep_gemm_s8 *g, const int8_t *x, int8_t *y)
{
    for (int32_t k = 0; k < g->columns; k += COLUMNS) {
        const target t = make_target(&g->q, k, g->columns - k);
        int32_t sums[COLUMNS] = {0};
        memcpy(sums, g->bias + k, (size_t)t.columns * sizeof *sums);
        for (int32_t j = 0; j < t.columns; j += 4) {
            __m128i *four = (__m128i *)(void *)(sums + j);
            const __m128i dots = dot4(x, g->w + (ptrdiff_t)(k + j) * g->count, g->count, t.columns - j - 1);
            _mm_storeu_si128(four, _mm_add_epi32(_mm_loadu_si128(four), dots));
        }
        const __m256i halves[2] = {_mm256_loadu_si256((const __m256i *)(const void *)sums),
                                   _mm256_loadu_si256((const __m256i *)(const void *)(sums + 8))};
        store(&t, y + k, halves);
    }
}

EP_AVX2 void ep_gemm_s8_avx2(const ep_gemm_s8 *g)
{
    if (g->rows > FEW && fits(1, g->count)) {
        const ep_conv_s8 c = ep_as_conv(g);
        ep_conv_s8_avx2(&c);
        return;
    }
    for (int32_t r = 0; r < g->rows; r++) dot_row(g, g->x + r * g->x_step, g->y + r * g->y_step);
}

#else
typedef int ep_gemm_s8_avx2_left_out; /* ISO C wants a declaration in every file */
#endif
