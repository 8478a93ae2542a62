/* The loops of unary_f32.h. */
#include "unary_f32.h"

void ep_map(const ep_t *ep, const ep_node *node, uint32_t n, ep_function *value)
{
    const ep_unary_attr *attr = node->attr;
    const size_t count = (size_t)n * (size_t)attr->count;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) y[i] = value(attr, x[i]);
}

#ifndef EP_NO_TRAIN

void ep_map_gradient(const ep_t *ep, const ep_node *node, uint32_t n, ep_function *slope, int from)
{
    const ep_unary_attr *attr = node->attr;
    const size_t count = (size_t)n * (size_t)attr->count;
    const int add = ep_accumulates(node, 0);
    const float *v = from == EP_FROM_Y ? ep_out(ep, node, 0) : ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (size_t i = 0; dx != NULL && i < count; i++) {
        const float d = dy[i] * slope(attr, v[i]);
        dx[i] = add ? dx[i] + d : d;
    }
}

#endif

int ep_check_unary(const ep_model *model, const ep_node *node)
{
    const ep_unary_attr *a = node->attr;
    const uint32_t count = a != NULL ? ep_product(a->count, 1, 1) : 0;
    return ep_valid_unary_f32(model, node, count, count) ? EP_OK : EP_ERR_IMAGE;
}
