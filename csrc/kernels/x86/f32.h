/* The float32 kernels that gain from masks and many registers; included by vector_f32_*.c behind ../vector_f32.h's tools
 * (ep_vec, ep_get, ep_put, ep_mac, ep_splat), with
 *     EP_WIDE      vectors side by side in a tile of a product, 2 or 4
 *     EP_TALL      rows of such a tile
 *     EP_DOTS      columns of a tile of dot products, 4 or 8
 *     ep_get_some, ep_put_some    the first n lanes, 1 .. EP_VEC
 *     ep_eight     a vector's lanes added up to 8 */

typedef int32_t ep_ints __attribute__((vector_size(4 * EP_VEC)));

/* ---- Products: y = base + sum over t of a[row, t] * b[t, column] -------------------------------------------------- */

typedef struct ep_tile {
    float *y;
    const float *base, *a, *b;
    ptrdiff_t y_step, base_step, a_row, a_step, b_step;
    int32_t count, last; /* last: lanes of the last vector */
} ep_tile;

/* `tall` rows, `wide` vectors, whose sums are registers. Rows of y may overlap, so one is finished after the other. */
EP_INLINE void ep_one_tile(const ep_tile *t, int tall, int wide, int some)
{
    const float *a = t->a, *b = t->b;
    ep_vec sum[EP_TALL + 2][EP_WIDE], v[EP_WIDE];
    EP_UNROLL
    for (int r = 0; r < tall; r++) {
        EP_UNROLL
        for (int j = 0; j < wide; j++) sum[r][j] = ep_splat(0.0f);
    }
    for (int32_t i = 0; i < t->count; i++, a += t->a_step, b += t->b_step) {
        EP_UNROLL
        for (int j = 0; j < wide; j++) {
            v[j] = some && j == wide - 1 ? ep_get_some(b + j * EP_VEC, t->last) : ep_get(b + j * EP_VEC);
        }
        EP_UNROLL
        for (int r = 0; r < tall; r++) {
            const ep_vec p = ep_splat(a[r * t->a_row]);
            EP_UNROLL
            for (int j = 0; j < wide; j++) sum[r][j] = ep_mac(sum[r][j], p, v[j]);
        }
    }
    EP_UNROLL
    for (int r = 0; r < tall; r++) {
        EP_UNROLL
        for (int j = 0; j < wide; j++) {
            const float *base = t->base + r * t->base_step + j * EP_VEC;
            float *y = t->y + r * t->y_step + j * EP_VEC;
            if (some && j == wide - 1) {
                ep_put_some(y, t->last, ep_get_some(base, t->last) + sum[r][j]);
            } else {
                ep_put(y, ep_get(base) + sum[r][j]);
            }
        }
    }
}

EP_INLINE void ep_next_rows(ep_tile *t, int rows)
{
    t->y += rows * t->y_step;
    t->base += rows * t->base_step;
    t->a += rows * t->a_row;
}

/* A panel of `wide` vectors, all rows. */
EP_INLINE void ep_panel(ep_tile t, int32_t rows, int wide, int some)
{
    const int tall = wide * EP_TALL + EP_WIDE > 24 || EP_WIDE == 2 ? EP_TALL : EP_TALL + 2;
    for (; rows >= tall; rows -= tall) {
        ep_one_tile(&t, tall, wide, some);
        ep_next_rows(&t, tall);
    }
    for (; rows >= 4; rows -= 4) {
        ep_one_tile(&t, 4, wide, some);
        ep_next_rows(&t, 4);
    }
    for (; rows >= 2; rows -= 2) {
        ep_one_tile(&t, 2, wide, some);
        ep_next_rows(&t, 2);
    }
    if (rows > 0) ep_one_tile(&t, 1, wide, some);
}

#define EP_PANEL(wide, some)                                                                       \
    static __attribute__((noinline)) void ep_panel_##wide##_##some(const ep_tile *t, int32_t rows) \
    {                                                                                              \
        ep_panel(*t, rows, wide, some);                                                            \
    }
