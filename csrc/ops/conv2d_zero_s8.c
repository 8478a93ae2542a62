/* Convolution on codes whose weights have zero points of their own, one for each output channel (asymmetric int8 or uint8
 * weights): y = requantize(bias + sum of x * (weight - zero)). A fully connected layer is one of a single tap. The bias has
 * the input's zero point folded in over all taps, as in conv2d_s8. */
#include "../kernels/scalar_s8.h"
#include "../kernels/window.h"
#include "check_s8.h"

#define LANES 16 /* output channels whose sums are kept at once, on the stack */

typedef struct conv { /* what stays the same over the batch */
    const ep_t *ep;
    const ep_conv2d_attr *attr;
    const int8_t *w, *zeros;
    const int32_t *bias;
    ep_requant q;
    int32_t x_zero; /* what the padding holds */
    int32_t group_in, group_out, taps;
} conv;

/* sums += the tap at weights w of each channel; x: its channels, NULL in the padding. */
static void add_tap(const conv *c, int32_t *sums, const int8_t *x, const int8_t *w, const int8_t *zeros, int32_t lanes)
{
    int32_t total = 0;
    for (int32_t i = 0; x != NULL && i < c->group_in; i++) total += x[i];
    for (int32_t k = 0; k < lanes; k++, w += c->taps) {
        if (x != NULL) {
            sums[k] += ep_dot_s8(x, w, c->group_in) - zeros[k] * total;
            continue;
        }
        for (int32_t i = 0; i < c->group_in; i++) sums[k] += c->x_zero * (w[i] - zeros[k]);
    }
}

/* `lanes` output channels from k on at one position; x: the image at the first channel of their group. */
static void conv_lanes(const conv *c, const int8_t *x, int8_t *y, const ep_window *at, int32_t k, int32_t lanes)
{
    const ep_conv2d_attr *a = c->attr;
    const int8_t *w = c->w + (ptrdiff_t)k * c->taps;
    ep_requant q = c->q;
    int32_t sums[LANES];
    memcpy(sums, c->bias + k, (size_t)lanes * sizeof *sums);
    for (int32_t ky = 0; ky < a->kernel_h; ky++) {
        const ptrdiff_t row = (ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w;
        for (int32_t kx = 0; kx < a->kernel_w; kx++, w += c->group_in) {
            const int inside =
                ky >= at->rows.begin && ky < at->rows.end && kx >= at->columns.begin && kx < at->columns.end;
            const int8_t *tap = inside ? x + (row + at->left + kx * a->dilation_w) * a->in_c : NULL;
            add_tap(c, sums, tap, w, c->zeros + k, lanes);
        }
    }
    q.multiplier += k;
    EP_KERNEL(c->ep, requantize_s8)(y + k, sums, &q, lanes);
}

/* All output channels at one position; x: the image. */
static void conv_position(const conv *c, const int8_t *x, int8_t *y, const ep_window *at)
{
    for (int32_t g = 0; g < c->attr->groups; g++, x += c->group_in) {
        const int32_t end = (g + 1) * c->group_out;
        for (int32_t k = g * c->group_out; k < end; k += LANES) {
            conv_lanes(c, x, y, at, k, end - k < LANES ? end - k : LANES);
        }
    }
}

static void conv_image(const conv *c, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = c->attr;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        ep_window at = {oy * a->stride_h - a->pad_top, 0, {0, 0}, {0, 0}};
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
    const ep_tensor *tx = ep_in_tensor(ep, node, 0), *ty = ep_out_tensor(ep, node, 0);
    conv c = {.ep = ep, .attr = a, .x_zero = tx->zero_point};
    c.w = ep_in(ep, node, 1);
    c.bias = ep_in(ep, node, 2);
    c.q.multiplier = ep_in(ep, node, 3);
    c.q.lo = a->lo;
    c.q.hi = a->hi;
    c.q.zero_point = ty->zero_point;
    c.zeros = ep_in(ep, node, 4);
    c.group_in = a->in_c / a->groups;
    c.group_out = a->out_c / a->groups;
    c.taps = a->kernel_h * a->kernel_w * c.group_in;
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++, x += tx->count, y += ty->count) conv_image(&c, x, y);
}

const ep_op ep_conv2d_zero_s8 = {forward};

int ep_check_conv2d_zero_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 5, 1)) return EP_ERR_IMAGE;
    const ep_conv2d_attr *a = node->attr;
    const uint32_t x = ep_product(a->in_h, a->in_w, a->in_c), y = ep_product(a->out_h, a->out_w, a->out_c);
    if (x == 0 || y == 0 || model->tensors[node->io[0]].count != x || model->tensors[node->io[5]].count != y ||
        a->groups <= 0 || a->in_c % a->groups != 0 || a->out_c % a->groups != 0) {
        return EP_ERR_IMAGE;
    }
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, a->in_c / a->groups);
    const int ok = ep_valid_windows(a) && taps != 0 && taps < (1u << 30) &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product(a->out_c, (int32_t)taps, 1)) &&
                   ep_valid_const(model, node, 4, EP_I8, (uint32_t)a->out_c) &&
                   ep_valid_sums_s8(model, node, (uint32_t)a->out_c, 2 * taps) && /* weight - zero needs 9 bits */
                   ep_valid_clamp_s8(model, node, a->lo, a->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
