/* The float32 kernels. */
#include "../kernels.h"

#if defined(__ARM_FEATURE_MVE) && __ARM_FEATURE_MVE & 2
#include <arm_mve.h>
#define EP_ISA helium
#define EP_VEC 4
#define EP_FUSED(sum, a, b) vfmaq_f32(sum, a, b)
#include "../vector_f32.h"
#else
typedef int ep_f32_helium_left_out; /* ISO C wants a declaration in every file */
#endif
