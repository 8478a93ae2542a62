/* What gemm_s8 for many rows shares: the weights of 8 columns are packed on the stack so that a vector holds what a whole
 * vector of sums needs, and a lane of x is multiplied with it. No lanes need to be added up then. AArch64 only. */
#ifndef EP_PANEL_S8_H
#define EP_PANEL_S8_H

#include "neon.h"

#define EP_COLUMNS 8 /* of a panel */
#define EP_ROWS 8    /* of a block */

typedef struct ep_panel {
    const ep_gemm_s8 *g;
    int32_t k, columns; /* the first; how many there are, the others 0 */
    int32x4_t bias[2];
    float32x4_t multiplier[2];
    ep_target target;
} ep_panel;

EP_INLINE ep_panel ep_make_panel(const ep_gemm_s8 *g, int32_t k)
{
    ep_panel p = {.g = g, .k = k, .columns = g->columns - k < EP_COLUMNS ? g->columns - k : EP_COLUMNS};
    int32_t bias[EP_COLUMNS] = {0};
    float multiplier[EP_COLUMNS] = {0};
    memcpy(bias, g->bias + k, (size_t)p.columns * sizeof *bias);
    memcpy(multiplier, g->q.multiplier + k, (size_t)p.columns * sizeof *multiplier);
    for (int i = 0; i < 2; i++) {
        p.bias[i] = vld1q_s32(bias + 4 * i);
        p.multiplier[i] = vld1q_f32(multiplier + 4 * i);
    }
    p.target = ep_make_target(&g->q);
    return p;
}

EP_INLINE void ep_store_row(const ep_panel *p, int8_t *y, int8x8_t v)
{
    if (p->columns == EP_COLUMNS) {
        vst1_s8(y, v);
    } else {
        int8_t codes[EP_COLUMNS];
        vst1_s8(codes, v);
        memcpy(y, codes, (size_t)p->columns);
    }
}

/* Codes of `rows` rows, an even number or one, from r on. */
EP_INLINE void ep_store_rows(const ep_panel *p, int32x4_t sums[][2], int32_t r, int32_t rows)
{
    const ptrdiff_t step = p->g->y_step;
    int8_t *y = p->g->y + r * step + p->k;
    const float32x4_t m[4] = {p->multiplier[0], p->multiplier[1], p->multiplier[0], p->multiplier[1]};
    EP_UNROLL
    for (int32_t i = 0; i + 2 <= rows; i += 2) {
        const int32x4_t s[4] = {sums[i][0], sums[i][1], sums[i + 1][0], sums[i + 1][1]};
        const int8x16_t v = ep_to_codes16(&p->target, s, m);
        ep_store_row(p, y, vget_low_s8(v));
        ep_store_row(p, y + step, vget_high_s8(v));
        y += 2 * step;
    }
    if (rows == 1) ep_store_row(p, y, ep_to_codes(&p->target, sums[0][0], sums[0][1], m[0], m[1]));
}

#endif
