/* Addition of two activations of one shape. */
#include "hx.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *attr = node->attr;
    const float *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    float *y = ep_out(ep, node, 0);
    const size_t count = (size_t)n * ep_in_tensor(ep, node, 0)->count;
    for (size_t i = 0; i < count; i++) {
        y[i] = hx_clamp_f32(a[i] + b[i], attr->lo, attr->hi);
    }
}

const ep_op ep_add_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = dy for both; dx may be the memory of dy. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *a = node->attr;
    const size_t count = (size_t)n * ep_in_tensor(ep, node, 0)->count;
    float *dy = ep_dout(ep, node, 0);
    ep_mask_clamp(dy, ep_out(ep, node, 0), a->lo, a->hi, count);
    for (unsigned i = 2; i-- > 0;) { /* input 0 last: it is the one that may lie over dy */
        float *dx = ep_din(ep, node, i);
        hx_pass_gradient(dx, dy, count, ep_accumulates(node, i));
    }
}

const ep_grad ep_add_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_add_f32(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    if (!hx_valid_io_f32(model, node, 2, 2)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t count = ep_product(a->count, 1, 1);
    const int ok = hx_valid_count(model, node, 0, count) && hx_valid_count(model, node, 1, count) &&
                   hx_valid_count(model, node, 2, count) && a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
