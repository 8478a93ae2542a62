/* Transposed convolution with groups and dilation, NHWC: every input pixel adds its channels times the weights
 * (in_c, kernel_h, kernel_w, out_c/groups) to the outputs its kernel covers. Its three products are those of a convolution from
 * y to x: forward is that one's dx, and dx its forward. A run of neighbouring input pixels times a stretch of a kernel row is
 * one small product. */
#include "common.h"

typedef struct deconv {
    const ep_t *ep;
    const ep_conv2d_attr *a;
    ep_axis columns;
    int32_t group_in, group_out; /* channels of a group */
    int32_t taps;                /* weights of one input channel */
    int32_t joined;              /* 1 if the taps of a kernel row lie side by side in y */
} deconv;

/* One product: where its parts begin, in elements. */
typedef struct part {
    ptrdiff_t x, y, w;
    int32_t run;   /* pixels of x, side by side */
    int32_t width; /* of w and of y at each of them */
} part;

typedef void visit(const deconv *d, const part *p, void *data);

static deconv make_deconv(const ep_t *ep, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    deconv d = {.ep = ep, .a = a, .columns = {0}, .group_in = a->in_c / a->groups, .group_out = a->out_c / a->groups};
    d.columns = ep_make_axis(a->out_w, a->in_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
    d.taps = a->kernel_h * a->kernel_w * d.group_out;
    d.joined = a->groups == 1 && a->dilation_w == 1;
    return d;
}

/* The parts of input row iy and kernel row ky, which lies in output row oy. */
static void visit_row(const deconv *d, int32_t iy, int32_t ky, int32_t oy, visit *f, void *data)
{
    const ep_conv2d_attr *a = d->a;
    ep_span s = {0};
    while (ep_next_span(&d->columns, &s)) {
        const int32_t unit = d->joined ? s.taps.end - s.taps.begin : 1;
        for (int32_t t = s.taps.begin; t < s.taps.end; t += unit) {
            const ptrdiff_t pixel = (ptrdiff_t)oy * a->out_w + s.start + t * a->dilation_w;
            for (int32_t g = 0; g < a->groups; g++) {
                const part p = {.x = ((ptrdiff_t)iy * a->in_w + s.at) * a->in_c + (ptrdiff_t)g * d->group_in,
                                .y = pixel * a->out_c + (ptrdiff_t)g * d->group_out,
                                .w = (ptrdiff_t)g * d->group_in * d->taps +
                                     ((ptrdiff_t)ky * a->kernel_w + t) * d->group_out,
                                .run = s.run,
                                .width = unit * d->group_out};
                f(d, &p, data);
            }
        }
    }
}

/* All parts of one image. */
static void visit_image(const deconv *d, visit *f, void *data)
{
    const ep_conv2d_attr *a = d->a;
    for (int32_t iy = 0; iy < a->in_h; iy++) {
        const int32_t top = iy * a->stride_h - a->pad_top;
        const ep_taps rows = ep_taps_inside(top, a->kernel_h, a->dilation_h, a->out_h);
        for (int32_t ky = rows.begin; ky < rows.end; ky++) {
            visit_row(d, iy, ky, top + ky * a->dilation_h, f, data);
        }
    }
}

typedef struct images {
    const float *x, *w;
    float *y;
} images;

/* y += x . w. */
static void forward_part(const deconv *d, const part *p, void *data)
{
    const images *i = data;
    const ep_outer_f32 o = {.c = i->y + p->y,
                            .a = i->x + p->x,
                            .b = i->w + p->w,
                            .c_step = (ptrdiff_t)d->a->stride_w * d->a->out_c,
                            .a_row = d->a->in_c,
                            .a_step = 1,
                            .b_step = d->taps,
                            .rows = p->run,
                            .columns = p->width,
                            .count = d->group_in};
    EP_KERNEL(d->ep, outer_f32)(&o);
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const deconv d = make_deconv(ep, node);
    const float *bias = ep_in(ep, node, 2);
    images i = {ep_in(ep, node, 0), ep_in(ep, node, 1), ep_out(ep, node, 0)};
    for (uint32_t k = 0; k < n; k++) {
        for (int32_t pixel = 0; pixel < a->out_h * a->out_w; pixel++) {
            memcpy(i.y + (ptrdiff_t)pixel * a->out_c, bias, (size_t)a->out_c * sizeof *bias);
        }
        visit_image(&d, forward_part, &i);
        ep_clamp_output(ep, i.y, a->lo, a->hi, ep_out_tensor(ep, node, 0)->count);
        i.x += ep_in_tensor(ep, node, 0)->count;
        i.y += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_op ep_conv_transpose2d_f32 = {forward};

#ifndef EP_NO_TRAIN

typedef struct gradients {
    const float *x, *w, *dy;
    float *dx, *dw;
} gradients;

/* dx += dy . w^T. */
static void dx_part(const deconv *d, const part *p, void *data)
{
    const gradients *i = data;
    const ep_dots_f32 o = {.y = i->dx + p->x,
                           .base = i->dx + p->x,
                           .x = i->dy + p->y,
                           .w = i->w + p->w,
                           .y_step = d->a->in_c,
                           .base_step = d->a->in_c,
                           .x_step = (ptrdiff_t)d->a->stride_w * d->a->out_c,
                           .w_step = d->taps,
                           .rows = p->run,
                           .columns = d->group_in,
                           .count = p->width};
    EP_KERNEL(d->ep, dots_f32)(&o);
}

/* dw += x^T . dy. */
static void dw_part(const deconv *d, const part *p, void *data)
{
    const gradients *i = data;
    const ep_outer_f32 o = {.c = i->dw + p->w,
                            .a = i->x + p->x,
                            .b = i->dy + p->y,
                            .c_step = d->taps,
                            .a_row = 1,
                            .a_step = d->a->in_c,
                            .b_step = (ptrdiff_t)d->a->stride_w * d->a->out_c,
                            .rows = d->group_in,
                            .columns = p->width,
                            .count = p->run};
    EP_KERNEL(d->ep, outer_f32)(&o);
}

static void visit_batch(const ep_t *ep, const ep_node *node, uint32_t n, visit *f, gradients *i)
{
    const deconv d = make_deconv(ep, node);
    for (uint32_t k = 0; k < n; k++) {
        visit_image(&d, f, i);
        i->x += ep_in_tensor(ep, node, 0)->count;
        i->dy += ep_out_tensor(ep, node, 0)->count;
        i->dx = i->dx != NULL ? i->dx + ep_in_tensor(ep, node, 0)->count : NULL;
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    ep_mask_output(ep, node, a->lo, a->hi, n);
    gradients i = {
        .x = ep_in(ep, node, 0), .w = ep_in(ep, node, 1), .dy = ep_dout(ep, node, 0), .dx = ep_begin_din(ep, node, n)};
    if (i.dx != NULL) visit_batch(ep, node, n, dx_part, &i);
}

/* What tap (ky, kx) of some weights sums over one image; o: into a tile. */
static void add_tap(const deconv *d, int32_t ky, int32_t kx, ep_outer_f32 *o, const float *x, const float *dy)
{
    const ep_conv2d_attr *a = d->a;
    const int32_t left = kx * a->dilation_w - a->pad_left;
    const ep_taps run = ep_taps_inside(left, a->in_w, a->stride_w, a->out_w);
    for (int32_t iy = 0; iy < a->in_h; iy++) {
        const int32_t oy = iy * a->stride_h - a->pad_top + ky * a->dilation_h;
        if (oy < 0 || oy >= a->out_h || run.end == run.begin) continue;
        o->a = x + ((ptrdiff_t)iy * a->in_w + run.begin) * a->in_c;
        o->b = dy + ((ptrdiff_t)oy * a->out_w + left + run.begin * a->stride_w) * a->out_c;
        o->count = run.end - run.begin;
        EP_KERNEL(d->ep, outer_f32)(o);
    }
}

/* dw of one tap, input channels c .. and output channels k .. of group g, summed on the stack and handed over. */
static void emit_tile(const deconv *d, const ep_node *node, uint32_t n, const ep_sink *sink, int32_t tap, int32_t c,
                      int32_t k)
{
    const ep_conv2d_attr *a = d->a;
    const int32_t left_in = d->group_in - c % d->group_in, left_out = d->group_out - k;
    const float *x = (const float *)ep_in(d->ep, node, 0) + c;
    const float *dy = ep_dout(d->ep, node, 0) + c / d->group_in * d->group_out + k;
    float tile[EP_TILE_ROWS * EP_TILE_COLUMNS] = {0};
    ep_outer_f32 o = {.c = tile,
                      .c_step = EP_TILE_COLUMNS,
                      .a_row = 1,
                      .a_step = a->in_c,
                      .b_step = (ptrdiff_t)a->stride_w * a->out_c};
    o.rows = left_in < EP_TILE_ROWS ? left_in : EP_TILE_ROWS;
    o.columns = left_out < EP_TILE_COLUMNS ? left_out : EP_TILE_COLUMNS;
    for (uint32_t i = 0; i < n; i++) {
        add_tap(d, tap / a->kernel_w, tap % a->kernel_w, &o, x, dy);
        x += ep_in_tensor(d->ep, node, 0)->count;
        dy += ep_out_tensor(d->ep, node, 0)->count;
    }
    for (int32_t r = 0; r < o.rows; r++) {
        const uint32_t first = (uint32_t)((c + r) * d->taps + tap * d->group_out + k);
        ep_emit(d->ep, sink, node->io[1], first, (uint32_t)o.columns, 1.0f, tile + r * EP_TILE_COLUMNS);
    }
}

static void emit_weights(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const deconv d = make_deconv(ep, node);
    for (int32_t first = 0; first < d.a->in_c; first += d.group_in) {
        for (int32_t c = first; c < first + d.group_in; c += EP_TILE_ROWS) {
            for (int32_t tap = 0; tap < d.a->kernel_h * d.a->kernel_w; tap++) {
                for (int32_t k = 0; k < d.group_out; k += EP_TILE_COLUMNS) {
                    emit_tile(&d, node, n, sink, tap, c, k);
                }
            }
        }
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_conv2d_attr *a = node->attr;
    if (ep_trains(ep, node, 1)) {
        gradients i = {.x = ep_in(ep, node, 0), .dy = ep_dout(ep, node, 0), .dw = ep_sink_sums(ep, sink, node->io[1])};
        if (i.dw != NULL) {
            visit_batch(ep, node, n, dw_part, &i);
        } else {
            emit_weights(ep, node, n, sink);
        }
    }
    if (ep_trains(ep, node, 2)) {
        ep_emit_bias(ep, node, sink, a->out_c, n * (uint32_t)a->out_h * (uint32_t)a->out_w);
    }
}

/* A weight sees every input pixel once at most, a bias every output pixel. */
static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const float in = (float)a->in_h * (float)a->in_w, out = (float)a->out_h * (float)a->out_w;
    return ep_bound_layer(ep, node, n, (in > out ? in : out) * (float)n);
}

const ep_grad ep_conv_transpose2d_f32_grad = {backward, params, bound};

#endif

int ep_check_conv_transpose2d_f32(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    if (a == NULL || a->groups <= 0 || a->in_c <= 0 || a->out_c <= 0 || a->in_c % a->groups || a->out_c % a->groups ||
        !ep_valid_transposed_windows(a)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t kernel = ep_product(a->kernel_h, a->kernel_w, a->out_c / a->groups);
    const int ok =
        kernel != 0 &&
        ep_valid_layer_f32(model, node, ep_product(a->in_h, a->in_w, a->in_c), ep_product(a->in_c, (int32_t)kernel, 1),
                           ep_product(a->out_c, 1, 1), ep_product(a->out_h, a->out_w, a->out_c)) &&
        a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
