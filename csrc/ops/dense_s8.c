/* Fully connected layer on codes: y = requantize(bias + W x). */
#include "../kernels/kernels.h"
#include "check_s8.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *a = node->attr;
    const ep_gemm_s8 g = {.y = ep_out(ep, node, 0),
                          .x = ep_in(ep, node, 0),
                          .w = ep_in(ep, node, 1),
                          .bias = ep_in(ep, node, 2),
                          .q = {ep_in(ep, node, 3), a->lo, a->hi, ep_out_tensor(ep, node, 0)->zero_point},
                          .y_step = a->n_out,
                          .x_step = a->n_in,
                          .rows = (int32_t)n * a->rows,
                          .columns = a->n_out,
                          .count = a->n_in,
                          .narrow = ep_in_tensor(ep, node, 1)->flags & EP_NARROW};
    EP_KERNEL(ep, gemm_s8)(&g);
}

const ep_op ep_dense_s8 = {forward};

int ep_check_dense_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 4, 1)) return EP_ERR_IMAGE;
    const ep_dense_attr *attr = node->attr;
    const uint32_t x = ep_product(attr->rows, attr->n_in, 1), y = ep_product(attr->rows, attr->n_out, 1);
    const int ok = x != 0 && y != 0 && model->tensors[node->io[0]].count == x &&
                   model->tensors[node->io[4]].count == y &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product(attr->n_out, attr->n_in, 1)) &&
                   ep_valid_sums_s8(model, node, (uint32_t)attr->n_out, (uint32_t)attr->n_in) &&
                   ep_valid_clamp_s8(model, node, attr->lo, attr->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
