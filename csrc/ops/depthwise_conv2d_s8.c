/* Depthwise convolution on codes: each output channel sees one input channel. Bias and padding as in conv2d_s8: taps in
 * the padding all see the zero point, so they are a part of the bias, which lasts for all positions that lie alike. */
#include "../kernels/scalar_s8.h"
#include "../kernels/window.h"
#include "check_s8.h"
#include "padded_s8.h"

typedef struct depthwise { /* what stays the same over the batch */
    const ep_t *ep;
    const ep_conv2d_attr *attr;
    const int8_t *weight; /* (kernel_h, kernel_w, out_c) */
    const int32_t *bias;  /* (out_c) */
    ep_requant q;
    int32_t x_zero;
} depthwise;

static int all_inside(const ep_conv2d_attr *a, const ep_window *at)
{
    return at->rows.end - at->rows.begin == a->kernel_h && at->columns.end - at->columns.begin == a->kernel_w;
}

/* The bias of channels k .. k + lanes - 1 with what the taps in the padding give. */
static void pad_bias(const depthwise *d, int32_t *bias, const ep_window *at, int32_t k, int32_t lanes)
{
    const ep_conv2d_attr *a = d->attr;
    const int8_t *w = d->weight + k;
    memset(bias, 0, (size_t)lanes * sizeof *bias);
    for (int32_t ky = 0; d->x_zero != 0 && ky < a->kernel_h; ky++) {
        for (int32_t kx = 0; kx < a->kernel_w; kx++, w += a->out_c) {
            if (ky < at->rows.begin || ky >= at->rows.end || kx < at->columns.begin || kx >= at->columns.end) {
                EP_KERNEL(d->ep, sum_s8)(bias, w, lanes);
            }
        }
    }
    for (int32_t i = 0; i < lanes; i++) bias[i] = d->bias[k + i] + d->x_zero * bias[i];
}

/* Channels k .. k + lanes - 1 of `lines` x `run` positions, whose taps `at` says. x, y: the image, y at the first position. */
static void depthwise_block(const depthwise *d, const int8_t *x, int8_t *y, const ep_window *at, const int32_t *bias,
                            int32_t k, int32_t lanes, int32_t run, int32_t lines)
{
    const ep_conv2d_attr *a = d->attr;
    const ptrdiff_t line = (ptrdiff_t)a->in_w * a->in_c;
    const ptrdiff_t pixel =
        (ptrdiff_t)(at->top + at->rows.begin * a->dilation_h) * a->in_w + at->left + at->columns.begin * a->dilation_w;
    const ep_depthwise_s8 job = {.y = y + k,
                                 .x = x + pixel * a->in_c + k,
                                 .w = d->weight + (at->rows.begin * a->kernel_w + at->columns.begin) * a->out_c + k,
                                 .bias = bias,
                                 .q = {d->q.multiplier + k, d->q.lo, d->q.hi, d->q.zero_point},
                                 .y_line = (ptrdiff_t)a->out_w * a->out_c,
                                 .y_step = a->out_c,
                                 .x_line = a->stride_h * line,
                                 .x_step = (ptrdiff_t)a->stride_w * a->in_c,
                                 .x_row = a->dilation_h * line,
                                 .x_tap = (ptrdiff_t)a->dilation_w * a->in_c,
                                 .w_row = (ptrdiff_t)a->kernel_w * a->out_c,
                                 .w_tap = a->out_c,
                                 .lines = lines,
                                 .run = run,
                                 .channels = lanes,
                                 .kernel_h = at->rows.end - at->rows.begin,
                                 .kernel_w = at->columns.end - at->columns.begin};
    EP_KERNEL(d->ep, depthwise_s8)(&job);
}

/* Channels k .. k + lanes - 1 of one span of columns: rows of the image that see the same taps together. */
static void depthwise_column(const depthwise *d, const int8_t *x, int8_t *y, const ep_span *s, int32_t k, int32_t lanes)
{
    const ep_conv2d_attr *a = d->attr;
    const ep_axis rows = ep_make_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top);
    int32_t padded[EP_DEPTHWISE_LANES];
    for (ep_span r = {0}; ep_next_span(&rows, &r);) {
        const ep_window at = {r.start, s->start, r.taps, s->taps};
        const int32_t *bias = d->bias + k;
        if (!all_inside(a, &at)) {
            pad_bias(d, padded, &at, k, lanes);
            bias = padded;
        }
        depthwise_block(d, x, y + ((ptrdiff_t)r.at * a->out_w + s->at) * a->out_c, &at, bias, k, lanes, s->run, r.run);
    }
}

#ifdef EP_PAD_LINES

