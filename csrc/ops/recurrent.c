/* Walk over the steps that RNN, GRU and LSTM share, forward and backward. Inputs: x, w, r, b [, h at the start [, c at
 * the start]]; outputs: y, h at the end [, c at the end] [, kept]. Of these y may be without a place where nobody
 * reads it, and kept is there only where learning needs it. */
#include "recurrent.h"

enum { X = 0, W = 1, R = 2, B = 3, H0 = 4, C0 = 5 }; /* inputs */
enum { Y = 0, H = 1, C = 2 };                        /* outputs */

/* Values of output i, or NULL: the plan in force has no place for it. */
static float *place(const ep_t *ep, const ep_node *node, unsigned i)
{
    const uint16_t index = node->io[node->n_in + i];
    return ep_has_place(ep, index) ? (float *)ep_tensor_ptr(ep, index) : NULL;
}

static float *kept_place(const ep_t *ep, const ep_node *node, const ep_cell_kind *kind)
{
    const unsigned i = kind->cell_state ? 3 : 2;
    return i < node->n_out ? place(ep, node, i) : NULL;
}

/* Sequences in n samples: all of them are walked through alike. */
static uint32_t sequences(const ep_node *node, uint32_t n)
{
    return n * (uint32_t)((const ep_recurrent_attr *)node->attr)->sequences;
}

/* A state (n_hidden) of direction d of sequence s at the start; NULL: zeros. A constant one is that of all samples. */
static const float *initial(const ep_t *ep, const ep_node *node, unsigned i, uint32_t s, int32_t d)
{
    const ep_recurrent_attr *a = node->attr;
    if (i >= node->n_in) return NULL;
    if (ep_in_tensor(ep, node, i)->flags & EP_CONST) s %= (uint32_t)a->sequences;
    return (const float *)ep_in(ep, node, i) + ((size_t)s * (size_t)a->directions + (size_t)d) * (size_t)a->n_hidden;
}

static int goes_back(const ep_recurrent_attr *a, int32_t d)
{
    return d == 1 || a->reverse != 0;
}

/* The state (n_hidden) at output i, of direction d of sequence s. */
static size_t state_at(const ep_recurrent_attr *a, uint32_t s, int32_t d)
{
    return ((size_t)s * (size_t)a->directions + (size_t)d) * (size_t)a->n_hidden;
}

/* Row (n_hidden) of step t in y. */
static size_t row_at(const ep_recurrent_attr *a, uint32_t s, int32_t d, int32_t t)
{
    return (((size_t)s * (size_t)a->steps + (size_t)t) * (size_t)a->directions + (size_t)d) * (size_t)a->n_hidden;
}

/* Row (kept, n_hidden) of step t in kept. */
static size_t kept_at(const ep_recurrent_attr *a, const ep_cell_kind *kind, uint32_t s, int32_t d, int32_t t)
{
    return (((size_t)s * (size_t)a->directions + (size_t)d) * (size_t)a->steps + (size_t)t) *
           (size_t)(kind->kept * a->n_hidden);
}

static ep_cell cell_of(const ep_t *ep, const ep_node *node, const ep_cell_kind *kind, int32_t d)
{
    const ep_recurrent_attr *a = node->attr;
    const size_t rows = (size_t)d * (size_t)(kind->gates * a->n_hidden);
    ep_cell cell;
    memset(&cell, 0, sizeof cell);
    cell.ep = ep;
    cell.attr = a;
    cell.w = (const float *)ep_in(ep, node, W) + rows * (size_t)a->n_in;
    cell.r = (const float *)ep_in(ep, node, R) + rows * (size_t)a->n_hidden;
    cell.b = (const float *)ep_in(ep, node, B) + rows * 2;
    return cell;
}

/* x . w^T + the first bias of some steps, into rows of kept. */
static void see_inputs(const ep_cell *cell, int32_t rows, int32_t kept_step, int32_t steps)
{
    const int32_t n = cell->attr->n_in;
    const ep_dots_f32 d = {.y = cell->kept,
                           .base = cell->b,
                           .x = cell->x,
                           .w = cell->w,
                           .y_step = kept_step,
                           .x_step = n,
                           .w_step = n,
                           .rows = steps,
                           .columns = rows,
                           .count = n};
    EP_KERNEL(cell->ep, dots_f32)(&d);
}

