/* The int8 kernels for a Cortex-M without DSP instructions and without an FPU. */
#include "../kernels.h"

#ifdef EP_THUMB

#include "../assembly.h"
#include "../codes.h"
#include "../integer_s8.h"

/* ---- Matrix product: four rows at a time ------------------------------------------------------------------------- */

#ifdef EP_NARROW_MULTIPLY
#define DEPTH 32 /* codes of each row that are expanded to 32 bits at once, on the stack: 512 bytes */
#define TAPS 16  /* whose weights are kept ready, 320 bytes */
#else
#define DEPTH 64
#define TAPS 32
#endif
#define COLUMNS 16 /* columns whose sums are kept meanwhile: 256 bytes */

/* The job of multiply_columns(): sums (columns, 4) += the products of x (depth, 4) and w (columns, depth). */
typedef struct columns_job {
    int32_t *sums;
    const int32_t *middle; /* up to here one code at a time, from here on four */
    const int32_t *end;
    const int32_t *x;
    const int8_t *w;
    ptrdiff_t skip; /* from the end of a column to the next */
    int32_t *sums_end;
} columns_job;

#ifdef EP_NARROW_MULTIPLY /* no multiply-accumulate, and eight registers that most instructions are for */

/* One code of one column times those of four rows: 11 instructions for 4 products. r5: x, r6 + r7: w, r8 - r11: sums. */
#define EP_STEP              \
    "ldmia r5!, {r0-r3}\n\t" \
    "ldrsb r4, [r6, r7]\n\t" \
    "adds r7, r7, #1\n\t"    \
    "muls r0, r4, r0\n\t"    \
    "muls r1, r4, r1\n\t"    \
    "muls r2, r4, r2\n\t"    \
    "muls r3, r4, r3\n\t"    \
    "add r8, r0\n\t"         \
    "add r9, r1\n\t"         \
    "add r10, r2\n\t"        \
    "add r11, r3\n\t"

EP_ASSEMBLY static void multiply_columns(const columns_job *job __attribute__((unused)))
{
    __asm__ volatile(".syntax unified\n\t"
                     "push {r4-r7, lr}\n\t"
                     "mov r4, r8\n\t"
                     "mov r5, r9\n\t"
                     "mov r6, r10\n\t"
                     "mov r7, r11\n\t"
                     "push {r0, r4-r7}\n\t"
                     "ldr r4, [r0]\n\t"
                     "mov lr, r4\n\t" /* sums */
                     "ldr r6, [r0, #16]\n\t"
                     "1:\n\t"
                     "mov r4, lr\n\t"
                     "ldmia r4!, {r0-r3}\n\t"
                     "mov r8, r0\n\t"
                     "mov r9, r1\n\t"
                     "mov r10, r2\n\t"
                     "mov r11, r3\n\t"
                     "ldr r4, [sp]\n\t"
                     "ldr r5, [r4, #12]\n\t"
                     "ldr r4, [r4, #4]\n\t"
                     "mov r12, r4\n\t"
                     "movs r7, #0\n\t"
                     "cmp r5, r12\n\t"
                     "beq 3f\n\t"
                     "2:\n\t" EP_STEP "cmp r5, r12\n\t"
                     "bne 2b\n\t"
                     "3:\n\t"
                     "ldr r4, [sp]\n\t"
                     "ldr r4, [r4, #8]\n\t"
                     "mov r12, r4\n\t"
                     "cmp r5, r12\n\t"
                     "beq 5f\n\t"
                     "4:\n\t" EP_STEP EP_STEP EP_STEP EP_STEP "cmp r5, r12\n\t"
                     "bne 4b\n\t"
                     "5:\n\t"
                     "mov r0, r8\n\t"
                     "mov r1, r9\n\t"
                     "mov r2, r10\n\t"
                     "mov r3, r11\n\t"
                     "mov r4, lr\n\t"
                     "stmia r4!, {r0-r3}\n\t"
                     "mov lr, r4\n\t"
                     "adds r6, r6, r7\n\t"
                     "ldr r0, [sp]\n\t"
                     "ldr r1, [r0, #20]\n\t"
                     "adds r6, r6, r1\n\t"
                     "ldr r1, [r0, #24]\n\t"
                     "cmp r4, r1\n\t"
                     "bne 1b\n\t"
                     "pop {r0, r4-r7}\n\t"
                     "mov r8, r4\n\t"
                     "mov r9, r5\n\t"
                     "mov r10, r6\n\t"
                     "mov r11, r7\n\t"
                     "pop {r4-r7, pc}");
}

#else

