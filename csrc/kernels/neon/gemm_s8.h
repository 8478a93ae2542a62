/* gemm_s8, included once for each way to add the products of 16 codes by 16 to a vector of sums, with
 *     EP_TARGET    the attribute of the functions, if they need one
 *     EP_DOTPROD   if there are dot products
 * x and w both lie row by row, so each sum is a vector over the codes of a row until its end. */
#include "neon.h"

#ifdef __aarch64__
#define ROWS 4 /* of a block: as many as the registers hold sums for */
#else
#define ROWS 2
#endif

/* How products are added. */
enum {
    EP_APART,  /* each product on its own to the sums */
    EP_PAIRED, /* two products first: no two pairs (-128) * (-128), whose sum would not fit 16 bits */
    EP_DOTS    /* four, in one instruction */
};

#define EP_FEW_ROWS 8 /* below which looking for -128 is cheaper in x than in w */

/* Two vectors from *p, which goes on behind them: one instruction, which compilers do not find. */
EP_TARGET EP_INLINE void ep_load32(const int8_t **p, int8x16_t v[2])
{
#ifdef __aarch64__
    __asm__("ldp %q0, %q1, [%2], #32" : "=w"(v[0]), "=w"(v[1]), "+r"(*p) : : "memory");
#else
    v[0] = vld1q_s8(*p);
    v[1] = vld1q_s8(*p + 16);
    *p += 32;
#endif
}

/* A row's last `left` codes, 1 .. 15, at p. Nothing is read behind them, so there may be some again of those before them, or
 * twice the same; where ep_last_mask() is 0 they do not count. */
EP_TARGET EP_INLINE int8x16_t ep_last16(const int8_t *p, int32_t left, int32_t count)
{
    if (count >= 16) return vld1q_s8(p + left - 16);
    if (count >= 8) return vcombine_s8(vld1_s8(p), vld1_s8(p + count - 8));
    int8_t part[16] = {0};
    for (int32_t i = 0; i < count; i++) part[i] = p[i];
    return vld1q_s8(part);
}

EP_TARGET EP_INLINE int8x16_t ep_last_mask(int32_t count)
{
    static const int8_t bits[32] = {0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,  0,
                                    -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1, -1};
    if (count >= 16) return vld1q_s8(bits + count % 16);
    return count >= 8 ? vcombine_s8(vdup_n_s8(-1), vld1_s8(bits + count)) : vdupq_n_s8(-1);
}

/* The four sums, each of four lanes. */
EP_TARGET EP_INLINE int32x4_t ep_fold(const int32x4_t s[4])
{
#ifdef __aarch64__
    return vpaddq_s32(vpaddq_s32(s[0], s[1]), vpaddq_s32(s[2], s[3]));
#else
    int32x2_t v[4];
    EP_UNROLL
    for (int j = 0; j < 4; j++) v[j] = vadd_s32(vget_low_s32(s[j]), vget_high_s32(s[j]));
    return vcombine_s32(vpadd_s32(v[0], v[1]), vpadd_s32(v[2], v[3]));
#endif
}

EP_TARGET EP_INLINE int32_t ep_fold1(int32x4_t s)
{
#ifdef __aarch64__
    return vaddvq_s32(s);
#else
    const int32x2_t v = vadd_s32(vget_low_s32(s), vget_high_s32(s));
    return vget_lane_s32(vpadd_s32(v, v), 0);
#endif
}

EP_TARGET EP_INLINE int32x4_t ep_add_products(int32x4_t sum, int8x16_t x, int8x16_t w, int how)
{
#ifdef EP_DOTPROD
    if (how == EP_DOTS) {
        __asm__("sdot %0.4s, %1.16b, %2.16b" : "+w"(sum) : "w"(x), "w"(w));
        return sum;
    }
#endif
    const int16x8_t low = vmull_s8(vget_low_s8(x), vget_low_s8(w));
#ifdef __aarch64__
    if (how == EP_PAIRED) return vpadalq_s16(sum, vmlal_high_s8(low, x, w));
    return vpadalq_s16(vpadalq_s16(sum, low), vmull_high_s8(x, w));
#else
    if (how == EP_PAIRED) return vpadalq_s16(sum, vmlal_s8(low, vget_high_s8(x), vget_high_s8(w)));
    return vpadalq_s16(vpadalq_s16(sum, low), vmull_s8(vget_high_s8(x), vget_high_s8(w)));
#endif
}