void ep_cell_sums(const ep_cell *cell, int32_t gates, int32_t gates_from_h)
{
    const ep_recurrent_attr *a = cell->attr;
    const int32_t rows = gates * a->n_hidden, from_h = gates_from_h * a->n_hidden;
    const ep_dots_f32 d = {.y = cell->kept,
                           .base = cell->kept,
                           .x = cell->h,
                           .w = cell->r,
                           .y_step = rows,
                           .base_step = rows,
                           .x_step = a->n_hidden,
                           .w_step = a->n_hidden,
                           .rows = 1,
                           .columns = from_h,
                           .count = a->n_hidden};
    if (cell->x != NULL) see_inputs(cell, rows, rows, 1);
    EP_KERNEL(cell->ep, add_f32)(cell->kept, cell->b + rows, (size_t)from_h);
    EP_KERNEL(cell->ep, dots_f32)(&d);
}

static void start(float *state, const float *from, int32_t count)
{
    if (from != NULL) {
        memmove(state, from, (size_t)count * sizeof *state);
    } else {
        memset(state, 0, (size_t)count * sizeof *state);
    }
}

/* One direction of one sequence. `kept`, `y`: NULL where they are not wanted. */
static void run(ep_cell *cell, const ep_node *node, const ep_cell_kind *kind, uint32_t s, int32_t d, float *kept,
                float *y)
{
    const ep_recurrent_attr *a = cell->attr;
    const float *x = (const float *)ep_in(cell->ep, node, X) + (size_t)s * (size_t)a->steps * (size_t)a->n_in;
    cell->h = (float *)ep_out(cell->ep, node, H) + state_at(a, s, d);
    start(cell->h, initial(cell->ep, node, H0, s, d), a->n_hidden);
    if (kind->cell_state) {
        cell->c = (float *)ep_out(cell->ep, node, C) + state_at(a, s, d);
        start(cell->c, initial(cell->ep, node, C0, s, d), a->n_hidden);
    }
    if (kept != NULL) { /* there is room to look at the inputs of all steps at once */
        cell->x = x;
        cell->kept = kept + kept_at(a, kind, s, d, 0);
        see_inputs(cell, kind->gates * a->n_hidden, kind->kept * a->n_hidden, a->steps);
    }
    for (int32_t k = 0; k < a->steps; k++) {
        const int32_t t = goes_back(a, d) ? a->steps - 1 - k : k;
        cell->x = kept != NULL ? NULL : x + (size_t)t * (size_t)a->n_in;
        cell->kept = kept != NULL ? kept + kept_at(a, kind, s, d, t) : (float *)ep_scratch(cell->ep);
        kind->step(cell);
        if (y != NULL) memmove(y + row_at(a, s, d, t), cell->h, (size_t)a->n_hidden * sizeof *y);
    }
}

void ep_recurrent_forward(const ep_t *ep, const ep_node *node, uint32_t n, const ep_cell_kind *kind)
{
    const ep_recurrent_attr *a = node->attr;
    float *kept = kept_place(ep, node, kind), *y = place(ep, node, Y);
    for (int32_t d = 0; d < a->directions; d++) {
        ep_cell cell = cell_of(ep, node, kind, d);
        for (uint32_t s = 0; s < sequences(node, n); s++) run(&cell, node, kind, s, d, kept, y);
    }
}

#ifndef EP_NO_TRAIN

void ep_cell_back(const ep_cell *cell, float *y, const float *a, const float *r, int32_t count)
{
    const int32_t n = cell->attr->n_hidden;
    const ep_outer_f32 o = {.c = y,
                            .a = a,
                            .b = r,
                            .c_step = n,
                            .a_row = count,
                            .a_step = 1,
                            .b_step = n,
                            .rows = 1,
                            .columns = n,
                            .count = count};
    EP_KERNEL(cell->ep, outer_f32)(&o);
}

/* Gradient (n_hidden) of a state at the end: from output i, if anybody has asked for its gradient. */
static void start_back(const ep_t *ep, const ep_node *node, unsigned i, size_t at, float *gradient)
{
    const float *d = ep_dout(ep, node, i);
    start(gradient, d != NULL ? d + at : NULL, ((const ep_recurrent_attr *)node->attr)->n_hidden);
}

