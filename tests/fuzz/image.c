/* An image, sealed, goes through all of the library in memory of exactly the sizes that the library asks for: loaded, run,
 * taught, saved, restored. Whatever loads must do all that without a sanitizer's report, and keep what edgeprop.h promises.
 *
 * The fingerprint, which loading takes as it is, says what is drawn: kernels, batch, optimizer, values. */
#include "sections.h"

enum { ARENA_MOST = 1 << 19, TARGET_MOST = 1 << 18 };

static const ep_optimizer *const optimizers[] = {NULL, &ep_sgd, &ep_momentum, &ep_nesterov, &ep_adam};
static volatile uint32_t seen;
static unsigned long tried, loaded, ran, taught, refused, saved;

__attribute__((destructor)) static void report(void)
{
    fprintf(stderr, "images: %lu tried, %lu loaded; %lu arenas ran; steps: %lu taken, %lu refused; %lu saves\n", tried,
            loaded, ran, taught, refused, saved);
}

/* ---- Values --------------------------------------------------------------------------------------------------------- */

static float some_float(uint32_t kind)
{
    static const float large[] = {0, 1, -1, 1e-40f, FLT_MAX, -FLT_MAX, 1e20f, -0.0f};
    static const float none[] = {NAN, INFINITY, -INFINITY, 1, 1e38f, -1e-38f};
    if (kind == 1) return large[draw(8)];
    if (kind == 2) return none[draw(6)];
    return (float)draw(1 << 16) / 16384.0f - 2.0f;
}

/* `kind`: 0 plain values, 1 extreme ones, 2 NaN and infinities too. */
static void fill(void *to, size_t count, int dtype, uint32_t kind)
{
    static const int32_t whole[] = {0, 1, 2, -1, 3, INT32_MAX, INT32_MIN, 5};
    for (size_t i = 0; i < count; i++) {
        if (dtype == EP_F32) {
            ((float *)to)[i] = some_float(kind);
        } else if (dtype == EP_I32) {
            ((int32_t *)to)[i] = whole[draw(8)];
        } else {
            ((uint8_t *)to)[i] = (uint8_t)(kind == 1 ? 0x7F + draw(2) : draw(256));
        }
    }
}

static uint32_t rarely_extreme(void)
{
    return draw(6) == 0 ? 1 + draw(2) : 0;
}

/* Every byte is looked at: the memory sanitizer tells of one that nobody wrote. */
static void look_at(const void *values, size_t size)
{
    seen ^= ep_crc32(0, values, size);
}

/* ---- Running -------------------------------------------------------------------------------------------------------- */

/* 1 if all values are finite. A plan may lay one input over another: all are filled before any is looked at. */
static int fill_inputs(ep_t *ep, uint32_t n)
{
    const ep_model *m = ep->model;
    int finite = 1;
    for (unsigned i = 0; i < m->n_inputs; i++) {
        fill(ep_input(ep, i), (size_t)n * m->tensors[m->inputs[i]].count, m->tensors[m->inputs[i]].dtype,
             rarely_extreme());
    }
    for (unsigned i = 0; i < m->n_inputs; i++) {
        const ep_tensor *t = &m->tensors[m->inputs[i]];
        finite &= t->dtype != EP_F32 || all_finite(ep_input(ep, i), (size_t)n * t->count);
    }
    return finite;
}

static void run_in_place(ep_t *ep, uint32_t n)
{
    const ep_model *m = ep->model;
    const int finite = fill_inputs(ep, n), rc = ep_run(ep, n);
    EXPECT(rc == EP_OK || (rc == EP_ERR_INPUT && !finite), "ep_run gives %d", rc);
    if (rc != EP_OK) return;
    for (unsigned i = 0; i < m->n_outputs; i++) {
        look_at(ep_output(ep, i), n * ep_tensor_size(&m->tensors[m->outputs[i]]));
    }
    ran++;
}

static void run_samples(ep_t *ep)
{
    const ep_model *m = ep->model;
    const ep_tensor *in = &m->tensors[m->inputs[0]], *out = &m->tensors[m->outputs[0]];
    const uint32_t n = 1 + draw(4);
    if (m->n_inputs != 1 || m->n_outputs != 1) return;
    void *x = block(n * ep_tensor_size(in)), *y = block(n * ep_tensor_size(out));
    fill(x, (size_t)n * in->count, in->dtype, draw(3));
    const int finite = in->dtype != EP_F32 || all_finite(x, (size_t)n * in->count), rc = ep_infer_batch(ep, x, y, n);
    EXPECT(rc == EP_OK || (rc == EP_ERR_INPUT && !finite), "ep_infer_batch gives %d", rc);
    if (rc == EP_OK) look_at(y, n * ep_tensor_size(out));
    free(x), free(y);
}

