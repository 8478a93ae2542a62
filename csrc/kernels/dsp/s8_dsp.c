/* The int8 kernels with the DSP instructions of Cortex-M. */
#include "../kernels.h"

#ifdef EP_DSP

#include "../fma.h"
#include "dsp.h"

/* ---- Matrix product: four rows at a time ------------------------------------------------------------------------- */

#define DEPTH 128  /* codes of each row that are expanded to 16 bits at once, on the stack: 1 KB */
#define COLUMNS 16 /* columns whose sums are kept meanwhile: 256 bytes */

/* The job of multiply_columns(). Four rows of x lie expanded side by side: of every four codes, x[0] and x[2] of the first
 * row as halves of a word, x[1] and x[3] in the next word, then the same of the second row .. */
typedef struct columns_job {
    int32_t *sums;          /* (columns, 4) */
    const uint32_t *middle; /* up to here one step at a time, from here on four */
    const uint32_t *end;
    const uint32_t *x;
    const int8_t *w;
    ptrdiff_t skip; /* from the last word of a column to the first of the next */
    int32_t *sums_end;
} columns_job;

/* Four codes of one column times those of four rows: 13 instructions for 16 products. r2: w, r1: x, r3 - r6: sums. */
#define EP_STEP                   \
    "ldr r11, [r2], #4\n\t"       \
    "ldmia r1!, {r7-r10}\n\t"     \
    "sxtb16 r12, r11, ror #8\n\t" \
    "sxtb16 r11, r11\n\t"         \
    "smlad r3, r7, r11, r3\n\t"   \
    "smlad r4, r9, r11, r4\n\t"   \
    "smlad r3, r8, r12, r3\n\t"   \
    "smlad r4, r10, r12, r4\n\t"  \
    "ldmia r1!, {r7-r10}\n\t"     \
    "smlad r5, r7, r11, r5\n\t"   \
    "smlad r6, r9, r11, r6\n\t"   \
    "smlad r5, r8, r12, r5\n\t"   \
    "smlad r6, r10, r12, r6\n\t"
#ifdef __OPTIMIZE_SIZE__
#define EP_STEPS EP_STEP
#define EP_STEPS_AT_ONCE 1
#else
#define EP_STEPS EP_STEP EP_STEP EP_STEP EP_STEP
#define EP_STEPS_AT_ONCE 4
#endif

EP_ASSEMBLY static void multiply_columns(const columns_job *job __attribute__((unused)))
{
    __asm__ volatile("push {r4-r11, lr}\n\t"
                     "ldmia r0, {r0, r3-r8}\n\t"
                     "mov r2, r6\n\t"
                     "push {r3-r8}\n\t" /* middle, end, x, w, skip, sums_end */
                     "1:\n\t"
                     "ldr r1, [sp, #8]\n\t"
                     "ldmia r0, {r3-r6}\n\t"
#ifndef __OPTIMIZE_SIZE__
                     "ldr lr, [sp]\n\t"
                     "cmp r1, lr\n\t"
                     "beq 3f\n\t"
                     "2:\n\t" EP_STEP "cmp r1, lr\n\t"
                     "bne 2b\n\t"
                     "3:\n\t"
#endif
                     "ldr lr, [sp, #4]\n\t"
                     "cmp r1, lr\n\t"
                     "beq 5f\n\t"
                     "4:\n\t" EP_STEPS "cmp r1, lr\n\t"
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

/* Codes x[0 .. depth-1] of `rows` rows, x_step apart, to x16; the last row takes the place of missing ones. */
static void expand_rows(uint32_t *x16, const int8_t *x, ptrdiff_t x_step, int32_t rows, int32_t depth)
{
    for (int32_t r = 0; r < 4; r++) {
        uint32_t *to = x16 + 2 * r;
        int32_t i = 0;
        for (; i + 4 <= depth; i += 4, to += 8) {
            const uint32_t v = ep_word(x + i);
            to[0] = ep_even(v);
            to[1] = ep_odd(v);
        }
        if (i < depth) {
            const uint32_t v = ep_part_word(x + i, depth - i);
            to[0] = ep_even(v);
            to[1] = ep_odd(v);
        }
        x += r + 1 < rows ? x_step : 0;
    }
}

/* sums (columns, 4) += the products of `depth` codes. A word may reach into the next column, where it meets zeros of x16,
 * but not past the last column of all (`last`). */
static void add_columns(int32_t *sums, const uint32_t *x16, const int8_t *w, int32_t count, int32_t columns,
                        int32_t depth, int last)
{
    const int32_t whole = depth / 4, rest = depth % 4, careful = rest != 0 && last;
    int32_t steps = (depth + 3) / 4;
    columns_job job = {.sums = sums, .x = x16, .w = w, .sums_end = sums + 4 * (columns - careful)};
    job.end = x16 + 8 * steps;
    job.middle = x16 + 8 * (steps % EP_STEPS_AT_ONCE);
    job.skip = count - 4 * steps;
    if (job.sums != job.sums_end) multiply_columns(&job);
    if (careful) {
        sums = job.sums_end;
        w += (ptrdiff_t)(columns - 1) * count;
        for (int32_t i = 0; i < steps; i++, w += 4, x16 += 8) {
            const uint32_t v = i < whole ? ep_word(w) : ep_part_word(w, rest);
            for (int32_t r = 0; r < 4; r++) {
                sums[r] = ep_mac2(ep_mac2(sums[r], x16[2 * r], ep_even(v)), x16[2 * r + 1], ep_odd(v));
            }
        }
    }
}

/* Rows r .. r + rows - 1, three or four. */
static void gemm_rows(const ep_gemm_s8 *g, const ep_codes *codes, int32_t r, int32_t rows)
{
    uint32_t x16[DEPTH * 2];
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
            if (k == 0 || g->count > DEPTH) expand_rows(x16, x + i, g->x_step, rows, depth);
            add_columns(sums, x16, g->w + (ptrdiff_t)k * g->count + i, g->count, columns, depth,
                        k + columns == g->columns);
        }
        for (int32_t j = 0; j < columns; j++, y++) {
            const ep_factor f = ep_make_factor(g->q.multiplier[k + j]);
            ep_store(codes, y, g->y_step, sums + 4 * j, &f, 0, rows);
        }
    }
}

