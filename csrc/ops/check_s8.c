/* Check operands of int8 nodes. */
#include "check_s8.h"
#include "binary.h"

static int valid_activation(const ep_tensor *t)
{
    return t->dtype == EP_I8 && t->flags == 0 && t->offset != EP_NONE && t->scale > 0.0f && t->scale <= 3.0e38f &&
           t->zero_point >= -128 && t->zero_point <= 127;
}

int ep_valid_io_s8(const ep_model *model, const ep_node *node, unsigned n_in, unsigned n_act)
{
    if (node->n_in != n_in || node->n_out != 1 || node->attr == NULL) return 0;
    for (unsigned i = 0; i < n_act; i++) {
        if (!valid_activation(&model->tensors[node->io[i]])) return 0;
    }
    return valid_activation(&model->tensors[node->io[n_in]]);
}

int ep_valid_clamp_s8(const ep_model *model, const ep_node *node, float lo, float hi)
{
    const float zero_point = (float)model->tensors[node->io[node->n_in]].zero_point;
    return lo <= hi && lo >= -128.0f - zero_point && hi <= 127.0f - zero_point;
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

int ep_valid_pool_s8(const ep_model *model, const ep_node *node)
{
    uint32_t x, y;
    return ep_valid_pool(node->attr, &x, &y) && model->tensors[node->io[0]].count == x &&
           model->tensors[node->io[1]].count == y;
}

int ep_valid_operand_s8(const ep_model *model, const ep_node *node, unsigned index)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    const int there = (t->flags == 0 && t->offset != EP_NONE && t->count > 0) ||
                      (index < 2 && ep_valid_const(model, node, index, EP_I8, t->count));
    return there && t->dtype == EP_I8 && t->scale > 0.0f && t->scale <= 3.0e38f && t->zero_point >= -128 &&
           t->zero_point <= 127;
}

int ep_valid_binary_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_arity(node, 2, 0)) return 0;
    for (unsigned i = 0; i < 3; i++) {
        if (!ep_valid_operand_s8(model, node, i)) return 0;
    }
    const ep_binary_attr *attr = node->attr;
    const uint32_t count =
        ep_valid_broadcast(attr, model->tensors[node->io[0]].count, model->tensors[node->io[1]].count);
    return count != 0 && model->tensors[node->io[2]].count == count && (attr->alpha == 0.0f || attr->alpha == 128.0f) &&
           ep_valid_clamp_s8(model, node, attr->lo, attr->hi);
}
