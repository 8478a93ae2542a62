/* Check shapes, attributes and operands of nodes. Used by the image loader only. */
#ifndef EP_CHECK_H
#define EP_CHECK_H

#include "../internal.h"

/* The most elements of anything: what attributes multiply to stays below it, so that sums of two such products, and
 * indices that go one step past an end, stay in int32. The one limit that all products of attributes are held to. */
#define EP_COUNT_MAX ((1u << 30) - 1)

/* a * b * c, or 0 if a factor is not positive or the product is over EP_COUNT_MAX. */
uint32_t ep_product(int32_t a, int32_t b, int32_t c);

/* 1 if all elements of a box of 6 axes, from `offset` on, lie in a tensor of `count`, and no step along an axis, taken or
 * not, is over EP_COUNT_MAX. */
int ep_valid_box(const int32_t *dims, const int32_t *strides, int32_t offset, uint32_t count);

/* 1 if the windows of a convolution make sense: sizes positive, and the image with all that its windows reach over, padding
 * included, so large at most that an int32 holds any distance in it, in bytes of floats too. */
int ep_valid_windows(const ep_conv2d_attr *attr);

/* The same of a transposed convolution, whose windows lie over its output. */
int ep_valid_transposed_windows(const ep_conv2d_attr *attr);

/* 1 if input `index` is a constant of this type and count. */
int ep_valid_const(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count);

/* 1 if the node has attributes, `n_act` activations and then `n_weights` inputs more, and one output. */
int ep_valid_arity(const ep_node *node, unsigned n_act, unsigned n_weights);

/* 1 if input (or, from n_in on, output) `index` is an activation of this type and count. */
int ep_valid_activation(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count);

/* The same of an output that the plans may leave out, because nobody reads it. */
int ep_valid_optional(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count);

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
