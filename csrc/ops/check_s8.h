/* Check operands of int8 nodes. Used by the image loader only. */
#ifndef EP_CHECK_S8_H
#define EP_CHECK_S8_H

#include "check.h"

/* 1 if the node has attributes, this many inputs and one output, and its activations (the first `n_act` inputs and the
 * output) are int8, not constant, with scales that are finite and positive and zero points that are int8 codes. */
int ep_valid_io_s8(const ep_model *model, const ep_node *node, unsigned n_in, unsigned n_act);

/* 1 if lo <= hi and adding the output's zero point to anything between them gives an int8 code. */
int ep_valid_clamp_s8(const ep_model *model, const ep_node *node, float lo, float hi);

/* 1 if inputs 2 and 3 are `channels` biases and finite multipliers, and no sum of bias and `taps` products of codes
 * leaves int32. */
int ep_valid_sums_s8(const ep_model *model, const ep_node *node, uint32_t channels, uint32_t taps);

/* 1 if the geometry of a pooling node (ep_pool2d_attr) makes sense and fits its tensors. */
int ep_valid_pool_s8(const ep_model *model, const ep_node *node);

/* 1 if operand 0 or 1 of two, or output 2, is int8 with a scale and a zero point; an operand may be constant. */
int ep_valid_operand_s8(const ep_model *model, const ep_node *node, unsigned index);

/* 1 if a node of ep_binary_attr has two such operands and such an output, and its attributes make sense and fit them. */
int ep_valid_binary_s8(const ep_model *model, const ep_node *node);

#endif
