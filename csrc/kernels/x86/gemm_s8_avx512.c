/* gemm_s8 with VNNI: vpdpbusd adds four products of unsigned by signed codes to each of 16 int32 sums.
 *
 * The weights are the unsigned side, 128 higher, so 128 times the sum of a row of x comes off its sums again. For many
 * rows of x, the weights of 16 columns are packed on the stack so that a vector holds four codes of each column, and x is
 * broadcast; for a few rows, vectors run along the rows and the sums are folded at the end. */
#include "x86.h"

#ifdef EP_DISPATCH

#define COLUMNS 16 /* of a panel: one vector of sums */
#define DEPTH 1024 /* codes of a column that fit a panel */
#define CHUNK 256  /* rows of x whose sums are kept */
#define FEW 5      /* rows up to which packing does not pay */

typedef struct target { /* how the sums of 16 columns become codes */
    __m512 multiplier, lo, hi;
    __m512i zero_point;
    __m128i lowest, highest; /* lo, hi as codes: rounding first and clamping then gives the same */
    __mmask16 mask;
    int small; /* no product comes near 2^31, so that only codes need to be clamped */
} target;

EP_AVX512 EP_INLINE target make_target(const ep_gemm_s8 *g, int32_t k)
{
    const int32_t columns = g->columns - k < COLUMNS ? g->columns - k : COLUMNS;
    target t;
    t.mask = (__mmask16)((1u << columns) - 1u);
    t.multiplier = _mm512_maskz_loadu_ps(t.mask, g->q.multiplier + k);
    t.lo = _mm512_set1_ps(g->q.lo);
    t.hi = _mm512_set1_ps(g->q.hi);
    t.zero_point = _mm512_set1_epi32(g->q.zero_point);
    t.lowest = _mm_set1_epi8((char)(_mm512_cvtsi512_si32(_mm512_cvtps_epi32(t.lo)) + g->q.zero_point));
    t.highest = _mm_set1_epi8((char)(_mm512_cvtsi512_si32(_mm512_cvtps_epi32(t.hi)) + g->q.zero_point));
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

/* w (columns, count) -> panel (count / 4 rounded up, 16, 4), 128 higher; whatever where w has nothing. */
EP_AVX512 static void pack(__m512i *panel, const int8_t *w, int32_t columns, int32_t count)
{
    for (int32_t i = 0; i < count; i += 64) {
        const int32_t bytes = count - i < 64 ? count - i : 64;
        const __mmask64 mask = ~(__mmask64)0 >> (64 - bytes);
        __m512i v[16];
        EP_UNROLL
        for (int32_t k = 0; k < 16; k++) {
            v[k] = k < columns ? _mm512_maskz_loadu_epi8(mask, w + (ptrdiff_t)k * count + i) : _mm512_setzero_si512();
        }
        transpose16(v);
        for (int32_t k = 0; k < (bytes + 3) / 4; k++) {
            panel[i / 4 + k] = _mm512_xor_si512(v[k], _mm512_set1_epi8(-128));
        }
    }
}

/* The 16 totals of 16 vectors. */
EP_AVX512 EP_INLINE __m512i fold16(const __m512i v[16])
{
    __m512i t[8], q[4];
    EP_UNROLL
    for (int i = 0; i < 8; i++) {
        t[i] = _mm512_add_epi32(_mm512_unpacklo_epi32(v[2 * i], v[2 * i + 1]),
                                _mm512_unpackhi_epi32(v[2 * i], v[2 * i + 1]));
    }
    EP_UNROLL
    for (int i = 0; i < 4; i++) {
        q[i] = _mm512_add_epi32(_mm512_unpacklo_epi64(t[2 * i], t[2 * i + 1]),
                                _mm512_unpackhi_epi64(t[2 * i], t[2 * i + 1]));
    }
    EP_UNROLL
    for (int i = 0; i < 2; i++) {
        t[i] = _mm512_add_epi32(_mm512_shuffle_i32x4(q[2 * i], q[2 * i + 1], 0x88),
                                _mm512_shuffle_i32x4(q[2 * i], q[2 * i + 1], 0xdd));
    }
    return _mm512_add_epi32(_mm512_shuffle_i32x4(t[0], t[1], 0x88), _mm512_shuffle_i32x4(t[0], t[1], 0xdd));
}

/* 128 times the sum of one row of x, spread over 16 lanes. */
EP_AVX512 EP_INLINE __m512i sum_row(const int8_t *x, int32_t count)
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
    return sum;
}

