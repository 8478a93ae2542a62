/* Windows of convolutions and pools, cut to the image before the loops, so that no tap asks where it is. */
#ifndef EP_WINDOW_H
#define EP_WINDOW_H

#include "../internal.h"

/* Taps of a window that lie inside an axis of `size`: begin <= tap < end, the window starting at `start`. */
typedef struct ep_taps {
    int32_t begin, end;
} ep_taps;

static inline ep_taps ep_taps_inside(int32_t start, int32_t kernel, int32_t dilation, int32_t size)
{
    ep_taps t = {0, 0};
    if (start < 0) {
        t.begin = (dilation - 1 - start) / dilation;
    }
    if (start < size) {
        t.end = (size - start + dilation - 1) / dilation;
    }
    t.end = t.end > kernel ? kernel : t.end;
    t.begin = t.begin > t.end ? t.end : t.begin;
    return t;
}

/* A window's place: its first row and column, and the taps of it that lie inside the image. */
typedef struct ep_window {
    int32_t top, left;
    ep_taps rows, columns;
} ep_window;

/* The window of output (oy, ox). */
static inline ep_window ep_window_at(const ep_conv2d_attr *a, int32_t oy, int32_t ox)
{
    ep_window at;
    at.top = oy * a->stride_h - a->pad_top;
    at.left = ox * a->stride_w - a->pad_left;
    at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
    at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
    return at;
}

static inline ep_window ep_pool_window_at(const ep_pool2d_attr *a, int32_t oy, int32_t ox)
{
    ep_window at;
    at.top = oy * a->stride_h - a->pad_top;
    at.left = ox * a->stride_w - a->pad_left;
    at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
    at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
    return at;
}

#endif
