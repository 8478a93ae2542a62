/* Fully connected layer on codes: y = requantize(bias + W x). */
#include "../kernels/portable_s8.h"
#include "check_s8.h"

/* One row of x (n_in,) to one of y (n_out,), EP_LANES outputs at a time. */
static void dense_row(const ep_dense_attr *attr, const int8_t *x, const int8_t *weight, const int32_t *bias,
                      const float *multiplier, int8_t *y, int32_t zero_point)
{
    for (int32_t k = 0; k < attr->n_out; k += EP_LANES) {
        const int32_t lanes = attr->n_out - k < EP_LANES ? attr->n_out - k : EP_LANES;
        int32_t acc[EP_LANES];
        memcpy(acc, bias + k, (size_t)lanes * sizeof *acc);
        ep_dot_rows_s8(acc, x, weight + (size_t)k * (size_t)attr->n_in, attr->n_in, lanes, attr->n_in);
        ep_requantize_row_s8(y + k, acc, multiplier + k, lanes, attr->lo, attr->hi, zero_point);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *attr = node->attr;
    const int8_t *x = ep_in(ep, node, 0), *weight = ep_in(ep, node, 1);
    int8_t *y = ep_out(ep, node, 0);
    const size_t rows = (size_t)n * (size_t)attr->rows;
    for (size_t i = 0; i < rows; i++) {
        dense_row(attr, x, weight, ep_in(ep, node, 2), ep_in(ep, node, 3), y, ep_out_tensor(ep, node, 0)->zero_point);
        x += attr->n_in;
        y += attr->n_out;
    }
}

const ep_op ep_dense_s8 = {forward};

int ep_check_dense_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 4, 1)) {
        return EP_ERR_IMAGE;
    }
    const ep_dense_attr *attr = node->attr;
    const uint32_t x = ep_product(attr->rows, attr->n_in, 1), y = ep_product(attr->rows, attr->n_out, 1);
    const int ok = x != 0 && y != 0 && model->tensors[node->io[0]].count == x &&
                   model->tensors[node->io[4]].count == y &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product(attr->n_out, attr->n_in, 1)) &&
                   ep_valid_sums_s8(model, node, (uint32_t)attr->n_out, (uint32_t)attr->n_in) &&
                   ep_valid_clamp_s8(model, node, attr->lo, attr->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
