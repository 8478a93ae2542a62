/* Images changed at random and signed again: whatever ep_load() accepts must run and learn without a sanitizer's report.
 *     fuzz_load [rounds] [seed] */
#include <time.h>

#include "zoo.h"

enum { ARENA_MAX = 1 << 20 };

static net m;
static int accepted, ran, learned;

static uint32_t below(uint32_t n)
{
    return random_u32() % n;
}

/* A number that is likely to be near some border. */
static uint32_t interesting(uint32_t now)
{
    static const uint32_t values[] = {0,
                                      1,
                                      2,
                                      3,
                                      4,
                                      5,
                                      8,
                                      16,
                                      32,
                                      0x7F,
                                      0xFF,
                                      0x7FFF,
                                      0xFFFF,
                                      0x7FFFFFFF,
                                      0x80000000,
                                      0xFFFFFFFF,
                                      0xFFFFFFF0,
                                      0x40000000,
                                      0x7FC00000 /* NaN */,
                                      0x7F800000 /* inf */,
                                      0x00000001};
    switch (below(6)) {
    case 0: return values[below(sizeof values / sizeof values[0])];
    case 1: return now + below(3) - 1;
    case 2: return now + 16 * (below(9) - 4);
    case 3: return now ^ 1u << below(32);
    case 4: return below(2) ? now * 2 : now / 2;
    default: return random_u32();
    }
}

/* Changes one field; mostly where structure is. */
static void mutate(image *im)
{
    const uint32_t from[] = {8, im->tensors, im->nodes, im->io, im->words, im->train, im->data};
    const uint32_t to[] = {96, im->nodes, im->io, im->words, im->train, im->data, im->size};
    const uint32_t part = below(20) == 0 ? 6 : below(6), size = to[part] - from[part];
    uint32_t now, step = part == 3 ? 2 : 4;
    if (size < 4) return;
    uint32_t at = from[part] + below(size / step) * step;
    if (part == 1 || part == 2) at = from[part] + below(size); /* bytes and halves too */
    if (at + 4 > im->size) return;
    if (part == 3) {
        put(im, at, below(8) == 0 ? random_u32() : below(m.model.n_tensors + 1u), 2);
        return;
    }
    memcpy(&now, im->bytes + at, 4);
    if (below(8) == 0) {
        memcpy(&now, im->bytes + from[part] + below(size / 4) * 4, 4); /* what another field has */
        put(im, at, now, 4);
        return;
    }
    put(im, at, interesting(now), part == 1 || part == 2 ? 1 << below(3) : 4);
}

/* One input, one output: samples and targets of the model's own sizes. */
static void run_plain(ep_t *ep, const ep_model *model)
{
    enum { N = 4 };
    uint8_t *x = aligned(N * ep_tensor_size(&model->tensors[model->inputs[0]]));
    uint8_t *y = aligned(N * ep_tensor_size(&model->tensors[model->outputs[0]]));
    memset(x, 0x3D, N * ep_tensor_size(&model->tensors[model->inputs[0]]));
    CHECK_RC(ep_infer_batch(ep, x, y, N), EP_OK);
    if (ep->what & EP_FOR_TRAIN) {
        const uint32_t count = model->tensors[model->train->logits].count;
        float *target = aligned(N * sizeof(float) * count);
        memset(target, 0, N * sizeof(float) * count);
        const ep_step sgd = {.lr = 0.01f}, adam = {.lr = 0.01f, .optimizer = &ep_adam};
        learned += net_learn(ep, x, target, &sgd, NULL) == EP_OK;
        net_learn(ep, x, target, &adam, NULL);
        if (model->train->loss->labels) {
            ep_learn_batch_labels(ep, x, (const int32_t *)(const void *)target, N, &adam, NULL);
        } else {
            ep_learn_batch(ep, x, target, N, &adam, NULL);
        }
        free(target);
    }
    free(x), free(y);
}

/* One of the processor's sets of kernels, not always the best. */
static void any_kernels(ep_t *ep)
{
#ifdef EP_DISPATCH
    uint32_t count = 0;
    while (ep_list_kernels(count) != NULL) count++;
    ep->kernels = ep_list_kernels(below(count));
#else
    (void)ep;
#endif
}

static void run(const ep_model *model)
{
    ep_t ep;
    const uint32_t batch = 1 + below(3);
    const unsigned what = model->train != NULL ? EP_FOR_SUMS : 0;
    const size_t size = ep_arena_size(model, batch, what, &ep_adam);
    if (size == 0 || size > ARENA_MAX) return;
    void *arena = aligned(size);
    CHECK_RC(ep_init_batch(&ep, model, arena, size, batch, what, &ep_adam), EP_OK);
    any_kernels(&ep);
    CHECK_RC(ep_run(&ep, batch), EP_OK);
    if (model->n_inputs == 1 && model->n_outputs == 1) run_plain(&ep, model);
    free(arena);
    ran++;
}

/* In memory of just the right sizes. */
static void try_image(const image *im)
{
    ep_model model;
    const long need = ep_load_size(im->bytes, im->size);
    if (need < 0) return;
    void *memory = aligned((size_t)need);
    uint8_t *name;
    if (ep_load(&model, im->bytes, im->size, memory, (size_t)need, &ep_all) == EP_OK) {
        accepted++;
        name = aligned(strlen(model.name) + 1);
        free(name);
        run(&model);
    }
    free(memory);
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 10000;
    for (int i = argc > 2 ? atoi(argv[2]) : 0; i > 0; i--) random_u32();
    for (int i = 0; i < rounds; i++) {
        if (i % 5 == 0) net_mlp(&m, &ep_softmax_cross_entropy, 0);
        if (i % 5 == 1) net_dag(&m, &ep_mse);
        if (i % 5 == 2 || i % 5 == 3) net_float_zoo(&m);
        if (i % 5 == 4) net_int8_zoo(&m);
        image im = make_image(&m);
        for (uint32_t k = below(3) + 1; k > 0; k--) mutate(&im);
        sign(&im);
        const clock_t start = clock();
        try_image(&im);
        if (clock() - start > CLOCKS_PER_SEC) {
            printf("round %d takes too long\n", i);
            failures++;
        }
        free(im.bytes);
    }
    printf("%d images, %d accepted, %d ran, %d learned\n", rounds, accepted, ran, learned);
    CHECK(accepted > rounds / 100 && ran > rounds / 100 && learned > rounds / 200);
    return failures != 0;
}
