/* Any function of one code, by table. May run in place. */
#include "check_s8.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const int8_t *x = ep_in(ep, node, 0);
    const int8_t *table = (const int8_t *)ep_in(ep, node, 1) + 128;
    int8_t *y = ep_out(ep, node, 0);
    const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    for (size_t i = 0; i < count; i++) {
        y[i] = table[x[i]];
    }
}

const ep_op ep_lut_s8 = {forward};

/* An activation of codes; uint8 ones too, whose first and last table turns the top bit. */
static int valid_codes(const ep_tensor *t, uint32_t count)
{
    const int lowest = t->dtype == EP_U8 ? 0 : -128;
    return (t->dtype == EP_I8 || t->dtype == EP_U8) && t->flags == 0 && t->count == count && t->scale > 0.0f &&
           t->scale <= 3.0e38f && t->zero_point >= lowest && t->zero_point <= lowest + 255;
}

int ep_check_lut_s8(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *attr = node->attr;
    if (node->n_in != 2 || node->n_out != 1 || attr == NULL) {
        return EP_ERR_IMAGE;
    }
    const int ok = attr->count > 0 && valid_codes(&model->tensors[node->io[0]], (uint32_t)attr->count) &&
                   valid_codes(&model->tensors[node->io[2]], (uint32_t)attr->count) &&
                   ep_valid_const(model, node, 1, EP_I8, 256);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
