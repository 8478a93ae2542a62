/* Convolution in float32, groups and dilation included. */
#include "hx.h"

typedef struct conv_args { /* what stays the same over the image */
    const ep_conv2d_attr *attr;
    int32_t in_g, out_g; /* channels of a group */
    size_t filter;       /* weights of one output channel */
} conv_args;

static conv_args conv_of(const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    conv_args c = {a, a->in_c / a->groups, a->out_c / a->groups, 0};
    c.filter = (size_t)a->kernel_h * (size_t)a->kernel_w * (size_t)c.in_g;
    return c;
}

/* A run of taps of one kernel row whose inputs and weights both lie side by side: `count` floats. Without dilation and
 * groups it is the whole row of the window, else a single tap. */
typedef struct conv_run {
    size_t x, w;
    int32_t count, runs; /* floats in a run, runs in this kernel row */
    int32_t x_step;      /* from run to run */
} conv_run;

static conv_run run_of(const conv_args *c, const ep_window *at, int32_t ky)
{
    const ep_conv2d_attr *a = c->attr;
    const int32_t taps = at->columns.end - at->columns.begin;
    const size_t row = (size_t)(at->top + ky * a->dilation_h) * (size_t)a->in_w;
    const int whole = a->groups == 1 && a->dilation_w == 1;
    conv_run r;
    r.x = taps > 0 ? (row + (size_t)(at->left + at->columns.begin * a->dilation_w)) * (size_t)a->in_c : 0;
    r.w = ((size_t)ky * (size_t)a->kernel_w + (size_t)at->columns.begin) * (size_t)c->in_g;
    r.count = whole ? taps * c->in_g : c->in_g;
    r.runs = whole ? taps > 0 : taps;
    r.x_step = a->dilation_w * a->in_c;
    return r;
}

static float window_dot(const conv_args *c, const float *x, const float *w, const ep_window *at)
{
    float sum = 0.0f;
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        const conv_run r = run_of(c, at, ky);
        for (int32_t i = 0; i < r.runs; i++) {
            sum += hx_dot_f32(x + r.x + i * r.x_step, w + r.w + i * r.count, r.count);
        }
    }
    return sum;
}

/* dx += dy w over the window. */
static void window_dx(const conv_args *c, float *dx, const float *w, float dy, const ep_window *at)
{
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        const conv_run r = run_of(c, at, ky);
        for (int32_t i = 0; i < r.runs; i++) {
            hx_axpy_f32(dx + r.x + i * r.x_step, dy, w + r.w + i * r.count, r.count);
        }
    }
}

/* dw += dy x over the window. */
static void window_dw(const conv_args *c, float *dw, const float *x, float dy, const ep_window *at)
{
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        const conv_run r = run_of(c, at, ky);
        for (int32_t i = 0; i < r.runs; i++) {
            hx_axpy_f32(dw + r.w + i * r.count, dy, x + r.x + i * r.x_step, r.count);
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const conv_args c = conv_of(node);
    const ep_conv2d_attr *a = c.attr;
    const float *x = ep_in(ep, node, 0), *weight = ep_in(ep, node, 1), *bias = ep_in(ep, node, 2);
    float *y = ep_out(ep, node, 0);
    for (; n-- > 0; x += ep_in_tensor(ep, node, 0)->count) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, y += a->out_c) {
            const ep_window at = hx_window_at(a, p / a->out_w, p % a->out_w);
            for (int32_t k = 0; k < a->out_c; k++) {
                const float *group = x + (size_t)(k / c.out_g) * (size_t)c.in_g;
                const float sum = bias[k] + window_dot(&c, group, weight + (size_t)k * c.filter, &at);
                y[k] = hx_clamp_f32(sum, a->lo, a->hi);
            }
        }
    }
}

const ep_op ep_conv2d_f32 = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const conv_args c = conv_of(node);
    const ep_conv2d_attr *a = c.attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count, out = ep_out_tensor(ep, node, 0)->count;
    const float *weight = ep_in(ep, node, 1);
    float *dy = ep_dout(ep, node, 0), *dx = ep_din(ep, node, 0);
    ep_mask_clamp(dy, ep_out(ep, node, 0), a->lo, a->hi, out * n);
    if (!dx) {
        return;
    }
    hx_begin_gradient(dx, in * n, ep_accumulates(node, 0));
    for (; n-- > 0; dx += in) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, dy += a->out_c) {
            const ep_window at = hx_window_at(a, p / a->out_w, p % a->out_w);
            for (int32_t k = 0; k < a->out_c; k++) {
                float *group = dx + (size_t)(k / c.out_g) * (size_t)c.in_g;
                window_dx(&c, group, weight + (size_t)k * c.filter, dy[k], &at);
            }
        }
    }
}

/* The gradient of one filter and its bias: sums over samples and positions. Scratch: one filter. */
static void give_filter(const ep_t *ep, const ep_node *node, const conv_args *c, uint32_t n, int32_t k,
                        const ep_sink *sink)
{
    const ep_conv2d_attr *a = c->attr;
    const float *x = (const float *)ep_in(ep, node, 0) + (size_t)(k / c->out_g) * (size_t)c->in_g;
    const float *dy = (const float *)ep_dout(ep, node, 0) + k;
    const int weight_trains = ep_trains(ep, node, 1);
    float *dw = ep_scratch(ep), dbias = 0.0f;
    if (weight_trains) {
        memset(dw, 0, c->filter * sizeof *dw);
    }
    for (; n-- > 0; x += ep_in_tensor(ep, node, 0)->count) {
        for (int32_t p = 0; p < a->out_h * a->out_w; p++, dy += a->out_c) {
            dbias += *dy;
            if (weight_trains) {
                const ep_window at = hx_window_at(a, p / a->out_w, p % a->out_w);
                window_dw(c, dw, x, *dy, &at);
            }
        }
    }
    if (weight_trains) {
        ep_emit(ep, sink, node->io[1], (uint32_t)((size_t)k * c->filter), (uint32_t)c->filter, 1.0f, dw);
    }
    if (ep_trains(ep, node, 2)) {
        ep_emit(ep, sink, node->io[2], (uint32_t)k, 1, 1.0f, &dbias);
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const conv_args c = conv_of(node);
    for (int32_t k = 0; k < c.attr->out_c; k++) {
        give_filter(ep, node, &c, n, k, sink);
    }
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count, out = ep_out_tensor(ep, node, 0)->count;
    return hx_gradient_bound(ep, node, in * n, out * n, (float)n * (float)a->out_h * (float)a->out_w);
}

const ep_grad ep_conv2d_f32_grad = {backward, params, bound};

#endif

int ep_check_conv2d_f32(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    if (!hx_valid_io_f32(model, node, 3, 1) || !hx_valid_conv(model, node)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t filter = ep_product(a->kernel_h, a->kernel_w, a->in_c / a->groups);
    const int ok = filter != 0 && hx_valid_weight(model, node, 1, ep_product((int32_t)filter, a->out_c, 1)) &&
                   hx_valid_weight(model, node, 2, ep_product(a->out_c, 1, 1)) && a->lo <= a->hi &&
                   hx_valid_scratch(model, node, filter);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
