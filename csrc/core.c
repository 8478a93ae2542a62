/* Bind a model to an arena, and run it: layout, weights, states, inference. */
#include <float.h>
#include <string.h>

#include "internal.h"

#define ARENA_LIMIT 0x80000000u /* bytes; places in the arena fit 32 bits */

/* ---- The arena --------------------------------------------------------------------------------------------------- */

/* Where its parts begin, in bytes. */
typedef struct layout {
    uint64_t acts, scratch, tail;
} layout;

static uint32_t larger(uint32_t a, uint32_t b)
{
    return a > b ? a : b;
}

/* At batch <= ARENA_LIMIT the largest product, 2^31 * 2^32, stays within 64 bits. */
static layout lay_out(const ep_model *model, uint32_t batch, unsigned what)
{
    uint32_t acts = model->infer_bytes, scratch = model->scratch_bytes;
    layout at;
    if (what & EP_FOR_TRAIN) {
        acts = larger(acts, model->train->bytes);
        scratch = larger(scratch, model->train->scratch_bytes);
    }
    at.acts = what ? ep_align_up(model->param_bytes) : 0;
    at.scratch = at.acts + batch * ep_align_up(acts);
    at.tail = at.scratch + ep_align_up(scratch);
    return at;
}

/* What the bits ask for, with what they imply. */
static unsigned implied(unsigned what)
{
    return what & EP_FOR_SUMS ? what | EP_FOR_TRAIN : what;
}

/* 1 if the model, and this build, has what the bits ask for. */
static int offers(const ep_model *model, unsigned what)
{
    if (what == 0) return 1;
#ifdef EP_NO_TRAIN
    if (what & EP_FOR_TRAIN) return 0;
#endif
    return model->param_bytes != 0 && (!(what & EP_FOR_TRAIN) || model->train != NULL);
}

/* Bytes of all that is asked for, and where the parts lie; 0 as ep_arena_size(). */
static size_t measure(const ep_model *model, uint32_t batch, unsigned what, const ep_optimizer *optimizer, layout *at)
{
    unsigned parts = what & EP_FOR_SUMS ? 1 : 0;
    uint64_t size;
    if (batch == 0 || batch > ARENA_LIMIT || what > 7 || !offers(model, what)) return 0;
    if ((what & EP_FOR_TRAIN) && optimizer != NULL) parts += optimizer->slots;
    *at = lay_out(model, batch, what);
    size = at->tail + parts * ep_align_up(model->param_bytes);
    return size > ARENA_LIMIT ? 0 : (size_t)size;
}

size_t ep_arena_size(const ep_model *model, uint32_t batch, unsigned what, const ep_optimizer *optimizer)
{
    layout at;
    return model == NULL ? 0 : measure(model, batch, implied(what), optimizer, &at);
}

static int check_init(const ep_t *ep, const ep_model *model, const void *arena)
{
    if (ep == NULL || model == NULL || arena == NULL) return EP_ERR_ARG;
    if ((uintptr_t)arena % EP_ALIGN != 0) return EP_ERR_ALIGN;
    return model->abi == EP_ABI ? EP_OK : EP_ERR_ABI;
}

/* All arguments are checked: `size` bytes hold the parts that `what` asks for. */
static void bind(ep_t *ep, const ep_model *model, void *arena, size_t size, uint32_t batch, unsigned what,
                 const layout *at)
{
    memset(ep, 0, sizeof *ep);
    ep->model = model;
    ep->kernels = ep_best_kernels();
    ep->arena = (uint8_t *)arena;
    ep->size = size < ARENA_LIMIT ? size : ARENA_LIMIT;
    ep->batch = batch;
    ep->what = what;
    ep->params_at = what ? 0 : EP_NONE;
    ep->acts_at = (uint32_t)at->acts;
    ep->scratch_at = (uint32_t)at->scratch;
    ep->tail_at = (uint32_t)at->tail;
    ep->sums_at = what & EP_FOR_SUMS ? ep->tail_at : EP_NONE;
    memset(ep->arena + ep->acts_at, 0, ep->scratch_at - ep->acts_at); /* states begin at zero */
    ep_reset(ep);
}

int ep_init(ep_t *ep, const ep_model *model, void *arena, size_t size)
{
    layout at;
    int rc = check_init(ep, model, arena);
    if (rc != EP_OK) return rc;
    for (unsigned what = EP_FOR_TRAIN;; what >>= 1) { /* richest first: then EP_FOR_RESTORE, then neither */
        const size_t need = measure(model, 1, what, NULL, &at);
        if (need != 0 && need <= size) {
            bind(ep, model, arena, size, 1, what, &at);
            return EP_OK;
        }
        if (what == 0) return EP_ERR_ARENA;
    }
}

