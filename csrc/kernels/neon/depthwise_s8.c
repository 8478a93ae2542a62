/* depthwise_s8: 8 or 16 channels at one position after the other. */
#include "../scalar_s8.h"
#include "neon.h"

#ifdef EP_NEON

#define MOST_TAPS 9 /* whose weights stay in registers */

/* sums of 8 channels += two taps, the sum of whose products fits 16 bits, which it does unless one is (-128) * (-128). */
EP_INLINE void add_two(int32x4_t *sums, int8x8_t x0, int8x8_t w0, int8x8_t x1, int8x8_t w1)
{
    const int16x8_t v = vmlal_s8(vmull_s8(x0, w0), x1, w1);
    sums[0] = vaddw_s16(sums[0], vget_low_s16(v));
    sums[1] = vaddw_s16(sums[1], vget_high_s16(v));
}

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

/* The weights of 8 channels; 1 if none is -128. */
EP_INLINE int load_weights(const ep_depthwise_s8 *d, int32_t c, int8x8_t w[MOST_TAPS])
{
    int8x8_t least = vdup_n_s8(0);
    EP_UNROLL
    for (int32_t i = 0; i < MOST_TAPS; i++) {
        w[i] = vld1_s8(d->w + i / 3 * d->w_row + i % 3 * d->w_tap + c);
        least = vmin_s8(least, w[i]);
    }
    least = vpmin_s8(least, least);
    least = vpmin_s8(least, least);
    return vget_lane_s8(vpmin_s8(least, least), 0) != -128;
}

/* The same, 3x3, with the weights in registers. 0 if a weight is -128. */
static int block_3x3(const ep_depthwise_s8 *d, int32_t c)
{
    const ep_target t = ep_make_target(&d->q);
    const float32x4_t m0 = vld1q_f32(d->q.multiplier + c), m1 = vld1q_f32(d->q.multiplier + c + 4);
    const int32x4_t b0 = vld1q_s32(d->bias + c), b1 = vld1q_s32(d->bias + c + 4);
    const ptrdiff_t tap = d->x_tap, tap2 = 2 * tap;
    int8x8_t w[MOST_TAPS];
    if (!load_weights(d, c, w)) {
        return 0;
    }
    for (int32_t l = 0; l < d->lines; l++) {
        const int8_t *x = d->x + l * d->x_line + c, *x1 = x + d->x_row, *x2 = x1 + d->x_row;
        int8_t *y = d->y + l * d->y_line + c;
        for (int32_t p = 0; p < d->run; p++, x += d->x_step, x1 += d->x_step, x2 += d->x_step, y += d->y_step) {
            int32x4_t sums[2] = {b0, b1};
            add_two(sums, vld1_s8(x), w[0], vld1_s8(x + tap), w[1]);
            add_two(sums, vld1_s8(x + tap2), w[2], vld1_s8(x1), w[3]);
            add_two(sums, vld1_s8(x1 + tap), w[4], vld1_s8(x1 + tap2), w[5]);
            add_two(sums, vld1_s8(x2), w[6], vld1_s8(x2 + tap), w[7]);
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

void ep_depthwise_s8_neon(const ep_depthwise_s8 *d)
{
    int32_t c = 0;
    while (c + 8 <= d->channels) {
        if (d->kernel_h != 3 || d->kernel_w != 3 || !block_3x3(d, c)) {
            any_block(d, c);
        }
        c += 8;
        if (c < d->channels && c + 8 > d->channels) {
            c = d->channels - 8; /* the last ones once more: their codes stay the same */
        }
    }
    for (; c < d->channels; c++) {
        one_channel(d, c);
    }
}

#else
typedef int ep_depthwise_neon_left_out; /* ISO C wants a declaration in every file */
#endif
