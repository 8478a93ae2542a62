/* ONNX DequantizeLinear: int8 or uint8 to float32. */
#include "common.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_tensor *t = ep_in_tensor(ep, node, 0);
    const size_t count = (size_t)n * t->count;
    const int32_t zero_point = t->zero_point;
    const float scale = t->scale;
    const void *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    if (t->dtype == EP_U8) {
        for (size_t i = 0; i < count; i++) {
            y[i] = (float)(((const uint8_t *)x)[i] - zero_point) * scale;
        }
    } else {
        for (size_t i = 0; i < count; i++) {
            y[i] = (float)(((const int8_t *)x)[i] - zero_point) * scale;
        }
    }
}

const ep_op ep_dequantize = {forward};

int ep_check_dequantize(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 0)) return EP_ERR_IMAGE;
    const uint32_t count = ep_product(a->count, 1, 1);
    const int ok = ep_valid_codes(model, node, 0, count) && ep_valid_activation(model, node, 1, EP_F32, count) &&
                   node->grad == NULL;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