/* 6 instructions for 4 products. r2: w, r1: x, r3 - r6: sums. */
#define EP_STEP               \
    "ldmia r1!, {r7-r10}\n\t" \
    "ldrsb r11, [r2], #1\n\t" \
    "mla r3, r7, r11, r3\n\t" \
    "mla r4, r8, r11, r4\n\t" \
    "mla r5, r9, r11, r5\n\t" \
    "mla r6, r10, r11, r6\n\t"

EP_ASSEMBLY static void multiply_columns(const columns_job *job __attribute__((unused)))
{
    __asm__ volatile("push {r4-r11, lr}\n\t"
                     "ldmia r0, {r0, r3-r8}\n\t"
                     "mov r2, r6\n\t"
                     "push {r3-r8}\n\t" /* middle, end, x, w, skip, sums_end */
                     "1:\n\t"
                     "ldr r1, [sp, #8]\n\t"
                     "ldmia r0, {r3-r6}\n\t"
                     "ldr lr, [sp]\n\t"
                     "cmp r1, lr\n\t"
                     "beq 3f\n\t"
                     "2:\n\t" EP_STEP "cmp r1, lr\n\t"
                     "bne 2b\n\t"
                     "3:\n\t"
                     "ldr lr, [sp, #4]\n\t"
                     "cmp r1, lr\n\t"
                     "beq 5f\n\t"
                     "4:\n\t" EP_STEP EP_STEP EP_STEP EP_STEP "cmp r1, lr\n\t"
                     "bne 4b\n\t"
                     "5:\n\t"
                     "stmia r0!, {r3-r6}\n\t"
                     "ldrd r7, r8, [sp, #16]\n\t"
                     "add r2, r2, r7\n\t"
                     "cmp r0, r8\n\t"
                     "bne 1b\n\t"
                     "add sp, sp, #24\n\t"
                     "pop {r4-r11, pc}");
}

#endif

/* Codes x[0 .. depth-1] of `rows` rows, x_step apart, to x32 (depth, 4); the last row takes the place of missing ones. */
static void expand_rows(int32_t *x32, const int8_t *x, ptrdiff_t x_step, int32_t rows, int32_t depth)
{
    for (int32_t r = 0; r < 4; r++) {
        const int8_t *from = x, *end = x + depth;
        for (int32_t *to = x32 + r; from != end; to += 4) *to = *from++;
        x += r + 1 < rows ? x_step : 0;
    }
}

/* Codes of count sums, to y, y + step, .. ; factors `by` elements apart. */
#ifndef __OPTIMIZE_SIZE__
__attribute__((noinline))
#endif
static void
store_codes(const ep_codes *codes, int8_t *y, ptrdiff_t step, const int32_t *sums, const ep_factor *f, int32_t by,
            int32_t count)
{
    const int32_t *end = sums + count;
    for (; sums != end; y += step, f += by) {
        const int32_t v = ep_scale(*sums++, f); /* below 2^21, so the zero point cannot overflow it */
        *y = (int8_t)ep_limit(codes, v + codes->zero_point);
    }
}

static void store_code(const ep_codes *codes, int8_t *y, int32_t sum, float multiplier)
{
    const ep_factor f = ep_make_factor(multiplier);
    store_codes(codes, y, 0, &sum, &f, 0, 1);
}

/* Rows r .. r + rows - 1, two to four. */
static void gemm_rows(const ep_gemm_s8 *g, const ep_codes *codes, int32_t r, int32_t rows)
{
    int32_t x32[DEPTH * 4];
    int32_t sums[COLUMNS * 4];
    const int8_t *x = g->x + r * g->x_step;
    for (int32_t k = 0; k < g->columns; k += COLUMNS) {
        const int32_t columns = g->columns - k < COLUMNS ? g->columns - k : COLUMNS;
        int8_t *y = g->y + r * g->y_step + k;
        for (int32_t j = 0; j < columns; j++) {
            sums[4 * j] = sums[4 * j + 1] = sums[4 * j + 2] = sums[4 * j + 3] = g->bias[k + j];
        }
        for (int32_t i = 0; i < g->count; i += DEPTH) {
            const int32_t depth = g->count - i < DEPTH ? g->count - i : DEPTH;
            const columns_job job = {.sums = sums,
                                     .middle = x32 + 4 * (depth % 4),
                                     .end = x32 + 4 * depth,
                                     .x = x32,
                                     .w = g->w + (ptrdiff_t)k * g->count + i,
                                     .skip = g->count - depth,
                                     .sums_end = sums + 4 * columns};
            if (k == 0 || g->count > DEPTH) expand_rows(x32, x + i, g->x_step, rows, depth);
            multiply_columns(&job);
        }
        for (int32_t j = 0; j < columns; j++, y++) {
            const ep_factor f = ep_make_factor(g->q.multiplier[k + j]);
            store_codes(codes, y, g->y_step, sums + 4 * j, &f, 0, rows);
        }
    }
}

