/* Clip, ReLU and ReLU6: x held to lo .. hi. In place where y is x, dx is dy. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *a = node->attr;
    const size_t count = (size_t)n * (size_t)a->count;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) {
        const float v = x[i] < a->lo ? a->lo : x[i]; /* NaN passes */
        y[i] = v > a->hi ? a->hi : v;
    }
}

const ep_op ep_clip_f32 = {forward};

#ifndef EP_NO_TRAIN

/* Strictly between the limits y is x; the gradient needs no more than y. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *a = node->attr;
    ep_mask_output(ep, node, a->lo, a->hi, n);
    ep_pass_gradient(ep_din(ep, node, 0), ep_dout(ep, node, 0), ep_accumulates(node, 0), (size_t)n * (size_t)a->count);
}

const ep_grad ep_clip_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_clip_f32(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    const int ok = a != NULL &&
                   ep_valid_unary_f32(model, node, ep_product(a->count, 1, 1), ep_product(a->count, 1, 1)) &&
                   a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
