/* The plain recurrent cell (Elman, 1990): h = f(x . w^T + h . r^T + b), f = tanh or ReLU. */
#include "recurrent.h"

static void step(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    ep_cell_sums(cell, 1, 1);
    for (int32_t i = 0; i < n; i++) {
        const float v = cell->kept[i];
        cell->h[i] = cell->attr->variant == 0 ? tanhf(v) : v < 0.0f ? 0.0f : v;
    }
}

#ifndef EP_NO_TRAIN

/* kept: d of the sum. */
static void step_back(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    for (int32_t i = 0; i < n; i++) {
        const float h = cell->h_after[i];
        const float slope = cell->attr->variant == 0 ? 1.0f - h * h : h > 0.0f ? 1.0f : 0.0f;
        cell->kept[i] = cell->h[i] * slope;
        cell->h[i] = 0.0f;
    }
    ep_cell_back(cell, cell->h, cell->kept, cell->r, n);
}

#endif

static const ep_cell_kind kind = {.gates = 1, .kept = 1, .variants = 2, .step = step};

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    ep_recurrent_forward(ep, node, n, &kind);
}

const ep_op ep_rnn_f32 = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    ep_recurrent_backward(ep, node, n, &kind, step_back);
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    static const ep_cell_rows all = {0, 1, 0, 0};
    ep_recurrent_params(ep, node, n, sink, &kind, &all, 1);
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    return ep_recurrent_bound(ep, node, n, &kind);
}

const ep_grad ep_rnn_f32_grad = {backward, params, bound};

#endif

int ep_check_rnn_f32(const ep_model *model, const ep_node *node)
{
    return ep_check_recurrent(model, node, &kind);
}