/* Two columns of one row at once: x is read once. */
static void dot_2(int32_t *sums, const int8_t *x, const int8_t *w, int32_t count)
{
    const int8_t *v = w + count;
    int32_t s = sums[0], t = sums[1];
    x += count, w += count, v += count;
    for (int32_t i = -count; i != 0; i++) {
        const int32_t a = x[i];
        s += a * w[i];
        t += a * v[i];
    }
    sums[0] = s;
    sums[1] = t;
}

static void gemm_row(const ep_gemm_s8 *g, const ep_codes *codes, int32_t r)
{
    const int8_t *x = g->x + r * g->x_step, *w = g->w;
    int8_t *y = g->y + r * g->y_step;
    const float *m = g->q.multiplier;
    int32_t k = 0;
    for (; k + 2 <= g->columns; k += 2, w += 2 * (ptrdiff_t)g->count) {
        int32_t sums[2] = {g->bias[k], g->bias[k + 1]};
        dot_2(sums, x, w, g->count);
        store_code(codes, y + k, sums[0], m[k]);
        store_code(codes, y + k + 1, sums[1], m[k + 1]);
    }
    if (k < g->columns) store_code(codes, y + k, g->bias[k] + ep_dot_s8(x, w, g->count), m[k]);
}

void ep_gemm_s8_thumb(const ep_gemm_s8 *g)
{
    const ep_codes codes = ep_make_codes(&g->q);
    int32_t r = 0;
    for (; g->rows - r > 1; r += 4) gemm_rows(g, &codes, r, g->rows - r < 4 ? g->rows - r : 4);
    if (r < g->rows) gemm_row(g, &codes, r);
}

/* ---- Depthwise: four channels at a time -------------------------------------------------------------------------- */

typedef struct tap {
    int32_t at;   /* where it is, in bytes from the first */
    int32_t w[4]; /* of each channel */
} tap;

/* The job of depthwise_position(): sums (4,) += the taps' products. */
typedef struct position_job {
    int32_t *sums;
    const int8_t *x;
    const tap *taps, *end;
} position_job;

#ifdef EP_NARROW_MULTIPLY

EP_ASSEMBLY static void depthwise_position(const position_job *job __attribute__((unused)))
{
    __asm__ volatile(".syntax unified\n\t"
                     "push {r4-r7, lr}\n\t"
                     "mov r4, r8\n\t"
                     "mov r5, r9\n\t"
                     "mov r6, r10\n\t"
                     "mov r7, r11\n\t"
                     "push {r0, r4-r7}\n\t"
                     "ldr r7, [r0, #8]\n\t"
                     "ldr r1, [r0, #4]\n\t"
                     "mov r12, r1\n\t" /* x */
                     "ldr r1, [r0, #12]\n\t"
                     "mov lr, r1\n\t"
                     "ldr r0, [r0]\n\t"
                     "ldmia r0!, {r1-r4}\n\t"
                     "mov r8, r1\n\t"
                     "mov r9, r2\n\t"
                     "mov r10, r3\n\t"
                     "mov r11, r4\n\t"
                     "movs r6, #1\n\t"
                     "1:\n\t"
                     "ldmia r7!, {r0-r4}\n\t"
                     "add r0, r12\n\t"
                     "ldrb r5, [r0]\n\t"
                     "sxtb r5, r5\n\t"
                     "muls r1, r5, r1\n\t"
                     "add r8, r1\n\t"
                     "ldrsb r5, [r0, r6]\n\t"
                     "muls r2, r5, r2\n\t"
                     "add r9, r2\n\t"
                     "ldrb r5, [r0, #2]\n\t"
                     "sxtb r5, r5\n\t"
                     "muls r3, r5, r3\n\t"
                     "add r10, r3\n\t"
                     "ldrb r5, [r0, #3]\n\t"
                     "sxtb r5, r5\n\t"
                     "muls r4, r5, r4\n\t"
                     "add r11, r4\n\t"
                     "cmp r7, lr\n\t"
                     "bne 1b\n\t"
                     "mov r1, r8\n\t"
                     "mov r2, r9\n\t"
                     "mov r3, r10\n\t"
                     "mov r4, r11\n\t"
                     "ldr r0, [sp]\n\t"
                     "ldr r0, [r0]\n\t"
                     "stmia r0!, {r1-r4}\n\t"
                     "pop {r0, r4-r7}\n\t"
                     "mov r8, r4\n\t"
                     "mov r9, r5\n\t"
                     "mov r10, r6\n\t"
                     "mov r11, r7\n\t"
                     "pop {r4-r7, pc}");
}

