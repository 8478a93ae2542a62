/* Learning: forward, loss, backward, and an update that happens wholly or not at all. */
#include "internal.h"

#include <float.h>
#include <string.h>

#ifndef EP_NO_TRAIN

/* No |weight| may pass this. Far below FLT_MAX, so that rounding in a bound cannot hide an overflow. */
#define EP_WEIGHT_LIMIT 1e37f

/* Who gets the gradients: the sums, or the optimizer in place. */
struct ep_sink {
    ep_t *ep;
    float *sums; /* NULL: the optimizer */
    const ep_step *step;
};

static const ep_optimizer *optimizer_of(const ep_step *step)
{
    return step->optimizer ? step->optimizer : &ep_sgd;
}

static int in_unit(float v) /* 0 <= v < 1 */
{
    return v >= 0.0f && v < 1.0f;
}

static int not_negative(float v) /* 0 <= v, finite */
{
    return v >= 0.0f && v <= FLT_MAX;
}

static int valid_step(const ep_step *step)
{
    return step && step->lr > 0.0f && step->lr <= FLT_MAX && in_unit(step->momentum) && in_unit(step->beta2) &&
           not_negative(step->epsilon) && not_negative(step->weight_decay) && not_negative(step->clip_norm);
}

/* Bytes of one state slot: a float for each weight, rounded up. */
static uint32_t slot_bytes(const ep_t *ep)
{
    return (ep->model->param_bytes + EP_ALIGN - 1u) / EP_ALIGN * EP_ALIGN;
}

/* Room behind what the arena holds already, `bytes` of it; EP_NONE if there is none. */
static uint32_t take_tail(ep_t *ep, uint64_t bytes)
{
    const uint64_t end = ep->used + (bytes + EP_ALIGN - 1u) / EP_ALIGN * EP_ALIGN;
    if (end > ep->size || end > INT32_MAX) {
        return EP_NONE;
    }
    const uint32_t at = ep->used;
    ep->used = (uint32_t)end;
    return at;
}

/* The optimizer's state, placed when first needed and zeroed when the optimizer changes. */
static int prepare_state(ep_t *ep, const ep_optimizer *optimizer)
{
    const uint32_t bytes = slot_bytes(ep);
    if (optimizer->slots == 0) {
        return EP_OK;
    }
    if (ep->optimizer == optimizer && ep->state_at != EP_NONE) {
        return EP_OK;
    }
    if (ep->state_at == EP_NONE || !ep->optimizer || ep->optimizer->slots < optimizer->slots) {
        const uint32_t used = ep->used;
        const int last = ep->state_at != EP_NONE && ep->state_end == used;
        if (last) {
            ep->used = ep->state_at; /* grow in place */
        }
        const uint32_t at = take_tail(ep, (uint64_t)bytes * optimizer->slots);
        if (at == EP_NONE) {
            ep->used = used;
            return EP_ERR_ARENA;
        }
        ep->state_at = at;
        ep->state_end = ep->used;
    }
    memset(ep->arena + ep->state_at, 0, (size_t)bytes * optimizer->slots);
    ep->optimizer = optimizer;
    ep->updates = 0;
    return EP_OK;
}

static int prepare_sums(ep_t *ep)
{
    if (ep->sums_at == EP_NONE) {
        ep->sums_at = take_tail(ep, ep->model->param_bytes);
        if (ep->sums_at == EP_NONE) {
            return EP_ERR_ARENA;
        }
        memset(ep->arena + ep->sums_at, 0, ep->model->param_bytes);
    }
    return EP_OK;
}

void ep_emit(const ep_t *ep, const ep_sink *sink, uint16_t index, uint32_t at, uint32_t count, float a, const float *g)
{
    const uint32_t place = ep->model->tensors[index].offset / 4u + at;
    if (sink->sums) {
        float *sum = sink->sums + place;
        for (uint32_t i = 0; i < count; i++) {
            sum[i] += a * g[i];
        }
        return;
    }
    float *w = (float *)(void *)(ep->arena + ep->params_at) + place, *state = NULL;
    const ep_optimizer *optimizer = optimizer_of(sink->step);
    if (optimizer->slots) {
        state = (float *)(void *)(ep->arena + ep->state_at) + place;
    }
    optimizer->apply(sink->step, ep->updates + 1u, w, state,
                     optimizer->slots > 1 ? state + slot_bytes(ep) / 4u : NULL, a, g, count);
}

int ep_sink_adds(const ep_sink *sink)
{
    return sink->sums != NULL;
}

/* Whether a node has weights that learn. */
static int learns(const ep_model *model, const ep_node *node)
{
    for (unsigned i = 0; i < node->n_in; i++) {
        if (model->tensors[node->io[i]].flags & EP_PARAM) {
            return 1;
        }
    }
    return 0;
}

