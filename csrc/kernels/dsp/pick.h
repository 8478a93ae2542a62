/* The DSP instructions of a Cortex-M4, M7, M33: two 16-bit products in one. The code is GNU assembly. */
#ifdef __GNUC__
#define EP_DSP 1
#ifndef __OPTIMIZE_SIZE__
#define EP_PATCH_BYTES 2304 /* four positions of 3 x 3 x 64 */
#endif
#define EP_PICK_gemm_s8 dsp
#define EP_PICK_depthwise_s8 dsp
#define EP_PICK_requantize_s8 dsp
#define EP_PICK_add_s8 dsp
#define EP_PICK_max_s8 dsp
#define EP_PICK_sum_s8 dsp
#if defined(__ARM_FP) && (__ARM_FP & 4) && defined(__ARM_FEATURE_FMA)
#define EP_FPU 1
#define EP_PICK_dots_f32 dsp
#define EP_PICK_outer_f32 dsp
#define EP_PICK_depthwise_f32 dsp
#define EP_PICK_axpy_f32 dsp
#ifndef __OPTIMIZE_SIZE__
#define EP_PICK_clamp_f32 dsp
#define EP_PICK_max_abs_f32 dsp
#endif
#endif
#endif