/* Gradient (n_hidden) of a state at the start, to input i, if that wants it. */
static void end_back(const ep_t *ep, const ep_node *node, unsigned i, size_t at, const float *gradient)
{
    float *d = i < node->n_in ? ep_din(ep, node, i) : NULL;
    if (d != NULL) {
        ep_pass_gradient(d + at, gradient, ep_accumulates(node, i),
                         (size_t)((const ep_recurrent_attr *)node->attr)->n_hidden);
    }
}

/* Back through the steps of one direction of one sequence: kept becomes the gradients of the gates' sums. */
static void walk_back(ep_cell *cell, const ep_node *node, const ep_cell_kind *kind,
                      void (*step_back)(const ep_cell *cell), uint32_t s, int32_t d)
{
    const ep_recurrent_attr *a = cell->attr;
    const ep_t *ep = cell->ep;
    const float *y = ep_out(ep, node, Y), *dy = ep_dout(ep, node, Y);
    float *kept = kept_place(ep, node, kind);
    const int32_t last = kind->kept - 1, ahead = goes_back(a, d) ? -1 : 1;
    start_back(ep, node, H, state_at(a, s, d), cell->h);
    if (kind->cell_state) start_back(ep, node, C, state_at(a, s, d), cell->c);
    for (int32_t k = a->steps; k-- > 0;) {
        const int32_t t = goes_back(a, d) ? a->steps - 1 - k : k;
        if (dy != NULL) {
            EP_KERNEL(ep, add_f32)(cell->h, dy + row_at(a, s, d, t), (size_t)a->n_hidden);
        }
        cell->kept = kept + kept_at(a, kind, s, d, t);
        cell->h_after = y + row_at(a, s, d, t);
        cell->h_before = k > 0 ? y + row_at(a, s, d, t - ahead) : initial(ep, node, H0, s, d);
        if (kind->cell_state) { /* the last vector kept is c after the step */
            cell->c_before = k > 0 ? kept + kept_at(a, kind, s, d, t - ahead) + (size_t)(last * a->n_hidden)
                                   : initial(ep, node, C0, s, d);
        }
        step_back(cell);
        if (a->truncate > 0 && k > 0 && k % a->truncate == 0) {
            memset(cell->h, 0, (size_t)a->n_hidden * 2 * sizeof *cell->h); /* c's gradient follows h's */
        }
    }
    end_back(ep, node, H0, state_at(a, s, d), cell->h);
    if (kind->cell_state) end_back(ep, node, C0, state_at(a, s, d), cell->c);
}

void ep_recurrent_backward(const ep_t *ep, const ep_node *node, uint32_t n, const ep_cell_kind *kind,
                           void (*step_back)(const ep_cell *cell))
{
    const ep_recurrent_attr *a = node->attr;
    float *dx = ep_begin_din(ep, node, n), *scratch = ep_scratch(ep);
    for (int32_t d = 0; d < a->directions; d++) {
        ep_cell cell = cell_of(ep, node, kind, d);
        cell.h = scratch;
        cell.c = scratch + a->n_hidden;
        cell.spare = scratch + 2 * (size_t)a->n_hidden;
        for (uint32_t s = 0; s < sequences(node, n); s++) {
            walk_back(&cell, node, kind, step_back, s, d);
            if (dx != NULL) { /* of all steps at once: dx += gradients of the sums . w */
                const ep_outer_f32 o = {.c = dx + (size_t)s * (size_t)a->steps * (size_t)a->n_in,
                                        .a = kept_place(ep, node, kind) + kept_at(a, kind, s, d, 0),
                                        .b = cell.w,
                                        .c_step = a->n_in,
                                        .a_row = kind->kept * a->n_hidden,
                                        .a_step = 1,
                                        .b_step = a->n_in,
                                        .rows = a->steps,
                                        .columns = a->n_in,
                                        .count = kind->gates * a->n_hidden};
                EP_KERNEL(ep, outer_f32)(&o);
            }
        }
    }
}

/* A weight's gradient over time: sum over `count` steps of a (rows) times b (columns), and of one pair more; and over the
 * sequences of a sample. */
