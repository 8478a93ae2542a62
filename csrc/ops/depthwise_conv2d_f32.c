/* Depthwise convolution, NHWC: output channel k sees input channel k / per_input alone. */
#include "common.h"

typedef struct depthwise { /* what stays the same over the batch */
    const ep_t *ep;
    const ep_conv2d_attr *attr;
    ep_axis rows, columns;
    const float *weight, *bias;
    int32_t per_input; /* output channels of one input channel */
} depthwise;

static depthwise make_depthwise(const ep_t *ep, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    const ep_axis columns = ep_make_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
    const ep_axis rows = ep_make_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top);
    const depthwise d = {.ep = ep,
                         .attr = a,
                         .rows = rows,
                         .columns = columns,
                         .weight = ep_in(ep, node, 1),
                         .bias = ep_in(ep, node, 2),
                         .per_input = a->out_c / a->in_c};
    return d;
}

static size_t image_in(const ep_conv2d_attr *a)
{
    return (size_t)a->in_h * (size_t)a->in_w * (size_t)a->in_c;
}

static ptrdiff_t pixel_of(const ep_conv2d_attr *a, const ep_window *at, int32_t ky, int32_t kx)
{
    return ((ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w + at->left + kx * a->dilation_w) * a->in_c;
}

/* Neighbouring positions that see the same taps, each output channel its own input channel; x: the image, y: the first. */
static void forward_span(const depthwise *d, const float *x, float *y, const ep_window *at, int32_t lines, int32_t run)
{
    const ep_conv2d_attr *a = d->attr;
    const ep_depthwise_f32 job = {.y = y,
                                  .x = x + pixel_of(a, at, at->rows.begin, at->columns.begin),
                                  .w = d->weight + (at->rows.begin * a->kernel_w + at->columns.begin) * a->out_c,
                                  .bias = d->bias,
                                  .y_line = (ptrdiff_t)a->out_w * a->out_c,
                                  .y_step = a->out_c,
                                  .x_line = (ptrdiff_t)a->stride_h * a->in_w * a->in_c,
                                  .x_step = (ptrdiff_t)a->stride_w * a->in_c,
                                  .x_row = (ptrdiff_t)a->dilation_h * a->in_w * a->in_c,
                                  .x_tap = (ptrdiff_t)a->dilation_w * a->in_c,
                                  .w_row = (ptrdiff_t)a->kernel_w * a->out_c,
                                  .w_tap = a->out_c,
                                  .lines = lines,
                                  .run = run,
                                  .channels = a->out_c,
                                  .kernel_h = at->rows.end - at->rows.begin,
                                  .kernel_w = at->columns.end - at->columns.begin};
    EP_KERNEL(d->ep, depthwise_f32)(&job);
}

/* One position, several output channels for each input channel. */
static void forward_multiplied(const depthwise *d, const float *x, float *y, const ep_window *at)
{
    const ep_conv2d_attr *a = d->attr;
    memcpy(y, d->bias, (size_t)a->out_c * sizeof *y);
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            const float *p = x + pixel_of(a, at, ky, kx), *w = d->weight + (ky * a->kernel_w + kx) * a->out_c;
            for (int32_t c = 0; c < a->in_c; c++, w += d->per_input) {
                EP_KERNEL(d->ep, axpy_f32)(y + c * d->per_input, p[c], w, (size_t)d->per_input);
            }
        }
    }
}

/* Rows of output of which the same taps are inside; y: the first of them. */
static void forward_rows(const depthwise *d, const float *x, float *y, const ep_span *rows)
{
    const ep_conv2d_attr *a = d->attr;
    ep_window at = {rows->start, 0, rows->taps, {0, 0}};
    for (ep_span s = {0}; ep_next_span(&d->columns, &s);) {
        float *first = y + (ptrdiff_t)s.at * a->out_c;
        at.columns = s.taps;
        at.left = s.start;
        if (d->per_input == 1) {
            forward_span(d, x, first, &at, rows->run, s.run);
            continue;
        }
        for (int32_t i = 0; i < rows->run * s.run; i++) {
            at.top = rows->start + i / s.run * a->stride_h;
            at.left = s.start + i % s.run * a->stride_w;
            forward_multiplied(d, x, first + ((ptrdiff_t)(i / s.run) * a->out_w + i % s.run) * a->out_c, &at);
        }
        at.top = rows->start;
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const depthwise d = make_depthwise(ep, node);
    const ep_conv2d_attr *a = d.attr;
    const size_t row = (size_t)a->out_w * (size_t)a->out_c;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++, x += image_in(a)) {
        for (ep_span s = {0}; ep_next_span(&d.rows, &s); y += row * (size_t)s.run) {
            forward_rows(&d, x, y, &s);
            ep_clamp_output(ep, y, a->lo, a->hi, row * (size_t)s.run);
        }
    }
}

const ep_op ep_depthwise_conv2d_f32 = {forward};

#ifndef EP_NO_TRAIN

/* The rows of the windows of output row oy; their columns are filled in on the way along it. */
static ep_window row_window(const ep_conv2d_attr *a, int32_t oy)
{
    ep_window at = {oy * a->stride_h - a->pad_top, 0, {0, 0}, {0, 0}};
    at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
    return at;
}

/* dx of a pixel += dy * w of one tap; (out_c,) each but dx (in_c,). */
static void backward_tap(const depthwise *d, float *restrict dx, const float *restrict dy, const float *restrict w)
{
    if (d->per_input == 1) {
        EP_KERNEL(d->ep, multiply_add_f32)(dx, dy, w, (size_t)d->attr->in_c);
        return;
    }
    for (int32_t c = 0; c < d->attr->in_c; c++, dy += d->per_input, w += d->per_input) {
        for (int32_t i = 0; i < d->per_input; i++) dx[c] += dy[i] * w[i];
    }
}

