/* int8 or uint8 codes to float32: (q - zero point) * scale. */
#include "hx.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_tensor *in = ep_in_tensor(ep, node, 0);
    const size_t count = (size_t)n * in->count;
    const int8_t *x = ep_in(ep, node, 0);
    const uint8_t *u = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) {
        const int32_t q = in->dtype == EP_U8 ? u[i] : x[i];
        y[i] = (float)(q - in->zero_point) * in->scale;
    }
}

const ep_op ep_dequantize = {forward};

int ep_check_dequantize(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    if (node->n_in != 1 || node->n_out != 1 || !a) {
        return EP_ERR_IMAGE;
    }
    const ep_tensor *y = &model->tensors[node->io[1]];
    const uint32_t count = ep_product(a->count, 1, 1);
    const int ok = count != 0 && y->count == count && y->dtype == EP_F32 && hx_valid_codes(model, node, 0, count) &&
                   model->tensors[node->io[0]].flags == 0;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
