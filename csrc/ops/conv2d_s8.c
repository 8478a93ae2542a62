/* Convolution on codes, with groups and dilation: y = requantize(bias + sum of taps), as matrix products over what the
 * output positions see. A 1x1 convolution finds that in the image as it lies; others gather it on the stack, as many
 * positions at a time as fit. The bias has the input's zero point folded in over all taps, so a tap in the padding
 * counts as the zero point itself. */
#include "../kernels/scalar_s8.h"
#include "../kernels/window.h"
#include "check_s8.h"
#include "padded_s8.h"

#define LANES 16 /* output channels whose sums are kept while one position is gathered in parts */

typedef struct conv { /* what stays the same over the batch */
    const ep_t *ep;
    const ep_conv2d_attr *attr;
    ep_gemm_s8 gemm;  /* of one group: weights, bias and multipliers change from group to group */
    int32_t x_zero;   /* what the padding holds */
    int32_t group_in; /* input channels of a group */
    int32_t step;     /* bytes from one gathered position to the next */
} conv;

/* Taps first .. end-1 of a kernel row, all channels of the group, from x to `to`; x: at the first tap. */
static int8_t *gather_taps(const conv *c, int8_t *to, const int8_t *x, int32_t first, int32_t end)
{
    const ep_conv2d_attr *a = c->attr;
    if (a->dilation_w == 1 && a->groups == 1) return ep_copy_s8(to, x, (end - first) * a->in_c);
    for (; first < end; first++, x += (ptrdiff_t)a->dilation_w * a->in_c) {
        to = ep_copy_s8(to, x, c->group_in);
    }
    return to;
}

/* What one position sees, (kernel_h, kernel_w, group_in); x: the image, at the group's first channel. */
static void gather(const conv *c, int8_t *to, const int8_t *x, const ep_window *at)
{
    const ep_conv2d_attr *a = c->attr;
    const ep_taps t = at->columns;
    for (int32_t ky = 0; ky < a->kernel_h; ky++) {
        if (ky < at->rows.begin || ky >= at->rows.end || t.begin == t.end) {
            to = ep_fill_s8(to, c->x_zero, a->kernel_w * c->group_in);
            continue;
        }
        const ptrdiff_t row = (ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w;
        to = ep_fill_s8(to, c->x_zero, t.begin * c->group_in);
        to = gather_taps(c, to, x + (row + at->left + t.begin * a->dilation_w) * a->in_c, t.begin, t.end);
        to = ep_fill_s8(to, c->x_zero, (a->kernel_w - t.end) * c->group_in);
    }
}

/* The same where all taps are inside and a row of them lies side by side: the usual case. x: at the first tap. */
static void gather_inside(const conv *c, int8_t *to, const int8_t *x)
{
    const ep_conv2d_attr *a = c->attr;
    const ptrdiff_t row = (ptrdiff_t)a->dilation_h * a->in_w * a->in_c;
    const int32_t count = a->kernel_w * a->in_c;
    for (int32_t ky = 0; ky < a->kernel_h; ky++, x += row) to = ep_copy_s8(to, x, count);
}

static int inside(const conv *c, const ep_window *at)
{
    const ep_conv2d_attr *a = c->attr;
    return at->rows.end - at->rows.begin == a->kernel_h && at->columns.end - at->columns.begin == a->kernel_w &&
           a->dilation_w == 1 && a->groups == 1;
}

/* The group's output channels at the `rows` positions that lie gathered, or side by side in x. */
static void multiply(const conv *c, ep_gemm_s8 *g, const int8_t *x, int8_t *y, int32_t rows)
{
    g->x = x;
    g->y = y;
    g->rows = rows;
    EP_KERNEL(c->ep, gemm_s8)(g);
}

/* Positions that wait, gathered, to be multiplied together. */
typedef struct queue {
    EP_ALIGNED int8_t patches[EP_PATCH_BYTES + EP_FILL];
    int32_t rows, most;
    int8_t *y; /* of the first */
} queue;

static void flush(const conv *c, ep_gemm_s8 *g, queue *q)
{
    if (q->rows > 0) {
        multiply(c, g, q->patches, q->y, q->rows);
        q->y += q->rows * g->y_step;
        q->rows = 0;
    }
}

/* A span of neighbouring positions that see the same taps; x: the image. */
static void queue_span(const conv *c, ep_gemm_s8 *g, queue *q, const int8_t *x, ep_window *at, int32_t run)
{
    const ep_conv2d_attr *a = c->attr;
    const int whole = inside(c, at);
    for (int32_t i = 0; i < run; i++, at->left += a->stride_w) {
        int8_t *to = q->patches + q->rows * c->step;
        if (whole) {
            gather_inside(c, to, x + ((ptrdiff_t)at->top * a->in_w + at->left) * a->in_c);
        } else {
            gather(c, to, x, at);
        }
        if (++q->rows == q->most) flush(c, g, q);
    }
}

/* One image; y at the group's first channel. Positions are gathered across the ends of rows. */
static void conv_gathered(const conv *c, ep_gemm_s8 *g, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = c->attr;
    const ep_axis columns = ep_make_axis(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left);
    queue q;
    q.rows = 0;
    q.most = EP_PATCH_BYTES / c->step;
    q.y = y;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        ep_window at = {oy * a->stride_h - a->pad_top, 0, {0, 0}, {0, 0}};
        at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
        for (ep_span s = {0}; ep_next_span(&columns, &s);) {
            at.columns = s.taps;
            at.left = s.start;
            queue_span(c, g, &q, x, &at, s.run);
        }
    }
    flush(c, g, &q);
}

