/* PReLU (He and others, 2015): x (rows, channels), below 0 times the slope of its channel. In place where y is x, dx is dy. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const float *x = ep_in(ep, node, 0), *slope = ep_in(ep, node, 1);
    float *y = ep_out(ep, node, 0);
    for (uint32_t r = 0; r < rows; r++, x += a->channels, y += a->channels) {
        for (int32_t c = 0; c < a->channels; c++) y[c] = x[c] < 0.0f ? slope[c] * x[c] : x[c];
    }
}

const ep_op ep_prelu_f32 = {forward};

#ifndef EP_NO_TRAIN

/* A learned slope may be negative, so only x tells the side. At 0 the slope is the channel's. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const int add = ep_accumulates(node, 0);
    const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0), *slope = ep_in(ep, node, 1);
    float *dx = ep_din(ep, node, 0);
    for (uint32_t r = 0; dx != NULL && r < rows; r++, dx += a->channels, x += a->channels, dy += a->channels) {
        for (int32_t c = 0; c < a->channels; c++) {
            const float d = x[c] > 0.0f ? dy[c] : slope[c] * dy[c];
            dx[c] = add ? dx[c] + d : d;
        }
    }
}

/* dslope = sum of dy * x over the rows where x is negative. */
static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float sum[EP_TILE_COLUMNS];
    for (int32_t c = 0; ep_trains(ep, node, 1) && c < a->channels; c += EP_TILE_COLUMNS) {
        const int32_t lanes = a->channels - c < EP_TILE_COLUMNS ? a->channels - c : EP_TILE_COLUMNS;
        memset(sum, 0, sizeof sum);
        for (uint32_t r = 0; r < rows; r++) {
            const size_t at = (size_t)r * (size_t)a->channels + (size_t)c;
            for (int32_t i = 0; i < lanes; i++) {
                sum[i] += x[at + (size_t)i] < 0.0f ? dy[at + (size_t)i] * x[at + (size_t)i] : 0.0f;
            }
        }
        ep_emit(ep, sink, node->io[1], (uint32_t)c, (uint32_t)lanes, 1.0f, sum);
    }
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const float terms = (float)((const ep_softmax_attr *)node->attr)->rows * (float)n;
    return ep_bound_layer(ep, node, n, terms); /* input 2, its bias, is y here, which does not train */
}

const ep_grad ep_prelu_f32_grad = {backward, params, bound};

#endif

int ep_check_prelu_f32(const ep_model *model, const ep_node *node)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t count = a != NULL ? ep_product(a->rows, a->channels, 1) : 0;
    const int ok = ep_valid_arity(node, 1, 1) && ep_valid_activation(model, node, 0, EP_F32, count) &&
                   ep_valid_weight(model, node, 1, (uint32_t)a->channels) &&
                   ep_valid_activation(model, node, 2, EP_F32, count);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