/* sums[r] = 128 * sum of row r of x, for r up to the next multiple of 16. */
EP_AVX512 static void sum_rows(int32_t *sums, const int8_t *x, ptrdiff_t x_step, int32_t rows, int32_t count)
{
    for (int32_t r = 0; r < rows; r += 16) {
        __m512i v[16];
        EP_UNROLL
        for (int32_t i = 0; i < 16; i++) {
            v[i] = sum_row(x + (r + i < rows ? r + i : rows - 1) * x_step, count);
        }
        _mm512_storeu_si512(sums + r, fold16(v));
    }
}

/* The last codes of a row of `count`, which do not fill a dword, and zeros. */
EP_INLINE int32_t last_codes(const int8_t *x, int32_t count)
{
    uint32_t word = 0;
    if (count < 4) {
        memcpy(&word, x, (size_t)count);
        return (int32_t)word;
    }
    memcpy(&word, x + count - 4, 4);
    return (int32_t)(word >> (32 - 8 * (count % 4)));
}

/* `rows` rows, a constant where this is called, by one panel. */
EP_AVX512 EP_INLINE void multiply(const ep_gemm_s8 *g, const target *t, const __m512i *panel, __m512i bias,
                                  const int32_t *row_sums, const int8_t *x, int8_t *y, const int rows)
{
    const int32_t whole = g->count / 4;
    __m512i sums[8];
    EP_UNROLL
    for (int r = 0; r < rows; r++) {
        sums[r] = _mm512_sub_epi32(bias, _mm512_set1_epi32(row_sums[r]));
    }
    for (int32_t i = 0; i < whole; i++) {
        const __m512i w = panel[i];
        EP_UNROLL
        for (int r = 0; r < rows; r++) {
            int32_t four;
            memcpy(&four, x + r * g->x_step + 4 * i, 4);
            sums[r] = _mm512_dpbusd_epi32(sums[r], w, _mm512_set1_epi32(four));
        }
    }
    if (g->count % 4 != 0) {
        EP_UNROLL
        for (int r = 0; r < rows; r++) {
            const int32_t four = last_codes(x + r * g->x_step, g->count);
            sums[r] = _mm512_dpbusd_epi32(sums[r], panel[whole], _mm512_set1_epi32(four));
        }
    }
    if (rows % 4 == 0 && t->small) {
        EP_UNROLL
        for (int r = 0; r < rows; r += 4) {
            store4(t, y + r * g->y_step, g->y_step, sums + r);
        }
        return;
    }
    EP_UNROLL
    for (int r = 0; r < rows; r++) {
        store(t, y + r * g->y_step, sums[r]);
    }
}

EP_AVX512 static void multiply_rows(const ep_gemm_s8 *g, const target *t, const __m512i *panel, __m512i bias,
                                    const int32_t *row_sums, const int8_t *x, int8_t *y, int32_t rows)
{
    int32_t r = 0;
    for (; r + 8 <= rows; r += 8) {
        multiply(g, t, panel, bias, row_sums + r, x + r * g->x_step, y + r * g->y_step, 8);
    }
    for (; r + 4 <= rows; r += 4) {
        multiply(g, t, panel, bias, row_sums + r, x + r * g->x_step, y + r * g->y_step, 4);
    }
    for (; r < rows; r++) {
        multiply(g, t, panel, bias, row_sums + r, x + r * g->x_step, y + r * g->y_step, 1);
    }
}

EP_AVX512 static void gemm_packed(const ep_gemm_s8 *g)
{
    __m512i panel[DEPTH / 4];
    int32_t row_sums[CHUNK];
    for (int32_t r = 0; r < g->rows; r += CHUNK) {
        const int32_t rows = g->rows - r < CHUNK ? g->rows - r : CHUNK;
        const int8_t *x = g->x + r * g->x_step;
        sum_rows(row_sums, x, g->x_step, rows, g->count);
        for (int32_t k = 0; k < g->columns; k += COLUMNS) {
            const target t = make_target(g, k);
            pack(panel, g->w + (ptrdiff_t)k * g->count, g->columns - k, g->count);
            multiply_rows(g, &t, panel, _mm512_maskz_loadu_epi32(t.mask, g->bias + k), row_sums, x,
                          g->y + r * g->y_step + k, rows);
        }
    }
}

/* ---- A few rows -------------------------------------------------------------------------------------------------- */

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
    for (int j = 0; j < 8; j++) {
        sums[j] = _mm256_setzero_si256();
    }
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
        const target t = make_target(g, k);
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
    if (g->rows > FEW && g->count <= DEPTH) {
        gemm_packed(g);
        return;
    }
    for (int32_t r = 0; r < g->rows; r++) {
        const int8_t *x = g->x + r * g->x_step;
        dot_row(g, x, g->y + r * g->y_step, _mm512_reduce_add_epi32(sum_row(x, g->count)));
    }
}

#else
typedef int ep_gemm_s8_avx512_left_out; /* ISO C wants a declaration in every file */
#endif
