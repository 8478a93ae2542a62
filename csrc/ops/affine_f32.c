/* y (rows, channels) = clamp(x * scale + offset), scale and offset per channel: a BatchNorm that could not be folded. In place
 * where y is x, if the scale does not train; and where dx is dy, if neither does. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_affine_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const float *x = ep_in(ep, node, 0), *scale = ep_in(ep, node, 1), *offset = ep_in(ep, node, 2);
    float *y = ep_out(ep, node, 0);
    for (uint32_t r = 0; r < rows; r++, x += a->channels, y += a->channels) {
        for (int32_t c = 0; c < a->channels; c++) y[c] = x[c] * scale[c] + offset[c];
        ep_clamp_output(ep, y, a->lo, a->hi, (size_t)a->channels);
    }
}

const ep_op ep_affine_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = dy * scale. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_affine_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const int add = ep_accumulates(node, 0);
    const float *dy = ep_dout(ep, node, 0), *scale = ep_in(ep, node, 1);
    float *dx = ep_din(ep, node, 0);
    ep_mask_output(ep, node, a->lo, a->hi, n);
    for (uint32_t r = 0; dx != NULL && r < rows; r++, dx += a->channels, dy += a->channels) {
        for (int32_t c = 0; c < a->channels; c++) {
            const float d = dy[c] * scale[c];
            dx[c] = add ? dx[c] + d : d;
        }
    }
}

/* dscale = sum of dy * x over the rows. */
static void emit_scale(const ep_t *ep, const ep_node *node, const ep_sink *sink, uint32_t rows)
{
    const int32_t channels = ((const ep_affine_attr *)node->attr)->channels;
    const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float sum[EP_TILE_COLUMNS];
    for (int32_t c = 0; c < channels; c += EP_TILE_COLUMNS) {
        const int32_t lanes = channels - c < EP_TILE_COLUMNS ? channels - c : EP_TILE_COLUMNS;
        memset(sum, 0, sizeof sum);
        for (uint32_t r = 0; r < rows; r++) {
            const size_t at = (size_t)r * (size_t)channels + (size_t)c;
            EP_KERNEL(ep, multiply_add_f32)(sum, x + at, dy + at, (size_t)lanes);
        }
        ep_emit(ep, sink, node->io[1], (uint32_t)c, (uint32_t)lanes, 1.0f, sum);
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_affine_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    if (ep_trains(ep, node, 1)) emit_scale(ep, node, sink, rows);
    if (ep_trains(ep, node, 2)) ep_emit_bias(ep, node, sink, a->channels, rows);
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    return ep_bound_layer(ep, node, n, (float)((const ep_affine_attr *)node->attr)->rows * (float)n);
}

const ep_grad ep_affine_f32_grad = {backward, params, bound};

#endif

int ep_check_affine_f32(const ep_model *model, const ep_node *node)
{
    const ep_affine_attr *a = node->attr;
    if (a == NULL) return EP_ERR_IMAGE;
    const uint32_t count = ep_product(a->rows, a->channels, 1), channels = ep_product(a->channels, 1, 1);
    return ep_valid_layer_f32(model, node, count, channels, channels, count) && a->lo <= a->hi ? EP_OK : EP_ERR_IMAGE;
}
