/* The largest of each window, channel by channel. Padding never wins. */
#include "pool2d.h"

static void max_tap(float *restrict y, const float *restrict x, int32_t channels)
{
    for (int32_t c = 0; c < channels; c++) y[c] = x[c] > y[c] ? x[c] : y[c];
}

/* All channels at one position. */
static void forward_window(const ep_pool2d_attr *a, const float *x, float *y, const ep_window *at)
{
    for (int32_t c = 0; c < a->channels; c++) y[c] = -INFINITY;
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            max_tap(y, x + ep_pool_pixel(a, at, ky, kx), a->channels);
        }
    }
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
                forward_window(a, x, y, &at);
            }
        }
    }
}

const ep_op ep_max_pool2d_f32 = {forward};

#ifndef EP_NO_TRAIN

/* Channel c at one position: dy goes to the first element, row by row, that is the maximum y. x, dx: the image at channel c. */
static void backward_channel(const ep_pool2d_attr *a, float *dx, const float *x, float y, float dy, const ep_window *at)
{
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            const ptrdiff_t pixel = ep_pool_pixel(a, at, ky, kx);
            if (x[pixel] == y) {
                dx[pixel] += dy;
                return;
            }
        }
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_pool2d_attr *a = node->attr;
    const size_t image = ep_in_tensor(ep, node, 0)->count;
    const float *x = ep_in(ep, node, 0), *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (uint32_t i = 0; dx != NULL && i < n; i++, x += image, dx += image) {
        for (int32_t oy = 0; oy < a->out_h; oy++) {
            for (int32_t ox = 0; ox < a->out_w; ox++, y += a->channels, dy += a->channels) {
                const ep_window at = ep_pool_window(a, oy, ox);
                for (int32_t c = 0; c < a->channels; c++) {
                    backward_channel(a, dx + c, x + c, y[c], dy[c], &at);
                }
            }
        }
    }
}

const ep_grad ep_max_pool2d_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_max_pool2d_f32(const ep_model *model, const ep_node *node)
{
    uint32_t in, out;
    const int ok =
        node->attr != NULL && ep_valid_pool(node->attr, &in, &out) && ep_valid_unary_f32(model, node, in, out);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