/* Column j of all rows: the same, but that the order of instructions is given. Left to themselves, compilers multiply
 * everything first and run out of registers. */
EP_TARGET EP_INLINE void ep_add_column(int32x4_t sums[][8], int8x16_t (*x)[2], int part, int8x16_t w, int32_t j,
                                       int32_t rows, int how)
{
#ifdef __aarch64__
    int16x8_t p0, p1, p2, p3;
    if (rows == 4 && how == EP_PAIRED) {
        __asm__("smull %4.8h, %8.8b, %12.8b\n\tsmull %5.8h, %9.8b, %12.8b\n\t"
                "smull %6.8h, %10.8b, %12.8b\n\tsmull %7.8h, %11.8b, %12.8b\n\t"
                "smlal2 %4.8h, %8.16b, %12.16b\n\tsmlal2 %5.8h, %9.16b, %12.16b\n\t"
                "smlal2 %6.8h, %10.16b, %12.16b\n\tsmlal2 %7.8h, %11.16b, %12.16b\n\t"
                "sadalp %0.4s, %4.8h\n\tsadalp %1.4s, %5.8h\n\tsadalp %2.4s, %6.8h\n\tsadalp %3.4s, %7.8h"
                : "+w"(sums[0][j]), "+w"(sums[1][j]), "+w"(sums[2][j]), "+w"(sums[3][j]), "=&w"(p0), "=&w"(p1),
                  "=&w"(p2), "=&w"(p3)
                : "w"(x[0][part]), "w"(x[1][part]), "w"(x[2][part]), "w"(x[3][part]), "w"(w));
        return;
    }
    if (rows == 4 && how == EP_APART) {
        __asm__("smull %4.8h, %8.8b, %12.8b\n\tsmull %5.8h, %9.8b, %12.8b\n\t"
                "smull %6.8h, %10.8b, %12.8b\n\tsmull %7.8h, %11.8b, %12.8b\n\t"
                "sadalp %0.4s, %4.8h\n\tsadalp %1.4s, %5.8h\n\tsadalp %2.4s, %6.8h\n\tsadalp %3.4s, %7.8h\n\t"
                "smull2 %4.8h, %8.16b, %12.16b\n\tsmull2 %5.8h, %9.16b, %12.16b\n\t"
                "smull2 %6.8h, %10.16b, %12.16b\n\tsmull2 %7.8h, %11.16b, %12.16b\n\t"
                "sadalp %0.4s, %4.8h\n\tsadalp %1.4s, %5.8h\n\tsadalp %2.4s, %6.8h\n\tsadalp %3.4s, %7.8h"
                : "+w"(sums[0][j]), "+w"(sums[1][j]), "+w"(sums[2][j]), "+w"(sums[3][j]), "=&w"(p0), "=&w"(p1),
                  "=&w"(p2), "=&w"(p3)
                : "w"(x[0][part]), "w"(x[1][part]), "w"(x[2][part]), "w"(x[3][part]), "w"(w));
        return;
    }
#endif
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) sums[i][j] = ep_add_products(sums[i][j], x[i][part], w, how);
}

/* Rows r .. r + rows - 1 of x by columns k .. k + columns - 1 of w; left over, the sums' lanes are not added up yet. */
EP_TARGET EP_INLINE void ep_sum_block(const ep_gemm_s8 *g, int32x4_t sums[][8], int32_t r, int32_t k, int32_t rows,
                                      int32_t columns, int how)
{
    const int8_t *x[ROWS], *w[8];
    int8x16_t v[ROWS][2], u[2];
    int32_t left = g->count;
    EP_UNROLL
    for (int32_t j = 0; j < columns; j++) w[j] = g->w + (ptrdiff_t)(k + j) * g->count;
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) {
        x[i] = g->x + (r + i) * g->x_step;
        EP_UNROLL
        for (int32_t j = 0; j < columns; j++) sums[i][j] = vdupq_n_s32(0);
    }
    for (; left >= 32; left -= 32) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) ep_load32(&x[i], v[i]);
        EP_UNROLL
        for (int32_t j = 0; j < columns; j++) {
            ep_load32(&w[j], u);
            ep_add_column(sums, v, 0, u[0], j, rows, how);
            ep_add_column(sums, v, 1, u[1], j, rows, how);
        }
    }
    if (left >= 16) {
        left -= 16;
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) {
            v[i][0] = vld1q_s8(x[i]);
            x[i] += 16;
        }
        EP_UNROLL
        for (int32_t j = 0; j < columns; j++) {
            u[0] = vld1q_s8(w[j]);
            w[j] += 16;
            ep_add_column(sums, v, 0, u[0], j, rows, how);
        }
    }
    if (left > 0) {
        const int8x16_t mask = ep_last_mask(g->count);
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) {
            v[i][0] = vandq_s8(ep_last16(x[i], left, g->count), mask);
        }
        EP_UNROLL
        for (int32_t j = 0; j < columns; j++) {
            u[0] = ep_last16(w[j], left, g->count);
            ep_add_column(sums, v, 0, u[0], j, rows, how);
        }
    }
}