typedef struct product {
    uint16_t index;
    size_t first; /* element of the weight */
    int32_t rows, columns, count;
    const float *a, *b;
    int32_t a_step, b_step;
    const float *a_more, *b_more; /* b_more NULL: none */
    int32_t sequences;
    size_t a_next, b_next, b_more_next; /* from one sequence to the next; a_more goes with a */
} product;

/* c (rows, columns), c_step apart, += rows `row` .. and columns `column` .. of the product. */
static void add_product(const ep_t *ep, const product *p, float *c, int32_t c_step, int32_t row, int32_t column,
                        int32_t rows, int32_t columns)
{
    for (size_t q = 0; q < (size_t)p->sequences; q++) {
        ep_outer_f32 o = {.c = c,
                          .c_step = c_step,
                          .a_row = 1,
                          .a_step = p->a_step,
                          .b_step = p->b_step,
                          .rows = rows,
                          .columns = columns,
                          .count = p->count};
        if (p->count > 0) {
            o.a = p->a + q * p->a_next + row;
            o.b = p->b + q * p->b_next + column;
            EP_KERNEL(ep, outer_f32)(&o);
        }
        if (p->b_more != NULL) {
            o.a = p->a_more + q * p->a_next + row;
            o.b = p->b_more + q * p->b_more_next + column;
            o.count = 1;
            EP_KERNEL(ep, outer_f32)(&o);
        }
    }
}

/* Straight into the sums, or summed tile by tile, so that each element is handed over once. */
static void emit_product(const ep_t *ep, const ep_sink *sink, const product *p)
{
    float tile[EP_TILE_ROWS * EP_TILE_COLUMNS], *sums = ep_sink_sums(ep, sink, p->index);
    if (sums != NULL) {
        add_product(ep, p, sums + p->first, p->columns, 0, 0, p->rows, p->columns);
        return;
    }
    for (int32_t k = 0; k < p->rows; k += EP_TILE_ROWS) {
        for (int32_t j = 0; j < p->columns; j += EP_TILE_COLUMNS) {
            const int32_t rows = p->rows - k < EP_TILE_ROWS ? p->rows - k : EP_TILE_ROWS;
            const int32_t columns = p->columns - j < EP_TILE_COLUMNS ? p->columns - j : EP_TILE_COLUMNS;
            memset(tile, 0, sizeof tile);
            add_product(ep, p, tile, EP_TILE_COLUMNS, k, j, rows, columns);
            for (int32_t r = 0; r < rows; r++) {
                const size_t first = p->first + (size_t)(k + r) * (size_t)p->columns + (size_t)j;
                ep_emit(ep, sink, p->index, (uint32_t)first, (uint32_t)columns, 1.0f, tile + r * EP_TILE_COLUMNS);
            }
        }
    }
}

/* Sum over steps and sequences of `count` columns of kept, to elements `first` .. of the biases. */
static void emit_bias(const ep_t *ep, const ep_node *node, const ep_sink *sink, size_t first, const float *kept,
                      int32_t kept_step, int32_t count)
{
    const ep_recurrent_attr *a = node->attr;
    const size_t next = (size_t)a->directions * (size_t)a->steps * (size_t)kept_step;
    float sum[EP_TILE_COLUMNS];
    for (int32_t k = 0; k < count; k += EP_TILE_COLUMNS) {
        const int32_t lanes = count - k < EP_TILE_COLUMNS ? count - k : EP_TILE_COLUMNS;
        memset(sum, 0, sizeof sum);
        for (size_t q = 0; q < (size_t)a->sequences; q++) {
            for (int32_t t = 0; t < a->steps; t++) {
                EP_KERNEL(ep, add_f32)(sum, kept + q * next + (size_t)t * (size_t)kept_step + k, (size_t)lanes);
            }
        }
        ep_emit(ep, sink, node->io[B], (uint32_t)(first + (size_t)k), (uint32_t)lanes, 1.0f, sum);
    }
}

