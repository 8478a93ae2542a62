/* y (batch, rows, columns) = requantize(a (batch, rows, count) . b (batch, columns, count)^T), both matrices computed.
 *
 * gemm_s8 multiplies codes as they are. With zero points za and zb, the sum of (a - za) * (b - zb) is its sum of a * b
 * less za * sum of b - zb * sum of a + count * za * zb: that becomes the bias, made for some columns at a time. Where zb is
 * not 0 it also depends on the row, and rows go one by one. */
#include "../kernels/kernels.h"
#include "check_s8.h"

#define COLUMNS 32
#define COUNT_MAX 16384 /* so that no part of a sum leaves int32 */

static int32_t sum_of(const int8_t *v, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) sum += v[i];
    return sum;
}

/* Columns first .. first+width-1 of one matrix; g: of the whole of it, without bias. */
static void multiply_columns(const ep_t *ep, const ep_gemm_s8 *g, int32_t za, int32_t zb, int32_t first, int32_t width)
{
    int32_t fixed[COLUMNS], bias[COLUMNS];
    ep_gemm_s8 part = *g;
    part.w += (ptrdiff_t)first * g->count;
    part.y += first;
    part.columns = width;
    part.bias = bias;
    for (int32_t k = 0; k < width; k++) {
        fixed[k] = bias[k] = g->count * za * zb - za * sum_of(part.w + (ptrdiff_t)k * g->count, g->count);
    }
    part.rows = zb == 0 ? g->rows : 1;
    for (int32_t r = 0; r < g->rows; r += part.rows, part.x += g->x_step, part.y += g->y_step) {
        const int32_t of_row = zb == 0 ? 0 : zb * sum_of(part.x, g->count);
        for (int32_t k = 0; k < width; k++) bias[k] = fixed[k] - of_row;
        EP_KERNEL(ep, gemm_s8)(&part);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_matmul_attr *m = node->attr;
    const ep_tensor *a = ep_in_tensor(ep, node, 0), *b = ep_in_tensor(ep, node, 1), *y = ep_out_tensor(ep, node, 0);
    float multiplier[COLUMNS];
    ep_gemm_s8 g = {.y = ep_out(ep, node, 0),
                    .x = ep_in(ep, node, 0),
                    .w = ep_in(ep, node, 1),
                    .q = {multiplier, m->lo, m->hi, y->zero_point},
                    .y_step = m->columns,
                    .x_step = m->count,
                    .rows = m->rows,
                    .columns = m->columns,
                    .count = m->count,
                    .narrow = 0 /* b may be any codes */};
    for (int32_t k = 0; k < COLUMNS; k++) multiplier[k] = a->scale * b->scale / y->scale;
    for (size_t i = 0; i < (size_t)n * (size_t)m->batch; i++) {
        for (int32_t first = 0; first < m->columns; first += COLUMNS) {
            const int32_t width = m->columns - first < COLUMNS ? m->columns - first : COLUMNS;
            multiply_columns(ep, &g, a->zero_point, b->zero_point, first, width);
        }
        g.x += (ptrdiff_t)m->rows * m->count;
        g.w += (ptrdiff_t)m->columns * m->count;
        g.y += (ptrdiff_t)m->rows * m->columns;
    }
}

const ep_op ep_matmul_s8 = {forward};

int ep_check_matmul_s8(const ep_model *model, const ep_node *node)
{
    const ep_matmul_attr *m = node->attr;
    if (!ep_valid_io_s8(model, node, 2, 2)) return EP_ERR_IMAGE;
    const float scale = model->tensors[node->io[0]].scale * model->tensors[node->io[1]].scale;
    const int ok = m->transposed == 1 && m->count <= COUNT_MAX &&
                   ep_valid_activation(model, node, 0, EP_I8, ep_product(m->batch, m->rows, m->count)) &&
                   ep_valid_activation(model, node, 1, EP_I8, ep_product(m->batch, m->count, m->columns)) &&
                   ep_valid_activation(model, node, 2, EP_I8, ep_product(m->batch, m->rows, m->columns)) &&
                   scale / model->tensors[node->io[2]].scale <= 3.0e38f && ep_valid_clamp_s8(model, node, m->lo, m->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
