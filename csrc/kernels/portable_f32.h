/* float32 loops that every op is built on, in portable C. Versions for an instruction set stand beside this file. */
#ifndef EP_PORTABLE_F32_H
#define EP_PORTABLE_F32_H

#include "../internal.h"

#include <string.h>

/* Sum of x[i] * w[i]; four partial sums, so that neither a compiler nor a pipeline waits for one. */
static inline float ep_dot_f32(const float *restrict x, const float *restrict w, int32_t count)
{
    float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        s0 += x[i] * w[i];
        s1 += x[i + 1] * w[i + 1];
        s2 += x[i + 2] * w[i + 2];
        s3 += x[i + 3] * w[i + 3];
    }
    for (; i < count; i++) {
        s0 += x[i] * w[i];
    }
    return (s0 + s1) + (s2 + s3);
}

/* y[i] += a * x[i]. */
static inline void ep_axpy_f32(float *restrict y, float a, const float *restrict x, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] += a * x[i];
    }
}

/* y[i] += x[i] * w[i]: one tap of a depthwise convolution. */
static inline void ep_multiply_add_f32(float *restrict y, const float *restrict x, const float *restrict w,
                                       int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] += x[i] * w[i];
    }
}

/* v clamped to lo .. hi; NaN stays NaN. */
static inline float ep_clamp_f32(float v, float lo, float hi)
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

static inline void ep_clamp_row_f32(float *y, float lo, float hi, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = ep_clamp_f32(y[i], lo, hi);
    }
}

/* Whether lo .. hi clamps at all. */
static inline int ep_clamps(float lo, float hi)
{
    return lo > -INFINITY || hi < INFINITY;
}

/* Where a gradient that is overwritten starts from 0, one that is added to stays. */
static inline void ep_begin_gradient(float *dx, size_t count, int adds)
{
    if (!adds) {
        memset(dx, 0, count * sizeof *dx);
    }
}

#endif