/* Four rows, four columns: 16 codes. */
EP_TARGET EP_INLINE void ep_block_4x4(const ep_gemm_s8 *g, const ep_target *t, int32_t r, int32_t k, int how)
{
    int32x4_t sums[4][8], folded[4];
    const float32x4_t m = vld1q_f32(g->q.multiplier + k);
    const float32x4_t ms[4] = {m, m, m, m};
    const int32x4_t bias = vld1q_s32(g->bias + k);
    int8_t *y = g->y + r * g->y_step + k;
    EP_UNROLL
    for (int32_t i = 0; i < 4; i += ROWS) {
        ep_sum_block(g, sums + i, r + i, k, ROWS, 4, how);
        EP_UNROLL
        for (int32_t n = 0; n < ROWS; n++) folded[i + n] = vaddq_s32(bias, ep_fold(sums[i + n]));
    }
    const int8x16_t v = ep_to_codes16(t, folded, ms);
    ep_store4_s8(y, vget_low_s8(v), 0);
    ep_store4_s8(y + g->y_step, vget_low_s8(v), 1);
    ep_store4_s8(y + 2 * g->y_step, vget_high_s8(v), 0);
    ep_store4_s8(y + 3 * g->y_step, vget_high_s8(v), 1);
}

/* One row, four or eight columns. */
EP_TARGET EP_INLINE void ep_block_1x8(const ep_gemm_s8 *g, const ep_target *t, int32_t r, int32_t k, int32_t columns,
                                      int how)
{
    int32x4_t sums[1][8];
    ep_sum_block(g, sums, r, k, 1, columns, how);
    const float32x4_t m = vld1q_f32(g->q.multiplier + k);
    const int32x4_t a = vaddq_s32(vld1q_s32(g->bias + k), ep_fold(sums[0]));
    int8_t *y = g->y + r * g->y_step + k;
    if (columns == 8) {
        const int32x4_t b = vaddq_s32(vld1q_s32(g->bias + k + 4), ep_fold(sums[0] + 4));
        vst1_s8(y, ep_to_codes(t, a, b, m, vld1q_f32(g->q.multiplier + k + 4)));
    } else {
        ep_store4_s8(y, ep_to_codes(t, a, a, m, m), 0);
    }
}

/* One code. */
EP_TARGET EP_INLINE void ep_block_1x1(const ep_gemm_s8 *g, const ep_target *t, int32_t r, int32_t k, int how)
{
    int32x4_t sums[1][8];
    ep_sum_block(g, sums, r, k, 1, 1, how);
    const int32x4_t sum = vdupq_n_s32(g->bias[k] + ep_fold1(sums[0][0]));
    const float32x4_t m = vdupq_n_f32(g->q.multiplier[k]);
    vst1_lane_s8(g->y + r * g->y_step + k, ep_to_codes(t, sum, sum, m, m), 0);
}

EP_TARGET EP_INLINE void ep_gemm(const ep_gemm_s8 *job, int how)
{
    const ep_gemm_s8 copy = *job, *g = &copy; /* y might be where *job is, as far as a compiler knows */
    const ep_target t = ep_make_target(&g->q);
    int32_t r = 0;
    for (; r + 4 <= g->rows; r += 4) {
        int32_t k = 0;
        for (; k + 4 <= g->columns; k += 4) ep_block_4x4(g, &t, r, k, how);
        for (; k < g->columns; k++) {
            for (int32_t i = r; i < r + 4; i++) ep_block_1x1(g, &t, i, k, how);
        }
    }
    for (; r < g->rows; r++) {
        int32_t k = 0;
        for (; k + 8 <= g->columns; k += 8) ep_block_1x8(g, &t, r, k, 8, how);
        if (k + 4 <= g->columns) {
            ep_block_1x8(g, &t, r, k, 4, how);
            k += 4;
        }
        for (; k < g->columns; k++) ep_block_1x1(g, &t, r, k, how);
    }
}
