/* Runs one op of the runtime on arrays, for tests: builds a model of one node around them. Not part of the library.
 *
 * Activations are laid into an arena at 16-byte places; the bytes around each are a pattern that the op must leave
 * alone. */
#include "../../csrc/internal.h"

#include <stdlib.h>
#include <string.h>

#define MAX_TENSORS 8
#define GUARD 64

typedef struct operand {
    void *data;     /* inputs: read; outputs: written */
    uint32_t count; /* elements, of one sample for an activation */
    float scale;
    int32_t zero_point;
    int32_t dtype;
    int32_t constant; /* 1 EP_CONST, 2 EP_PARAM */
    int32_t place_of; /* outputs: index of the input whose memory they share, or -1 */
} operand;

#ifndef EP_LINKED_WITH_CORE
void *ep_tensor_ptr(const ep_t *ep, uint16_t index)
{
    const ep_tensor *t = &ep->model->tensors[index];
    return t->data != NULL ? (void *)(uintptr_t)t->data : ep->arena + (size_t)t->offset * ep->batch;
}
#endif

#define ROW(code, name, attr, grad) {#name, &ep_##name, ep_check_##name},
static const struct {
    const char *name;
    const ep_op *op;
    int (*check)(const ep_model *model, const ep_node *node);
} table[] = {RUN_OPS(ROW)};

static size_t element_size(int32_t dtype)
{
    return dtype == EP_F32 || dtype == EP_I32 ? 4 : 1;
}

/* Gives every activation a place and returns the arena's size in bytes per sample. */
static uint32_t place(ep_tensor *tensors, const operand *args, unsigned count)
{
    uint32_t at = GUARD;
    for (unsigned i = 0; i < count; i++) {
        if (args[i].constant) {
            continue;
        }
        if (args[i].place_of >= 0) {
            tensors[i].offset = tensors[args[i].place_of].offset;
            continue;
        }
        tensors[i].offset = at;
        at += (uint32_t)((args[i].count * element_size(args[i].dtype) + 15) / 16 * 16) + GUARD;
    }
    return at;
}

/* Runs `op` on n samples. 0; a negative EP_ERR_* of its check; 1 no such op; 2 it wrote outside its output. */
int run_op(const char *op, const void *attr, operand *args, unsigned n_in, unsigned n_out, uint32_t n, int check_only)
{
    ep_tensor tensors[MAX_TENSORS] = {{0}};
    uint16_t io[MAX_TENSORS];
    const unsigned count = n_in + n_out;
    for (unsigned i = 0; i < count; i++) {
        const ep_tensor t = {args[i].constant ? args[i].data : NULL,
                             args[i].count,
                             EP_NONE,
                             args[i].scale,
                             (int16_t)args[i].zero_point,
                             (uint8_t)args[i].dtype,
                             (uint8_t)args[i].constant};
        tensors[i] = t;
        io[i] = (uint16_t)i;
    }
    const uint32_t bytes = place(tensors, args, count);
    unsigned row = 0;
    while (row < sizeof table / sizeof *table && strcmp(table[row].name, op) != 0) {
        row++;
    }
    if (row == sizeof table / sizeof *table) {
        return 1;
    }
    const ep_node node = {table[row].op, NULL, attr, io, (uint8_t)n_in, (uint8_t)n_out, 0};
    const ep_model model = {
        .abi = EP_ABI, .tensors = tensors, .nodes = &node, .n_tensors = (uint16_t)count, .n_nodes = 1};
    int rc = table[row].check(&model, &node);
    if (rc != 0 || check_only) {
        return rc;
    }
    uint8_t *arena = malloc((size_t)bytes * n), *before = malloc((size_t)bytes * n);
    memset(arena, 0xA5, (size_t)bytes * n);
    const ep_t ep = {
        .model = &model, .kernels = ep_best_kernels(), .arena = arena, .size = (size_t)bytes * n, .batch = n};
    for (unsigned i = 0; i < n_in; i++) {
        if (!args[i].constant) {
            memcpy(ep_tensor_ptr(&ep, io[i]), args[i].data, args[i].count * element_size(args[i].dtype) * n);
        }
    }
    memcpy(before, arena, (size_t)bytes * n);
    node.op->forward(&ep, &node, n);
    for (unsigned i = n_in; i < count; i++) {
        uint8_t *y = ep_tensor_ptr(&ep, io[i]);
        const size_t size = args[i].count * element_size(args[i].dtype) * n;
        memcpy(args[i].data, y, size);
        memcpy(y, before + (y - arena), size);
    }
    rc = memcmp(arena, before, (size_t)bytes * n) == 0 ? 0 : 2;
    free(arena);
    free(before);
    return rc;
}

#include "../../csrc/kernels/fma.h"

/* y = a * b + c, in integers if `soft`, else as the compiler and library do it. */
void run_fma(const float *a, const float *b, const float *c, float *y, uint32_t count, int soft)
{
    for (uint32_t i = 0; i < count; i++) {
        y[i] = soft ? ep_soft_fma(a[i], b[i], c[i]) : fmaf(a[i], b[i], c[i]);
    }
}

#ifdef RUN_OP_MAIN
#include <stdio.h>

static void get(void *p, size_t size, FILE *file)
{
    if (size > 0 && fread(p, size, 1, file) != 1) {
        exit(3);
    }
}

/* For boards and emulators: a call of run_op() read from the file of the first argument, its results written to the
 * second's. In: op (32 bytes), u32 attribute bytes (0: none), n_in, n_out, n, check_only; attributes; per operand
 * its six numbers and bytes (u32) of data, then the data. Out: i32 result, then the outputs' data. */
int main(int argc, char **argv)
{
    char op[32];
    uint32_t head[5], attr[32], size[MAX_TENSORS];
    operand args[MAX_TENSORS];
    FILE *in = argc > 2 ? fopen(argv[1], "rb") : NULL, *out = argc > 2 ? fopen(argv[2], "wb") : NULL;
    if (in == NULL || out == NULL) {
        return 2;
    }
    get(op, sizeof op, in);
    get(head, sizeof head, in);
    get(attr, head[0], in);
    for (uint32_t i = 0; i < head[1] + head[2]; i++) {
        get(&args[i].count, sizeof(operand) - offsetof(operand, count), in);
        get(&size[i], sizeof size[i], in);
        args[i].data = malloc(size[i] + 16);
        get(args[i].data, size[i], in);
    }
    const int32_t rc = run_op(op, head[0] > 0 ? attr : NULL, args, head[1], head[2], head[3], (int)head[4]);
    fwrite(&rc, sizeof rc, 1, out);
    for (uint32_t i = head[1]; i < head[1] + head[2]; i++) {
        fwrite(args[i].data, size[i], 1, out);
    }
    return fclose(out);
}
#endif
