/* Sum of two tensors of codes, as ONNX Runtime's QLinearAdd computes it on x86. May run in place on either input. */
#include "../kernels/fma.h"
#include "../kernels/portable_s8.h"
#include "check_s8.h"

typedef struct add_args {
    float a_ratio, b_ratio; /* input scale / output scale */
    float fixed;            /* what the zero points contribute */
    float lo, hi;           /* of the output code plus offset */
    float offset;           /* 128 where the ONNX graph has uint8 codes, whose zero points round differently; else 0 */
} add_args;

static add_args prepare(const ep_elementwise_attr *attr, const ep_tensor *a, const ep_tensor *b, const ep_tensor *y)
{
    add_args p;
    p.offset = attr->alpha;
    p.a_ratio = a->scale / y->scale;
    p.b_ratio = b->scale / y->scale;
    const float b_part = p.b_ratio * ((float)b->zero_point + p.offset);
    const float parts = ep_fma(p.a_ratio, (float)a->zero_point + p.offset, b_part);
    const float y_zero = (float)y->zero_point + p.offset;
    p.fixed = y_zero - parts;
    p.lo = attr->lo + y_zero;
    p.hi = attr->hi + y_zero;
    return p;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const add_args p =
        prepare(node->attr, ep_in_tensor(ep, node, 0), ep_in_tensor(ep, node, 1), ep_out_tensor(ep, node, 0));
    const int8_t *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    int8_t *y = ep_out(ep, node, 0);
    const int32_t offset = (int32_t)p.offset;
    const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    for (size_t i = 0; i < count; i++) {
        float v = ep_fma((float)(b[i] + offset), p.b_ratio, p.fixed);
        v = ep_fma((float)(a[i] + offset), p.a_ratio, v);
        v = v < p.lo ? p.lo : v;
        v = v > p.hi ? p.hi : v;
        y[i] = (int8_t)(ep_nearest(v) - offset);
    }
}

const ep_op ep_add_s8 = {forward};

int ep_check_add_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 2, 2)) {
        return EP_ERR_IMAGE;
    }
    const ep_elementwise_attr *attr = node->attr;
    const ep_tensor *a = &model->tensors[node->io[0]], *b = &model->tensors[node->io[1]],
                    *y = &model->tensors[node->io[2]];
    const int ok = attr->count > 0 && a->count == (uint32_t)attr->count && b->count == a->count &&
                   y->count == a->count &&
                   (attr->alpha == 0.0f || attr->alpha == 128.0f) && /* nothing between is a type's offset */
                   a->scale / y->scale < 1.0e30f && b->scale / y->scale < 1.0e30f &&
                   ep_valid_clamp_s8(model, node, attr->lo, attr->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
