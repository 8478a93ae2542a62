/* The kernels of 64-bit Cortex-A processors, by what these have. */
#include "neon.h"

#if defined(EP_NEON) && defined(EP_DISPATCH)

#define EP_REST                                                                                                       \
    .depthwise_s8 = ep_depthwise_s8_neon, .requantize_s8 = ep_requantize_s8_neon, .add_s8 = ep_add_s8_neon,           \
    .max_s8 = ep_max_s8_neon, .sum_s8 = ep_sum_s8_neon, .dots_f32 = ep_dots_f32_neon, .outer_f32 = ep_outer_f32_neon, \
    .depthwise_f32 = ep_depthwise_f32_neon, .axpy_f32 = ep_axpy_f32_neon,                                             \
    .multiply_add_f32 = ep_multiply_add_f32_neon, .add_f32 = ep_add_f32_neon, .clamp_f32 = ep_clamp_f32_neon,         \
    .mask_f32 = ep_mask_f32_neon, .max_abs_f32 = ep_max_abs_f32_neon

const ep_kernels ep_kernels_neon = {.name = "neon", .gemm_s8 = ep_gemm_s8_neon, .conv_s8 = ep_conv_s8_neon, EP_REST};
const ep_kernels ep_kernels_dotprod = {
    .name = "neon with dot products", .gemm_s8 = ep_gemm_s8_dotprod, .conv_s8 = ep_conv_s8_dotprod, EP_REST};

#else
typedef int ep_neon_tables_left_out; /* ISO C wants a declaration in every file */
#endif
