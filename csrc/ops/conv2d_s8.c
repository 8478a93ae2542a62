/* Convolution on codes, with groups and dilation: y = requantize(bias + sum of taps). The bias has the input's zero
 * point folded in over all taps, so a tap in the padding counts as the zero point itself. */
#include "../kernels/portable_s8.h"
#include "check_s8.h"

typedef struct conv_args { /* what stays the same over the image */
    const ep_conv2d_attr *attr;
    const int8_t *weight;    /* (out_c, kernel_h, kernel_w, in_c / groups) */
    const int32_t *bias;     /* (out_c) */
    const float *multiplier; /* (out_c) */
    int32_t x_zero, y_zero;
    int32_t group_in; /* input channels of a group */
    int32_t taps;     /* kernel_h * kernel_w * group_in: weights of one output channel */
} conv_args;

/* A stretch of `count` weights at `w` of each of `lanes` channels that lies in the padding. */
static void pad_taps(const conv_args *c, int32_t *acc, const int8_t *w, int32_t lanes, int32_t count)
{
    if (c->x_zero != 0 && count > 0) {
        ep_sum_rows_s8(acc, c->x_zero, w, c->taps, lanes, count);
    }
}

/* One row of the kernels of `lanes` channels; `x`: the input row, at the group's first channel. */
static void kernel_row(const conv_args *c, int32_t *acc, const int8_t *x, const int8_t *w, int32_t lanes,
                       const ep_window *at)
{
    const ep_conv2d_attr *a = c->attr;
    const ep_taps t = at->columns;
    pad_taps(c, acc, w, lanes, t.begin * c->group_in);
    pad_taps(c, acc, w + t.end * c->group_in, lanes, (a->kernel_w - t.end) * c->group_in);
    if (t.begin < t.end && a->dilation_w == 1 && a->groups == 1) {
        x += (ptrdiff_t)(at->left + t.begin) * a->in_c;
        ep_dot_rows_s8(acc, x, w + t.begin * a->in_c, c->taps, lanes, (t.end - t.begin) * a->in_c);
        return;
    }
    for (int32_t kx = t.begin; kx < t.end; kx++) {
        const int8_t *tap = x + (ptrdiff_t)(at->left + kx * a->dilation_w) * a->in_c;
        ep_dot_rows_s8(acc, tap, w + kx * c->group_in, c->taps, lanes, c->group_in);
    }
}

/* `lanes` output channels of one group, from `k` on, at one position. `x`: the image, at the group's first channel. */
static void conv_lanes(const conv_args *c, const int8_t *x, int8_t *y, const ep_window *at, int32_t k, int32_t lanes)
{
    const ep_conv2d_attr *a = c->attr;
    const int32_t row_taps = a->kernel_w * c->group_in;
    const int8_t *w = c->weight + (size_t)k * (size_t)c->taps;
    int32_t acc[EP_LANES];
    memcpy(acc, c->bias + k, (size_t)lanes * sizeof *acc);
    pad_taps(c, acc, w, lanes, at->rows.begin * row_taps);
    pad_taps(c, acc, w + at->rows.end * row_taps, lanes, (a->kernel_h - at->rows.end) * row_taps);
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        const ptrdiff_t row = (ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w * a->in_c;
        kernel_row(c, acc, x + row, w + ky * row_taps, lanes, at);
    }
    ep_requantize_row_s8(y + k, acc, c->multiplier + k, lanes, a->lo, a->hi, c->y_zero);
}

/* All output channels at one position. */
static void conv_position(const conv_args *c, const int8_t *x, int8_t *y, const ep_window *at)
{
    const int32_t group_out = c->attr->out_c / c->attr->groups;
    for (int32_t group = 0; group < c->attr->groups; group++) {
        const int32_t first = group * group_out, end = first + group_out;
        for (int32_t k = first; k < end; k += EP_LANES) {
            conv_lanes(c, x + group * c->group_in, y, at, k, end - k < EP_LANES ? end - k : EP_LANES);
        }
    }
}

/* One image. */
static void conv_image(const conv_args *c, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = c->attr;
    ep_window at;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        at.top = oy * a->stride_h - a->pad_top;
        at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
        for (int32_t ox = 0; ox < a->out_w; ox++, y += a->out_c) {
            at.left = ox * a->stride_w - a->pad_left;
            at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
            conv_position(c, x, y, &at);
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const int32_t group_in = a->in_c / a->groups;
    const conv_args c = {a,
                         ep_in(ep, node, 1),
                         ep_in(ep, node, 2),
                         ep_in(ep, node, 3),
                         ep_in_tensor(ep, node, 0)->zero_point,
                         ep_out_tensor(ep, node, 0)->zero_point,
                         group_in,
                         a->kernel_h * a->kernel_w * group_in};
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        conv_image(&c, x, y);
        x += ep_in_tensor(ep, node, 0)->count;
        y += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_op ep_conv2d_s8 = {forward};

int ep_check_conv2d_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 4, 1)) {
        return EP_ERR_IMAGE;
    }
    const ep_conv2d_attr *a = node->attr;
    const uint32_t x = ep_product(a->in_h, a->in_w, a->in_c), y = ep_product(a->out_h, a->out_w, a->out_c);
    if (x == 0 || y == 0 || model->tensors[node->io[0]].count != x || model->tensors[node->io[4]].count != y ||
        a->groups <= 0 || a->in_c % a->groups != 0 || a->out_c % a->groups != 0) {
        return EP_ERR_IMAGE;
    }
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, a->in_c / a->groups);
    const int ok = ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
                   ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left) &&
                   taps != 0 && ep_valid_const(model, node, 1, EP_I8, ep_product(a->out_c, (int32_t)taps, 1)) &&
                   ep_valid_sums_s8(model, node, (uint32_t)a->out_c, taps) &&
                   ep_valid_clamp_s8(model, node, a->lo, a->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
