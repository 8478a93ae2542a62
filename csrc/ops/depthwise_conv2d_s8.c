/* Depthwise convolution on codes: each output channel sees one input channel. Bias and padding as in conv2d_s8. */
#include "../kernels/portable_s8.h"
#include "check_s8.h"

typedef struct depthwise_args { /* what stays the same over the image */
    const ep_conv2d_attr *attr;
    const int8_t *weight;    /* (kernel_h, kernel_w, out_c) */
    const int32_t *bias;     /* (out_c) */
    const float *multiplier; /* (out_c) */
    int32_t x_zero, y_zero;
    int32_t per_input; /* output channels of one input channel */
} depthwise_args;

/* One tap: acc[i] += x of output channel k + i, times w[i]. `x`: the pixel's first channel. */
static void add_tap(const depthwise_args *d, int32_t *acc, const int8_t *x, const int8_t *w, int32_t k, int32_t lanes)
{
    if (d->per_input == 1) {
        ep_multiply_add_s8(acc, x + k, w, lanes);
        return;
    }
    int32_t channel = k / d->per_input, used = k % d->per_input;
    for (int32_t i = 0; i < lanes; i++) {
        acc[i] += (int32_t)x[channel] * w[i];
        if (++used == d->per_input) {
            used = 0;
            channel++;
        }
    }
}

/* Taps `begin` to `end` of a kernel row, in the padding. */
static void add_pad(const depthwise_args *d, int32_t *acc, const int8_t *w, int32_t begin, int32_t end, int32_t lanes)
{
    for (int32_t kx = begin; d->x_zero != 0 && kx < end; kx++) {
        const int8_t *tap = w + (ptrdiff_t)kx * d->attr->out_c;
        for (int32_t i = 0; i < lanes; i++) {
            acc[i] += d->x_zero * tap[i];
        }
    }
}

/* Output channels k .. k + lanes - 1 at one position. */
static void depthwise_lanes(const depthwise_args *d, const int8_t *x, int8_t *y, const ep_window *at, int32_t k,
                            int32_t lanes)
{
    const ep_conv2d_attr *a = d->attr;
    const int8_t *w = d->weight + k;
    int32_t acc[EP_LANES];
    memcpy(acc, d->bias + k, (size_t)lanes * sizeof *acc);
    for (int32_t ky = 0; ky < a->kernel_h; ky++) {
        const int inside = ky >= at->rows.begin && ky < at->rows.end;
        const int32_t begin = inside ? at->columns.begin : 0, end = inside ? at->columns.end : 0;
        const int8_t *row = w + (ptrdiff_t)ky * a->kernel_w * a->out_c;
        add_pad(d, acc, row, 0, begin, lanes);
        for (int32_t kx = begin; kx < end; kx++) {
            const ptrdiff_t pixel = (ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w + at->left + kx * a->dilation_w;
            add_tap(d, acc, x + pixel * a->in_c, row + (ptrdiff_t)kx * a->out_c, k, lanes);
        }
        add_pad(d, acc, row, end, a->kernel_w, lanes);
    }
    ep_requantize_row_s8(y + k, acc, d->multiplier + k, lanes, a->lo, a->hi, d->y_zero);
}

/* One image. */
static void depthwise_image(const depthwise_args *d, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = d->attr;
    ep_window at;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        at.top = oy * a->stride_h - a->pad_top;
        at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
        for (int32_t ox = 0; ox < a->out_w; ox++, y += a->out_c) {
            at.left = ox * a->stride_w - a->pad_left;
            at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
            for (int32_t k = 0; k < a->out_c; k += EP_LANES) {
                depthwise_lanes(d, x, y, &at, k, a->out_c - k < EP_LANES ? a->out_c - k : EP_LANES);
            }
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const depthwise_args d = {a,
                              ep_in(ep, node, 1),
                              ep_in(ep, node, 2),
                              ep_in(ep, node, 3),
                              ep_in_tensor(ep, node, 0)->zero_point,
                              ep_out_tensor(ep, node, 0)->zero_point,
                              a->out_c / a->in_c};
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        depthwise_image(&d, x, y);
        x += ep_in_tensor(ep, node, 0)->count;
        y += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_op ep_depthwise_conv2d_s8 = {forward};

int ep_check_depthwise_conv2d_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 4, 1)) {
        return EP_ERR_IMAGE;
    }
    const ep_conv2d_attr *a = node->attr;
    const uint32_t x = ep_product(a->in_h, a->in_w, a->in_c), y = ep_product(a->out_h, a->out_w, a->out_c);
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, 1);
    if (x == 0 || y == 0 || taps == 0 || model->tensors[node->io[0]].count != x ||
        model->tensors[node->io[4]].count != y || a->groups != a->in_c || a->out_c % a->in_c != 0) {
        return EP_ERR_IMAGE;
    }
    const int ok = ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
                   ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left) &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product((int32_t)taps, a->out_c, 1)) &&
                   ep_valid_sums_s8(model, node, (uint32_t)a->out_c, taps) &&
                   ep_valid_clamp_s8(model, node, a->lo, a->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
