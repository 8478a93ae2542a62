/* What the checks of the ops share. */
#include "check.h"

#define EP_POSITION_MAX (1 << 28) /* so that sums of a few positions stay in int32 */

static int valid_activation(const ep_tensor *t)
{
    return t->dtype == EP_I8 && (t->flags & (EP_CONST | EP_PARAM)) == 0 && t->scale > 0.0f && t->scale <= 3.0e38f && t->zero_point >= -128 && t->zero_point <= 127;
}

int ep_valid_io_s8(const ep_model *model, const ep_node *node, unsigned n_in, unsigned n_act)
{
    if (node->n_in != n_in || node->n_out != 1 || node->attr == NULL) {
        return 0;
    }
    for (unsigned i = 0; i < n_act; i++) {
        if (!valid_activation(&model->tensors[node->io[i]])) {
            return 0;
        }
    }
    return valid_activation(&model->tensors[node->io[n_in]]);
}

int ep_valid_const(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return (t->flags & EP_CONST) != 0 && t->data != NULL && t->dtype == dtype && t->count == count && count > 0;
}

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

int ep_valid_clamp_s8(const ep_model *model, const ep_node *node, float lo, float hi)
{
    const float zero_point = (float)model->tensors[node->io[node->n_in]].zero_point;
    return lo <= hi && lo >= -128.0f - zero_point && hi <= 127.0f - zero_point;
}

int ep_valid_axis(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation, int32_t pad)
{
    if (in <= 0 || out <= 0 || kernel <= 0 || stride <= 0 || dilation <= 0 || pad < 0) {
        return 0;
    }
    return in <= EP_POSITION_MAX && pad <= EP_POSITION_MAX && dilation <= EP_POSITION_MAX / kernel &&
           stride <= EP_POSITION_MAX / out;
}

int ep_valid_sums_s8(const ep_model *model, const ep_node *node, uint32_t channels, uint32_t taps)
{
    if (!ep_valid_const(model, node, 2, EP_I32, channels) || !ep_valid_const(model, node, 3, EP_F32, channels)) {
        return 0;
    }
    const int32_t *bias = model->tensors[node->io[2]].data;
    const float *multiplier = model->tensors[node->io[3]].data;
    const int64_t products = (int64_t)taps * 128 * 128;
    for (uint32_t k = 0; k < channels; k++) {
        const int64_t b = bias[k];
        if ((b < 0 ? -b : b) + products > INT32_MAX || !(multiplier[k] >= -3.0e38f && multiplier[k] <= 3.0e38f)) {
            return 0;
        }
    }
    return 1;
}

int ep_valid_pool(const ep_model *model, const ep_node *node)
{
    const ep_pool2d_attr *a = node->attr;
    return ep_valid_count(model, node, 0, ep_product(a->in_h, a->in_w, a->channels)) &&
           ep_valid_count(model, node, 1, ep_product(a->out_h, a->out_w, a->channels)) &&
           ep_product(a->kernel_h, a->kernel_w, 1) != 0 &&
           ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
           ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
}

int ep_valid_conv(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    return ep_valid_count(model, node, 0, ep_product(a->in_h, a->in_w, a->in_c)) &&
           ep_valid_count(model, node, node->n_in, ep_product(a->out_h, a->out_w, a->out_c)) && a->groups > 0 &&
           a->in_c % a->groups == 0 && a->out_c % a->groups == 0 &&
           ep_valid_axis(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top) &&
           ep_valid_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
}

int ep_valid_io_f32(const ep_model *model, const ep_node *node, unsigned n_in, unsigned n_act)
{
    if (node->n_in != n_in || node->n_out != 1 || node->attr == NULL) {
        return 0;
    }
    for (unsigned i = 0; i <= n_in; i++) {
        const ep_tensor *t = &model->tensors[node->io[i]];
        if ((i < n_act || i == n_in) && (t->dtype != EP_F32 || (t->flags & (EP_CONST | EP_PARAM)) != 0)) {
            return 0;
        }
    }
    return 1;
}

int ep_valid_count(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    return count != 0 && model->tensors[node->io[index]].count == count;
}

int ep_valid_codes(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    const int lo = t->dtype == EP_U8 ? 0 : -128;
    return (t->dtype == EP_I8 || t->dtype == EP_U8) && t->count == count && t->scale > 0.0f && t->scale <= 3.0e38f &&
           t->zero_point >= lo && t->zero_point <= lo + 255;
}

int ep_valid_weight(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return t->dtype == EP_F32 && (t->flags & (EP_CONST | EP_PARAM)) != 0 && ep_valid_count(model, node, index, count);
}

int ep_valid_scratch(const ep_model *model, const ep_node *node, uint32_t floats)
{
    int trains = 0;
    for (unsigned i = 0; i < node->n_in; i++) {
        trains |= (model->tensors[node->io[i]].flags & EP_PARAM) != 0;
    }
    return !trains || !node->grad || !model->train || model->train->scratch_bytes / 4u >= floats;
}