EP_PANEL(1, 0)
EP_PANEL(1, 1)
EP_PANEL(2, 0)
EP_PANEL(2, 1)
#if EP_WIDE == 4
EP_PANEL(3, 0)
EP_PANEL(3, 1)
EP_PANEL(4, 0)
EP_PANEL(4, 1)
#endif
#undef EP_PANEL

/* Vectors of the next panel, of the columns left. */
static int32_t ep_panel_width(int32_t left)
{
    const int32_t wide = (left + EP_VEC - 1) / EP_VEC;
    return wide < EP_WIDE ? wide : EP_WIDE;
}

static void ep_run_panel(ep_tile *t, int32_t rows, int32_t columns)
{
    static void (*const panels[])(const ep_tile *, int32_t) = {
        ep_panel_1_0,
        ep_panel_1_1,
        ep_panel_2_0,
        ep_panel_2_1,
#if EP_WIDE == 4
        ep_panel_3_0,
        ep_panel_3_1,
        ep_panel_4_0,
        ep_panel_4_1,
#endif
    };
    const int32_t wide = ep_panel_width(columns);
    t->last = columns - (wide - 1) * EP_VEC;
    panels[2 * (wide - 1) + (t->last < EP_VEC)](t, rows);
}

#define EP_DEEP 256 /* terms at a time, so that what a panel reads stays near */

void EP_NAME(outer_f32)(const ep_outer_f32 *o)
{
    for (int32_t i = 0; i < o->count; i += EP_DEEP) {
        for (int32_t j = 0, columns; j < o->columns; j += columns) {
            const int32_t width = ep_panel_width(o->columns - j) * EP_VEC;
            ep_tile t = {.y = o->c + j,
                         .base = o->c + j,
                         .a = o->a + i * o->a_step,
                         .b = o->b + i * o->b_step + j,
                         .y_step = o->c_step,
                         .base_step = o->c_step,
                         .a_row = o->a_row,
                         .a_step = o->a_step,
                         .b_step = o->b_step};
            columns = o->columns - j < width ? o->columns - j : width;
            t.count = o->count - i < EP_DEEP ? o->count - i : EP_DEEP;
            ep_run_panel(&t, o->rows, columns);
        }
    }
}

/* to[t, c] = w[c, t] for a panel; rows of `to` are `width` apart. */
static void ep_transpose_panel(float *to, int32_t width, const float *w, ptrdiff_t w_step, int32_t columns,
                               int32_t count)
{
    int32_t c = 0;
    for (; c + 4 <= columns; c += 4, w += 4 * w_step) {
        int32_t t = 0;
        for (; t + 4 <= count; t += 4) {
            __m128 a = _mm_loadu_ps(w + t), b = _mm_loadu_ps(w + w_step + t);
            __m128 e = _mm_loadu_ps(w + 2 * w_step + t), f = _mm_loadu_ps(w + 3 * w_step + t);
            float *p = to + t * width + c;
            _MM_TRANSPOSE4_PS(a, b, e, f);
            _mm_storeu_ps(p, a);
            _mm_storeu_ps(p + width, b);
            _mm_storeu_ps(p + 2 * width, e);
            _mm_storeu_ps(p + 3 * width, f);
        }
        for (; t < count; t++) {
            for (int32_t i = 0; i < 4; i++) to[t * width + c + i] = w[i * w_step + t];
        }
    }
    for (; c < columns; c++, w += w_step) {
        for (int32_t t = 0; t < count; t++) to[t * width + c] = w[t];
    }
}

#define EP_PANEL_FLOATS 8192