/* ---- Learning ------------------------------------------------------------------------------------------------------- */

static ep_step some_step(const ep_optimizer *planned)
{
    static const float rates[] = {0.01f, 0.1f, 1e-30f, 0.001f, 0.01f, 1e30f, FLT_MAX, 0.5f};
    ep_step s = {.lr = rates[draw(8)], .optimizer = draw(4) ? planned : optimizers[draw(5)]};
    if (draw(4) == 0) s.weight_decay = draw(2) ? 0.1f : 1e30f;
    if (draw(8) == 0) s.clip_norm = draw(2) ? 1.0f : 1e-30f;
    if (draw(8) == 0) s.momentum = 0.99999f;
    if (draw(8) == 0) s.epsilon = 1e-30f;
    if (draw(8) == 0) s.skip = ep_skip_small, s.skip_share = 0.5f;
    return s;
}

/* ---- Plans ----------------------------------------------------------------------------------------------------------- */

static int is_state(const ep_model *m, uint32_t tensor)
{
    for (uint16_t i = 0; i < m->n_states; i++) {
        if (m->states[2 * i] == tensor) return 1;
    }
    return 0;
}

static uint32_t place(uint64_t *end, const ep_tensor *t)
{
    const uint64_t at = *end;
    *end += ep_align_up((uint64_t)t->count * (t->dtype == EP_F32 || t->dtype == EP_I32 ? 4 : 1));
    return (uint32_t)at;
}

/* A training plan in which nothing shares memory, so that a changed image learns what its nodes say as well; states stay
 * where inference has them. To be freed; NULL: too large. */
static uint32_t *spread(const ep_model *m, ep_train *train)
{
    uint32_t *const at = malloc(2 * (size_t)m->n_tensors * sizeof *at), *const gradient_at = at + m->n_tensors;
    uint64_t end = ep_align_up((uint64_t)m->infer_bytes);
    for (uint32_t i = 0; i < m->n_tensors; i++) {
        const ep_tensor *t = &m->tensors[i];
        const int moves = !(t->flags & (EP_CONST | EP_PARAM)) && !is_state(m, i);
        at[i] = moves && m->train->offset[i] != EP_NONE ? place(&end, t) : m->train->offset[i];
        gradient_at[i] = m->train->grad_offset[i] != EP_NONE ? place(&end, t) : EP_NONE;
    }
    *train = *m->train;
    train->offset = at, train->grad_offset = gradient_at, train->bytes = (uint32_t)end;
    if (end <= ARENA_MOST) return at;
    free(at);
    return NULL;
}

/* What a refused step must leave alone: weights, the optimizer's state, the sums. */
typedef struct snapshot {
    ep_t ep;
    uint8_t *weights, *tail;
    int finite;
} snapshot;

static snapshot look(const ep_t *ep)
{
    const size_t weights = ep->model->param_bytes, tail = ep->size - ep->tail_at;
    snapshot s = {*ep, malloc(weights + 1), malloc(tail + 1), all_finite(ep_weights(ep), weights / 4)};
    memcpy(s.weights, ep_weights(ep), weights);
    memcpy(s.tail, ep->arena + ep->tail_at, tail);
    return s;
}

static void expect_refused_whole(const snapshot *was, const ep_t *ep, int keeps_sums)
{
    const ep_model *m = ep->model;
    const uint8_t *tail = ep->arena + ep->tail_at;
    EXPECT(memcmp(was->weights, ep_weights(ep), m->param_bytes) == 0, "a refused step changed weights");
    EXPECT(was->ep.optimizer == ep->optimizer && was->ep.updates == ep->updates && was->ep.state_at == ep->state_at,
           "a refused step changed whose state there is");
    if (ep->optimizer != NULL && ep->state_at != EP_NONE && !FUZZ_MEMORY_SANITIZER) {
        const size_t from = ep->state_at - ep->tail_at, bytes = ep->optimizer->slots * ep_align_up(m->param_bytes);
        EXPECT(memcmp(was->tail + from, tail + from, bytes) == 0, "a refused step changed the optimizer's state");
    }
    if (keeps_sums && was->ep.samples != 0 && !FUZZ_MEMORY_SANITIZER) {
        EXPECT(memcmp(was->tail, tail, m->param_bytes) == 0, "a refused step changed the sums");
    }
}

enum { ONE, BATCH, SUMS };

