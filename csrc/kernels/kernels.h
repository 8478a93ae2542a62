/* Declare the kernels, the inner loops that all ops are built on: what a version for one instruction set replaces.
 *
 * Each has a version in portable C, ep_NAME_portable, which is always there and which all others are tested against. An
 * instruction set has a folder of its own here, with a pick.h that says which kernels it brings and how much working
 * memory suits it. Which version runs is settled when the library is compiled, so that a linker drops the others, or, on a
 * PC or a 64-bit ARM where one build serves many processors, by ep_init() (EP_DISPATCH). EP_PORTABLE turns all of them off.
 *
 * int8 sums are int32 and exact: every version gives the same bits. float32 versions may sum in another order. */
#ifndef EP_KERNELS_H
#define EP_KERNELS_H

#include "contract.h"

#include <stddef.h>
#include <stdint.h>

/* ---- int8 -------------------------------------------------------------------------------------------------------- */

/* From sums to codes: (float)sum * multiplier of its channel, clamped to lo .. hi, rounded half to even, + zero_point. */
typedef struct ep_requant {
    const float *multiplier; /* (channels) */
    float lo, hi;            /* -128 - zero_point <= lo <= hi <= 127 - zero_point; they need not be whole */
    int32_t zero_point;
} ep_requant;

/* y[r, k] = requantize(bias[k] + sum over i of x[r, i] * w[k, i]). */
typedef struct ep_gemm_s8 {
    int8_t *y;
    const int8_t *x, *w; /* x (rows, count), rows x_step apart; w (columns, count), without gaps */
    const int32_t *bias; /* (columns) */
    ep_requant q;        /* by column */
    ptrdiff_t y_step, x_step;
    int32_t rows, columns, count;
    int narrow; /* no code of w is -128 */
} ep_gemm_s8;

/* Convolution at `lines` x `run` positions, each of which sees `pieces` pieces of `piece` codes, x_piece apart:
 * y[l * y_line + p * y_step + k] = requantize(bias[k] + sum over s, i of
 *     x[l * x_line + p * x_step + s * x_piece + i] * w[k, s * piece + i]).
 * Used where a pick.h defines EP_PAD_LINES, which is worth it where the stack takes some padded lines of an image;
 * elsewhere convolutions gather what a position sees and call gemm_s8. */
typedef struct ep_conv_s8 {
    int8_t *y;
    const int8_t *x, *w; /* w (columns, pieces, piece) */
    const int32_t *bias; /* (columns) */
    ep_requant q;        /* by column */
    ptrdiff_t y_line, y_step, x_line, x_step, x_piece;
    int32_t lines, run, columns, pieces, piece;
    int narrow; /* no code of w is -128 */
} ep_conv_s8;

/* Depthwise convolution at `lines` x `run` positions, all of whose taps are inside the image:
 * y[l * y_line + p * y_step + c] = requantize(bias[c] + sum over ky, kx of
 *     x[l * x_line + p * x_step + ky * x_row + kx * x_tap + c] * w[ky * w_row + kx * w_tap + c]). */
typedef struct ep_depthwise_s8 {
    int8_t *y;
    const int8_t *x, *w;
    const int32_t *bias; /* (channels) */
    ep_requant q;        /* by channel */
    ptrdiff_t y_line, y_step, x_line, x_step, x_row, x_tap, w_row, w_tap;
    int32_t lines, run, channels, kernel_h, kernel_w;
} ep_depthwise_s8;

/* y = rounded and clamped fma(a + offset, a_ratio, fma(b + offset, b_ratio, fixed)), less offset (see ops/add_s8.c). */
typedef struct ep_add_args {
    float a_ratio, b_ratio; /* input scale / output scale */
    float fixed;            /* what the zero points contribute */
    float lo, hi;           /* of the output code plus offset */
    int32_t offset;         /* 128 where the ONNX graph has uint8 codes, whose zero points round differently; else 0 */
} ep_add_args;

/* ---- float32 ----------------------------------------------------------------------------------------------------- */

/* y[r, k] = base[r, k] + sum over i of x[r, i] * w[k, i]. Steps are elements from one row to the next. base may be y;
 * base_step 0: the same for all rows. */
typedef struct ep_dots_f32 {
    float *y;
    const float *base, *x, *w;
    ptrdiff_t y_step, base_step, x_step, w_step;
    int32_t rows, columns, count;
} ep_dots_f32;

/* c[r, j] += sum over t of a[r * a_row + t * a_step] * b[t * b_step + j]. Rows of c may overlap: one after the other. */
typedef struct ep_outer_f32 {
    float *c;
    const float *a, *b;
    ptrdiff_t c_step, a_row, a_step, b_step;
    int32_t rows, columns, count;
} ep_outer_f32;

/* As ep_depthwise_s8: y[..] = bias[c] + sum over ky, kx of x[..] * w[..]. */
typedef struct ep_depthwise_f32 {
    float *y;
    const float *x, *w, *bias;
    ptrdiff_t y_line, y_step, x_line, x_step, x_row, x_tap, w_row, w_tap;
    int32_t lines, run, channels, kernel_h, kernel_w;
} ep_depthwise_f32;

