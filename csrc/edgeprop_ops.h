/* The ops a model may name, their attributes and losses. Included by edgeprop.h; nothing to include by hand.
 *
 * Attributes are structs of 4-byte words, so that an image holds them as they are. All sizes are of one sample.
 * `lo`, `hi`: the fused activation, as the range the result is clamped to. float32 ops clamp the result itself
 * (no activation: -INFINITY, INFINITY; ReLU 0, INFINITY; ReLU6 0, 6); int8 ops clamp before the output's zero point
 * is added, so lo = qmin - zero_point, hi = qmax - zero_point. */
#ifndef EDGEPROP_OPS_H
#define EDGEPROP_OPS_H

/* conv2d_*, depthwise_conv2d_*, conv_transpose2d_f32. x (in_h, in_w, in_c) -> y (out_h, out_w, out_c).
 * Weights: conv2d (out_c, kernel_h, kernel_w, in_c/groups); depthwise (kernel_h, kernel_w, out_c), where output
 * channel k sees input channel k / (out_c / in_c). Padding below and right follows from the sizes.
 * conv_transpose2d_f32 adds x[iy, ix] times the weights (in_c, kernel_h, kernel_w, out_c/groups) to y where a convolution
 * from y to x would read: tap (ky, kx) at oy = iy * stride_h - pad_top + ky * dilation_h, ox likewise.
 *
 * conv2d_s8, depthwise_conv2d_s8, dense_s8: sum = bias + products of codes as they are; y = clamp((float)sum *
 * multiplier, lo, hi) rounded half to even + y's zero point. So the bias tensor holds bias - x's zero point * (sum of
 * the channel's weights over all taps), and a tap in the padding counts as x's zero point. Weight zero points are 0,
 * but in conv2d_zero_s8, which has one for every channel; its products are x * (weight - zero).
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

/* dynamic_dense_f32 and dynamic_conv2d_f32 have these attributes, whatever the groups: float32 in and out, integers between.
 * A sample gets a scale and a zero point of its own, those of ONNX's DynamicQuantizeLinear (uint8 codes); y =
 * clamp((float)(sum of (code - zero point) * (weight - its zero)) * (scale * weight's scale) + bias), each step rounded to
 * float32. */

/* max_pool2d_*, average_pool2d_*. x (in_h, in_w, channels) -> y (out_h, out_w, channels).
 * A global average pool is one whose kernel is the whole input. */