/* ---- .. one row -------------------------------------------------------------------------------------------------- */

static int8_t code_of(const ep_codes *codes, int32_t sum, float multiplier)
{
    const ep_factor f = ep_make_factor(multiplier);
    return (int8_t)ep_limit(codes, ep_code(codes, sum, &f));
}

static int32_t dot(const int8_t *x, const int8_t *w, int32_t count)
{
    int32_t sum = 0, i = 0;
    for (; i + 4 <= count; i += 4) {
        const uint32_t u = ep_word(x + i), v = ep_word(w + i);
        sum = ep_mac2(ep_mac2(sum, ep_even(u), ep_even(v)), ep_odd(u), ep_odd(v));
    }
    return sum + ep_dot_s8(x + i, w + i, count - i);
}

/* Four columns of w at once: x is expanded once. */
static void dot_4(int32_t *sums, const int8_t *x, const int8_t *w, int32_t count)
{
    const int8_t *w0 = w, *w1 = w0 + count, *w2 = w1 + count, *w3 = w2 + count, *end = x + count / 4 * 4;
    int32_t s0 = sums[0], s1 = sums[1], s2 = sums[2], s3 = sums[3];
    while (x != end) {
        const uint32_t u = ep_word(x), even = ep_even(u), odd = ep_odd(u);
        uint32_t v = ep_word(w0);
        s0 = ep_mac2(ep_mac2(s0, even, ep_even(v)), odd, ep_odd(v));
        v = ep_word(w1);
        s1 = ep_mac2(ep_mac2(s1, even, ep_even(v)), odd, ep_odd(v));
        v = ep_word(w2);
        s2 = ep_mac2(ep_mac2(s2, even, ep_even(v)), odd, ep_odd(v));
        v = ep_word(w3);
        s3 = ep_mac2(ep_mac2(s3, even, ep_even(v)), odd, ep_odd(v));
        x += 4, w0 += 4, w1 += 4, w2 += 4, w3 += 4;
    }
    count %= 4;
    sums[0] = s0 + ep_dot_s8(x, w0, count);
    sums[1] = s1 + ep_dot_s8(x, w1, count);
    sums[2] = s2 + ep_dot_s8(x, w2, count);
    sums[3] = s3 + ep_dot_s8(x, w3, count);
}

static void gemm_row(const ep_gemm_s8 *g, const ep_codes *codes, int32_t r)
{
    const int8_t *x = g->x + r * g->x_step, *w = g->w;
    int8_t *y = g->y + r * g->y_step;
    int32_t k = 0;
    for (; k + 4 <= g->columns; k += 4, w += 4 * (ptrdiff_t)g->count) {
        int32_t sums[4] = {g->bias[k], g->bias[k + 1], g->bias[k + 2], g->bias[k + 3]};
        dot_4(sums, x, w, g->count);
        for (int32_t i = 0; i < 4; i++) y[k + i] = code_of(codes, sums[i], g->q.multiplier[k + i]);
    }
    for (; k < g->columns; k++, w += g->count) {
        const int32_t sum = g->bias[k] + dot(x, w, g->count);
        y[k] = code_of(codes, sum, g->q.multiplier[k]);
    }
}

