/* Sizes, binding, weights, inference. */
#include "kernels/scalar_s8.h"
#include "net.h"

static net m;

static void sizes_are_what_the_parts_add_up_to(void)
{
    net_mlp(&m, &ep_softmax_cross_entropy, 0);
    m.model.scratch_bytes = 20;
    m.train.scratch_bytes = 40;
    const size_t params = (size_t)ep_align_up(m.model.param_bytes), infer = m.model.infer_bytes, train = m.train.bytes;
    CHECK(m.model.param_bytes == 4 * (5 * 8 + 8 + 8 * 3 + 3) && train > infer);
    CHECK(ep_arena_size(&m.model, 1, 0, NULL) == infer + 32);
    CHECK(ep_arena_size(&m.model, 3, 0, NULL) == 3 * infer + 32);
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_RESTORE, NULL) == params + infer + 32);
    CHECK(ep_arena_size(&m.model, 2, EP_FOR_TRAIN, NULL) == params + 2 * train + 48);
    CHECK(ep_arena_size(&m.model, 2, EP_FOR_SUMS, NULL) == 2 * params + 2 * train + 48);
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_TRAIN, &ep_sgd) == params + train + 48);
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_TRAIN | EP_FOR_RESTORE, &ep_momentum) == 2 * params + train + 48);
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_TRAIN | EP_FOR_SUMS, &ep_adam) == 4 * params + train + 48);
    m.train.bytes = 16; /* less than inference: learning must not take from it */
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_TRAIN, NULL) == params + infer + 48);
}

static void sizes_that_cannot_be_are_zero(void)
{
    net_head(&m, &ep_mse);
    CHECK(ep_arena_size(NULL, 1, 0, NULL) == 0);
    CHECK(ep_arena_size(&m.model, 0, 0, NULL) == 0);
    CHECK(ep_arena_size(&m.model, 1, 8, NULL) == 0);
    CHECK(ep_arena_size(&m.model, 0xFFFFFFFFu, EP_FOR_SUMS, NULL) == 0);
    CHECK(ep_arena_size(&m.model, 0x80000000u / m.model.infer_bytes + 1, 0, NULL) == 0);
    m.model.infer_bytes = m.model.scratch_bytes = m.model.param_bytes = 0xFFFFFFFFu;
    CHECK(ep_arena_size(&m.model, 0x80000000u, EP_FOR_SUMS, &ep_adam) == 0);
    net_head(&m, &ep_mse);
    m.model.train = NULL;
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_TRAIN, NULL) == 0);
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_SUMS, NULL) == 0);
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_RESTORE, NULL) != 0);
    m.model.param_bytes = 0;
    CHECK(ep_arena_size(&m.model, 1, EP_FOR_RESTORE, NULL) == 0);
}

static void init_says_what_is_wrong_and_touches_nothing(void)
{
    EP_ALIGNED uint8_t arena[4096];
    uint8_t before[sizeof(ep_t)];
    ep_t ep;
    net_head(&m, &ep_mse);
    memset(&ep, 0x5A, sizeof ep);
    memset(arena, 0x5A, sizeof arena);
    memcpy(before, &ep, sizeof ep);
    CHECK_RC(ep_init(NULL, &m.model, arena, sizeof arena), EP_ERR_ARG);
    CHECK_RC(ep_init(&ep, NULL, arena, sizeof arena), EP_ERR_ARG);
    CHECK_RC(ep_init(&ep, &m.model, NULL, sizeof arena), EP_ERR_ARG);
    CHECK_RC(ep_init(&ep, &m.model, arena + 4, sizeof arena - 4), EP_ERR_ALIGN);
    CHECK_RC(ep_init(&ep, &m.model, arena, ep_arena_size(&m.model, 1, 0, NULL) - 1), EP_ERR_ARENA);
    CHECK_RC(ep_init_batch(&ep, &m.model, arena, sizeof arena, 0, 0, NULL), EP_ERR_ARG);
    CHECK_RC(ep_init_batch(&ep, &m.model, arena, sizeof arena, 1, 16, NULL), EP_ERR_ARG);
    CHECK_RC(ep_init_batch(&ep, &m.model, arena, sizeof arena, 4096, 0, NULL), EP_ERR_ARENA);
    m.model.train = NULL;
    CHECK_RC(ep_init_batch(&ep, &m.model, arena, sizeof arena, 1, EP_FOR_SUMS, NULL), EP_ERR_FROZEN);
    m.model.abi++;
    CHECK_RC(ep_init(&ep, &m.model, arena, sizeof arena), EP_ERR_ABI);
    CHECK(memcmp(before, &ep, sizeof ep) == 0);
    for (size_t i = 0; i < sizeof arena; i++) CHECK(arena[i] == 0x5A);
}

