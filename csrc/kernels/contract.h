/* Forbid floating-point contraction: every product is rounded before it is added to, whatever flags the sources are
 * compiled with: build systems without flags of a library's own (Arduino, most IDEs) would else let the compiler fuse
 * the two, and the bits would depend on the board. Included before anything that computes. GCC's pragma costs some
 * bytes at -Os, so it stays away where -std=c99 (as against gnu99) says the same. Where fusing is wanted, the source
 * says so: by fmaf() or an intrinsic. */
#ifndef EP_CONTRACT_H
#define EP_CONTRACT_H

#include <float.h>

#if defined(__FAST_MATH__) || defined(_M_FP_FAST) || (defined(__FINITE_MATH_ONLY__) && __FINITE_MATH_ONLY__)
#error "edgeprop refuses what is NaN or infinite, which -ffast-math and -ffinite-math-only take away: compile without."
#endif

#if FLT_EVAL_METHOD == 2 || FLT_EVAL_METHOD == -1 /* x87 */
#error "edgeprop computes in float32, and this compiler in more digits: on a 32-bit x86 add -msse2 -mfpmath=sse."
#endif

#if defined(__GNUC__) && !defined(__clang__)
#ifndef __STRICT_ANSI__
#pragma GCC optimize("fp-contract=off")
#endif
#elif defined(_MSC_VER) && !defined(__clang__)
#pragma fp_contract(off)
#else
#pragma STDC FP_CONTRACT OFF
#endif

#endif