/* Many rows: the weights are transposed, a panel at a time, so that sums lie side by side. */
static void ep_dots_transposed(const ep_dots_f32 *d)
{
    EP_ALIGNED_64 float panel[EP_PANEL_FLOATS];
    for (int32_t k = 0, columns; k < d->columns; k += columns) {
        const int32_t width = ep_panel_width(d->columns - k) * EP_VEC, deep = EP_PANEL_FLOATS / width;
        ep_tile t = {.y = d->y + k,
                     .base = d->base + k,
                     .a = d->x,
                     .b = panel,
                     .y_step = d->y_step,
                     .base_step = d->base_step,
                     .a_row = d->x_step,
                     .a_step = 1,
                     .b_step = width};
        columns = d->columns - k < width ? d->columns - k : width;
        for (int32_t i = 0; i < d->count; i += deep) {
            t.count = d->count - i < deep ? d->count - i : deep;
            ep_transpose_panel(panel, width, d->w + k * d->w_step + i, d->w_step, columns, t.count);
            t.a = d->x + i;
            ep_run_panel(&t, d->rows, columns);
            t.base = t.y; /* further terms add to it */
            t.base_step = t.y_step;
        }
    }
}

/* Lane i: the sum of v[i]. */
EP_INLINE __m256 ep_totals(const __m256 *v)
{
    const __m256 a = _mm256_hadd_ps(_mm256_hadd_ps(v[0], v[1]), _mm256_hadd_ps(v[2], v[3]));
    const __m256 b = _mm256_hadd_ps(_mm256_hadd_ps(v[4], v[5]), _mm256_hadd_ps(v[6], v[7]));
    return _mm256_add_ps(_mm256_permute2f128_ps(a, b, 0x20), _mm256_permute2f128_ps(a, b, 0x31));
}

/* The terms i .. i + n - 1 of a tile of dot products. */
EP_INLINE void ep_dot_terms(const ep_dots_f32 *d, const float *x, const float *w, ep_vec (*sum)[EP_DOTS], int rows,
                            int columns, int32_t n)
{
    ep_vec v[3];
    EP_UNROLL
    for (int r = 0; r < rows; r++) {
        v[r] = n < EP_VEC ? ep_get_some(x + r * d->x_step, n) : ep_get(x + r * d->x_step);
    }
    EP_UNROLL
    for (int c = 0; c < columns; c++) {
        const ep_vec u = n < EP_VEC ? ep_get_some(w + c * d->w_step, n) : ep_get(w + c * d->w_step);
        EP_UNROLL
        for (int r = 0; r < rows; r++) sum[r][c] = ep_mac(sum[r][c], v[r], u);
    }
}

/* Few rows: the weights as they lie, and each sum's lanes added up at the end. */
EP_INLINE void ep_dot_tile(const ep_dots_f32 *d, int32_t r, int32_t k, int rows, int columns)
{
    const float *x = d->x + r * d->x_step, *w = d->w + k * d->w_step;
    ep_vec sum[3][EP_DOTS];
    int32_t i = 0;
    EP_UNROLL
    for (int j = 0; j < rows; j++) {
        EP_UNROLL
        for (int c = 0; c < columns; c++) sum[j][c] = ep_splat(0.0f);
    }
    for (; i + EP_VEC <= d->count; i += EP_VEC) {
        ep_dot_terms(d, x + i, w + i, sum, rows, columns, EP_VEC);
    }
    if (i < d->count) ep_dot_terms(d, x + i, w + i, sum, rows, columns, d->count - i);
    EP_UNROLL
    for (int j = 0; j < rows; j++) {
        const float *base = d->base + (r + j) * d->base_step + k;
        float *y = d->y + (r + j) * d->y_step + k, total[8];
        __m256 part[8];
        EP_UNROLL
        for (int c = 0; c < 8; c++) {
            part[c] = c < columns ? ep_eight(sum[j][c]) : _mm256_setzero_ps();
        }
        _mm256_storeu_ps(total, ep_totals(part));
        for (int c = 0; c < columns; c++) y[c] = base[c] + total[c];
    }
}

static void ep_dots_few(const ep_dots_f32 *d)
{
    int32_t k = 0;
    for (; k + EP_DOTS <= d->columns; k += EP_DOTS) {
        int32_t r = 0;
        for (; r + 3 <= d->rows; r += 3) ep_dot_tile(d, r, k, 3, EP_DOTS);
        for (; r < d->rows; r++) ep_dot_tile(d, r, k, 1, EP_DOTS);
    }
    for (; k < d->columns; k++) {
        int32_t r = 0;
        for (; r + 3 <= d->rows; r += 3) ep_dot_tile(d, r, k, 3, 1);
        for (; r < d->rows; r++) ep_dot_tile(d, r, k, 1, 1);
    }
}

