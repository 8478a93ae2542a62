/* The same values under another name: a reshape whose output must not share memory. */
#include "hx.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    memmove(ep_out(ep, node, 0), ep_in(ep, node, 0), n * ep_tensor_size(ep_in_tensor(ep, node, 0)));
}

const ep_op ep_copy = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const size_t count = (size_t)n * ep_in_tensor(ep, node, 0)->count;
    hx_pass_gradient(ep_din(ep, node, 0), ep_dout(ep, node, 0), count, ep_accumulates(node, 0));
}

const ep_grad ep_copy_grad = {backward, NULL, NULL};

#endif

int ep_check_copy(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    if (node->n_in != 1 || node->n_out != 1 || !a) {
        return EP_ERR_IMAGE;
    }
    const ep_tensor *x = &model->tensors[node->io[0]], *y = &model->tensors[node->io[1]];
    const uint32_t count = ep_product(a->count, 1, 1);
    const int ok = count != 0 && x->count == count && y->count == count && x->dtype == y->dtype && x->flags == 0 &&
                   (!node->grad || x->dtype == EP_F32);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
