/* NEON of Cortex-A. On 64-bit Linux one build serves processors with dot products and without: chosen at run time, unless
 * the compiler's target has them anyway or EP_STATIC says that the build is for its target alone. */
#define EP_NEON 1
#define EP_PATCH_BYTES 16384
#define EP_PATCH_FLOATS 12288 /* rows enough of a 3x3 convolution of 64 channels to pack its weights for */
#define EP_PAD_LINES 1
#define EP_DEPTHWISE_LANES 256
#define EP_TILE_ROWS 32
#define EP_TILE_COLUMNS 64

#if defined(__aarch64__) && defined(__linux__) && !defined(__ARM_FEATURE_DOTPROD) && !defined(EP_STATIC)
#define EP_DISPATCH 1
#elif defined(__ARM_FEATURE_DOTPROD)
#define EP_PICK_gemm_s8 dotprod
#define EP_PICK_conv_s8 dotprod
#else
#define EP_PICK_gemm_s8 neon
#define EP_PICK_conv_s8 neon
#endif

#define EP_PICK_depthwise_s8 neon
#define EP_PICK_requantize_s8 neon
#define EP_PICK_add_s8 neon
#define EP_PICK_max_s8 neon
#define EP_PICK_sum_s8 neon
#define EP_PICK_dots_f32 neon
#define EP_PICK_outer_f32 neon
#define EP_PICK_depthwise_f32 neon
#define EP_PICK_axpy_f32 neon
#define EP_PICK_multiply_add_f32 neon
#define EP_PICK_add_f32 neon
#define EP_PICK_clamp_f32 neon
#define EP_PICK_mask_f32 neon
#define EP_PICK_max_abs_f32 neon
