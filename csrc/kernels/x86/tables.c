/* The kernels of x86 processors, by what these have. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

const ep_kernels ep_kernels_avx512 = {
    .name = "avx512",
    .gemm_s8 = ep_gemm_s8_avx512,
    .conv_s8 = ep_conv_s8_avx512,
    .depthwise_s8 = ep_depthwise_s8_avx512,
    .requantize_s8 = ep_requantize_s8_avx512,
    .add_s8 = ep_add_s8_avx512,
    .max_s8 = ep_max_s8_avx512,
    .sum_s8 = ep_sum_s8_avx512,
    .dots_f32 = ep_dots_f32_portable,
    .outer_f32 = ep_outer_f32_portable,
    .depthwise_f32 = ep_depthwise_f32_portable,
    .axpy_f32 = ep_axpy_f32_portable,
    .multiply_add_f32 = ep_multiply_add_f32_portable,
    .add_f32 = ep_add_f32_portable,
    .clamp_f32 = ep_clamp_f32_portable,
    .mask_f32 = ep_mask_f32_portable,
    .max_abs_f32 = ep_max_abs_f32_portable,
};

#else
typedef int ep_tables_left_out; /* ISO C wants a declaration in every file */
#endif
