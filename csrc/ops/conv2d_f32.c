/* Convolution with groups and dilation, NHWC.
 *
 * Forward, dx and dweight all walk the same way: a span of neighbouring output positions that see the same taps, times a stretch
 * of a kernel row that is contiguous in x and in the weights (all its taps, or one tap if it is dilated or grouped), is one small
 * matrix product. */
#include "common.h"

#define PATCH 64 /* weights of an output channel up to which patches are gathered on the stack, 512 bytes */

typedef struct conv { /* what stays the same over the batch */
    const ep_t *ep;
    ep_conv2d_attr attr;
    ep_axis columns;
    const float *weight, *bias;
    int32_t images;              /* images in the batch */
    int32_t group_in, group_out; /* channels of a group */
    int32_t taps;                /* weights of one output channel */
    int32_t unit;                /* taps of a kernel row that make a stretch */
} conv;

/* A 1x1 convolution sees every pixel alone: the batch is one image of one row. */
static void flatten(conv *c)
{
    ep_conv2d_attr *a = &c->attr;
    if (a->kernel_h == 1 && a->kernel_w == 1 && a->stride_h == 1 && a->stride_w == 1 && a->pad_top == 0 &&
        a->pad_left == 0 && a->in_h == a->out_h && a->in_w == a->out_w) {
        a->in_w = a->out_w = a->in_h * a->in_w * c->images;
        a->in_h = a->out_h = c->images = 1;
    }
}

static conv make_conv(const ep_t *ep, const ep_node *node, uint32_t n)
{
    conv c = {.ep = ep, .attr = *(const ep_conv2d_attr *)node->attr, .images = (int32_t)n};
    const ep_conv2d_attr *a = &c.attr;
    flatten(&c);
    c.weight = ep_in(ep, node, 1);
    c.bias = ep_in(ep, node, 2);
    c.columns = ep_make_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
    c.group_in = a->in_c / a->groups;
    c.group_out = a->out_c / a->groups;
    c.taps = a->kernel_h * a->kernel_w * c.group_in;
    c.unit = a->dilation_w == 1 && a->groups == 1 ? a->kernel_w : 1;
    return c;
}

static size_t image_in(const conv *c)
{
    return (size_t)c->attr.in_h * (size_t)c->attr.in_w * (size_t)c->attr.in_c;
}

static ep_taps rows_inside(const conv *c, int32_t oy)
{
    const ep_conv2d_attr *a = &c->attr;
    return ep_taps_inside(oy * a->stride_h - a->pad_top, a->kernel_h, a->dilation_h, a->in_h);
}

/* The part of the stretch of taps kx .. kx + unit - 1 that the span sees. */
static ep_taps stretch_of(const conv *c, const ep_span *s, int32_t kx)
{
    ep_taps t = s->taps;
    t.begin = t.begin < kx ? kx : t.begin;
    t.end = t.end > kx + c->unit ? kx + c->unit : t.end;
    return t;
}

/* Where tap (ky, kx) of the span's first window is in the image, at channel 0. */
static ptrdiff_t pixel_of(const conv *c, int32_t oy, const ep_span *s, int32_t ky, int32_t kx)
{
    const ep_conv2d_attr *a = &c->attr;
    const int32_t y = oy * a->stride_h - a->pad_top + ky * a->dilation_h, x = s->start + kx * a->dilation_w;
    return ((ptrdiff_t)y * a->in_w + x) * a->in_c;
}

/* One group at one span of output row oy; x and y: the image and the row, at the group's first channel. */
static void forward_span(const conv *c, const float *x, float *y, int32_t group, int32_t oy, const ep_span *s)
{
    const ep_conv2d_attr *a = &c->attr;
    const float *w = c->weight + (ptrdiff_t)group * c->group_out * c->taps;
    const ep_taps rows = rows_inside(c, oy);
    ep_dots_f32 d = {y + (ptrdiff_t)s->at * a->out_c,
                     c->bias + group * c->group_out,
                     x,
                     w,
                     a->out_c,
                     0,
                     (ptrdiff_t)a->stride_w * a->in_c,
                     c->taps,
                     s->run,
                     c->group_out,
                     0};
    for (int32_t ky = rows.begin; ky < rows.end; ky++) {
        for (int32_t kx = 0; kx < a->kernel_w; kx += c->unit) {
            const ep_taps t = stretch_of(c, s, kx);
            if (t.begin < t.end) {
                d.x = x + pixel_of(c, oy, s, ky, t.begin);
                d.w = w + (ky * a->kernel_w + t.begin) * c->group_in;
                d.count = (t.end - t.begin) * c->group_in;
                EP_KERNEL(c->ep, dots_f32)(&d);
                d.base = d.y; /* the bias was the first sum's; further ones add to it */
                d.base_step = d.y_step;
            }
        }
    }
    if (d.base != d.y) { /* nothing but padding */
        EP_KERNEL(c->ep, dots_f32)(&d);
    }
}

