/* GRU (Cho et al., 2014), gates in ONNX's order z, r, n: h = (1 - z) * n + z * h, where n looks at r * h
 * (variant 0, linear_before_reset = 0) or takes r times what it sees of h (variant 1). */
#include "recurrent.h"

/* n's sum += (r * h) . r_n^T + its second bias; kept: z, r, n, r * h. */
static void look_at_reset(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    float *sum = cell->kept + 2 * n, *reset = cell->kept + 3 * n;
    const ep_dots_f32 d = {.y = sum,
                           .base = sum,
                           .x = reset,
                           .w = cell->r + 2 * (size_t)n * (size_t)n,
                           .y_step = n,
                           .x_step = n,
                           .w_step = n,
                           .rows = 1,
                           .columns = n,
                           .count = n};
    for (int32_t i = 0; i < n; i++) reset[i] = cell->kept[n + i] * cell->h[i];
    EP_KERNEL(cell->ep, add_f32)(sum, cell->b + 5 * n, (size_t)n);
    EP_KERNEL(cell->ep, dots_f32)(&d);
}

/* n's sum += r * (h . r_n^T + its second bias); kept: z, r, n, that bracket. */
static void reset_look(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    float *sum = cell->kept + 2 * n, *seen = cell->kept + 3 * n;
    const ep_dots_f32 d = {.y = seen,
                           .base = cell->b + 5 * n,
                           .x = cell->h,
                           .w = cell->r + 2 * (size_t)n * (size_t)n,
                           .y_step = n,
                           .x_step = n,
                           .w_step = n,
                           .rows = 1,
                           .columns = n,
                           .count = n};
    EP_KERNEL(cell->ep, dots_f32)(&d);
    EP_KERNEL(cell->ep, multiply_add_f32)(sum, cell->kept + n, seen, (size_t)n);
}

static void step(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    float *gate = cell->kept;
    ep_cell_sums(cell, 3, 2);
    for (int32_t i = 0; i < 2 * n; i++) gate[i] = ep_sigmoid(gate[i]);
    if (cell->attr->variant == 0) {
        look_at_reset(cell);
    } else {
        reset_look(cell);
    }
    for (int32_t i = 0; i < n; i++) {
        const float z = gate[i], candidate = tanhf(gate[2 * n + i]);
        gate[2 * n + i] = candidate;
        cell->h[i] = (1.0f - z) * candidate + z * cell->h[i];
    }
}

#ifndef EP_NO_TRAIN

static float before(const ep_cell *cell, int32_t i)
{
    return cell->h_before != NULL ? cell->h_before[i] : 0.0f;
}

/* kept: d of the sums of z, r, n; then r * h (variant 0) or d of the bracket (variant 1). */
static void step_back(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    float *gate = cell->kept, *dreset = cell->spare;
    const float *r_n = cell->r + 2 * (size_t)n * (size_t)n;
    for (int32_t i = 0; i < n; i++) {
        const float z = gate[i], candidate = gate[2 * n + i], dh = cell->h[i];
        gate[i] = dh * (before(cell, i) - candidate) * z * (1.0f - z);
        gate[2 * n + i] = dh * (1.0f - z) * (1.0f - candidate * candidate);
        cell->h[i] = dh * z;
        dreset[i] = 0.0f;
    }
    if (cell->attr->variant == 0) ep_cell_back(cell, dreset, gate + 2 * n, r_n, n);
    for (int32_t i = 0; i < n; i++) {
        const float r = gate[n + i];
        float dr;
        if (cell->attr->variant == 0) {
            dr = dreset[i] * before(cell, i);
            cell->h[i] += dreset[i] * r;
        } else {
            dr = gate[2 * n + i] * gate[3 * n + i];
            gate[3 * n + i] = gate[2 * n + i] * r;
        }
        gate[n + i] = dr * r * (1.0f - r);
    }
    ep_cell_back(cell, cell->h, gate, cell->r, 2 * n);
    if (cell->attr->variant != 0) ep_cell_back(cell, cell->h, gate + 3 * n, r_n, n);
}

#endif

static const ep_cell_kind kind = {.gates = 3, .kept = 4, .variants = 2, .step = step};

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    ep_recurrent_forward(ep, node, n, &kind);
}

const ep_op ep_gru_f32 = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    ep_recurrent_backward(ep, node, n, &kind, step_back);
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    static const ep_cell_rows blocks[2][2] = {{{0, 2, 0, 0}, {2, 1, 2, 3}}, {{0, 2, 0, 0}, {2, 1, 3, 0}}};
    ep_recurrent_params(ep, node, n, sink, &kind, blocks[((const ep_recurrent_attr *)node->attr)->variant], 2);
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    return ep_recurrent_bound(ep, node, n, &kind);
}

const ep_grad ep_gru_f32_grad = {backward, params, bound};

#endif

int ep_check_gru_f32(const ep_model *model, const ep_node *node)
{
    return ep_check_recurrent(model, node, &kind);
}
