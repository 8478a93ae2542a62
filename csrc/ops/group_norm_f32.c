/* y = clamp((x - mean) * scale / sqrt(variance + epsilon) + bias) of x (rows, size, channels): the mean and the variance are
 * those of a row's `size` positions of one of the `groups` groups of channels (Wu & He 2018); scale and bias per channel. One
 * group and size 1: layer normalization (Ba et al. 2016); as many groups as channels: instance normalization (Ulyanov et al.
 * 2016); without mean (`center` 0): the root of the mean square (Zhang & Sennrich 2019). In place where y is x, unless the
 * backward or the gradient of the scale reads x. Mean and variance are computed again where they are needed. */
#include "common.h"

#include <float.h>

#define TILE (EP_TILE_ROWS * EP_TILE_COLUMNS) /* channels whose scale's gradient is summed at once */

typedef struct moments {
    float mean, inverse; /* 1 / sqrt(variance + epsilon); 0 where that is infinite, as of zeros without epsilon */
} moments;

/* Sum of x - mean, or of its square, over `count` elements. */
static float sum_row(const float *x, int32_t count, float mean, int square)
{
    float sum[4] = {0, 0, 0, 0};
    for (int32_t i = 0; i < count; i++) {
        const float d = x[i] - mean;
        sum[i & 3] += square ? d * d : d;
    }
    return (sum[0] + sum[1]) + (sum[2] + sum[3]);
}

/* The same over all positions of a group, in blocks lest small terms get lost. */
static float sum_group(const ep_group_norm_attr *a, const float *x, float mean, int square)
{
    const int32_t width = a->channels / a->groups;
    float sum = 0;
    for (int32_t i = 0; i < a->size;) {
        float block = 0;
        for (int32_t end = a->size - i < 64 ? a->size : i + 64; i < end; i++, x += a->channels) {
            block += sum_row(x, width, mean, square);
        }
        sum += block;
    }
    return sum;
}

static float count_of(const ep_group_norm_attr *a)
{
    return (float)a->size * (float)(a->channels / a->groups);
}

static moments measure(const ep_group_norm_attr *a, const float *x)
{
    const float count = count_of(a);
    moments m = {0, 0};
    if (a->center) m.mean = sum_group(a, x, 0, 0) / count;
    const float variance = sum_group(a, x, m.mean, 1) / count + a->epsilon;
    m.inverse = variance == 0 ? 0 : 1.0f / sqrtf(variance);
    return m;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_group_norm_attr *a = node->attr;
    const int32_t width = a->channels / a->groups;
    const size_t row = (size_t)a->size * (size_t)a->channels, rows = (size_t)n * (size_t)a->rows;
    const float *x = ep_in(ep, node, 0), *scale = ep_in(ep, node, 1), *bias = ep_in(ep, node, 2);
    float *y = ep_out(ep, node, 0);
    for (size_t r = 0; r < rows; r++, x += row, y += row) {
        for (int32_t c = 0; c < a->channels; c += width) {
            const moments m = measure(a, x + c);
            for (size_t at = (size_t)c; at < row; at += (size_t)a->channels) {
                for (int32_t i = 0; i < width; i++) {
                    y[at + (size_t)i] = (x[at + (size_t)i] - m.mean) * m.inverse * scale[c + i] + bias[c + i];
                }
            }
        }
        ep_clamp_output(ep, y, a->lo, a->hi, row);
    }
}