typedef struct ep_pool2d_attr {
    int32_t in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t count_include_pad; /* average: 1: taps in the padding count too; average_pool2d_s8: 2 more where the ONNX
                                    * graph has uint8 codes (which round differently) */
    int32_t pad_bottom, pad_right; /* average with count_include_pad: how far the padding that counts reaches */
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

/* box: a box of x goes into a box of y, element (i0, i1, ..) from x at x_offset + sum of i_k * x_strides[k] to y at
 * y_offset + sum of i_k * y_strides[k] (in elements); the rest of y is `fill`. A slice with steps of either sign, padding,
 * and, with strides of 0, a broadcast. Unused leading dims are 1. `size`: bytes of an element, 1 or 4. */
typedef struct ep_box_attr {
    int32_t dims[6];
    int32_t x_strides[6]; /* may be negative */
    int32_t y_strides[6];
    int32_t x_offset, y_offset;
    int32_t size;
    float fill; /* codes: a whole number */
} ep_box_attr;

/* concat: inputs (outer, inner_i), 8 at most, which may be constant -> y (outer, sum of inner_i). */
typedef struct ep_concat_attr {
    int32_t outer;
    int32_t size; /* bytes of an element, 1 or 4 */
} ep_concat_attr;

/* gather: x (outer, in, inner) ; index (out), each 0 .. in-1 -> y (outer, out, inner), y[o, j] = x[o, index[j]].
 * `size`: bytes of an element, 1 or 4. */
typedef struct ep_gather_attr {
    int32_t outer, in, out, inner;
    int32_t size;
} ep_gather_attr;

/* embedding_f32: ids (rows) ; table (vocabulary, width) -> y (rows, width). An id of -vocabulary .. -1 counts from the
 * end; one outside the table gives zeros, and learns nothing. */
typedef struct ep_embedding_attr {
    int32_t rows, vocabulary, width;
} ep_embedding_attr;

/* reduce_f32: x (outer, size, inner) -> y (outer, inner). */
enum {
    EP_REDUCE_SUM = 0,
    EP_REDUCE_MAX = 1,
    EP_REDUCE_MIN = 2,
    EP_REDUCE_L1 = 3,
    EP_REDUCE_L2 = 4,
    EP_REDUCE_SUM_SQUARE = 5
};
typedef struct ep_reduce_attr {
    int32_t outer, size, inner;
    int32_t which; /* EP_REDUCE_* */
} ep_reduce_attr;

/* resample_f32: x (outer, in, inner) ; index (out, taps), weight (out, taps) -> y (outer, out, inner),
 * y[o, j] = sum over t of weight[j, t] * x[o, index[j, t]]: one axis of a linear or cubic resize. */
typedef struct ep_resample_attr {
    int32_t outer, in, out, inner;
    int32_t taps;
} ep_resample_attr;

/* matmul_*: a (batch, rows, count) times b (batch, count, columns), or (batch, columns, count) if `transposed`, gives
 * y (batch, rows, columns). matmul_s8: `transposed` is 1; y = clamp((float)sum * (a's scale * b's scale / y's scale),
 * lo, hi) rounded half to even + y's zero point, sum = products of codes less their zero points. */
typedef struct ep_matmul_attr {
    int32_t batch, rows, count, columns;
    int32_t transposed;
    float lo, hi;
} ep_matmul_attr;
/* rnn_f32, gru_f32, lstm_f32: x (sequences, steps, n_in) -> y (sequences, steps, directions, n_hidden), as ONNX's RNN,
 * GRU, LSTM: one sample is so many sequences, each of which starts from its own states.
 * Weights: w (directions, gates, n_hidden, n_in), r (directions, gates, n_hidden, n_hidden), b (directions, 2, gates,
 * n_hidden): added to what w and what r gives. Gates: gru z, r, n; lstm i, o, f, g. States, and those at the end:
 * (sequences, directions, n_hidden). `kept` is what learning needs: (sequences, directions, steps, rnn 1, gru 4, lstm 5,
 * n_hidden); without it there is no backward. The plans may leave out y and kept where nobody reads them. */
typedef struct ep_recurrent_attr {
    int32_t steps, n_in, n_hidden;
    int32_t directions; /* 1, or 2: the second goes from the last step to the first */
    int32_t reverse;    /* 1: the first does so too */
    int32_t variant;    /* rnn: 0 tanh, 1 ReLU; gru: linear_before_reset; lstm: 0 */
    int32_t truncate;   /* the gradient does not go back past every truncate-th step from the start; 0: it does */
    int32_t sequences;
} ep_recurrent_attr;
/* group_norm_f32: x (rows, size, channels) -> y, normalized over a row's positions of each group of channels; scale and bias
 * (channels). Layer normalization: size 1, groups 1; instance normalization: as many groups as channels. */
typedef struct ep_group_norm_attr {
    int32_t rows, size, channels, groups;
    int32_t center; /* 0: the mean is not taken off (root of the mean square) */
    float epsilon;
    float lo, hi;
} ep_group_norm_attr;

/* sparse_dense_f32: as dense_f32, of the weights that are stored. */
typedef struct ep_sparse_dense_attr {
    int32_t n_in, n_out, rows;
    int32_t stored; /* values, of all rows of the weight matrix */
    float lo, hi;
} ep_sparse_dense_attr;

/* float32 functions of one element over `count` of them. What alpha, beta and gamma are stands in the op's file. */
typedef struct ep_unary_attr {
    int32_t count;
    float alpha, beta, gamma;
} ep_unary_attr;

/* Two operands, broadcast as NumPy does: y of shape dims, where a lies at the sum of i_k * a_strides[k] (in elements), b
 * likewise; a stride is 0 where the operand repeats. Unused leading dims are 1. An operand may be constant. `lo`, `hi` as
 * above; mul_s8, add_broadcast_s8: of the code without its zero point, and `alpha` as in add_s8. */
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
 *   conv2d_zero_s8                                the same, zero points of the weights (i8, out_c)  -> y
 *   affine_f32                                    x ; scale, offset       -> y
 *   group_norm_f32                                x ; scale, bias         -> y
 *   sparse_dense_f32   x ; values (stored), bias, starts (i32, n_out + 1), columns (u8, 2 bytes each, low one first) -> y
 *   dynamic_dense_f32   x ; weight (i8, (n_out, n_in)), bias (f32), weight's scales (f32, n_out), zeros (i8, n_out) -> y
 *   dynamic_conv2d_f32 the same with weight (out_c, kernel_h, kernel_w, in_c/groups)  -> y
 *   add_*                                         a, b                    -> y
 *   lut_s8                                        x ; table (256 x i8, index q + 128)    -> y
 *   prelu_f32                                     x ; slope (channels)    -> y
 *   add_broadcast_f32, sub_f32, mul_f32, div_f32, min_f32, max_f32, mul_s8, add_broadcast_s8    a, b  -> y
 *   softmax_s8                                    x ; table (256 x f32, index 255 + q - max)  -> y
 *   concat                                        x0, x1, ..              -> y
 *   gather                                        x ; index (i32)         -> y
 *   embedding_f32                                 ids (i32) ; table       -> y
 *   resample_f32                                  x ; index (i32), weight -> y
 *   matmul_*                                      a, b                    -> y
 *   conv_transpose2d_f32                          x ; weight, bias        -> y
 *   rnn_f32, gru_f32                              x ; w, r, b, [h at the start]    -> y, h at the end, [kept]
 *   lstm_f32                                      x ; w, r, b, [h, c]     -> y, h, c, [kept]
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
    X(49, sign_f32, ep_unary_attr, G)                     \
    X(50, add_broadcast_f32, ep_binary_attr, G)           \
    X(51, sub_f32, ep_binary_attr, G)                     \
    X(52, mul_f32, ep_binary_attr, G)                     \
    X(53, div_f32, ep_binary_attr, G)                     \
    X(54, min_f32, ep_binary_attr, G)                     \
    X(55, max_f32, ep_binary_attr, G)                     \
    X(56, mul_s8, ep_binary_attr, N)                      \
    X(60, box, ep_box_attr, G)                            \
    X(61, concat, ep_concat_attr, G)                      \
    X(62, gather, ep_gather_attr, G)                      \
    X(63, embedding_f32, ep_embedding_attr, G)            \
    X(64, reduce_f32, ep_reduce_attr, G)                  \
    X(65, resample_f32, ep_resample_attr, G)              \
    X(66, matmul_f32, ep_matmul_attr, G)                  \
    X(67, matmul_s8, ep_matmul_attr, N)                   \
    X(68, conv_transpose2d_f32, ep_conv2d_attr, G)        \
    X(80, rnn_f32, ep_recurrent_attr, G)                  \
    X(81, gru_f32, ep_recurrent_attr, G)                  \
    X(82, lstm_f32, ep_recurrent_attr, G)                 \
    X(100, group_norm_f32, ep_group_norm_attr, G)         \
    X(101, sparse_dense_f32, ep_sparse_dense_attr, G)     \
    X(102, dynamic_dense_f32, ep_dense_attr, N)           \
    X(103, dynamic_conv2d_f32, ep_conv2d_attr, N)         \
    X(110, add_broadcast_s8, ep_binary_attr, N)           \
    X(111, conv2d_zero_s8, ep_conv2d_attr, N)

#define EP_DECLARE_G(name) extern const ep_grad ep_##name##_grad;
#define EP_DECLARE_N(name)
#define EP_DECLARE(code, name, attr, grad) \
    extern const ep_op ep_##name;          \
    EP_DECLARE_##grad(name)
EP_OPS(EP_DECLARE)
#undef EP_DECLARE
#undef EP_DECLARE_G
#undef EP_DECLARE_N

/* What a header takes for dense layers of one row in place of ep_dense_f32_grad: the same bits, less code. */
extern const ep_grad ep_dense_row_f32_grad;

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
