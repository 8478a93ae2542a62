/* dots_f32: x and w both lie row by row, so each sum is a vector over the elements of a row until its end. */
#include "neon.h"

#ifdef EP_NEON

#if defined(__aarch64__) || defined(__ARM_FEATURE_FMA)
#define MAC(sum, a, b) vfmaq_f32(sum, a, b)
#else
#define MAC(sum, a, b) vmlaq_f32(sum, a, b)
#endif
#ifdef __aarch64__
#define ROWS 4 /* of a block: as many as the registers hold sums for */
#else
#define ROWS 2
#endif

/* Two vectors from *p, which goes on behind them: one instruction, which compilers do not find. */
EP_INLINE void load8(const float **p, float32x4_t v[2])
{
#ifdef __aarch64__
    __asm__("ldp %q0, %q1, [%2], #32" : "=w"(v[0]), "=w"(v[1]), "+r"(*p) : : "memory");
#else
    v[0] = vld1q_f32(*p);
    v[1] = vld1q_f32(*p + 4);
    *p += 8;
#endif
}

/* A row's last `left` elements, 1 .. 3, 0 behind them. */
EP_INLINE float32x4_t load_last(const float *p, int32_t left)
{
    float32x4_t v = vsetq_lane_f32(p[0], vdupq_n_f32(0.0f), 0);
    if (left > 1) v = vsetq_lane_f32(p[1], v, 1);
    if (left > 2) v = vsetq_lane_f32(p[2], v, 2);
    return v;
}

EP_INLINE float32x4_t fold(const float32x4_t s[4])
{
#ifdef __aarch64__
    return vpaddq_f32(vpaddq_f32(s[0], s[1]), vpaddq_f32(s[2], s[3]));
#else
    float32x2_t v[4];
    EP_UNROLL
    for (int j = 0; j < 4; j++) v[j] = vadd_f32(vget_low_f32(s[j]), vget_high_f32(s[j]));
    return vcombine_f32(vpadd_f32(v[0], v[1]), vpadd_f32(v[2], v[3]));
#endif
}

EP_INLINE float fold1(float32x4_t s)
{
    const float32x2_t v = vadd_f32(vget_low_f32(s), vget_high_f32(s));
    return vget_lane_f32(vpadd_f32(v, v), 0);
}

/* Column j of all rows. */
EP_INLINE void add_column(float32x4_t sums[][8], float32x4_t (*x)[2], int part, float32x4_t w, int32_t j, int32_t rows)
{
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) sums[i][j] = MAC(sums[i][j], x[i][part], w);
}

/* Rows r .. r + rows - 1 of x by columns k .. k + columns - 1 of w; the sums' lanes are not added up yet. */
EP_INLINE void sum_block(const ep_dots_f32 *d, float32x4_t sums[][8], int32_t r, int32_t k, int32_t rows,
                         int32_t columns)
{
    const float *x[ROWS], *w[8];
    float32x4_t v[ROWS][2], u[2];
    int32_t left = d->count;
    EP_UNROLL
    for (int32_t j = 0; j < columns; j++) w[j] = d->w + (k + j) * d->w_step;
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) {
        x[i] = d->x + (r + i) * d->x_step;
        EP_UNROLL
        for (int32_t j = 0; j < columns; j++) sums[i][j] = vdupq_n_f32(0.0f);
    }
    for (; left >= 8; left -= 8) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) load8(&x[i], v[i]);
        EP_UNROLL
        for (int32_t j = 0; j < columns; j++) {
            load8(&w[j], u);
            add_column(sums, v, 0, u[0], j, rows);
            add_column(sums, v, 1, u[1], j, rows);
        }
    }
    for (; left > 0; left -= 4) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) {
            v[i][0] = left >= 4 ? vld1q_f32(x[i]) : load_last(x[i], left);
            x[i] += 4;
        }
        EP_UNROLL
        for (int32_t j = 0; j < columns; j++) {
            u[0] = left >= 4 ? vld1q_f32(w[j]) : load_last(w[j], left);
            w[j] += 4;
            add_column(sums, v, 0, u[0], j, rows);
        }
    }
}

/* Rows r .. r + rows - 1, four or eight columns from k on. */
EP_INLINE void block(const ep_dots_f32 *d, int32_t r, int32_t k, int32_t rows, int32_t columns)
{
    float32x4_t sums[ROWS][8];
    const float *base = d->base + r * d->base_step + k;
    float *y = d->y + r * d->y_step + k;
    sum_block(d, sums, r, k, rows, columns);
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) {
        vst1q_f32(y, vaddq_f32(vld1q_f32(base), fold(sums[i])));
        if (columns == 8) vst1q_f32(y + 4, vaddq_f32(vld1q_f32(base + 4), fold(sums[i] + 4)));
        y += d->y_step;
        base += d->base_step;
    }
}

EP_INLINE void single(const ep_dots_f32 *d, int32_t r, int32_t k)
{
    float32x4_t sums[1][8];
    sum_block(d, sums, r, k, 1, 1);
    d->y[r * d->y_step + k] = d->base[r * d->base_step + k] + fold1(sums[0][0]);
}

void ep_dots_f32_neon(const ep_dots_f32 *job)
{
    const ep_dots_f32 copy = *job, *d = &copy; /* y might be where *job is, as far as a compiler knows */
    const int32_t whole = d->columns - d->columns % 4;
    int32_t r = 0;
#ifdef __aarch64__
    if (d->rows >= EP_MANY_ROWS) {
        ep_dots_panels_f32_neon(d);
        return;
    }
#endif
    for (; r + ROWS <= d->rows; r += ROWS) {
        for (int32_t k = 0; k < whole; k += 4) block(d, r, k, ROWS, 4);
    }
    for (; r < d->rows; r++) {
        int32_t k = 0;
        for (; k + 8 <= whole; k += 8) block(d, r, k, 1, 8);
        if (k < whole) block(d, r, k, 1, 4);
    }
    for (int32_t k = whole; k < d->columns; k++) {
        for (r = 0; r < d->rows; r++) single(d, r, k);
    }
}

#else
typedef int ep_dots_neon_left_out; /* ISO C wants a declaration in every file */
#endif
