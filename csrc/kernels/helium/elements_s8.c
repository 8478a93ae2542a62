/* Codes one by one: requantizing, adding, pooling. */
#include "../kernels.h"

#ifdef __ARM_FEATURE_MVE
#include "../fma.h"
#include "requantize.h"

void ep_requantize_s8_helium(int8_t *y, const int32_t *sums, const ep_requant *q, int32_t count)
{
    const rounding r = make_rounding(q);
    requantize_row(y, sums, q->multiplier, &r, count);
}

#if __ARM_FEATURE_MVE & 2
/* Rounding, then clamping between rounded bounds, as in requantize.h. */
void ep_add_s8_helium(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    const float32x4_t fixed = vdupq_n_f32(args->fixed);
    const int32x4_t lo = vdupq_n_s32(ep_nearest(args->lo)), hi = vdupq_n_s32(ep_nearest(args->hi));
    for (; count > 0; a += 4, b += 4, y += 4) {
        const mve_pred16_t p = vctp32q((uint32_t)count);
        const float32x4_t fa = vcvtq_f32_s32(vaddq_n_s32(vldrbq_z_s32(a, p), args->offset));
        const float32x4_t fb = vcvtq_f32_s32(vaddq_n_s32(vldrbq_z_s32(b, p), args->offset));
        const float32x4_t v = vfmaq_n_f32(vfmaq_n_f32(fixed, fb, args->b_ratio), fa, args->a_ratio);
        const int32x4_t codes = vminq_s32(vmaxq_s32(vcvtnq_s32_f32(v), lo), hi);
        vstrbq_p_s32(y, vsubq_n_s32(codes, args->offset), p);
        count -= count < 4 ? count : 4;
    }
}
#endif

void ep_max_s8_helium(int8_t *y, const int8_t *x, int32_t count)
{
    for (; count > 0; count -= 16, x += 16, y += 16) {
        const mve_pred16_t p = vctp8q((uint32_t)count);
        vstrbq_p_s8(y, vmaxq_s8(vldrbq_z_s8(y, p), vldrbq_z_s8(x, p)), p);
    }
}

void ep_sum_s8_helium(int32_t *sums, const int8_t *x, int32_t count)
{
    for (; count > 0; count -= 4, x += 4, sums += 4) {
        const mve_pred16_t p = vctp32q((uint32_t)count);
        vstrwq_p_s32(sums, vaddq_s32(vldrwq_z_s32(sums, p), vldrbq_z_s32(x, p)), p);
    }
}
#else
typedef int ep_elements_s8_helium_left_out; /* ISO C wants a declaration in every file */
#endif
