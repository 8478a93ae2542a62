/* The float32 kernels, written for an ep_vec of EP_VEC floats: a register of an instruction set whose compiler knows GNU
 * vectors, one float elsewhere. Included once by each instruction set that is served so, with
 *     EP_ISA    the end of the kernels' names
 *     EP_VEC    floats in a vector: 1, 4, 8, 16
 *     EP_OWN_DOTS, EP_OWN_DEPTHWISE, EP_OWN_ROWS  if it has its own dots_f32, depthwise_f32, and add_f32, clamp_f32,
 *               mask_f32, max_abs_f32
 *     EP_FUSED  if sum + a * b of vectors is to be one instruction: the expression, of sum, a, b */
#include "kernels.h"

#include <math.h>
#include <string.h>

#define EP_NAME(name) EP_NAMED(name, EP_ISA)
#define EP_NAMED(name, isa) EP_NAMED_SO(name, isa)
#define EP_NAMED_SO(name, isa) ep_##name##_##isa

#if EP_VEC == 1
typedef float ep_vec;
#else
typedef float ep_vec __attribute__((vector_size(4 * EP_VEC)));
#endif

#if EP_VEC == 1 /* a memcpy() from who knows where would be a call on processors that want words aligned */
static inline ep_vec ep_get(const float *p)
{
    return *p;
}

static inline void ep_put(float *p, ep_vec v)
{
    *p = v;
}
#else
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
#endif

/* sum + a * b of scalars. Fused where that is one instruction and no slower, as on a Cortex-M4F. */
static inline float ep_mac1(float sum, float a, float b)
{
#if defined(EP_FUSED) || ((defined(FP_FAST_FMAF) || defined(__FP_FAST_FMAF)) && EP_VEC == 1)
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
#ifdef EP_FUSED
    return EP_FUSED(sum, a, b);
#else
    return sum + a * b;
#endif
}
static inline float ep_total(ep_vec v)
{
    float lane[EP_VEC];
    memcpy(lane, &v, sizeof lane);
    for (int i = EP_VEC / 2; i > 0; i /= 2) {
        for (int j = 0; j < i; j++) lane[j] += lane[j + i];
    }
    return lane[0];
}
#endif

#ifndef EP_OWN_KERNELS /* whoever defines this has the vectors from here, and kernels of its own */

#ifndef EP_OWN_DOTS

/* ---- y (rows, columns) = base (rows, columns) + x (rows, count) . w (columns, count)^T --------------------------- */

static inline float ep_dot_f32(const float *restrict x, const float *restrict w, int32_t count)
{
    ep_vec s0 = ep_splat(0.0f), s1 = s0;
    int32_t i = 0;
    for (; i + 2 * EP_VEC <= count; i += 2 * EP_VEC) {
        s0 = ep_mac(s0, ep_get(x + i), ep_get(w + i));
        s1 = ep_mac(s1, ep_get(x + i + EP_VEC), ep_get(w + i + EP_VEC));
    }
    float sum = ep_total(s0 + s1);
    for (; i < count; i++) sum = ep_mac1(sum, x[i], w[i]);
    return sum;
}

/* The last elements of each dot product of a tile, which do not fill a vector. */
static inline void ep_dot_rest(const ep_dots_f32 *d, int32_t r, int32_t k, int32_t rows, int32_t from)
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
static inline void ep_dot_1x4(const ep_dots_f32 *d, int32_t r, int32_t k)
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
static inline void ep_dot_2x4(const ep_dots_f32 *d, int32_t r, int32_t k)
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

