/* What the checks of the ops share. */
#include "check.h"

#define EP_POSITION_MAX (1 << 28) /* so that sums of a few positions stay in int32 */

uint32_t ep_product(int32_t a, int32_t b, int32_t c)
{
    if (a <= 0 || b <= 0 || c <= 0) {
        return 0;
    }
    const int64_t ab = (int64_t)a * b;
    if (ab > INT32_MAX || ab * c > INT32_MAX) {
        return 0;
    }
    return (uint32_t)(ab * c);
}

int ep_valid_axis(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation, int32_t pad)
{
    if (in <= 0 || out <= 0 || kernel <= 0 || stride <= 0 || dilation <= 0 || pad < 0) {
        return 0;
    }
    return in <= EP_POSITION_MAX && pad <= EP_POSITION_MAX && dilation <= EP_POSITION_MAX / kernel &&
           stride <= EP_POSITION_MAX / out;
}

int ep_valid_const(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return (t->flags & EP_CONST) != 0 && t->data != NULL && t->dtype == dtype && t->count == count && count > 0;
}

int ep_valid_arity(const ep_node *node, unsigned n_act, unsigned n_weights)
{
    return node->n_in == n_act + n_weights && node->n_out == 1 && node->attr != NULL;
}

int ep_valid_activation(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return (t->flags & (EP_CONST | EP_PARAM)) == 0 && t->dtype == dtype && t->count == count && count > 0;
}

int ep_valid_codes(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    const int16_t first = t->dtype == EP_U8 ? 0 : -128;
    return (t->dtype == EP_U8 || t->dtype == EP_I8) && ep_valid_activation(model, node, index, t->dtype, count) &&
           t->scale > 0.0f && t->scale <= 3.0e38f && t->zero_point >= first && t->zero_point <= first + 255;
}

int ep_valid_weight(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return (t->flags & (EP_CONST | EP_PARAM)) != 0 && t->data != NULL && t->dtype == EP_F32 && t->count == count &&
           count > 0;
}

int ep_valid_indices(const ep_model *model, const ep_node *node, unsigned index, uint32_t count, int32_t limit)
{
    if (!ep_valid_const(model, node, index, EP_I32, count)) {
        return 0;
    }
    const int32_t *v = model->tensors[node->io[index]].data;
    for (uint32_t i = 0; i < count; i++) {
        if (v[i] < 0 || v[i] >= limit) {
            return 0;
        }
    }
    return 1;
}

int ep_valid_layer_f32(const ep_model *model, const ep_node *node, uint32_t in, uint32_t weight, uint32_t bias,
                       uint32_t out)
{
    return ep_valid_arity(node, 1, 2) && ep_valid_activation(model, node, 0, EP_F32, in) &&
           ep_valid_weight(model, node, 1, weight) && ep_valid_weight(model, node, 2, bias) &&
           ep_valid_activation(model, node, 3, EP_F32, out);
}

int ep_valid_unary_f32(const ep_model *model, const ep_node *node, uint32_t in, uint32_t out)
{
    return ep_valid_arity(node, 1, 0) && ep_valid_activation(model, node, 0, EP_F32, in) &&
           ep_valid_activation(model, node, 1, EP_F32, out);
}

int ep_valid_pool(const ep_pool2d_attr *a, uint32_t *in, uint32_t *out)
{
    *in = ep_product(a->in_h, a->in_w, a->channels);
    *out = ep_product(a->out_h, a->out_w, a->channels);
    return *in != 0 && *out != 0 &&
           ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
           ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left) &&
           a->pad_bottom >= 0 && a->pad_bottom <= EP_POSITION_MAX && a->pad_right >= 0 &&
           a->pad_right <= EP_POSITION_MAX;
}
