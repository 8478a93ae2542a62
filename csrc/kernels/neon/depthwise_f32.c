/* depthwise_f32: 4 or 8 channels at one position after the other. */
#include "neon.h"

#ifdef EP_NEON

#if defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
#define MAC(sum, a, b) vfmaq_f32(sum, a, b)
#else
#define MAC(sum, a, b) vmlaq_f32(sum, a, b)
#endif

#define TAPS 9 /* whose weights stay in registers */
#ifdef __aarch64__
#define VECTORS 2 /* of channels, for which the registers suffice then */
#else
#define VECTORS 1
#endif

/* Channels c .. c + 4 * VECTORS - 1, 3 x 3. */
static void block_3x3(const ep_depthwise_f32 *job, int32_t c)
{
    const ep_depthwise_f32 d = *job; /* y might be where *job is, as far as a compiler knows */
    const ptrdiff_t tap = d.x_tap, tap2 = 2 * tap;
    float32x4_t w[TAPS][VECTORS], bias[VECTORS];
    EP_UNROLL
    for (int32_t n = 0; n < VECTORS; n++) {
        bias[n] = vld1q_f32(d.bias + c + 4 * n);
        EP_UNROLL
        for (int32_t i = 0; i < TAPS; i++) {
            w[i][n] = vld1q_f32(d.w + i / 3 * d.w_row + i % 3 * d.w_tap + c + 4 * n);
        }
    }
    for (int32_t l = 0; l < d.lines; l++) {
        const float *x = d.x + l * d.x_line + c, *x1 = x + d.x_row, *x2 = x1 + d.x_row;
        float *y = d.y + l * d.y_line + c;
        for (int32_t p = d.run; p > 0; p--, x += d.x_step, x1 += d.x_step, x2 += d.x_step, y += d.y_step) {
            const float *const at[TAPS] = {x, x + tap, x + tap2, x1, x1 + tap, x1 + tap2, x2, x2 + tap, x2 + tap2};
            EP_UNROLL
            for (int32_t n = 0; n < VECTORS; n++) {
                float32x4_t sum = bias[n];
                EP_UNROLL
                for (int32_t i = 0; i < TAPS; i++) {
                    sum = MAC(sum, vld1q_f32(at[i] + 4 * n), w[i][n]);
                }
                vst1q_f32(y + 4 * n, sum);
            }
        }
    }
}

/* Channels c .. c + 4 * vectors - 1 at one position, any kernel. */
EP_INLINE void any_block(const ep_depthwise_f32 *d, const float *x, float *y, int32_t c, int32_t vectors)
{
    float32x4_t sums[4];
    EP_UNROLL
    for (int32_t n = 0; n < vectors; n++) sums[n] = vld1q_f32(d->bias + c + 4 * n);
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        const float *v = x + ky * d->x_row + c, *w = d->w + ky * d->w_row + c;
        for (int32_t kx = 0; kx < d->kernel_w; kx++, v += d->x_tap, w += d->w_tap) {
            EP_UNROLL
            for (int32_t n = 0; n < vectors; n++) {
                sums[n] = MAC(sums[n], vld1q_f32(v + 4 * n), vld1q_f32(w + 4 * n));
            }
        }
    }
    EP_UNROLL
    for (int32_t n = 0; n < vectors; n++) vst1q_f32(y + c + 4 * n, sums[n]);
}

static float one_channel(const ep_depthwise_f32 *d, const float *x, int32_t c)
{
    float sum = d->bias[c];
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        for (int32_t kx = 0; kx < d->kernel_w; kx++) {
            sum += x[ky * d->x_row + kx * d->x_tap + c] * d->w[ky * d->w_row + kx * d->w_tap + c];
        }
    }
    return sum;
}

/* Channels c .. d->channels - 1 at all positions. */
static void any_kernel(const ep_depthwise_f32 *job, int32_t first)
{
    const ep_depthwise_f32 copy = *job, *d = &copy;
    for (int32_t l = 0; l < d->lines; l++) {
        const float *x = d->x + l * d->x_line;
        float *y = d->y + l * d->y_line;
        for (int32_t p = d->run; p > 0; p--, x += d->x_step, y += d->y_step) {
            int32_t c = first;
            for (; c + 16 <= d->channels; c += 16) any_block(d, x, y, c, 4);
            for (; c + 4 <= d->channels; c += 4) any_block(d, x, y, c, 1);
            for (; c < d->channels; c++) y[c] = one_channel(d, x, c);
        }
    }
}

void ep_depthwise_f32_neon(const ep_depthwise_f32 *d)
{
    int32_t c = 0;
    if (d->kernel_h == 3 && d->kernel_w == 3 && (int64_t)d->lines * d->run > 2) {
        for (; c + 4 * VECTORS <= d->channels; c += 4 * VECTORS) block_3x3(d, c);
    }
    if (c < d->channels) any_kernel(d, c);
}

#else
typedef int ep_depthwise_f32_neon_left_out; /* ISO C wants a declaration in every file */
#endif
