/* Matrix products of codes, 16 at an instruction: VMLADAVA adds the products of all lanes to one core register. The loops
 * are in assembly because compilers spread their registers badly; only even core registers take such sums. */
#include "../kernels.h"

#ifdef __ARM_FEATURE_MVE
#include "requantize.h"

#define LANES 16
#define SHORT 64   /* count, up to which a row of x stays in registers */
#define COLUMNS 32 /* of which a tile keeps sums on the stack */
#define TILE_ROWS 3
#define SPECIALIZED __attribute__((always_inline)) static inline /* for constant arguments */

/* The row of x that all columns see. The last register overlaps the one before, whose lanes it has zeroed, so that no load
 * reaches behind a row of x or w. */
typedef struct row {
    int8x16_t x[4];
} row;

static inline int8x16_t load_last(const int8_t *x, int32_t count)
{
    if (count < LANES) return vldrbq_z_s8(x, vctp8q((uint32_t)count));
    const int32_t seen = -count & (LANES - 1);
    return vldrbq_z_s8(x + count - LANES, (mve_pred16_t)(0xFFFFu << seen));
}

static inline row load_row(const int8_t *x, int32_t count, const int vectors)
{
    row r;
    for (int i = 0; i < vectors - 1; i++) r.x[i] = vldrbq_s8(x + LANES * i);
    r.x[vectors - 1] = load_last(x, count);
    return r;
}

#define FIRST "vldrb.u8 %q[t], [%[w]], #16\n\tvmladav.s8 %[s], %q[x0], %q[t]\n\t"
#define STEP(x) "vldrb.u8 %q[t], [%[w]], #16\n\tvmladava.s8 %[s], %q[" x "], %q[t]\n\t"
#define BACK "add %[w], %[w], %[back]\n\t"
#define COLUMN(text, ...) \
    __asm__(text : [s] "=&Te"(sum), [w] "+r"(*w), [t] "=&w"(t) : [m] "m"(*(const char(*)[4 * LANES]) * w), __VA_ARGS__)

/* x . *w, which goes on to the next column. `back`: from behind the last but one register's codes to the start of
 * the last one's, 0 where they are side by side. */
SPECIALIZED int32_t dot_column(const row *r, const int8_t **w, const int vectors, const int gap, int32_t back)
{
    int32_t sum;
    int8x16_t t;
    const int8x16_t x0 = r->x[0], x1 = r->x[vectors > 1], x2 = r->x[vectors > 2 ? 2 : 0], x3 = r->x[vectors - 1];
    if (vectors == 1 && !gap) {
        COLUMN(FIRST, [x0] "w"(x0));
    } else if (vectors == 1) {
        COLUMN(FIRST BACK, [x0] "w"(x0), [back] "r"(back));
    } else if (vectors == 2 && !gap) {
        COLUMN(FIRST STEP("x1"), [x0] "w"(x0), [x1] "w"(x1));
    } else if (vectors == 2) {
        COLUMN(FIRST BACK STEP("x1"), [x0] "w"(x0), [x1] "w"(x1), [back] "r"(back));
    } else if (vectors == 3) {
        COLUMN(FIRST STEP("x1") BACK STEP("x2"), [x0] "w"(x0), [x1] "w"(x1), [x2] "w"(x2), [back] "r"(back));
    } else if (!gap) {
        COLUMN(FIRST STEP("x1") STEP("x2") STEP("x3"), [x0] "w"(x0), [x1] "w"(x1), [x2] "w"(x2), [x3] "w"(x3));
    } else {
        COLUMN(FIRST STEP("x1") STEP("x2") BACK STEP("x3"), [x0] "w"(x0), [x1] "w"(x1), [x2] "w"(x2), [x3] "w"(x3),
               [back] "r"(back));
    }
    return sum;
}

/* The last columns of a row, one by one. */
static void last_columns(const ep_gemm_s8 *g, const int8_t *x, int8_t *y, int32_t k)
{
    const int8_t *w = g->w + (ptrdiff_t)k * g->count;
    for (; k < g->columns; k++) {
        int32_t sum = g->bias[k];
        for (int32_t i = 0; i < g->count; i += LANES, w += LANES) {
            const mve_pred16_t p = vctp8q((uint32_t)(g->count - i));
            sum = vmladavaq_s8(sum, vldrbq_z_s8(x + i, p), vldrbq_z_s8(w, p));
        }
        w += g->count - (g->count + LANES - 1) / LANES * LANES;
        y[k] = ep_requantize(sum, g->q.multiplier[k], g->q.lo, g->q.hi, g->q.zero_point);
    }
}

