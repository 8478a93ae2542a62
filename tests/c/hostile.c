/* Feeds ep_load() images that somebody tampered with: `hostile IMAGE TURNS SEED`. Each turn changes a few bytes, or whole
 * words, or cuts the image, signs it anew, and gives it to the loader in memory of exactly its size. What is accepted is
 * run and trained, so that a sanitizer sees every read and write. Prints how many were accepted.
 *
 * `hostile PACK`: images as they are, each behind its size (u32). Prints what ep_load() says of each. */
#include "edgeprop.h"
#include "internal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state;

static uint32_t dice(uint32_t sides)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % sides;
}

static void *aligned(size_t size)
{
    void *memory = NULL; /* of exactly `size` bytes, so that one byte too many is seen */
    if (posix_memalign(&memory, EP_ALIGN, size ? size : 1) != 0) {
        abort();
    }
    return memory;
}

static void put_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++) {
        at[i] = (uint8_t)(v >> 8 * i);
    }
}

static void tamper(uint8_t *image, size_t size)
{
    static const uint32_t words[] = {0, 1, 2, 0x7F, 0x80, 0xFF, 0xFFFF, 0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0x7FC00000};
    for (uint32_t changes = 1 + dice(3); changes > 0; changes--) {
        const size_t at = dice(2) ? dice((uint32_t)size) : dice(size < 700 ? (uint32_t)size : 700);
        if (dice(2)) {
            image[at] ^= (uint8_t)(1u << dice(8));
        } else if (at + 4 <= size) {
            put_u32(image + (at & ~(size_t)3), words[dice(sizeof words / sizeof *words)]);
        }
    }
}

/* One of the processor's sets of kernels, not always the best. */
static void any_kernels(ep_t *ep)
{
#ifdef EP_DISPATCH
    uint32_t count = 0;
    while (ep_list_kernels(count) != NULL) {
        count++;
    }
    ep->kernels = ep_list_kernels(dice(count));
#else
    (void)ep;
#endif
}

/* Infers and learns in an arena of exactly the size asked for. */
static void use(const ep_model *model)
{
    const size_t size = ep_arena_size(model, 2, model->train ? EP_FOR_TRAIN | EP_FOR_SUMS : 0, &ep_adam);
    if (size == 0 || size > 1u << 24) {
        return;
    }
    ep_t ep;
    uint8_t *arena = aligned(size);
    memset(arena, 1, size);
    const unsigned what = model->train ? EP_FOR_TRAIN | EP_FOR_SUMS : 0;
    if (ep_init_batch(&ep, model, arena, size, 2, what, &ep_adam) == EP_OK) {
        any_kernels(&ep);
        ep_run(&ep, 2);
        if (model->train && model->n_inputs == 1) {
            const ep_tensor *in = &model->tensors[model->inputs[0]];
            const size_t logits = model->tensors[model->train->logits].count;
            void *x = calloc(2 * (size_t)in->count, 4), *target = calloc(2 * logits, 4);
            const ep_step sgd = {.lr = 0.1f}, adam = {.lr = 0.1f, .optimizer = &ep_adam};
            float loss;
            if (model->train->loss->labels) {
                ep_learn_label(&ep, x, 0, &sgd, &loss);
                ep_learn_label(&ep, x, 0, &adam, &loss);
                ep_learn_batch_labels(&ep, x, target, 2, &sgd, &loss);
            } else {
                ep_learn(&ep, x, target, &sgd, &loss);
                ep_learn(&ep, x, target, &adam, &loss);
                ep_learn_batch(&ep, x, target, 2, &sgd, &loss);
            }
            free(x);
            free(target);
        }
    }
    free(arena);
}

/* What ep_load() says, in memory of exactly the size asked for; what it accepts is used. */
static int load(const uint8_t *image, size_t size)
{
    ep_model model;
    const long need = ep_load_size(image, size);
    if (need < 0 || need >= 1 << 24) {
        return need < 0 ? (int)need : EP_ERR_ARENA;
    }
    void *memory = aligned((size_t)need);
    const int rc = ep_load(&model, image, size, memory, (size_t)need, &ep_all);
    if (rc == EP_OK) {
        use(&model);
    }
    free(memory);
    return rc;
}

static int load_pack(FILE *file)
{
    uint32_t size; /* as this machine writes it */
    for (long i = 0; fread(&size, sizeof size, 1, file) == 1; i++) {
        uint8_t *image = aligned(size);
        if (fread(image, 1, size, file) != size) {
            return 2;
        }
        printf("%ld ", i); /* first: a sanitizer's report then stands behind it */
        fflush(stdout);
        printf("%d\n", load(image, size));
        free(image);
    }
    fclose(file);
    return 0;
}

int main(int argc, char **argv)
{
    FILE *file = argc == 4 || argc == 2 ? fopen(argv[1], "rb") : NULL;
    if (!file) {
        return 2;
    }
    if (argc == 2) {
        return load_pack(file);
    }
    static uint8_t original[1 << 20];
    const size_t size = fread(original, 1, sizeof original, file);
    fclose(file);
    state = strtoull(argv[3], NULL, 10);
    long accepted = 0;
    for (long turn = strtol(argv[2], NULL, 10); turn > 0; turn--) {
        const size_t kept = dice(8) ? size : dice((uint32_t)size);
        uint8_t *image = aligned(kept);
        memcpy(image, original, kept);
        if (kept > 0) {
            tamper(image, kept);
        }
        if (kept >= 16 && dice(16)) {
            if (kept < size && dice(2)) {
                put_u32(image + 8, (uint32_t)kept);
            }
            put_u32(image + 12, ep_crc32(0, image + 16, kept - 16));
        }
        accepted += load(image, kept) == EP_OK;
        free(image);
    }
    printf("%ld\n", accepted);
    return 0;
}