#else

EP_ASSEMBLY static void depthwise_position(const position_job *job __attribute__((unused)))
{
    __asm__ volatile("push {r4-r11, lr}\n\t"
                     "ldmia r0, {r0-r3}\n\t" /* sums, x, taps, end */
                     "ldmia r0, {r4-r7}\n\t"
                     "1:\n\t"
                     "ldmia r2!, {r8-r12}\n\t"
                     "add r8, r8, r1\n\t"
                     "ldrsb lr, [r8]\n\t"
                     "mla r4, r9, lr, r4\n\t"
                     "ldrsb lr, [r8, #1]\n\t"
                     "mla r5, r10, lr, r5\n\t"
                     "ldrsb lr, [r8, #2]\n\t"
                     "mla r6, r11, lr, r6\n\t"
                     "ldrsb lr, [r8, #3]\n\t"
                     "mla r7, r12, lr, r7\n\t"
                     "cmp r2, r3\n\t"
                     "bne 1b\n\t"
                     "stmia r0, {r4-r7}\n\t"
                     "pop {r4-r11, pc}");
}

#endif

/* The taps of channels c .. c + 3; the end. */
static const tap *make_taps(const ep_depthwise_s8 *d, int32_t c, tap *to)
{
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        for (int32_t kx = 0; kx < d->kernel_w; kx++, to++) {
            const int8_t *w = d->w + (ky * d->w_row + kx * d->w_tap + c);
            to->at = (int32_t)(ky * d->x_row + kx * d->x_tap);
            for (int32_t i = 0; i < 4; i++) to->w[i] = w[i];
        }
    }
    return to;
}

/* Channels c .. c + 3 everywhere. */
static void depthwise_4(const ep_depthwise_s8 *d, const ep_codes *codes, int32_t c)
{
    tap taps[TAPS];
    int32_t sums[4];
    const float *m = d->q.multiplier + c;
    const ep_factor f[4] = {ep_make_factor(m[0]), ep_make_factor(m[1]), ep_make_factor(m[2]), ep_make_factor(m[3])};
    position_job job = {sums, NULL, taps, make_taps(d, c, taps)};
    for (int32_t l = 0; l < d->lines; l++) {
        int8_t *y = d->y + l * d->y_line + c;
        job.x = d->x + l * d->x_line + c;
        for (int32_t p = 0; p < d->run; p++, y += d->y_step, job.x += d->x_step) {
            for (int32_t i = 0; i < 4; i++) sums[i] = d->bias[c + i];
            depthwise_position(&job);
            store_codes(codes, y, 1, sums, f, 1, 4);
        }
    }
}

/* One channel everywhere: the last ones, or kernels of many taps. */
static void depthwise_1(const ep_depthwise_s8 *d, const ep_codes *codes, int32_t c)
{
    const ep_factor f = ep_make_factor(d->q.multiplier[c]);
    for (int32_t l = 0; l < d->lines; l++) {
        for (int32_t p = 0; p < d->run; p++) {
            const int8_t *x = d->x + l * d->x_line + p * d->x_step + c, *w = d->w + c;
            int32_t sum = d->bias[c];
            for (int32_t ky = 0; ky < d->kernel_h; ky++) {
                for (int32_t kx = 0; kx < d->kernel_w; kx++) {
                    sum += (int32_t)x[ky * d->x_row + kx * d->x_tap] * w[ky * d->w_row + kx * d->w_tap];
                }
            }
            store_codes(codes, d->y + l * d->y_line + p * d->y_step + c, 0, &sum, &f, 0, 1);
        }
    }
}

void ep_depthwise_s8_thumb(const ep_depthwise_s8 *d)
{
    const ep_codes codes = ep_make_codes(&d->q);
    int32_t c = 0;
    for (; d->kernel_h * d->kernel_w <= TAPS && c + 4 <= d->channels; c += 4) {
        depthwise_4(d, &codes, c);
    }
    for (; c < d->channels; c++) depthwise_1(d, &codes, c);
}

/* ---- Element by element ------------------------------------------------------------------------------------------ */

void ep_requantize_s8_thumb(int8_t *y, const int32_t *sums, const ep_requant *q, int32_t count)
{
    const ep_codes codes = ep_make_codes(q);
    for (int32_t k = 0; k < count; k++) store_code(&codes, y + k, sums[k], q->multiplier[k]);
}

void ep_add_s8_thumb(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    ep_add_s8_integer(args, y, a, b, count);
}

#else
typedef int ep_thumb_s8_left_out; /* ISO C wants a declaration in every file */
#endif
