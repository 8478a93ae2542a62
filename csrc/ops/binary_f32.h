/* float32 ops of two operands. An op's file holds its value(a, b) and, beside it, the derivatives slope_a(a, b) and
 * slope_b(a, b); the loops around them are made here, for each op its own, so that they are inlined. In place where y is an
 * operand of as many elements. dX of an operand that repeats is a sum. */
#ifndef EP_BINARY_F32_H
#define EP_BINARY_F32_H

#include "binary.h"
#include "common.h"

/* A row of y, or of the gradient of an operand. */
typedef struct ep_row {
    const float *a, *b, *dy;
    float *to;
    int32_t a_step, b_step, to_step, count;
} ep_row;
typedef void ep_row_function(const ep_row *row);

/* y = clamp(value of a and b), row by row. */
void ep_broadcast(const ep_t *ep, const ep_node *node, uint32_t n, ep_row_function *row);

/* The gradient of input i: rows add dy * slope to what was there. */
void ep_broadcast_gradient(const ep_t *ep, const ep_node *node, uint32_t n, unsigned i, ep_row_function *row);

/* EP_OK if the node is a, b -> y of float32 and its attributes fit, else EP_ERR_IMAGE. */
int ep_check_binary(const ep_model *model, const ep_node *node);

/* The op of a value(), with its check. */
#define EP_BINARY_F32(name)                                                      \
    static void value_row(const ep_row *r)                                       \
    {                                                                            \
        if (r->a_step == 1 && r->b_step == 1) {                                  \
            for (int32_t i = 0; i < r->count; i++) {                             \
                r->to[i] = value(r->a[i], r->b[i]);                              \
            }                                                                    \
            return;                                                              \
        }                                                                        \
        const float *a = r->a, *b = r->b;                                        \
        for (int32_t i = 0; i < r->count; i++, a += r->a_step, b += r->b_step) { \
            r->to[i] = value(*a, *b);                                            \
        }                                                                        \
    }                                                                            \
    static void forward(const ep_t *ep, const ep_node *node, uint32_t n)         \
    {                                                                            \
        ep_broadcast(ep, node, n, value_row);                                    \
    }                                                                            \
    const ep_op ep_##name = {forward};                                           \
    int ep_check_##name(const ep_model *model, const ep_node *node)              \
    {                                                                            \
        return ep_check_binary(model, node);                                     \
    }

/* A row of the gradient of one operand; where it is one element, its sum is taken on its own, which loses less. */
#define EP_BINARY_F32_SLOPE(slope)                                               \
    static void slope##_row(const ep_row *r)                                     \
    {                                                                            \
        const float *a = r->a, *b = r->b;                                        \
        float *to = r->to, sum = 0.0f;                                           \
        for (int32_t i = 0; i < r->count; i++, a += r->a_step, b += r->b_step) { \
            const float d = r->dy[i] * slope(*a, *b);                            \
            if (r->to_step == 0) {                                               \
                sum += d;                                                        \
            } else {                                                             \
                *to += d;                                                        \
                to += r->to_step;                                                \
            }                                                                    \
        }                                                                        \
        if (r->to_step == 0) {                                                   \
            *to += sum;                                                          \
        }                                                                        \
    }

/* The backward of slope_a() and slope_b(): a first, because b may be the same tensor and then adds to what a has written. */
#define EP_BINARY_F32_GRAD(name)                                          \
    EP_BINARY_F32_SLOPE(slope_a)                                          \
    EP_BINARY_F32_SLOPE(slope_b)                                          \
    static void backward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                     \
        const ep_binary_attr *attr = node->attr;                          \
        ep_mask_output(ep, node, attr->lo, attr->hi, n);                  \
        ep_broadcast_gradient(ep, node, n, 0, slope_a_row);               \
        ep_broadcast_gradient(ep, node, n, 1, slope_b_row);               \
    }                                                                     \
    const ep_grad ep_##name##_grad = {backward, NULL, NULL};

#endif
