/* float32 to int8 or uint8 codes: divide by the scale, round half to even, add the zero point, saturate. */
#include "hx.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_tensor *out = ep_out_tensor(ep, node, 0);
    const size_t count = (size_t)n * out->count;
    const float *x = ep_in(ep, node, 0), scale = out->scale;
    uint8_t *y = ep_out(ep, node, 0);
    const int32_t lo = (out->dtype == EP_U8 ? 0 : -128) - out->zero_point, hi = lo + 255;
    for (size_t i = 0; i < count; i++) {
        float v = x[i] / scale;
        v = v > (float)lo ? v : (float)lo; /* NaN becomes the lowest code */
        v = v < (float)hi ? v : (float)hi;
        y[i] = (uint8_t)(ep_round_even(v) + out->zero_point);
    }
}

const ep_op ep_quantize = {forward};

int ep_check_quantize(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    if (node->n_in != 1 || node->n_out != 1 || !a) {
        return EP_ERR_IMAGE;
    }
    const ep_tensor *x = &model->tensors[node->io[0]];
    const uint32_t count = ep_product(a->count, 1, 1);
    const int ok = count != 0 && x->count == count && x->dtype == EP_F32 && x->flags == 0 &&
                   hx_valid_codes(model, node, 1, count);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
