/* The float32 kernels over plain rows that need more than sums and products. */
#include "neon.h"

#ifdef EP_NEON

void ep_add_f32_neon(float *y, const float *x, size_t count)
{
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const float32x4_t u = vaddq_f32(vld1q_f32(y + i), vld1q_f32(x + i));
        const float32x4_t v = vaddq_f32(vld1q_f32(y + i + 4), vld1q_f32(x + i + 4));
        vst1q_f32(y + i, u);
        vst1q_f32(y + i + 4, v);
    }
    for (; i < count; i++) y[i] += x[i];
}

/* The larger, the smaller of a vector's lanes and a bound's are NaN where the lane is. */
void ep_clamp_f32_neon(float *y, float lo, float hi, size_t count)
{
    const float32x4_t least = vdupq_n_f32(lo), most = vdupq_n_f32(hi);
    size_t i = 0;
    for (; i + 8 <= count; i += 8) {
        const float32x4_t u = vminq_f32(vmaxq_f32(vld1q_f32(y + i), least), most);
        const float32x4_t v = vminq_f32(vmaxq_f32(vld1q_f32(y + i + 4), least), most);
        vst1q_f32(y + i, u);
        vst1q_f32(y + i + 4, v);
    }
    for (; i < count; i++) {
        const float v = y[i] < lo ? lo : y[i];
        y[i] = v > hi ? hi : v;
    }
}

void ep_mask_f32_neon(float *dy, const float *y, float lo, float hi, size_t count)
{
    const float32x4_t least = vdupq_n_f32(lo), most = vdupq_n_f32(hi);
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        const float32x4_t v = vld1q_f32(y + i);
        const uint32x4_t out = vorrq_u32(vcleq_f32(v, least), vcgeq_f32(v, most));
        vst1q_f32(dy + i, vreinterpretq_f32_u32(vbicq_u32(vreinterpretq_u32_f32(vld1q_f32(dy + i)), out)));
    }
    for (; i < count; i++) dy[i] = y[i] <= lo || y[i] >= hi ? 0.0f : dy[i];
}

/* Without the sign, floats are ordered as their bits are, infinity above all numbers and NaN above infinity. */
float ep_max_abs_f32_neon(const float *v, size_t count)
{
    const uint32x4_t magnitude = vdupq_n_u32(0x7FFFFFFF);
    uint32x4_t lanes = vdupq_n_u32(0);
    uint32_t most[4], bits;
    size_t i = 0;
    for (; i + 4 <= count; i += 4) {
        lanes = vmaxq_u32(lanes, vandq_u32(vreinterpretq_u32_f32(vld1q_f32(v + i)), magnitude));
    }
    vst1q_u32(most, lanes);
    for (; i < count; i++) {
        memcpy(&bits, v + i, sizeof bits);
        bits &= 0x7FFFFFFF;
        most[0] = bits > most[0] ? bits : most[0];
    }
    for (i = 1; i < 4; i++) most[0] = most[i] > most[0] ? most[i] : most[0];
    float result;
    memcpy(&result, most, sizeof result);
    return result;
}

#else
typedef int ep_rows_f32_neon_left_out; /* ISO C wants a declaration in every file */
#endif
