/* Depthwise convolution in float32: each output channel sees one input channel. */
#include "hx.h"

/* First channel of the pixel that tap (ky, kx) of a window sees. */
static size_t pixel_of(const ep_conv2d_attr *a, const ep_window *at, int32_t ky, int32_t kx)
{
    const size_t row = (size_t)(at->top + ky * a->dilation_h) * (size_t)a->in_w;
    return (row + (size_t)(at->left + kx * a->dilation_w)) * (size_t)a->in_c;
}

/* y (out_c,) += x (in_c,) w (out_c,), input channel k / per_input for output channel k. */
static void add_tap(float *y, const float *x, const float *w, int32_t out_c, int32_t per_input)
{
    if (per_input == 1) {
        hx_multiply_add_f32(y, x, w, out_c);
        return;
    }
    for (int32_t k = 0; k < out_c; k += per_input) {
        hx_axpy_f32(y + k, x[k / per_input], w + k, per_input);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0), *weight = ep_in(ep, node, 1), *bias = ep_in(ep, node, 2);
    float *y = ep_out(ep, node, 0);
    const int32_t per_input = a->out_c / a->in_c;
    for (; n-- > 0; x += ep_in_tensor(ep, node, 0)->count) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, y += a->out_c) {
            const ep_window at = hx_window_at(a, p / a->out_w, p % a->out_w);
            memcpy(y, bias, (size_t)a->out_c * sizeof *y);
            for (int32_t ky = at.rows.begin; ky < at.rows.end; ky++) {
                for (int32_t kx = at.columns.begin; kx < at.columns.end; kx++) {
                    const size_t tap = (size_t)(ky * a->kernel_w + kx) * (size_t)a->out_c;
                    add_tap(y, x + pixel_of(a, &at, ky, kx), weight + tap, a->out_c, per_input);
                }
            }
            hx_clamp_row_f32(y, a->lo, a->hi, a->out_c);
        }
    }
}

const ep_op ep_depthwise_conv2d_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx (in_c,) += sum over each input channel's outputs of dy w. */
static void add_dx(float *dx, const float *dy, const float *w, int32_t out_c, int32_t per_input)
{
    if (per_input == 1) {
        hx_multiply_add_f32(dx, dy, w, out_c);
        return;
    }
    for (int32_t k = 0; k < out_c; k += per_input) {
        dx[k / per_input] += hx_dot_f32(dy + k, w + k, per_input);
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count, out = ep_out_tensor(ep, node, 0)->count;
    const float *weight = ep_in(ep, node, 1);
    float *dy = ep_dout(ep, node, 0), *dx = ep_din(ep, node, 0);
    ep_mask_clamp(dy, ep_out(ep, node, 0), a->lo, a->hi, out * n);
    if (!dx) {
        return;
    }
    hx_begin_gradient(dx, in * n, ep_accumulates(node, 0));
    for (; n-- > 0; dx += in) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, dy += a->out_c) {
            const ep_window at = hx_window_at(a, p / a->out_w, p % a->out_w);
            for (int32_t ky = at.rows.begin; ky < at.rows.end; ky++) {
                for (int32_t kx = at.columns.begin; kx < at.columns.end; kx++) {
                    const size_t tap = (size_t)(ky * a->kernel_w + kx) * (size_t)a->out_c;
                    add_dx(dx + pixel_of(a, &at, ky, kx), dy, weight + tap, a->out_c, a->out_c / a->in_c);
                }
            }
        }
    }
}

/* dw (out_c,) += dy (out_c,) x (in_c,) */
static void add_dw(float *dw, const float *dy, const float *x, int32_t out_c, int32_t per_input)
{
    add_tap(dw, x, dy, out_c, per_input);
}

/* The gradient of tap (ky, kx) of every channel: sums over samples and positions. Scratch: out_c floats. */
static void give_tap(const ep_t *ep, const ep_node *node, uint32_t n, int32_t ky, int32_t kx, const ep_sink *sink)
{
    const ep_conv2d_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dw = ep_scratch(ep);
    memset(dw, 0, (size_t)a->out_c * sizeof *dw);
    for (; n-- > 0; x += ep_in_tensor(ep, node, 0)->count) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, dy += a->out_c) {
            const ep_window at = hx_window_at(a, p / a->out_w, p % a->out_w);
            if (ky >= at.rows.begin && ky < at.rows.end && kx >= at.columns.begin && kx < at.columns.end) {
                add_dw(dw, dy, x + pixel_of(a, &at, ky, kx), a->out_c, a->out_c / a->in_c);
            }
        }
    }
    const uint32_t at = (uint32_t)(ky * a->kernel_w + kx) * (uint32_t)a->out_c;
    ep_emit(ep, sink, node->io[1], at, (uint32_t)a->out_c, 1.0f, dw);
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_conv2d_attr *a = node->attr;
    for (int32_t tap = 0; ep_trains(ep, node, 1) && tap < a->kernel_h * a->kernel_w; tap++) {
        give_tap(ep, node, n, tap / a->kernel_w, tap % a->kernel_w, sink);
    }
    if (ep_trains(ep, node, 2)) {
        hx_give_bias(ep, node, n * (size_t)a->out_h * (size_t)a->out_w, (size_t)a->out_c, sink);
    }
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count, out = ep_out_tensor(ep, node, 0)->count;
    return hx_gradient_bound(ep, node, in * n, out * n, (float)n * (float)a->out_h * (float)a->out_w);
}

const ep_grad ep_depthwise_conv2d_f32_grad = {backward, params, bound};

#endif

int ep_check_depthwise_conv2d_f32(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    if (!hx_valid_io_f32(model, node, 3, 1) || !hx_valid_conv(model, node)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t channels = ep_product(a->out_c, 1, 1);
    const int ok = a->groups == a->in_c &&
                   hx_valid_weight(model, node, 1, ep_product(a->kernel_h, a->kernel_w, a->out_c)) &&
                   hx_valid_weight(model, node, 2, channels) && a->lo <= a->hi &&
                   hx_valid_scratch(model, node, channels);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
