/* Max pooling on codes: scale and zero point stay, padding never wins. */
#include "../kernels/kernels.h"
#include "../kernels/window.h"
#include "check_s8.h"

#include <string.h>

/* All channels (channels,) at one position: y takes the largest of each. */
static void max_position(const ep_t *ep, const ep_pool2d_attr *a, const int8_t *x, int8_t *y, const ep_window *at)
{
    memset(y, -128, (size_t)a->channels);
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        const ptrdiff_t row = (ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w;
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            EP_KERNEL(ep, max_s8)(y, x + (row + at->left + kx * a->dilation_w) * a->channels, a->channels);
        }
    }
}

static void max_image(const ep_t *ep, const ep_pool2d_attr *a, const int8_t *x, int8_t *y)
{
    ep_window at;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        at.top = oy * a->stride_h - a->pad_top;
        at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
        for (int32_t ox = 0; ox < a->out_w; ox++, y += a->channels) {
            at.left = ox * a->stride_w - a->pad_left;
            at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
            max_position(ep, a, x, y, &at);
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        max_image(ep, node->attr, x, y);
        x += ep_in_tensor(ep, node, 0)->count;
        y += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_op ep_max_pool2d_s8 = {forward};

int ep_check_max_pool2d_s8(const ep_model *model, const ep_node *node)
{
    return ep_valid_io_s8(model, node, 1, 1) && ep_valid_pool_s8(model, node) ? EP_OK : EP_ERR_IMAGE;
}
