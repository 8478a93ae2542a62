/* Product of two tensors of codes, broadcast, as ONNX Runtime's QLinearMul computes it. In place where y is an operand of as many
 * elements. */
#include "../kernels/scalar_s8.h"
#include "binary.h"
#include "check_s8.h"

/* What a row needs besides its operands. */
typedef struct mul_args {
    float multiplier;         /* a_scale * b_scale / y_scale */
    float zero_point, lo, hi; /* y's, as the graph has it: 128 higher where its codes are uint8 */
    int32_t a_zero, b_zero, offset;
} mul_args;

static mul_args prepare(const ep_binary_attr *attr, const ep_tensor *a, const ep_tensor *b, const ep_tensor *y)
{
    mul_args p;
    p.offset = (int32_t)attr->alpha;
    p.multiplier = a->scale * b->scale / y->scale;
    p.zero_point = (float)(y->zero_point + p.offset);
    p.lo = attr->lo + p.zero_point;
    p.hi = attr->hi + p.zero_point;
    p.a_zero = a->zero_point;
    p.b_zero = b->zero_point;
    return p;
}

static void multiply_row(const mul_args *p, const ep_binary_attr *attr, int8_t *y, const int8_t *a, const int8_t *b)
{
    for (int32_t i = 0; i < attr->dims[5]; i++, a += attr->a_strides[5], b += attr->b_strides[5]) {
        float v = (float)((*a - p->a_zero) * (*b - p->b_zero)) * p->multiplier + p->zero_point;
        v = v < p->lo ? p->lo : v;
        v = v > p->hi ? p->hi : v;
        y[i] = (int8_t)(ep_nearest(v) - p->offset);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_binary_attr *attr = node->attr;
    const mul_args args =
        prepare(attr, ep_in_tensor(ep, node, 0), ep_in_tensor(ep, node, 1), ep_out_tensor(ep, node, 0));
    const int8_t *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t sample = 0; sample < n; sample++) {
        ep_rows at = {0, 0, {0}};
        do {
            multiply_row(&args, attr, y, a + at.a, b + at.b);
            y += attr->dims[5];
        } while (ep_next_row(attr, &at));
        a += ep_sample_step(ep, node, 0);
        b += ep_sample_step(ep, node, 1);
    }
}

const ep_op ep_mul_s8 = {forward};

int ep_check_mul_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_binary_s8(model, node)) return EP_ERR_IMAGE;
    const ep_tensor *a = &model->tensors[node->io[0]], *b = &model->tensors[node->io[1]],
                    *y = &model->tensors[node->io[2]];
    return a->scale * b->scale / y->scale < 1.0e30f ? EP_OK : EP_ERR_IMAGE;
}
