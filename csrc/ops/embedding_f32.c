/* y[r] = table[ids[r]], a row (width,) each. An id outside the table gives zeros: ids come from the caller, not the model. */
#include "common.h"

/* Row of the table, or -1 if there is none; negative ids count from the end. */
static int64_t row_of(const ep_embedding_attr *a, int32_t id)
{
    const int64_t row = id < 0 ? (int64_t)id + a->vocabulary : id;
    return row < a->vocabulary ? (row < 0 ? -1 : row) : -1;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_embedding_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->rows, width = (size_t)a->width;
    const int32_t *ids = ep_in(ep, node, 0);
    const float *table = ep_in(ep, node, 1);
    float *y = ep_out(ep, node, 0);
    for (size_t r = 0; r < rows; r++, y += width) {
        const int64_t row = row_of(a, ids[r]);
        if (row < 0) {
            memset(y, 0, width * sizeof *y);
        } else {
            memcpy(y, table + (size_t)row * width, width * sizeof *y);
        }
    }
}

const ep_op ep_embedding_f32 = {forward};

#ifndef EP_NO_TRAIN

/* Ids have no gradient. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    (void)ep;
    (void)node;
    (void)n;
}

/* Row `row` of the table, all positions where it was read summed; rows that were not read get zeros. */
static void emit_row(const ep_t *ep, const ep_node *node, const ep_sink *sink, size_t rows, int32_t row)
{
    const ep_embedding_attr *a = node->attr;
    const int32_t *ids = ep_in(ep, node, 0);
    const float *dy = ep_dout(ep, node, 0);
    float sum[EP_TILE_COLUMNS];
    for (int32_t c = 0; c < a->width; c += EP_TILE_COLUMNS) {
        const int32_t lanes = a->width - c < EP_TILE_COLUMNS ? a->width - c : EP_TILE_COLUMNS;
        memset(sum, 0, sizeof sum);
        for (size_t r = 0; r < rows; r++) {
            if (row_of(a, ids[r]) == row) {
                EP_KERNEL(ep, add_f32)(sum, dy + r * (size_t)a->width + c, (size_t)lanes);
            }
        }
        ep_emit(ep, sink, node->io[1], (uint32_t)row * (uint32_t)a->width + (uint32_t)c, (uint32_t)lanes, 1.0f, sum);
    }
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    const ep_embedding_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->rows, width = (size_t)a->width;
    const int32_t *ids = ep_in(ep, node, 0);
    const float *dy = ep_dout(ep, node, 0);
    if (!ep_trains(ep, node, 1)) return;
    float *sums = ep_sink_sums(ep, sink, node->io[1]);
    for (size_t r = 0; sums != NULL && r < rows; r++) {
        const int64_t row = row_of(a, ids[r]);
        if (row >= 0) EP_KERNEL(ep, add_f32)(sums + (size_t)row * width, dy + r * width, width);
    }
    for (int32_t row = 0; sums == NULL && row < a->vocabulary; row++) {
        emit_row(ep, node, sink, rows, row);
    }
}

/* A row may be read at all positions. */
static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const float terms = (float)((const ep_embedding_attr *)node->attr)->rows * (float)n;
    const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    return EP_KERNEL(ep, max_abs_f32)(ep_dout(ep, node, 0), count) * terms * (1.0f + terms * 1.2e-7f);
}

const ep_grad ep_embedding_f32_grad = {backward, params, bound};

#endif

int ep_check_embedding_f32(const ep_model *model, const ep_node *node)
{
    const ep_embedding_attr *a = node->attr;
    const int ok = ep_valid_arity(node, 1, 1) &&
                   ep_valid_activation(model, node, 0, EP_I32, ep_product(a->rows, 1, 1)) &&
                   ep_valid_weight(model, node, 1, ep_product(a->vocabulary, a->width, 1)) &&
                   ep_valid_activation(model, node, 2, EP_F32, ep_product(a->rows, a->width, 1));
    return ok ? EP_OK : EP_ERR_IMAGE;
}
