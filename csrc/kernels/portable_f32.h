/* Inner loops of the float32 ops: what a version for one instruction set replaces.
 *
 * They are written for an ep_vec of EP_VEC floats, which compilers with GNU vectors map to a register of the target, and which is
 * one float elsewhere. The order of the sums so depends on the target: results agree to rounding, not to the bit. */
#ifndef EP_PORTABLE_F32_H
#define EP_PORTABLE_F32_H

#include "contract.h"

#include <math.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#if defined(EP_VEC) /* the build says */
#elif !defined(__GNUC__)
#define EP_VEC 1
#elif defined(__AVX512F__)
#define EP_VEC 16
#elif defined(__AVX__)
#define EP_VEC 8
#elif defined(__SSE__) || defined(__ARM_NEON)
#define EP_VEC 4
#else
#define EP_VEC 1
#endif

#if EP_VEC == 1
typedef float ep_vec;
#else
typedef float ep_vec __attribute__((vector_size(4 * EP_VEC)));
#endif

static inline ep_vec ep_get(const float *p)
{
    ep_vec v;
    memcpy(&v, p, sizeof v);
    return v;
}

static inline void ep_put(float *p, ep_vec v)
{
    memcpy(p, &v, sizeof v);
}

/* sum + a * b. Fused only where that is one instruction of a scalar unit, as on a Cortex-M4F. */
static inline float ep_mac1(float sum, float a, float b)
{
#if defined(FP_FAST_FMAF) && EP_VEC == 1
    return fmaf(a, b, sum);
#else
    return sum + a * b;
#endif
}

#if EP_VEC == 1
static inline ep_vec ep_splat(float a)
{
    return a;
}
static inline ep_vec ep_mac(ep_vec sum, ep_vec a, ep_vec b)
{
    return ep_mac1(sum, a, b);
}
static inline float ep_total(ep_vec v)
{
    return v;
}
#else
static inline ep_vec ep_splat(float a)
{
    return a - (ep_vec){0.0f};
}
static inline ep_vec ep_mac(ep_vec sum, ep_vec a, ep_vec b)
{
    return sum + a * b;
}
static inline float ep_total(ep_vec v)
{
    float lane[EP_VEC];
    memcpy(lane, &v, sizeof lane);
    for (int i = EP_VEC / 2; i > 0; i /= 2) {
        for (int j = 0; j < i; j++) {
            lane[j] += lane[j + i];
        }
    }
    return lane[0];
}
#endif

/* ---- y (rows, columns) = base (rows, columns) + x (rows, count) . w (columns, count)^T --------------------------- */

typedef struct
    ep_dots { /* steps: elements from one row to the next; base may be y; base_step 0: the same for all rows */
    float *y;
    const float *base, *x, *w;
    ptrdiff_t y_step, base_step, x_step, w_step;
    int32_t rows, columns, count;
} ep_dots;

static inline float ep_dot_f32(const float *restrict x, const float *restrict w, int32_t count)
{
    ep_vec s0 = ep_splat(0.0f), s1 = s0;
    int32_t i = 0;
    for (; i + 2 * EP_VEC <= count; i += 2 * EP_VEC) {
        s0 = ep_mac(s0, ep_get(x + i), ep_get(w + i));
        s1 = ep_mac(s1, ep_get(x + i + EP_VEC), ep_get(w + i + EP_VEC));
    }
    float sum = ep_total(s0 + s1);
    for (; i < count; i++) {
        sum = ep_mac1(sum, x[i], w[i]);
    }
    return sum;
}

/* The last elements of each dot product of a tile, which do not fill a vector. */
static inline void ep_dot_rest(const ep_dots *d, int32_t r, int32_t k, int32_t rows, int32_t from)
{
    for (int32_t i = r; EP_VEC > 1 && from < d->count && i < r + rows; i++) {
        for (int32_t j = k; j < k + 4; j++) {
            float sum = d->y[i * d->y_step + j];
            for (int32_t t = from; t < d->count; t++) {
                sum = ep_mac1(sum, d->x[i * d->x_step + t], d->w[j * d->w_step + t]);
            }
            d->y[i * d->y_step + j] = sum;
        }
    }
}

