/* Helpers of the float32 ops. */
#ifndef HX_H
#define HX_H
#include "../internal.h"
#include "../kernels/window.h"
#include "check.h"
#include <string.h>
static inline float hx_dot_f32(const float *restrict x, const float *restrict w, int32_t count)
{
    float s0 = 0.0f, s1 = 0.0f, s2 = 0.0f, s3 = 0.0f;
    int32_t i = 0;
    for (; i + 4 <= count; i += 4) {
        s0 += x[i] * w[i];
        s1 += x[i + 1] * w[i + 1];
        s2 += x[i + 2] * w[i + 2];
        s3 += x[i + 3] * w[i + 3];
    }
    for (; i < count; i++) {
        s0 += x[i] * w[i];
    }
    return (s0 + s1) + (s2 + s3);
}

static inline void hx_axpy_f32(float *restrict y, float a, const float *restrict x, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] += a * x[i];
    }
}

static inline void hx_multiply_add_f32(float *restrict y, const float *restrict x, const float *restrict w,
                                       int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] += x[i] * w[i];
    }
}

static inline float hx_clamp_f32(float v, float lo, float hi)
{
    v = v < lo ? lo : v;
    return v > hi ? hi : v;
}

static inline void hx_clamp_row_f32(float *y, float lo, float hi, int32_t count)
{
    for (int32_t i = 0; i < count; i++) {
        y[i] = hx_clamp_f32(y[i], lo, hi);
    }
}

static inline int hx_clamps(float lo, float hi)
{
    return lo > -INFINITY || hi < INFINITY;
}

static inline void hx_begin_gradient(float *dx, size_t count, int adds)
{
    if (!adds) {
        memset(dx, 0, count * sizeof *dx);
    }
}

static inline ep_window hx_window_at(const ep_conv2d_attr *a, int32_t oy, int32_t ox)
{
    ep_window at;
    at.top = oy * a->stride_h - a->pad_top;
    at.left = ox * a->stride_w - a->pad_left;
    at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
    at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
    return at;
}

static inline ep_window hx_pool_window_at(const ep_pool2d_attr *a, int32_t oy, int32_t ox)
{
    ep_window at;
    at.top = oy * a->stride_h - a->pad_top;
    at.left = ox * a->stride_w - a->pad_left;
    at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
    at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
    return at;
}

static inline int hx_valid_io_f32(const ep_model *model, const ep_node *node, unsigned n_in, unsigned n_act)
{
    if (node->n_in != n_in || node->n_out != 1 || node->attr == NULL) {
        return 0;
    }
    for (unsigned i = 0; i <= n_in; i++) {
        const ep_tensor *t = &model->tensors[node->io[i]];
        if ((i < n_act || i == n_in) && (t->dtype != EP_F32 || (t->flags & (EP_CONST | EP_PARAM)) != 0)) {
            return 0;
        }
    }
    return 1;
}

static inline int hx_valid_count(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    return count != 0 && model->tensors[node->io[index]].count == count;
}

static inline int hx_valid_codes(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    const int lo = t->dtype == EP_U8 ? 0 : -128;
    return (t->dtype == EP_I8 || t->dtype == EP_U8) && t->count == count && t->scale > 0.0f && t->scale <= 3.0e38f &&
           t->zero_point >= lo && t->zero_point <= lo + 255;
}

static inline int hx_valid_scratch(const ep_model *model, const ep_node *node, uint32_t floats)
{
    int trains = 0;
    for (unsigned i = 0; i < node->n_in; i++) {
        trains |= (model->tensors[node->io[i]].flags & EP_PARAM) != 0;
    }
    return !trains || !node->grad || !model->train || model->train->scratch_bytes / 4u >= floats;
}

static inline int hx_valid_conv(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    return hx_valid_count(model, node, 0, ep_product(a->in_h, a->in_w, a->in_c)) &&
           hx_valid_count(model, node, node->n_in, ep_product(a->out_h, a->out_w, a->out_c)) && a->groups > 0 &&
           a->in_c % a->groups == 0 && a->out_c % a->groups == 0 &&
           ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
           ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
}

static inline int hx_valid_pool(const ep_model *model, const ep_node *node)
{
    const ep_pool2d_attr *a = node->attr;
    return hx_valid_count(model, node, 0, ep_product(a->in_h, a->in_w, a->channels)) &&
           hx_valid_count(model, node, 1, ep_product(a->out_h, a->out_w, a->channels)) &&
           ep_product(a->kernel_h, a->kernel_w, 1) != 0 &&
           ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
           ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
}

static inline int hx_valid_weight(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return t->dtype == EP_F32 && (t->flags & (EP_CONST | EP_PARAM)) != 0 && hx_valid_count(model, node, index, count);
}

#ifndef EP_NO_TRAIN
static inline float hx_gradient_bound(const ep_t *ep, const ep_node *node, size_t x_count, size_t dy_count, float terms)
{
    const float dy = ep_max_abs(ep_dout(ep, node, 0), dy_count);
    float x = 1.0f;
    if (ep_trains(ep, node, 1)) {
        const float largest = ep_max_abs(ep_in(ep, node, 0), x_count);
        x = largest <= 1.0f ? 1.0f : largest; /* NaN stays */
    }
    return terms * dy * x;
}
#endif

#ifndef EP_NO_TRAIN
static inline void hx_give_bias(const ep_t *ep, const ep_node *node, size_t rows, size_t channels, const ep_sink *sink)
{
    const float *dy = ep_dout(ep, node, 0);
    if (rows == 1) {
        ep_emit(ep, sink, node->io[2], 0, (uint32_t)channels, 1.0f, dy);
        return;
    }
    for (size_t k = 0; k < channels; k++) {
        float sum = 0.0f;
        for (size_t row = 0; row < rows; row++) {
            sum += dy[row * channels + k];
        }
        ep_emit(ep, sink, node->io[2], (uint32_t)k, 1, 1.0f, &sum);
    }
}
#endif

static inline void hx_pass_gradient(float *dx, const float *dy, size_t count, int adds)
{
    for (size_t i = 0; dx && i < count; i++) {
        dx[i] = adds ? dx[i] + dy[i] : dy[i];
    }
}

#endif
