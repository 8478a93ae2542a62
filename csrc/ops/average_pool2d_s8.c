/* Average pooling on codes, in the float32 steps of ONNX Runtime's QLinearAveragePool: dequantize, sum row by row,
 * divide by the number of taps, divide by the output's scale, add its zero point (128 higher where the
 * graph has uint8 codes, which may round differently), round half to even. Taps count as ONNX says: where padding
 * does, those of a window that hangs over it do not. */
#include "../kernels/scalar_s8.h"
#include "../kernels/window.h"
#include "check_s8.h"

#define LANES 16 /* channels whose sums are kept at once, on the stack */

typedef struct pool_args {
    const ep_pool2d_attr *attr;
    float x_scale, y_scale;
    int32_t x_zero, y_zero;
    float offset; /* of the graph's codes */
} pool_args;

static void add_tap(float *sum, const int8_t *x, int32_t lanes, float scale, int32_t zero_point)
{
    for (int32_t i = 0; i < lanes; i++) {
        const float value = scale * (float)(x[i] - zero_point);
        sum[i] += value;
    }
}

static void average_row(const pool_args *p, int8_t *y, const float *sum, int32_t lanes, float count)
{
    for (int32_t i = 0; i < lanes; i++) {
        const float mean = sum[i] / count;
        const float scaled = mean / p->y_scale;
        float v = scaled + ((float)p->y_zero + p->offset);
        v = v < p->offset - 128.0f ? p->offset - 128.0f : v;
        v = v > p->offset + 127.0f ? p->offset + 127.0f : v;
        y[i] = (int8_t)(ep_nearest(v) - (int32_t)p->offset);
    }
}

/* How many of a window's taps along one axis are inside the image and its padding, which begins at -pad. */
static int32_t padded_taps(int32_t start, int32_t kernel, int32_t size)
{
    const ep_taps t = ep_taps_inside(start, kernel, 1, size);
    return t.end - t.begin;
}

/* What a window's sum is divided by. */
static float taps_of(const ep_pool2d_attr *a, const ep_window *at)
{
    int32_t rows = at->rows.end - at->rows.begin, columns = at->columns.end - at->columns.begin;
    if ((a->count_include_pad & 1) != 0) {
        rows = padded_taps(at->top + a->pad_top, a->kernel_h, a->pad_top + a->in_h + a->pad_bottom);
        columns = padded_taps(at->left + a->pad_left, a->kernel_w, a->pad_left + a->in_w + a->pad_right);
    }
    return (float)(rows * columns);
}

/* `lanes` channels at one position; x and y at the first of them. */
static void average_lanes(const pool_args *p, const int8_t *x, int8_t *y, const ep_window *at, int32_t lanes)
{
    const ep_pool2d_attr *a = p->attr;
    float sum[LANES] = {0.0f};
    for (int32_t ky = at->rows.begin; ky < at->rows.end; ky++) {
        const ptrdiff_t row = (ptrdiff_t)(at->top + ky) * a->in_w;
        for (int32_t kx = at->columns.begin; kx < at->columns.end; kx++) {
            add_tap(sum, x + (row + at->left + kx) * a->channels, lanes, p->x_scale, p->x_zero);
        }
    }
    average_row(p, y, sum, lanes, taps_of(a, at));
}

static void average_image(const pool_args *p, const int8_t *x, int8_t *y)
{
    const ep_pool2d_attr *a = p->attr;
    ep_window at;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        at.top = oy * a->stride_h - a->pad_top;
        at.rows = ep_taps_inside(at.top, a->kernel_h, 1, a->in_h);
        for (int32_t ox = 0; ox < a->out_w; ox++, y += a->channels) {
            at.left = ox * a->stride_w - a->pad_left;
            at.columns = ep_taps_inside(at.left, a->kernel_w, 1, a->in_w);
            for (int32_t c = 0; c < a->channels; c += LANES) {
                average_lanes(p, x + c, y + c, &at, a->channels - c < LANES ? a->channels - c : LANES);
            }
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_tensor *tx = ep_in_tensor(ep, node, 0), *ty = ep_out_tensor(ep, node, 0);
    const ep_pool2d_attr *a = node->attr;
    const float offset = (a->count_include_pad & 2) != 0 ? 128.0f : 0.0f;
    const pool_args p = {.attr = a,
                         .x_scale = tx->scale,
                         .y_scale = ty->scale,
                         .x_zero = tx->zero_point,
                         .y_zero = ty->zero_point,
                         .offset = offset};
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        average_image(&p, x, y);
        x += tx->count;
        y += ty->count;
    }
}

const ep_op ep_average_pool2d_s8 = {forward};

/* 1 if the first and the last window of an axis have a tap inside, so that no average is over nothing. */
static int meets(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t pad)
{
    return pad < kernel && (out - 1) * stride - pad < in;
}

int ep_check_average_pool2d_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 1, 1) || !ep_valid_pool_s8(model, node)) return EP_ERR_IMAGE;
    const ep_pool2d_attr *a = node->attr;
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, 1);
    const int ok = taps != 0 && a->count_include_pad >= 0 && a->count_include_pad <= 3 && a->dilation_h == 1 &&
                   a->dilation_w == 1 && (float)taps * 256.0f < 3.0e38f / model->tensors[node->io[0]].scale &&
                   meets(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->pad_top) &&
                   meets(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->pad_left);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
