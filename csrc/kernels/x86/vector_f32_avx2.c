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
#include "../vector_f32.h"

#if defined(__clang__)
#pragma clang attribute pop
#endif

#else
typedef int ep_vector_f32_avx2_left_out; /* ISO C wants a declaration in every file */
#endif
