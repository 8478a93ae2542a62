/* The float32 kernels for the scalar FPU of a Cortex-M4F, M7, M33: several registers a load, fused multiply-adds. */
#include "../kernels.h"

#ifdef EP_FPU

#include "../assembly.h"

#include <math.h>
#include <string.h>

/* ---- y = base + x . w^T: four columns at a time ------------------------------------------------------------------- */

/* The job of dots_1x4() and dots_2x4(): sums (4,) or (2, 4) of products along x and w. */
typedef struct dots_job {
    const float *x0, *x1; /* rows */
    const float *w[4];    /* columns */
    int32_t fours, rest;  /* of elements */
    float *sums;
} dots_job;

#define EP_FOUR_1(sum, w)           \
    "vldmia " w "!, {s8-s11}\n\t"   \
    "vfma.f32 " sum ", s4, s8\n\t"  \
    "vfma.f32 " sum ", s5, s9\n\t"  \
    "vfma.f32 " sum ", s6, s10\n\t" \
    "vfma.f32 " sum ", s7, s11\n\t"
#define EP_ONE_1(sum, w)      \
    "vldmia " w "!, {s8}\n\t" \
    "vfma.f32 " sum ", s4, s8\n\t"

/* Four elements of one row and four columns: 21 instructions for 16 products. */
EP_ASSEMBLY static void dots_1x4(const dots_job *job __attribute__((unused)))
{
    __asm__ volatile("push {r4-r9, lr}\n\t"
                     "ldmia r0, {r1-r9}\n\t" /* x0, x1, w, fours, rest, sums */
                     "movs r0, #0\n\t"
                     "vmov s0, r0\n\t"
                     "vmov s1, r0\n\t"
                     "vmov s2, r0\n\t"
                     "vmov s3, r0\n\t"
                     "cbz r7, 2f\n\t"
                     "1:\n\t"
                     "vldmia r1!, {s4-s7}\n\t" EP_FOUR_1("s0", "r3") EP_FOUR_1("s1", "r4") EP_FOUR_1("s2", "r5")
                         EP_FOUR_1("s3", "r6") "subs r7, r7, #1\n\t"
                                               "bne 1b\n\t"
                                               "2:\n\t"
                                               "cmp r8, #0\n\t"
                                               "beq 4f\n\t"
                                               "3:\n\t"
                                               "vldmia r1!, {s4}\n\t" EP_ONE_1("s0", "r3") EP_ONE_1("s1", "r4")
                                                   EP_ONE_1("s2", "r5") EP_ONE_1("s3", "r6") "subs r8, r8, #1\n\t"
                                                                                             "bne 3b\n\t"
                                                                                             "4:\n\t"
                                                                                             "vstmia r9, {s0-s3}\n\t"
                                                                                             "pop {r4-r9, pc}");
}

#ifndef __OPTIMIZE_SIZE__

#define EP_FOUR_2(s, t, w)         \
    "vldmia " w "!, {s16-s19}\n\t" \
    "vfma.f32 " s ", s8, s16\n\t"  \
    "vfma.f32 " t ", s12, s16\n\t" \
    "vfma.f32 " s ", s9, s17\n\t"  \
    "vfma.f32 " t ", s13, s17\n\t" \
    "vfma.f32 " s ", s10, s18\n\t" \
    "vfma.f32 " t ", s14, s18\n\t" \
    "vfma.f32 " s ", s11, s19\n\t" \
    "vfma.f32 " t ", s15, s19\n\t"
#define EP_ONE_2(s, t, w)         \
    "vldmia " w "!, {s16}\n\t"    \
    "vfma.f32 " s ", s8, s16\n\t" \
    "vfma.f32 " t ", s12, s16\n\t"

