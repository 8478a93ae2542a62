/* What the binding adds to the runtime: loops and callbacks that would be slow or unsafe to run in Python. */
#include <string.h>

#include "edgeprop.h"
#include "internal.h"

/* ---- Tables of what the library has, for Python to read ---- */

typedef struct ep_py_op {
    int code;
    const char *name;
    const char *attr;
    int has_grad;
    const ep_op *op;
} ep_py_op;

typedef struct ep_py_loss {
    int code;
    const char *name;
    const ep_loss *loss;
} ep_py_loss;

typedef struct ep_py_optimizer {
    const char *name;
    const ep_optimizer *optimizer;
} ep_py_optimizer;

enum { EP_PY_G = 1, EP_PY_N = 0 };
#define EP_PY_OP(code, name, attr, grad) {code, #name, #attr, EP_PY_##grad, &ep_##name},
#define EP_PY_LOSS(code, name) {code, #name, &ep_##name},
static const char *const ep_py_version = EP_VERSION_STRING;
static const ep_py_op ep_py_ops[] = {EP_OPS(EP_PY_OP)};
static const ep_py_loss ep_py_losses[] = {EP_LOSSES(EP_PY_LOSS)};
static const int ep_py_n_ops = (int)(sizeof ep_py_ops / sizeof ep_py_ops[0]);
static const int ep_py_n_losses = (int)(sizeof ep_py_losses / sizeof ep_py_losses[0]);
static const ep_py_optimizer ep_py_optimizers[] = {
    {"sgd", &ep_sgd}, {"momentum", &ep_momentum}, {"nesterov", &ep_nesterov}, {"adam", &ep_adam}};
static const int ep_py_n_optimizers = (int)(sizeof ep_py_optimizers / sizeof ep_py_optimizers[0]);
static const ep_registry *const ep_py_registry = &ep_all;

/* ---- Learning ---- */

static int ep_py_step(ep_t *ep, const void *x, const ep_target *target, uint32_t n, uint32_t batch, const ep_step *step,
                      float *loss)
{
    if (batch == 0 && target->labels != NULL) return ep_learn_label(ep, x, target->labels[0], step, loss);
    if (batch == 0) return ep_learn(ep, x, target->values, step, loss);
    if (target->labels != NULL) return ep_learn_batch_labels(ep, x, target->labels, n, step, loss);
    return ep_learn_batch(ep, x, target->values, n, step, loss);
}

/* `target` as the model's loss takes it: int32_t labels, or floats. */
static ep_target ep_py_target(const ep_t *ep, const void *target)
{
    const int labels = ep->model->train != NULL && ep->model->train->loss->labels;
    const ep_target typed = {labels ? NULL : (const float *)target, labels ? (const int32_t *)target : NULL};
    return typed;
}

/* One pass over n samples in mini-batches of `batch` (0: single samples, updated in place); adds each sample's loss to
 * *loss. Stops at the first step that fails and returns its code; the steps before it stay. */
static int ep_py_fit(ep_t *ep, const void *x, size_t x_bytes, const void *target, size_t target_bytes, uint32_t n,
                     uint32_t batch, const ep_step *step, double *loss)
{
    ep->doubt = 0; /* a refusal ends the call and is an exception: it says nothing about the next call */
    for (uint32_t i = 0; i < n;) {
        const uint8_t *xi = (const uint8_t *)x + i * x_bytes;
        const ep_target ti = ep_py_target(ep, (const uint8_t *)target + i * target_bytes);
        uint32_t take = batch == 0 ? 1 : batch < n - i ? batch : n - i;
        float mean = 0;
        int rc = ep_py_step(ep, xi, &ti, take, batch, step, &mean);
        if (rc != EP_OK) return rc;
        *loss += (double)mean * take;
        i += take;
    }
    return EP_OK;
}

static int ep_py_accumulate(ep_t *ep, const void *x, const void *target, uint32_t n)
{
    const ep_target typed = ep_py_target(ep, target);
    if (typed.labels != NULL) return ep_accumulate_labels(ep, x, typed.labels, n, NULL);
    return ep_accumulate(ep, x, typed.values, n, NULL);
}

