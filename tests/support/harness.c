/* Runs one op forward, backward and for its weights' gradients on given arrays, in place of the core. Not part of the library.
 *
 * Every operand gets memory of its own, of exactly its size when a sanitizer watches, else with a pattern behind it that must stay. */
#include "../../csrc/internal.h"

#include "harness.h"

#include <stdlib.h>
#include <string.h>

#define MAX_OPERANDS 12

#if defined(__SANITIZE_ADDRESS__)
#define GUARD 0
#elif defined(__has_feature)
#if __has_feature(address_sanitizer)
#define GUARD 0
#endif
#endif
#ifndef GUARD
#define GUARD 64
#endif

typedef struct memory { /* what ep_t.arena points to */
    uint8_t *value[MAX_OPERANDS];
    float *gradient[MAX_OPERANDS];
    size_t value_size[MAX_OPERANDS], gradient_size[MAX_OPERANDS];
    uint8_t *scratch;
} memory;

struct ep_sink {
    operand *operands;
    int adds;
    int faults;
};

void *ep_tensor_ptr(const ep_t *ep, uint16_t index)
{
    return ((const memory *)(const void *)ep->arena)->value[index];
}

int ep_has_place(const ep_t *ep, uint16_t index)
{
    (void)ep, (void)index;
    return 1;
}

float *ep_gradient_ptr(const ep_t *ep, uint16_t index)
{
    return ((const memory *)(const void *)ep->arena)->gradient[index];
}

void *ep_scratch(const ep_t *ep)
{
    return ((const memory *)(const void *)ep->arena)->scratch;
}

/* Every element may be added to, so all count as handed over. */
float *ep_sink_sums(const ep_t *ep, const ep_sink *sink, uint16_t index)
{
    const operand *o = &sink->operands[index];
    for (uint32_t i = 0; sink->adds && o->emitted != NULL && i < ep->model->tensors[index].count; i++) {
        o->emitted[i]++;
    }
    return sink->adds ? o->gradient : NULL;
}

int ep_sink_adds(const ep_sink *sink)
{
    return sink->adds;
}

void ep_emit(const ep_t *ep, const ep_sink *sink, uint16_t index, uint32_t first, uint32_t count, float a,
             const float *g)
{
    const ep_tensor *t = &ep->model->tensors[index];
    operand *o = &sink->operands[index];
    if (!(t->flags & EP_PARAM) || o->gradient == NULL || count > t->count || first > t->count - count) {
        ((ep_sink *)(uintptr_t)sink)->faults++;
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        o->gradient[first + i] += a * g[i];
        if (o->emitted != NULL) {
            o->emitted[first + i]++;
        }
    }
}

void ep_emit_rank_one(const ep_t *ep, const ep_sink *sink, uint16_t index, uint32_t rows, uint32_t count,
                      const float *a, const float *g)
{
    for (uint32_t r = 0; r < rows; r++) {
        ep_emit(ep, sink, index, r * count, count, a[r], g);
    }
}

typedef struct row {
    const char *name;
    const ep_op *op;
    const ep_grad *grad;
    int (*check)(const ep_model *model, const ep_node *node);
} row;

#define GRAD_G(name) &ep_##name##_grad
#define GRAD_N(name) NULL
#define ROW(code, name, attr, grad) {#name, &ep_##name, GRAD_##grad(name), ep_check_##name},
static const row table[] = {EP_OPS(ROW)};

static const row *find(const char *name)
{
    for (size_t i = 0; i < sizeof table / sizeof *table; i++) {
        if (strcmp(table[i].name, name) == 0) {
            return &table[i];
        }
    }
    return NULL;
}

static size_t element_size(int32_t dtype)
{
    return dtype == EP_F32 || dtype == EP_I32 ? 4 : 1;
}

static void *block(size_t size)
{
    uint8_t *p = malloc(size + GUARD);
    if (p == NULL) {
        abort();
    }
    memset(p, 0x7F, size + GUARD);
    return p;
}

static int intact(const uint8_t *p, size_t size)
{
    for (size_t i = size; i < size + GUARD; i++) {
        if (p[i] != 0x7F) {
            return 0;
        }
    }
    return 1;
}

/* Memory of operand i, or that of the one it lies over. */
static void place_value(memory *m, const operand *o, int i, uint32_t n)
{
    const int weight = o[i].flags != 0;
    m->value_size[i] = o[i].count * element_size(o[i].dtype) * (weight ? 1 : n);
    m->value[i] = o[i].place_of >= 0 ? m->value[o[i].place_of] : block(m->value_size[i]);
    if (o[i].data != NULL && o[i].place_of < 0) {
        memcpy(m->value[i], o[i].data, m->value_size[i]);
    }
}

static void place_gradient(memory *m, const operand *o, int i, uint32_t n)
{
    m->gradient_size[i] = (size_t)o[i].count * 4 * n;
    if (o[i].flags == 0 && o[i].gradient != NULL) {
        m->gradient[i] = o[i].gradient_of >= 0 ? m->gradient[o[i].gradient_of] : block(m->gradient_size[i]);
    }
}

/* An output's value may lie over an input's, an input's gradient over an output's: the owner is placed first. */
static void place(memory *m, const operand *o, int count, uint32_t n)
{
    for (int i = 0; i < count; i++) {
        place_value(m, o, i, n);
        place_gradient(m, o, count - 1 - i, n);
    }
}