/* ---- By padded lines -------------------------------------------------------------------------------------------- */

#ifdef EP_PAD_LINES

/* As many lines of outputs at a time as what they see, padded, fits the stack. 0 if it is not one. */
static int conv_lines(const conv *c, const ep_gemm_s8 *g, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = c->attr;
    const ep_padded p = ep_make_padded(a, c->x_zero);
    EP_ALIGNED int8_t lines[EP_PATCH_BYTES + EP_FILL];
    ep_conv_s8 job = {.y = y,
                      .x = lines,
                      .w = g->w,
                      .bias = g->bias,
                      .q = g->q,
                      .y_line = a->out_w * g->y_step,
                      .y_step = g->y_step,
                      .x_line = (ptrdiff_t)a->stride_h * p.line,
                      .x_step = (ptrdiff_t)a->stride_w * a->in_c,
                      .x_piece = (ptrdiff_t)a->dilation_h * p.line,
                      .run = a->out_w,
                      .columns = g->columns,
                      .pieces = a->kernel_h,
                      .piece = a->kernel_w * a->in_c,
                      .narrow = g->narrow};
    if (a->dilation_w != 1 || a->groups != 1 || p.most == 0) return 0;
    for (int32_t oy = 0; oy < a->out_h; oy += job.lines) {
        job.lines = ep_pad_lines(&p, lines, x, oy);
        job.y = y + oy * job.y_line;
        EP_KERNEL(c->ep, conv_s8)(&job);
    }
    return 1;
}

#else

static int conv_lines(const conv *c, const ep_gemm_s8 *g, const int8_t *x, int8_t *y)
{
    (void)c, (void)g, (void)x, (void)y;
    return 0;
}

#endif

/* ---- By taps ------------------------------------------------------------------------------------------------------ */

/* sums += the tap at weights w of each channel, `value` the code of the padding where x is NULL. */
static void add_tap(const conv *c, int32_t *sums, const int8_t *x, const int8_t *w, int32_t lanes)
{
    for (int32_t k = 0; k < lanes; k++, w += c->gemm.count) {
        for (int32_t i = 0; i < c->group_in; i++) sums[k] += (x != NULL ? x[i] : c->x_zero) * w[i];
    }
}

/* `lanes` output channels from k on at one position, tap by tap. */
static void conv_lanes(const conv *c, const ep_gemm_s8 *g, const int8_t *x, int8_t *y, const ep_window *at, int32_t k,
                       int32_t lanes)
{
    const ep_conv2d_attr *a = c->attr;
    const int8_t *w = g->w + (ptrdiff_t)k * g->count;
    ep_requant q = g->q;
    int32_t sums[LANES];
    memcpy(sums, g->bias + k, (size_t)lanes * sizeof *sums);
    for (int32_t ky = 0; ky < a->kernel_h; ky++) {
        const ptrdiff_t row = (ptrdiff_t)(at->top + ky * a->dilation_h) * a->in_w;
        for (int32_t kx = 0; kx < a->kernel_w; kx++, w += c->group_in) {
            const int inside =
                ky >= at->rows.begin && ky < at->rows.end && kx >= at->columns.begin && kx < at->columns.end;
            add_tap(c, sums, inside ? x + (row + at->left + kx * a->dilation_w) * a->in_c : NULL, w, lanes);
        }
    }
    q.multiplier += k;
    EP_KERNEL(c->ep, requantize_s8)(y + k, sums, &q, lanes);
}