/* The gradient that starts the backward walk. */
static void ep_py_dlogits(const ep_t *ep, const float *logits, const void *target, float *dlogits, uint32_t n)
{
    const ep_train *train = ep->model->train;
    const ep_target typed = ep_py_target(ep, target);
    train->loss->forward(logits, &typed, dlogits, ep->model->tensors[train->logits].count, n);
}

/* ---- Storage in memory: two slots one after the other, which Python reads from and writes to files ---- */

static int ep_py_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    memcpy(buffer, (const uint8_t *)user + offset, size);
    return 0;
}

static int ep_py_write(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    memcpy((uint8_t *)user + offset, buffer, size);
    return 0;
}

static int ep_py_erase(void *user, uint32_t offset, uint32_t size)
{
    memset((uint8_t *)user + offset, 0xFF, size);
    return 0;
}

static ep_storage ep_py_storage(uint8_t *slots, uint32_t slot_size)
{
    ep_storage storage = {slots, ep_py_read, ep_py_write, ep_py_erase, slot_size, 1};
    return storage;
}

static int ep_py_save(ep_t *ep, uint8_t *slots, uint32_t slot_size)
{
    ep_storage storage = ep_py_storage(slots, slot_size);
    return ep_save(ep, &storage);
}

static int ep_py_restore(ep_t *ep, uint8_t *slots, uint32_t slot_size)
{
    ep_storage storage = ep_py_storage(slots, slot_size);
    return ep_restore(ep, &storage);
}

/* ---- Tracing: copies of what the arena's plan will overwrite ---- */

typedef struct ep_py_trace {
    uint8_t *values;    /* activations, each tensor's n samples at byte at[tensor] */
    uint8_t *gradients; /* likewise; NULL: not wanted */
    const uint64_t *at; /* (n_tensors) */
    uint8_t *seen;      /* (n_tensors) bit 0: has a value, bit 1: has a gradient */
    uint32_t n;         /* samples */
} ep_py_trace;

static size_t ep_py_bytes(const ep_tensor *tensor)
{
    return (size_t)tensor->count * (tensor->dtype == EP_F32 || tensor->dtype == EP_I32 ? 4 : 1);
}

static void ep_py_hook(void *user, const ep_t *ep, uint16_t index, int phase)
{
    ep_py_trace *trace = (ep_py_trace *)user;
    const ep_node *node = &ep->model->nodes[index];
    /* Forward: the outputs. Backward: the gradients of the inputs, complete once their last consumer has been here. */
    const uint16_t *io = phase == 0 ? node->io + node->n_in : node->io;
    unsigned count = phase == 0 ? node->n_out : node->n_in;
    for (unsigned i = 0; i < count; i++) {
        const ep_tensor *tensor = &ep->model->tensors[io[i]];
        if (tensor->flags & (EP_CONST | EP_PARAM)) continue;
        if (phase == 0 && !ep_has_place(ep, io[i])) continue;
        const void *from = phase == 0 ? ep_tensor_ptr(ep, io[i]) : (const void *)ep_gradient_ptr(ep, io[i]);
        uint8_t *to = phase == 0 ? trace->values : trace->gradients;
        if (from == NULL || to == NULL) continue;
        memcpy(to + trace->at[io[i]], from, ep_py_bytes(tensor) * trace->n);
        trace->seen[io[i]] |= (uint8_t)(1u << phase);
    }
}

static void ep_py_set_trace(ep_t *ep, ep_py_trace *trace)
{
    ep->trace = trace != NULL ? ep_py_hook : NULL;
    ep->trace_user = trace;
}

/* The gradient sums, in the order and layout of ep_params(); NULL if the arena has none. */
static const float *ep_py_sums(const ep_t *ep)
{
    return ep->sums_at == EP_NONE ? NULL : (const float *)(const void *)(ep->arena + ep->sums_at);
}
