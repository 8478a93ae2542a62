/* float32 functions of one element. An op's file holds its value() and, beside it, its derivative slope(); the loops are in
 * unary_f32.c. In place where y is x, dx is dy; an op whose slope() takes x keeps x for the backward, so that in training its y
 * lies elsewhere (export/program/traits.py). */
#ifndef EP_UNARY_F32_H
#define EP_UNARY_F32_H

#include "common.h"

typedef float ep_function(const ep_unary_attr *attr, float v);

/* y = value(x). */
void ep_map(const ep_t *ep, const ep_node *node, uint32_t n, ep_function *value);

/* dx = dy * slope(x), or of y. */
enum { EP_FROM_X, EP_FROM_Y };
void ep_map_gradient(const ep_t *ep, const ep_node *node, uint32_t n, ep_function *slope, int from);

/* EP_OK if the node is x -> y of attr->count float32 each, else EP_ERR_IMAGE. */
int ep_check_unary(const ep_model *model, const ep_node *node);

/* The op of a value(), with its check. */
#define EP_UNARY_F32(name)                                               \
    static void forward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                    \
        ep_map(ep, node, n, value);                                      \
    }                                                                    \
    const ep_op ep_##name = {forward};                                   \
    int ep_check_##name(const ep_model *model, const ep_node *node)      \
    {                                                                    \
        return ep_check_unary(model, node);                              \
    }

/* The backward of a slope(). */
#define EP_UNARY_F32_GRAD(name, from)                                     \
    static void backward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                     \
        ep_map_gradient(ep, node, n, slope, from);                        \
    }                                                                     \
    const ep_grad ep_##name##_grad = {backward, NULL, NULL};

#endif