/* .. of two rows: 38 instructions for 32 products. */
EP_ASSEMBLY static void dots_2x4(const dots_job *job __attribute__((unused)))
{
    __asm__ volatile("push {r4-r9, lr}\n\t"
                     "vpush {s16-s19}\n\t"
                     "ldmia r0, {r1-r9}\n\t"
                     "movs r0, #0\n\t"
                     "vmov s0, r0\n\t"
                     "vmov s1, r0\n\t"
                     "vmov s2, r0\n\t"
                     "vmov s3, r0\n\t"
                     "vmov s4, r0\n\t"
                     "vmov s5, r0\n\t"
                     "vmov s6, r0\n\t"
                     "vmov s7, r0\n\t"
                     "cmp r7, #0\n\t"
                     "beq 2f\n\t"
                     "1:\n\t"
                     "vldmia r1!, {s8-s11}\n\t"
                     "vldmia r2!, {s12-s15}\n\t" EP_FOUR_2("s0", "s4", "r3") EP_FOUR_2("s1", "s5", "r4")
                         EP_FOUR_2("s2", "s6", "r5")
                             EP_FOUR_2("s3", "s7", "r6") "subs r7, r7, #1\n\t"
                                                         "bne 1b\n\t"
                                                         "2:\n\t"
                                                         "cmp r8, #0\n\t"
                                                         "beq 4f\n\t"
                                                         "3:\n\t"
                                                         "vldmia r1!, {s8}\n\t"
                                                         "vldmia r2!, {s12}\n\t" EP_ONE_2("s0", "s4", "r3")
                                                             EP_ONE_2("s1", "s5", "r4") EP_ONE_2("s2", "s6", "r5")
                                                                 EP_ONE_2("s3", "s7", "r6") "subs r8, r8, #1\n\t"
                                                                                            "bne 3b\n\t"
                                                                                            "4:\n\t"
                                                                                            "vstmia r9, {s0-s7}\n\t"
                                                                                            "vpop {s16-s19}\n\t"
                                                                                            "pop {r4-r9, pc}");
}

#endif

/* y = base + sums, n of four. */
static void add_base(float *y, const float *base, const float *sums, int32_t n)
{
    if (n == 4) {
        const float v0 = base[0] + sums[0], v1 = base[1] + sums[1], v2 = base[2] + sums[2], v3 = base[3] + sums[3];
        y[0] = v0;
        y[1] = v1;
        y[2] = v2;
        y[3] = v3;
        return;
    }
    for (int32_t i = 0; i < n; i++) y[i] = base[i] + sums[i];
}

void ep_dots_f32_dsp(const ep_dots_f32 *d)
{
    float sums[8];
    for (int32_t k = 0; k < d->columns; k += 4) {
        const int32_t n = d->columns - k < 4 ? d->columns - k : 4;
        const float *w0 = d->w + k * d->w_step, *w1 = n > 1 ? w0 + d->w_step : w0;
        const float *w2 = n > 2 ? w1 + d->w_step : w0,
                    *w3 = n > 3 ? w2 + d->w_step : w0; /* w0 stands for missing ones */
        dots_job job = {
            .x0 = d->x, .x1 = d->x, .w = {w0, w1, w2, w3}, .fours = d->count / 4, .rest = d->count % 4, .sums = sums};
        const float *base = d->base + k;
        float *y = d->y + k;
        int32_t r = 0;
#ifndef __OPTIMIZE_SIZE__
        for (; r + 2 <= d->rows; r += 2) {
            job.x1 = job.x0 + d->x_step;
            dots_2x4(&job);
            add_base(y, base, sums, n);
            add_base(y + d->y_step, base + d->base_step, sums + 4, n);
            y += 2 * d->y_step;
            base += 2 * d->base_step;
            job.x0 = job.x1 + d->x_step;
        }
#endif
        for (; r < d->rows; r++) {
            dots_1x4(&job);
            add_base(y, base, sums, n);
            y += d->y_step;
            base += d->base_step;
            job.x0 += d->x_step;
        }
    }
}

/* ---- y += a * x --------------------------------------------------------------------------------------------------- */