const ep_op ep_group_norm_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = (g - mean(g) - z * mean(g * z)) / sqrt(variance + epsilon) of one group, where g = dy * scale and z is x, normalized. */
static void group_backward(const ep_group_norm_attr *a, const float *x, const float *dy, const float *scale, float *dx,
                           int add)
{
    const int32_t width = a->channels / a->groups;
    const size_t row = (size_t)a->size * (size_t)a->channels;
    const moments m = measure(a, x);
    float mean_g = 0, mean_gz = 0;
    for (size_t at = 0; at < row; at += (size_t)a->channels) {
        float sum_g = 0, sum_gz = 0;
        for (int32_t i = 0; i < width; i++) {
            const float g = dy[at + (size_t)i] * scale[i];
            sum_g += g;
            sum_gz += g * ((x[at + (size_t)i] - m.mean) * m.inverse);
        }
        mean_g += sum_g;
        mean_gz += sum_gz;
    }
    mean_g = a->center ? mean_g / count_of(a) : 0;
    mean_gz /= count_of(a);
    for (size_t at = 0; at < row; at += (size_t)a->channels) {
        for (int32_t i = 0; i < width; i++) {
            const size_t k = at + (size_t)i;
            const float z = (x[k] - m.mean) * m.inverse;
            const float d = (dy[k] * scale[i] - mean_g - z * mean_gz) * m.inverse;
            dx[k] = add ? dx[k] + d : d;
        }
    }
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_group_norm_attr *a = node->attr;
    const size_t row = (size_t)a->size * (size_t)a->channels, rows = (size_t)n * (size_t)a->rows;
    const float *x = ep_in(ep, node, 0), *scale = ep_in(ep, node, 1), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    ep_mask_output(ep, node, a->lo, a->hi, n);
    for (size_t r = 0; dx != NULL && r < rows; r++) {
        for (int32_t c = 0; c < a->channels; c += a->channels / a->groups) {
            const size_t at = r * row + (size_t)c;
            group_backward(a, x + at, dy + at, scale + c, dx + at, ep_accumulates(node, 0));
        }
    }
}

/* sum (lanes) += dy * z of channels first .. first+lanes-1, over all positions of one row. */
static void add_row(const ep_group_norm_attr *a, const float *x, const float *dy, int32_t first, int32_t lanes,
                    float *sum)
{
    const int32_t width = a->channels / a->groups;
    const size_t row = (size_t)a->size * (size_t)a->channels;
    for (int32_t c = first, end; c < first + lanes; c = end) {
        const int32_t start = c / width * width;
        const moments m = measure(a, x + start);
        end = start + width < first + lanes ? start + width : first + lanes;
        for (size_t at = 0; at < row; at += (size_t)a->channels) {
            for (int32_t i = c; i < end; i++) {
                sum[i - first] += dy[at + (size_t)i] * ((x[at + (size_t)i] - m.mean) * m.inverse);
            }
        }
    }
}

static void emit_scale(const ep_t *ep, const ep_node *node, const ep_sink *sink, size_t rows)
{
    const ep_group_norm_attr *a = node->attr;
    const size_t row = (size_t)a->size * (size_t)a->channels;
    const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float sum[TILE];
    for (int32_t c = 0; c < a->channels; c += TILE) {
        const int32_t lanes = a->channels - c < TILE ? a->channels - c : TILE;
        memset(sum, 0, sizeof sum);
        for (size_t r = 0; r < rows; r++) add_row(a, x + r * row, dy + r * row, c, lanes, sum);
        ep_emit(ep, sink, node->io[1], (uint32_t)c, (uint32_t)lanes, 1.0f, sum);
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_group_norm_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    if (ep_trains(ep, node, 1)) emit_scale(ep, node, sink, rows);
    if (ep_trains(ep, node, 2)) ep_emit_bias(ep, node, sink, a->channels, rows * (uint32_t)a->size);
}

/* |z| is at most sqrt(count); twice that allows for squares that underflow. Where squares overflow there is no bound. */
static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_group_norm_attr *a = node->attr;
    const size_t count = (size_t)n * ep_in_tensor(ep, node, 0)->count;
    const float terms = (float)n * (float)a->rows * (float)a->size;
    float largest = EP_KERNEL(ep, max_abs_f32)(ep_dout(ep, node, 0), count) * terms * (1.0f + terms * 1.2e-7f);
    if (ep_trains(ep, node, 1)) {
        const float x = EP_KERNEL(ep, max_abs_f32)(ep_in(ep, node, 0), count);
        if (!(4.0f * x * x * count_of(a) <= FLT_MAX)) { /* NaN too */
            return INFINITY;
        }
        largest *= 2.0f * sqrtf(count_of(a));
    }
    return largest;
}

const ep_grad ep_group_norm_f32_grad = {backward, params, bound};

#endif

int ep_check_group_norm_f32(const ep_model *model, const ep_node *node)
{
    const ep_group_norm_attr *a = node->attr;
    if (a == NULL) return EP_ERR_IMAGE;
    const uint32_t count = ep_product(a->rows, a->size, a->channels), channels = ep_product(a->channels, 1, 1);
    const int ok = ep_valid_layer_f32(model, node, count, channels, channels, count) && a->groups > 0 &&
                   a->channels % a->groups == 0 && a->epsilon >= 0 && a->epsilon <= FLT_MAX && a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
