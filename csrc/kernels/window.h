/* Place windows (kernels of convolutions, areas of pools) on an axis, and find which of their taps are inside. */
#ifndef EP_WINDOW_H
#define EP_WINDOW_H

#include <stdint.h>

/* Taps of a window that lie inside an axis of `size`: begin <= tap < end, the window starting at `start`. */
typedef struct ep_taps {
    int32_t begin, end;
} ep_taps;

static inline ep_taps ep_taps_inside(int32_t start, int32_t kernel, int32_t dilation, int32_t size)
{
    ep_taps t = {0, 0};
    if (start < 0) t.begin = (dilation - 1 - start) / dilation;
    if (start < size) t.end = (size - start + dilation - 1) / dilation;
    t.end = t.end > kernel ? kernel : t.end;
    t.begin = t.begin > t.end ? t.end : t.begin;
    return t;
}

/* A window's place: its first row and column, and the taps of it that lie inside the image. */
typedef struct ep_window {
    int32_t top, left;
    ep_taps rows, columns;
} ep_window;

/* An axis of windows: window o starts at o * stride - pad. */
typedef struct ep_axis {
    int32_t in, out, kernel, stride, dilation, pad;
    int32_t full_begin, full_end; /* windows that are inside with all taps */
} ep_axis;

static inline ep_axis ep_make_axis(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation,
                                   int32_t pad)
{
    ep_axis a = {.in = in,
                 .out = out,
                 .kernel = kernel,
                 .stride = stride,
                 .dilation = dilation,
                 .pad = pad,
                 .full_begin = (pad + stride - 1) / stride};
    const int32_t last_start = in - 1 - (kernel - 1) * dilation;
    if (last_start + pad >= 0) a.full_end = (last_start + pad) / stride + 1;
    a.full_end = a.full_end > out ? out : a.full_end;
    return a;
}

/* Neighbouring windows of which the same taps are inside: `run` of them from window `at`, which starts at `start`. */
typedef struct ep_span {
    int32_t at, run, start;
    ep_taps taps;
} ep_span;

/* Goes on to the next windows; begin with {0}. 0 when there are none. */
static inline int ep_next_span(const ep_axis *a, ep_span *s)
{
    s->at += s->run;
    s->start = s->at * a->stride - a->pad;
    if (s->at >= a->full_begin && s->at < a->full_end) {
        s->run = a->full_end - s->at;
        s->taps.begin = 0;
        s->taps.end = a->kernel;
    } else {
        s->run = 1;
        s->taps = ep_taps_inside(s->start, a->kernel, a->dilation, a->in);
    }
    return s->at < a->out;
}

#endif