static void forward_row(const conv *c, const float *x, float *y, int32_t oy)
{
    for (ep_span s = {0}; ep_next_span(&c->columns, &s);) {
        for (int32_t group = 0; group < c->attr.groups; group++) {
            forward_span(c, x + group * c->group_in, y + group * c->group_out, group, oy, &s);
        }
    }
}

/* Everything one output position sees, (kernel_h, kernel_w, in_c), zero in the padding. */
static void gather(const conv *c, const float *x, float *patch, int32_t oy, int32_t ox)
{
    const ep_conv2d_attr *a = &c->attr;
    const ep_span s = {ox, 1, ox * a->stride_w - a->pad_left, {0, 0}};
    const ep_taps rows = rows_inside(c, oy), columns = ep_taps_inside(s.start, a->kernel_w, a->dilation_w, a->in_w);
    memset(patch, 0, (size_t)c->taps * sizeof *patch);
    for (int32_t ky = rows.begin; ky < rows.end; ky++) {
        for (int32_t kx = columns.begin; kx < columns.end; kx++) {
            const float *pixel = x + pixel_of(c, oy, &s, ky, kx);
            for (int32_t i = 0; i < a->in_c; i++) {
                patch[(ky * a->kernel_w + kx) * a->in_c + i] = pixel[i];
            }
        }
    }
}

