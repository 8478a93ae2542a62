/* LSTM (Hochreiter & Schmidhuber, 1997; with the forget gate of Gers et al., 2000), gates in ONNX's order i, o, f, g:
 * c = f * c + i * g, h = o * tanh(c). */
#include "recurrent.h"

/* kept: i, o, f, g, c after the step. */
static void step(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    float *gate = cell->kept;
    ep_cell_sums(cell, 4, 4);
    for (int32_t k = 0; k < n; k++) {
        const float i = ep_sigmoid(gate[k]), o = ep_sigmoid(gate[n + k]);
        const float f = ep_sigmoid(gate[2 * n + k]), g = tanhf(gate[3 * n + k]);
        const float c = f * cell->c[k] + i * g;
        gate[k] = i;
        gate[n + k] = o;
        gate[2 * n + k] = f;
        gate[3 * n + k] = g;
        gate[4 * n + k] = cell->c[k] = c;
        cell->h[k] = o * tanhf(c);
    }
}

#ifndef EP_NO_TRAIN

/* kept: d of the sums of i, o, f, g; c stays. */
static void step_back(const ep_cell *cell)
{
    const int32_t n = cell->attr->n_hidden;
    float *gate = cell->kept;
    for (int32_t k = 0; k < n; k++) {
        const float i = gate[k], o = gate[n + k], f = gate[2 * n + k], g = gate[3 * n + k];
        const float squashed = tanhf(gate[4 * n + k]), dh = cell->h[k];
        const float before = cell->c_before != NULL ? cell->c_before[k] : 0.0f;
        const float dc = cell->c[k] + dh * o * (1.0f - squashed * squashed);
        gate[k] = dc * g * i * (1.0f - i);
        gate[n + k] = dh * squashed * o * (1.0f - o);
        gate[2 * n + k] = dc * before * f * (1.0f - f);
        gate[3 * n + k] = dc * i * (1.0f - g * g);
        cell->c[k] = dc * f;
        cell->h[k] = 0.0f;
    }
    ep_cell_back(cell, cell->h, gate, cell->r, 4 * n);
}

#endif

static const ep_cell_kind kind = {.gates = 4, .kept = 5, .cell_state = 1, .variants = 1, .step = step};

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    ep_recurrent_forward(ep, node, n, &kind);
}

const ep_op ep_lstm_f32 = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    ep_recurrent_backward(ep, node, n, &kind, step_back);
}

static void params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink)
{
    static const ep_cell_rows all = {0, 4, 0, 0};
    ep_recurrent_params(ep, node, n, sink, &kind, &all, 1);
}

static float bound(const ep_t *ep, const ep_node *node, uint32_t n)
{
    return ep_recurrent_bound(ep, node, n, &kind);
}

const ep_grad ep_lstm_f32_grad = {backward, params, bound};

#endif

int ep_check_lstm_f32(const ep_model *model, const ep_node *node)
{
    return ep_check_recurrent(model, node, &kind);
}
