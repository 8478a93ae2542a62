/* Fully connected layer in integers whose input's scale and zero point are found at run time, for each sample its own: what
 * onnxruntime's quantize_dynamic() writes (DynamicQuantizeLinear, MatMulInteger, Cast, Mul, Add), to the bit of its integers.
 * */
#include "dynamic.h"

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_dense_attr *a = node->attr;
    const int8_t *w = ep_in(ep, node, 1), *zeros = ep_in(ep, node, 4);
    const float *x = ep_in(ep, node, 0), *bias = ep_in(ep, node, 2), *w_scale = ep_in(ep, node, 3);
    float *y = ep_out(ep, node, 0);
    const size_t rows = (size_t)n * (size_t)a->rows;
    ep_coding c = {1, 0};
    int16_t codes[EP_CODES];
    for (size_t r = 0; r < rows; r++, x += a->n_in, y += a->n_out) {
        int32_t *sums = (int32_t *)(void *)y;
        if (r % (size_t)a->rows == 0) c = ep_code_range(x, (size_t)a->rows * (size_t)a->n_in);
        memset(sums, 0, (size_t)a->n_out * sizeof *sums);
        for (int32_t i = 0; i < a->n_in; i += EP_CODES) {
            const int32_t count = a->n_in - i < EP_CODES ? a->n_in - i : EP_CODES;
            ep_encode(codes, x + i, count, c);
            ep_add_products(sums, codes, w + i, count, a->n_out, a->n_in, zeros);
        }
        ep_scale_sums(y, c, w_scale, bias, a->n_out);
        ep_clamp_output(ep, y, a->lo, a->hi, (size_t)a->n_out);
    }
}

const ep_op ep_dynamic_dense_f32 = {forward};

int ep_check_dynamic_dense_f32(const ep_model *model, const ep_node *node)
{
    const ep_dense_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 4)) return EP_ERR_IMAGE;
    const uint32_t outputs = ep_product(a->n_out, 1, 1);
    const int ok = a->n_in <= EP_DYNAMIC_MAX &&
                   ep_valid_activation(model, node, 0, EP_F32, ep_product(a->rows, a->n_in, 1)) &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product(a->n_out, a->n_in, 1)) &&
                   ep_valid_const(model, node, 2, EP_F32, outputs) && ep_valid_const(model, node, 3, EP_F32, outputs) &&
                   ep_valid_const(model, node, 4, EP_I8, outputs) &&
                   ep_valid_activation(model, node, 5, EP_F32, ep_product(a->rows, a->n_out, 1)) && a->lo <= a->hi &&
                   node->grad == NULL;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
