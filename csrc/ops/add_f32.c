/* y = clamp(a + b), same shapes. In place where y is a or b, and where the gradient of a is dy. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *attr = node->attr;
    const size_t count = (size_t)n * (size_t)attr->count;
    const float *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    float *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) y[i] = a[i] + b[i];
    ep_clamp_output(ep, y, attr->lo, attr->hi, count);
}

const ep_op ep_add_f32 = {forward};

#ifndef EP_NO_TRAIN

/* da = dy, db = dy; a first, because b may be the same tensor and then adds to what a has written. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *attr = node->attr;
    const float *dy = ep_dout(ep, node, 0);
    ep_mask_output(ep, node, attr->lo, attr->hi, n);
    for (unsigned i = 0; i < 2; i++) {
        ep_pass_gradient(ep_din(ep, node, i), dy, ep_accumulates(node, i), (size_t)n * (size_t)attr->count);
    }
}

const ep_grad ep_add_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_add_f32(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    const uint32_t count = a != NULL ? ep_product(a->count, 1, 1) : 0;
    const int ok = ep_valid_arity(node, 2, 0) && ep_valid_activation(model, node, 0, EP_F32, count) &&
                   ep_valid_activation(model, node, 1, EP_F32, count) &&
                   ep_valid_activation(model, node, 2, EP_F32, count) && a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
