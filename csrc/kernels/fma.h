/* Compute a * b + c of float32 with one rounding (fma), the same on every board.
 *
 * fmaf() is used where it is known to be exact: as an instruction, or from glibc, Apple's or Microsoft's library.
 * Elsewhere (old newlibs compute it in double and round twice) integers do it. EP_SOFT_FMA forces the latter. */
#ifndef EP_FMA_H
#define EP_FMA_H

#include "contract.h"

#include <math.h>
#include <stdint.h>
#include <string.h>

/* |v| as m * 2^e with 2^23 <= m < 2^24; m is 0 for zeros and subnormals. */
static inline int64_t ep_split(float v, int32_t *e)
{
    uint32_t bits;
    memcpy(&bits, &v, sizeof bits);
    const int32_t exponent = (int32_t)(bits >> 23 & 0xFF);
    const int64_t m = exponent == 0 ? 0 : (int64_t)(bits & 0x7FFFFF) + 0x800000;
    *e = exponent - 150;
    return bits >> 31 ? -m : m;
}

/* m * 2^e rounded half to even; 0 where that is below 2^-126, infinity above the largest float32. */
static inline float ep_join(int64_t m, int32_t e)
{
    const uint32_t sign = m < 0 ? 0x80000000u : 0;
    uint64_t u = m < 0 ? (uint64_t)-m : (uint64_t)m;
    uint64_t lost = 0; /* bits shifted out, the first of them on top */
    while (u >= 0x1000000u) {
        lost = lost >> 1 | (lost & 1) | (u & 1) << 63;
        u >>= 1;
        e++;
    }
    while (u != 0 && u < 0x800000u) {
        u <<= 1;
        e--;
    }
    u += lost > 0x8000000000000000u || (lost == 0x8000000000000000u && (u & 1) != 0);
    if (u == 0x1000000u) {
        u >>= 1;
        e++;
    }
    uint32_t bits = sign;
    if (u != 0 && e + 150 > 254) {
        bits |= 0x7F800000u;
    } else if (u != 0 && e + 150 > 0) {
        bits |= (uint32_t)(e + 150) << 23 | (uint32_t)(u & 0x7FFFFF);
    }
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* v / 2^shift towards zero, its last bit set where something was cut off: still rounds as the whole would. */
static inline int64_t ep_shift_sticky(int64_t v, int32_t shift)
{
    const int64_t m = v < 0 ? -v : v;
    const int64_t kept = shift > 62 ? 0 : m >> shift;
    const int64_t cut = shift > 62 ? (m != 0) : ((kept << shift) != m);
    return v < 0 ? -(kept | cut) : (kept | cut);
}

/* In integers; a, b, c finite. Subnormal arguments and results count as 0. */
static inline float ep_soft_fma(float a, float b, float c)
{
    int32_t ea, eb, ec;
    const int64_t ma = ep_split(a, &ea), mb = ep_split(b, &eb);
    int64_t m = ma * mb, mc = ep_split(c, &ec); /* |m| < 2^48, |mc| < 2^24 */
    int32_t e = ea + eb;
    if (m == 0 || mc == 0) return m == 0 ? ep_join(mc, ec) : ep_join(m, e);
    if (e >= ec) { /* the product has the larger unit */
        const int32_t up = e - ec < 14 ? e - ec : 14;
        m *= (int64_t)1 << up;
        mc = ep_shift_sticky(mc, e - up - ec);
        e -= up;
    } else {
        const int32_t up = ec - e < 38 ? ec - e : 38;
        mc *= (int64_t)1 << up;
        m = ep_shift_sticky(m, ec - up - e);
        e = ec - up;
    }
    return ep_join(m + mc, e);
}

#if !defined(EP_SOFT_FMA) && (defined(FP_FAST_FMAF) || defined(__FP_FAST_FMAF) || defined(__GLIBC__) || \
                              defined(__APPLE__) || defined(_MSC_VER))
#define ep_fma fmaf
#else
#define ep_fma ep_soft_fma
#endif

#endif
