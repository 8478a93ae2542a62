/* y (rows, n_out) = clamp(x (rows, n_in) . weight (n_out, n_in)^T + bias). */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *a = node->attr;
    ep_dots_f32 d = {.y = ep_out(ep, node, 0),
                     .base = ep_in(ep, node, 2),
                     .x = ep_in(ep, node, 0),
                     .w = ep_in(ep, node, 1),
                     .y_step = a->n_out,
                     .x_step = a->n_in,
                     .w_step = a->n_in,
                     .rows = a->rows * (int32_t)n,
                     .columns = a->n_out,
                     .count = a->n_in};
    EP_KERNEL(ep, dots_f32)(&d);
    ep_clamp_output(ep, d.y, a->lo, a->hi, (size_t)d.rows * (size_t)d.columns);
}

const ep_op ep_dense_f32 = {forward};

#ifndef EP_NO_TRAIN

/* dx = dy . weight. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *a = node->attr;
    ep_mask_output(ep, node, a->lo, a->hi, n);
    float *dx = ep_begin_din(ep, node, n);
    if (dx != NULL) {
        const ep_outer_f32 o = {.c = dx,
                                .a = ep_dout(ep, node, 0),
                                .b = ep_in(ep, node, 1),
                                .c_step = a->n_in,
                                .a_row = a->n_out,
                                .a_step = 1,
                                .b_step = a->n_in,
                                .rows = a->rows * (int32_t)n,
                                .columns = a->n_in,
                                .count = a->n_out};
        EP_KERNEL(ep, outer_f32)(&o);
    }
}

/* dweight = dy^T . x of several rows, tile by tile. */
static void emit_tiles(const ep_t *ep, const ep_node *node, const ep_sink *sink, int32_t rows)
{
    const ep_dense_attr *a = node->attr;
    const float *dy = ep_dout(ep, node, 0), *x = ep_in(ep, node, 0);
    float tile[EP_TILE_ROWS * EP_TILE_COLUMNS];
    ep_outer_f32 o = {
        .c = tile, .c_step = EP_TILE_COLUMNS, .a_row = 1, .a_step = a->n_out, .b_step = a->n_in, .count = rows};
    for (int32_t k = 0; k < a->n_out; k += EP_TILE_ROWS) {
        for (int32_t j = 0; j < a->n_in; j += EP_TILE_COLUMNS) {
            memset(tile, 0, sizeof tile);
            o.a = dy + k;
            o.b = x + j;
            o.rows = a->n_out - k < EP_TILE_ROWS ? a->n_out - k : EP_TILE_ROWS;
            o.columns = a->n_in - j < EP_TILE_COLUMNS ? a->n_in - j : EP_TILE_COLUMNS;
            EP_KERNEL(ep, outer_f32)(&o);
            for (int32_t r = 0; r < o.rows; r++) {
                ep_emit(ep, sink, node->io[1], (uint32_t)((k + r) * a->n_in + j), (uint32_t)o.columns, 1.0f,
                        tile + r * EP_TILE_COLUMNS);
            }
        }
    }
}

/* Of a layer of one row; or of more, into the sums. */
static void params_of_row(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_dense_attr *a = node->attr;
    const int32_t rows = a->rows * (int32_t)n;
    if (ep_trains(ep, node, 1)) {
        ep_outer_f32 sum = {.c = ep_sink_sums(ep, sink, node->io[1]),
                            .a = ep_dout(ep, node, 0),
                            .b = ep_in(ep, node, 0),
                            .c_step = a->n_in,
                            .a_row = 1,
                            .a_step = a->n_out,
                            .b_step = a->n_in,
                            .rows = a->n_out,
                            .columns = a->n_in,
                            .count = rows};
        if (sum.c != NULL) {
            EP_KERNEL(ep, outer_f32)(&sum);
        } else { /* dy^T . x as it is, without memory for it */
            ep_emit_rank_one(ep, sink, node->io[1], (uint32_t)a->n_out, (uint32_t)a->n_in, sum.a, sum.b);
        }
    }
    if (ep_trains(ep, node, 2)) ep_emit_bias(ep, node, sink, a->n_out, (uint32_t)rows);
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_dense_attr *a = node->attr;
    const int32_t rows = a->rows * (int32_t)n;
    if (rows == 1 || ep_sink_adds(sink)) {
        params_of_row(ep, node, n, sink);
        return;
    }
    if (ep_trains(ep, node, 1)) emit_tiles(ep, node, sink, rows);
    if (ep_trains(ep, node, 2)) ep_emit_bias(ep, node, sink, a->n_out, (uint32_t)rows);
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    return ep_bound_layer(ep, node, n, (float)((const ep_dense_attr *)node->attr)->rows * (float)n);
}

const ep_grad ep_dense_f32_grad = {backward, params, bound};
const ep_grad ep_dense_row_f32_grad = {backward, params_of_row, bound};

#endif

int ep_check_dense_f32(const ep_model *model, const ep_node *node)
{
    if (node->attr == NULL) return EP_ERR_IMAGE;
    const ep_dense_attr *a = node->attr;
    const int ok = ep_valid_layer_f32(model, node, ep_product(a->rows, a->n_in, 1), ep_product(a->n_out, a->n_in, 1),
                                      ep_product(a->n_out, 1, 1), ep_product(a->rows, a->n_out, 1)) &&
                   a->lo <= a->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
