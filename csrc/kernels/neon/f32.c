/* The float32 kernels, with fused multiply-add where the target has it. */
#include "neon.h"

#ifdef EP_NEON

#define EP_ISA neon
#define EP_VEC 4
#define EP_OWN_DOTS 1
#define EP_OWN_DEPTHWISE 1
#define EP_OWN_ROWS 1
#if defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
#define EP_FUSED(sum, a, b) vfmaq_f32(sum, a, b)
#endif
#include "../vector_f32.h"

#else
typedef int ep_f32_neon_left_out; /* ISO C wants a declaration in every file */
#endif
