/* Requantize without floats, for processors that have none: (float)sum * multiplier, rounded to an integer. Same bits:
 * the product of two 24-bit mantissas is first rounded to 24 bits, as float32 does, then to an integer, both half to
 * even. */
#ifndef EP_INTEGER_S8_H
#define EP_INTEGER_S8_H

#include "codes.h"

/* A multiplier taken apart. */
typedef struct ep_factor {
    uint32_t mantissa; /* 2^23 <= mantissa < 2^24 */
    int32_t shift;     /* |multiplier| = mantissa / 2^shift */
    int32_t sign;      /* 0, -1: negative */
} ep_factor;

#define EP_TINY 200 /* a shift that leaves nothing of any sum */

static inline ep_factor ep_make_factor(float multiplier)
{
    uint32_t bits;
    memcpy(&bits, &multiplier, sizeof bits);
    const int32_t exponent = (int32_t)(bits >> 23 & 0xFF); /* 0: subnormal, too small to matter, or zero */
    const ep_factor f = {(bits & 0x7FFFFF) | 0x800000, exponent == 0 ? EP_TINY : 150 - exponent, bits >> 31 ? -1 : 0};
    return f;
}

/* v / 2^drop rounded half to even; 0 < drop < 64. */
static inline uint64_t ep_round_shift(uint64_t v, int32_t drop)
{
    const uint64_t kept = v >> drop, rest = v << (64 - drop), half = (uint64_t)1 << 63;
    return kept + (rest > half || (rest == half && (kept & 1) != 0));
}

/* v rounded to 24 significant bits. *dropped: bits cut off. */
static inline uint64_t ep_round_24(uint64_t v, int32_t *dropped)
{
    int32_t drop = 0;
    uint64_t top = v;
    for (; top >> 32 != 0; top >>= 8) drop += 8;
    for (uint32_t t = (uint32_t)top; t >= 0x1000000u; t >>= 1) drop++;
    *dropped = drop;
    return drop == 0 ? v : ep_round_shift(v, drop);
}

#define EP_LARGE 0x100000 /* stands for all that is out of reach of codes */

/* magnitude * |multiplier|, in every case. Seldom needed, so not inlined. */
#ifdef __GNUC__
__attribute__((noinline))
#endif
static int32_t
ep_scale_exactly(uint32_t magnitude, const ep_factor *f)
{
    int32_t shift = f->shift, drop;
    uint64_t v = ep_round_24(magnitude, &drop);
    shift -= drop;
    v = ep_round_24(v * f->mantissa, &drop); /* 2^24 at most */
    shift -= drop;
    if (shift <= 0) { /* 2^23 or more, unless there is nothing */
        return v == 0 ? 0 : EP_LARGE;
    }
    v = shift > 40 ? 0 : ep_round_shift(v, shift);
    return v > EP_LARGE ? EP_LARGE : (int32_t)v;
}

#ifdef EP_NARROW_MULTIPLY

/* A processor that multiplies 32 x 32 -> 32 bits alone: 16 bits of the sum and 15 of the mantissa are mostly enough.
 *
 * t, at most 2^31, in units of 2^-d, is the product less what is cut off: below 2^15 for what the sum loses (1 times the
 * mantissa) and 2^16 for what the mantissa does. float32 rounds the sum and the product by up to 2^6 each. So the float
 * lies within EP_SPAN around t + 2^16; unless all of that rounds alike, only the exact way will do. */
#define EP_SPAN 0x10200u

static inline int32_t ep_scale_magnitude(uint32_t s, const ep_factor *f)
{
    int32_t d = f->shift - 9;
    uint32_t v = s;
    for (; v >= 0x10000u; v >>= 1) d--;
    if (d > 31) { /* less than a half */
        return 0;
    }
    if (d < 19) { /* EP_SPAN is not small */
        return ep_scale_exactly(s, f);
    }
    const uint32_t most = v * (f->mantissa >> 9) + (1u << (d - 1)) + (0x10000u + EP_SPAN); /* < 2^32 */
    const uint32_t code = most >> d;
    return (most - 2 * EP_SPAN) >> d == code ? (int32_t)code : ep_scale_exactly(s, f);
}

#else

/* The upper half of a 32 x 32 -> 64 bit product: t, at most 2^31, in units of 2^-d, less than 1 below the product, which
 * float32 rounds by up to 2^6: the float lies within EP_SPAN around t. */
#define EP_SPAN 0x82u

static inline int32_t ep_scale_magnitude(uint32_t s, const ep_factor *f)
{
    const int32_t d = f->shift - 17;
    if (d > 31 && s < 0x1000000u) { /* less than a half */
        return 0;
    }
    if (d < 9 || s >= 0x1000000u) return ep_scale_exactly(s, f);
    const uint32_t most = (uint32_t)(((uint64_t)(s << 7) * (f->mantissa << 8)) >> 32) + (1u << (d - 1)) + EP_SPAN;
    const uint32_t code = most >> d;
    return (most - 2 * EP_SPAN) >> d == code ? (int32_t)code : ep_scale_exactly(s, f);
}

#endif

/* (float)sum * multiplier rounded half to even, or what is as far out of the codes' reach. */
static inline int32_t ep_scale(int32_t sum, const ep_factor *f)
{
    const int32_t sign = sum < 0 ? -1 : 0;
    const int32_t v = ep_scale_magnitude((uint32_t)((sum ^ sign) - sign), f);
    return (v ^ (sign ^ f->sign)) - (sign ^ f->sign);
}

/* add_s8. In fixed point both floats' roundings and what the integers leave out move the sum by less than EP_ADD_SPAN;
 * where a half is that near, the floats are emulated. */
#define EP_ADD_BITS 18 /* of fraction */
#define EP_ADD_SPAN 0x300u

static inline int ep_add_fits(const ep_add_args *args)
{
    return args->a_ratio < 8 && args->a_ratio > -8 && args->b_ratio < 8 && args->b_ratio > -8 && args->fixed < 2048 &&
           args->fixed > -2048;
}

static inline void ep_add_s8_integer(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    const float one = (float)((int32_t)1 << EP_ADD_BITS);
    const int32_t offset = args->offset, lo = ep_nearest(args->lo) - offset, hi = ep_nearest(args->hi) - offset;
    if (!ep_add_fits(args)) {
        ep_add_s8_portable(args, y, a, b, count);
        return;
    }
    const int32_t fa = (int32_t)(args->a_ratio * one), fb = (int32_t)(args->b_ratio * one);
    const int32_t fixed =
        (int32_t)(args->fixed * one) + offset * (fa + fb) + ((int32_t)1 << (EP_ADD_BITS - 1)) + (int32_t)EP_ADD_SPAN;
    for (size_t i = 0; i < count; i++) {
        const int32_t sum = a[i] * fa + b[i] * fb + fixed;
        if ((uint32_t)sum << (32 - EP_ADD_BITS) <= (2 * EP_ADD_SPAN) << (32 - EP_ADD_BITS)) {
            ep_add_s8_portable(args, y + i, a + i, b + i, 1);
            continue;
        }
        const int32_t v = (sum >> EP_ADD_BITS) - offset;
        y[i] = (int8_t)(v < lo ? lo : v > hi ? hi : v);
    }
}

#endif