/* 13 instructions for 8 elements. r0: y, r1: &a, r2: x, r3: eights, not 0. */
EP_ASSEMBLY static void axpy_eights(float *y __attribute__((unused)), const float *a __attribute__((unused)),
                                    const float *x __attribute__((unused)), size_t eights __attribute__((unused)))
{
    __asm__ volatile("vpush {s16}\n\t"
                     "vldr s0, [r1]\n\t"
                     "1:\n\t"
                     "vldmia r2!, {s1-s8}\n\t"
                     "vldmia r0, {s9-s16}\n\t"
                     "vfma.f32 s9, s1, s0\n\t"
                     "vfma.f32 s10, s2, s0\n\t"
                     "vfma.f32 s11, s3, s0\n\t"
                     "vfma.f32 s12, s4, s0\n\t"
                     "vfma.f32 s13, s5, s0\n\t"
                     "vfma.f32 s14, s6, s0\n\t"
                     "vfma.f32 s15, s7, s0\n\t"
                     "vfma.f32 s16, s8, s0\n\t"
                     "vstmia r0!, {s9-s16}\n\t"
                     "subs r3, r3, #1\n\t"
                     "bne 1b\n\t"
                     "vpop {s16}\n\t"
                     "bx lr");
}

void ep_axpy_f32_dsp(float *y, float a, const float *x, size_t count)
{
    size_t i = count / 8 * 8;
    if (i != 0) axpy_eights(y, &a, x, count / 8);
    for (; i < count; i++) y[i] = fmaf(a, x[i], y[i]);
}

/* Row by row: rows of c may overlap. */
void ep_outer_f32_dsp(const ep_outer_f32 *o)
{
    for (int32_t r = 0; r < o->rows; r++) {
        const float *a = o->a + r * o->a_row, *b = o->b;
        for (int32_t t = 0; t < o->count; t++, a += o->a_step, b += o->b_step) {
            ep_axpy_f32_dsp(o->c + r * o->c_step, *a, b, (size_t)o->columns);
        }
    }
}

/* ---- Depthwise: eight channels at a time -------------------------------------------------------------------------- */

/* The job of depthwise_eight(), one position. Steps in bytes, from behind what was read last. */
typedef struct depthwise_job {
    const float *x, *w;
    ptrdiff_t x_tap, w_tap, x_row, w_row;
    int32_t kernel_w, kernel_h;
    const float *bias;
    float *y;
} depthwise_job;

/* A tap of eight channels: 14 instructions for 8 products. */
EP_ASSEMBLY static void depthwise_eight(const depthwise_job *job __attribute__((unused)))
{
    __asm__ volatile("push {r4-r11, lr}\n\t"
                     "vpush {s16-s23}\n\t"
                     "ldmia r0, {r1-r10}\n\t"
                     "vldmia r9, {s0-s7}\n\t"
                     "1:\n\t"
                     "mov r11, r7\n\t"
                     "2:\n\t"
                     "vldmia r1!, {s8-s15}\n\t"
                     "vldmia r2!, {s16-s23}\n\t"
                     "vfma.f32 s0, s8, s16\n\t"
                     "vfma.f32 s1, s9, s17\n\t"
                     "vfma.f32 s2, s10, s18\n\t"
                     "vfma.f32 s3, s11, s19\n\t"
                     "vfma.f32 s4, s12, s20\n\t"
                     "vfma.f32 s5, s13, s21\n\t"
                     "vfma.f32 s6, s14, s22\n\t"
                     "vfma.f32 s7, s15, s23\n\t"
                     "add r1, r1, r3\n\t"
                     "add r2, r2, r4\n\t"
                     "subs r11, r11, #1\n\t"
                     "bne 2b\n\t"
                     "add r1, r1, r5\n\t"
                     "add r2, r2, r6\n\t"
                     "subs r8, r8, #1\n\t"
                     "bne 1b\n\t"
                     "vstmia r10, {s0-s7}\n\t"
                     "vpop {s16-s23}\n\t"
                     "pop {r4-r11, pc}");
}

static float depthwise_one(const ep_depthwise_f32 *d, const float *x, int32_t c)
{
    float sum = d->bias[c];
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        const float *p = x + ky * d->x_row + c, *w = d->w + ky * d->w_row + c;
        for (int32_t kx = 0; kx < d->kernel_w; kx++, p += d->x_tap, w += d->w_tap) {
            sum = fmaf(*p, *w, sum);
        }
    }
    return sum;
}