/* Transposing the weights pays from a row for about every 32 terms on (measured: the dense layers and convolutions of
 * `make bench`). */
void EP_NAME(dots_f32)(const ep_dots_f32 *d)
{
    if (d->count > 0 && d->rows >= 4 && d->columns >= 4 && d->count < 32 * d->rows) {
        ep_dots_transposed(d);
    } else {
        ep_dots_few(d);
    }
}

/* ---- Depthwise: a vector of channels at all positions ------------------------------------------------------------- */

EP_INLINE ep_vec ep_lanes(const float *p, int some, int32_t n)
{
    return some ? ep_get_some(p, n) : ep_get(p);
}

/* 3x3 taps, weights in registers. */
EP_INLINE void ep_depthwise_3x3(const ep_depthwise_f32 *d, int32_t c, int some, int32_t n)
{
    const ep_vec bias = ep_lanes(d->bias + c, some, n);
    ep_vec w[9];
    EP_UNROLL
    for (int i = 0; i < 9; i++) {
        w[i] = ep_lanes(d->w + i / 3 * d->w_row + i % 3 * d->w_tap + c, some, n);
    }
    for (int32_t l = 0; l < d->lines; l++) {
        const float *x = d->x + l * d->x_line + c;
        float *y = d->y + l * d->y_line + c;
        for (int32_t p = 0; p < d->run; p++, x += d->x_step, y += d->y_step) {
            ep_vec sum[3];
            EP_UNROLL
            for (int i = 0; i < 3; i++) {
                const float *row = x + i * d->x_row;
                sum[i] = i == 0 ? bias : ep_splat(0.0f);
                sum[i] = ep_mac(sum[i], ep_lanes(row, some, n), w[3 * i]);
                sum[i] = ep_mac(sum[i], ep_lanes(row + d->x_tap, some, n), w[3 * i + 1]);
                sum[i] = ep_mac(sum[i], ep_lanes(row + 2 * d->x_tap, some, n), w[3 * i + 2]);
            }
            if (some) {
                ep_put_some(y, n, sum[0] + sum[1] + sum[2]);
            } else {
                ep_put(y, sum[0] + sum[1] + sum[2]);
            }
        }
    }
}

EP_INLINE void ep_depthwise_any(const ep_depthwise_f32 *d, int32_t c, int some, int32_t n)
{
    const ep_vec bias = ep_lanes(d->bias + c, some, n);
    for (int32_t i = 0; i < d->lines * d->run; i++) {
        const int32_t l = i / d->run, p = i % d->run;
        const float *x = d->x + l * d->x_line + p * d->x_step + c;
        ep_vec sum = bias;
        for (int32_t ky = 0; ky < d->kernel_h; ky++) {
            const float *row = x + ky * d->x_row, *w = d->w + ky * d->w_row + c;
            for (int32_t kx = 0; kx < d->kernel_w; kx++, row += d->x_tap, w += d->w_tap) {
                sum = ep_mac(sum, ep_lanes(row, some, n), ep_lanes(w, some, n));
            }
        }
        if (some) {
            ep_put_some(d->y + l * d->y_line + p * d->y_step + c, n, sum);
        } else {
            ep_put(d->y + l * d->y_line + p * d->y_step + c, sum);
        }
    }
}

void EP_NAME(depthwise_f32)(const ep_depthwise_f32 *d)
{
    const int full = d->kernel_h == 3 && d->kernel_w == 3 && d->lines * d->run > 1;
    int32_t c = 0;
    for (; c + EP_VEC <= d->channels; c += EP_VEC) {
        if (full) {
            ep_depthwise_3x3(d, c, 0, EP_VEC);
        } else {
            ep_depthwise_any(d, c, 0, EP_VEC);
        }
    }
    if (c < d->channels && full) {
        ep_depthwise_3x3(d, c, 1, d->channels - c);
    } else if (c < d->channels) {
        ep_depthwise_any(d, c, 1, d->channels - c);
    }
}

