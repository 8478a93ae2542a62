/* The float32 kernels of ../vector_f32.h with vectors of 8 floats. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#include <math.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma"))), apply_to = function)
#else
#pragma GCC target("avx2,fma")
#endif

#define EP_ISA avx2
#define EP_VEC 8
#define EP_FUSED(sum, a, b) _mm256_fmadd_ps(a, b, sum)
#define EP_OWN_KERNELS
#include "../vector_f32.h"

#define EP_WIDE 2
#define EP_TALL 6
#define EP_DOTS 4
#define EP_ALIGNED_64 __attribute__((aligned(64)))

EP_INLINE __m256i ep_first(int32_t n)
{
    static const int32_t lanes[16] = {-1, -1, -1, -1, -1, -1, -1, -1};
    return _mm256_loadu_si256((const __m256i *)(const void *)(lanes + 8 - n));
}

EP_INLINE ep_vec ep_get_some(const float *p, int32_t n)
{
    return _mm256_maskload_ps(p, ep_first(n));
}

EP_INLINE void ep_put_some(float *p, int32_t n, ep_vec v)
{
    _mm256_maskstore_ps(p, ep_first(n), v);
}

EP_INLINE __m256 ep_eight(ep_vec v)
{
    return v;
}

#include "f32.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int ep_vector_f32_avx2_left_out; /* ISO C wants a declaration in every file */
#endif