void ep_gemm_s8_dsp(const ep_gemm_s8 *g)
{
    const ep_codes codes = ep_make_codes(&g->q);
    int32_t r = 0;
    for (; g->rows - r > 2; r += 4) gemm_rows(g, &codes, r, g->rows - r < 4 ? g->rows - r : 4);
    for (; r < g->rows; r++) gemm_row(g, &codes, r);
}

/* ---- Depthwise: four channels at a time, two taps at a time ------------------------------------------------------ */

#define PAIRS 16    /* of taps whose weights are kept ready, on the stack: 384 bytes */
#define POSITIONS 8 /* whose sums are kept, 128 bytes */

typedef struct tap_pair {
    int32_t at[2]; /* where the taps are, in bytes from the first */
    uint32_t w[4]; /* of each channel, both taps' weights as halves */
} tap_pair;

/* The job of depthwise_run(). */
typedef struct run_job {
    int32_t *sums; /* (positions, 4) */
    const int8_t *x;
    const tap_pair *pairs;
    const int32_t *bias; /* (4,) */
    ptrdiff_t x_step;
    int32_t *sums_end;
    const tap_pair *pairs_end;
} run_job;

/* Two taps of four channels: 14 instructions for 8 products. r1: x, r2: the pair, r3 - r6: sums. */
#define EP_PAIR                     \
    "ldmia r2!, {r7, r8}\n\t"       \
    "ldr r7, [r1, r7]\n\t"          \
    "ldr r8, [r1, r8]\n\t"          \
    "ldmia r2!, {r9-r12}\n\t"       \
    "pkhbt lr, r7, r8, lsl #16\n\t" \
    "pkhtb r8, r8, r7, asr #16\n\t" \
    "sxtb16 r7, lr\n\t"             \
    "sxtb16 lr, lr, ror #8\n\t"     \
    "smlad r3, r7, r9, r3\n\t"      \
    "smlad r4, lr, r10, r4\n\t"     \
    "sxtb16 r7, r8\n\t"             \
    "sxtb16 lr, r8, ror #8\n\t"     \
    "smlad r5, r7, r11, r5\n\t"     \
    "smlad r6, lr, r12, r6\n\t"

EP_ASSEMBLY static void depthwise_run(const run_job *job __attribute__((unused)))
{
    __asm__ volatile("push {r4-r11, lr}\n\t"
                     "ldmia r0, {r0-r6}\n\t"
                     "push {r2-r6}\n\t" /* pairs, bias, x_step, sums_end, pairs_end */
                     "1:\n\t"
                     "ldrd r2, r3, [sp]\n\t"
                     "ldmia r3, {r3-r6}\n\t"
#ifndef __OPTIMIZE_SIZE__ /* nine taps, the usual number, without a loop */
                     "ldr lr, [sp, #16]\n\t"
                     "sub lr, lr, r2\n\t"
                     "cmp lr, #120\n\t"
                     "bne 2f\n\t" EP_PAIR EP_PAIR EP_PAIR EP_PAIR EP_PAIR "b 3f\n\t"
#endif
                     "2:\n\t" EP_PAIR "ldr lr, [sp, #16]\n\t"
                     "cmp r2, lr\n\t"
                     "bne 2b\n\t"
                     "3:\n\t"
                     "stmia r0!, {r3-r6}\n\t"
                     "ldrd r7, r8, [sp, #8]\n\t"
                     "add r1, r1, r7\n\t"
                     "cmp r0, r8\n\t"
                     "bne 1b\n\t"
                     "add sp, sp, #20\n\t"
                     "pop {r4-r11, pc}");
}

/* The taps of channels c .. c + 3, pair by pair; the end. A last one without a partner is paired with zeros. */
static tap_pair *make_pairs(const ep_depthwise_s8 *d, int32_t c, tap_pair *to)
{
    uint32_t w[2] = {0, 0};
    int32_t n = 0;
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        for (int32_t kx = 0; kx < d->kernel_w; kx++, n++) {
            const int32_t half = n & 1;
            w[half] = ep_word(d->w + (ky * d->w_row + kx * d->w_tap + c));
            to->at[half] = (int32_t)(ky * d->x_row + kx * d->x_tap);
            if (half == 0) {
                to->at[1] = to->at[0];
                w[1] = 0;
                if (n + 1 != d->kernel_h * d->kernel_w) continue;
            }
            const uint32_t low = (w[0] & 0xFFFF) | w[1] << 16, high = w[0] >> 16 | (w[1] & 0xFFFF0000u);
            to->w[0] = ep_even(low);
            to->w[1] = ep_odd(low);
            to->w[2] = ep_even(high);
            to->w[3] = ep_odd(high);
            to++;
        }
    }
    return to;
}

