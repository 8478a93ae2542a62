/* Max pooling in float32. Padding never wins; the gradient goes to the first maximum of a window, row by row. */
#include "hx.h"

/* First channel of the pixel that tap (ky, kx) of a window sees. */
static size_t pixel_of(const ep_pool2d_attr *a, const ep_window *at, int32_t ky, int32_t kx)
{
    const size_t row = (size_t)(at->top + ky * a->dilation_h) * (size_t)a->in_w;
    return (row + (size_t)(at->left + kx * a->dilation_w)) * (size_t)a->channels;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_pool2d_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (; n-- > 0; x += ep_in_tensor(ep, node, 0)->count) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, y += a->channels) {
            const ep_window at = hx_pool_window_at(a, p / a->out_w, p % a->out_w);
            for (int32_t c = 0; c < a->channels; c++) {
                y[c] = -INFINITY;
            }
            for (int32_t ky = at.rows.begin; ky < at.rows.end; ky++) {
                for (int32_t kx = at.columns.begin; kx < at.columns.end; kx++) {
                    const float *pixel = x + pixel_of(a, &at, ky, kx);
                    for (int32_t c = 0; c < a->channels; c++) {
                        y[c] = pixel[c] <= y[c] ? y[c] : pixel[c]; /* NaN wins, so that it is seen */
                    }
                }
            }
        }
    }
}

const ep_op ep_max_pool2d_f32 = {forward};

#ifndef EP_NO_TRAIN

/* Adds dy of one channel to the first tap of the window whose value is the maximum. */
static void give_to_first(const ep_pool2d_attr *a, const float *x, float *dx, float y, float dy, const ep_window *at)
{
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            const size_t pixel = pixel_of(a, at, ky, kx);
            if (!(x[pixel] < y)) {
                dx[pixel] += dy;
                return;
            }
        }
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_pool2d_attr *a = node->attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count;
    const float *x = ep_in(ep, node, 0), *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    if (!dx) {
        return;
    }
    hx_begin_gradient(dx, in * n, ep_accumulates(node, 0));
    for (; n-- > 0; x += in, dx += in) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, y += a->channels, dy += a->channels) {
            const ep_window at = hx_pool_window_at(a, p / a->out_w, p % a->out_w);
            for (int32_t c = 0; c < a->channels; c++) {
                give_to_first(a, x + c, dx + c, y[c], dy[c], &at);
            }
        }
    }
}

const ep_grad ep_max_pool2d_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_max_pool2d_f32(const ep_model *model, const ep_node *node)
{
    return hx_valid_io_f32(model, node, 1, 1) && hx_valid_pool(model, node) ? EP_OK : EP_ERR_IMAGE;
}