/* ---- The kernels: X(type, name, arguments) ----------------------------------------------------------------------- */

#define EP_KERNELS(X)                                                                                     \
    X(void, gemm_s8, (const ep_gemm_s8 *g))                                                               \
    X(void, conv_s8, (const ep_conv_s8 *c))                                                               \
    X(void, depthwise_s8, (const ep_depthwise_s8 *d))                                                     \
    /* sums (count) -> y (count), each with its channel's multiplier */                                   \
    X(void, requantize_s8, (int8_t * y, const int32_t *sums, const ep_requant *q, int32_t count))         \
    /* y may be a or b */                                                                                 \
    X(void, add_s8, (const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)) \
    /* y = max(y, x) */                                                                                   \
    X(void, max_s8, (int8_t * y, const int8_t *x, int32_t count))                                         \
    /* sums += x */                                                                                       \
    X(void, sum_s8, (int32_t * sums, const int8_t *x, int32_t count))                                     \
    X(void, dots_f32, (const ep_dots_f32 *d))                                                             \
    X(void, outer_f32, (const ep_outer_f32 *o))                                                           \
    X(void, depthwise_f32, (const ep_depthwise_f32 *d))                                                   \
    /* y += a * x */                                                                                      \
    X(void, axpy_f32, (float *y, float a, const float *x, size_t count))                                  \
    /* y += x * w, element by element */                                                                  \
    X(void, multiply_add_f32, (float *y, const float *x, const float *w, size_t count))                   \
    /* y += x */                                                                                          \
    X(void, add_f32, (float *y, const float *x, size_t count))                                            \
    /* y clamped to lo .. hi; NaN passes */                                                               \
    X(void, clamp_f32, (float *y, float lo, float hi, size_t count))                                      \
    /* dy = 0 where y is not strictly between lo and hi */                                                \
    X(void, mask_f32, (float *dy, const float *y, float lo, float hi, size_t count))                      \
    /* largest |v[i]|; NaN, or else infinity, if there is one; 0 of none */                               \
    X(float, max_abs_f32, (const float *v, size_t count))

#define EP_DECLARE(type, name, arguments) type ep_##name##_portable arguments;
EP_KERNELS(EP_DECLARE)
#undef EP_DECLARE

/* One instruction set's, with those of others where it has none of its own. */
typedef struct ep_kernels {
    const char *name;
#define EP_FIELD(type, name, arguments) type(*name) arguments;
    EP_KERNELS(EP_FIELD)
#undef EP_FIELD
} ep_kernels;

/* ---- Which run --------------------------------------------------------------------------------------------------- */

#if defined(EP_PORTABLE)
#elif defined(__GNUC__) && defined(__x86_64__)
#define EP_DISPATCH 1
#include "x86/pick.h"
#elif defined(__GNUC__) && defined(__aarch64__)
#include "neon/pick.h"
#elif defined(__ARM_FEATURE_MVE)
#include "helium/pick.h"
#elif defined(__ARM_NEON)
#include "neon/pick.h"
#elif defined(__ARM_FEATURE_DSP) && defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#include "dsp/pick.h"
#elif defined(__ARM_ARCH_PROFILE) && __ARM_ARCH_PROFILE == 'M'
#include "thumb/pick.h"
#endif

/* A pick.h may say what suits its instruction set: */
#ifndef EP_PATCH_BYTES
#define EP_PATCH_BYTES 1152 /* of stack in which convolutions gather what output positions see, or padded lines */
#endif
#ifndef EP_PATCH_FLOATS
#define EP_PATCH_FLOATS (EP_PATCH_BYTES / 4) /* the same for float32, in elements */
#endif
#ifndef EP_TILE_ROWS /* part of a weight's gradient that is summed on the stack, 512 bytes, before it is handed over */
#define EP_TILE_ROWS 4
#define EP_TILE_COLUMNS 32
#endif
#ifndef EP_DEPTHWISE_LANES
#define EP_DEPTHWISE_LANES \
    64 /* channels whose sums a depthwise convolution prepares at once at a border, 4 bytes each */
#endif

#ifdef EP_DISPATCH
/* The best this processor has. */
const ep_kernels *ep_best_kernels(void);

/* All it has, the best first, the portable ones last; NULL from the end on. */
const ep_kernels *ep_list_kernels(unsigned i);

#define EP_KERNEL(ep, name) ((ep)->kernels->name)
#else
static inline const ep_kernels *ep_best_kernels(void)
{
    return NULL;
}

#include "picked.h"
#define EP_JOIN(name, isa) ep_##name##_##isa
#define EP_PICKED(name, isa) EP_JOIN(name, isa)
#define EP_KERNEL(ep, name) ((void)(ep), EP_PICKED(name, EP_PICK_##name)) /* a direct call */
#define EP_DECLARE(type, name, arguments) type EP_PICKED(name, EP_PICK_##name) arguments;
EP_KERNELS(EP_DECLARE)
#undef EP_DECLARE
#endif

#endif
