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
#include "../vector_f32.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int ep_vector_f32_avx512_left_out; /* ISO C wants a declaration in every file */
#endif
