/* The ops a model may name, their attributes and losses. Included by edgeprop.h; nothing to include by hand.
 *
 * Attributes are structs of 4-byte words, so that an image holds them as they are. All sizes are of one sample.
 * `lo`, `hi`: the fused activation, as the range the result is clamped to. float32 ops clamp the result itself
 * (no activation: -INFINITY, INFINITY; ReLU 0, INFINITY; ReLU6 0, 6); int8 ops clamp before the output's zero point
 * is added, so lo = qmin - zero_point, hi = qmax - zero_point. */
#ifndef EDGEPROP_OPS_H
#define EDGEPROP_OPS_H

/* conv2d_*, depthwise_conv2d_*. x (in_h, in_w, in_c) -> y (out_h, out_w, out_c).
 * Weights: conv2d (out_c, kernel_h, kernel_w, in_c/groups); depthwise (kernel_h, kernel_w, out_c), where output
 * channel k sees input channel k / (out_c / in_c). Padding below and right follows from the sizes.
 *
 * conv2d_s8, depthwise_conv2d_s8, dense_s8: sum = bias + products of codes as they are; y = clamp((float)sum *
 * multiplier, lo, hi) rounded half to even + y's zero point. So the bias tensor holds bias - x's zero point * (sum of
 * the channel's weights over all taps), and a tap in the padding counts as x's zero point. Weight zero points are 0.
 * Multiplier of a channel: x_scale * w_scale / y_scale, each step rounded to float32. */
typedef struct ep_conv2d_attr {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t groups; /* depthwise: in_c */
    float lo, hi;
} ep_conv2d_attr;

/* dense_*. x (rows, n_in) -> y (rows, n_out), weight (n_out, n_in). */
typedef struct ep_dense_attr {
    int32_t n_in, n_out;
    int32_t rows;
    float lo, hi;
} ep_dense_attr;

/* max_pool2d_*, average_pool2d_*. x (in_h, in_w, channels) -> y (out_h, out_w, channels).
 * A global average pool is one whose kernel is the whole input. */
typedef struct ep_pool2d_attr {
    int32_t in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t count_include_pad;     /* average: 1: divide by kernel_h * kernel_w always */
    int32_t pad_bottom, pad_right; /* average_pool2d_f32 with count_include_pad: how far the padding that counts reaches
                                    * (average_pool2d_s8 then divides by kernel_h * kernel_w, as ONNX Runtime does) */
} ep_pool2d_attr;

/* global_average_pool_s8: the arithmetic of ONNX Runtime's QLinearGlobalAveragePool, apart from average_pool2d_s8. */
typedef struct ep_global_pool_attr {
    int32_t size, channels; /* size = in_h * in_w */
} ep_global_pool_attr;

/* Element-wise over `count` elements: add_*, unary ops. `lo`, `hi` where clamped. `alpha`: LeakyReLU's slope; add_s8:
 * 128 where the ONNX graph adds uint8 codes (which round differently), 0 where it adds int8. */
typedef struct ep_elementwise_attr {
    int32_t count;
    float alpha;
    float lo, hi;
} ep_elementwise_attr;

/* affine_f32: y = x * scale + offset per channel (a BatchNorm that could not be folded); x (rows, channels). */
typedef struct ep_affine_attr {
    int32_t rows, channels;
    float lo, hi;
} ep_affine_attr;

/* softmax_*: over the last axis of (rows, channels). */
typedef struct ep_softmax_attr {
    int32_t rows, channels;
} ep_softmax_attr;

/* transpose: y[i0, i1, ..] with y.shape[k] = dims[k], read from x at sum of i_k * strides[k] (in elements).
 * Unused leading dims are 1. `size`: bytes of an element, 1 or 4. */
typedef struct ep_transpose_attr {
    int32_t dims[6];
    int32_t strides[6];
    int32_t size;
} ep_transpose_attr;

/* float32 functions of one element over `count` of them. What alpha, beta and gamma are stands in the op's file. */
typedef struct ep_unary_attr {
    int32_t count;
    float alpha, beta, gamma;
} ep_unary_attr;

/* Two operands, broadcast as NumPy does: y of shape dims, where a lies at the sum of i_k * a_strides[k] (in elements), b
 * likewise; a stride is 0 where the operand repeats. Unused leading dims are 1. An operand may be constant. `lo`, `hi` as
 * above; mul_s8: of the code without its zero point, and `alpha` as in add_s8. */
typedef struct ep_binary_attr {
    int32_t dims[6];
    int32_t a_strides[6];
    int32_t b_strides[6];
    float alpha;
    float lo, hi;
} ep_binary_attr;

/* The table of ops: X(code, name, attribute struct, grad). `code` is the op's number in an image and never changes.
 * `grad`: G has a backward, N has none. Inputs in order, `;` before what is constant or trainable:
 *   conv2d_f32, depthwise_conv2d_f32, dense_f32   x ; weight, bias        -> y
 *   conv2d_s8, depthwise_conv2d_s8, dense_s8      x ; weight (i8), bias (i32), multiplier (f32, out_c)  -> y
 *   affine_f32                                    x ; scale, offset       -> y
 *   add_*                                         a, b                    -> y
 *   lut_s8                                        x ; table (256 x i8, index q + 128)    -> y
 *   prelu_f32                                     x ; slope (channels)    -> y
 *   add_broadcast_f32, sub_f32, mul_f32, div_f32, min_f32, max_f32, mul_s8    a, b  -> y
 *   softmax_s8                                    x ; table (256 x f32, index 255 + q - max)  -> y
 *   all others                                    x                       -> y
 */
