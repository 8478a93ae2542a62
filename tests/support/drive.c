/* Runs a model on generated samples and prints, as bits, all that comes out: for tests that compare two forms of a model.
 * Compiled with HEADER and MODEL (and MACROS with the sizes), or reads an image. Arguments: seed, steps, the image's file. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifdef HEADER
#include HEADER
#else
#include "edgeprop.h"
#endif

#define BYTES (1u << 20)
#define BATCH 3u

static EP_ALIGNED uint8_t arena[BYTES], image[BYTES], memory[BYTES];
static uint32_t state;

static uint32_t next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static void fill(const ep_tensor *t, void *to)
{
    for (uint32_t i = 0; i < t->count; i++) {
        if (t->dtype == EP_F32) {
            ((float *)to)[i] = (float)(int32_t)(next() % 2001u - 1000u) * 1e-3f;
        } else {
            ((uint8_t *)to)[i] = (uint8_t)next();
        }
    }
}

static void show(const char *what, const void *from, size_t bytes)
{
    const uint8_t *b = from;
    printf("%s ", what);
    for (size_t i = 0; i < bytes; i++) printf("%02x", (unsigned)b[i]);
    printf("\n");
}

static size_t bytes_of(const ep_tensor *t)
{
    return (size_t)t->count * (t->dtype == EP_F32 || t->dtype == EP_I32 ? 4u : 1u);
}

static void infer(const ep_model *model)
{
    ep_t ep;
    memset(arena, 0xA5, sizeof arena);
    printf("init %d\n", ep_init(&ep, model, arena, ep_arena_size(model, 1, 0, NULL)));
    for (int sample = 0; sample < 2; sample++) {
        for (unsigned i = 0; i < model->n_inputs; i++) fill(&model->tensors[model->inputs[i]], ep_input(&ep, i));
        printf("run %d\n", ep_run(&ep, 1));
        for (unsigned i = 0; i < model->n_outputs; i++) {
            show("y", ep_output(&ep, i), bytes_of(&model->tensors[model->outputs[i]]));
        }
    }
}

#ifndef EP_NO_TRAIN
static const ep_optimizer *const optimizers[] = {&ep_sgd, &ep_momentum, &ep_adam};

/* The target as the model's loss takes it. */
static int learn_as_taken(ep_t *ep, const float *x, const float *target, uint32_t batch, const ep_step *step,
                          float *loss)
{
    const int32_t *labels = (const int32_t *)(const void *)target;
    if (!ep->model->train->loss->labels) {
        return batch > 1 ? ep_learn_batch(ep, x, target, batch, step, loss) : ep_learn(ep, x, target, step, loss);
    }
    if (batch > 1) return ep_learn_batch_labels(ep, x, labels, batch, step, loss);
    return ep_learn_label(ep, x, labels[0], step, loss);
}

static void learn(const ep_model *model, int steps, uint32_t batch, const ep_optimizer *optimizer)
{
    static EP_ALIGNED float x[BYTES / 16], target[BATCH * 4096];
    const ep_tensor *input = &model->tensors[model->inputs[0]], *logits = &model->tensors[model->train->logits];
    const unsigned what = batch > 1 ? EP_FOR_SUMS : EP_FOR_TRAIN;
    const ep_step step = {.lr = 0.05f, .optimizer = optimizer, .weight_decay = 0.01f};
    ep_t ep;
    uint32_t count;
    memset(arena, 0xA5, sizeof arena);
    printf("init %d\n",
           ep_init_batch(&ep, model, arena, ep_arena_size(model, batch, what, optimizer), batch, what, optimizer));
    for (int i = 0; i < steps; i++) {
        float loss = 0;
        int rc;
        for (uint32_t k = 0; k < batch; k++) {
            fill(input, (uint8_t *)x + k * bytes_of(input));
            for (uint32_t j = 0; j < logits->count; j++) target[k * logits->count + j] = (float)(next() % 3u) / 2.0f;
        }
        for (uint32_t k = 0; model->train->loss->labels && k < batch; k++) {
            const int32_t label = (int32_t)(next() % logits->count);
            memcpy(target + k, &label, 4);
        }
        rc = learn_as_taken(&ep, x, target, batch, &step, &loss);
        printf("learn %d\n", rc);
        show("loss", &loss, sizeof loss);
    }
    const float *params = ep_params(&ep, &count);
    show("params", params, 4u * count);
}
#endif

static void sizes(const ep_model *model)
{
#ifdef EP_NO_TRAIN
    const ep_optimizer *optimizer = NULL;
#else
    const ep_optimizer *optimizer = &ep_adam;
#endif
    printf("fingerprint %08x %08x name %s\n", model->fingerprint[0], model->fingerprint[1], model->name);
    for (unsigned what = 0; what < 8; what++) {
        printf("arena %u: %zu %zu\n", what, ep_arena_size(model, 1, what, NULL),
               ep_arena_size(model, 5, what, optimizer));
    }
}

static int run(const ep_model *model, int steps)
{
    sizes(model);
    infer(model);
    (void)steps;
#ifndef EP_NO_TRAIN
    for (unsigned i = 0; model->train && model->n_inputs == 1 && i < 3; i++) {
        learn(model, steps, 1, optimizers[i]);
        learn(model, steps, BATCH, optimizers[i]);
    }
#endif
    return 0;
}

int main(int argc, char **argv)
{
    if (argc < 3) return 2;
    state = (uint32_t)atoi(argv[1]);
#ifdef HEADER
    (void)image, (void)memory;
    return run(&MODEL, atoi(argv[2]));
#else
    ep_model model;
    FILE *file = argc > 3 ? fopen(argv[3], "rb") : NULL;
    if (!file) return 2;
    const size_t size = fread(image, 1, sizeof image, file);
    const int rc = ep_load(&model, image, size, memory, sizeof memory, &ep_all);
    fclose(file);
    if (rc != EP_OK) {
        fprintf(stderr, "ep_load: %d %s\n", rc, ep_error(rc));
        return 1;
    }
    return run(&model, atoi(argv[2]));
#endif
}