static void depthwise_position(const ep_depthwise_f32 *d, depthwise_job *job, const float *x, float *y)
{
    int32_t c = 0;
    for (; c + 8 <= d->channels; c += 8) {
        job->x = x + c;
        job->w = d->w + c;
        job->bias = d->bias + c;
        job->y = y + c;
        depthwise_eight(job);
    }
    for (; c < d->channels; c++) y[c] = depthwise_one(d, x, c);
}

void ep_depthwise_f32_dsp(const ep_depthwise_f32 *d)
{
    depthwise_job job = {.x_tap = 4 * (d->x_tap - 8),
                         .w_tap = 4 * (d->w_tap - 8),
                         .x_row = 4 * (d->x_row - d->kernel_w * d->x_tap),
                         .w_row = 4 * (d->w_row - d->kernel_w * d->w_tap),
                         .kernel_w = d->kernel_w,
                         .kernel_h = d->kernel_h};
    for (int32_t l = 0; l < d->lines; l++) {
        for (int32_t p = 0; p < d->run; p++) {
            depthwise_position(d, &job, d->x + l * d->x_line + p * d->x_step, d->y + l * d->y_line + p * d->y_step);
        }
    }
}

/* ---- Element by element ------------------------------------------------------------------------------------------ */

/* ReLU of four values on their bits: -0 .. -infinity become 0; negative NaN, whose bits lie above, pass. r1: fours, not 0. */
EP_ASSEMBLY static void relu_fours(float *y __attribute__((unused)), size_t fours __attribute__((unused)))
{
#define EP_RELU(v)                    \
    "eor r12, " v ", #0x80000000\n\t" \
    "cmp r12, #0x7f800000\n\t"        \
    "it ls\n\t"                       \
    "movls " v ", #0\n\t"
    __asm__ volatile("push {r4, r5}\n\t"
                     "1:\n\t"
                     "ldmia r0, {r2-r5}\n\t" EP_RELU("r2") EP_RELU("r3") EP_RELU("r4")
                         EP_RELU("r5") "stmia r0!, {r2-r5}\n\t"
                                       "subs r1, r1, #1\n\t"
                                       "bne 1b\n\t"
                                       "pop {r4, r5}\n\t"
                                       "bx lr");
}

void ep_clamp_f32_dsp(float *y, float lo, float hi, size_t count)
{
    size_t i = 0;
    if (lo == 0.0f && hi == INFINITY && count >= 4) {
        i = count / 4 * 4;
        relu_fours(y, count / 4);
    }
    for (; i < count; i++) {
        const float v = y[i] < lo ? lo : y[i];
        y[i] = v > hi ? hi : v;
    }
}

/* Without the sign, floats are ordered as their bits are. r0: v, r1: fours, not 0; returns bits without the sign. */
EP_ASSEMBLY static uint32_t max_fours(const float *v __attribute__((unused)), size_t fours __attribute__((unused)))
{
#define EP_MAX(v)                \
    "cmp r12, " v ", lsl #1\n\t" \
    "it lo\n\t"                  \
    "lsllo r12, " v ", #1\n\t"
    __asm__ volatile("push {r4, r5}\n\t"
                     "mov r12, #0\n\t"
                     "1:\n\t"
                     "ldmia r0!, {r2-r5}\n\t" EP_MAX("r2") EP_MAX("r3") EP_MAX("r4") EP_MAX("r5") "subs r1, r1, #1\n\t"
                                                                                                  "bne 1b\n\t"
                                                                                                  "lsr r0, r12, #1\n\t"
                                                                                                  "pop {r4, r5}\n\t"
                                                                                                  "bx lr");
}

float ep_max_abs_f32_dsp(const float *v, size_t count)
{
    size_t i = count / 4 * 4;
    uint32_t largest = i != 0 ? max_fours(v, count / 4) : 0;
    float result;
    for (; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, v + i, sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    memcpy(&result, &largest, sizeof result);
    return result;
}

#else
typedef int ep_dsp_f32_left_out; /* ISO C wants a declaration in every file */
#endif
