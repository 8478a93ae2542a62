/* gemm_s8 with dot products, ARMv8.2's SDOT: four products at once to each of four sums. */
#include "neon.h"

#if defined(EP_NEON) && (defined(EP_DISPATCH) || defined(__ARM_FEATURE_DOTPROD))

#if defined(__ARM_FEATURE_DOTPROD)
#define EP_TARGET
#elif defined(__clang__)
#define EP_TARGET __attribute__((target("dotprod")))
#else
#define EP_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define EP_DOTPROD 1
#include "gemm_s8.h"

EP_TARGET void ep_gemm_s8_dotprod(const ep_gemm_s8 *g)
{
    ep_gemm(g, EP_DOTS);
}

#else
typedef int ep_gemm_dotprod_left_out; /* ISO C wants a declaration in every file */
#endif