/* Copies a gradient in before the backward (direction 0) or out after it. */
static void copy_gradients(const memory *m, const operand *o, int count, int out, uint8_t accumulate, int n_in)
{
    for (int i = 0; i < count; i++) {
        if (m->gradient[i] == NULL) {
            continue;
        }
        if (out) {
            memcpy(o[i].gradient, m->gradient[i], m->gradient_size[i]);
        } else if (i >= n_in || (accumulate >> i & 1)) {
            memcpy(m->gradient[i], o[i].gradient, m->gradient_size[i]);
        }
    }
}

/* Frees all; RUN_OUTSIDE if something was written behind a block. */
static int release(memory *m, const operand *o, int count)
{
    int rc = 0;
    for (int i = 0; i < count; i++) {
        if (o[i].place_of < 0) {
            rc |= intact(m->value[i], m->value_size[i]) ? 0 : RUN_OUTSIDE;
            free(m->value[i]);
        }
        if (m->gradient[i] != NULL && o[i].gradient_of < 0) {
            rc |= intact((const uint8_t *)m->gradient[i], m->gradient_size[i]) ? 0 : RUN_OUTSIDE;
            free(m->gradient[i]);
        }
    }
    return rc;
}

static void run(const ep_t *ep, const ep_node *node, const run_args *args, run_result *result)
{
    const memory *m = (const memory *)(const void *)ep->arena;
    ep_sink sink = {args->operands, args->sums, 0};
    if (args->phases & RUN_FORWARD) {
        node->op->forward(ep, node, args->n);
    }
    for (int i = args->n_in; i < args->n_in + args->n_out; i++) {
        if (args->operands[i].data != NULL) {
            memcpy(args->operands[i].data, m->value[i], m->value_size[i]);
        }
    }
    if (args->phases & RUN_BACKWARD) {
        copy_gradients(m, args->operands, args->n_in + args->n_out, 0, node->accumulate, args->n_in);
        node->grad->backward(ep, node, args->n);
    }
    if ((args->phases & RUN_PARAMS) && node->grad->params != NULL) {
        result->bound = node->grad->bound(ep, node, args->n);
        node->grad->params(ep, node, args->n, &sink);
    }
    if (args->phases & RUN_BACKWARD) {
        copy_gradients(m, args->operands, args->n_in + args->n_out, 1, 0, 0);
    }
    result->faults = sink.faults;
}

/* The table to count to, in place of EP_TEST_KERNELS; -1: not set. */
static int kernels_turn = -1;

/* The table that kernels_turn or EP_TEST_KERNELS counts to, over and over; the best where neither is set. */
static const ep_kernels *chosen(void)
{
#ifdef EP_DISPATCH
    const char *text = getenv("EP_TEST_KERNELS");
    unsigned count = 0;
    while (ep_list_kernels(count) != NULL) {
        count++;
    }
    if (kernels_turn >= 0 || text != NULL) {
        return ep_list_kernels((unsigned)(kernels_turn >= 0 ? kernels_turn : atoi(text)) % count);
    }
#else
    (void)kernels_turn;
#endif
    return ep_best_kernels();
}

int run_node(const char *name, const void *attr, const run_args *args, run_result *result)
{
    const row *r = find(name);
    const int count = args->n_in + args->n_out;
    ep_tensor tensors[MAX_OPERANDS];
    uint16_t io[MAX_OPERANDS];
    memory m;
    if (r == NULL || count > MAX_OPERANDS || (r->grad == NULL && args->phases > RUN_FORWARD)) {
        return RUN_UNKNOWN;
    }
    memset(tensors, 0, sizeof tensors);
    memset(&m, 0, sizeof m);
    for (int i = 0; i < count; i++) {
        const operand *o = &args->operands[i];
        tensors[i].data = o->flags != 0 ? o->data : NULL;
        tensors[i].count = o->count;
        tensors[i].scale = o->scale;
        tensors[i].zero_point = (int16_t)o->zero_point;
        tensors[i].dtype = (uint8_t)o->dtype;
        tensors[i].flags = (uint8_t)o->flags;
        io[i] = (uint16_t)(o->same_as >= 0 ? o->same_as : i);
    }
    const ep_node node = {r->op,
                          args->phases > RUN_FORWARD ? r->grad : NULL,
                          attr,
                          io,
                          (uint8_t)args->n_in,
                          (uint8_t)args->n_out,
                          args->accumulate};
    const ep_model model = {.abi = EP_ABI,
                            .tensors = tensors,
                            .nodes = &node,
                            .n_tensors = (uint16_t)count,
                            .n_nodes = 1,
                            .scratch_bytes = args->scratch_bytes};
    const ep_t ep = {.model = &model, .kernels = chosen(), .arena = (uint8_t *)(void *)&m, .batch = args->n};
    int rc = r->check(&model, &node);
    if (rc != EP_OK || args->phases == 0) {
        return rc;
    }
    m.scratch = block(args->scratch_bytes);
    place(&m, args->operands, count, args->n);
    run(&ep, &node, args, result);
    rc = release(&m, args->operands, count);
    rc = intact(m.scratch, args->scratch_bytes) ? rc : RUN_OUTSIDE;
    free(m.scratch);
    return rc != 0 ? rc : result->faults != 0 ? RUN_EMIT : 0;
}
