/* The int8 kernels over plain rows. */
#include "../fma.h"
#include "../scalar_s8.h"
#include "neon.h"

#ifdef EP_NEON

void ep_requantize_s8_neon(int8_t *y, const int32_t *sums, const ep_requant *q, int32_t count)
{
    const ep_target t = ep_make_target(q);
    int32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        vst1_s8(y + i, ep_to_codes(&t, vld1q_s32(sums + i), vld1q_s32(sums + i + 4), vld1q_f32(q->multiplier + i),
                                   vld1q_f32(q->multiplier + i + 4)));
    }
    for (; i < count; i++) {
        y[i] = ep_requantize(sums[i], q->multiplier[i], q->lo, q->hi, q->zero_point);
    }
}

#if defined(__aarch64__) || defined(__ARM_FEATURE_FMA)

EP_INLINE int32x4_t add_four(const ep_add_args *args, int16x4_t a, int16x4_t b)
{
    const float32x4_t p = vcvtq_f32_s32(vmovl_s16(a)), q = vcvtq_f32_s32(vmovl_s16(b));
    float32x4_t v = vfmaq_f32(vdupq_n_f32(args->fixed), q, vdupq_n_f32(args->b_ratio));
    v = vfmaq_f32(v, p, vdupq_n_f32(args->a_ratio));
    v = vminq_f32(vmaxq_f32(v, vdupq_n_f32(args->lo)), vdupq_n_f32(args->hi));
    v = vaddq_f32(v, vdupq_n_f32(12582912.0f)); /* rounds: see ep_nearest() */
    return vsubq_s32(vreinterpretq_s32_f32(v), vdupq_n_s32(0x4B400000 + args->offset));
}

EP_INLINE int8x8_t add_eight(const ep_add_args *args, int8x8_t a, int8x8_t b)
{
    const int16x8_t offset = vdupq_n_s16((int16_t)args->offset);
    const int16x8_t p = vaddw_s8(offset, a), q = vaddw_s8(offset, b);
    const int16x4_t low = vmovn_s32(add_four(args, vget_low_s16(p), vget_low_s16(q)));
    const int16x4_t high = vmovn_s32(add_four(args, vget_high_s16(p), vget_high_s16(q)));
    return vmovn_s16(vcombine_s16(low, high));
}

/* Fused vectors of ARMv7 flush subnormal numbers: a scale that small, or a result, rounds to the same code. */
void ep_add_s8_neon(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    const ep_add_args copy = *args; /* y might be where args is, as far as a compiler knows */
    size_t i = 0;
    for (; i + 8 <= count; i += 8) vst1_s8(y + i, add_eight(&copy, vld1_s8(a + i), vld1_s8(b + i)));
    if (i < count) {
        int8_t p[8] = {0}, q[8] = {0};
        memcpy(p, a + i, count - i);
        memcpy(q, b + i, count - i);
        vst1_s8(p, add_eight(&copy, vld1_s8(p), vld1_s8(q)));
        memcpy(y + i, p, count - i);
    }
}

#else

void ep_add_s8_neon(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    ep_add_s8_portable(args, y, a, b, count);
}

#endif

void ep_max_s8_neon(int8_t *y, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    for (; i + 16 <= count; i += 16) vst1q_s8(y + i, vmaxq_s8(vld1q_s8(y + i), vld1q_s8(x + i)));
    for (; i < count; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

void ep_sum_s8_neon(int32_t *sums, const int8_t *x, int32_t count)
{
    int32_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const int16x8_t v = vmovl_s8(vld1_s8(x + i));
        vst1q_s32(sums + i, vaddw_s16(vld1q_s32(sums + i), vget_low_s16(v)));
        vst1q_s32(sums + i + 4, vaddw_s16(vld1q_s32(sums + i + 4), vget_high_s16(v)));
    }
    for (; i < count; i++) sums[i] += x[i];
}

#else
typedef int ep_rows_neon_left_out; /* ISO C wants a declaration in every file */
#endif
