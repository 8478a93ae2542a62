/* depthwise_s8: 8 or 16 channels at one position after the other. */
#include "../scalar_s8.h"
#include "neon.h"

#ifdef EP_NEON

/* sums of 8 channels += one tap. */
EP_INLINE void add_one(int32x4_t *sums, int8x8_t x, int8x8_t w)
{
    const int16x8_t v = vmull_s8(x, w);
    sums[0] = vaddw_s16(sums[0], vget_low_s16(v));
    sums[1] = vaddw_s16(sums[1], vget_high_s16(v));
}

/* Channels c .. c + 7 at all positions, any kernel. */
static void any_block(const ep_depthwise_s8 *d, int32_t c)
{
    const ep_target t = ep_make_target(&d->q);
    const float32x4_t m0 = vld1q_f32(d->q.multiplier + c), m1 = vld1q_f32(d->q.multiplier + c + 4);
    for (int32_t l = 0; l < d->lines; l++) {
        const int8_t *x = d->x + l * d->x_line + c;
        int8_t *y = d->y + l * d->y_line + c;
        for (int32_t p = 0; p < d->run; p++, x += d->x_step, y += d->y_step) {
            int32x4_t sums[2] = {vld1q_s32(d->bias + c), vld1q_s32(d->bias + c + 4)};
            for (int32_t ky = 0; ky < d->kernel_h; ky++) {
                const int8_t *v = x + ky * d->x_row, *w = d->w + ky * d->w_row + c;
                for (int32_t kx = 0; kx < d->kernel_w; kx++, v += d->x_tap, w += d->w_tap) {
                    add_one(sums, vld1_s8(v), vld1_s8(w));
                }
            }
            vst1_s8(y, ep_to_codes(&t, sums[0], sums[1], m0, m1));
        }
    }
}

EP_INLINE int has_lowest(int8x8_t v)
{
    v = vpmin_s8(v, v);
    v = vpmin_s8(v, v);
    return vget_lane_s8(vpmin_s8(v, v), 0) == -128;
}

/* sums of 8 channels += two taps, the sum of whose products fits 16 bits since no weight is -128. */
EP_INLINE void add_pair(int32x4_t *sums, int8x8_t x0, int8x8_t w0, int8x8_t x1, int8x8_t w1)
{
    const int16x8_t v = vmlal_s8(vmull_s8(x0, w0), x1, w1);
    sums[0] = vaddw_s16(sums[0], vget_low_s16(v));
    sums[1] = vaddw_s16(sums[1], vget_high_s16(v));
}

#define MOST_TAPS 9 /* whose weights stay in registers */

/* The weights of 16 channels at 3 x 3 taps; 1 if none is -128. */
EP_INLINE int load_weights(const ep_depthwise_s8 *d, int32_t c, int8x16_t w[MOST_TAPS])
{
    int8x16_t least = vdupq_n_s8(0);
    EP_UNROLL
    for (int32_t i = 0; i < MOST_TAPS; i++) {
        w[i] = vld1q_s8(d->w + i / 3 * d->w_row + i % 3 * d->w_tap + c);
        least = vminq_s8(least, w[i]);
    }
    return !has_lowest(vmin_s8(vget_low_s8(least), vget_high_s8(least)));
}

/* The same of 16 channels. */
EP_INLINE void add_two(int32x4_t *sums, int8x16_t x0, int8x16_t w0, int8x16_t x1, int8x16_t w1)
{
    const int16x8_t u = vmlal_s8(vmull_s8(vget_low_s8(x0), vget_low_s8(w0)), vget_low_s8(x1), vget_low_s8(w1));
#ifdef __aarch64__
    const int16x8_t v = vmlal_high_s8(vmull_high_s8(x0, w0), x1, w1);
    sums[1] = vaddw_high_s16(sums[1], u);
    sums[3] = vaddw_high_s16(sums[3], v);
#else
    const int16x8_t v = vmlal_s8(vmull_s8(vget_high_s8(x0), vget_high_s8(w0)), vget_high_s8(x1), vget_high_s8(w1));
    sums[1] = vaddw_s16(sums[1], vget_high_s16(u));
    sums[3] = vaddw_s16(sums[3], vget_high_s16(v));
#endif
    sums[0] = vaddw_s16(sums[0], vget_low_s16(u));
    sums[2] = vaddw_s16(sums[2], vget_low_s16(v));
}

