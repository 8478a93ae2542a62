/* Fully connected layer: y = clamp(W x + b). */
#include "../kernels/portable_f32.h"
#include "check.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0), *weight = ep_in(ep, node, 1), *bias = ep_in(ep, node, 2);
    float *y = ep_out(ep, node, 0);
    for (size_t row = (size_t)n * (size_t)a->rows; row-- > 0; x += a->n_in, y += a->n_out) {
        const float *w = weight;
        for (int32_t k = 0; k < a->n_out; k++, w += a->n_in) {
            y[k] = ep_clamp_f32(bias[k] + ep_dot_f32(x, w, a->n_in), a->lo, a->hi);
        }
    }
}

const ep_op ep_dense_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = W^T dy, one row of W at a time. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->rows;
    float *dy = ep_dout(ep, node, 0), *dx = ep_din(ep, node, 0);
    ep_mask_clamp(dy, ep_out(ep, node, 0), a->lo, a->hi, rows * (size_t)a->n_out);
    if (!dx) {
        return;
    }
    ep_begin_gradient(dx, rows * (size_t)a->n_in, ep_accumulates(node, 0));
    for (size_t row = 0; row < rows; row++, dx += a->n_in, dy += a->n_out) {
        const float *w = ep_in(ep, node, 1);
        for (int32_t k = 0; k < a->n_out; k++, w += a->n_in) {
            ep_axpy_f32(dx, dy[k], w, a->n_in);
        }
    }
}

/* One row of dW: the sum over rows of dy[k] x. Scratch: n_in floats, only when several rows meet one optimizer step. */
static void give_weight_row(const ep_t *ep, const ep_node *node, size_t rows, int32_t k, const ep_sink *sink)
{
    const ep_dense_attr *a = node->attr;
    const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    const uint32_t at = (uint32_t)(k * a->n_in), count = (uint32_t)a->n_in;
    if (rows == 1 || ep_sink_adds(sink)) {
        for (size_t row = 0; row < rows; row++) {
            ep_emit(ep, sink, node->io[1], at, count, dy[row * (size_t)a->n_out + (size_t)k], x + row * count);
        }
        return;
    }
    float *sum = ep_scratch(ep);
    memset(sum, 0, count * sizeof *sum);
    for (size_t row = 0; row < rows; row++) {
        ep_axpy_f32(sum, dy[row * (size_t)a->n_out + (size_t)k], x + row * count, a->n_in);
    }
    ep_emit(ep, sink, node->io[1], at, count, 1.0f, sum);
}

/* dW = dy x^T, db = dy. */
static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_dense_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->rows;
    for (int32_t k = 0; ep_trains(ep, node, 1) && k < a->n_out; k++) {
        give_weight_row(ep, node, rows, k, sink);
    }
    if (ep_trains(ep, node, 2)) {
        ep_give_bias(ep, node, rows, (size_t)a->n_out, sink);
    }
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->rows;
    return ep_gradient_bound(ep, node, rows * (size_t)a->n_in, rows * (size_t)a->n_out, (float)rows);
}

const ep_grad ep_dense_f32_grad = {backward, params, bound};

#endif

int ep_check_dense_f32(const ep_model *model, const ep_node *node)
{
    const ep_dense_attr *a = node->attr;
    if (!ep_valid_io_f32(model, node, 3, 1)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t row = ep_product(a->n_in, 1, 1);
    const int ok = ep_valid_count(model, node, 0, ep_product(a->rows, a->n_in, 1)) &&
                   ep_valid_count(model, node, 3, ep_product(a->rows, a->n_out, 1)) &&
                   ep_valid_weight(model, node, 1, ep_product(a->n_out, a->n_in, 1)) &&
                   ep_valid_weight(model, node, 2, ep_product(a->n_out, 1, 1)) && a->lo <= a->hi &&
                   ep_valid_scratch(model, node, a->rows > 1 ? row : 0);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