/* Rows of up to SHORT codes, four columns at a time. */
SPECIALIZED void multiply_short(const ep_gemm_s8 *g, const int vectors, const int gap)
{
    const rounding q = make_rounding(&g->q);
    const int32_t back = g->count - LANES * vectors;
    /* Rows shorter than a register: columns from which a whole one cannot be read are left over. */
    const int32_t spare = g->count < LANES ? (LANES - 1) / g->count : 0;
    const int32_t fours = g->columns > spare ? (g->columns - spare) / 4 : 0;
    for (int32_t r = 0; r < g->rows; r++) {
        const int8_t *x = g->x + r * g->x_step, *w = g->w;
        const row in = load_row(x, g->count, vectors);
        const float *multiplier = g->q.multiplier;
        const int32_t *bias = g->bias;
        int8_t *y = g->y + r * g->y_step;
        for (int32_t k = 0; k < fours; k++, bias += 4, multiplier += 4, y += 4) {
            const int32_t a = dot_column(&in, &w, vectors, gap, back);
            const int32_t b = dot_column(&in, &w, vectors, gap, back);
            const int32_t c = dot_column(&in, &w, vectors, gap, back);
            const int32_t d = dot_column(&in, &w, vectors, gap, back);
            const int32x4_t sums = vaddq_s32(gathered(a, b, c, d), vld1q_s32(bias));
            vstrbq_s32(y, requantized(sums, multiplier, &q));
        }
        if (fours * 4 < g->columns) last_columns(g, x, g->y + r * g->y_step, fours * 4);
    }
}

/* ---- Longer rows: tiles whose sums stay in core registers, x and w both read --------------------------------------- */

#define LOAD(q, p) "vldrb.u8 %q[" q "], [%[" p "]], #16\n\t"
#define MAC(s, x) "vmladava.s8 %[" s "], %q[" x "], %q[v]\n\t"
#define TILE_LEFT LOAD("x0", "p0") LOAD("v", "w0") MAC("s0", "x0") LOAD("x1", "p1") MAC("s2", "x1") LOAD("x2", "p2")
#define TILE_RIGHT MAC("s4", "x2") LOAD("v", "w1") MAC("s1", "x0") MAC("s3", "x1") MAC("s5", "x2")

#if !defined(__OPTIMIZE__) && !defined(__clang__)
#define NO_FRAME __attribute__((optimize("O1"))) /* the tile needs all registers */
#else
#define NO_FRAME
#endif

/* sums (3, COLUMNS), of them two columns: bias + the whole registers of rows x, x + x_1, x + x_2. */
NO_FRAME static void add_tile(const ep_gemm_s8 *g, int32_t *sums, const int8_t *x, ptrdiff_t x_1, ptrdiff_t x_2,
                              int32_t k)
{
    const int8_t *p1 = x + x_1, *p2 = x + x_2, *w0 = g->w + (ptrdiff_t)k * g->count, *w1 = w0 + g->count;
    int32_t s0 = g->bias[k], s1 = g->bias[k + 1], s2 = s0, s3 = s1, s4 = s0, s5 = s1;
    int8x16_t x0, x1, x2, v;
    register int32_t n __asm__("lr") = g->count / LANES;
    __asm__("wls lr, %[n], 2f\n"
            "1:\n\t" TILE_LEFT TILE_RIGHT "le lr, 1b\n"
            "2:"
            : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [s4] "+Te"(s4), [s5] "+Te"(s5),
              [p0] "+r"(x), [p1] "+r"(p1), [p2] "+r"(p2), [w0] "+r"(w0), [w1] "+r"(w1), [x0] "=&w"(x0), [x1] "=&w"(x1),
              [x2] "=&w"(x2), [v] "=&w"(v), [n] "+r"(n)
            :
            : "memory");
    sums[0] = s0, sums[1] = s1;
    sums[COLUMNS] = s2, sums[COLUMNS + 1] = s3;
    sums[2 * COLUMNS] = s4, sums[2 * COLUMNS + 1] = s5;
}

/* sums (rows, COLUMNS) of `columns` columns += the codes that do not fill a register. */
static void add_rest(const ep_gemm_s8 *g, int32_t *sums, const int8_t *x, int32_t k, int32_t rows, int32_t columns)
{
    for (int32_t r = 0; r < rows; r++, x += g->x_step, sums += COLUMNS) {
        const int8x16_t last = load_last(x, g->count);
        const int8_t *w = g->w + (ptrdiff_t)(k + 1) * g->count - LANES;
        for (int32_t j = 0; j < columns; j++, w += g->count) {
            sums[j] = vmladavaq_s8(sums[j], last, vldrbq_s8(w));
        }
    }
}

