/* Functions of two float32 operands, broadcast, each with its derivatives beside it:
 *
 *     EP_BINARY(name, value of a and b, derivative in a, derivative in b)
 *
 * In place where y is an operand of as many elements. The gradient of an operand that repeats is a sum. To add one: a row here,
 * in EP_OPS of edgeprop_ops.h and in export/program/traits.py. */
#include "binary.h"
#include "common.h"

/* A row of y, or of the gradient of an operand. */
typedef struct row {
    const float *a, *b, *dy;
    float *to;
    int32_t a_step, b_step, to_step, count;
} row;
typedef void row_function(const row *r);

/* y = clamp(value of a and b), row by row. */
static void broadcast(const ep_t *ep, const ep_node *node, uint32_t n, row_function *of_row)
{
    const ep_binary_attr *attr = node->attr;
    const float *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    float *const y = ep_out(ep, node, 0);
    row r = {.to = y, .a_step = attr->a_strides[5], .b_step = attr->b_strides[5], .to_step = 1, .count = attr->dims[5]};
    for (uint32_t sample = 0; sample < n; sample++) {
        ep_rows at = {0, 0, {0}};
        do {
            r.a = a + at.a;
            r.b = b + at.b;
            of_row(&r);
            r.to += r.count;
        } while (ep_next_row(attr, &at));
        a += ep_sample_step(ep, node, 0);
        b += ep_sample_step(ep, node, 1);
    }
    ep_clamp_output(ep, y, attr->lo, attr->hi, (size_t)(r.to - y));
}

/* 1 if input i is float32, an activation or constant. */
static int valid_operand(const ep_model *model, const ep_node *node, unsigned i)
{
    const uint32_t count = model->tensors[node->io[i]].count;
    return ep_valid_activation(model, node, i, EP_F32, count) || ep_valid_const(model, node, i, EP_F32, count);
}

static int check(const ep_model *model, const ep_node *node)
{
    const ep_binary_attr *attr = node->attr;
    if (!ep_valid_arity(node, 2, 0) || !valid_operand(model, node, 0) || !valid_operand(model, node, 1)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t count =
        ep_valid_broadcast(attr, model->tensors[node->io[0]].count, model->tensors[node->io[1]].count);
    return ep_valid_activation(model, node, 2, EP_F32, count) && attr->lo <= attr->hi ? EP_OK : EP_ERR_IMAGE;
}

/* The loops are made for each function its own, so that it is inlined. */
#define EP_BINARY(name, value, slope_a, slope_b)                                                                \
    static inline float name##_value(float a, float b)                                                          \
    {                                                                                                           \
        return value;                                                                                           \
    }                                                                                                           \
    static void name##_row(const row *r)                                                                        \
    {                                                                                                           \
        if (r->a_step == 1 && r->b_step == 1) {                                                                 \
            for (int32_t i = 0; i < r->count; i++) r->to[i] = name##_value(r->a[i], r->b[i]);                   \
            return;                                                                                             \
        }                                                                                                       \
        const float *a = r->a, *b = r->b;                                                                       \
        for (int32_t i = 0; i < r->count; i++, a += r->a_step, b += r->b_step) r->to[i] = name##_value(*a, *b); \
    }                                                                                                           \
    static void name##_forward(const ep_t *ep, const ep_node *node, uint32_t n)                                 \
    {                                                                                                           \
        broadcast(ep, node, n, name##_row);                                                                     \
    }                                                                                                           \
    const ep_op ep_##name = {name##_forward};                                                                   \
    int ep_check_##name(const ep_model *model, const ep_node *node)                                             \
    {                                                                                                           \
        return check(model, node);                                                                              \
    }                                                                                                           \
    EP_BINARY_GRAD(name, slope_a, slope_b)

#ifdef EP_NO_TRAIN

#define EP_BINARY_GRAD(name, slope_a, slope_b)

#else

/* The gradient of input i: rows add dy * slope to what was there. */
static void broadcast_gradient(const ep_t *ep, const ep_node *node, uint32_t n, unsigned i, row_function *of_row)
{
    const ep_binary_attr *attr = node->attr;
    const float *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    const size_t count = ep_in_tensor(ep, node, i)->count;
    float *to = ep_din(ep, node, i);
    if (to == NULL) return;
    if (!ep_accumulates(node, i)) memset(to, 0, (size_t)n * count * sizeof *to);
    row r = {
        .dy = ep_dout(ep, node, 0), .a_step = attr->a_strides[5], .b_step = attr->b_strides[5], .count = attr->dims[5]};
    r.to_step = i == 0 ? r.a_step : r.b_step;
    for (uint32_t sample = 0; sample < n; sample++, to += count) {
        ep_rows at = {0, 0, {0}};
        do {
            r.a = a + at.a;
            r.b = b + at.b;
            r.to = to + (i == 0 ? at.a : at.b);
            of_row(&r);
            r.dy += r.count;
        } while (ep_next_row(attr, &at));
        a += ep_sample_step(ep, node, 0);
        b += ep_sample_step(ep, node, 1);
    }
}

/* A row of the gradient of one operand; where it is one element, its sum is taken on its own, which loses less. */
#define EP_BINARY_SLOPE(name, slope)                                             \
    static inline float name(float a, float b)                                   \
    {                                                                            \
        (void)a, (void)b;                                                        \
        return slope;                                                            \
    }                                                                            \
    static void name##_row(const row *r)                                         \
    {                                                                            \
        const float *a = r->a, *b = r->b;                                        \
        float *to = r->to, sum = 0.0f;                                           \
        for (int32_t i = 0; i < r->count; i++, a += r->a_step, b += r->b_step) { \
            const float d = r->dy[i] * name(*a, *b);                             \
            if (r->to_step == 0) {                                               \
                sum += d;                                                        \
            } else {                                                             \
                *to += d;                                                        \
                to += r->to_step;                                                \
            }                                                                    \
        }                                                                        \
        if (r->to_step == 0) *to += sum;                                         \
    }

/* The derivative in a first, because b may be the same tensor and then adds to what a has written. */
#define EP_BINARY_GRAD(name, slope_a, slope_b)                                   \
    EP_BINARY_SLOPE(name##_slope_a, slope_a)                                     \
    EP_BINARY_SLOPE(name##_slope_b, slope_b)                                     \
    static void name##_backward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                            \
        const ep_binary_attr *attr = node->attr;                                 \
        ep_mask_output(ep, node, attr->lo, attr->hi, n);                         \
        broadcast_gradient(ep, node, n, 0, name##_slope_a_row);                  \
        broadcast_gradient(ep, node, n, 1, name##_slope_b_row);                  \
    }                                                                            \
    const ep_grad ep_##name##_grad = {name##_backward, NULL, NULL};

#endif

/* ---- The functions ---------------------------------------------------------------------------------------------------- */

EP_BINARY(add_broadcast_f32, a + b, 1.0f, 1.0f)
EP_BINARY(sub_f32, a - b, 1.0f, -1.0f)
EP_BINARY(mul_f32, a *b, b, a)
EP_BINARY(div_f32, a / b, 1.0f / b, -a / (b * b))

/* NaN passes. Where both are equal, each takes half of the gradient. */
EP_BINARY(max_f32, a > b || a != a ? a : b, a > b ? 1.0f : a < b ? 0.0f : 0.5f, a<b ? 1.0f : a> b ? 0.0f : 0.5f)
EP_BINARY(min_f32, a<b || a != a ? a : b, a<b ? 1.0f : a> b ? 0.0f : 0.5f, a> b ? 1.0f : a < b ? 0.0f : 0.5f)
