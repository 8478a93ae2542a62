/* Softmax over the last axis. */
#include "hx.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_softmax_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t row = (size_t)n * (size_t)a->rows; row-- > 0; x += a->channels, y += a->channels) {
        float max = x[0], sum = 0.0f;
        for (int32_t c = 1; c < a->channels; c++) {
            max = x[c] > max ? x[c] : max;
        }
        for (int32_t c = 0; c < a->channels; c++) {
            y[c] = expf(x[c] - max); /* the largest is exp(0), so nothing overflows */
            sum += y[c];
        }
        const float share = 1.0f / sum;
        for (int32_t c = 0; c < a->channels; c++) {
            y[c] *= share;
        }
    }
}

const ep_op ep_softmax_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = y (dy - sum of dy y). */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_softmax_attr *a = node->attr;
    const float *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (size_t row = (size_t)n * (size_t)a->rows; dx && row-- > 0;
         y += a->channels, dy += a->channels, dx += a->channels) {
        const float mean = hx_dot_f32(dy, y, a->channels);
        for (int32_t c = 0; c < a->channels; c++) {
            const float g = y[c] * (dy[c] - mean);
            dx[c] = ep_accumulates(node, 0) ? dx[c] + g : g;
        }
    }
}

const ep_grad ep_softmax_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_softmax_f32(const ep_model *model, const ep_node *node)
{
    const ep_softmax_attr *a = node->attr;
    const int ok = hx_valid_io_f32(model, node, 1, 1) &&
                   hx_valid_count(model, node, 0, ep_product(a->rows, a->channels, 1)) &&
                   hx_valid_count(model, node, 1, ep_product(a->rows, a->channels, 1));
    return ok ? EP_OK : EP_ERR_IMAGE;
}
