/* The instructions that the DSP kernels are made of, and rounding with and without an FPU. */
#ifndef EP_DSP_H
#define EP_DSP_H

#include "../assembly.h"
#include "../codes.h"

#include <arm_acle.h>

/* Four codes from anywhere: these processors load unaligned words. */
static inline uint32_t ep_word(const int8_t *p)
{
    uint32_t v;
    memcpy(&v, p, sizeof v);
    return v;
}

/* The first n < 4 codes at p, zeros behind them. */
static inline uint32_t ep_part_word(const int8_t *p, int32_t n)
{
    uint32_t v = 0;
    while (n-- > 0) v = v << 8 | (uint8_t)p[n];
    return v;
}

/* Bytes 0 and 2 of v, sign extended to halves. */
static inline uint32_t ep_even(uint32_t v)
{
    return (uint32_t)__sxtb16((int8x4_t)v);
}

/* Bytes 1 and 3. */
static inline uint32_t ep_odd(uint32_t v)
{
    uint32_t halves;
    __asm__("sxtb16 %0, %1, ror #8" : "=r"(halves) : "r"(v));
    return halves;
}

/* sum + the products of both halves. */
static inline int32_t ep_mac2(int32_t sum, uint32_t a, uint32_t b)
{
    return __smlad((int16x2_t)a, (int16x2_t)b, sum);
}

#ifdef EP_FPU

typedef float ep_factor;

static inline ep_factor ep_make_factor(float multiplier)
{
    return multiplier;
}

/* v rounded half to even, or the int32 nearest to it: FPSCR rounds so unless the program has changed it, which would change
 * all its floats. */
static inline int32_t ep_round(float v)
{
    int32_t rounded;
    __asm__("vcvtr.s32.f32 %0, %1" : "=t"(rounded) : "t"(v));
    return rounded;
}

static inline int32_t ep_scale(int32_t sum, const ep_factor *factor)
{
    return ep_round((float)sum * *factor);
}

#else
#include "../integer_s8.h"
#endif

static inline int32_t ep_code(const ep_codes *c, int32_t sum, const ep_factor *factor)
{
    int32_t v = __qadd(ep_scale(sum, factor), c->zero_point);
    __asm__("ssat %0, #8, %0" : "+r"(v));
    return v;
}

/* Codes from n sums, four mostly, to y, y + step, .. ; factors `by` elements apart. */
static inline void ep_store(const ep_codes *c, int8_t *y, ptrdiff_t step, const int32_t *sums, const ep_factor *f,
                            int32_t by, int32_t n)
{
#ifndef __OPTIMIZE_SIZE__
    if (n == 4) {
        int32_t v0 = ep_code(c, sums[0], f), v1 = ep_code(c, sums[1], f + by);
        int32_t v2 = ep_code(c, sums[2], f + 2 * by), v3 = ep_code(c, sums[3], f + 3 * by);
        if (!c->all) {
            v0 = ep_limit(c, v0);
            v1 = ep_limit(c, v1);
            v2 = ep_limit(c, v2);
            v3 = ep_limit(c, v3);
        }
        y[0] = (int8_t)v0;
        y[step] = (int8_t)v1;
        y[2 * step] = (int8_t)v2;
        y[3 * step] = (int8_t)v3;
        return;
    }
#endif
    for (int32_t i = 0; i < n; i++) {
        y[i * step] = (int8_t)ep_limit(c, ep_code(c, sums[i], f + i * by));
    }
}

#endif
