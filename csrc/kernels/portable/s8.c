/* The int8 kernels in portable C. */
#include "../fma.h"
#include "../scalar_s8.h"

/* Four columns of one row at once: x is read once. */
static void gemm_1x4(const ep_gemm_s8 *g, const int8_t *x, int32_t k, int32_t *sums)
{
    const int8_t *w0 = g->w + (ptrdiff_t)k * g->count, *w1 = w0 + g->count, *w2 = w1 + g->count, *w3 = w2 + g->count;
    int32_t s0 = g->bias[k], s1 = g->bias[k + 1], s2 = g->bias[k + 2], s3 = g->bias[k + 3];
    for (int32_t i = 0; i < g->count; i++) {
        const int32_t v = x[i];
        s0 += v * w0[i];
        s1 += v * w1[i];
        s2 += v * w2[i];
        s3 += v * w3[i];
    }
    sums[0] = s0;
    sums[1] = s1;
    sums[2] = s2;
    sums[3] = s3;
}

void ep_gemm_s8_portable(const ep_gemm_s8 *g)
{
    const ep_requant *q = &g->q;
    for (int32_t r = 0; r < g->rows; r++) {
        const int8_t *x = g->x + r * g->x_step;
        int8_t *y = g->y + r * g->y_step;
        int32_t k = 0;
        for (; k + 4 <= g->columns; k += 4) {
            int32_t sums[4];
            gemm_1x4(g, x, k, sums);
            for (int32_t j = 0; j < 4; j++) {
                y[k + j] = ep_requantize(sums[j], q->multiplier[k + j], q->lo, q->hi, q->zero_point);
            }
        }
        for (; k < g->columns; k++) {
            const int32_t sum = g->bias[k] + ep_dot_s8(x, g->w + (ptrdiff_t)k * g->count, g->count);
            y[k] = ep_requantize(sum, q->multiplier[k], q->lo, q->hi, q->zero_point);
        }
    }
}

/* One sum: what a position at x sees, by column k. */
static int32_t conv_sum(const ep_conv_s8 *c, const int8_t *x, int32_t k)
{
    const int8_t *w = c->w + (ptrdiff_t)k * c->pieces * c->piece;
    int32_t sum = c->bias[k];
    for (int32_t s = 0; s < c->pieces; s++) {
        sum += ep_dot_s8(x + s * c->x_piece, w + s * c->piece, c->piece);
    }
    return sum;
}

void ep_conv_s8_portable(const ep_conv_s8 *c)
{
    const ep_requant *q = &c->q;
    for (int32_t i = 0; i < c->lines * c->run; i++) {
        const int32_t l = i / c->run, p = i % c->run;
        const int8_t *x = c->x + l * c->x_line + p * c->x_step;
        int8_t *y = c->y + l * c->y_line + p * c->y_step;
        for (int32_t k = 0; k < c->columns; k++) {
            y[k] = ep_requantize(conv_sum(c, x, k), q->multiplier[k], q->lo, q->hi, q->zero_point);
        }
    }
}

#define LANES 16 /* channels whose sums are kept at once, on the stack */

static void depthwise_lanes(const ep_depthwise_s8 *d, const int8_t *x, int8_t *y, int32_t c, int32_t lanes)
{
    const ep_requant *q = &d->q;
    int32_t sums[LANES];
    memcpy(sums, d->bias + c, (size_t)lanes * sizeof *sums);
    for (int32_t ky = 0; ky < d->kernel_h; ky++) {
        const int8_t *xs = x + ky * d->x_row + c, *ws = d->w + ky * d->w_row + c;
        for (int32_t kx = 0; kx < d->kernel_w; kx++, xs += d->x_tap, ws += d->w_tap) {
            for (int32_t i = 0; i < lanes; i++) sums[i] += (int32_t)xs[i] * ws[i];
        }
    }
    for (int32_t i = 0; i < lanes; i++) {
        y[c + i] = ep_requantize(sums[i], q->multiplier[c + i], q->lo, q->hi, q->zero_point);
    }
}

void ep_depthwise_s8_portable(const ep_depthwise_s8 *d)
{
    for (int32_t i = 0; i < d->lines * d->run; i++) {
        const int32_t l = i / d->run, p = i % d->run;
        for (int32_t c = 0; c < d->channels; c += LANES) {
            const int32_t lanes = d->channels - c < LANES ? d->channels - c : LANES;
            depthwise_lanes(d, d->x + l * d->x_line + p * d->x_step, d->y + l * d->y_line + p * d->y_step, c, lanes);
        }
    }
}

void ep_requantize_s8_portable(int8_t *y, const int32_t *sums, const ep_requant *q, int32_t count)
{
    for (int32_t k = 0; k < count; k++) {
        y[k] = ep_requantize(sums[k], q->multiplier[k], q->lo, q->hi, q->zero_point);
    }
}

void ep_add_s8_portable(const ep_add_args *args, int8_t *y, const int8_t *a, const int8_t *b, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        float v = ep_fma((float)(b[i] + args->offset), args->b_ratio, args->fixed);
        v = ep_fma((float)(a[i] + args->offset), args->a_ratio, v);
        v = v < args->lo ? args->lo : v;
        v = v > args->hi ? args->hi : v;
        y[i] = (int8_t)(ep_nearest(v) - args->offset);
    }
}

void ep_max_s8_portable(int8_t *y, const int8_t *x, int32_t count)
{
    for (int32_t i = 0; i < count; i++) y[i] = x[i] > y[i] ? x[i] : y[i];
}

void ep_sum_s8_portable(int32_t *sums, const int8_t *x, int32_t count)
{
    for (int32_t i = 0; i < count; i++) sums[i] += x[i];
}
