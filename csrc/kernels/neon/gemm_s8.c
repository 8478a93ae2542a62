/* gemm_s8 without dot products: codes are multiplied to 16 bits, and pairs of products added to 32. */
#include "neon.h"

#ifdef EP_NEON

#define EP_TARGET
#include "gemm_s8.h"

/* 1 if one of the codes is -128. */
static int has_lowest(const int8_t *w, ptrdiff_t count)
{
    int8x16_t least = vdupq_n_s8(0);
    ptrdiff_t i = 0;
    int lowest = 0;
    for (; i + 32 <= count; i += 32) {
        least = vminq_s8(least, vminq_s8(vld1q_s8(w + i), vld1q_s8(w + i + 16)));
    }
    for (; i < count; i++) {
        lowest |= w[i] == -128;
    }
    int8_t lanes[16];
    vst1q_s8(lanes, least);
    for (i = 0; i < 16; i++) {
        lowest |= lanes[i] == -128;
    }
    return lowest;
}

/* 1 if two codes of x are -128 whose products would be added in 16 bits. */
static int has_pairs(const ep_gemm_s8 *g)
{
    int8x8_t least = vdup_n_s8(0);
    for (int32_t r = 0; r < g->rows; r++) {
        const int8_t *x = g->x + r * g->x_step;
        int32_t i = 0;
        for (; i + 16 <= g->count; i += 16) {
            least = vmin_s8(least, vmax_s8(vld1_s8(x + i), vld1_s8(x + i + 8)));
        }
        if (i < g->count) {
            const int8x16_t v = vandq_s8(ep_last16(x + i, g->count - i, g->count), ep_last_mask(g->count));
            least = vmin_s8(least, vmax_s8(vget_low_s8(v), vget_high_s8(v)));
        }
    }
    least = vpmin_s8(least, least);
    least = vpmin_s8(least, least);
    return vget_lane_s8(vpmin_s8(least, least), 0) == -128;
}

void ep_gemm_s8_neon(const ep_gemm_s8 *g)
{
    if (g->rows < EP_FEW_ROWS ? has_pairs(g) : has_lowest(g->w, (ptrdiff_t)g->columns * g->count)) {
        ep_gemm(g, EP_APART);
    } else {
        ep_gemm(g, EP_PAIRED);
    }
}

#else
typedef int ep_gemm_neon_left_out; /* ISO C wants a declaration in every file */
#endif
