/* ONNX QuantizeLinear: float32 to int8 or uint8. In place where y begins where x does. */
#include "../kernels/scalar_s8.h"
#include "common.h"

/* Rounded half to even, saturated; the code itself, without an offset. NaN gives the lowest, as ONNX Runtime on x86 does. */
static int32_t quantize(float x, float scale, float lo, float hi, int32_t zero_point)
{
    float v = x / scale;
    v = v > lo ? v : lo;
    v = v < hi ? v : hi;
    return ep_nearest(v) + zero_point;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_tensor *t = ep_out_tensor(ep, node, 0);
    const size_t count = (size_t)n * t->count;
    const int32_t zero_point = t->zero_point;
    const float first = t->dtype == EP_U8 ? 0.0f : -128.0f;
    const float lo = first - (float)zero_point, hi = lo + 255.0f;
    const float *x = ep_in(ep, node, 0);
    uint8_t *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) {
        y[i] = (uint8_t)quantize(x[i], t->scale, lo, hi, zero_point); /* an int8 code keeps its bits */
    }
}

const ep_op ep_quantize = {forward};

int ep_check_quantize(const ep_model *model, const ep_node *node)
{
    const ep_elementwise_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 0)) return EP_ERR_IMAGE;
    const uint32_t count = ep_product(a->count, 1, 1);
    const int ok = ep_valid_activation(model, node, 0, EP_F32, count) && ep_valid_codes(model, node, 1, count) &&
                   node->grad == NULL;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