static int valid_target(const ep_t *ep, const void *target, uint32_t n)
{
    const ep_train *train = ep->model->train;
    const uint32_t count = ep->model->tensors[train->logits].count;
    if (!train->loss->labels) {
        return ep_max_abs(target, (size_t)count * n) <= FLT_MAX;
    }
    const int32_t *label = target;
    for (uint32_t i = 0; i < n; i++) {
        if (label[i] < 0 || (uint32_t)label[i] >= count) {
            return 0;
        }
    }
    return 1;
}

/* What ep_learn and ep_accumulate ask before they touch anything. */
static int check_learn(const ep_t *ep, const void *x, const void *target, uint32_t n)
{
    if (!ep || !ep->model || !x || !target || n == 0 || ep->model->n_inputs != 1) {
        return EP_ERR_ARG;
    }
    if (!ep->model->train) {
        return EP_ERR_FROZEN;
    }
    if (!ep->can_train) {
        return EP_ERR_ARENA;
    }
    return valid_target(ep, target, n) ? EP_OK : EP_ERR_LABEL;
}

/* Forward, loss and backward on n <= batch samples. Leaves every weight alone. The gradients are those of the mean
 * loss, or of its sum over the samples. Returns the mean loss. */
static float walk(ep_t *ep, const void *x, const void *target, uint32_t n, int sum)
{
    const ep_model *model = ep->model;
    const ep_train *train = model->train;
    const uint32_t count = model->tensors[train->logits].count;
    const uint16_t input = model->inputs[0];
    ep->offset = train->offset;
    memcpy(ep_tensor_ptr(ep, input), x, ep_tensor_size(&model->tensors[input]) * n);
    ep_forward(ep, train->end_node, n);
    float *dlogits = ep_gradient_ptr(ep, train->logits);
    const float loss = train->loss->forward(ep_tensor_ptr(ep, train->logits), target, dlogits, count, n);
    if (sum && n > 1) {
        for (size_t i = 0; i < (size_t)count * n; i++) {
            dlogits[i] *= (float)n;
        }
    }
    for (uint16_t i = train->end_node; i-- > train->first_node;) {
        const ep_node *node = &model->nodes[i];
        if (node->grad) {
            node->grad->backward(ep, node, n);
#ifdef EP_TRACE
            if (ep->trace) {
                ep->trace(ep->trace_user, ep, i, 1);
            }
#endif
        }
    }
    return loss;
}

/* An upper bound of |gradient| over all trainable weights; infinity or NaN if one may be. */
static float gradient_bound(const ep_t *ep, uint32_t n)
{
    const ep_model *model = ep->model;
    float bound = 0.0f;
    for (uint16_t i = model->train->first_node; i < model->train->end_node; i++) {
        const ep_node *node = &model->nodes[i];
        if (node->grad && node->grad->bound && learns(model, node)) {
            const float b = node->grad->bound(ep, node, n);
            if (!(b <= bound)) { /* also NaN */
                bound = b;
            }
            if (!(b <= FLT_MAX)) {
                return b;
            }
        }
    }
    return bound;
}

static void give_gradients(ep_t *ep, uint32_t n, const ep_sink *sink)
{
    const ep_model *model = ep->model;
    for (uint16_t i = model->train->first_node; i < model->train->end_node; i++) {
        const ep_node *node = &model->nodes[i];
        if (node->grad && node->grad->params && learns(model, node)) {
            node->grad->params(ep, node, n, sink);
        }
    }
}

/* 0 if a step with gradients up to gmax keeps every weight finite; then weight_bound holds for the weights after it.
 * A running bound spares a look at every weight; only when it gets large, or is unknown, are they looked at. */
static int check_step(ep_t *ep, const ep_step *step, float gmax)
{
    const ep_optimizer *optimizer = optimizer_of(step);
    const uint32_t count = ep->model->param_bytes / 4u;
    float smax = 0.0f;
    if (optimizer->slots) {
        smax = ep_max_abs((const float *)(const void *)(ep->arena + ep->state_at), count);
    }
    for (int known = 0; known < 2; known++) {
        const float decayed = step->weight_decay > 0.0f ? gmax + step->weight_decay * ep->weight_bound : gmax;
        const float bound = ep->weight_bound + optimizer->bound(step, ep->updates + 1u, decayed, smax);
        if (bound <= EP_WEIGHT_LIMIT) {
            ep->weight_bound = bound;
            return EP_OK;
        }
        ep->weight_bound = ep_max_abs((const float *)(const void *)(ep->arena + ep->params_at), count);
    }
    return EP_ERR_DIVERGED;
}

int ep_learn(ep_t *ep, const void *x, const void *target, const ep_step *step, float *loss)
{
    int rc = check_learn(ep, x, target, 1);
    if (rc != EP_OK) {
        return rc;
    }
    if (!valid_step(step) || step->clip_norm > 0.0f) {
        return EP_ERR_ARG;
    }
    rc = prepare_state(ep, optimizer_of(step));
    if (rc != EP_OK) {
        return rc;
    }
    const float value = walk(ep, x, target, 1, 0);
    rc = value <= FLT_MAX ? check_step(ep, step, gradient_bound(ep, 1)) : EP_ERR_DIVERGED;
    if (rc != EP_OK) {
        return rc;
    }
    const ep_sink sink = {ep, NULL, step};
    give_gradients(ep, 1, &sink);
    ep->updates++;
    if (loss) {
        *loss = value;
    }
    return EP_OK;
}

