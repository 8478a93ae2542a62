/* dots_f32 for many rows: the weights of 8 columns are packed on the stack, element by element, so that a vector holds what
 * a whole vector of sums needs, and a lane of x is multiplied with it. No lanes need to be added up then. */
#include "neon.h"

#if defined(EP_NEON) && defined(__aarch64__)

#define COLUMNS 8
#define ROWS 8
#define DEPTH 256 /* elements of a column that are packed at once: 8 KiB */

/* w (columns, count), 0 beyond the columns -> panel (count, 8). */
static void pack(float *panel, const float *w, ptrdiff_t step, int32_t columns, int32_t count)
{
    int32_t t = 0;
    for (; columns == COLUMNS && t + 4 <= count; t += 4) {
        EP_UNROLL
        for (int32_t half = 0; half < 2; half++) {
            const float *p = w + 4 * half * step + t;
            const float32x4_t a = vld1q_f32(p), b = vld1q_f32(p + step), c = vld1q_f32(p + 2 * step),
                              d = vld1q_f32(p + 3 * step);
            const float64x2_t ab = vreinterpretq_f64_f32(vtrn1q_f32(a, b)),
                              cd = vreinterpretq_f64_f32(vtrn1q_f32(c, d));
            const float64x2_t ef = vreinterpretq_f64_f32(vtrn2q_f32(a, b)),
                              gh = vreinterpretq_f64_f32(vtrn2q_f32(c, d));
            vst1q_f32(panel + t * COLUMNS + 4 * half, vreinterpretq_f32_f64(vtrn1q_f64(ab, cd)));
            vst1q_f32(panel + (t + 1) * COLUMNS + 4 * half, vreinterpretq_f32_f64(vtrn1q_f64(ef, gh)));
            vst1q_f32(panel + (t + 2) * COLUMNS + 4 * half, vreinterpretq_f32_f64(vtrn2q_f64(ab, cd)));
            vst1q_f32(panel + (t + 3) * COLUMNS + 4 * half, vreinterpretq_f32_f64(vtrn2q_f64(ef, gh)));
        }
    }
    for (; t < count; t++) {
        for (int32_t j = 0; j < COLUMNS; j++) {
            panel[t * COLUMNS + j] = j < columns ? w[j * step + t] : 0.0f;
        }
    }
}

/* sums of `rows` rows += lane `lane` of x times a row of the panel. */
#define ADD_LANE(lane)                                               \
    do {                                                             \
        const float32x4_t u = vld1q_f32(p), v = vld1q_f32(p + 4);    \
        p += COLUMNS;                                                \
        EP_UNROLL                                                    \
        for (int32_t i = 0; i < rows; i++) {                         \
            sums[i][0] = vfmaq_laneq_f32(sums[i][0], u, x[i], lane); \
            sums[i][1] = vfmaq_laneq_f32(sums[i][1], v, x[i], lane); \
        }                                                            \
    } while (0)

/* Rows from r on by the panel's columns, k .. k + columns - 1; d->count as far as it is packed. */
EP_INLINE void block(const ep_dots_f32 *d, const float *p, int32_t r, int32_t k, int32_t rows, int32_t columns)
{
    float32x4_t sums[ROWS][2], x[ROWS];
    const float *from[ROWS];
    float part[COLUMNS];
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) {
        const float *base = d->base + (r + i) * d->base_step + k;
        from[i] = d->x + (r + i) * d->x_step;
        if (columns < COLUMNS) {
            memcpy(part, base, (size_t)columns * sizeof *part);
            base = part;
        }
        sums[i][0] = vld1q_f32(base);
        sums[i][1] = vld1q_f32(base + 4);
    }
    int32_t t = 0;
    for (; t + 4 <= d->count; t += 4) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) x[i] = vld1q_f32(from[i] + t);
        ADD_LANE(0);
        ADD_LANE(1);
        ADD_LANE(2);
        ADD_LANE(3);
    }
    for (; t < d->count; t++) {
        EP_UNROLL
        for (int32_t i = 0; i < rows; i++) x[i] = vld1q_dup_f32(from[i] + t);
        ADD_LANE(0);
    }
    EP_UNROLL
    for (int32_t i = 0; i < rows; i++) {
        float *y = d->y + (r + i) * d->y_step + k;
        if (columns < COLUMNS) {
            vst1q_f32(part, sums[i][0]);
            vst1q_f32(part + 4, sums[i][1]);
            memcpy(y, part, (size_t)columns * sizeof *part);
        } else {
            vst1q_f32(y, sums[i][0]);
            vst1q_f32(y + 4, sums[i][1]);
        }
    }
}

/* All rows by the panel's columns. */
static void by_panel(const ep_dots_f32 *d, const float *panel, int32_t k, int32_t columns)
{
    int32_t r = 0;
    for (; columns == COLUMNS && r + ROWS <= d->rows; r += ROWS) {
        block(d, panel, r, k, ROWS, COLUMNS);
    }
    for (; columns == COLUMNS && r + 4 <= d->rows; r += 4) block(d, panel, r, k, 4, COLUMNS);
    for (; r < d->rows; r++) block(d, panel, r, k, 1, columns);
}

void ep_dots_panels_f32_neon(const ep_dots_f32 *job)
{
    float panel[DEPTH * COLUMNS] __attribute__((aligned(16)));
    for (int32_t k = 0; k < job->columns; k += COLUMNS) {
        const int32_t columns = job->columns - k < COLUMNS ? job->columns - k : COLUMNS;
        ep_dots_f32 d = *job;
        for (int32_t t = 0; t == 0 || t < job->count; t += DEPTH) {
            d.count = job->count - t < DEPTH ? job->count - t : DEPTH;
            d.x = job->x + t;
            pack(panel, job->w + k * d.w_step + t, d.w_step, columns, d.count);
            by_panel(&d, panel, k, columns);
            d.base = d.y; /* the rest is added to what is there */
            d.base_step = d.y_step;
        }
    }
}

#else
typedef int ep_panel_f32_left_out; /* ISO C wants a declaration in every file */
#endif
