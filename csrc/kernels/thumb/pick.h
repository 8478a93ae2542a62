/* Cortex-M without DSP instructions: M0, M0+, M3. The code is GNU assembly. */
#ifdef __GNUC__
#define EP_THUMB 1
#define EP_PICK_gemm_s8 thumb
#define EP_PICK_depthwise_s8 thumb
#define EP_PICK_requantize_s8 thumb
#define EP_PICK_add_s8 thumb
#if __ARM_ARCH_ISA_THUMB == 1 /* the smallest: little RAM too */
#define EP_NARROW_MULTIPLY 1
#define EP_PATCH_BYTES 576
#define EP_DEPTHWISE_LANES 32
#endif
#endif
