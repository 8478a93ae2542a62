/* y = clamp(x * scale + offset), per channel: a normalization that could not be folded into its neighbour. */
#include "hx.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_affine_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0), *scale = ep_in(ep, node, 1), *offset = ep_in(ep, node, 2);
    float *y = ep_out(ep, node, 0);
    for (size_t row = (size_t)n * (size_t)a->rows; row-- > 0; x += a->channels, y += a->channels) {
        for (int32_t c = 0; c < a->channels; c++) {
            y[c] = hx_clamp_f32(x[c] * scale[c] + offset[c], a->lo, a->hi);
        }
    }
}

const ep_op ep_affine_f32 = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_affine_attr *a = node->attr;
    const float *scale = ep_in(ep, node, 1);
    const size_t rows = (size_t)n * (size_t)a->rows;
    float *dy = ep_dout(ep, node, 0), *dx = ep_din(ep, node, 0);
    ep_mask_clamp(dy, ep_out(ep, node, 0), a->lo, a->hi, rows * (size_t)a->channels);
    for (size_t row = 0; dx && row < rows; row++, dx += a->channels, dy += a->channels) {
        for (int32_t c = 0; c < a->channels; c++) {
            const float g = dy[c] * scale[c];
            dx[c] = ep_accumulates(node, 0) ? dx[c] + g : g;
        }
    }
}

/* dscale = column sums of dy x. */
static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_affine_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->rows, channels = (size_t)a->channels;
    const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    for (size_t c = 0; ep_trains(ep, node, 1) && c < channels; c++) {
        float sum = 0.0f;
        for (size_t row = 0; row < rows; row++) {
            sum += dy[row * channels + c] * x[row * channels + c];
        }
        ep_emit(ep, sink, node->io[1], (uint32_t)c, 1, 1.0f, &sum);
    }
    if (ep_trains(ep, node, 2)) {
        hx_give_bias(ep, node, rows, channels, sink);
    }
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_affine_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->rows, count = rows * (size_t)a->channels;
    return hx_gradient_bound(ep, node, count, count, (float)rows);
}

const ep_grad ep_affine_f32_grad = {backward, params, bound};

#endif

int ep_check_affine_f32(const ep_model *model, const ep_node *node)
{
    const ep_affine_attr *a = node->attr;
    if (!hx_valid_io_f32(model, node, 3, 1)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t count = ep_product(a->rows, a->channels, 1), channels = ep_product(a->channels, 1, 1);
    const int ok = hx_valid_count(model, node, 0, count) && hx_valid_count(model, node, 3, count) &&
                   hx_valid_weight(model, node, 1, channels) && hx_valid_weight(model, node, 2, channels) &&
                   a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
