/* Pick the portable version of each kernel that no pick.h has picked another of. */
#ifndef EP_PICK_gemm_s8
#define EP_PICK_gemm_s8 portable
#endif
#ifndef EP_PICK_conv_s8
#define EP_PICK_conv_s8 portable
#endif
#ifndef EP_PICK_depthwise_s8
#define EP_PICK_depthwise_s8 portable
#endif
#ifndef EP_PICK_requantize_s8
#define EP_PICK_requantize_s8 portable
#endif
#ifndef EP_PICK_add_s8
#define EP_PICK_add_s8 portable
#endif
#ifndef EP_PICK_max_s8
#define EP_PICK_max_s8 portable
#endif
#ifndef EP_PICK_sum_s8
#define EP_PICK_sum_s8 portable
#endif
#ifndef EP_PICK_dots_f32
#define EP_PICK_dots_f32 portable
#endif
#ifndef EP_PICK_outer_f32
#define EP_PICK_outer_f32 portable
#endif
#ifndef EP_PICK_depthwise_f32
#define EP_PICK_depthwise_f32 portable
#endif
#ifndef EP_PICK_axpy_f32
#define EP_PICK_axpy_f32 portable
#endif
#ifndef EP_PICK_multiply_add_f32
#define EP_PICK_multiply_add_f32 portable
#endif
#ifndef EP_PICK_add_f32
#define EP_PICK_add_f32 portable
#endif
#ifndef EP_PICK_clamp_f32
#define EP_PICK_clamp_f32 portable
#endif
#ifndef EP_PICK_mask_f32
#define EP_PICK_mask_f32 portable
#endif
#ifndef EP_PICK_max_abs_f32
#define EP_PICK_max_abs_f32 portable
#endif
