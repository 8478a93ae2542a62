/* y = x of any type: a Reshape or Flatten that needs memory of its own. In place where y is x, dx is dy. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const void *x = ep_in(ep, node, 0);
    void *y = ep_out(ep, node, 0);
    if (x != y) {
        const uint8_t dtype = ep_out_tensor(ep, node, 0)->dtype;
        const size_t size = dtype == EP_F32 || dtype == EP_I32 ? 4 : 1;
        memcpy(y, x, size * n * ep_out_tensor(ep, node, 0)->count);
    }
}

const ep_op ep_copy = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    ep_pass_gradient(ep_din(ep, node, 0), ep_dout(ep, node, 0), ep_accumulates(node, 0), count);
}

const ep_grad ep_copy_grad = {backward, NULL, NULL};

#endif

int ep_check_copy(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 0)) return EP_ERR_IMAGE;
    const uint8_t dtype = model->tensors[node->io[0]].dtype;
    const uint32_t count = ep_product(a->count, 1, 1);
    const int ok = ep_valid_activation(model, node, 0, dtype, count) &&
                   ep_valid_activation(model, node, 1, dtype, count) && (node->grad == NULL || dtype == EP_F32);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