/* ---- Element by element ------------------------------------------------------------------------------------------- */

/* For every vector at i of y, and what is left, as lanes n. */
#define EP_ROW(count, whole, part)               \
    size_t i = 0;                                \
    for (; i + EP_VEC <= (count); i += EP_VEC) { \
        whole;                                   \
    }                                            \
    if (i < (count)) {                           \
        const int32_t n = (int32_t)((count)-i);  \
        part;                                    \
    }

void EP_NAME(axpy_f32)(float *restrict y, float a, const float *restrict x, size_t count)
{
    const ep_vec v = ep_splat(a);
    EP_ROW(count, ep_put(y + i, ep_mac(ep_get(y + i), v, ep_get(x + i))),
           ep_put_some(y + i, n, ep_mac(ep_get_some(y + i, n), v, ep_get_some(x + i, n))))
}

void EP_NAME(multiply_add_f32)(float *restrict y, const float *restrict x, const float *restrict w, size_t count)
{
    EP_ROW(count, ep_put(y + i, ep_mac(ep_get(y + i), ep_get(x + i), ep_get(w + i))),
           ep_put_some(y + i, n, ep_mac(ep_get_some(y + i, n), ep_get_some(x + i, n), ep_get_some(w + i, n))))
}

void EP_NAME(add_f32)(float *restrict y, const float *restrict x,
                      size_t count){EP_ROW(count, ep_put(y + i, ep_get(y + i) + ep_get(x + i)),
                                           ep_put_some(y + i, n, ep_get_some(y + i, n) + ep_get_some(x + i, n)))}

/* a where the mask is set, else b. */
EP_INLINE ep_vec ep_choose(ep_ints mask, ep_vec a, ep_vec b)
{
    return (ep_vec)((mask & (ep_ints)a) | (~mask & (ep_ints)b));
}

/* The comparisons let NaN pass. */
EP_INLINE ep_vec ep_clamped(ep_vec v, ep_vec lo, ep_vec hi)
{
    v = ep_choose(v < lo, lo, v);
    return ep_choose(v > hi, hi, v);
}

void EP_NAME(clamp_f32)(float *y, float lo, float hi, size_t count)
{
    const ep_vec low = ep_splat(lo), high = ep_splat(hi);
    EP_ROW(count, ep_put(y + i, ep_clamped(ep_get(y + i), low, high)),
           ep_put_some(y + i, n, ep_clamped(ep_get_some(y + i, n), low, high)))
}

EP_INLINE ep_vec ep_masked(ep_vec dy, ep_vec y, ep_vec lo, ep_vec hi)
{
    return (ep_vec)(~((y <= lo) | (y >= hi)) & (ep_ints)dy);
}

void EP_NAME(mask_f32)(float *restrict dy, const float *restrict y, float lo, float hi, size_t count)
{
    const ep_vec low = ep_splat(lo), high = ep_splat(hi);
    EP_ROW(count, ep_put(dy + i, ep_masked(ep_get(dy + i), ep_get(y + i), low, high)),
           ep_put_some(dy + i, n, ep_masked(ep_get_some(dy + i, n), ep_get_some(y + i, n), low, high)))
}

EP_INLINE ep_ints ep_larger(ep_ints largest, ep_vec v)
{
    const ep_ints bits = (ep_ints)v & 0x7FFFFFFF, mask = bits > largest;
    return (mask & bits) | (~mask & largest);
}

/* Without the sign, floats are ordered as their bits are, infinity above all numbers and NaN above infinity. */
float EP_NAME(max_abs_f32)(const float *v, size_t count)
{
    ep_ints largest = {0};
    float result;
    EP_ROW(count, largest = ep_larger(largest, ep_get(v + i)), largest = ep_larger(largest, ep_get_some(v + i, n)))
    for (int lane = 1; lane < EP_VEC; lane++) {
        largest[0] = largest[lane] > largest[0] ? largest[lane] : largest[0];
    }
    memcpy(&result, &largest, sizeof result);
    return result;
}