static void init_takes_the_richest_mode_that_fits(void)
{
    const int32_t label = 1;
    const ep_step sgd = {.lr = 0.1f}, momentum = {.lr = 0.1f, .optimizer = &ep_momentum};
    const float x[6] = {1, 2, 3, 4, 5, 6};
    uint32_t count;
    ep_t ep;
    net_head(&m, &ep_softmax_cross_entropy);
    const size_t infer = ep_arena_size(&m.model, 1, 0, NULL),
                 restore = ep_arena_size(&m.model, 1, EP_FOR_RESTORE, NULL);
    const size_t train = ep_arena_size(&m.model, 1, EP_FOR_TRAIN, NULL) + 16;
    m.train.bytes += 16; /* so that learning needs more than restoring */
    for (size_t size = infer; size <= train + 128; size++) {
        uint8_t *arena = aligned(size);
        CHECK_RC(ep_init(&ep, &m.model, arena, size), EP_OK);
        CHECK((ep_params(&ep, &count) != NULL) == (size >= restore));
        CHECK(count == (size >= restore ? 28u : 0u));
        CHECK_RC(ep_learn_label(&ep, x, label, &sgd, NULL), size >= train ? EP_OK : EP_ERR_ARENA);
        CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), size >= train + 112 ? EP_OK : EP_ERR_ARENA);
        free(arena);
    }
}

static void weights_are_set_reset_and_checked(void)
{
    float values[28];
    uint32_t count;
    ep_t ep;
    net_head(&m, &ep_mse);
    void *arena = net_start(&ep, &m, 1, EP_FOR_RESTORE, NULL);
    const float *w = ep_params(&ep, &count);
    CHECK(count == 28 && memcmp(w, m.tensors[1].data, 24 * 4) == 0 && memcmp(w + 24, m.tensors[2].data, 16) == 0);
    fill_random(values, 28);
    CHECK_RC(ep_set_params(&ep, values, 27), EP_ERR_ARG);
    CHECK_RC(ep_set_params(&ep, NULL, 28), EP_ERR_ARG);
    CHECK_RC(ep_set_params(NULL, values, 28), EP_ERR_ARG);
    values[27] = NAN;
    CHECK_RC(ep_set_params(&ep, values, 28), EP_ERR_DIVERGED);
    values[27] = -INFINITY;
    CHECK_RC(ep_set_params(&ep, values, 28), EP_ERR_DIVERGED);
    CHECK(memcmp(w, m.tensors[1].data, 24 * 4) == 0);
    values[27] = 1;
    CHECK_RC(ep_set_params(&ep, values, 28), EP_OK);
    CHECK(memcmp(w, values, sizeof values) == 0);
    CHECK_RC(ep_reset(&ep), EP_OK);
    CHECK(memcmp(w, m.tensors[1].data, 24 * 4) == 0 && memcmp(w + 24, m.tensors[2].data, 16) == 0);
    CHECK_RC(ep_reset(NULL), EP_ERR_ARG);
    CHECK(ep_params(NULL, &count) == NULL && count == 0);
    CHECK(ep_params(&ep, NULL) == w);
    free(arena);
}

/* The kernels without a choice of their own by the number of rows. */
static void use_portable_kernels(ep_t *ep)
{
#ifdef EP_DISPATCH
    for (unsigned i = 0; ep_list_kernels(i) != NULL; i++) ep->kernels = ep_list_kernels(i); /* the last */
#else
    (void)ep;
#endif
}

static int within_rounding(const float *a, const float *b, uint32_t count)
{
    for (uint32_t i = 0; i < count; i++) {
        if (!(fabsf(a[i] - b[i]) <= 1e-6f * (1 + fabsf(b[i])))) return 0;
    }
    return 1;
}

/* Any capacity and any number of samples give what one sample at a time gives: bit for bit with the portable kernels;
 * others may sum many rows in another order than few. */
