/* Depthwise convolution of codes: eight channels at two positions at once, whose sums stay in registers. Products of
 * 16-bit lanes are 32 bits wide, those of even lanes in one register and those of odd lanes in another. */
#include "../kernels.h"

#ifdef __ARM_FEATURE_MVE
#include "requantize.h"

#define LANES 8
#define SPECIALIZED __attribute__((always_inline)) static inline /* for constant arguments */

/* The sums of eight channels at one position. */
typedef struct sums {
    int32x4_t even, odd;
} sums;

static inline void add_tap(sums *s, int16x8_t x, int16x8_t w)
{
    s->even = vaddq_s32(s->even, vmullbq_int_s16(x, w));
    s->odd = vaddq_s32(s->odd, vmulltq_int_s16(x, w));
}

/* Codes of eight channels; `all`: of all of them, else of those of the predicate. */
static inline int16x8_t load(const int8_t *p, const int all, mve_pred16_t some)
{
    return all ? vldrbq_s16(p) : vldrbq_z_s16(p, some);
}

static inline void store(int8_t *y, const sums *s, const float *multiplier, const rounding *r, const int all,
                         mve_pred16_t some)
{
#if __ARM_FEATURE_MVE & 2
    const float32x4x2_t m = vld2q_f32(multiplier);
#else
    const uint32x4x2_t m = vld2q_u32((const uint32_t *)(const void *)multiplier);
#endif
    int16x8_t v = vqmovnbq_s32(vdupq_n_s16(0), scaled(s->even, m.val[0]));
    v = vqmovntq_s32(v, scaled(s->odd, m.val[1]));
    v = vaddq_n_s16(vminq_s16(vmaxq_s16(v, r->lo16), r->hi16), (int16_t)r->zero_point);
    if (all) {
        vstrbq_s16(y, v);
    } else {
        vstrbq_p_s16(y, v, some);
    }
}

/* What eight channels at two positions see, and where it goes. The positions may be the same. */
typedef struct pair {
    const int8_t *x0, *x1;
    int8_t *y0, *y1;
} pair;

SPECIALIZED void depthwise_pair(const ep_depthwise_s8 *d, const rounding *r, pair at, const int8_t *w,
                                const int32_t *bias, const float *multiplier, const int32_t kernel_w, const int all,
                                mve_pred16_t some)
{
    const int32x4x2_t b = vld2q_s32(bias);
    sums s0 = {b.val[0], b.val[1]}, s1 = s0;
    const ptrdiff_t x_tap = d->x_tap, w_tap = d->w_tap;
    const ptrdiff_t x_back = d->x_row - kernel_w * x_tap, w_back = d->w_row - kernel_w * w_tap;
    for (int32_t ky = d->kernel_h; ky > 0; ky--) {
        for (int32_t kx = 0; kx < kernel_w; kx++) {
            const int16x8_t v = load(w, all, some);
            add_tap(&s0, load(at.x0, all, some), v);
            add_tap(&s1, load(at.x1, all, some), v);
            at.x0 += x_tap, at.x1 += x_tap, w += w_tap;
        }
        at.x0 += x_back, at.x1 += x_back, w += w_back;
    }
    store(at.y0, &s0, multiplier, r, all, some);
    store(at.y1, &s1, multiplier, r, all, some);
}

/* One position further. */
static inline void advance(const ep_depthwise_s8 *d, const int8_t **x, int8_t **y, int32_t *column)
{
    *x += d->x_step, *y += d->y_step;
    if (++*column == d->run) {
        *column = 0;
        *x += d->x_line - d->run * d->x_step, *y += d->y_line - d->run * d->y_step;
    }
}

/* Channels c .. c + 7, or the first of them, at all positions, in pairs across the ends of lines. */
SPECIALIZED void depthwise_block(const ep_depthwise_s8 *d, const rounding *r, int32_t c, const int32_t *bias,
                                 const float *multiplier, const int32_t kernel_w, const int all, mve_pred16_t some)
{
    const int8_t *x = d->x + c;
    int8_t *y = d->y + c;
    int32_t column = 0;
    for (int32_t left = d->lines * d->run; left > 0; left -= 2) {
        pair at = {x, x, y, y};
        if (left > 1) {
            advance(d, &x, &y, &column);
            at.x1 = x, at.y1 = y;
            advance(d, &x, &y, &column);
        }
        depthwise_pair(d, r, at, d->w + c, bias, multiplier, kernel_w, all, some);
    }
}

/* The last channels, fewer than eight. */
static void depthwise_rest(const ep_depthwise_s8 *d, const rounding *r, int32_t c)
{
    int32_t bias[LANES] = {0};
    float multiplier[LANES] = {0.0f};
    for (int32_t i = 0; i < d->channels - c; i++) {
        bias[i] = d->bias[c + i];
        multiplier[i] = d->q.multiplier[c + i];
    }
    depthwise_block(d, r, c, bias, multiplier, d->kernel_w, 0, vctp16q((uint32_t)(d->channels - c)));
}

void ep_depthwise_s8_helium(const ep_depthwise_s8 *d)
{
    const rounding r = make_rounding(&d->q);
    int32_t c = 0;
    for (; c + LANES <= d->channels; c += LANES) {
        if (d->kernel_w == 3) {
            depthwise_block(d, &r, c, d->bias + c, d->q.multiplier + c, 3, 1, 0);
        } else {
            depthwise_block(d, &r, c, d->bias + c, d->q.multiplier + c, d->kernel_w, 1, 0);
        }
    }
    if (c < d->channels) depthwise_rest(d, &r, c);
}
#else
typedef int ep_depthwise_s8_helium_left_out; /* ISO C wants a declaration in every file */
#endif