/* Where stretches are short, as in a first layer of few channels, whole patches make longer products. */
static void forward_patches(const conv *c, const float *x, float *y, int32_t oy)
{
    const ep_conv2d_attr *a = &c->attr;
    float patch[2 * PATCH];
    ep_dots_f32 d = {y, c->bias, patch, c->weight, a->out_c, 0, PATCH, c->taps, 0, a->out_c, c->taps};
    for (int32_t ox = 0; ox < a->out_w; ox += d.rows, d.y += d.rows * a->out_c) {
        d.rows = a->out_w - ox < 2 ? 1 : 2;
        for (int32_t i = 0; i < d.rows; i++) {
            gather(c, x, patch + i * PATCH, oy, ox + i);
        }
        EP_KERNEL(c->ep, dots_f32)(&d);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const conv c = make_conv(ep, node, n);
    const int patches = c.attr.groups == 1 && c.taps <= PATCH && c.attr.kernel_h > 1 && c.unit * c.group_in < 16;
    const size_t row = (size_t)c.attr.out_w * (size_t)c.attr.out_c;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (int32_t i = 0; i < c.images; i++, x += image_in(&c)) {
        for (int32_t oy = 0; oy < c.attr.out_h; oy++, y += row) {
            (patches ? forward_patches : forward_row)(&c, x, y, oy);
            ep_clamp_output(ep, y, c.attr.lo, c.attr.hi, row);
        }
    }
}

const ep_op ep_conv2d_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx += dy . weight of one group at one span of output row oy. */
static void backward_span(const conv *c, float *dx, const float *dy, int32_t group, int32_t oy, const ep_span *s)
{
    const ep_conv2d_attr *a = &c->attr;
    const float *w = c->weight + (ptrdiff_t)group * c->group_out * c->taps;
    const ep_taps rows = rows_inside(c, oy);
    ep_outer_f32 o = {dx,       dy + (ptrdiff_t)s->at * a->out_c,
                      w,        (ptrdiff_t)a->stride_w * a->in_c,
                      a->out_c, 1,
                      c->taps,  s->run,
                      0,        c->group_out};
    for (int32_t ky = rows.begin; ky < rows.end; ky++) {
        for (int32_t kx = 0; kx < a->kernel_w; kx += c->unit) {
            const ep_taps t = stretch_of(c, s, kx);
            if (t.begin < t.end) {
                o.c = dx + pixel_of(c, oy, s, ky, t.begin);
                o.b = w + (ky * a->kernel_w + t.begin) * c->group_in;
                o.columns = (t.end - t.begin) * c->group_in;
                EP_KERNEL(c->ep, outer_f32)(&o);
            }
        }
    }
}

static void backward_row(const conv *c, float *dx, const float *dy, int32_t oy)
{
    for (ep_span s = {0}; ep_next_span(&c->columns, &s);) {
        for (int32_t group = 0; group < c->attr.groups; group++) {
            backward_span(c, dx + group * c->group_in, dy + group * c->group_out, group, oy, &s);
        }
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const conv c = make_conv(ep, node, n);
    ep_mask_output(ep, node, c.attr.lo, c.attr.hi, n);
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (int32_t i = 0; dx != NULL && i < c.images; i++, dx += image_in(&c)) {
        for (int32_t oy = 0; oy < c.attr.out_h; oy++, dy += c.attr.out_w * c.attr.out_c) {
            backward_row(&c, dx, dy, oy);
        }
    }
}

/* A tile of dweight: output channels k .. k + rows - 1 (of one group), kernel row ky, elements j .. j + columns - 1 of the stretch
 * that begins at tap kx. */
typedef struct tile_place {
    int32_t k, rows, ky, kx, j, columns;
} tile_place;

/* Adds what one span of output row oy gives to the tile; x: the image at the group's first channel, dy: the row. */
static void add_span(const conv *c, ep_outer_f32 *o, float *tile, const float *x, const float *dy, const tile_place *p,
                     int32_t oy, const ep_span *s)
{
    const ep_taps t = stretch_of(c, s, p->kx);
    int32_t begin = (t.begin - p->kx) * c->group_in,
            end = (t.end - p->kx) * c->group_in; /* in elements of the stretch */
    begin = begin < p->j ? p->j : begin;
    end = end > p->j + p->columns ? p->j + p->columns : end;
    if (begin < end) {
        o->c = tile + (begin - p->j);
        o->a = dy + (ptrdiff_t)s->at * c->attr.out_c + p->k;
        /* Elements past the first tap's follow it in x too: a stretch of several taps is not dilated. */
        o->b = x + (pixel_of(c, oy, s, p->ky, p->kx) + begin);
        o->columns = end - begin;
        o->count = s->run;
        EP_KERNEL(c->ep, outer_f32)(o);
    }
}

/* Sums the tile over all positions of all images. */
static void sum_tile(const conv *c, float *tile, const float *x, const float *dy, const tile_place *p)
{
    const ep_conv2d_attr *a = &c->attr;
    ep_outer_f32 o = {tile, dy, x, EP_TILE_COLUMNS, 1, a->out_c, (ptrdiff_t)a->stride_w * a->in_c, p->rows, 0, 0};
    memset(tile, 0, EP_TILE_ROWS * EP_TILE_COLUMNS * sizeof *tile);
    x += p->k / c->group_out * c->group_in;
    for (int32_t i = 0; i < c->images; i++, x += image_in(c)) {
        for (int32_t oy = 0; oy < a->out_h; oy++, dy += a->out_w * a->out_c) {
            const ep_taps rows = rows_inside(c, oy);
            if (p->ky < rows.begin || p->ky >= rows.end) {
                continue;
            }
            for (ep_span s = {0}; ep_next_span(&c->columns, &s);) {
                add_span(c, &o, tile, x, dy, p, oy, &s);
            }
        }
    }
}

/* All of dweight for p->rows output channels. Every tile is complete when it is handed over: no memory but the stack's. */
static void emit_rows(const ep_t *ep, const ep_node *node, const ep_sink *sink, const conv *c, tile_place *p)
{
    const ep_conv2d_attr *a = &c->attr;
    const int32_t stretch = c->unit * c->group_in;
    float tile[EP_TILE_ROWS * EP_TILE_COLUMNS];
    for (p->ky = 0; p->ky < a->kernel_h; p->ky++) {
        for (p->kx = 0; p->kx < a->kernel_w; p->kx += c->unit) {
            for (p->j = 0; p->j < stretch; p->j += EP_TILE_COLUMNS) {
                p->columns = stretch - p->j < EP_TILE_COLUMNS ? stretch - p->j : EP_TILE_COLUMNS;
                sum_tile(c, tile, ep_in(ep, node, 0), ep_dout(ep, node, 0), p);
                for (int32_t r = 0; r < p->rows; r++) {
                    const int32_t at = (p->k + r) * c->taps + (p->ky * a->kernel_w + p->kx) * c->group_in + p->j;
                    ep_emit(ep, sink, node->io[1], (uint32_t)at, (uint32_t)p->columns, 1.0f,
                            tile + r * EP_TILE_COLUMNS);
                }
            }
        }
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const conv c = make_conv(ep, node, n);
    tile_place p = {0};
    for (p.k = 0; ep_trains(ep, node, 1) && p.k < c.attr.out_c; p.k += p.rows) {
        const int32_t left = c.group_out - p.k % c.group_out;
        p.rows = left < EP_TILE_ROWS ? left : EP_TILE_ROWS;
        emit_rows(ep, node, sink, &c, &p);
    }
    if (ep_trains(ep, node, 2)) {
        ep_emit_bias(ep, node, sink, c.attr.out_c, (uint32_t)(c.images * c.attr.out_h * c.attr.out_w));
    }
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    return ep_bound_layer(ep, node, n, (float)a->out_h * (float)a->out_w * (float)n);
}

const ep_grad ep_conv2d_f32_grad = {backward, params, bound};

#endif

int ep_check_conv2d_f32(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    if (a == NULL || a->groups <= 0 || a->in_c <= 0 || a->in_c % a->groups != 0 || a->out_c % a->groups != 0) {
        return EP_ERR_IMAGE;
    }
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, a->in_c / a->groups);
    const int ok =
        taps != 0 && ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
        ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left) &&
        ep_valid_layer_f32(model, node, ep_product(a->in_h, a->in_w, a->in_c), ep_product(a->out_c, (int32_t)taps, 1),
                           ep_product(a->out_c, 1, 1), ep_product(a->out_h, a->out_w, a->out_c)) &&
        a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