/* Channels c .. c + 15 at all positions, 3 x 3, with the weights in registers. 0 if a weight is -128. */
static int block_3x3(const ep_depthwise_s8 *job, int32_t c)
{
    const ep_depthwise_s8 d = *job; /* what y points to might be *job, as far as a compiler knows */
    const ep_target t = ep_make_target(&d.q);
    const ptrdiff_t tap = d.x_tap, tap2 = 2 * tap;
    int8x16_t w[MOST_TAPS];
    float32x4_t m[4];
    int32x4_t bias[4];
    if (!load_weights(&d, c, w)) return 0;
    EP_UNROLL
    for (int32_t i = 0; i < 4; i++) {
        m[i] = vld1q_f32(d.q.multiplier + c + 4 * i);
        bias[i] = vld1q_s32(d.bias + c + 4 * i);
    }
    for (int32_t l = 0; l < d.lines; l++) {
        const int8_t *x = d.x + l * d.x_line + c, *x1 = x + d.x_row, *x2 = x1 + d.x_row;
        int8_t *y = d.y + l * d.y_line + c;
        for (int32_t p = d.run; p > 0; p--, x += d.x_step, x1 += d.x_step, x2 += d.x_step, y += d.y_step) {
            int32x4_t sums[4] = {bias[0], bias[1], bias[2], bias[3]};
            add_two(sums, vld1q_s8(x), w[0], vld1q_s8(x + tap), w[1]);
            add_two(sums, vld1q_s8(x + tap2), w[2], vld1q_s8(x1), w[3]);
            add_two(sums, vld1q_s8(x1 + tap), w[4], vld1q_s8(x1 + tap2), w[5]);
            add_two(sums, vld1q_s8(x2), w[6], vld1q_s8(x2 + tap), w[7]);
            add_one(sums, vget_low_s8(vld1q_s8(x2 + tap2)), vget_low_s8(w[8]));
            add_one(sums + 2, vget_high_s8(vld1q_s8(x2 + tap2)), vget_high_s8(w[8]));
            vst1q_s8(y, ep_to_codes16(&t, sums, m));
        }
    }
    return 1;
}

/* Channels c .. c + 7. */
static int block8_3x3(const ep_depthwise_s8 *job, int32_t c)
{
    const ep_depthwise_s8 d = *job;
    const ep_target t = ep_make_target(&d.q);
    const float32x4_t m0 = vld1q_f32(d.q.multiplier + c), m1 = vld1q_f32(d.q.multiplier + c + 4);
    const int32x4_t b0 = vld1q_s32(d.bias + c), b1 = vld1q_s32(d.bias + c + 4);
    const ptrdiff_t tap = d.x_tap, tap2 = 2 * tap;
    int8x8_t w[MOST_TAPS], least = vdup_n_s8(0);
    EP_UNROLL
    for (int32_t i = 0; i < MOST_TAPS; i++) {
        w[i] = vld1_s8(d.w + i / 3 * d.w_row + i % 3 * d.w_tap + c);
        least = vmin_s8(least, w[i]);
    }
    if (has_lowest(least)) return 0;
    for (int32_t l = 0; l < d.lines; l++) {
        const int8_t *x = d.x + l * d.x_line + c, *x1 = x + d.x_row, *x2 = x1 + d.x_row;
        int8_t *y = d.y + l * d.y_line + c;
        for (int32_t p = d.run; p > 0; p--, x += d.x_step, x1 += d.x_step, x2 += d.x_step, y += d.y_step) {
            int32x4_t sums[2] = {b0, b1};
            add_pair(sums, vld1_s8(x), w[0], vld1_s8(x + tap), w[1]);
            add_pair(sums, vld1_s8(x + tap2), w[2], vld1_s8(x1), w[3]);
            add_pair(sums, vld1_s8(x1 + tap), w[4], vld1_s8(x1 + tap2), w[5]);
            add_pair(sums, vld1_s8(x2), w[6], vld1_s8(x2 + tap), w[7]);
            add_one(sums, vld1_s8(x2 + tap2), w[8]);
            vst1_s8(y, ep_to_codes(&t, sums[0], sums[1], m0, m1));
        }
    }
    return 1;
}

/* One channel. */
static void one_channel(const ep_depthwise_s8 *d, int32_t c)
{
    const ep_requant *q = &d->q;
    for (int32_t i = 0; i < d->lines * d->run; i++) {
        const int32_t l = i / d->run, p = i % d->run;
        const int8_t *x = d->x + l * d->x_line + p * d->x_step + c;
        int32_t sum = d->bias[c];
        for (int32_t ky = 0; ky < d->kernel_h; ky++) {
            for (int32_t kx = 0; kx < d->kernel_w; kx++) {
                sum += (int32_t)x[ky * d->x_row + kx * d->x_tap] * d->w[ky * d->w_row + kx * d->w_tap + c];
            }
        }
        d->y[l * d->y_line + p * d->y_step + c] = ep_requantize(sum, q->multiplier[c], q->lo, q->hi, q->zero_point);
    }
}

/* The last block may have channels that were had before: their codes stay the same. */
void ep_depthwise_s8_neon(const ep_depthwise_s8 *d)
{
    int32_t c = 0;
    for (; d->channels >= 16 && c < d->channels; c += 16) {
        c = c + 16 <= d->channels ? c : d->channels - 16;
        if (d->kernel_h != 3 || d->kernel_w != 3 || !block_3x3(d, c)) {
            any_block(d, c);
            any_block(d, c + 8);
        }
    }
    for (; d->channels >= 8 && c < d->channels; c += 8) {
        c = c + 8 <= d->channels ? c : d->channels - 8;
        if (d->kernel_h != 3 || d->kernel_w != 3 || !block8_3x3(d, c)) any_block(d, c);
    }
    for (; c < d->channels; c++) one_channel(d, c);
}

#else
typedef int ep_depthwise_neon_left_out; /* ISO C wants a declaration in every file */
#endif
