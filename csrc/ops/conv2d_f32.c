/* Convolution with groups and dilation, NHWC: matrix products over what the output positions see.
 *
 * Forward gathers that on the stack, as many positions at a time as fit; a 1x1 convolution, which finds it in the image as
 * it lies, and one whose kernels are too large for the stack walk as dx and dweight do: a run of neighbouring output
 * positions times a stretch of a kernel row that is contiguous in x and in the weights is one small product. */
#include "common.h"

#define NARROW 16 /* channels below which the taps of a kernel row are multiplied together where they can be */

typedef struct conv { /* what stays the same over the batch */
    const ep_t *ep;
    ep_conv2d_attr attr;
    ep_axis columns;
    const float *weight, *bias;
    int32_t images;              /* images in the batch */
    int32_t group_in, group_out; /* channels of a group */
    int32_t taps;                /* weights of one output channel */
    int32_t joined;              /* 1 if the taps of a kernel row lie side by side in x */
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
    c.joined = a->dilation_w == 1 && a->groups == 1;
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

/* Where the span's first tap is in kernel row ky of its first window, in the image, at channel 0. */
static ptrdiff_t pixel_of(const conv *c, int32_t oy, const ep_span *s, int32_t ky)
{
    const ep_conv2d_attr *a = &c->attr;
    const int32_t y = oy * a->stride_h - a->pad_top + ky * a->dilation_h, x = s->start + s->taps.begin * a->dilation_w;
    return ((ptrdiff_t)y * a->in_w + x) * a->in_c;
}

/* ---- Gathered positions ------------------------------------------------------------------------------------------ */

/* A position of the output: positions go on across the ends of rows and images. */
typedef struct place {
    const float *x; /* its image, at the group's first channel */
    int32_t oy, ox;
    ep_taps rows; /* of its kernel that are inside */
} place;

static float *zeros(float *to, int32_t count)
{
    for (int32_t i = 0; i < count; i++) to[i] = 0.0f;
    return to + count;
}

static float *copy(float *restrict to, const float *restrict x, int32_t count)
{
    if (count >= 16) { /* a call pays */
        memcpy(to, x, (size_t)count * sizeof *to);
        return to + count;
    }
    for (; count >= 4; count -= 4, to += 4, x += 4) {
        to[0] = x[0];
        to[1] = x[1];
        to[2] = x[2];
        to[3] = x[3];
    }
    for (; count > 0; count--) *to++ = *x++;
    return to;
}

/* Taps t of a kernel row, all channels of the group; x: at the first of them. */
static float *gather_taps(const conv *c, float *to, const float *x, ep_taps t)
{
    if (c->joined) return copy(to, x, (t.end - t.begin) * c->group_in);
    for (; t.begin < t.end; t.begin++, x += (ptrdiff_t)c->attr.dilation_w * c->attr.in_c) {
        to = copy(to, x, c->group_in);
    }
    return to;
}

/* 1 if all taps of the position are inside the image, and those of a kernel row side by side. */
static int sees_all(const conv *c, const place *p)
{
    return c->joined && p->rows.end - p->rows.begin == c->attr.kernel_h && p->ox >= c->columns.full_begin &&
           p->ox < c->columns.full_end;
}

/* What a position sees, (kernel_h, kernel_w, group_in), zero in the padding. */
static void gather_one(const conv *c, float *to, const place *p)
{
    const ep_conv2d_attr *a = &c->attr;
    ep_span s = {p->ox, 1, p->ox * a->stride_w - a->pad_left, {0, 0}};
    const ep_taps rows = p->rows;
    if (sees_all(c, p)) {
        const float *x = p->x + pixel_of(c, p->oy, &s, 0);
        for (int32_t ky = 0; ky < a->kernel_h; ky++, x += (ptrdiff_t)a->dilation_h * a->in_w * a->in_c) {
            to = copy(to, x, a->kernel_w * a->in_c);
        }
        return;
    }
    s.taps = ep_taps_inside(s.start, a->kernel_w, a->dilation_w, a->in_w);
    if (s.taps.begin == s.taps.end || rows.begin == rows.end) {
        zeros(to, c->taps);
        return;
    }
    to = zeros(to, rows.begin * a->kernel_w * c->group_in);
    const float *x = p->x + pixel_of(c, p->oy, &s, rows.begin);
    for (int32_t ky = rows.begin; ky < rows.end; ky++, x += (ptrdiff_t)a->dilation_h * a->in_w * a->in_c) {
        to = zeros(to, s.taps.begin * c->group_in);
        to = gather_taps(c, to, x, s.taps);
        to = zeros(to, (a->kernel_w - s.taps.end) * c->group_in);
    }
    zeros(to, (a->kernel_h - rows.end) * a->kernel_w * c->group_in);
}

/* What `count` positions from p on see, one after the other; p goes on behind them. */
static void gather(const conv *c, float *to, place *p, int32_t count)
{
    for (; count > 0; count--, to += c->taps) {
        gather_one(c, to, p);
        if (++p->ox == c->attr.out_w) {
            p->ox = 0;
            if (++p->oy == c->attr.out_h) {
                p->oy = 0;
                p->x += image_in(c);
            }
            p->rows = rows_inside(c, p->oy);
        }
    }
}

/* Output positions of all images. */
static int32_t all_places(const conv *c)
{
    return c->images * c->attr.out_h * c->attr.out_w;
}

/* One group of all images; x and y at its first channel. */
static void forward_gathered(const conv *c, int32_t group, const float *x, float *y)
{
    const ep_conv2d_attr *a = &c->attr;
    float patches[EP_PATCH_FLOATS];
    const float *w = c->weight + (ptrdiff_t)group * c->group_out * c->taps;
    const int32_t most = EP_PATCH_FLOATS / c->taps;
    place p = {x, 0, 0, rows_inside(c, 0)};
    ep_dots_f32 d = {.y = y,
                     .base = c->bias + group * c->group_out,
                     .x = patches,
                     .w = w,
                     .y_step = a->out_c,
                     .x_step = c->taps,
                     .w_step = c->taps,
                     .columns = c->group_out,
                     .count = c->taps};
    for (int32_t left = all_places(c); left > 0; left -= d.rows, d.y += d.rows * d.y_step) {
        d.rows = left < most ? left : most;
        gather(c, patches, &p, d.rows);
        EP_KERNEL(c->ep, dots_f32)(&d);
        if (a->groups == 1) { /* while they are near */
            ep_clamp_output(c->ep, d.y, a->lo, a->hi, (size_t)d.rows * (size_t)a->out_c);
        }
    }
}

/* ---- Where they lie ---------------------------------------------------------------------------------------------- */

/* One group at one span of output row oy; x and y: the image and the row, at the group's first channel. */
static void forward_span(const conv *c, const float *x, float *y, int32_t group, int32_t oy, const ep_span *s)
{
    const ep_conv2d_attr *a = &c->attr;
    const float *w = c->weight + (ptrdiff_t)group * c->group_out * c->taps;
    const ep_taps rows = rows_inside(c, oy);
    const int32_t unit = c->joined ? s->taps.end - s->taps.begin : 1;
    ep_span t = *s;
    ep_dots_f32 d = {.y = y + (ptrdiff_t)s->at * a->out_c,
                     .base = c->bias + group * c->group_out,
                     .x = x,
                     .w = w,
                     .y_step = a->out_c,
                     .x_step = (ptrdiff_t)a->stride_w * a->in_c,
                     .w_step = c->taps,
                     .rows = s->run,
                     .columns = c->group_out};
    for (int32_t ky = rows.begin; ky < rows.end; ky++) {
        for (t.taps = s->taps; t.taps.begin < t.taps.end; t.taps.begin += unit) {
            d.x = x + pixel_of(c, oy, &t, ky);
            d.w = w + (ky * a->kernel_w + t.taps.begin) * c->group_in;
            d.count = unit * c->group_in;
            EP_KERNEL(c->ep, dots_f32)(&d);
            d.base = d.y; /* the bias was the first sum's; further ones add to it */
            d.base_step = d.y_step;
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

static void forward_direct(const conv *c, const float *x, float *y)
{
    for (int32_t i = 0; i < c->images; i++, x += image_in(c)) {
        for (int32_t oy = 0; oy < c->attr.out_h; oy++, y += (ptrdiff_t)c->attr.out_w * c->attr.out_c) {
            forward_row(c, x, y, oy);
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const conv c = make_conv(ep, node, n);
    const int gathered = c.attr.kernel_h * c.attr.kernel_w > 1 && 2 * c.taps <= EP_PATCH_FLOATS;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (int32_t group = 0; gathered && group < c.attr.groups; group++) {
        forward_gathered(&c, group, x + group * c.group_in, y + group * c.group_out);
    }
    if (!gathered) forward_direct(&c, x, y);
    if (!gathered || c.attr.groups > 1) {
        ep_clamp_output(ep, y, c.attr.lo, c.attr.hi, (size_t)n * ep_out_tensor(ep, node, 0)->count);
    }
}

const ep_op ep_conv2d_f32 = {forward};

#ifndef EP_NO_TRAIN

/* Goes on to the next output positions of a row that see the same stretch of kernel rows, and which; begin with {0}. If
 * `joined`, all taps that a position sees are one stretch, and positions at the borders see fewer; else each tap is one,
 * with all positions for which it is inside. 0 when there are none. */
static int next_piece(const conv *c, int joined, ep_span *s)
{
    const ep_conv2d_attr *a = &c->attr;
    while (joined && ep_next_span(&c->columns, s)) {
        if (s->taps.begin < s->taps.end) return 1;
    }
    while (!joined && s->taps.end < a->kernel_w) {
        const ep_taps see = ep_taps_inside(s->taps.end * a->dilation_w - a->pad_left, a->out_w, a->stride_w, a->in_w);
        s->taps.begin = s->taps.end++;
        s->at = see.begin;
        s->run = see.end - see.begin;
        s->start = s->at * a->stride_w - a->pad_left;
        if (s->run > 0) return 1;
    }
    return 0;
}

/* Taps of few channels are multiplied together; where there are many, each tap takes a whole row of positions. */
static int joins(const conv *c)
{
    return c->joined && c->group_in < NARROW;
}

/* dx += dy . weight at one piece of output row oy. */
static void backward_piece(const conv *c, float *dx, const float *dy, int32_t oy, const ep_span *s)
{
    const ep_conv2d_attr *a = &c->attr;
    const ep_taps rows = rows_inside(c, oy);
    ep_outer_f32 o = {.c = dx,
                      .a = dy + (ptrdiff_t)s->at * a->out_c,
                      .b = c->weight,
                      .c_step = (ptrdiff_t)a->stride_w * a->in_c,
                      .a_row = a->out_c,
                      .a_step = 1,
                      .b_step = c->taps,
                      .rows = s->run,
                      .columns = (s->taps.end - s->taps.begin) * c->group_in,
                      .count = c->group_out};
    for (int32_t group = 0; group < a->groups; group++, o.a += c->group_out) {
        const float *w = c->weight + (ptrdiff_t)group * c->group_out * c->taps;
        for (int32_t ky = rows.begin; ky < rows.end; ky++) {
            o.c = dx + pixel_of(c, oy, s, ky) + group * c->group_in;
            o.b = w + (ky * a->kernel_w + s->taps.begin) * c->group_in;
            EP_KERNEL(c->ep, outer_f32)(&o);
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
            for (ep_span s = {0}; next_piece(&c, joins(&c), &s);) {
                backward_piece(&c, dx, dy, oy, &s);
            }
        }
    }
}

/* A tile of dweight: output channels k .. k + rows - 1 (of one group), elements j .. j + columns - 1 of kernel row ky. */
typedef struct tile_place {
    float *to; /* (rows, columns), rows `step` apart */
    ptrdiff_t step;
    int32_t k, rows, ky, j, columns;
} tile_place;

/* Adds what one piece of output row oy gives to the tile; x: the image at the group's first channel, dy: the row. */
static void add_piece(const conv *c, ep_outer_f32 *o, const float *x, const float *dy, const tile_place *p, int32_t oy,
                      const ep_span *s)
{
    const int32_t first = s->taps.begin * c->group_in; /* in elements of the kernel row */
    int32_t begin = first, end = s->taps.end * c->group_in;
    begin = begin < p->j ? p->j : begin;
    end = end > p->j + p->columns ? p->j + p->columns : end;
    if (begin < end) {
        o->c = p->to + (begin - p->j);
        o->a = dy + (ptrdiff_t)s->at * c->attr.out_c + p->k;
        o->b = x + (pixel_of(c, oy, s, p->ky) + begin - first);
        o->columns = end - begin;
        o->count = s->run;
        EP_KERNEL(c->ep, outer_f32)(o);
    }
}

/* Adds one image's to the tile. */
static void add_image(const conv *c, const float *x, const float *dy, const tile_place *p)
{
    const ep_conv2d_attr *a = &c->attr;
    ep_outer_f32 o = {.c = p->to,
                      .a = dy,
                      .b = x,
                      .c_step = p->step,
                      .a_row = 1,
                      .a_step = a->out_c,
                      .b_step = (ptrdiff_t)a->stride_w * a->in_c,
                      .rows = p->rows};
    x += p->k / c->group_out * c->group_in;
    for (int32_t oy = 0; oy < a->out_h; oy++, dy += a->out_w * a->out_c) {
        const ep_taps rows = rows_inside(c, oy);
        if (p->ky < rows.begin || p->ky >= rows.end) continue;
        for (ep_span s = {0}; next_piece(c, joins(c), &s);) add_piece(c, &o, x, dy, p, oy, &s);
    }
}

static size_t image_out(const conv *c)
{
    return (size_t)c->attr.out_h * (size_t)c->attr.out_w * (size_t)c->attr.out_c;
}

/* The tile's rows are complete: no memory but the stack's. */
static void emit_tile(const conv *c, const ep_node *node, const ep_sink *sink, const tile_place *p)
{
    const int32_t row = c->attr.kernel_w * c->group_in;
    for (int32_t r = 0; r < p->rows; r++) {
        const int32_t at = (p->k + r) * c->taps + p->ky * row + p->j;
        ep_emit(c->ep, sink, node->io[1], (uint32_t)at, (uint32_t)p->columns, 1.0f, p->to + r * p->step);
    }
}

/* All of dweight for p->rows output channels, tile by tile. */
static void emit_rows(const conv *c, const ep_node *node, const ep_sink *sink, tile_place *p)
{
    const int32_t row = c->attr.kernel_w * c->group_in;
    for (p->ky = 0; p->ky < c->attr.kernel_h; p->ky++) {
        for (p->j = 0; p->j < row; p->j += EP_TILE_COLUMNS) {
            const float *x = ep_in(c->ep, node, 0), *dy = ep_dout(c->ep, node, 0);
            p->columns = row - p->j < EP_TILE_COLUMNS ? row - p->j : EP_TILE_COLUMNS;
            memset(p->to, 0, EP_TILE_ROWS * EP_TILE_COLUMNS * sizeof *p->to);
            for (int32_t i = 0; i < c->images; i++, x += image_in(c), dy += image_out(c)) {
                add_image(c, x, dy, p);
            }
            emit_tile(c, node, sink, p);
        }
    }
}

/* All of dweight of one group, added to where its sums are kept, image by image. */
static void add_group(const conv *c, const ep_node *node, tile_place *p)
{
    const float *x = ep_in(c->ep, node, 0), *dy = ep_dout(c->ep, node, 0);
    float *to = p->to;
    p->columns = c->attr.kernel_w * c->group_in;
    for (int32_t i = 0; i < c->images; i++, x += image_in(c), dy += image_out(c)) {
        for (p->ky = 0; p->ky < c->attr.kernel_h; p->ky++) {
            p->to = to + p->ky * p->columns;
            add_image(c, x, dy, p);
        }
    }
}

/* The same where kernels are so small that they are one tile: over gathered positions. */
static void add_gathered(const conv *c, const ep_node *node, const tile_place *p)
{
    const float *x = ep_in(c->ep, node, 0), *dy = ep_dout(c->ep, node, 0);
    float patches[EP_PATCH_FLOATS];
    const int32_t most = EP_PATCH_FLOATS / c->taps;
    place at = {x + p->k / c->group_out * c->group_in, 0, 0, rows_inside(c, 0)};
    ep_outer_f32 o = {.c = p->to,
                      .a = dy + p->k,
                      .b = patches,
                      .c_step = p->step,
                      .a_row = 1,
                      .a_step = c->attr.out_c,
                      .b_step = c->taps,
                      .rows = p->rows,
                      .columns = c->taps};
    for (int32_t left = all_places(c); left > 0; left -= o.count, o.a += o.count * o.a_step) {
        o.count = left < most ? left : most;
        gather(c, patches, &at, o.count);
        EP_KERNEL(c->ep, outer_f32)(&o);
    }
}

static void emit_gathered(const conv *c, const ep_node *node, const ep_sink *sink, tile_place *p)
{
    memset(p->to, 0, EP_TILE_ROWS * EP_TILE_COLUMNS * sizeof *p->to);
    add_gathered(c, node, p);
    p->columns = c->taps;
    emit_tile(c, node, sink, p);
}

static void emit_weights(const conv *c, const ep_node *node, const ep_sink *sink)
{
    const int gathered = EP_TILE_ROWS >= 16 && c->attr.kernel_h > 1 && c->taps <= EP_TILE_COLUMNS;
    float tile[EP_TILE_ROWS * EP_TILE_COLUMNS], *sums = ep_sink_sums(c->ep, sink, node->io[1]);
    tile_place p = {.to = tile, .step = EP_TILE_COLUMNS};
    for (; p.k < c->attr.out_c; p.k += p.rows) {
        const int32_t left = c->group_out - p.k % c->group_out;
        p.rows = sums != NULL || left < EP_TILE_ROWS ? left : EP_TILE_ROWS;
        p.ky = p.j = 0;
        if (sums != NULL) {
            p.to = sums + (ptrdiff_t)p.k * c->taps;
            p.step = c->taps;
            if (gathered) {
                add_gathered(c, node, &p);
            } else {
                add_group(c, node, &p);
            }
        } else {
            (gathered ? emit_gathered : emit_rows)(c, node, sink, &p);
        }
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const conv c = make_conv(ep, node, n);
    if (ep_trains(ep, node, 1)) emit_weights(&c, node, sink);
    if (ep_trains(ep, node, 2)) {
        ep_emit_bias(ep, node, sink, c.attr.out_c, (uint32_t)all_places(&c));
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
        taps != 0 && ep_valid_windows(a) &&
        ep_valid_layer_f32(model, node, ep_product(a->in_h, a->in_w, a->in_c), ep_product(a->out_c, (int32_t)taps, 1),
                           ep_product(a->out_c, 1, 1), ep_product(a->out_h, a->out_w, a->out_c)) &&
        a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
