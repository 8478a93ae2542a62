/* Place the windows of the float32 pools. */
#ifndef EP_POOL2D_H
#define EP_POOL2D_H

#include "common.h"

/* The window of output (oy, ox). */
static inline ep_window ep_pool_window(const ep_pool2d_attr *a, int32_t oy, int32_t ox)
{
    ep_window at = {oy * a->stride_h - a->pad_top, ox * a->stride_w - a->pad_left, {0, 0}, {0, 0}};
    at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
    at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
    return at;
}

/* Where its tap (ky, kx) is in the image, at channel 0. */
static inline ptrdiff_t ep_pool_pixel(const ep_pool2d_attr *a, const ep_window *at, int32_t ky, int32_t kx)
{
    return ((ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w + at->left + kx * a->dilation_w) * a->channels;
}

#endif
