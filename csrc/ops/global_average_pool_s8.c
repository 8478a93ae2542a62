/* Global average pooling on codes, in the integer arithmetic of ONNX Runtime's QLinearGlobalAveragePool. */
#include "../kernels/scalar_s8.h"
#include "check_s8.h"

#define LANES 64 /* channels whose sums are kept at once, on the stack */

/* One image: x (size, channels) -> y (channels,). */
static void average_image(const ep_t *ep, const ep_global_pool_attr *a, const int8_t *x, int8_t *y, float multiplier,
                          int32_t x_zero, int32_t y_zero)
{
    const float lo = (float)(-128 - y_zero), hi = (float)(127 - y_zero);
    for (int32_t c = 0; c < a->channels; c += LANES) {
        const int32_t lanes = a->channels - c < LANES ? a->channels - c : LANES;
        int32_t acc[LANES] = {0};
        for (int32_t i = 0; i < a->size; i++) {
            EP_KERNEL(ep, sum_s8)(acc, x + (ptrdiff_t)i * a->channels + c, lanes);
        }
        for (int32_t i = 0; i < lanes; i++) {
            y[c + i] = ep_requantize(acc[i] - x_zero * a->size, multiplier, lo, hi, y_zero);
        }
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_global_pool_attr *a = node->attr;
    const ep_tensor *tx = ep_in_tensor(ep, node, 0), *ty = ep_out_tensor(ep, node, 0);
    const float scale = ty->scale * (float)a->size;
    const float multiplier = tx->scale / scale;
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        average_image(ep, a, x, y, multiplier, tx->zero_point, ty->zero_point);
        x += tx->count;
        y += ty->count;
    }
}

const ep_op ep_global_average_pool_s8 = {forward};

int ep_check_global_average_pool_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 1, 1)) return EP_ERR_IMAGE;
    const ep_global_pool_attr *a = node->attr;
    const ep_tensor *x = &model->tensors[node->io[0]], *y = &model->tensors[node->io[1]];
    const uint32_t count = ep_product(a->size, a->channels, 1);
    if (count == 0 || x->count != count || y->count != (uint32_t)a->channels || a->size > INT32_MAX / 255) {
        return EP_ERR_IMAGE;
    }
    const float multiplier = x->scale / (y->scale * (float)a->size); /* ONNX Runtime's range of it */
    return multiplier >= 1.0f / 4294967296.0f && multiplier < 256.0f ? EP_OK : EP_ERR_IMAGE;
}