int ep_accumulate(ep_t *ep, const void *x, const void *target, uint32_t n, float *loss)
{
    int rc = check_learn(ep, x, target, n);
    if (rc == EP_OK && n > ep->batch) {
        rc = EP_ERR_ARG;
    }
    if (rc == EP_OK) {
        rc = prepare_sums(ep);
    }
    if (rc != EP_OK) {
        return rc;
    }
    const float value = walk(ep, x, target, n, 1);
    if (!(value <= FLT_MAX) || !(gradient_bound(ep, n) <= EP_WEIGHT_LIMIT)) {
        return EP_ERR_DIVERGED;
    }
    const ep_sink sink = {ep, (float *)(void *)(ep->arena + ep->sums_at), NULL};
    give_gradients(ep, n, &sink);
    ep->samples += n;
    if (loss) {
        *loss = value;
    }
    return EP_OK;
}

static void drop_sums(ep_t *ep)
{
    ep->samples = 0;
    memset(ep->arena + ep->sums_at, 0, ep->model->param_bytes);
}

/* Turns sums into means, no longer than clip_norm; returns the largest |mean|. */
static float finish_sums(float *sums, uint32_t count, uint32_t samples, float clip_norm)
{
    float scale = 1.0f / (float)samples;
    const float largest = ep_max_abs(sums, count) * scale;
    if (!(largest <= EP_WEIGHT_LIMIT)) {
        return INFINITY;
    }
    if (clip_norm > 0.0f && largest > 0.0f) {
        float squares = 0.0f; /* of values divided by the largest, so that no square overflows */
        for (uint32_t i = 0; i < count; i++) {
            const float v = sums[i] * scale / largest;
            squares += v * v;
        }
        const float norm = largest * sqrtf(squares);
        if (norm > clip_norm) {
            scale *= clip_norm / norm;
        }
    }
    for (uint32_t i = 0; i < count; i++) {
        sums[i] *= scale;
    }
    return largest;
}

int ep_apply(ep_t *ep, const ep_step *step)
{
    if (!ep || !ep->model || !valid_step(step) || ep->samples == 0) {
        return EP_ERR_ARG;
    }
    int rc = prepare_state(ep, optimizer_of(step));
    if (rc != EP_OK) {
        return rc;
    }
    const uint32_t count = ep->model->param_bytes / 4u;
    float *sums = (float *)(void *)(ep->arena + ep->sums_at);
    const float largest = finish_sums(sums, count, ep->samples, step->clip_norm);
    rc = largest <= FLT_MAX ? check_step(ep, step, largest) : EP_ERR_DIVERGED;
    if (rc == EP_OK) {
        const ep_optimizer *optimizer = optimizer_of(step);
        float *state = optimizer->slots ? (float *)(void *)(ep->arena + ep->state_at) : NULL;
        optimizer->apply(step, ep->updates + 1u, (float *)(void *)(ep->arena + ep->params_at), state,
                         optimizer->slots > 1 ? state + slot_bytes(ep) / 4u : NULL, 1.0f, sums, count);
        ep->updates++;
    }
    drop_sums(ep);
    return rc;
}

int ep_learn_batch(ep_t *ep, const void *x, const void *target, uint32_t n, const ep_step *step, float *loss)
{
    int rc = check_learn(ep, x, target, n);
    if (rc == EP_OK && (!valid_step(step) || ep->samples != 0)) {
        rc = EP_ERR_ARG;
    }
    if (rc == EP_OK) {
        rc = prepare_state(ep, optimizer_of(step));
    }
    if (rc != EP_OK) {
        return rc;
    }
    const ep_train *train = ep->model->train;
    const size_t in = ep_tensor_size(&ep->model->tensors[ep->model->inputs[0]]);
    const size_t out = train->loss->labels ? sizeof(int32_t) : sizeof(float) * ep->model->tensors[train->logits].count;
    float total = 0.0f;
    for (uint32_t done = 0, chunk; done < n; done += chunk) {
        float value = 0.0f;
        chunk = n - done < ep->batch ? n - done : ep->batch;
        rc = ep_accumulate(ep, (const uint8_t *)x + done * in, (const uint8_t *)target + done * out, chunk, &value);
        if (rc != EP_OK) {
            if (ep->sums_at != EP_NONE) {
                drop_sums(ep);
            }
            return rc;
        }
        total += value * (float)chunk;
    }
    rc = ep_apply(ep, step);
    if (rc == EP_OK && loss) {
        *loss = total / (float)n;
    }
    return rc;
}

#endif
