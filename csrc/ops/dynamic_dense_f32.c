/* Fully connected layer in integers whose input's scale and zero point are found at run time, for each sample its own: what
 * onnxruntime's quantize_dynamic() writes (DynamicQuantizeLinear, MatMulInteger, Cast, Mul, Add), to the bit of its integers.
 * Codes are made a few at a time on the stack, their sums kept in y until they are complete. */
#include "../kernels/scalar_s8.h"
#include "common.h"

#include <float.h>

#define CODES 128 /* on the stack, 2 bytes each */

/* How DynamicQuantizeLinear makes uint8 codes of a sample. */
typedef struct coding {
    float scale, zero; /* the zero point, 0 .. 255 */
} coding;

/* The range holds 0. What is not finite is taken as the nearest number, so that whatever comes has codes. */
static coding code_range(const float *x, size_t count)
{
    float lo = 0, hi = 0;
    for (size_t i = 0; i < count; i++) {
        lo = x[i] < lo ? x[i] : lo;
        hi = x[i] > hi ? x[i] : hi;
    }
    const float range = hi - lo;
    const coding c = {range > 0 ? (range <= FLT_MAX ? range : FLT_MAX) / 255.0f : 1.0f, 0};
    const float zero = c.scale > 0 ? 0.0f - lo / c.scale : 0.0f;
    const coding found = {c.scale > 0 ? c.scale : 1.0f, (float)ep_nearest(zero < 255.0f ? zero : 255.0f)};
    return found;
}

/* codes (count) less the zero point, -255 .. 255. */
static void encode(int16_t *codes, const float *x, int32_t count, coding c)
{
    const float lo = -c.zero, hi = 255.0f - c.zero;
    for (int32_t i = 0; i < count; i++) {
        float v = x[i] / c.scale;
        v = v > lo ? v : lo; /* NaN: the lowest */
        v = v < hi ? v : hi;
        codes[i] = (int16_t)ep_nearest(v);
    }
}

/* sums (n_out) += the codes' part of the dot products. */
static void add_products(int32_t *sums, const int16_t *codes, const int8_t *w, int32_t count,
                         const ep_dynamic_dense_attr *a)
{
    int32_t total = 0;
    for (int32_t i = 0; i < count; i++) {
        total += codes[i];
    }
    for (int32_t k = 0; k < a->n_out; k++, w += a->n_in) {
        int32_t sum = -total * a->weight_zero;
        for (int32_t i = 0; i < count; i++) {
            sum += codes[i] * w[i];
        }
        sums[k] += sum;
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dynamic_dense_attr *a = node->attr;
    const int8_t *w = ep_in(ep, node, 1);
    const float *x = ep_in(ep, node, 0), *bias = ep_in(ep, node, 2), *w_scale = ep_in(ep, node, 3);
    float *y = ep_out(ep, node, 0);
    const size_t rows = (size_t)n * (size_t)a->rows;
    coding c = {1, 0};
    int16_t codes[CODES];
    for (size_t r = 0; r < rows; r++, x += a->n_in, y += a->n_out) {
        int32_t *sums = (int32_t *)(void *)y;
        if (r % (size_t)a->rows == 0) {
            c = code_range(x, (size_t)a->rows * (size_t)a->n_in);
        }
        memset(sums, 0, (size_t)a->n_out * sizeof *sums);
        for (int32_t i = 0; i < a->n_in; i += CODES) {
            const int32_t count = a->n_in - i < CODES ? a->n_in - i : CODES;
            encode(codes, x + i, count, c);
            add_products(sums, codes, w + i, count, a);
        }
        for (int32_t k = 0; k < a->n_out; k++) {
            y[k] = (float)sums[k] * (c.scale * w_scale[k]) + bias[k];
        }
        ep_clamp_output(ep, y, a->lo, a->hi, (size_t)a->n_out);
    }
}

const ep_op ep_dynamic_dense_f32 = {forward};

int ep_check_dynamic_dense_f32(const ep_model *model, const ep_node *node)
{
    const ep_dynamic_dense_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 3)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t outputs = ep_product(a->n_out, 1, 1);
    /* 32895 = 2^31 / (255 * 256): the most products whose sum stays within int32 */
    const int ok = a->n_in <= 32895 && ep_valid_activation(model, node, 0, EP_F32, ep_product(a->rows, a->n_in, 1)) &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product(a->n_out, a->n_in, 1)) &&
                   ep_valid_const(model, node, 2, EP_F32, outputs) && ep_valid_const(model, node, 3, EP_F32, outputs) &&
                   ep_valid_activation(model, node, 4, EP_F32, ep_product(a->rows, a->n_out, 1)) &&
                   a->weight_zero >= -128 && a->weight_zero <= 127 && a->lo <= a->hi && node->grad == NULL;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