void EP_NAME(dots_f32)(const ep_dots_f32 *d)
{
    for (int32_t k = 0; k < d->columns;) {
        const int32_t wide = d->columns - k >= 4 ? 4 : 1;
        int32_t r = 0;
#ifndef __OPTIMIZE_SIZE__
        for (; wide == 4 && r + 2 <= d->rows; r += 2) ep_dot_2x4(d, r, k);
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

#endif

/* ---- c (rows, columns) += sum over t of a[row, t] * b[t, column] -------------------------------------------------- */

/* One element. */
static inline void ep_outer_1x1(const ep_outer_f32 *o, int32_t r, int32_t j)
{
    const float *restrict a = o->a + r * o->a_row, *restrict b = o->b + j;
    float sum = 0.0f;
    for (int32_t t = 0; t < o->count; t++, a += o->a_step, b += o->b_step) {
        sum = ep_mac1(sum, *a, *b);
    }
    o->c[r * o->c_step + j] += sum;
}

/* One row, four vectors wide. */
static inline void ep_outer_1x4(const ep_outer_f32 *o, int32_t r, int32_t j)
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
static inline void ep_outer_4x2(const ep_outer_f32 *o, int32_t r, int32_t j)
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

void EP_NAME(outer_f32)(const ep_outer_f32 *o)
{
    int32_t r = 0;
#ifndef __OPTIMIZE_SIZE__
    for (; r + 4 <= o->rows; r += 4) {
        int32_t j = 0;
        for (; j + 2 * EP_VEC <= o->columns; j += 2 * EP_VEC) ep_outer_4x2(o, r, j);
        for (; j < o->columns; j++) {
            for (int32_t i = r; i < r + 4; i++) ep_outer_1x1(o, i, j);
        }
    }
#endif
    for (; r < o->rows; r++) {
        int32_t j = 0;
        for (; j + 4 * EP_VEC <= o->columns; j += 4 * EP_VEC) ep_outer_1x4(o, r, j);
        for (; j < o->columns; j++) ep_outer_1x1(o, r, j);
    }
}

#ifndef EP_OWN_DEPTHWISE

/* ---- Depthwise: a block of channels whose sums stay in registers, at one position after the other ----------------- */

#define EP_BLOCK (4 * EP_VEC)

static inline void ep_depthwise_block(const ep_depthwise_f32 *d, const float *x, float *y, int32_t c)
{
    const float *b = d->bias + c;
    ep_vec s0 = ep_get(b), s1 = ep_get(b + EP_VEC), s2 = ep_get(b + 2 * EP_VEC), s3 = ep_get(b + 3 * EP_VEC);
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        const float *restrict p = x + ky * d->x_row + c, *restrict w = d->w + ky * d->w_row + c;
        for (int32_t kx = 0; kx < d->kernel_w; kx++, p += d->x_tap, w += d->w_tap) {
            s0 = ep_mac(s0, ep_get(p), ep_get(w));
            s1 = ep_mac(s1, ep_get(p + EP_VEC), ep_get(w + EP_VEC));
            s2 = ep_mac(s2, ep_get(p + 2 * EP_VEC), ep_get(w + 2 * EP_VEC));
            s3 = ep_mac(s3, ep_get(p + 3 * EP_VEC), ep_get(w + 3 * EP_VEC));
        }
    }
    ep_put(y + c, s0);
    ep_put(y + c + EP_VEC, s1);
    ep_put(y + c + 2 * EP_VEC, s2);
    ep_put(y + c + 3 * EP_VEC, s3);
}

static inline float ep_depthwise_one(const ep_depthwise_f32 *d, const float *x, int32_t c)
{
    float sum = d->bias[c];
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        const float *restrict p = x + ky * d->x_row + c, *restrict w = d->w + ky * d->w_row + c;
        for (int32_t kx = 0; kx < d->kernel_w; kx++, p += d->x_tap, w += d->w_tap) {
            sum = ep_mac1(sum, *p, *w);
        }
    }
    return sum;
}

void EP_NAME(depthwise_f32)(const ep_depthwise_f32 *d)
{
    for (int32_t i = 0; i < d->lines * d->run; i++) {
        const int32_t l = i / d->run, p = i % d->run;
        const float *x = d->x + l * d->x_line + p * d->x_step;
        float *y = d->y + l * d->y_line + p * d->y_step;
        int32_t c = 0;
        for (; c + EP_BLOCK <= d->channels; c += EP_BLOCK) ep_depthwise_block(d, x, y, c);
        for (; c < d->channels; c++) y[c] = ep_depthwise_one(d, x, c);
    }
}

#endif

/* ---- Element by element ------------------------------------------------------------------------------------------ */

void EP_NAME(axpy_f32)(float *restrict y, float a, const float *restrict x, size_t count)
{
    const ep_vec v = ep_splat(a);
    size_t i = 0;
    for (; i + EP_VEC <= count; i += EP_VEC) ep_put(y + i, ep_mac(ep_get(y + i), v, ep_get(x + i)));
    for (; i < count; i++) y[i] = ep_mac1(y[i], a, x[i]);
}

void EP_NAME(multiply_add_f32)(float *restrict y, const float *restrict x, const float *restrict w, size_t count)
{
    size_t i = 0;
    for (; i + EP_VEC <= count; i += EP_VEC) {
        ep_put(y + i, ep_mac(ep_get(y + i), ep_get(x + i), ep_get(w + i)));
    }
    for (; i < count; i++) y[i] = ep_mac1(y[i], x[i], w[i]);
}

#ifndef EP_OWN_ROWS

void EP_NAME(add_f32)(float *restrict y, const float *restrict x, size_t count)
{
    for (size_t i = 0; i < count; i++) y[i] += x[i];
}

/* The comparisons let NaN pass. */
void EP_NAME(clamp_f32)(float *y, float lo, float hi, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const float v = y[i] < lo ? lo : y[i];
        y[i] = v > hi ? hi : v;
    }
}

void EP_NAME(mask_f32)(float *restrict dy, const float *restrict y, float lo, float hi, size_t count)
{
    for (size_t i = 0; i < count; i++) dy[i] = y[i] <= lo || y[i] >= hi ? 0.0f : dy[i];
}

/* Without the sign, floats are ordered as their bits are, infinity above all numbers and NaN above infinity. */
float EP_NAME(max_abs_f32)(const float *v, size_t count)
{
    int32_t largest = 0;
    for (size_t i = 0; i < count; i++) {
        const float value = v[i];
        int32_t bits;
        memcpy(&bits, &value, sizeof bits);
        bits &= 0x7FFFFFFF;
        largest = bits > largest ? bits : largest;
    }
    float result;
    memcpy(&result, &largest, sizeof result);
    return result;
}

#endif

#endif
