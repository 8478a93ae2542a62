/* Round, requantize and multiply int8 one by one, for kernels in plain C. */
#ifndef EP_SCALAR_S8_H
#define EP_SCALAR_S8_H

#include "kernels.h"

#include <string.h>

#if defined(__GNUC__) /* a pointer known to be aligned to 4 bytes */
#define EP_WORDS(p) __builtin_assume_aligned(p, 4)
#else
#define EP_WORDS(p) (p)
#endif

/* v rounded half to even, |v| <= 2^21. Adding 1.5 * 2^23 leaves no bits for a fraction, so the addition itself
 * rounds as the result should be; the integer is then the low part of the mantissa. The copy forces a float of 4
 * bytes. */
static inline int32_t ep_nearest(float v)
{
    const float shifted = v + 12582912.0f;
    int32_t bits;
    memcpy(&bits, &shifted, sizeof bits);
    return bits - 0x4B400000;
}

/* A code from an int32 sum: (float)sum * multiplier, clamped, rounded half to even, plus the zero point. */
static inline int8_t ep_requantize(int32_t sum, float multiplier, float lo, float hi, int32_t zero_point)
{
    float v = (float)sum * multiplier;
    v = v < lo ? lo : v;
    v = v > hi ? hi : v;
    return (int8_t)(ep_nearest(v) + zero_point);
}

#if defined(__x86_64__) || defined(__aarch64__)
#define EP_MOVE(n) memcpy(to + i, x + i, n), i += n /* one load and one store */

/* count codes from x to `to`, which do not overlap; the end of `to`. */
static inline int8_t *ep_copy_s8(int8_t *to, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    while (i + 16 <= count) EP_MOVE(16);
    if (count >= 16 && i < count) { /* the last ones once more: what is there already stays the same */
        i = count - 16;
        EP_MOVE(16);
    }
    if (i + 8 <= count) EP_MOVE(8);
    if (i + 4 <= count) EP_MOVE(4);
    while (i < count) EP_MOVE(1);
    return to + count;
}
#undef EP_MOVE
#else
/* count codes from x to `to`, which do not overlap; the end of `to`. Four at a time where all is aligned: memcpy() of small
 * C libraries copies byte by byte, and an unaligned word faults on a Cortex-M0. */
static inline int8_t *ep_copy_s8(int8_t *to, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    if ((((uintptr_t)to | (uintptr_t)x) & 3u) == 0) {
        for (; i + 4 <= count; i += 4) {
            uint32_t word;
            memcpy(&word, EP_WORDS(x + i), 4);
            memcpy(EP_WORDS(to + i), &word, 4);
        }
    }
    for (; i < count; i++) to[i] = x[i];
    return to + count;
}
#endif

#define EP_FILL 16 /* codes that ep_fill_s8() may write beyond the end */

/* count times `value`; the end of `to`. Mostly a few codes, for which a call of memset() is long. */
static inline int8_t *ep_fill_s8(int8_t *to, int32_t value, int32_t count)
{
    for (int32_t i = 0; i < count; i += EP_FILL) memset(to + i, value, EP_FILL);
    return to + count;
}

/* Sum of x[i] * w[i]. */
static inline int32_t ep_dot_s8(const int8_t *x, const int8_t *w, int32_t count)
{
    int32_t sum = 0;
    for (int32_t i = 0; i < count; i++) sum += (int32_t)x[i] * w[i];
    return sum;
}

#endif
