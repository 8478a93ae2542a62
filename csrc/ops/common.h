/* Help float32 ops: sigmoid, clamping, gradients that are passed on. */
#ifndef EP_COMMON_H
#define EP_COMMON_H

#include "../internal.h"
#include "../kernels/window.h"
#include "check.h"

#include <string.h>

/* y, clamped by an activation fused into the op, if there is one. */
static inline void ep_clamp_output(const ep_t *ep, float *y, float lo, float hi, size_t count)
{
    if (lo != -INFINITY || hi != INFINITY) EP_KERNEL(ep, clamp_f32)(y, lo, hi, count);
}

/* 1 / (1 + exp(-x)), by the exponential of a negative number only, which cannot overflow. */
static inline float ep_sigmoid(float x)
{
    const float e = expf(-fabsf(x));
    return (x < 0.0f ? e : 1.0f) / (1.0f + e);
}

/* Masks the gradient of the output for a clamp fused into the op, if there is one. */
void ep_mask_output(const ep_t *ep, const ep_node *node, float lo, float hi, uint32_t n);

/* The gradient of input 0, ready to be added to: zero unless another consumer has written it. NULL: nobody wants it. */
float *ep_begin_din(const ep_t *ep, const ep_node *node, uint32_t n);

/* dx = dy, or += if `add`. dx may be dy, or NULL. */
void ep_pass_gradient(float *dx, const float *dy, int add, size_t count);

/* ep_grad.bound of x ; weight, bias -> y, where a weight's gradient is a sum of `terms` products dy * x, all samples'. */
float ep_bound_layer(const ep_t *ep, const ep_node *node, uint32_t n, float terms);

/* Hands over the gradient of input 2, the bias: the sum of the output's gradient over `rows` rows, all samples'. */
void ep_emit_bias(const ep_t *ep, const ep_node *node, const ep_sink *sink, int32_t channels, uint32_t rows);

#endif
