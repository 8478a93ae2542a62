/* What the NEON kernels share. */
#ifndef EP_NEON_H
#define EP_NEON_H

#include "../kernels.h"

#ifdef EP_NEON

#include <arm_neon.h>
#include <string.h>

#define EP_UNROLL _Pragma("GCC unroll 16") /* a loop over registers: -O2 alone would keep them in memory */
#define EP_INLINE static inline __attribute__((always_inline))

#ifdef EP_DISPATCH
#define EP_DECLARE(type, name, arguments) type ep_##name##_neon arguments;
EP_KERNELS(EP_DECLARE)
#undef EP_DECLARE
void ep_gemm_s8_dotprod(const ep_gemm_s8 *g);
void ep_conv_s8_dotprod(const ep_conv_s8 *c);
extern const ep_kernels ep_kernels_neon, ep_kernels_dotprod;
#endif

#define EP_MANY_ROWS 8 /* for which packing the weights pays */

void ep_dots_panels_f32_neon(const ep_dots_f32 *d);

/* ---- From sums to codes ------------------------------------------------------------------------------------------ */

#ifdef __aarch64__

/* Rounding and clamping commute, both being monotone: round(clamp(v, lo, hi)) = clamp(round(v), round(lo), round(hi)). And
 * since round(lo) + zero_point .. round(hi) + zero_point are codes, saturating on the way, in the conversion to int32, to
 * int16, with the zero point added, and to int8, never goes past the clamp that follows. */
typedef struct ep_target {
    int16x8_t zero_point;
    int8x16_t lo, hi;
} ep_target;

EP_INLINE ep_target ep_make_target(const ep_requant *q)
{
    ep_target t;
    t.zero_point = vdupq_n_s16((int16_t)q->zero_point);
    t.lo = vdupq_n_s8((int8_t)(vcvtns_s32_f32(q->lo) + q->zero_point));
    t.hi = vdupq_n_s8((int8_t)(vcvtns_s32_f32(q->hi) + q->zero_point));
    return t;
}

EP_INLINE int16x8_t ep_to_16(const ep_target *t, int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb)
{
    const int32x4_t u = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(a), ma));
    const int32x4_t v = vcvtnq_s32_f32(vmulq_f32(vcvtq_f32_s32(b), mb));
    return vqaddq_s16(vqmovn_high_s32(vqmovn_s32(u), v), t->zero_point);
}

EP_INLINE int8x8_t ep_to_codes(const ep_target *t, int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb)
{
    const int8x8_t v = vqmovn_s16(ep_to_16(t, a, b, ma, mb));
    return vmin_s8(vmax_s8(v, vget_low_s8(t->lo)), vget_low_s8(t->hi));
}

EP_INLINE int8x16_t ep_to_codes16(const ep_target *t, const int32x4_t s[4], const float32x4_t m[4])
{
    const int8x8_t v = vqmovn_s16(ep_to_16(t, s[0], s[1], m[0], m[1]));
    return vminq_s8(vmaxq_s8(vqmovn_high_s16(v, ep_to_16(t, s[2], s[3], m[2], m[3])), t->lo), t->hi);
}

#else

/* ARMv7 has no conversion that rounds half to even: adding 1.5 * 2^23 does (see ep_nearest()). Its vectors flush subnormal
 * numbers to 0; a subnormal product rounds to 0 anyway, as does the product of a subnormal multiplier and any int32. */
typedef struct ep_target {
    float32x4_t lo, hi;
    int32x4_t shift; /* from the bits of the shifted float to the code */
} ep_target;

EP_INLINE ep_target ep_make_target(const ep_requant *q)
{
    const ep_target t = {vdupq_n_f32(q->lo), vdupq_n_f32(q->hi), vdupq_n_s32(q->zero_point - 0x4B400000)};
    return t;
}

EP_INLINE int16x4_t ep_to_16(const ep_target *t, int32x4_t s, float32x4_t m)
{
    float32x4_t v = vmulq_f32(vcvtq_f32_s32(s), m);
    v = vminq_f32(vmaxq_f32(v, t->lo), t->hi);
    v = vaddq_f32(v, vdupq_n_f32(12582912.0f));
    return vmovn_s32(vaddq_s32(vreinterpretq_s32_f32(v), t->shift));
}

EP_INLINE int8x8_t ep_to_codes(const ep_target *t, int32x4_t a, int32x4_t b, float32x4_t ma, float32x4_t mb)
{
    return vmovn_s16(vcombine_s16(ep_to_16(t, a, ma), ep_to_16(t, b, mb)));
}

EP_INLINE int8x16_t ep_to_codes16(const ep_target *t, const int32x4_t s[4], const float32x4_t m[4])
{
    return vcombine_s8(ep_to_codes(t, s[0], s[1], m[0], m[1]), ep_to_codes(t, s[2], s[3], m[2], m[3]));
}

#endif

EP_INLINE void ep_store4_s8(int8_t *y, int8x8_t v, int high)
{
    const int32x2_t words = vreinterpret_s32_s8(v);
    const int32_t word = high ? vget_lane_s32(words, 1) : vget_lane_s32(words, 0);
    memcpy(y, &word, sizeof word);
}

#endif
#endif
