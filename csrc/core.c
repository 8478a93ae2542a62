/* Binding a model to an arena, running it, and looking at its weights. */
#include "internal.h"

#include <float.h>
#include <string.h>

static uint64_t round_up(uint64_t bytes)
{
    return (bytes + EP_ALIGN - 1u) / EP_ALIGN * EP_ALIGN;
}

/* Where the parts of an arena start; `total` is 0 when what is asked cannot be had. */
typedef struct layout {
    uint32_t params, acts, scratch, sums, state;
    uint64_t total;
} layout;

static uint32_t max_u32(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* Takes `bytes` from the arena; returns where they start. */
static uint32_t take(layout *at, uint64_t bytes)
{
    const uint64_t start = at->total;
    at->total += round_up(bytes);
    return start > EP_NONE ? EP_NONE : (uint32_t)start;
}

static layout lay_out(const ep_model *model, uint32_t batch, unsigned what, const ep_optimizer *optimizer)
{
    layout at = {EP_NONE, EP_NONE, EP_NONE, EP_NONE, EP_NONE, 0};
    const ep_train *train = what & (EP_FOR_TRAIN | EP_FOR_SUMS) ? model->train : NULL;
    const uint32_t acts = max_u32(model->infer_bytes, train ? train->bytes : 0);
    const uint32_t slots = optimizer ? optimizer->slots : 0;
    if (what) {
        at.params = take(&at, model->param_bytes);
    }
    at.acts = take(&at, round_up(acts) * batch);
    at.scratch = take(&at, max_u32(model->scratch_bytes, train ? train->scratch_bytes : 0));
    if (what & EP_FOR_SUMS) {
        at.sums = take(&at, model->param_bytes);
    }
    if (train && slots) {
        at.state = take(&at, slots * round_up(model->param_bytes));
    }
    if (at.total > INT32_MAX) {
        at.total = 0;
    }
    return at;
}

size_t ep_arena_size(const ep_model *model, uint32_t batch, unsigned what, const ep_optimizer *optimizer)
{
    const unsigned known = EP_FOR_RESTORE | EP_FOR_TRAIN | EP_FOR_SUMS;
    if (!model || batch == 0 || (what & ~known) != 0 || (what && model->param_bytes == 0)) {
        return 0;
    }
    if ((what & (EP_FOR_TRAIN | EP_FOR_SUMS)) && !model->train) {
        return 0;
    }
    return (size_t)lay_out(model, batch, what, optimizer).total;
}

static int bind(ep_t *ep, const ep_model *model, void *arena, size_t size, uint32_t batch, const layout *at)
{
    if (at->total == 0 || at->total > size) {
        return EP_ERR_ARENA;
    }
    memset(ep, 0, sizeof *ep);
    ep->model = model;
    ep->arena = arena;
    ep->size = size;
    ep->batch = batch;
    ep->params_at = at->params;
    ep->acts_at = at->acts;
    ep->scratch_at = at->scratch;
    ep->sums_at = at->sums;
    ep->state_at = at->state;
    ep->state_end = (uint32_t)at->total; /* the state is the last part */
    ep->used = (uint32_t)at->total;
    return EP_OK;
}

static int check_init(const ep_t *ep, const ep_model *model, const void *arena)
{
    if (!ep || !model || !arena) {
        return EP_ERR_ARG;
    }
    if (model->abi != EP_ABI) {
        return EP_ERR_ABI;
    }
    return (uintptr_t)arena % EP_ALIGN ? EP_ERR_ALIGN : EP_OK;
}

int ep_init_batch(ep_t *ep, const ep_model *model, void *arena, size_t size, uint32_t batch, unsigned what,
                  const ep_optimizer *optimizer)
{
    int rc = check_init(ep, model, arena);
    if (rc != EP_OK) {
        return rc;
    }
    if (ep_arena_size(model, batch, what, optimizer) == 0 && !(batch == 1 && what == 0)) {
        return what && !model->train ? EP_ERR_FROZEN : EP_ERR_ARG;
    }
    const layout at = lay_out(model, batch, what, optimizer);
    rc = bind(ep, model, arena, size, batch, &at);
    if (rc == EP_OK) {
        ep->can_train = (what & (EP_FOR_TRAIN | EP_FOR_SUMS)) != 0;
        ep->optimizer = at.state != EP_NONE ? optimizer : NULL;
        ep_reset(ep);
    }
    return rc;
}

int ep_init(ep_t *ep, const ep_model *model, void *arena, size_t size)
{
    static const unsigned richest_first[] = {EP_FOR_TRAIN, EP_FOR_RESTORE, 0};
    int rc = check_init(ep, model, arena);
    for (unsigned i = 0; rc == EP_OK && i < 3; i++) {
        const size_t need = ep_arena_size(model, 1, richest_first[i], NULL);
        if (need != 0 && need <= size) {
            return ep_init_batch(ep, model, arena, size, 1, richest_first[i], NULL);
        }
    }
    return rc == EP_OK ? EP_ERR_ARENA : rc;
}

int ep_reset(ep_t *ep)
{
    if (!ep || !ep->model) {
        return EP_ERR_ARG;
    }
    if (ep->params_at != EP_NONE) {
        const ep_model *model = ep->model;
        for (uint16_t i = 0; i < model->n_tensors; i++) {
            const ep_tensor *t = &model->tensors[i];
            if (t->flags & EP_PARAM) {
                memcpy(ep->arena + ep->params_at + t->offset, t->data, (size_t)t->count * sizeof(float));
            }
        }
    }
    ep_params_changed(ep);
    return EP_OK;
}

/* New weights: what was known of the old ones no longer holds. */
void ep_params_changed(ep_t *ep)
{
    const size_t bytes = ep->model->param_bytes;
    ep->updates = 0;
    ep->samples = 0;
    ep->weight_bound = INFINITY; /* found out when a step asks */
    if (ep->sums_at != EP_NONE) {
        memset(ep->arena + ep->sums_at, 0, bytes);
    }
    if (ep->state_at != EP_NONE && ep->optimizer) {
        memset(ep->arena + ep->state_at, 0, (size_t)round_up(bytes) * ep->optimizer->slots);
    }
}

void *ep_tensor_ptr(const ep_t *ep, uint16_t index)
{
    const ep_tensor *t = &ep->model->tensors[index];
    if (t->flags & EP_PARAM && ep->params_at != EP_NONE) {
        return ep->arena + ep->params_at + t->offset;
    }
    if (t->flags & (EP_CONST | EP_PARAM)) {
        /* The op table promises that nobody writes through this; a const twin of this function would double it. */
        union {
            const void *in;
            void *out;
        } constant = {t->data};
        return constant.out;
    }
    return ep->arena + ep->acts_at + (size_t)ep->batch * (ep->offset ? ep->offset[index] : t->offset);
}

float *ep_gradient_ptr(const ep_t *ep, uint16_t index)
{
    const uint32_t at = ep->model->train->grad_offset[index];
    return at == EP_NONE ? NULL : (float *)(void *)(ep->arena + ep->acts_at + (size_t)ep->batch * at);
}

void *ep_scratch(const ep_t *ep)
{
    return ep->arena + ep->scratch_at;
}

void ep_forward(ep_t *ep, uint16_t end, uint32_t n)
{
    const ep_node *node = ep->model->nodes;
    for (uint16_t i = 0; i < end; i++, node++) {
        node->op->forward(ep, node, n);
#ifdef EP_TRACE
        if (ep->trace) {
            ep->trace(ep->trace_user, ep, i, 0);
        }
#endif
    }
}

size_t ep_tensor_size(const ep_tensor *t)
{
    return (size_t)t->count * (t->dtype == EP_F32 || t->dtype == EP_I32 ? 4u : 1u);
}

void *ep_input(ep_t *ep, unsigned i)
{
    if (!ep || !ep->model || i >= ep->model->n_inputs) {
        return NULL;
    }
    ep->offset = NULL;
    return ep_tensor_ptr(ep, ep->model->inputs[i]);
}

int ep_run(ep_t *ep, uint32_t n)
{
    if (!ep || !ep->model || n == 0 || n > ep->batch) {
        return EP_ERR_ARG;
    }
    ep->offset = NULL;
    ep_forward(ep, ep->model->n_nodes, n);
    return EP_OK;
}

const void *ep_output(const ep_t *ep, unsigned i)
{
    if (!ep || !ep->model || i >= ep->model->n_outputs) {
        return NULL;
    }
    return ep_tensor_ptr(ep, ep->model->outputs[i]);
}

int ep_infer_batch(ep_t *ep, const void *x, void *y, uint32_t n)
{
    if (!ep || !ep->model || !x || !y || n == 0 || ep->model->n_inputs != 1 || ep->model->n_outputs != 1) {
        return EP_ERR_ARG;
    }
    const size_t in = ep_tensor_size(&ep->model->tensors[ep->model->inputs[0]]);
    const size_t out = ep_tensor_size(&ep->model->tensors[ep->model->outputs[0]]);
    const uint8_t *from = x;
    uint8_t *to = y;
    while (n > 0) {
        const uint32_t chunk = n < ep->batch ? n : ep->batch;
        memcpy(ep_input(ep, 0), from, in * chunk);
        ep_run(ep, chunk);
        memcpy(to, ep_output(ep, 0), out * chunk);
        from += in * chunk;
        to += out * chunk;
        n -= chunk;
    }
    return EP_OK;
}

int ep_infer(ep_t *ep, const void *x, void *y)
{
    return ep_infer_batch(ep, x, y, 1);
}

const float *ep_params(const ep_t *ep, uint32_t *count)
{
    if (!ep || !ep->model || ep->params_at == EP_NONE) {
        return NULL;
    }
    if (count) {
        *count = ep->model->param_bytes / 4u;
    }
    return (const float *)(const void *)(ep->arena + ep->params_at);
}

int ep_set_params(ep_t *ep, const float *values, uint32_t count)
{
    if (!ep || !ep->model || !values || ep->params_at == EP_NONE || count != ep->model->param_bytes / 4u) {
        return EP_ERR_ARG;
    }
    if (!(ep_max_abs(values, count) <= FLT_MAX)) {
        return EP_ERR_DIVERGED;
    }
    memmove(ep->arena + ep->params_at, values, ep->model->param_bytes);
    ep_params_changed(ep);
    return EP_OK;
}