int ep_init_batch(ep_t *ep, const ep_model *model, void *arena, size_t size, uint32_t batch, unsigned what,
                  const ep_optimizer *optimizer)
{
    layout at;
    size_t need;
    int rc = check_init(ep, model, arena);
    if (rc != EP_OK) return rc;
    what = implied(what);
    if (what <= 7 && !offers(model, what)) return EP_ERR_FROZEN;
    need = measure(model, batch, what, optimizer, &at);
    if (need == 0) return EP_ERR_ARG;
    if (need > size) return EP_ERR_ARENA;
    bind(ep, model, arena, need, batch, what, &at);
    return EP_OK;
}

/* ---- Where things lie -------------------------------------------------------------------------------------------- */

size_t ep_tensor_size(const ep_tensor *tensor)
{
    return tensor->dtype == EP_F32 || tensor->dtype == EP_I32 ? (size_t)tensor->count * 4 : tensor->count;
}

/* An activation's place is per sample, and samples of one tensor lie side by side: hence offset * capacity. */
static uint8_t *activation(const ep_t *ep, uint32_t offset)
{
    return ep->arena + ep->acts_at + (size_t)ep->batch * offset;
}

void *ep_tensor_ptr(const ep_t *ep, uint16_t index)
{
    const ep_tensor *tensor = &ep->model->tensors[index];
    if (tensor->flags == 0) return activation(ep, ep->offset != NULL ? ep->offset[index] : tensor->offset);
    if ((tensor->flags & EP_PARAM) && ep->params_at != EP_NONE) return ep->arena + ep->params_at + tensor->offset;
    return (void *)(uintptr_t)tensor->data; /* read only; the cast keeps one function for all */
}

int ep_has_place(const ep_t *ep, uint16_t index)
{
    const ep_tensor *tensor = &ep->model->tensors[index];
    return tensor->flags != 0 || (ep->offset != NULL ? ep->offset[index] : tensor->offset) != EP_NONE;
}

float *ep_gradient_ptr(const ep_t *ep, uint16_t index)
{
    const ep_train *train = ep->model->train;
    if (train == NULL || train->grad_offset[index] == EP_NONE) return NULL;
    return (float *)(void *)activation(ep, train->grad_offset[index]);
}

void *ep_scratch(const ep_t *ep)
{
    return ep->arena + ep->scratch_at;
}

/* ---- Weights ----------------------------------------------------------------------------------------------------- */

void ep_weights_replaced(ep_t *ep)
{
    ep->weight_bound = INFINITY; /* unknown: the next step looks */
    ep->optimizer = NULL;
    ep->state_at = EP_NONE;
    ep->updates = 0;
    ep->samples = 0;
    ep->doubt = 0;
}

int ep_reset(ep_t *ep)
{
    const ep_model *model;
    if (ep == NULL || ep->model == NULL) return EP_ERR_ARG;
    ep_weights_replaced(ep);
    if (ep->params_at == EP_NONE) return EP_OK;
    model = ep->model;
    memset(ep->arena + ep->params_at, 0, model->param_bytes); /* gaps between tensors too */
    for (uint16_t i = 0; i < model->n_tensors; i++) {
        const ep_tensor *tensor = &model->tensors[i];
        if (!(tensor->flags & EP_PARAM)) continue;
        memcpy(ep->arena + ep->params_at + tensor->offset, tensor->data, ep_tensor_size(tensor));
    }
    return EP_OK;
}

const float *ep_params(const ep_t *ep, uint32_t *count)
{
    int there = ep != NULL && ep->model != NULL && ep->params_at != EP_NONE;
    if (count != NULL) *count = there ? ep->model->param_bytes / 4 : 0;
    return there ? ep_weights(ep) : NULL;
}

int ep_set_params(ep_t *ep, const float *values, uint32_t count)
{
    uint32_t have;
    if (values == NULL || ep_params(ep, &have) == NULL || have != count) return EP_ERR_ARG;
    if (!(EP_KERNEL(ep, max_abs_f32)(values, count) <= FLT_MAX)) return EP_ERR_DIVERGED;
    memcpy(ep_weights(ep), values, (size_t)count * sizeof *values);
    ep->weight_bound = INFINITY;
    ep->doubt = 0;
    return EP_OK;
}

/* ---- States ------------------------------------------------------------------------------------------------------ */

int ep_reset_state(ep_t *ep)
{
    const ep_model *model;
    if (ep == NULL || ep->model == NULL) return EP_ERR_ARG;
    model = ep->model;
    for (uint16_t i = 0; i < model->n_states; i++) {
        const uint16_t state = model->states[2 * i];
        memset(ep_tensor_ptr(ep, state), 0, ep->batch * ep_tensor_size(&model->tensors[state]));
    }
    return EP_OK;
}

