/* Sum of two tensors of codes, as ONNX Runtime's QLinearAdd computes it on x86. May run in place on either input. */
#include "../kernels/fma.h"
#include "../kernels/kernels.h"
#include "check_s8.h"

static ep_add_args prepare(const ep_elementwise_attr *attr, const ep_tensor *a, const ep_tensor *b, const ep_tensor *y)
{
    const float offset = attr->alpha;
    ep_add_args p;
    p.offset = (int32_t)offset;
    p.a_ratio = a->scale / y->scale;
    p.b_ratio = b->scale / y->scale;
    const float b_part = p.b_ratio * ((float)b->zero_point + offset);
    const float parts = ep_fma(p.a_ratio, (float)a->zero_point + offset, b_part);
    const float y_zero = (float)y->zero_point + offset;
    p.fixed = y_zero - parts;
    p.lo = attr->lo + y_zero;
    p.hi = attr->hi + y_zero;
    return p;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_add_args args =
        prepare(node->attr, ep_in_tensor(ep, node, 0), ep_in_tensor(ep, node, 1), ep_out_tensor(ep, node, 0));
    EP_KERNEL(ep, add_s8)
    (&args, ep_out(ep, node, 0), ep_in(ep, node, 0), ep_in(ep, node, 1), (size_t)n * ep_out_tensor(ep, node, 0)->count);
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
