/* LeakyReLU: x, or alpha * x below 0. In place where y is x, dx is dy. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *a = node->attr;
    const size_t count = (size_t)n * (size_t)a->count;
    const float alpha = a->alpha;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) y[i] = x[i] < 0.0f ? alpha * x[i] : x[i];
}

const ep_op ep_leaky_relu_f32 = {forward};

#ifndef EP_NO_TRAIN

/* With alpha >= 0, y is positive exactly where x is, so x may be overwritten. At 0 the slope is alpha. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *a = node->attr;
    const size_t count = (size_t)n * (size_t)a->count;
    const int add = ep_accumulates(node, 0);
    const float alpha = a->alpha;
    const float *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (size_t i = 0; dx != NULL && i < count; i++) {
        const float d = y[i] > 0.0f ? dy[i] : alpha * dy[i];
        dx[i] = add ? dx[i] + d : d;
    }
}

const ep_grad ep_leaky_relu_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_leaky_relu_f32(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    const int ok = a != NULL &&
                   ep_valid_unary_f32(model, node, ep_product(a->count, 1, 1), ep_product(a->count, 1, 1)) &&
                   a->alpha >= (node->grad != NULL ? 0.0f : -INFINITY);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