/* A step on labels or on values, now and then on the kind that the model does not take. */
static int step_by(ep_t *ep, uint32_t kind, const void *x, const void *target, uint32_t n, const ep_step *step,
                   float *loss)
{
    const int32_t *labels = target;
    const int by_labels = ep->model->train->loss->labels || draw(8) == 0;
    switch (kind) {
    case ONE: return by_labels ? ep_learn_label(ep, x, labels[0], step, loss) : ep_learn(ep, x, target, step, loss);
    case BATCH:
        return by_labels ? ep_learn_batch_labels(ep, x, labels, n, step, loss)
                         : ep_learn_batch(ep, x, target, n, step, loss);
    default: return by_labels ? ep_accumulate_labels(ep, x, labels, n, loss) : ep_accumulate(ep, x, target, n, loss);
    }
}

static void learn_once(ep_t *ep, const void *x, const void *target, uint32_t n, const ep_step *step)
{
    const uint32_t kind = ep->what & EP_FOR_SUMS ? draw(3) : ONE;
    float loss = 12345.0f;
    snapshot was = look(ep);
    const int rc = step_by(ep, kind, x, target, n, step, &loss);
    if (rc != EP_OK) {
        refused++;
        EXPECT(loss == 12345.0f, "a refused step wrote a loss");
        expect_refused_whole(&was, ep, kind != BATCH);
    } else {
        taught++;
        EXPECT(fabsf(loss) <= FLT_MAX, "the loss is %g", (double)loss);
    }
    EXPECT(!was.finite || all_finite(ep_weights(ep), ep->model->param_bytes / 4), "weights are no numbers any more");
    EXPECT(ep->offset == NULL, "the training plan is left in force");
    if (kind == SUMS && rc == EP_OK && draw(2)) ep_apply(ep, step);
    free(was.weights), free(was.tail);
}

static void fill_targets(void *target, const ep_model *m, uint32_t n, uint32_t logits)
{
    if (m->train->loss->labels) {
        for (uint32_t i = 0; i < n; i++) ((int32_t *)target)[i] = (int32_t)draw(logits + (draw(16) == 0));
    } else {
        fill(target, (size_t)n * logits, EP_F32, rarely_extreme());
        for (size_t i = 0; i < (size_t)n * logits && draw(2); i++) ((float *)target)[i] = (float)draw(2);
    }
}

static void learn(ep_t *ep, const ep_optimizer *planned)
{
    const ep_model *m = ep->model;
    const ep_tensor *in = &m->tensors[m->inputs[0]];
    const uint32_t logits = m->tensors[m->train->logits].count;
    if (m->n_inputs != 1 || logits > TARGET_MOST) return;
    for (int turn = 0; turn < 6; turn++) {
        const uint32_t n = 1 + draw(4);
        const size_t labels = m->train->loss->labels ? 1 : logits;
        void *x = block(n * ep_tensor_size(in)), *target = block(n * labels * 4);
        const ep_step step = some_step(planned);
        fill(x, (size_t)n * in->count, in->dtype, rarely_extreme());
        fill_targets(target, m, n, logits);
        learn_once(ep, x, target, n, &step);
        free(x), free(target);
    }
}

/* ---- Keeping -------------------------------------------------------------------------------------------------------- */

typedef struct flash {
    uint8_t *bytes;
    uint32_t slot, unit;
} flash;

static int flash_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    const flash *f = user;
    EXPECT((uint64_t)offset + size <= 2 * (uint64_t)f->slot, "read outside the storage");
    memcpy(buffer, f->bytes + offset, size);
    return 0;
}

static int flash_write(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    const flash *f = user;
    EXPECT(offset % f->unit == 0 && size % f->unit == 0 && (uint64_t)offset + size <= 2 * (uint64_t)f->slot,
           "write outside the storage or its units");
    for (uint32_t i = 0; i < size; i++) EXPECT(f->bytes[offset + i] == 0xFF, "written twice without an erase");
    memcpy(f->bytes + offset, buffer, size);
    return 0;
}

static int flash_erase(void *user, uint32_t offset, uint32_t size)
{
    const flash *f = user;
    EXPECT(offset % f->slot == 0 && size == f->slot && offset / f->slot < 2, "erased what is no slot");
    memset(f->bytes + offset, 0xFF, size);
    return 0;
}

static void keep(ep_t *ep)
{
    const uint32_t unit = 1u << draw(7), size = ep_record_size(ep->model, unit), bytes = ep->model->param_bytes;
    const int finite = all_finite(ep_weights(ep), bytes / 4);
    flash f = {NULL, size, unit};
    const ep_storage storage = {&f, flash_read, flash_write, flash_erase, size, unit};
    if (size == 0 || size > 1 << 16) return;
    f.bytes = malloc(2 * (size_t)size);
    for (uint32_t i = 0; i < 2 * size; i++) f.bytes[i] = (uint8_t)draw(256);
    uint8_t *copy = malloc(bytes);
    memcpy(copy, ep_weights(ep), bytes);
    const int rc = ep_save(ep, &storage);
    EXPECT((rc == EP_OK) == finite, "ep_save gives %d", rc);
    EXPECT(ep_restore(ep, &storage) == (finite ? EP_OK : EP_ERR_NO_RECORD), "ep_restore");
    EXPECT(memcmp(copy, ep_weights(ep), bytes) == 0, "what is restored is not what was saved");
    f.bytes[draw(32 + bytes)] ^= (uint8_t)(1u << draw(8)); /* in the record, or in a slot that has none */
    EXPECT(ep_restore(ep, &storage) == EP_ERR_NO_RECORD || !finite, "a flipped bit is not seen");
    EXPECT(memcmp(copy, ep_weights(ep), bytes) == 0, "a refused restore changed weights");
    saved += rc == EP_OK;
    free(copy), free(f.bytes);
}

