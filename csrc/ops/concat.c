/* y (outer, sum of inner_i) = the inputs (outer, inner_i) side by side, constant ones the same in every sample. Elements of 1
 * or 4 bytes. */
#include "common.h"

/* The most inputs: ep_node.accumulate has a bit for each. */
#define MOST_INPUTS 8

static int is_constant(const ep_t *ep, const ep_node *node, unsigned i)
{
    return (ep_in_tensor(ep, node, i)->flags & EP_CONST) != 0;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_concat_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->outer, size = (size_t)a->size;
    const size_t y_step = ep_out_tensor(ep, node, 0)->count / (size_t)a->outer * size;
    uint8_t *y = ep_out(ep, node, 0);
    for (unsigned i = 0; i < node->n_in; i++) {
        const size_t inner = ep_in_tensor(ep, node, i)->count / (size_t)a->outer * size;
        const size_t own = is_constant(ep, node, i) ? (size_t)a->outer : rows;
        const uint8_t *x = ep_in(ep, node, i);
        for (size_t r = 0; r < rows; r++) memmove(y + r * y_step, x + r % own * inner, inner);
        y += inner;
    }
}

const ep_op ep_concat = {forward};

#ifndef EP_NO_TRAIN

/* Each input in its turn: one that comes twice then adds to what it has written. */
static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_concat_attr *a = node->attr;
    const size_t rows = (size_t)n * (size_t)a->outer;
    const size_t y_step = ep_out_tensor(ep, node, 0)->count / (size_t)a->outer;
    const float *dy = ep_dout(ep, node, 0);
    for (unsigned i = 0; i < node->n_in; i++) {
        const size_t inner = ep_in_tensor(ep, node, i)->count / (size_t)a->outer;
        float *dx = is_constant(ep, node, i) ? NULL : ep_din(ep, node, i);
        for (size_t r = 0; dx != NULL && r < rows; r++) {
            ep_pass_gradient(dx + r * inner, dy + r * y_step, ep_accumulates(node, i), inner);
        }
        dy += inner;
    }
}

const ep_grad ep_concat_grad = {backward, NULL, NULL};

#endif

int ep_check_concat(const ep_model *model, const ep_node *node)
{
    const ep_concat_attr *a = node->attr;
    if (a == NULL || a->outer <= 0 || node->n_in == 0 || node->n_in > MOST_INPUTS || node->n_out != 1) {
        return EP_ERR_IMAGE;
    }
    const uint8_t dtype = model->tensors[node->io[0]].dtype;
    uint64_t total = 0;
    for (unsigned i = 0; i < node->n_in; i++) {
        const uint32_t count = model->tensors[node->io[i]].count;
        if (count % (uint32_t)a->outer != 0 ||
            !(ep_valid_activation(model, node, i, dtype, count) || ep_valid_const(model, node, i, dtype, count))) {
            return EP_ERR_IMAGE;
        }
        total += count;
    }
    const int ok = total <= INT32_MAX && ep_valid_activation(model, node, node->n_in, dtype, (uint32_t)total) &&
                   a->size == (dtype == EP_F32 || dtype == EP_I32 ? 4 : 1) && (node->grad == NULL || dtype == EP_F32);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