/* dx of everything the window at one output sees; dy (out_c,). */
static void backward_window(const depthwise *d, float *dx, const float *dy, const ep_window *at)
{
    const ep_conv2d_attr *a = d->attr;
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            backward_tap(d, dx + pixel_of(a, at, ky, kx), dy, d->weight + (ky * a->kernel_w + kx) * a->out_c);
        }
    }
}

static void backward_row(const depthwise *d, float *dx, const float *dy, int32_t oy)
{
    ep_window at = row_window(d->attr, oy);
    for (ep_span s = {0}; ep_next_span(&d->columns, &s);) {
        at.columns = s.taps;
        at.left = s.start;
        for (int32_t i = 0; i < s.run; i++, dy += d->attr->out_c, at.left += d->attr->stride_w) {
            backward_window(d, dx, dy, &at);
        }
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const depthwise d = make_depthwise(ep, node);
    const ep_conv2d_attr *a = d.attr;
    ep_mask_output(ep, node, a->lo, a->hi, n);
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (uint32_t i = 0; dx != NULL && i < n; i++, dx += image_in(a)) {
        for (int32_t oy = 0; oy < a->out_h; oy++, dy += a->out_w * a->out_c) {
            backward_row(&d, dx, dy, oy);
        }
    }
}

/* sum += dy * x over neighbouring outputs, for `lanes` output channels from k on; x and dy at the first one's channel 0. */
static void add_outputs(const depthwise *d, float *restrict sum, const float *x, const float *dy, int32_t k,
                        int32_t lanes, int32_t count)
{
    const ep_conv2d_attr *a = d->attr;
    const ptrdiff_t step = (ptrdiff_t)a->stride_w * a->in_c;
    for (int32_t i = 0; i < count; i++, x += step, dy += a->out_c) {
        if (d->per_input == 1) {
            EP_KERNEL(d->ep, multiply_add_f32)(sum, x + k, dy + k, (size_t)lanes);
            continue;
        }
        for (int32_t j = 0; j < lanes; j++) sum[j] += x[(k + j) / d->per_input] * dy[k + j];
    }
}

/* The gradient of tap (ky, kx), `lanes` output channels from k on, over all outputs that see the tap inside the image. */
static void sum_tap(const depthwise *d, float *sum, const float *x, const float *dy, uint32_t n, int32_t ky, int32_t kx,
                    int32_t k, int32_t lanes)
{
    const ep_conv2d_attr *a = d->attr;
    const int32_t row = ky * a->dilation_h - a->pad_top, column = kx * a->dilation_w - a->pad_left;
    const ep_taps outputs_y = ep_taps_inside(row, a->out_h, a->stride_h, a->in_h);
    const ep_taps outputs_x = ep_taps_inside(column, a->out_w, a->stride_w, a->in_w);
    const size_t image_out = (size_t)a->out_h * (size_t)a->out_w * (size_t)a->out_c;
    memset(sum, 0, (size_t)lanes * sizeof *sum);
    for (uint32_t i = 0; i < n && outputs_x.begin < outputs_x.end; i++, x += image_in(a), dy += image_out) {
        for (int32_t oy = outputs_y.begin; oy < outputs_y.end; oy++) {
            const ptrdiff_t pixel =
                (ptrdiff_t)(row + oy * a->stride_h) * a->in_w + column + outputs_x.begin * a->stride_w;
            const ptrdiff_t output = (ptrdiff_t)oy * a->out_w + outputs_x.begin;
            add_outputs(d, sum, x + pixel * a->in_c, dy + output * a->out_c, k, lanes, outputs_x.end - outputs_x.begin);
        }
    }
}

/* Every part of dweight is complete when it is handed over: no memory but the stack's. */
static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const depthwise d = make_depthwise(ep, node);
    const ep_conv2d_attr *a = d.attr;
    float sum[EP_TILE_COLUMNS];
    for (int32_t tap = 0; ep_trains(ep, node, 1) && tap < a->kernel_h * a->kernel_w; tap++) {
        for (int32_t k = 0; k < a->out_c; k += EP_TILE_COLUMNS) {
            const int32_t lanes = a->out_c - k < EP_TILE_COLUMNS ? a->out_c - k : EP_TILE_COLUMNS;
            sum_tap(&d, sum, ep_in(ep, node, 0), ep_dout(ep, node, 0), n, tap / a->kernel_w, tap % a->kernel_w, k,
                    lanes);
            ep_emit(ep, sink, node->io[1], (uint32_t)(tap * a->out_c + k), (uint32_t)lanes, 1.0f, sum);
        }
    }
    if (ep_trains(ep, node, 2)) {
        ep_emit_bias(ep, node, sink, a->out_c, n * (uint32_t)(a->out_h * a->out_w));
    }
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    return ep_bound_layer(ep, node, n, (float)a->out_h * (float)a->out_w * (float)n);
}

const ep_grad ep_depthwise_conv2d_f32_grad = {backward, params, bound};

#endif

int ep_check_depthwise_conv2d_f32(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    if (a == NULL || a->in_c <= 0 || a->groups != a->in_c || a->out_c % a->in_c != 0) {
        return EP_ERR_IMAGE;
    }
    const uint32_t weights = ep_product(a->kernel_h, a->kernel_w, a->out_c);
    const int ok = ep_valid_windows(a) &&
                   ep_valid_layer_f32(model, node, ep_product(a->in_h, a->in_w, a->in_c), weights,
                                      ep_product(a->out_c, 1, 1), ep_product(a->out_h, a->out_w, a->out_c)) &&
                   a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
