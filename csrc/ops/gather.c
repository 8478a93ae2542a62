/* y[o, j] = x[o, index[j]], a slice (inner,) each. Elements of 1 or 4 bytes. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_gather_attr *a = node->attr;
    const size_t outer = (size_t)n * (size_t)a->outer, bytes = (size_t)a->inner * (size_t)a->size;
    const uint8_t *x = ep_in(ep, node, 0);
    const int32_t *index = ep_in(ep, node, 1);
    uint8_t *y = ep_out(ep, node, 0);
    for (size_t o = 0; o < outer; o++, x += (size_t)a->in * bytes) {
        for (int32_t j = 0; j < a->out; j++, y += bytes) {
            memmove(y, x + (size_t)index[j] * bytes, bytes);
        }
    }
}

const ep_op ep_gather = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_gather_attr *a = node->attr;
    const size_t outer = (size_t)n * (size_t)a->outer, inner = (size_t)a->inner;
    const int32_t *index = ep_in(ep, node, 1);
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    if (dx == NULL) return;
    for (size_t o = 0; o < outer; o++, dx += (size_t)a->in * inner) {
        for (int32_t j = 0; j < a->out; j++, dy += inner) {
            EP_KERNEL(ep, add_f32)(dx + (size_t)index[j] * inner, dy, inner);
        }
    }
}

const ep_grad ep_gather_grad = {backward, NULL, NULL};

#endif

int ep_check_gather(const ep_model *model, const ep_node *node)
{
    const ep_gather_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 1)) return EP_ERR_IMAGE;
    const uint8_t dtype = model->tensors[node->io[0]].dtype;
    const int ok = ep_valid_activation(model, node, 0, dtype, ep_product(a->outer, a->in, a->inner)) &&
                   ep_valid_activation(model, node, 2, dtype, ep_product(a->outer, a->out, a->inner)) &&
                   ep_valid_indices(model, node, 1, ep_product(a->out, 1, 1), a->in) &&
                   a->size == (dtype == EP_F32 || dtype == EP_I32 ? 4 : 1) && (node->grad == NULL || dtype == EP_F32);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
