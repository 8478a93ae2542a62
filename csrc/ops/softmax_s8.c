/* Softmax on codes, in the steps of ONNX Runtime's QLinearSoftmax: exponentials from a table, a float32 sum, a
 * division in double. May run in place. */
#include "check_s8.h"

static int32_t largest(const int8_t *x, int32_t count)
{
    int32_t max = x[0];
    for (int32_t i = 1; i < count; i++) max = x[i] > max ? x[i] : max;
    return max;
}

/* v >= 0 rounded half to even; v below 2^30. */
static int32_t round_positive(double v)
{
    const int32_t whole = (int32_t)v;
    const double rest = v - (double)whole;
    return whole + (rest > 0.5 || (rest >= 0.5 && (whole & 1) != 0));
}

/* One row of codes (channels,). `table`: of the largest code, so that table[q - max] is its exponential. */
static void softmax_row(const int8_t *x, int8_t *y, const float *table, int32_t channels, double inverse,
                        int32_t zero_point)
{
    const int32_t max = largest(x, channels);
    const double limit = (double)(127 - zero_point);
    float sum = 0.0f;
    for (int32_t i = 0; i < channels; i++) sum += table[x[i] - max];
    for (int32_t i = 0; i < channels; i++) {
        const double v = (double)table[x[i] - max] * inverse / (double)sum;
        y[i] = (int8_t)(round_positive(v < limit ? v : limit) + zero_point);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_softmax_attr *attr = node->attr;
    const ep_tensor *ty = ep_out_tensor(ep, node, 0);
    const double inverse = (double)floorf(1.0f / ty->scale);
    const int8_t *x = ep_in(ep, node, 0);
    const float *table = (const float *)ep_in(ep, node, 1) + 255;
    int8_t *y = ep_out(ep, node, 0);
    const size_t rows = (size_t)n * (size_t)attr->rows;
    for (size_t i = 0; i < rows; i++) {
        softmax_row(x, y, table, attr->channels, inverse, ty->zero_point);
        x += attr->channels;
        y += attr->channels;
    }
}

const ep_op ep_softmax_s8 = {forward};

/* 1 if no entry is negative, the last is positive and no sum of `channels` of them overflows. */
static int valid_table(const float *table, int32_t channels)
{
    for (int32_t i = 0; i < 256; i++) {
        if (!(table[i] >= 0.0f && table[i] <= 3.0e38f / (float)channels)) return 0;
    }
    return table[255] > 0.0f;
}

int ep_check_softmax_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 2, 1)) return EP_ERR_IMAGE;
    const ep_softmax_attr *attr = node->attr;
    const ep_tensor *y = &model->tensors[node->io[2]];
    const uint32_t count = ep_product(attr->rows, attr->channels, 1);
    const int ok = count != 0 && model->tensors[node->io[0]].count == count && y->count == count &&
                   y->scale > 1.0e-30f && ep_valid_const(model, node, 1, EP_F32, 256) &&
                   valid_table(model->tensors[node->io[1]].data, attr->channels);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
