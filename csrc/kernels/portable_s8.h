/* Inner loops of the int8 ops in portable C: what a version for one instruction set replaces. All sums are int32 and
 * exact; the checks of the ops bound them below 2^31. */
#ifndef EP_PORTABLE_S8_H
#define EP_PORTABLE_S8_H

#include "contract.h"
#include "window.h"

#include <stdint.h>
#include <string.h>

#define EP_LANES 16 /* channels whose sums are kept at once, on the stack */

/* v rounded half to even, |v| <= 2^21. Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition itself
 * rounds as the result should be; the integer is then the low part of the mantissa. The copy forces a float of 4
 * bytes. */
static inline int32_t ep_nearest(float v)
{
    const float shifted = v + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4B400000;
}

/* A code from an int32 sum: (float)acc * multiplier, clamped, rounded half to even, plus the zero point. */
static inline int8_t ep_requantize_s8(int32_t acc, float multiplier, float lo, float hi, int32_t zero_point)
{
    float v = (float)acc * multiplier;
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    return (int8_t)(ep_nearest(v) + zero_point);
}

/* acc[k] to y[k], k < count, each with its multiplier. */
static inline void ep_requantize_row_s8(int8_t *y, const int32_t *acc, const float *multiplier, int32_t count, float lo,
                                        float hi, int32_t zero_point)
{
    for (int32_t k = 0; k < count; k++) {
        y[k] = ep_requantize_s8(acc[k], multiplier[k], lo, hi, zero_point);
    }
}

/* Sum of x[i] * w[i]. */
static inline int32_t ep_dot_s8(const int8_t *x, const int8_t *w, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) {
        sum += (int32_t)x[i] * w[i];
    }
    return sum;
}

/* acc[k] += sum of x[i] * w[k * stride + i], for four k at once: x is read once. */
static inline void ep_dot4_s8(int32_t *acc, const int8_t *x, const int8_t *w, int32_t stride, int32_t count)
{
    const int8_t *w1 = w + stride, *w2 = w1 + stride, *w3 = w2 + stride;
    int32_t s0 = 0, s1 = 0, s2 = 0, s3 = 0;
    for (int32_t i = 0; i < count; i++) {
        const int32_t v = x[i];
        s0 += v * w[i];
        s1 += v * w1[i];
        s2 += v * w2[i];
        s3 += v * w3[i];
    }
    acc[0] += s0;
    acc[1] += s1;
    acc[2] += s2;
    acc[3] += s3;
}

/* acc[k] += dot product of x with row k of w (rows, stride), rows <= EP_LANES, over the first `count` of each row. */
static inline void ep_dot_rows_s8(int32_t *acc, const int8_t *x, const int8_t *w, int32_t stride, int32_t rows,
                                  int32_t count)
{
    int32_t k = 0;
    for (; k + 4 <= rows; k += 4) {
        ep_dot4_s8(acc + k, x, w + k * stride, stride, count);
    }
    for (; k < rows; k++) {
        acc[k] += ep_dot_s8(x, w + k * stride, count);
    }
}

/* acc[k] += value * sum of row k of w: taps that all see the same code. */
static inline void ep_sum_rows_s8(int32_t *acc, int32_t value, const int8_t *w, int32_t stride, int32_t rows,
                                  int32_t count)
{
    for (int32_t k = 0; k < rows; k++) {
        int32_t sum = 0;
        for (int32_t i = 0; i < count; i++) {
            sum += w[k * stride + i];
        }
        acc[k] += value * sum;
    }
}

/* acc[k] += x[k] * w[k]: one tap of a depthwise convolution. */
static inline void ep_multiply_add_s8(int32_t *acc, const int8_t *x, const int8_t *w, int32_t count)
{
    for (int32_t k = 0; k < count; k++) {
        acc[k] += (int32_t)x[k] * w[k];
    }
}

#endif
