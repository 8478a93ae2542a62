/* Helium: the vectors of a Cortex-M55 and M85, with float32 in them or without. */
#define EP_PICK_gemm_s8 helium
#define EP_PICK_depthwise_s8 helium
#define EP_PICK_requantize_s8 helium
#define EP_PICK_max_s8 helium
#define EP_PICK_sum_s8 helium
#if __ARM_FEATURE_MVE & 2
#define EP_PICK_add_s8 helium
#define EP_PICK_dots_f32 helium
#define EP_PICK_outer_f32 helium
#define EP_PICK_depthwise_f32 helium
#define EP_PICK_axpy_f32 helium
#define EP_PICK_multiply_add_f32 helium
#define EP_PICK_add_f32 helium
#define EP_PICK_clamp_f32 helium
#define EP_PICK_mask_f32 helium
#define EP_PICK_max_abs_f32 helium
#endif
