/* Sum of two tensors of codes, broadcast or constant, as ONNX Runtime's QLinearAdd computes it on x86. In place where y is an
 * operand of as many elements. */
#include "../kernels/scalar_s8.h"
#include "add_s8.h"
#include "binary.h"
#include "check_s8.h"

static void add_row(const ep_t *ep, const ep_add_args *p, const ep_binary_attr *attr, int8_t *y, const int8_t *a,
                    const int8_t *b)
{
    const int32_t count = attr->dims[5];
    if (attr->a_strides[5] == 1 && attr->b_strides[5] == 1) {
        EP_KERNEL(ep, add_s8)(p, y, a, b, (size_t)count);
        return;
    }
    for (int32_t i = 0; i < count; i++, a += attr->a_strides[5], b += attr->b_strides[5]) {
        EP_KERNEL(ep, add_s8)(p, y + i, a, b, 1);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_binary_attr *attr = node->attr;
    const ep_add_args args = ep_prepare_add(attr->alpha, attr->lo, attr->hi, ep_in_tensor(ep, node, 0),
                                            ep_in_tensor(ep, node, 1), ep_out_tensor(ep, node, 0));
    const int8_t *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t sample = 0; sample < n; sample++) {
        ep_rows at = {0, 0, {0}};
        do {
            add_row(ep, &args, attr, y, a + at.a, b + at.b);
            y += attr->dims[5];
        } while (ep_next_row(attr, &at));
        a += ep_sample_step(ep, node, 0);
        b += ep_sample_step(ep, node, 1);
    }
}

const ep_op ep_add_broadcast_s8 = {forward};

int ep_check_add_broadcast_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_binary_s8(model, node)) return EP_ERR_IMAGE;
    const ep_tensor *a = &model->tensors[node->io[0]], *b = &model->tensors[node->io[1]],
                    *y = &model->tensors[node->io[2]];
    return a->scale / y->scale < 1.0e30f && b->scale / y->scale < 1.0e30f ? EP_OK : EP_ERR_IMAGE;
}
