/* What the checks of the ops share. Used by the image loader only. */
#ifndef EP_CHECK_H
#define EP_CHECK_H

#include "../internal.h"

/* 1 if the node has attributes, this many inputs and one output, and its activations (the first `n_act` inputs and the
 * output) are int8, not constant, with scales that are finite and positive and zero points that are int8 codes. */
int ep_valid_io_s8(const ep_model *model, const ep_node *node, unsigned n_in, unsigned n_act);

/* 1 if input `index` is a constant of this type and count. */
int ep_valid_const(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count);

/* a * b * c, or 0 if a factor is not positive or the product is over 2^31 - 1. */
uint32_t ep_product(int32_t a, int32_t b, int32_t c);

/* 1 if lo <= hi and adding the output's zero point to anything between them gives an int8 code. */
int ep_valid_clamp_s8(const ep_model *model, const ep_node *node, float lo, float hi);

/* 1 if an axis of windows makes sense: sizes positive, no position beyond 2^28. */
int ep_valid_axis(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation, int32_t pad);

/* 1 if inputs 2 and 3 are `channels` biases and finite multipliers, and no sum of bias and `taps` products of codes leaves
 * int32. */
int ep_valid_sums_s8(const ep_model *model, const ep_node *node, uint32_t channels, uint32_t taps);

/* 1 if the node has attributes, `n_in` inputs, one output, and its activations (the first `n_act` inputs and the output)
 * are float32 and not constant. */
int ep_valid_io_f32(const ep_model *model, const ep_node *node, unsigned n_in, unsigned n_act);

/* 1 if input `index` (or, past the inputs, the output) has this count, which is not 0. */
int ep_valid_count(const ep_model *model, const ep_node *node, unsigned index, uint32_t count);

/* 1 if input `index` (or the output) is int8 or uint8 of this count, with a finite, positive scale and a zero point that is
 * one of its codes. */
int ep_valid_codes(const ep_model *model, const ep_node *node, unsigned index, uint32_t count);

/* 1 if input `index` is float32, constant or trainable, and of this count. */
int ep_valid_weight(const ep_model *model, const ep_node *node, unsigned index, uint32_t count);

/* 1 if no weight of this node trains or there is scratch for `floats`. */
int ep_valid_scratch(const ep_model *model, const ep_node *node, uint32_t floats);

/* 1 if the geometry of a convolution (ep_conv2d_attr) makes sense and fits its activations. */
int ep_valid_conv(const ep_model *model, const ep_node *node);

/* 1 if the geometry of a pooling node (ep_pool2d_attr) makes sense and fits its tensors. */
int ep_valid_pool(const ep_model *model, const ep_node *node);

#endif
