/* Quantize dynamically, as ONNX's DynamicQuantizeLinear does: scale and zero point are found at run time, for layers
 * with float32 in and out: codes are made a few at a time on the stack, their sums kept in y until they are complete. */
#ifndef EP_DYNAMIC_H
#define EP_DYNAMIC_H

#include "../kernels/scalar_s8.h"
#include "common.h"

#include <float.h>

#define EP_CODES 128 /* on the stack, 2 bytes each */

/* How DynamicQuantizeLinear makes uint8 codes of a sample. */
typedef struct ep_coding {
    float scale, zero; /* the zero point, 0 .. 255 */
} ep_coding;

/* The range holds 0. What is not finite is taken as the nearest number, so that whatever comes has codes. */
static inline ep_coding ep_code_range(const float *x, size_t count)
{
    float lo = 0, hi = 0;
    for (size_t i = 0; i < count; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    const float range = hi - lo;
    const ep_coding c = {range > 0 ? (range <= FLT_MAX ? range : FLT_MAX) / 255.0f : 1.0f, 0};
    const float zero = c.scale > 0 ? 0.0f - lo / c.scale : 0.0f;
    const ep_coding found = {c.scale > 0 ? c.scale : 1.0f, (float)ep_nearest(zero < 255.0f ? zero : 255.0f)};
    return found;
}

/* codes (count) less the zero point, -255 .. 255. */
static inline void ep_encode(int16_t *codes, const float *x, int32_t count, ep_coding c)
{
    const float lo = -c.zero, hi = 255.0f - c.zero;
    for (int32_t i = 0; i < count; i++) {
        float v = x[i] / c.scale;
        v = v > lo ? v : lo; /* NaN: the lowest */
        v = v < hi ? v : hi;
        codes[i] = (int16_t)ep_nearest(v);
    }
}

/* sums (channels) += codes (count) times the weights at w less their zero points, `step` from one channel to the next. */
static inline void ep_add_products(int32_t *sums, const int16_t *codes, const int8_t *w, int32_t count,
                                   int32_t channels, int32_t step, const int8_t *zeros)
{
    int32_t total = 0;
    for (int32_t i = 0; i < count; i++) total += codes[i];
    for (int32_t k = 0; k < channels; k++, w += step) {
        int32_t sum = -total * zeros[k];
        for (int32_t i = 0; i < count; i++) sum += codes[i] * w[i];
        sums[k] += sum;
    }
}

/* y (channels), which holds the sums, = sums * (scale * weight's scale) + bias. */
static inline void ep_scale_sums(float *y, ep_coding c, const float *w_scale, const float *bias, int32_t channels)
{
    const int32_t *sums = (const int32_t *)(const void *)y;
    for (int32_t k = 0; k < channels; k++) {
        const float sum = (float)sums[k];
        y[k] = sum * (c.scale * w_scale[k]) + bias[k];
    }
}

/* 32895 = 2^31 / (255 * 256): the most products whose sum stays within int32. */
#define EP_DYNAMIC_MAX 32895

#endif
