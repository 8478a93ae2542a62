/* y = tanh(x). In place where y is x, dx is dy. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) y[i] = tanhf(x[i]);
}

const ep_op ep_tanh_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = dy * (1 - y^2). */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    const int add = ep_accumulates(node, 0);
    const float *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (size_t i = 0; dx != NULL && i < count; i++) {
        const float d = dy[i] * ((1.0f - y[i]) * (1.0f + y[i]));
        dx[i] = add ? dx[i] + d : d;
    }
}

const ep_grad ep_tanh_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_tanh_f32(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    const int ok = a != NULL && ep_valid_unary_f32(model, node, ep_product(a->count, 1, 1), ep_product(a->count, 1, 1));
    return ok ? EP_OK : EP_ERR_IMAGE;
}