/* One row, columns k .. k + 3: x is read once. */
static inline void ep_dot_1x4(const ep_dots *d, int32_t r, int32_t k)
{
    const float *restrict x = d->x + r * d->x_step, *restrict w0 = d->w + k * d->w_step;
    const float *restrict w1 = w0 + d->w_step, *restrict w2 = w1 + d->w_step, *restrict w3 = w2 + d->w_step;
    const float *base = d->base + r * d->base_step + k;
    float *y = d->y + r * d->y_step + k;
    ep_vec s0 = ep_splat(0.0f), s1 = s0, s2 = s0, s3 = s0;
    int32_t i = 0;
    for (; i + EP_VEC <= d->count; i += EP_VEC) {
        const ep_vec v = ep_get(x + i);
        s0 = ep_mac(s0, v, ep_get(w0 + i));
        s1 = ep_mac(s1, v, ep_get(w1 + i));
        s2 = ep_mac(s2, v, ep_get(w2 + i));
        s3 = ep_mac(s3, v, ep_get(w3 + i));
    }
    y[0] = base[0] + ep_total(s0);
    y[1] = base[1] + ep_total(s1);
    y[2] = base[2] + ep_total(s2);
    y[3] = base[3] + ep_total(s3);
    ep_dot_rest(d, r, k, 1, i);
}

/* Rows r and r + 1, columns k .. k + 3: eight sums in registers, six loads for eight products. */
static inline void ep_dot_2x4(const ep_dots *d, int32_t r, int32_t k)
{
    const float *restrict x0 = d->x + r * d->x_step, *restrict x1 = x0 + d->x_step;
    const float *restrict w0 = d->w + k * d->w_step, *restrict w1 = w0 + d->w_step;
    const float *restrict w2 = w1 + d->w_step, *restrict w3 = w2 + d->w_step;
    ep_vec s0 = ep_splat(0.0f), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    int32_t i = 0;
    for (; i + EP_VEC <= d->count; i += EP_VEC) {
        const ep_vec u = ep_get(x0 + i), v = ep_get(x1 + i);
        const ep_vec a = ep_get(w0 + i), b = ep_get(w1 + i), c = ep_get(w2 + i), e = ep_get(w3 + i);
        s0 = ep_mac(s0, u, a);
        s1 = ep_mac(s1, u, b);
        s2 = ep_mac(s2, u, c);
        s3 = ep_mac(s3, u, e);
        t0 = ep_mac(t0, v, a);
        t1 = ep_mac(t1, v, b);
        t2 = ep_mac(t2, v, c);
        t3 = ep_mac(t3, v, e);
    }
    const float *base = d->base + r * d->base_step + k;
    float *y = d->y + r * d->y_step + k;
    y[0] = base[0] + ep_total(s0);
    y[1] = base[1] + ep_total(s1);
    y[2] = base[2] + ep_total(s2);
    y[3] = base[3] + ep_total(s3);
    base += d->base_step;
    y += d->y_step;
    y[0] = base[0] + ep_total(t0);
    y[1] = base[1] + ep_total(t1);
    y[2] = base[2] + ep_total(t2);
    y[3] = base[3] + ep_total(t3);
    ep_dot_rest(d, r, k, 2, i);
}

static inline void ep_dot_rows_f32(const ep_dots *d)
{
    for (int32_t k = 0; k < d->columns;) {
        const int32_t wide = d->columns - k >= 4 ? 4 : 1;
        int32_t r = 0;
#ifndef __OPTIMIZE_SIZE__
        for (; wide == 4 && r + 2 <= d->rows; r += 2) {
            ep_dot_2x4(d, r, k);
        }
#endif
        for (; r < d->rows; r++) {
            if (wide == 4) {
                ep_dot_1x4(d, r, k);
            } else {
                d->y[r * d->y_step + k] =
                    d->base[r * d->base_step + k] + ep_dot_f32(d->x + r * d->x_step, d->w + k * d->w_step, d->count);
            }
        }
        k += wide;
    }
}

/* ---- c (rows, columns) += sum over t of a[row, t] * b[t, column] -------------------------------------------------- */

typedef struct ep_outer { /* a[r * a_row + t * a_step], b[t * b_step + j]; rows of c may overlap */
    float *c;
    const float *a, *b;
    ptrdiff_t c_step, a_row, a_step, b_step;
    int32_t rows, columns, count;
} ep_outer;

/* One element. */
static inline void ep_outer_1x1(const ep_outer *o, int32_t r, int32_t j)
{
    const float *restrict a = o->a + r * o->a_row, *restrict b = o->b + j;
    float sum = 0.0f;
    for (int32_t t = 0; t < o->count; t++, a += o->a_step, b += o->b_step) {
        sum = ep_mac1(sum, *a, *b);
    }
    o->c[r * o->c_step + j] += sum;
}

