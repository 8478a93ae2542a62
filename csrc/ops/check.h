/* What the checks of the ops share. Used by the image loader only. */
#ifndef EP_CHECK_H
#define EP_CHECK_H

#include "../internal.h"

/* a * b * c, or 0 if a factor is not positive or the product is over 2^31 - 1. */
uint32_t ep_product(int32_t a, int32_t b, int32_t c);

/* 1 if an axis of windows makes sense: sizes positive, no position beyond 2^28. */
int ep_valid_axis(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation, int32_t pad);

/* 1 if input `index` is a constant of this type and count. */
int ep_valid_const(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count);

/* 1 if the node has attributes, `n_act` activations and then `n_weights` inputs more, and one output. */
int ep_valid_arity(const ep_node *node, unsigned n_act, unsigned n_weights);

/* 1 if input (or, from n_in on, output) `index` is an activation of this type and count. */
int ep_valid_activation(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count);

/* 1 if input or output `index` is an activation of int8 or uint8 codes, this many, with a finite positive scale. */
int ep_valid_codes(const ep_model *model, const ep_node *node, unsigned index, uint32_t count);

/* 1 if input `index` is float32 of this count, constant or trainable. */
int ep_valid_weight(const ep_model *model, const ep_node *node, unsigned index, uint32_t count);

/* 1 if input `index` is an int32 constant of this count, each element 0 .. limit-1. */
int ep_valid_indices(const ep_model *model, const ep_node *node, unsigned index, uint32_t count, int32_t limit);

/* 1 if the node is x (in) ; weight (weight), bias (bias) -> y (out), all float32 with that many elements. 0 if a count is 0. */
int ep_valid_layer_f32(const ep_model *model, const ep_node *node, uint32_t in, uint32_t weight, uint32_t bias,
                       uint32_t out);

/* 1 if the node is x -> y, float32, `in` and `out` elements. 0 if a count is 0. */
int ep_valid_unary_f32(const ep_model *model, const ep_node *node, uint32_t in, uint32_t out);

/* 1 if the geometry of a pooling node (ep_pool2d_attr) makes sense; *in, *out: elements. */
int ep_valid_pool(const ep_pool2d_attr *attr, uint32_t *in, uint32_t *out);

#endif
