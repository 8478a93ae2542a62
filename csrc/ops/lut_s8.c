/* Any function of one code, by table. May run in place. */
#include "check_s8.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const int8_t *x = ep_in(ep, node, 0);
    const int8_t *table = (const int8_t *)ep_in(ep, node, 1) + 128;
    int8_t *y = ep_out(ep, node, 0);
    const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    for (size_t i = 0; i < count; i++) y[i] = table[x[i]];
}

const ep_op ep_lut_s8 = {forward};

int ep_check_lut_s8(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *attr = node->attr;
    if (node->n_in != 2 || node->n_out != 1 || attr == NULL) return EP_ERR_IMAGE;
    const uint32_t count = ep_product(attr->count, 1, 1);
    const int ok = ep_valid_codes(model, node, 0, count) && ep_valid_codes(model, node, 2, count) &&
                   ep_valid_const(model, node, 1, EP_I8, 256);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
