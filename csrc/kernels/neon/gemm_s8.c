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
    for (; i < count; i++) lowest |= w[i] == -128;
    int8_t lanes[16];
    vst1q_s8(lanes, least);
    for (i = 0; i < 16; i++) lowest |= lanes[i] == -128;
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

#ifdef __aarch64__
#include "panel_s8.h"

#define DEPTH 16 /* codes of a column up to which panels are quicker than EP_PAIRED */

/* w (columns, count) -> panel (count, 8 columns) of 16 bits. */
static void pack(int16_t *panel, const ep_panel *p)
{
    const int8_t *w = p->g->w + (ptrdiff_t)p->k * p->g->count;
    for (int32_t j = 0; j < EP_COLUMNS; j++) {
        for (int32_t t = 0; t < p->g->count; t++) {
            panel[t * EP_COLUMNS + j] = j < p->columns ? *w++ : 0;
        }
    }
}

/* sums of all rows += lane `lane` of x by a row of the panel. */
#define ADD_LANE(lane)                                                             \
    do {                                                                           \
        const int16x8_t v = vld1q_s16(w);                                          \
        w += EP_COLUMNS;                                                           \
        EP_UNROLL                                                                  \
        for (int32_t i = 0; i < rows; i++) {                                       \
            sums[i][0] = vmlal_laneq_s16(sums[i][0], vget_low_s16(v), x[i], lane); \
            sums[i][1] = vmlal_high_laneq_s16(sums[i][1], v, x[i], lane);          \
        }                                                                          \
    } while (0)

/* Rows r .. r + rows - 1. */
EP_INLINE void block(const ep_panel *p, const int16_t *w, int32_t r, int32_t rows)
{
    const ep_gemm_s8 *g = p->g;
    const int8_t *from[EP_ROWS];
    int32x4_t sums[EP_ROWS][2];
    int16x8_t x[EP_ROWS];
    int32_t t = 0;
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) {
        from[i] = g->x + (r + i) * g->x_step;
        sums[i][0] = p->bias[0];
        sums[i][1] = p->bias[1];
    }
    for (; t + 8 <= g->count; t += 8) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) x[i] = vmovl_s8(vld1_s8(from[i] + t));
        ADD_LANE(0);
        ADD_LANE(1);
        ADD_LANE(2);
        ADD_LANE(3);
        ADD_LANE(4);
        ADD_LANE(5);
        ADD_LANE(6);
        ADD_LANE(7);
    }
    for (; t < g->count; t++) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) x[i] = vdupq_n_s16(from[i][t]);
        ADD_LANE(0);
    }
    ep_store_rows(p, sums, r, rows);
}

static void by_panels(const ep_gemm_s8 *g)
{
    int16_t panel[DEPTH * EP_COLUMNS] __attribute__((aligned(16)));
    for (int32_t k = 0; k < g->columns; k += EP_COLUMNS) {
        const ep_panel p = ep_make_panel(g, k);
        int32_t r = 0;
        pack(panel, &p);
        for (; r + EP_ROWS <= g->rows; r += EP_ROWS) block(&p, panel, r, EP_ROWS);
        for (; r + 2 <= g->rows; r += 2) block(&p, panel, r, 2);
        if (r < g->rows) block(&p, panel, r, 1);
    }
}
#endif

void ep_gemm_s8_neon(const ep_gemm_s8 *g)
{
#ifdef __aarch64__
    if (g->rows >= EP_MANY_ROWS && g->count <= DEPTH) {
        by_panels(g);
        return;
    }
#endif
    if (!g->narrow && (g->rows < EP_FEW_ROWS ? has_pairs(g) : has_lowest(g->w, (ptrdiff_t)g->columns * g->count))) {
        ep_gemm(g, EP_APART);
    } else {
        ep_gemm(g, EP_PAIRED);
    }
}

#else
typedef int ep_gemm_neon_left_out; /* ISO C wants a declaration in every file */
#endif