/* Channels c .. c + 3 everywhere. */
static void depthwise_4(const ep_depthwise_s8 *d, const ep_codes *codes, int32_t c)
{
    tap_pair pairs[PAIRS];
    int32_t sums[POSITIONS * 4];
    const int32_t bias[4] = {d->bias[c], d->bias[c + 1], d->bias[c + 2], d->bias[c + 3]};
    const float *m = d->q.multiplier + c;
    const ep_factor f[4] = {ep_make_factor(m[0]), ep_make_factor(m[1]), ep_make_factor(m[2]), ep_make_factor(m[3])};
    run_job job = {
        .sums = sums, .pairs = pairs, .bias = bias, .x_step = d->x_step, .pairs_end = make_pairs(d, c, pairs)};
    for (int32_t l = 0; l < d->lines; l++) {
        int8_t *y = d->y + l * d->y_line + c;
        job.x = d->x + l * d->x_line + c;
        for (int32_t p = 0; p < d->run; p += POSITIONS) {
            const int32_t run = d->run - p < POSITIONS ? d->run - p : POSITIONS;
            job.sums_end = sums + 4 * run;
            depthwise_run(&job);
            job.x += run * d->x_step;
            for (int32_t i = 0; i < run; i++, y += d->y_step) {
                ep_store(codes, y, 1, sums + 4 * i, f, 1, 4);
            }
        }
    }
}

/* One channel everywhere: the last ones, or kernels of many taps. */
static void depthwise_1(const ep_depthwise_s8 *d, const ep_codes *codes, int32_t c)
{
    const ep_factor f = ep_make_factor(d->q.multiplier[c]);
    for (int32_t i = 0; i < d->lines * d->run; i++) {
        const int32_t l = i / d->run, p = i % d->run;
        const int8_t *x = d->x + l * d->x_line + p * d->x_step + c, *w = d->w + c;
        int32_t sum = d->bias[c];
        for (int32_t ky = 0; ky < d->kernel_h; ky++) {
            for (int32_t kx = 0; kx < d->kernel_w; kx++) {
                sum += (int32_t)x[ky * d->x_row + kx * d->x_tap] * w[ky * d->w_row + kx * d->w_tap];
            }
        }
        d->y[l * d->y_line + p * d->y_step + c] = (int8_t)ep_limit(codes, ep_code(codes, sum, &f));
    }
}

void ep_depthwise_s8_dsp(const ep_depthwise_s8 *d)
{
    const ep_codes codes = ep_make_codes(&d->q);
    int32_t c = 0;
    for (; d->kernel_h * d->kernel_w <= 2 * PAIRS && c + 4 <= d->channels; c += 4) {
        depthwise_4(d, &codes, c);
    }
    for (; c < d->channels; c++) depthwise_1(d, &codes, c);
}

/* ---- Element by element ------------------------------------------------------------------------------------------ */

void ep_requantize_s8_dsp(int8_t *y, const int32_t *sums, const ep_requant *q, int32_t count)
{
    const ep_codes codes = ep_make_codes(q);
    for (int32_t k = 0; k < count; k++) y[k] = code_of(&codes, sums[k], q->multiplier[k]);
}

#ifdef EP_FPU

/* As ep_add_s8_portable(), but rounded first and clamped then, which comes to the same (see ep_codes). */
void ep_add_s8_dsp(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    const int32_t offset = args->offset, lo = ep_nearest(args->lo) - offset, hi = ep_nearest(args->hi) - offset;
    const float a_ratio = args->a_ratio, b_ratio = args->b_ratio, fixed = args->fixed;
    for (size_t i = 0; i < count; i++) {
        const float v = ep_fma((float)(b[i] + offset), b_ratio, fixed);
        const int32_t code = __qsub(ep_round(ep_fma((float)(a[i] + offset), a_ratio, v)), offset);
        y[i] = (int8_t)(code < lo ? lo : code > hi ? hi : code);
    }
}

#else

void ep_add_s8_dsp(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    ep_add_s8_integer(args, y, a, b, count);
}

#endif

void ep_max_s8_dsp(int8_t *y, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        uint32_t v = ep_word(x + i), most = ep_word(y + i);
        /* The subtraction sets a flag for each byte that is not less; sel takes those. */
        __asm__("ssub8 %1, %0, %2\n\tsel %0, %0, %2" : "+r"(most), "=&r"(v) : "r"(v) : "cc");
        memcpy(y + i, &most, sizeof most);
    }
    for (; i < count; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

void ep_sum_s8_dsp(int32_t *sums, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const uint32_t v = ep_word(x + i);
        sums[i] += (int8_t)v;
        sums[i + 1] += (int8_t)(v >> 8);
        sums[i + 2] += (int8_t)(v >> 16);
        sums[i + 3] += (int8_t)(v >> 24);
    }
    for (; i < count; i++) sums[i] += x[i];
}

#else
typedef int ep_dsp_s8_left_out; /* ISO C wants a declaration in every file */
#endif