static void batches_give_what_single_samples_give(void)
{
    float x[7 * 5], one[7 * 3], many[7 * 3], quick[7 * 3];
    ep_t ep;
    net_mlp(&m, &ep_mse, 0);
    fill_random(x, 35);
    void *arena = net_start(&ep, &m, 1, 0, NULL);
    use_portable_kernels(&ep);
    for (int i = 0; i < 7; i++) CHECK_RC(ep_infer(&ep, x + 5 * i, one + 3 * i), EP_OK);
    CHECK_RC(ep_infer_batch(&ep, x, many, 0), EP_ERR_ARG);
    CHECK_RC(ep_infer(&ep, NULL, many), EP_ERR_ARG);
    CHECK_RC(ep_infer(&ep, x, NULL), EP_ERR_ARG);
    CHECK_RC(ep_infer(NULL, x, many), EP_ERR_ARG);
    free(arena);
    for (uint32_t capacity = 1; capacity <= 8; capacity++) {
        const uint32_t fit = capacity < 7 ? capacity : 7;
        arena = net_start(&ep, &m, capacity, capacity % 2 ? 0u : EP_FOR_SUMS, NULL);
        CHECK_RC(ep_infer_batch(&ep, x, quick, 7), EP_OK);
        CHECK(within_rounding(quick, one, 21));
        use_portable_kernels(&ep);
        memset(many, 0, sizeof many);
        CHECK_RC(ep_infer_batch(&ep, x, many, 7), EP_OK);
        CHECK(memcmp(one, many, sizeof one) == 0);
        memset(many, 0, sizeof many);
        memcpy(ep_input(&ep, 0), x, 20 * fit);
        CHECK_RC(ep_run(&ep, fit), EP_OK);
        CHECK(memcmp(one, ep_output(&ep, 0), 12 * fit) == 0);
        CHECK_RC(ep_run(&ep, capacity + 1), EP_ERR_ARG);
        CHECK_RC(ep_run(&ep, 0), EP_ERR_ARG);
        CHECK(ep_input(&ep, 1) == NULL && ep_output(&ep, 1) == NULL && ep_input(NULL, 0) == NULL);
        free(arena);
    }
}

static void many_ports_go_piecewise(void)
{
    uint16_t ports[2];
    float v[8];
    ep_t ep;
    net_head(&m, &ep_mse);
    ports[0] = 0, ports[1] = 3;
    void *arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, NULL);
    m.model.inputs = ports, m.model.n_inputs = 2;
    CHECK_RC(ep_infer(&ep, v, v), EP_ERR_ARG);
    CHECK_RC(ep_learn(&ep, v, (const float *)(const void *)v, &(ep_step){.lr = 1}, NULL), EP_ERR_ARG);
    CHECK(ep_input(&ep, 1) != NULL);
    m.model.inputs = m.inputs, m.model.n_inputs = 1, m.model.outputs = ports, m.model.n_outputs = 2;
    CHECK_RC(ep_infer(&ep, v, v), EP_ERR_ARG);
    CHECK(ep_output(&ep, 1) != NULL);
    free(arena);
}

static void small_helpers(void)
{
    CHECK(ep_nearest(0.5f) == 0 && ep_nearest(1.5f) == 2 && ep_nearest(-2.5f) == -2);
    CHECK(ep_nearest(2.4999998f) == 2 && ep_nearest(-127.50001f) == -128 && ep_nearest(2000000.5f) == 2000000);
    CHECK(ep_crc32(0, "123456789", 9) == 0xCBF43926u);
    CHECK(ep_crc32(ep_crc32(0, "1234", 4), "56789", 5) == 0xCBF43926u);
    for (int rc = 0; rc >= EP_ERR_INPUT; rc--)
        CHECK(strlen(ep_error(rc)) > 1 && strcmp(ep_error(rc), ep_error(1)) != 0);
    CHECK(strcmp(ep_error(EP_ERR_INPUT - 1), ep_error(1)) == 0 && strcmp(ep_error(INT32_MIN), ep_error(1)) == 0);
}

int main(void)
{
    sizes_are_what_the_parts_add_up_to();
    sizes_that_cannot_be_are_zero();
    init_says_what_is_wrong_and_touches_nothing();
    init_takes_the_richest_mode_that_fits();
    weights_are_set_reset_and_checked();
    batches_give_what_single_samples_give();
    many_ports_go_piecewise();
    small_helpers();
    return failures != 0;
}
