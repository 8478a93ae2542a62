/* The DSP instructions of a Cortex-M4, M7, M33: two 16-bit products in one. The code is GNU assembly. */
#ifdef __GNUC__
#define EP_DSP 1
#define EP_PICK_gemm_s8 dsp
#define EP_PICK_depthwise_s8 dsp
#define EP_PICK_requantize_s8 dsp
#define EP_PICK_max_s8 dsp
#define EP_PICK_sum_s8 dsp
#if defined(__ARM_FP) && (__ARM_FP & 4)
#define EP_FPU 1
#endif
#endif