/* After a run of n samples: what follows each state takes its place. */
static void move_on(const ep_t *ep, uint32_t n)
{
    const ep_model *model = ep->model;
    for (uint16_t i = 0; i < model->n_states; i++) {
        const uint16_t *pair = model->states + 2 * i;
        memmove(ep_tensor_ptr(ep, pair[0]), ep_tensor_ptr(ep, pair[1]), n * ep_tensor_size(&model->tensors[pair[0]]));
    }
}

/* ---- Inference --------------------------------------------------------------------------------------------------- */

void ep_forward(const ep_t *ep, uint16_t end, uint32_t n)
{
    const ep_node *nodes = ep->model->nodes;
    for (uint16_t i = 0; i < end; i++) {
        nodes[i].op->forward(ep, &nodes[i], n);
#ifdef EP_TRACE
        if (ep->trace != NULL) ep->trace(ep->trace_user, ep, i, 0);
#endif
    }
}

/* Its highest bit is set if the exponent of the float there is that of infinity and NaN. */
static uint32_t excess(const uint8_t *from)
{
    uint32_t bits;
    memcpy(&bits, from, sizeof bits);
    return (bits & 0x7FFFFFFFu) + 0x00800000u;
}

int ep_finite(const void *values, size_t count)
{
    const uint8_t *from = (const uint8_t *)values, *const end = from + 4 * (count & ~(size_t)1);
    uint32_t seen = count & 1 ? excess(end) : 0;
    for (; from != end; from += 8) seen |= excess(from) | excess(from + 4);
    return seen >> 31 == 0;
}

int ep_quantizes(const ep_model *model)
{
    for (uint16_t i = 0; i < model->n_nodes; i++) {
        const uint16_t *io = model->nodes[i].io;
        const uint8_t to = model->tensors[io[1]].dtype;
        if (model->tensors[io[0]].dtype == EP_F32 && (to == EP_I8 || to == EP_U8)) return 1;
    }
    return 0;
}

/* Whether input i, n samples at `x`, may be run. */
static int check_input(const ep_model *model, unsigned i, const void *x, uint32_t n)
{
#ifndef EP_NO_INPUT_CHECK
    const ep_tensor *input = &model->tensors[model->inputs[i]];
    if (input->dtype == EP_F32 && ep_quantizes(model) && !ep_finite(x, (size_t)n * input->count)) return EP_ERR_INPUT;
#else
    (void)model, (void)i, (void)x, (void)n;
#endif
    return EP_OK;
}

int ep_infer(ep_t *ep, const void *x, void *y)
{
    return ep_infer_batch(ep, x, y, 1);
}

int ep_infer_batch(ep_t *ep, const void *x, void *y, uint32_t n)
{
    const uint8_t *from = (const uint8_t *)x;
    uint8_t *to = (uint8_t *)y;
    const ep_model *model;
    size_t x_bytes, y_bytes;
    int rc;
    if (ep == NULL || ep->model == NULL || x == NULL || y == NULL || n == 0) return EP_ERR_ARG;
    model = ep->model;
    if (model->n_inputs != 1 || model->n_outputs != 1) return EP_ERR_ARG;
    rc = check_input(model, 0, x, n);
    if (rc != EP_OK) return rc;
    x_bytes = ep_tensor_size(&model->tensors[model->inputs[0]]);
    y_bytes = ep_tensor_size(&model->tensors[model->outputs[0]]);
    while (n != 0) {
        uint32_t take = n < ep->batch ? n : ep->batch;
        memcpy(ep_tensor_ptr(ep, model->inputs[0]), from, take * x_bytes);
        ep_forward(ep, model->n_nodes, take);
        memcpy(to, ep_tensor_ptr(ep, model->outputs[0]), take * y_bytes);
        move_on(ep, take);
        from += take * x_bytes;
        to += take * y_bytes;
        n -= take;
    }
    return EP_OK;
}

void *ep_input(ep_t *ep, unsigned i)
{
    if (ep == NULL || ep->model == NULL || i >= ep->model->n_inputs) return NULL;
    return ep_tensor_ptr(ep, ep->model->inputs[i]);
}

int ep_run(ep_t *ep, uint32_t n)
{
    if (ep == NULL || ep->model == NULL || n == 0 || n > ep->batch) return EP_ERR_ARG;
    for (uint16_t i = 0; i < ep->model->n_inputs; i++) {
        int rc = check_input(ep->model, i, ep_tensor_ptr(ep, ep->model->inputs[i]), n);
        if (rc != EP_OK) return rc;
    }
    ep_forward(ep, ep->model->n_nodes, n);
    move_on(ep, n);
    return EP_OK;
}

const void *ep_output(const ep_t *ep, unsigned i)
{
    if (ep == NULL || ep->model == NULL || i >= ep->model->n_outputs) return NULL;
    return ep_tensor_ptr(ep, ep->model->outputs[i]);
}