/* One image whose kernels are too large for the stack. */
static void conv_direct(const conv *c, ep_gemm_s8 *g, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = c->attr;
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        ep_window at = {oy * a->stride_h - a->pad_top, 0, {0, 0}, {0, 0}};
        at.rows = ep_taps_inside(at.top, a->kernel_h, a->dilation_h, a->in_h);
        for (int32_t ox = 0; ox < a->out_w; ox++, y += g->y_step) {
            at.left = ox * a->stride_w - a->pad_left;
            at.columns = ep_taps_inside(at.left, a->kernel_w, a->dilation_w, a->in_w);
            for (int32_t k = 0; k < g->columns; k += LANES) {
                conv_lanes(c, g, x, y, &at, k, g->columns - k < LANES ? g->columns - k : LANES);
            }
        }
    }
}

/* 1 if there is nothing to gather: a kernel of one tap, no padding. */
static int sees_itself(const ep_conv2d_attr *a)
{
    return a->kernel_h == 1 && a->kernel_w == 1 && a->pad_top == 0 && a->pad_left == 0 &&
           (a->out_h - 1) * a->stride_h < a->in_h && (a->out_w - 1) * a->stride_w < a->in_w;
}

static void conv_pointwise(const conv *c, ep_gemm_s8 *g, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = c->attr;
    if (a->stride_h == 1 && a->stride_w == 1) {
        multiply(c, g, x, y, a->out_h * a->out_w);
        return;
    }
    for (int32_t oy = 0; oy < a->out_h; oy++) {
        multiply(c, g, x, y, a->out_w);
        x += (ptrdiff_t)a->stride_h * a->in_w * a->in_c;
        y += a->out_w * g->y_step;
    }
}

/* One image, group by group. */
static void conv_image(const conv *c, const int8_t *x, int8_t *y)
{
    const ep_conv2d_attr *a = c->attr;
    ep_gemm_s8 g = c->gemm;
    const int pointwise = sees_itself(a);
    for (int32_t group = 0; group < a->groups; group++, x += c->group_in, y += g.columns) {
        if (pointwise) {
            conv_pointwise(c, &g, x, y);
        } else if (!conv_lines(c, &g, x, y)) {
            (c->step <= EP_PATCH_BYTES ? conv_gathered : conv_direct)(c, &g, x, y);
        }
        g.w += (ptrdiff_t)g.columns * g.count;
        g.bias += g.columns;
        g.q.multiplier += g.columns;
    }
}

static conv make_conv(const ep_t *ep, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    const int32_t group_in = a->in_c / a->groups, taps = a->kernel_h * a->kernel_w * group_in;
    conv c = {.ep = ep, .attr = a, .x_zero = ep_in_tensor(ep, node, 0)->zero_point, .group_in = group_in};
    c.step = (taps + 15) / 16 * 16;
    c.gemm.w = ep_in(ep, node, 1);
    c.gemm.bias = ep_in(ep, node, 2);
    c.gemm.q.multiplier = ep_in(ep, node, 3);
    c.gemm.q.lo = a->lo;
    c.gemm.q.hi = a->hi;
    c.gemm.q.zero_point = ep_out_tensor(ep, node, 0)->zero_point;
    c.gemm.narrow = ep_in_tensor(ep, node, 1)->flags & EP_NARROW;
    c.gemm.y_step = a->out_c;
    c.gemm.x_step = sees_itself(a) ? (ptrdiff_t)a->stride_w * a->in_c : c.step;
    c.gemm.columns = a->out_c / a->groups;
    c.gemm.count = taps;
    return c;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const conv c = make_conv(ep, node);
    const int8_t *x = ep_in(ep, node, 0);
    int8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        conv_image(&c, x, y);
        x += ep_in_tensor(ep, node, 0)->count;
        y += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_op ep_conv2d_s8 = {forward};

int ep_check_conv2d_s8(const ep_model *model, const ep_node *node)
{
    if (!ep_valid_io_s8(model, node, 4, 1)) return EP_ERR_IMAGE;
    const ep_conv2d_attr *a = node->attr;
    const uint32_t x = ep_product(a->in_h, a->in_w, a->in_c), y = ep_product(a->out_h, a->out_w, a->out_c);
    if (x == 0 || y == 0 || model->tensors[node->io[0]].count != x || model->tensors[node->io[4]].count != y ||
        a->groups <= 0 || a->in_c % a->groups != 0 || a->out_c % a->groups != 0) {
        return EP_ERR_IMAGE;
    }
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, a->in_c / a->groups);
    const int ok = ep_valid_windows(a) && taps != 0 &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product(a->out_c, (int32_t)taps, 1)) &&
                   ep_valid_sums_s8(model, node, (uint32_t)a->out_c, taps) &&
                   ep_valid_clamp_s8(model, node, a->lo, a->hi);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
