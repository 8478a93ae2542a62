/* The float32 kernels of ../vector_f32.h with vectors of 16 floats. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#include <math.h>

#if defined(__clang__)
#pragma clang attribute push(__attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni"))), \
                             apply_to = function)
#else
#pragma GCC target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")
#endif

#define EP_ISA avx512
#define EP_VEC 16
#define EP_FUSED(sum, a, b) _mm512_fmadd_ps(a, b, sum)
#define EP_OWN_KERNELS
#include "../vector_f32.h"

#define EP_WIDE 4
#define EP_TALL 6
#define EP_DOTS 8
#define EP_ALIGNED_64 __attribute__((aligned(64)))

EP_INLINE ep_vec ep_get_some(const float *p, int32_t n)
{
    return _mm512_maskz_loadu_ps((__mmask16)((1u << n) - 1), p);
}

EP_INLINE void ep_put_some(float *p, int32_t n, ep_vec v)
{
    _mm512_mask_storeu_ps(p, (__mmask16)((1u << n) - 1), v);
}

EP_INLINE __m256 ep_eight(ep_vec v)
{
    return _mm256_add_ps(_mm512_castps512_ps256(v), _mm512_extractf32x8_ps(v, 1));
}

#include "f32.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int ep_vector_f32_avx512_left_out; /* ISO C wants a declaration in every file */
#endif
