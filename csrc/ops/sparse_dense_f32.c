/* y (rows, n_out) = clamp(x (rows, n_in) . weight^T + bias) of a weight matrix (n_out, n_in) of which only some elements are
 * stored, row by row (compressed sparse rows): starts[k] is the first of row k, columns their places. Forward, backward and
 * update cost what is stored; what is not stored is zero and stays so. */
#include "common.h"

typedef struct matrix {
    const float *values;    /* (stored) */
    const int32_t *starts;  /* (n_out + 1) */
    const uint8_t *columns; /* (stored, 2) */
} matrix;

static matrix weight_of(const ep_t *ep, const ep_node *node)
{
    const matrix m = {ep_in(ep, node, 1), ep_in(ep, node, 3), ep_in(ep, node, 4)};
    return m;
}

static int32_t column(const uint8_t *columns, int32_t i)
{
    const uint8_t *c = columns + 2 * (size_t)i;
    return (int32_t)((uint32_t)c[0] | (uint32_t)c[1] << 8);
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_sparse_dense_attr *a = node->attr;
    const matrix m = weight_of(ep, node);
    const uint32_t rows = n * (uint32_t)a->rows;
    const float *x = ep_in(ep, node, 0), *bias = ep_in(ep, node, 2);
    float *y = ep_out(ep, node, 0);
    for (uint32_t r = 0; r < rows; r++, x += a->n_in, y += a->n_out) {
        for (int32_t k = 0; k < a->n_out; k++) {
            float sum = 0;
            for (int32_t i = m.starts[k]; i < m.starts[k + 1]; i++) {
                sum += x[column(m.columns, i)] * m.values[i];
            }
            y[k] = bias[k] + sum;
        }
        ep_clamp_output(ep, y, a->lo, a->hi, (size_t)a->n_out);
    }
}

const ep_op ep_sparse_dense_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = dy . weight. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_sparse_dense_attr *a = node->attr;
    const matrix m = weight_of(ep, node);
    const uint32_t rows = n * (uint32_t)a->rows;
    const float *dy = ep_dout(ep, node, 0);
    ep_mask_output(ep, node, a->lo, a->hi, n);
    float *dx = ep_begin_din(ep, node, n);
    for (uint32_t r = 0; dx != NULL && r < rows; r++, dx += a->n_in, dy += a->n_out) {
        for (int32_t k = 0; k < a->n_out; k++) {
            for (int32_t i = m.starts[k]; dy[k] != 0 && i < m.starts[k + 1]; i++) {
                dx[column(m.columns, i)] += dy[k] * m.values[i];
            }
        }
    }
}

/* dvalues = dy of a value's row times x of its column, a tile at a time. */
static void emit_values(const ep_t *ep, const ep_node *node, const ep_sink *sink, uint32_t rows)
{
    const ep_sparse_dense_attr *a = node->attr;
    const matrix m = weight_of(ep, node);
    float sum[EP_TILE_COLUMNS];
    for (int32_t k = 0; k < a->n_out; k++) {
        for (int32_t i = m.starts[k], lanes; i < m.starts[k + 1]; i += lanes) {
            const float *x = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
            lanes = m.starts[k + 1] - i < EP_TILE_COLUMNS ? m.starts[k + 1] - i : EP_TILE_COLUMNS;
            memset(sum, 0, sizeof sum);
            for (uint32_t r = 0; r < rows; r++, x += a->n_in, dy += a->n_out) {
                for (int32_t j = 0; j < lanes; j++) sum[j] += dy[k] * x[column(m.columns, i + j)];
            }
            ep_emit(ep, sink, node->io[1], (uint32_t)i, (uint32_t)lanes, 1.0f, sum);
        }
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_sparse_dense_attr *a = node->attr;
    const uint32_t rows = n * (uint32_t)a->rows;
    if (ep_trains(ep, node, 1)) emit_values(ep, node, sink, rows);
    if (ep_trains(ep, node, 2)) ep_emit_bias(ep, node, sink, a->n_out, rows);
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    return ep_bound_layer(ep, node, n, (float)((const ep_sparse_dense_attr *)node->attr)->rows * (float)n);
}

const ep_grad ep_sparse_dense_f32_grad = {backward, params, bound};

#endif

/* 1 if the rows follow one another from 0 to `stored` and every column is one of x. */
static int valid_places(const ep_sparse_dense_attr *a, const int32_t *starts, const uint8_t *columns)
{
    if (starts[0] != 0 || starts[a->n_out] != a->stored) return 0;
    for (int32_t k = 0; k < a->n_out; k++) {
        if (starts[k] > starts[k + 1]) return 0;
    }
    for (int32_t i = 0; i < a->stored; i++) {
        if (column(columns, i) >= a->n_in) return 0;
    }
    return 1;
}

int ep_check_sparse_dense_f32(const ep_model *model, const ep_node *node)
{
    const ep_sparse_dense_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 4)) return EP_ERR_IMAGE;
    const uint32_t starts = a->n_out < INT32_MAX ? ep_product(a->n_out, 1, 1) + 1 : 0;
    const int ok = ep_valid_activation(model, node, 0, EP_F32, ep_product(a->rows, a->n_in, 1)) &&
                   ep_valid_weight(model, node, 1, ep_product(a->stored, 1, 1)) &&
                   ep_valid_weight(model, node, 2, ep_product(a->n_out, 1, 1)) &&
                   ep_valid_const(model, node, 3, EP_I32, starts) &&
                   ep_valid_const(model, node, 4, EP_U8, ep_product(a->stored, 2, 1)) &&
                   ep_valid_activation(model, node, 5, EP_F32, ep_product(a->rows, a->n_out, 1)) && a->lo <= a->hi;
    return ok && valid_places(a, model->tensors[node->io[3]].data, model->tensors[node->io[4]].data) ? EP_OK
                                                                                                     : EP_ERR_IMAGE;
}