static void set_weights(ep_t *ep)
{
    uint32_t count = 0;
    const float *now = ep_params(ep, &count);
    float *values = malloc(count * sizeof *values);
    memcpy(values, now, count * sizeof *values);
    values[draw(count)] = draw(2) ? NAN : 1.0f;
    const int finite = all_finite(values, count), rc = ep_set_params(ep, values, count);
    EXPECT(rc == (finite ? EP_OK : EP_ERR_DIVERGED), "ep_set_params gives %d", rc);
    free(values);
}

/* ---- All of it ------------------------------------------------------------------------------------------------------ */

static void use(const ep_model *m, uint32_t batch, unsigned what, const ep_optimizer *optimizer)
{
    const size_t size = ep_arena_size(m, batch, what, optimizer);
    ep_t ep;
    if (size == 0 || size > ARENA_MOST) return;
    void *arena = block(size);
    EXPECT(ep_init_batch(&ep, m, arena, size, batch, what, optimizer) == EP_OK, "ep_init_batch");
    choose_kernels(&ep, draw(16));
    const uint32_t before = ep.params_at != EP_NONE ? ep_crc32(0, ep_weights(&ep), m->param_bytes) : 0;
    run_in_place(&ep, batch);
    run_samples(&ep);
    if (ep.params_at != EP_NONE) {
        EXPECT(before == ep_crc32(0, ep_weights(&ep), m->param_bytes), "inference changed weights");
        if (what & EP_FOR_TRAIN) learn(&ep, optimizer);
        keep(&ep);
        set_weights(&ep);
    }
    EXPECT(ep_reset_state(&ep) == EP_OK && ep_reset(&ep) == EP_OK, "reset");
    run_in_place(&ep, 1);
    free(arena);
}

/* ep_init() goes by the size of the arena alone. */
static void use_plain(const ep_model *m, unsigned what)
{
    const size_t size = ep_arena_size(m, 1, what, NULL);
    ep_t ep;
    if (size == 0 || size > ARENA_MOST) return;
    void *arena = block(size);
    EXPECT(ep_init(&ep, m, arena, size) == EP_OK, "ep_init");
    choose_kernels(&ep, draw(16));
    run_in_place(&ep, 1);
    if (what & EP_FOR_TRAIN) learn(&ep, NULL);
    free(arena);
}

static void use_plans(const ep_model *m)
{
    static const unsigned plain[] = {0, EP_FOR_RESTORE, EP_FOR_TRAIN};
    for (int i = 0; i < (m->param_bytes == 0 ? 1 : m->train == NULL ? 2 : 3); i++) use_plain(m, plain[i]);
    const unsigned what = m->train == NULL ? m->param_bytes != 0 : draw(2) ? EP_FOR_SUMS : EP_FOR_TRAIN;
    use(m, 1 + draw(3), what & EP_FOR_SUMS ? what | EP_FOR_TRAIN : what, optimizers[draw(5)]);
}

static void use_all(const ep_model *m)
{
    ep_model apart = *m;
    ep_train train;
    uint32_t *const places = m->train != NULL && draw(2) ? spread(m, &train) : NULL;
    if (places != NULL) apart.train = &train;
    use_plans(&apart);
    free(places);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ep_model m;
    if (size < IMAGE_HEADER || size > IMAGE_MOST) return 0;
    tried++;
    uint8_t *image = block(size), *copy = block(size);
    memcpy(image, data, size);
    FUZZ_KNOWN(image, size);
    seal_image(image, size);
    memcpy(copy, image, size);
    fuzz_state = get_u32(image + 16) | (uint64_t)get_u32(image + 20) << 32;
    const long need = ep_load_size(image, size);
    void *memory = block(need > 0 ? (size_t)need : 0);
    if (need >= 0 && ep_load(&m, image, size, memory, (size_t)need, &ep_all) == EP_OK) {
        loaded++;
        look_at(m.name, strlen(m.name));
        use_all(&m);
    }
    EXPECT(memcmp(copy, image, size) == 0, "the image was changed");
    free(memory), free(image), free(copy);
    return 0;
}
