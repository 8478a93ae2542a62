/* Softmax over the last axis of (rows, channels). In place where y is x, dx is dy. */
#include "common.h"

static void softmax_row(const float *x, float *y, int32_t channels)
{
    float largest = x[0], sum = 0.0f;
    for (int32_t c = 1; c < channels; c++) largest = x[c] > largest ? x[c] : largest;
    for (int32_t c = 0; c < channels; c++) { /* no exponent above 0: nothing overflows */
        y[c] = expf(x[c] - largest);
        sum += y[c];
    }
    const float scale = 1.0f / sum;
    for (int32_t c = 0; c < channels; c++) y[c] *= scale;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (uint32_t r = 0; r < rows; r++, x += a->channels, y += a->channels) {
        softmax_row(x, y, a->channels);
    }
}

const ep_op ep_softmax_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = y * (dy - sum of dy * y), row by row. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const int add = ep_accumulates(node, 0);
    const float *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (uint32_t r = 0; dx != NULL && r < rows; r++, dx += a->channels, y += a->channels, dy += a->channels) {
        float sum = 0.0f;
        for (int32_t c = 0; c < a->channels; c++) sum += y[c] * dy[c];
        for (int32_t c = 0; c < a->channels; c++) {
            const float d = y[c] * (dy[c] - sum);
            dx[c] = add ? dx[c] + d : d;
        }
    }
}

const ep_grad ep_softmax_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_softmax_f32(const ep_model *model, const ep_node *node)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t count = a != NULL ? ep_product(a->rows, a->channels, 1) : 0;
    return ep_valid_unary_f32(model, node, count, count) ? EP_OK : EP_ERR_IMAGE;
}
