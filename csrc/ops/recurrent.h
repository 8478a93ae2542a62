/* Run rnn_f32, gru_f32 and lstm_f32, which share the walk over samples, directions and steps, the gradients of the
 * weights, the check. An op brings one step of its cell, forward and backward. */
#ifndef EP_RECURRENT_H
#define EP_RECURRENT_H

#include "common.h"

/* One step of one direction of one sample. */
typedef struct ep_cell {
    const ep_t *ep;
    const ep_recurrent_attr *attr;
    const float *w, *r,
        *b;         /* this direction's (gates * n_hidden, n_in), (gates * n_hidden, n_hidden), (2, gates * n_hidden) */
    const float *x; /* (n_in); forward only; NULL: kept holds already what w gives */
    float *h, *c;   /* (n_hidden): forward: the state, changed in place; backward: their gradients, likewise */
    float *kept;    /* (kept, n_hidden): gates and what else backward needs; backward leaves gradients there */
    const float *h_before, *c_before, *h_after; /* backward only; NULL: zeros */
    float *spare;                               /* (n_hidden); backward only */
} ep_cell;

/* A kind of cell. `kept`: vectors of n_hidden in ep_cell.kept, of which the first `gates` get the gradients of the sums
 * before the gates' activations. */
typedef struct ep_cell_kind {
    int32_t gates, kept;
    int cell_state;   /* 1: it has a c beside its h */
    int32_t variants; /* values of attr->variant: 0 .. variants-1 */
    void (*step)(const ep_cell *cell);
} ep_cell_kind;

/* kept[0 .. rows) * n_hidden = x . w^T + both biases + h . r^T, of all gates from 0 on. */
void ep_cell_sums(const ep_cell *cell, int32_t gates, int32_t gates_from_h);

/* y (n_hidden) += a (count) . r (count, n_hidden). */
void ep_cell_back(const ep_cell *cell, float *y, const float *a, const float *r, int32_t count);

void ep_recurrent_forward(const ep_t *ep, const ep_node *node, uint32_t n, const ep_cell_kind *kind);
int ep_check_recurrent(const ep_model *model, const ep_node *node, const ep_cell_kind *kind);

#ifndef EP_NO_TRAIN

/* `step_back`: apart from the kind, so that frozen cells do not bring it in. */
void ep_recurrent_backward(const ep_t *ep, const ep_node *node, uint32_t n, const ep_cell_kind *kind,
                           void (*step_back)(const ep_cell *cell));
float ep_recurrent_bound(const ep_t *ep, const ep_node *node, uint32_t n, const ep_cell_kind *kind);

/* How one block of rows of r gets its gradient: from vector `from` of kept on, times h before the step, or, where `by`
 * is not 0, times vector `by` of kept. */
typedef struct ep_cell_rows {
    int32_t first, gates, from, by;
} ep_cell_rows;

/* Hands over the gradients of w, r and b, `blocks` blocks of r's rows and likewise the second biases. */
void ep_recurrent_params(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink, const ep_cell_kind *kind,
                         const ep_cell_rows *rows, unsigned blocks);

#endif
#endif
