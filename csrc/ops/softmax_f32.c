/* Softmax and its logarithm over the last axis of (rows, channels), row by row. In place where y is x, dx is dy. */
#include "common.h"

typedef void row_function(const float *x, float *y, int32_t channels);

static void forward(const ep_t *ep, const ep_node *node, uint32_t n, row_function *of_row)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (uint32_t r = 0; r < rows; r++, x += a->channels, y += a->channels) of_row(x, y, a->channels);
}

static int check(const ep_model *model, const ep_node *node)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t count = a != NULL ? ep_product(a->rows, a->channels, 1) : 0;
    return ep_valid_unary_f32(model, node, count, count) ? EP_OK : EP_ERR_IMAGE;
}

static float largest_of(const float *x, int32_t channels)
{
    float largest = x[0];
    for (int32_t c = 1; c < channels; c++) largest = x[c] > largest ? x[c] : largest;
    return largest;
}

static void softmax_row(const float *x, float *y, int32_t channels)
{
    const float largest = largest_of(x, channels);
    float sum = 0.0f;
    for (int32_t c = 0; c < channels; c++) { /* no exponent above 0: nothing overflows */
        y[c] = expf(x[c] - largest);
        sum += y[c];
    }
    const float scale = 1.0f / sum;
    for (int32_t c = 0; c < channels; c++) y[c] *= scale;
}

static void log_softmax_row(const float *x, float *y, int32_t channels)
{
    const float largest = largest_of(x, channels);
    float sum = 0.0f;
    for (int32_t c = 0; c < channels; c++) sum += expf(x[c] - largest); /* no exponent above 0 */
    /* cppcheck-suppress invalidFunctionArg ; there is a channel, so sum is 1 or more */
    const float log_sum = logf(sum);
    for (int32_t c = 0; c < channels; c++) y[c] = (x[c] - largest) - log_sum;
}

#ifdef EP_NO_TRAIN

#define EP_SOFTMAX_GRAD(name)

#else

typedef void row_gradient(const float *y, const float *dy, float *dx, int32_t channels, int add);

static void backward(const ep_t *ep, const ep_node *node, uint32_t n, row_gradient *of_row)
{
    const ep_softmax_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    const int add = ep_accumulates(node, 0);
    const float *y = ep_out(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (uint32_t r = 0; dx != NULL && r < rows; r++, dx += a->channels, y += a->channels, dy += a->channels) {
        of_row(y, dy, dx, a->channels, add);
    }
}

/* dx = y * (dy - sum of dy * y). */
static void softmax_gradient(const float *y, const float *dy, float *dx, int32_t channels, int add)
{
    float sum = 0.0f;
    for (int32_t c = 0; c < channels; c++) sum += y[c] * dy[c];
    for (int32_t c = 0; c < channels; c++) {
        const float d = y[c] * (dy[c] - sum);
        dx[c] = add ? dx[c] + d : d;
    }
}

/* dx = dy - exp(y) * sum of dy. */
static void log_softmax_gradient(const float *y, const float *dy, float *dx, int32_t channels, int add)
{
    float sum = 0.0f;
    for (int32_t c = 0; c < channels; c++) sum += dy[c];
    for (int32_t c = 0; c < channels; c++) {
        const float d = dy[c] - expf(y[c]) * sum;
        dx[c] = add ? dx[c] + d : d;
    }
}

#define EP_SOFTMAX_GRAD(name)                                                    \
    static void name##_backward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                            \
        backward(ep, node, n, name##_gradient);                                  \
    }                                                                            \
    const ep_grad ep_##name##_f32_grad = {name##_backward, NULL, NULL};

#endif

#define EP_SOFTMAX(name)                                                        \
    static void name##_forward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                           \
        forward(ep, node, n, name##_row);                                       \
    }                                                                           \
    const ep_op ep_##name##_f32 = {name##_forward};                             \
    int ep_check_##name##_f32(const ep_model *model, const ep_node *node)       \
    {                                                                           \
        return check(model, node);                                              \
    }                                                                           \
    EP_SOFTMAX_GRAD(name)

EP_SOFTMAX(softmax)
EP_SOFTMAX(log_softmax)
