/* Copy lines of an image with their padding onto the stack, so that all taps of all windows are inside. */
#ifndef EP_PADDED_S8_H
#define EP_PADDED_S8_H

#include "../internal.h"
#include "../kernels/scalar_s8.h"

typedef struct ep_padded {
    const ep_conv2d_attr *attr;
    int32_t zero;  /* what the padding holds */
    int32_t width; /* pixels of a line */
    int32_t line;  /* codes of a line */
    int32_t tall;  /* lines that one line of outputs sees */
    int32_t most;  /* lines of outputs whose lines fit EP_PATCH_BYTES; 0: none */
} ep_padded;

static inline ep_padded ep_make_padded(const ep_conv2d_attr *a, int32_t zero)
{
    ep_padded p = {.attr = a, .zero = zero};
    p.width = (a->out_w - 1) * a->stride_w + (a->kernel_w - 1) * a->dilation_w + 1;
    p.line = p.width * a->in_c;
    p.tall = (a->kernel_h - 1) * a->dilation_h + 1;
    if (EP_PATCH_BYTES / p.line >= p.tall) {
        p.most = (EP_PATCH_BYTES / p.line - p.tall) / a->stride_h + 1;
    }
    return p;
}

/* Line iy of the image x, padded; the end of `to`. */
static inline int8_t *ep_pad_line(const ep_padded *p, int8_t *to, const int8_t *x, int32_t iy)
{
    const ep_conv2d_attr *a = p->attr;
    const int32_t left = a->pad_left < p->width ? a->pad_left : p->width;
    const int32_t inside = p->width - left < a->in_w ? p->width - left : a->in_w;
    if (iy < 0 || iy >= a->in_h) {
        memset(to, p->zero, (size_t)p->line);
        return to + p->line;
    }
    to = ep_fill_s8(to, p->zero, left * a->in_c);
    memcpy(to, x + (ptrdiff_t)iy * a->in_w * a->in_c, (size_t)inside * (size_t)a->in_c);
    return ep_fill_s8(to + inside * a->in_c, p->zero, (p->width - left - inside) * a->in_c);
}

/* What lines of outputs from oy on see, to `to` (EP_PATCH_BYTES + EP_FILL); returns how many lines of outputs these are. */
static inline int32_t ep_pad_lines(const ep_padded *p, int8_t *to, const int8_t *x, int32_t oy)
{
    const ep_conv2d_attr *a = p->attr;
    const int32_t lines = a->out_h - oy < p->most ? a->out_h - oy : p->most;
    for (int32_t i = 0; i < (lines - 1) * a->stride_h + p->tall; i++) {
        to = ep_pad_line(p, to, x, oy * a->stride_h - a->pad_top + i);
    }
    return lines;
}

#endif
