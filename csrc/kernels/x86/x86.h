/* What the x86 kernels share. Every function says which instructions it may use, so that the files need no flags of their
 * own; ep_list_kernels() sees to it that none runs where these are not. */
#ifndef EP_X86_H
#define EP_X86_H

#include "../kernels.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#include <immintrin.h>
#include <string.h>

#define EP_AVX2 __attribute__((target("avx2,fma")))
#define EP_AVX512 __attribute__((target("avx2,fma,avx512f,avx512bw,avx512vl,avx512dq,avx512vnni")))
#define EP_UNROLL _Pragma("GCC unroll 16") /* a loop over registers: -O2 alone would keep them in memory */
#define EP_INLINE static inline __attribute__((always_inline))

/* _mm512_dpbusd_epi32; around that, gcc moves the sums from register to register and to memory. */
EP_AVX512 EP_INLINE void ep_add_products(__m512i *sums, __m512i x, __m512i w)
{
    __asm__("vpdpbusd %2, %1, %0" : "+v"(*sums) : "v"(x), "v"(w));
}

#define EP_DECLARE(type, name, arguments) \
    type ep_##name##_avx2 arguments;      \
    type ep_##name##_avx512 arguments;
EP_KERNELS(EP_DECLARE)
#undef EP_DECLARE

extern const ep_kernels ep_kernels_avx2, ep_kernels_avx512;

#endif
#endif
