/* ReLU, ReLU6 and Clip: y = x between lo and hi. */
#include "hx.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    const size_t count = (size_t)n * ep_in_tensor(ep, node, 0)->count;
    for (size_t i = 0; i < count; i++) {
        y[i] = hx_clamp_f32(x[i], a->lo, a->hi);
    }
}

const ep_op ep_clip_f32 = {forward};

#ifndef EP_NO_TRAIN

/* From y alone, so that y may lie over x: 0 where y is not strictly between lo and hi. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_elementwise_attr *a = node->attr;
    const float *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    const size_t count = (size_t)n * ep_in_tensor(ep, node, 0)->count;
    const int adds = ep_accumulates(node, 0);
    for (size_t i = 0; dx && i < count; i++) {
        const float g = y[i] > a->lo && y[i] < a->hi ? dy[i] : 0.0f;
        dx[i] = adds ? dx[i] + g : g;
    }
}

const ep_grad ep_clip_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_clip_f32(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    const int ok = hx_valid_io_f32(model, node, 1, 1) && hx_valid_count(model, node, 0, ep_product(a->count, 1, 1)) &&
                   hx_valid_count(model, node, 1, ep_product(a->count, 1, 1)) && a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