/* One image, as many lines of outputs at a time as what they see, padded, fits the stack. 0 if it is not one. */
static int depthwise_lines(const depthwise *d, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = d->attr;
    const ep_padded p = ep_make_padded(a, d->x_zero);
    EP_ALIGNED int8_t lines[EP_PATCH_BYTES + EP_FILL];
    ep_depthwise_s8 job = {.y = y,
                           .x = lines,
                           .w = d->weight,
                           .bias = d->bias,
                           .q = d->q,
                           .y_line = (ptrdiff_t)a->out_w * a->out_c,
                           .y_step = a->out_c,
                           .x_line = (ptrdiff_t)a->stride_h * p.line,
                           .x_step = (ptrdiff_t)a->stride_w * a->in_c,
                           .x_row = (ptrdiff_t)a->dilation_h * p.line,
                           .x_tap = (ptrdiff_t)a->dilation_w * a->in_c,
                           .w_row = (ptrdiff_t)a->kernel_w * a->out_c,
                           .w_tap = a->out_c,
                           .run = a->out_w,
                           .channels = a->out_c,
                           .kernel_h = a->kernel_h,
                           .kernel_w = a->kernel_w};
    for (int32_t oy = 0; p.most > 0 && oy < a->out_h; oy += job.lines) {
        job.lines = ep_pad_lines(&p, lines, x, oy);
        job.y = y + oy * job.y_line;
        EP_KERNEL(d->ep, depthwise_s8)(&job);
    }
    return p.most > 0;
}

#else

static int depthwise_lines(const depthwise *d, const int8_t *x, int8_t *y)
{
    (void)d, (void)x, (void)y;
    return 0;
}

#endif

/* One image, each output channel its own input channel. */
static void depthwise_image(const depthwise *d, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = d->attr;
    if (depthwise_lines(d, x, y)) return;
    const ep_axis columns = ep_make_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
    for (ep_span s = {0}; ep_next_span(&columns, &s);) {
        for (int32_t k = 0; k < a->out_c; k += EP_DEPTHWISE_LANES) {
            const int32_t lanes = a->out_c - k < EP_DEPTHWISE_LANES ? a->out_c - k : EP_DEPTHWISE_LANES;
            depthwise_column(d, x, y, &s, k, lanes);
        }
    }
}

/* One output channel at one position, where several share an input channel. */
static int32_t sum_channel(const depthwise *d, const int8_t *x, const ep_window *at, int32_t k)
{
    const ep_conv2d_attr *a = d->attr;
    const int32_t channel = k / (a->out_c / a->in_c);
    const int8_t *w = d->weight + k;
    int32_t sum = d->bias[k];
    for (int32_t ky = 0; ky < a->kernel_h; ky++) {
        const ptrdiff_t row = (ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w;
        for (int32_t kx = 0; kx < a->kernel_w; kx++, w += a->out_c) {
            const int inside =
                ky >= at->rows.begin && ky < at->rows.end && kx >= at->columns.begin && kx < at->columns.end;
            sum += (inside ? x[(row + at->left + kx * a->dilation_w) * a->in_c + channel] : d->x_zero) * *w;
        }
    }
    return sum;
}

/* One image, several output channels for each input channel. */
static void multiplied_image(const depthwise *d, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = d->attr;
    ep_window at;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        at.top = oy * a->stride_h - a->pad_top;
        at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
        for (int32_t ox = 0; ox < a->out_w; ox++, y += a->out_c) {
            at.left = ox * a->stride_w - a->pad_left;
            at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
            for (int32_t k = 0; k < a->out_c; k++) {
                const int32_t sum = sum_channel(d, x, &at, k);
                y[k] = ep_requantize(sum, d->q.multiplier[k], d->q.lo, d->q.hi, d->q.zero_point);
            }
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const depthwise d = {.ep = ep,
                         .attr = a,
                         .weight = ep_in(ep, node, 1),
                         .bias = ep_in(ep, node, 2),
                         .q = {ep_in(ep, node, 3), a->lo, a->hi, ep_out_tensor(ep, node, 0)->zero_point},
                         .x_zero = ep_in_tensor(ep, node, 0)->zero_point};
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        (a->out_c == a->in_c ? depthwise_image : multiplied_image)(&d, x, y);
        x += ep_in_tensor(ep, node, 0)->count;
        y += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_op ep_depthwise_conv2d_s8 = {forward};

int ep_check_depthwise_conv2d_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 4, 1)) return EP_ERR_IMAGE;
    const ep_conv2d_attr *a = node->attr;
    const uint32_t x = ep_product(a->in_h, a->in_w, a->in_c), y = ep_product(a->out_h, a->out_w, a->out_c);
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, 1);
    if (x == 0 || y == 0 || taps == 0 || model->tensors[node->io[0]].count != x ||
        model->tensors[node->io[4]].count != y || a->groups != a->in_c || a->out_c % a->in_c != 0) {
        return EP_ERR_IMAGE;
    }
    const int ok =
        ep_valid_windows(a) && ep_valid_const(model, node, 1, EP_I8, ep_product((int32_t)taps, a->out_c, 1)) &&
        ep_valid_sums_s8(model, node, (uint32_t)a->out_c, taps) && ep_valid_clamp_s8(model, node, a->lo, a->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
