/* y (batch, rows, columns) = clamp(a (batch, rows, count) . b), b (batch, count, columns) or, transposed,
 * (batch, columns, count): products of two computed matrices, in either memory order of the second. */
#include "common.h"

/* y (rows, columns) += x (rows, count) . w (columns, count)^T. */
static void add_dots(const ep_t *ep, float *y, const float *x, const float *w, int32_t rows, int32_t columns,
                     int32_t count)
{
    const ep_dots_f32 d = {.y = y,
                           .base = y,
                           .x = x,
                           .w = w,
                           .y_step = columns,
                           .base_step = columns,
                           .x_step = count,
                           .w_step = count,
                           .rows = rows,
                           .columns = columns,
                           .count = count};
    EP_KERNEL(ep, dots_f32)(&d);
}

/* y (rows, columns) += x (rows, count) . w (count, columns). */
static void add_product(const ep_t *ep, float *y, const float *x, const float *w, int32_t rows, int32_t columns,
                        int32_t count)
{
    const ep_outer_f32 o = {.c = y,
                            .a = x,
                            .b = w,
                            .c_step = columns,
                            .a_row = count,
                            .a_step = 1,
                            .b_step = columns,
                            .rows = rows,
                            .columns = columns,
                            .count = count};
    EP_KERNEL(ep, outer_f32)(&o);
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_matmul_attr *m = node->attr;
    const size_t batch = (size_t)n * (size_t)m->batch, size = batch * (size_t)m->rows * (size_t)m->columns;
    const float *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    float *const out = ep_out(ep, node, 0), *y = out;
    memset(y, 0, size * sizeof *y);
    for (size_t i = 0; i < batch; i++) {
        if (m->transposed) {
            add_dots(ep, y, a, b, m->rows, m->columns, m->count);
        } else {
            add_product(ep, y, a, b, m->rows, m->columns, m->count);
        }
        a += (ptrdiff_t)m->rows * m->count;
        b += (ptrdiff_t)m->count * m->columns;
        y += (ptrdiff_t)m->rows * m->columns;
    }
    ep_clamp_output(ep, out, m->lo, m->hi, size);
}

const ep_op ep_matmul_f32 = {forward};

#ifndef EP_NO_TRAIN

/* c (rows, columns) += p (count, rows)^T . q (count, columns). */
static void add_transposed(const ep_t *ep, float *c, const float *p, const float *q, int32_t rows, int32_t columns,
                           int32_t count)
{
    const ep_outer_f32 o = {.c = c,
                            .a = p,
                            .b = q,
                            .c_step = columns,
                            .a_row = 1,
                            .a_step = rows,
                            .b_step = columns,
                            .rows = rows,
                            .columns = columns,
                            .count = count};
    EP_KERNEL(ep, outer_f32)(&o);
}

/* da = dy . b^T. */
static void backward_a(const ep_t *ep, const ep_node *node, float *da, size_t batch)
{
    const ep_matmul_attr *m = node->attr;
    const float *b = ep_in(ep, node, 1), *dy = ep_dout(ep, node, 0);
    for (size_t i = 0; i < batch; i++) {
        if (m->transposed) {
            add_product(ep, da, dy, b, m->rows, m->count, m->columns);
        } else {
            add_dots(ep, da, dy, b, m->rows, m->count, m->columns);
        }
        da += (ptrdiff_t)m->rows * m->count;
        b += (ptrdiff_t)m->count * m->columns;
        dy += (ptrdiff_t)m->rows * m->columns;
    }
}

/* db = a^T . dy, or its transpose. */
static void backward_b(const ep_t *ep, const ep_node *node, float *db, size_t batch)
{
    const ep_matmul_attr *m = node->attr;
    const float *a = ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    for (size_t i = 0; i < batch; i++) {
        if (m->transposed) {
            add_transposed(ep, db, dy, a, m->columns, m->count, m->rows);
        } else {
            add_transposed(ep, db, a, dy, m->count, m->columns, m->rows);
        }
        a += (ptrdiff_t)m->rows * m->count;
        db += (ptrdiff_t)m->count * m->columns;
        dy += (ptrdiff_t)m->rows * m->columns;
    }
}

/* a first, because b may be the same tensor and then adds to what a has written. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_matmul_attr *m = node->attr;
    const size_t batch = (size_t)n * (size_t)m->batch;
    ep_mask_output(ep, node, m->lo, m->hi, n);
    float *da = ep_begin_din(ep, node, n), *db = ep_din(ep, node, 1);
    if (da != NULL) backward_a(ep, node, da, batch);
    if (db != NULL && !ep_accumulates(node, 1)) {
        memset(db, 0, batch * (size_t)m->count * (size_t)m->columns * sizeof *db);
    }
    if (db != NULL) backward_b(ep, node, db, batch);
}

const ep_grad ep_matmul_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_matmul_f32(const ep_model *model, const ep_node *node)
{
    const ep_matmul_attr *m = node->attr;
    const int ok = ep_valid_arity(node, 2, 0) &&
                   ep_valid_activation(model, node, 0, EP_F32, ep_product(m->batch, m->rows, m->count)) &&
                   ep_valid_activation(model, node, 1, EP_F32, ep_product(m->batch, m->count, m->columns)) &&
                   ep_valid_activation(model, node, 2, EP_F32, ep_product(m->batch, m->rows, m->columns)) &&
                   m->lo <= m->hi;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
