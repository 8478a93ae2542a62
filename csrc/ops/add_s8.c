/* Sum of two tensors of codes, as ONNX Runtime's QLinearAdd computes it on x86. May run in place on either input. */
#include "add_s8.h"
#include "check_s8.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *attr = node->attr;
    const ep_add_args args = ep_prepare_add(attr->alpha, attr->lo, attr->hi, ep_in_tensor(ep, node, 0),
                                            ep_in_tensor(ep, node, 1), ep_out_tensor(ep, node, 0));
    EP_KERNEL(ep, add_s8)
    (&args, ep_out(ep, node, 0), ep_in(ep, node, 0), ep_in(ep, node, 1), (size_t)n * ep_out_tensor(ep, node, 0)->count);
}

const ep_op ep_add_s8 = {forward};

int ep_check_add_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 2, 2)) return EP_ERR_IMAGE;
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