/* dr of one block: a step's gradient times h before it, which is y of the step before. s: the sample's first sequence. */
static void emit_rows(const ep_t *ep, const ep_node *node, const ep_sink *sink, const ep_cell_kind *kind,
                      const ep_cell_rows *block, uint32_t s, int32_t d)
{
    const ep_recurrent_attr *a = node->attr;
    const float *kept = kept_place(ep, node, kind) + kept_at(a, kind, s, d, 0);
    const float *y = (const float *)ep_out(ep, node, Y) + row_at(a, s, d, 0);
    const int32_t width = kind->kept * a->n_hidden, y_step = a->directions * a->n_hidden;
    const int32_t back = goes_back(a, d);
    const size_t next = (size_t)(a->directions * a->steps), states = (size_t)(a->directions * a->n_hidden);
    product p;
    memset(&p, 0, sizeof p);
    p.index = node->io[R];
    p.rows = block->gates * a->n_hidden;
    p.columns = a->n_hidden;
    p.count = a->steps;
    p.a = kept;
    p.a_step = p.b_step = width;
    p.sequences = a->sequences;
    p.a_next = p.b_next = next * (size_t)width;
    p.b_more_next = states;
    p.first = (size_t)(d * kind->gates + block->first) * (size_t)a->n_hidden * (size_t)a->n_hidden;
    p.a += block->from * a->n_hidden;
    if (block->by != 0) {
        p.b = kept + block->by * a->n_hidden;
    } else {
        p.a_more = back ? p.a + (size_t)(a->steps - 1) * (size_t)width : p.a;
        p.b_more = initial(ep, node, H0, s, d);
        p.a += back ? 0 : width;
        p.b = back ? y + y_step : y;
        p.b_step = y_step;
        p.b_next = next * (size_t)a->n_hidden;
        p.count = a->steps - 1;
    }
    emit_product(ep, sink, &p);
}

static void emit_sample(const ep_t *ep, const ep_node *node, const ep_sink *sink, const ep_cell_kind *kind,
                        const ep_cell_rows *rows, unsigned blocks, uint32_t s, int32_t d)
{
    const ep_recurrent_attr *a = node->attr;
    const float *x = (const float *)ep_in(ep, node, X) + (size_t)s * (size_t)a->steps * (size_t)a->n_in;
    const float *kept = kept_place(ep, node, kind) + kept_at(a, kind, s, d, 0);
    const int32_t width = kind->kept * a->n_hidden, all = kind->gates * a->n_hidden;
    if (ep_trains(ep, node, W)) {
        product p = {.index = node->io[W],
                     .rows = all,
                     .columns = a->n_in,
                     .count = a->steps,
                     .a = kept,
                     .b = x,
                     .a_step = width,
                     .b_step = a->n_in,
                     .sequences = a->sequences};
        p.first = (size_t)(d * all) * (size_t)a->n_in;
        p.a_next = (size_t)(a->directions * a->steps) * (size_t)width;
        p.b_next = (size_t)a->steps * (size_t)a->n_in;
        emit_product(ep, sink, &p);
    }
    if (ep_trains(ep, node, B)) emit_bias(ep, node, sink, (size_t)(d * 2 * all), kept, width, all);
    for (unsigned i = 0; i < blocks; i++) {
        if (ep_trains(ep, node, R)) emit_rows(ep, node, sink, kind, &rows[i], s, d);
        if (ep_trains(ep, node, B)) {
            emit_bias(ep, node, sink, (size_t)((d * 2 + 1) * all + rows[i].first * a->n_hidden),
                      kept + rows[i].from * a->n_hidden, width, rows[i].gates * a->n_hidden);
        }
    }
}

void ep_recurrent_params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink, const ep_cell_kind *kind,
                         const ep_cell_rows *rows, unsigned blocks)
{
    for (uint32_t s = 0; s < n; s++) {
        for (int32_t d = 0; d < ((const ep_recurrent_attr *)node->attr)->directions; d++) {
            emit_sample(ep, node, sink, kind, rows, blocks, sequences(node, s), d);
        }
    }
}

/* Every gradient is a sum over the steps of something in kept, times 1, or something of x, of h or in kept. What lies there
 * is taken as it is: a plan from an image may have laid other values over it. */
