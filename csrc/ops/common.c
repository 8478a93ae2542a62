/* Small things several ops and the core share. */
#include "../internal.h"

#include <string.h>

void ep_mask_clamp(float *dy, const float *y, float lo, float hi, size_t count)
{
    if (!(lo > -INFINITY || hi < INFINITY)) {
        return;
    }
    for (size_t i = 0; i < count; i++) {
        dy[i] = y[i] > lo && y[i] < hi ? dy[i] : 0.0f;
    }
}

void ep_pass_gradient(float *dx, const float *dy, size_t count, int adds)
{
    for (size_t i = 0; dx && i < count; i++) {
        dx[i] = adds ? dx[i] + dy[i] : dy[i];
    }
}

/* As floats without a sign are ordered like their bits, with NaN above infinity, integers find the largest: no FPU
 * compare, and NaN is never lost. */
float ep_max_abs(const float *v, size_t count)
{
    uint32_t max = 0;
    float result;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        bits &= 0x7FFFFFFFu;
        max = bits > max ? bits : max;
    }
    memcpy(&result, &max, sizeof result);
    return result;
}

#ifndef EP_NO_TRAIN
float ep_gradient_bound(const ep_t *ep, const ep_node *node, size_t x_count, size_t dy_count, float terms)
{
    const float dy = ep_max_abs(ep_dout(ep, node, 0), dy_count);
    float x = 1.0f;
    if (ep_trains(ep, node, 1)) {
        const float largest = ep_max_abs(ep_in(ep, node, 0), x_count);
        x = largest <= 1.0f ? 1.0f : largest; /* NaN stays */
    }
    return terms * dy * x;
}

void ep_give_bias(const ep_t *ep, const ep_node *node, size_t rows, size_t channels, const ep_sink *sink)
{
    const float *dy = ep_dout(ep, node, 0);
    if (rows == 1) {
        ep_emit(ep, sink, node->io[2], 0, (uint32_t)channels, 1.0f, dy);
        return;
    }
    for (size_t k = 0; k < channels; k++) {
        float sum = 0.0f;
        for (size_t row = 0; row < rows; row++) {
            sum += dy[row * channels + k];
        }
        ep_emit(ep, sink, node->io[2], (uint32_t)k, 1, 1.0f, &sum);
    }
}
#endif

/* Adding 1.5 * 2^23 leaves no bits for a fraction: the FPU rounds to nearest, ties to even. */
int32_t ep_round_even(float v)
{
    const float shifted = v + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4B400000;
}
