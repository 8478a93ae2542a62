/* Average pooling in float32, the padding counted in the divisor or not. */
#include "hx.h"

/* Taps of an axis that count when padding does: positions before size + pad_end (the window may hang over that, too). */
static int32_t taps_padded(int32_t start, int32_t kernel, int32_t dilation, int32_t size_and_pad)
{
    const int32_t inside = (size_and_pad - start + dilation - 1) / dilation;
    return inside < kernel ? inside : kernel;
}

/* 1 / the number of taps that count; 0 for a window in the padding alone. */
static float share_of(const ep_pool2d_attr *a, const ep_window *at)
{
    int32_t count = (at->rows.end - at->rows.begin) * (at->columns.end - at->columns.begin);
    if (a->count_include_pad) {
        count = taps_padded(at->top, a->kernel_h, a->dilation_h, a->in_h + a->pad_bottom) *
                taps_padded(at->left, a->kernel_w, a->dilation_w, a->in_w + a->pad_right);
    }
    return count > 0 ? 1.0f / (float)count : 0.0f;
}

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
            const float share = share_of(a, &at);
            memset(y, 0, (size_t)a->channels * sizeof *y);
            for (int32_t ky = at.rows.begin; ky < at.rows.end; ky++) {
                for (int32_t kx = at.columns.begin; kx < at.columns.end; kx++) {
                    hx_axpy_f32(y, 1.0f, x + pixel_of(a, &at, ky, kx), a->channels);
                }
            }
            for (int32_t c = 0; c < a->channels; c++) {
                y[c] *= share;
            }
        }
    }
}

const ep_op ep_average_pool2d_f32 = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_pool2d_attr *a = node->attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count;
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    if (!dx) {
        return;
    }
    hx_begin_gradient(dx, in * n, ep_accumulates(node, 0));
    for (; n-- > 0; dx += in) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, dy += a->channels) {
            const ep_window at = hx_pool_window_at(a, p / a->out_w, p % a->out_w);
            const float share = share_of(a, &at);
            for (int32_t ky = at.rows.begin; ky < at.rows.end; ky++) {
                for (int32_t kx = at.columns.begin; kx < at.columns.end; kx++) {
                    hx_axpy_f32(dx + pixel_of(a, &at, ky, kx), share, dy, a->channels);
                }
            }
        }
    }
}

const ep_grad ep_average_pool2d_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_average_pool2d_f32(const ep_model *model, const ep_node *node)
{
    const ep_pool2d_attr *a = node->attr;
    const int ok = hx_valid_io_f32(model, node, 1, 1) && hx_valid_pool(model, node) && a->pad_bottom >= 0 &&
                   a->pad_bottom < 1 << 28 && a->pad_right >= 0 && a->pad_right < 1 << 28;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
