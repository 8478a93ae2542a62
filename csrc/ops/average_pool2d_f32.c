/* The mean of each window, channel by channel. */
#include "pool2d.h"

static int32_t length(ep_taps t)
{
    return t.end - t.begin;
}

/* 1 / the number of taps that count: those inside, or inside the image and its padding. 0 where there are none. */
static float weight_of(const ep_pool2d_attr *a, const ep_window *at)
{
    ep_taps rows = at->rows, columns = at->columns;
    if (a->count_include_pad) { /* the padded image begins at -pad */
        rows = ep_taps_inside(at->top + a->pad_top, a->kernel_h, a->dilation_h, a->pad_top + a->in_h + a->pad_bottom);
        columns =
            ep_taps_inside(at->left + a->pad_left, a->kernel_w, a->dilation_w, a->pad_left + a->in_w + a->pad_right);
    }
    const float count = (float)length(rows) * (float)length(columns);
    return count > 0.0f ? 1.0f / count : 0.0f;
}

/* All channels at one position. */
static void forward_window(const ep_t *ep, const ep_pool2d_attr *a, const float *x, float *y, const ep_window *at)
{
    const float weight = weight_of(a, at);
    memset(y, 0, (size_t)a->channels * sizeof *y);
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            EP_KERNEL(ep, add_f32)(y, x + ep_pool_pixel(a, at, ky, kx), (size_t)a->channels);
        }
    }
    for (int32_t c = 0; c < a->channels; c++) y[c] *= weight;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_pool2d_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++, x += ep_in_tensor(ep, node, 0)->count) {
        for (int32_t oy = 0; oy < a->out_h; oy++) {
            for (int32_t ox = 0; ox < a->out_w; ox++, y += a->channels) {
                const ep_window at = ep_pool_window(a, oy, ox);
                forward_window(ep, a, x, y, &at);
            }
        }
    }
}

const ep_op ep_average_pool2d_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx of every tap of one window += dy * weight. */
static void backward_window(const ep_t *ep, const ep_pool2d_attr *a, float *dx, const float *dy, const ep_window *at)
{
    const float weight = weight_of(a, at);
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            EP_KERNEL(ep, axpy_f32)(dx + ep_pool_pixel(a, at, ky, kx), weight, dy, (size_t)a->channels);
        }
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_pool2d_attr *a = node->attr;
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (uint32_t i = 0; dx != NULL && i < n; i++, dx += ep_in_tensor(ep, node, 0)->count) {
        for (int32_t oy = 0; oy < a->out_h; oy++) {
            for (int32_t ox = 0; ox < a->out_w; ox++, dy += a->channels) {
                const ep_window at = ep_pool_window(a, oy, ox);
                backward_window(ep, a, dx, dy, &at);
            }
        }
    }
}

const ep_grad ep_average_pool2d_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_average_pool2d_f32(const ep_model *model, const ep_node *node)
{
    uint32_t in, out;
    const int ok =
        node->attr != NULL && ep_valid_pool(node->attr, &in, &out) && ep_valid_unary_f32(model, node, in, out);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
