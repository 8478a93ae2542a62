/* gemm_s8 with dot products, ARMv8.2's SDOT: four products at once to each of four sums. */
#include "neon.h"

#if defined(EP_NEON) && (defined(EP_DISPATCH) || defined(__ARM_FEATURE_DOTPROD))

#if defined(__ARM_FEATURE_DOTPROD)
#define EP_TARGET
#elif defined(__clang__)
#define EP_TARGET __attribute__((target("dotprod")))
#else
#define EP_TARGET __attribute__((target("arch=armv8.2-a+dotprod")))
#endif
#define EP_DOTPROD 1
#include "gemm_s8.h"

#include "panel_s8.h"

#define DEPTH 1024 /* codes of a column that fit the stack */

/* 4 x 4 groups of four codes: rows become columns. */
EP_TARGET EP_INLINE void turn(int8x16_t v[4])
{
    int64x2_t t[4];
    for (int i = 0; i < 2; i++) {
        const int32x4_t a = vreinterpretq_s32_s8(v[2 * i]), b = vreinterpretq_s32_s8(v[2 * i + 1]);
        t[2 * i] = vreinterpretq_s64_s32(vtrn1q_s32(a, b));
        t[2 * i + 1] = vreinterpretq_s64_s32(vtrn2q_s32(a, b));
    }
    v[0] = vreinterpretq_s8_s64(vtrn1q_s64(t[0], t[2]));
    v[1] = vreinterpretq_s8_s64(vtrn1q_s64(t[1], t[3]));
    v[2] = vreinterpretq_s8_s64(vtrn2q_s64(t[0], t[2]));
    v[3] = vreinterpretq_s8_s64(vtrn2q_s64(t[1], t[3]));
}

/* 16 codes of the panel's columns, `left` and more of each behind w: fewer than 16 as ep_last16() gives them. */
EP_TARGET EP_INLINE void pack16(int8_t *panel, const ep_panel *p, const int8_t *w, int32_t left, int32_t columns)
{
    const int32_t count = p->g->count;
    EP_UNROLL
    for (int32_t half = 0; half < 2; half++) {
        int8x16_t v[4];
        EP_UNROLL
        for (int32_t j = 0; j < 4; j++) {
            const int8_t *from = w + (ptrdiff_t)(4 * half + j) * count;
            v[j] = vdupq_n_s8(0);
            if (4 * half + j < columns) {
                v[j] = left >= 16 ? vld1q_s8(from) : ep_last16(from, left, count);
            }
        }
        turn(v);
        EP_UNROLL
        for (int32_t j = 0; j < 4; j++) vst1q_s8(panel + 32 * j + 16 * half, v[j]);
    }
}

/* w (columns, count) -> panel (count / 4, 8 columns, 4). */
EP_TARGET static void pack(int8_t *panel, const ep_panel *p)
{
    const int32_t count = p->g->count;
    const int8_t *w = p->g->w + (ptrdiff_t)p->k * count;
    int32_t t = 0;
    for (; p->columns == EP_COLUMNS && t + 16 <= count; t += 16) {
        pack16(panel + t * EP_COLUMNS, p, w + t, 16, EP_COLUMNS);
    }
    for (; t < count; t += 16) pack16(panel + t * EP_COLUMNS, p, w + t, count - t, p->columns);
}

/* sums of all rows += four codes of x, lane `lane`, by the panel's. */
#define ADD_LANE(lane)                                                                              \
    do {                                                                                            \
        const int8x16_t u = vld1q_s8(w), v = vld1q_s8(w + 16);                                      \
        w += 32;                                                                                    \
        EP_UNROLL                                                                                   \
        for (int32_t i = 0; i < rows; i++) {                                                        \
            __asm__("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(sums[i][0]) : "w"(u), "w"(x[i])); \
            __asm__("sdot %0.4s, %1.16b, %2.4b[" #lane "]" : "+w"(sums[i][1]) : "w"(v), "w"(x[i])); \
        }                                                                                           \
    } while (0)

/* Rows r .. r + rows - 1. */
EP_TARGET EP_INLINE void block(const ep_panel *p, const int8_t *w, int32_t r, int32_t rows)
{
    const ep_gemm_s8 *g = p->g;
    const int8_t *from[EP_ROWS];
    int32x4_t sums[EP_ROWS][2];
    int8x16_t x[EP_ROWS];
    int32_t t = 0;
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) {
        from[i] = g->x + (r + i) * g->x_step;
        sums[i][0] = p->bias[0];
        sums[i][1] = p->bias[1];
    }
    for (; t + 16 <= g->count; t += 16) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) x[i] = vld1q_s8(from[i] + t);
        ADD_LANE(0);
        ADD_LANE(1);
        ADD_LANE(2);
        ADD_LANE(3);
    }
    if (t < g->count) {
        const int8x16_t mask = ep_last_mask(g->count);
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) {
            x[i] = vandq_s8(ep_last16(from[i] + t, g->count - t, g->count), mask);
        }
        ADD_LANE(0);
        ADD_LANE(1);
        ADD_LANE(2);
        ADD_LANE(3);
    }
    ep_store_rows(p, sums, r, rows);
}

EP_TARGET static void by_panels(const ep_gemm_s8 *g)
{
    int8_t panel[DEPTH * EP_COLUMNS] __attribute__((aligned(16)));
    for (int32_t k = 0; k < g->columns; k += EP_COLUMNS) {
        const ep_panel p = ep_make_panel(g, k);
        int32_t r = 0;
        pack(panel, &p);
        for (; r + EP_ROWS <= g->rows; r += EP_ROWS) block(&p, panel, r, EP_ROWS);
        for (; r + 2 <= g->rows; r += 2) block(&p, panel, r, 2);
        if (r < g->rows) block(&p, panel, r, 1);
    }
}

EP_TARGET void ep_gemm_s8_dotprod(const ep_gemm_s8 *g)
{
    if (g->rows >= EP_MANY_ROWS && g->count <= DEPTH) {
        by_panels(g);
    } else {
        ep_gemm(g, EP_DOTS);
    }
}

#else
typedef int ep_gemm_dotprod_left_out; /* ISO C wants a declaration in every file */
#endif