#define EP_OPS(X)                                         \
    X(1, conv2d_f32, ep_conv2d_attr, G)                   \
    X(2, depthwise_conv2d_f32, ep_conv2d_attr, G)         \
    X(3, dense_f32, ep_dense_attr, G)                     \
    X(4, max_pool2d_f32, ep_pool2d_attr, G)               \
    X(5, average_pool2d_f32, ep_pool2d_attr, G)           \
    X(6, add_f32, ep_elementwise_attr, G)                 \
    X(7, clip_f32, ep_elementwise_attr, G)                \
    X(8, leaky_relu_f32, ep_elementwise_attr, G)          \
    X(9, sigmoid_f32, ep_elementwise_attr, G)             \
    X(10, tanh_f32, ep_elementwise_attr, G)               \
    X(11, affine_f32, ep_affine_attr, G)                  \
    X(12, softmax_f32, ep_softmax_attr, G)                \
    X(13, transpose, ep_transpose_attr, G)                \
    X(14, quantize, ep_elementwise_attr, N)               \
    X(15, dequantize, ep_elementwise_attr, N)             \
    X(16, conv2d_s8, ep_conv2d_attr, N)                   \
    X(17, depthwise_conv2d_s8, ep_conv2d_attr, N)         \
    X(18, dense_s8, ep_dense_attr, N)                     \
    X(19, max_pool2d_s8, ep_pool2d_attr, N)               \
    X(20, average_pool2d_s8, ep_pool2d_attr, N)           \
    X(21, global_average_pool_s8, ep_global_pool_attr, N) \
    X(22, add_s8, ep_elementwise_attr, N)                 \
    X(23, lut_s8, ep_elementwise_attr, N)                 \
    X(24, softmax_s8, ep_softmax_attr, N)                 \
    X(25, copy, ep_elementwise_attr, G)                   \
    X(30, elu_f32, ep_unary_attr, G)                      \
    X(31, gelu_f32, ep_unary_attr, G)                     \
    X(32, gelu_tanh_f32, ep_unary_attr, G)                \
    X(33, silu_f32, ep_unary_attr, G)                     \
    X(34, hard_sigmoid_f32, ep_unary_attr, G)             \
    X(35, hard_swish_f32, ep_unary_attr, G)               \
    X(36, softplus_f32, ep_unary_attr, G)                 \
    X(37, softsign_f32, ep_unary_attr, G)                 \
    X(38, mish_f32, ep_unary_attr, G)                     \
    X(39, abs_f32, ep_unary_attr, G)                      \
    X(40, exp_f32, ep_unary_attr, G)                      \
    X(41, log_f32, ep_unary_attr, G)                      \
    X(42, sqrt_f32, ep_unary_attr, G)                     \
    X(43, reciprocal_f32, ep_unary_attr, G)               \
    X(44, pow_f32, ep_unary_attr, G)                      \
    X(45, erf_f32, ep_unary_attr, G)                      \
    X(46, thresholded_relu_f32, ep_unary_attr, G)         \
    X(47, log_softmax_f32, ep_softmax_attr, G)            \
    X(48, prelu_f32, ep_softmax_attr, G)                  \
    X(50, add_broadcast_f32, ep_binary_attr, G)           \
    X(51, sub_f32, ep_binary_attr, G)                     \
    X(52, mul_f32, ep_binary_attr, G)                     \
    X(53, div_f32, ep_binary_attr, G)                     \
    X(54, min_f32, ep_binary_attr, G)                     \
    X(55, max_f32, ep_binary_attr, G)                     \
    X(56, mul_s8, ep_binary_attr, N)

#define EP_DECLARE_G(name) extern const ep_grad ep_##name##_grad;
#define EP_DECLARE_N(name)
#define EP_DECLARE(code, name, attr, grad) \
    extern const ep_op ep_##name;          \
    EP_DECLARE_##grad(name)
EP_OPS(EP_DECLARE)
#undef EP_DECLARE
#undef EP_DECLARE_G
#undef EP_DECLARE_N

/* A generated header writes EP_GRAD(dense_f32); without training it is nothing. */
#ifdef EP_NO_TRAIN
#define EP_GRAD(name) NULL
#else
#define EP_GRAD(name) (&ep_##name##_grad)
#endif

/* Losses: X(code, name). Targets: softmax_cross_entropy and hinge take labels, the others values. */
#define EP_LOSSES(X)            \
    X(1, softmax_cross_entropy) \
    X(2, sigmoid_cross_entropy) \
    X(3, mse)                   \
    X(4, hinge)
#define EP_DECLARE(code, name) extern const ep_loss ep_##name;
EP_LOSSES(EP_DECLARE)
#undef EP_DECLARE

#endif
