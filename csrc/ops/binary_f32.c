/* The loops of binary_f32.h. */
#include "binary_f32.h"

void ep_broadcast(const ep_t *ep, const ep_node *node, uint32_t n, ep_row_function *row)
{
    const ep_binary_attr *attr = node->attr;
    const float *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    float *const y = ep_out(ep, node, 0);
    ep_row r = {
        .to = y, .a_step = attr->a_strides[5], .b_step = attr->b_strides[5], .to_step = 1, .count = attr->dims[5]};
    for (uint32_t sample = 0; sample < n; sample++) {
        ep_rows at = {0, 0, {0}};
        do {
            r.a = a + at.a;
            r.b = b + at.b;
            row(&r);
            r.to += r.count;
        } while (ep_next_row(attr, &at));
        a += ep_sample_step(ep, node, 0);
        b += ep_sample_step(ep, node, 1);
    }
    ep_clamp_output(ep, y, attr->lo, attr->hi, (size_t)(r.to - y));
}

#ifndef EP_NO_TRAIN

void ep_broadcast_gradient(const ep_t *ep, const ep_node *node, uint32_t n, unsigned i, ep_row_function *row)
{
    const ep_binary_attr *attr = node->attr;
    const float *a = ep_in(ep, node, 0), *b = ep_in(ep, node, 1);
    const size_t count = ep_in_tensor(ep, node, i)->count;
    float *to = ep_din(ep, node, i);
    if (to == NULL) return;
    if (!ep_accumulates(node, i)) memset(to, 0, (size_t)n * count * sizeof *to);
    ep_row r = {
        .dy = ep_dout(ep, node, 0), .a_step = attr->a_strides[5], .b_step = attr->b_strides[5], .count = attr->dims[5]};
    r.to_step = i == 0 ? r.a_step : r.b_step;
    for (uint32_t sample = 0; sample < n; sample++, to += count) {
        ep_rows at = {0, 0, {0}};
        do {
            r.a = a + at.a;
            r.b = b + at.b;
            r.to = to + (i == 0 ? at.a : at.b);
            row(&r);
            r.dy += r.count;
        } while (ep_next_row(attr, &at));
        a += ep_sample_step(ep, node, 0);
        b += ep_sample_step(ep, node, 1);
    }
}

#endif

/* 1 if input i is float32, an activation or constant. */
static int valid_operand(const ep_model *model, const ep_node *node, unsigned i)
{
    const uint32_t count = model->tensors[node->io[i]].count;
    return ep_valid_activation(model, node, i, EP_F32, count) || ep_valid_const(model, node, i, EP_F32, count);
}

int ep_check_binary(const ep_model *model, const ep_node *node)
{
    const ep_binary_attr *attr = node->attr;
    if (!ep_valid_arity(node, 2, 0) || !valid_operand(model, node, 0) || !valid_operand(model, node, 1)) {
        return EP_ERR_IMAGE;
    }
    const uint32_t count =
        ep_valid_broadcast(attr, model->tensors[node->io[0]].count, model->tensors[node->io[1]].count);
    return ep_valid_activation(model, node, 2, EP_F32, count) && attr->lo <= attr->hi ? EP_OK : EP_ERR_IMAGE;
}
