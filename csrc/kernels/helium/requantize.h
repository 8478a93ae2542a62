/* From int32 sums to codes, four at a time. */
#ifndef EP_HELIUM_REQUANTIZE_H
#define EP_HELIUM_REQUANTIZE_H

#include "../scalar_s8.h"

#include <arm_mve.h>

/* What all channels share. The portable version clamps, then rounds; rounding keeps the order of numbers, so to round,
 * then clamp between the rounded bounds, is the same. */
typedef struct rounding {
    int32x4_t lo, hi;
    int16x8_t lo16, hi16; /* the same */
    int32_t zero_point;
} rounding;

static inline rounding make_rounding(const ep_requant *q)
{
    const int32_t lo = ep_nearest(q->lo), hi = ep_nearest(q->hi);
    const rounding r = {.lo = vdupq_n_s32(lo),
                        .hi = vdupq_n_s32(hi),
                        .lo16 = vdupq_n_s16((int16_t)lo),
                        .hi16 = vdupq_n_s16((int16_t)hi),
                        .zero_point = q->zero_point};
    return r;
}

#if __ARM_FEATURE_MVE & 2
/* (float)sum * multiplier, rounded half to even; what is out of an int32's range becomes its end. */
static inline int32x4_t scaled(int32x4_t sums, float32x4_t multiplier)
{
    return vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(sums), multiplier));
}
#else
static inline int32x4_t scaled(int32x4_t sums, uint32x4_t multiplier)
{
    int32_t v[4];
    float m[4];
    vst1q_s32(v, sums);
    memcpy(m, &multiplier, sizeof m);
    for (int i = 0; i < 4; i++) {
        const float product = (float)v[i] * m[i];
        v[i] = ep_nearest(product < -1024.0f ? -1024.0f : product > 1024.0f ? 1024.0f : product);
    }
    return vld1q_s32(v);
}
#endif

static inline int32x4_t requantized(int32x4_t sums, const float *multiplier, const rounding *r)
{
#if __ARM_FEATURE_MVE & 2
    const int32x4_t v = scaled(sums, vld1q_f32(multiplier));
#else
    const int32x4_t v = scaled(sums, vld1q_u32((const uint32_t *)(const void *)multiplier));
#endif
    return vaddq_n_s32(vminq_s32(vmaxq_s32(v, r->lo), r->hi), r->zero_point);
}

/* Four sums that were added up in core registers. */
static inline int32x4_t gathered(int32_t a, int32_t b, int32_t c, int32_t d)
{
    int32x4_t v;
    __asm__("vmov %q0[2], %q0[0], %1, %3\n\tvmov %q0[3], %q0[1], %2, %4" : "=&w"(v) : "r"(a), "r"(b), "r"(c), "r"(d));
    return v;
}

/* sums (count) -> y (count), four by four; the last ones behind a predicate. */
static inline void requantize_row(int8_t *y, const int32_t *sums, const float *multiplier, const rounding *r,
                                  int32_t count)
{
    for (; count >= 4; count -= 4, sums += 4, multiplier += 4, y += 4) {
        vstrbq_s32(y, requantized(vld1q_s32(sums), multiplier, r));
    }
    if (count > 0) {
        const mve_pred16_t p = vctp32q((uint32_t)count);
        const uint32x4_t m = vldrwq_z_u32((const uint32_t *)(const void *)multiplier, p);
        float last[4];
        vst1q_u32((uint32_t *)(void *)last, m);
        vstrbq_p_s32(y, requantized(vldrwq_z_s32(sums, p), last, r), p);
    }
}

#endif