/* Columns k .. k + columns - 1, an even number, of up to three rows. */
static void multiply_tile(const ep_gemm_s8 *g, const rounding *q, int32_t r, int32_t rows, int32_t k, int32_t columns)
{
    int32_t sums[TILE_ROWS * COLUMNS];
    const int8_t *x = g->x + r * g->x_step;
    const ptrdiff_t x_1 = rows > 1 ? g->x_step : 0, x_2 = rows > 2 ? 2 * g->x_step : 0; /* else the first row again */
    for (int32_t j = 0; j < columns; j += 2) add_tile(g, sums + j, x, x_1, x_2, k + j);
    if (g->count % LANES != 0) add_rest(g, sums, x, k, rows, columns);
    for (int32_t i = 0; i < rows; i++) {
        int8_t *y = g->y + (r + i) * g->y_step + k;
        requantize_row(y, sums + i * COLUMNS, g->q.multiplier + k, q, columns);
    }
}

#define ROW_LEFT LOAD("x0", "p0") LOAD("v", "w0") MAC("s0", "x0") LOAD("v", "w1") MAC("s1", "x0")
#define ROW_RIGHT LOAD("v", "w2") MAC("s2", "x0") LOAD("v", "w3") MAC("s3", "x0")

/* sums (1, 4): a single row. */
static inline void add_row(const ep_gemm_s8 *g, int32_t *sums, const int8_t *x, int32_t k)
{
    const int8_t *w0 = g->w + (ptrdiff_t)k * g->count, *w1 = w0 + g->count, *w2 = w1 + g->count, *w3 = w2 + g->count;
    int32_t s0 = g->bias[k], s1 = g->bias[k + 1], s2 = g->bias[k + 2], s3 = g->bias[k + 3];
    int8x16_t x0, v;
    register int32_t n __asm__("lr") = g->count / LANES;
    __asm__("wls lr, %[n], 2f\n"
            "1:\n\t" ROW_LEFT ROW_RIGHT "le lr, 1b\n"
            "2:"
            : [s0] "+Te"(s0), [s1] "+Te"(s1), [s2] "+Te"(s2), [s3] "+Te"(s3), [p0] "+r"(x), [w0] "+r"(w0),
              [w1] "+r"(w1), [w2] "+r"(w2), [w3] "+r"(w3), [x0] "=&w"(x0), [v] "=&w"(v), [n] "+r"(n)
            :
            : "memory");
    sums[0] = s0, sums[1] = s1, sums[2] = s2, sums[3] = s3;
}

static void multiply_row(const ep_gemm_s8 *g, const rounding *q, int32_t r)
{
    const int8_t *x = g->x + r * g->x_step;
    int8_t *y = g->y + r * g->y_step;
    int32_t k = 0;
    for (; k + 4 <= g->columns; k += 4) {
        int32_t sums[4];
        add_row(g, sums, x, k);
        if (g->count % LANES != 0) add_rest(g, sums, x, k, 1, 4);
        vstrbq_s32(y + k, requantized(vld1q_s32(sums), g->q.multiplier + k, q));
    }
    last_columns(g, x, y, k);
}

static void multiply_long(const ep_gemm_s8 *g)
{
    const rounding q = make_rounding(&g->q);
    const int32_t even = g->columns & ~1;
    int32_t r = 0;
    for (; r + 2 <= g->rows; r += TILE_ROWS) {
        const int32_t rows = g->rows - r < TILE_ROWS ? g->rows - r : TILE_ROWS;
        for (int32_t k = 0; k < even; k += COLUMNS) {
            multiply_tile(g, &q, r, rows, k, even - k < COLUMNS ? even - k : COLUMNS);
        }
        for (int32_t i = r; i < r + rows; i++) {
            last_columns(g, g->x + i * g->x_step, g->y + i * g->y_step, even);
        }
    }
    for (; r < g->rows; r++) multiply_row(g, &q, r);
}

void ep_gemm_s8_helium(const ep_gemm_s8 *g)
{
    switch (g->count) {
    case 16: multiply_short(g, 1, 0); return;
    case 32: multiply_short(g, 2, 0); return;
    case 64: multiply_short(g, 4, 0); return;
    default: break;
    }
    switch ((g->count - 1) / LANES) {
    case 0: multiply_short(g, 1, 1); break;
    case 1: multiply_short(g, 2, 1); break;
    case 2: multiply_short(g, 3, 1); break;
    case 3: multiply_short(g, 4, 1); break;
    default: multiply_long(g); break;
    }
}
#else
typedef int ep_gemm_s8_helium_left_out; /* ISO C wants a declaration in every file */
#endif