float ep_recurrent_bound(const ep_t *ep, const ep_node *node, uint32_t n, const ep_cell_kind *kind)
{
    const ep_recurrent_attr *a = node->attr;
    const size_t steps = (size_t)sequences(node, n) * (size_t)a->steps,
                 states = (size_t)a->directions * (size_t)a->n_hidden;
    const float terms = (float)steps;
    const float kept = EP_KERNEL(ep, max_abs_f32)(kept_place(ep, node, kind), steps * states * (size_t)kind->kept);
    const float values[] = {
        kept,
        EP_KERNEL(ep, max_abs_f32)(ep_in(ep, node, X), steps * (size_t)a->n_in),
        EP_KERNEL(ep, max_abs_f32)(ep_out(ep, node, Y), steps * states),
        node->n_in <= H0 ? 0.0f
                         : EP_KERNEL(ep, max_abs_f32)(
                               ep_in(ep, node, H0), ep_in_tensor(ep, node, H0)->count *
                                                        (size_t)(ep_in_tensor(ep, node, H0)->flags & EP_CONST ? 1 : n)),
    };
    float factor = 1.0f;
    for (unsigned i = 0; i < sizeof values / sizeof values[0]; i++) {
        if (!(values[i] <= factor)) {
            factor = values[i]; /* NaN too, which then stays */
        }
        if (!(factor <= INFINITY)) break;
    }
    return kept * factor * terms * (1.0f + terms * 1.2e-7f);
}

#endif

/* ---- Check ------------------------------------------------------------------------------------------------------- */

static int valid_initial(const ep_model *model, const ep_node *node, unsigned i, uint32_t count)
{
    return i >= node->n_in || ep_valid_const(model, node, i, EP_F32, count) ||
           ep_valid_activation(model, node, i, EP_F32, count);
}

/* The working memory of a step forward, and of the walk back. */
static int enough_scratch(const ep_model *model, uint64_t bytes)
{
    return model->scratch_bytes >= bytes;
}

int ep_check_recurrent(const ep_model *model, const ep_node *node, const ep_cell_kind *kind)
{
    const ep_recurrent_attr *a = node->attr;
    const unsigned out = node->n_in, end = kind->cell_state ? 3 : 2; /* outputs in front of kept */
    if (a == NULL || a->sequences < 1 || a->directions < 1 || a->directions > 2 || a->reverse < 0 || a->reverse > 1 ||
        a->variant < 0 || a->variant >= kind->variants || a->truncate < 0) {
        return EP_ERR_IMAGE;
    }
    const int32_t rows = (int32_t)ep_product(a->sequences, a->steps, 1); /* of x; 0: too many */
    const uint32_t states = ep_product(a->sequences, a->directions, a->n_hidden);
    const uint32_t y = ep_product(rows, a->directions, a->n_hidden);
    const uint32_t kept = ep_product(kind->kept * a->directions, a->n_hidden, rows);
    const uint32_t b = ep_product(2 * kind->gates * a->directions, a->n_hidden, 1);
    const int n_in = node->n_in == 4 || node->n_in == 5 + kind->cell_state;
    const int n_out = node->n_out == end + 1u || (node->n_out == end && node->grad == NULL);
    if (!n_in || !n_out || b == 0 || kept == 0 ||
        !ep_valid_activation(model, node, X, EP_F32, ep_product(rows, a->n_in, 1)) ||
        !ep_valid_weight(model, node, W, ep_product(kind->gates * a->directions, a->n_hidden, a->n_in)) ||
        !ep_valid_weight(model, node, R, ep_product(kind->gates * a->directions, a->n_hidden, a->n_hidden)) ||
        !ep_valid_weight(model, node, B, b) || !valid_initial(model, node, H0, states) ||
        !valid_initial(model, node, C0, states) || !ep_valid_optional(model, node, out + Y, EP_F32, y) ||
        !ep_valid_activation(model, node, out + H, EP_F32, states) ||
        (kind->cell_state && !ep_valid_activation(model, node, out + C, EP_F32, states)) ||
        (node->n_out > end && !ep_valid_optional(model, node, out + end, EP_F32, kept))) {
        return EP_ERR_IMAGE;
    }
    const uint64_t vectors = kind->kept > 3 ? (uint64_t)kind->kept : 3;
    return enough_scratch(model, vectors * (uint32_t)a->n_hidden * sizeof(float)) ? EP_OK : EP_ERR_IMAGE;
}