/* One row, four vectors wide. */
static inline void ep_outer_1x4(const ep_outer *o, int32_t r, int32_t j)
{
    const float *restrict a = o->a + r * o->a_row, *restrict b = o->b + j;
    float *c = o->c + r * o->c_step + j;
    ep_vec s0 = ep_splat(0.0f), s1 = s0, s2 = s0, s3 = s0;
    for (int32_t t = 0; t < o->count; t++, a += o->a_step, b += o->b_step) {
        const ep_vec v = ep_splat(*a);
        s0 = ep_mac(s0, v, ep_get(b));
        s1 = ep_mac(s1, v, ep_get(b + EP_VEC));
        s2 = ep_mac(s2, v, ep_get(b + 2 * EP_VEC));
        s3 = ep_mac(s3, v, ep_get(b + 3 * EP_VEC));
    }
    ep_put(c, ep_get(c) + s0);
    ep_put(c + EP_VEC, ep_get(c + EP_VEC) + s1);
    ep_put(c + 2 * EP_VEC, ep_get(c + 2 * EP_VEC) + s2);
    ep_put(c + 3 * EP_VEC, ep_get(c + 3 * EP_VEC) + s3);
}

static inline void ep_add_pair(float *c, ep_vec s, ep_vec t)
{
    ep_put(c, ep_get(c) + s);
    ep_put(c + EP_VEC, ep_get(c + EP_VEC) + t);
}

/* Four rows, two vectors wide: six loads for eight products. */
static inline void ep_outer_4x2(const ep_outer *o, int32_t r, int32_t j)
{
    const float *restrict a0 = o->a + r * o->a_row, *restrict a1 = a0 + o->a_row;
    const float *restrict a2 = a1 + o->a_row, *restrict a3 = a2 + o->a_row, *restrict b = o->b + j;
    ep_vec s0 = ep_splat(0.0f), s1 = s0, s2 = s0, s3 = s0, t0 = s0, t1 = s0, t2 = s0, t3 = s0;
    ptrdiff_t at = 0;
    for (int32_t t = 0; t < o->count; t++, at += o->a_step, b += o->b_step) {
        const ep_vec u = ep_get(b), v = ep_get(b + EP_VEC);
        const ep_vec p0 = ep_splat(a0[at]), p1 = ep_splat(a1[at]), p2 = ep_splat(a2[at]), p3 = ep_splat(a3[at]);
        s0 = ep_mac(s0, p0, u);
        t0 = ep_mac(t0, p0, v);
        s1 = ep_mac(s1, p1, u);
        t1 = ep_mac(t1, p1, v);
        s2 = ep_mac(s2, p2, u);
        t2 = ep_mac(t2, p2, v);
        s3 = ep_mac(s3, p3, u);
        t3 = ep_mac(t3, p3, v);
    }
    float *c = o->c + r * o->c_step + j; /* one row after the other: they may overlap */
    ep_add_pair(c, s0, t0);
    ep_add_pair(c + o->c_step, s1, t1);
    ep_add_pair(c + 2 * o->c_step, s2, t2);
    ep_add_pair(c + 3 * o->c_step, s3, t3);
}

static inline void ep_outer_f32(const ep_outer *o)
{
    int32_t r = 0;
#ifndef __OPTIMIZE_SIZE__
    for (; r + 4 <= o->rows; r += 4) {
        int32_t j = 0;
        for (; j + 2 * EP_VEC <= o->columns; j += 2 * EP_VEC) {
            ep_outer_4x2(o, r, j);
        }
        for (; j < o->columns; j++) {
            for (int32_t i = r; i < r + 4; i++) {
                ep_outer_1x1(o, i, j);
            }
        }
    }
#endif
    for (; r < o->rows; r++) {
        int32_t j = 0;
        for (; j + 4 * EP_VEC <= o->columns; j += 4 * EP_VEC) {
            ep_outer_1x4(o, r, j);
        }
        for (; j < o->columns; j++) {
            ep_outer_1x1(o, r, j);
        }
    }
}

/* ---- Over the channels of one pixel ---------------------------------------------------------------------------- */

/* y += a * x. */
static inline void ep_axpy_f32(float *restrict y, float a, const float *restrict x, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = ep_mac1(y[i], a, x[i]);
    }
}

/* y += x * w, element by element. */
static inline void ep_multiply_add_f32(float *restrict y, const float *restrict x, const float *restrict w,
                                       int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = ep_mac1(y[i], x[i], w[i]);
    }
}

/* y += x. */
static inline void ep_add_row_f32(float *restrict y, const float *restrict x, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] += x[i];
    }
}

/* y, clamped. The comparisons let NaN pass. */
static inline void ep_clamp_f32(float *y, float lo, float hi, size_t count)
{
    if (lo == -INFINITY && hi == INFINITY) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        const float v = y[i] < lo ? lo : y[i];
        y[i] = v > hi ? hi : v;
    }
}

#endif
