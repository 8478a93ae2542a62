/* y (outer, inner) = sum, maximum, .. of x (outer, size, inner) over its middle axis. */
#include "common.h"

#define NARROW 4 /* elements below which a call of a kernel costs more than the work */

/* y (count,) and one slice x of the middle axis. NaN stays. */
static void take(const ep_t *ep, int32_t which, float *y, const float *x, int32_t count)
{
    if (which == EP_REDUCE_SUM && count >= NARROW) {
        EP_KERNEL(ep, add_f32)(y, x, (size_t)count);
        return;
    }
    if ((which == EP_REDUCE_L2 || which == EP_REDUCE_SUM_SQUARE) && count >= NARROW) {
        EP_KERNEL(ep, multiply_add_f32)(y, x, x, (size_t)count);
        return;
    }
    for (int32_t i = 0; i < count; i++) {
        switch (which) {
        case EP_REDUCE_MAX: y[i] = x[i] > y[i] || isnan(x[i]) ? x[i] : y[i]; break;
        case EP_REDUCE_MIN: y[i] = x[i] < y[i] || isnan(x[i]) ? x[i] : y[i]; break;
        case EP_REDUCE_L1: y[i] += fabsf(x[i]); break;
        case EP_REDUCE_L2:
        case EP_REDUCE_SUM_SQUARE: y[i] += x[i] * x[i]; break;
        default: y[i] += x[i]; break;
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_reduce_attr *a = node->attr;
    const size_t outer = (size_t)n * (size_t)a->outer;
    const float start = a->which == EP_REDUCE_MAX ? -INFINITY : a->which == EP_REDUCE_MIN ? INFINITY : 0.0f;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t o = 0; o < outer; o++, y += a->inner) {
        for (int32_t i = 0; i < a->inner; i++) y[i] = start;
        for (int32_t s = 0; s < a->size; s++, x += a->inner) take(ep, a->which, y, x, a->inner);
        for (int32_t i = 0; a->which == EP_REDUCE_L2 && i < a->inner; i++) y[i] = sqrtf(y[i]);
    }
}

const ep_op ep_reduce_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dy / dx, but for maximum and minimum; 0 at a kink. */
static float slope(int32_t which, float x, float y)
{
    switch (which) {
    case EP_REDUCE_L1: return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
    case EP_REDUCE_L2: return y > 0.0f ? x / y : 0.0f;
    case EP_REDUCE_SUM_SQUARE: return 2.0f * x;
    default: return 1.0f;
    }
}

/* All of dx (size, inner) at column 0. */
static void backward_column(const ep_reduce_attr *a, float *dx, const float *x, float y, float dy)
{
    const int picks = a->which == EP_REDUCE_MAX || a->which == EP_REDUCE_MIN;
    for (int32_t s = 0; s < a->size; s++) {
        const ptrdiff_t at = (ptrdiff_t)s * a->inner;
        if (!picks) {
            dx[at] += dy * slope(a->which, x[at], y);
        } else if (x[at] == y) { /* the first takes it all */
            dx[at] += dy;
            return;
        }
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_reduce_attr *a = node->attr;
    const size_t outer = (size_t)n * (size_t)a->outer, block = (size_t)a->size * (size_t)a->inner;
    const float *x = ep_in(ep, node, 0), *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (size_t o = 0; dx != NULL && o < outer; o++, x += block, dx += block) {
        for (int32_t i = 0; i < a->inner; i++) backward_column(a, dx + i, x + i, *y++, *dy++);
    }
}

const ep_grad ep_reduce_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_reduce_f32(const ep_model *model, const ep_node *node)
{
    const ep_reduce_attr *a = node->attr;
    const int ok =
        a != NULL && a->which >= EP_REDUCE_SUM && a->which <= EP_REDUCE_SUM_SQUARE &&
        ep_valid_unary_f32(model, node, ep_product(a->outer, a->size, a->inner), ep_product(a->outer, a->inner, 1));
    return ok ? EP_OK : EP_ERR_IMAGE;
}
