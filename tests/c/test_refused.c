/* What is refused, and that it changes nothing: targets that a loss does not take, inputs that are not finite, settings
 * that are no numbers, steps that diverge; for every optimizer, on nets in float32, with a state, and behind int8. */
#include "zoo.h"

enum { NETS = 4, LOSSES = 4, OPTIMIZERS = 4 };

static const ep_loss *const losses[LOSSES] = {&ep_softmax_cross_entropy, &ep_sigmoid_cross_entropy, &ep_mse, &ep_hinge};
static const ep_optimizer *const optimizers[OPTIMIZERS] = {&ep_sgd, &ep_momentum, &ep_nesterov, &ep_adam};

static net m;
static uint16_t states[2];
static float x[144];
static const float values[8] = {1, 0, 0, 1, 1, 0, 1, 0}; /* two samples' */
static const int32_t labels[2] = {0, 1};

/* 0: a head, 1: a state, 2: an int8 body, 3: a single output */
static void build(int which, const ep_loss *loss)
{
    if (which == 0) net_head(&m, loss);
    if (which == 1) net_stream(&m, loss, states);
    if (which == 2) net_int8_zoo(&m);
    if (which == 3) {
        net_begin(&m, "single");
        const uint16_t in = net_activation(&m, EP_F32, 6), out = net_dense(&m, in, 1, EP_PARAM, -INFINITY);
        net_plan_training(&m, out, 0, loss);
        net_end(&m, in, out);
    }
    m.train.loss = loss;
    fill_random(x, sizeof x / sizeof x[0]);
}

static uint32_t inputs(void)
{
    return m.tensors[m.inputs[0]].count;
}

static uint32_t outputs(void)
{
    return m.tensors[m.train.logits].count;
}

static int learn(ep_t *ep, const ep_step *step, float *loss)
{
    return net_learn(ep, x, m.train.loss->labels ? (const void *)labels : values, step, loss);
}

static int accumulate(ep_t *ep, uint32_t n, float *loss)
{
    return m.train.loss->labels ? ep_accumulate_labels(ep, x, labels, n, loss) : ep_accumulate(ep, x, values, n, loss);
}

static int learn_batch(ep_t *ep, uint32_t n, const ep_step *step, float *loss)
{
    return m.train.loss->labels ? ep_learn_batch_labels(ep, x, labels, n, step, loss)
                                : ep_learn_batch(ep, x, values, n, step, loss);
}

/* ---- What must stay ---- */

typedef struct snapshot {
    ep_t ep;
    uint8_t params[4096], tail[16384], state[64];
} snapshot;

/* With memcpy, for its padding is compared too. */
static void comparable(ep_t *kept, const ep_t *ep)
{
    memcpy(kept, ep, sizeof *ep);
    kept->weight_bound = 0; /* may become tighter */
    kept->doubt = 0;        /* what a refused target leaves behind, on purpose */
}

static size_t state_bytes(const ep_t *ep)
{
    return m.model.n_states != 0 ? ep->batch * ep_tensor_size(&m.tensors[states[0]]) : 0;
}

static void take(snapshot *s, const ep_t *ep)
{
    comparable(&s->ep, ep);
    memcpy(s->params, ep_params(ep, NULL), m.model.param_bytes);
    memcpy(s->tail, ep->arena + ep->tail_at, ep->size - ep->tail_at);
    if (state_bytes(ep) != 0) memcpy(s->state, ep_tensor_ptr(ep, states[0]), state_bytes(ep));
}

static int unchanged(const snapshot *s, const ep_t *ep)
{
    ep_t now;
    comparable(&now, ep);
    return memcmp(&now, &s->ep, sizeof now) == 0 && memcmp(s->params, ep_params(ep, NULL), m.model.param_bytes) == 0 &&
           memcmp(s->tail, ep->arena + ep->tail_at, ep->size - ep->tail_at) == 0 &&
           (state_bytes(ep) == 0 || memcmp(s->state, ep_tensor_ptr(ep, states[0]), state_bytes(ep)) == 0);
}

/* ---- Ways to be refused ---- */

static void inputs_that_are_not_finite(ep_t *ep, const snapshot *s, const ep_step *step)
{
    static const float bad[] = {NAN, -NAN, INFINITY, -INFINITY};
    float loss = 42;
    for (uint32_t i = 0; i < 2 * inputs(); i++) {
        const float kept = x[i];
        x[i] = bad[i % 4];
        if (i < inputs()) CHECK_RC(learn(ep, step, &loss), EP_ERR_INPUT);
        CHECK_RC(accumulate(ep, 2, &loss), EP_ERR_INPUT);
        CHECK_RC(learn_batch(ep, 2, step, &loss), EP_ERR_INPUT);
        CHECK(unchanged(s, ep) && loss == 42);
        x[i] = kept;
    }
}

static void targets_that_do_not_fit(ep_t *ep, const snapshot *s, const ep_step *step)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY, 1e-45f, 5e-41f, -1e-40f, -1, 1.0001f, 2, 255, 3e38f};
    static const int32_t wrong[] = {-1, 4, 255, INT32_MAX, INT32_MIN, 0x3F800000};
    const int by_label = m.train.loss->labels, either = m.train.loss == &ep_sigmoid_cross_entropy && outputs() == 1;
    const size_t any = m.train.loss == &ep_mse ? 5 : sizeof bad / sizeof bad[0];
    float t[8], loss = 42;
    for (size_t i = 0; i < any && !by_label; i++) {
        memcpy(t, values, sizeof t);
        t[i % outputs()] = bad[i];
        CHECK_RC(ep_learn(ep, x, t, step, &loss), EP_ERR_LABEL);
        memcpy(t, values, sizeof t);
        t[outputs() + i % outputs()] = bad[i];
        CHECK_RC(ep_accumulate(ep, x, t, 2, &loss), EP_ERR_LABEL);
        CHECK_RC(ep_learn_batch(ep, x, t, 2, step, &loss), EP_ERR_LABEL);
    }
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0] && (by_label || either); i++) {
        const int32_t pair[2] = {0, wrong[i]};
        CHECK_RC(ep_learn_label(ep, x, wrong[i], step, &loss), EP_ERR_LABEL);
        CHECK_RC(ep_accumulate_labels(ep, x, pair, 2, &loss), EP_ERR_LABEL);
        CHECK_RC(ep_learn_batch_labels(ep, x, pair, 2, step, &loss), EP_ERR_LABEL);
    }
    if (by_label) { /* the other function's */
        CHECK_RC(ep_learn(ep, x, values, step, &loss), EP_ERR_LABEL);
        CHECK_RC(ep_accumulate(ep, x, values, 2, &loss), EP_ERR_LABEL);
        CHECK_RC(ep_learn_batch(ep, x, values, 2, step, &loss), EP_ERR_LABEL);
    } else if (!either) {
        CHECK_RC(ep_learn_label(ep, x, 0, step, &loss), EP_ERR_LABEL);
        CHECK_RC(ep_accumulate_labels(ep, x, labels, 2, &loss), EP_ERR_LABEL);
        CHECK_RC(ep_learn_batch_labels(ep, x, labels, 2, step, &loss), EP_ERR_LABEL);
    }
    CHECK(unchanged(s, ep) && loss == 42);
    ep->doubt = 0;
}

static int refuse_it(ep_t *ep, const ep_step *step, float loss)
{
    ep->skip_at += step->lr + loss; /* what a rule remembers of a loss goes with the step */
    return EP_ERR_IO;
}

static void settings_that_are_no_numbers(ep_t *ep, const snapshot *s, const ep_step *good)
{
    static const float bad[] = {-1, -1e-45f, NAN, INFINITY, -INFINITY};
    float loss = 42;
    for (int field = 0; field < 8; field++) {
        for (int i = 0; i < 5; i++) {
            ep_step step = *good;
            float *const fields[] = {&step.lr,           &step.momentum,  &step.beta2,      &step.epsilon,
                                     &step.weight_decay, &step.clip_norm, &step.skip_below, &step.skip_share};
            *fields[field] = bad[i];
            CHECK_RC(learn(ep, &step, &loss), EP_ERR_ARG);
            CHECK_RC(learn_batch(ep, 2, &step, &loss), EP_ERR_ARG);
            CHECK_RC(ep_apply(ep, &step), EP_ERR_ARG);
        }
    }
    ep_step step = *good;
    step.lr = -0.0f;
    CHECK_RC(learn(ep, &step, &loss), EP_ERR_ARG);
    step = *good, step.skip = refuse_it;
    CHECK_RC(learn(ep, &step, &loss), EP_ERR_IO);
    CHECK_RC(learn_batch(ep, 2, &step, &loss), EP_ERR_ARG);
    CHECK(unchanged(s, ep) && loss == 42);
}

static void steps_too_far(ep_t *ep, const snapshot *s, const ep_step *good)
{
    float loss = 42;
    ep_step step = *good;
    step.lr = 3.4e38f, step.weight_decay = 3.4e38f;
    CHECK_RC(learn(ep, &step, &loss), EP_ERR_DIVERGED);
    step.skip = ep_skip_small, step.skip_share = 0.5f; /* it follows the losses, but not a refused one */
    CHECK_RC(learn(ep, &step, &loss), EP_ERR_DIVERGED);
    CHECK(unchanged(s, ep) && loss == 42);
}

/* ---- All of them ---- */

static void refused_steps_change_nothing(int which, const ep_loss *loss, const ep_optimizer *optimizer)
{
    snapshot s;
    ep_t ep;
    float y[4];
    build(which, loss);
    void *arena = net_start(&ep, &m, 2, EP_FOR_SUMS, optimizer);
    const ep_step step = {.lr = 0.01f, .optimizer = optimizer};
    if (which == 1) CHECK_RC(ep_infer(&ep, x, y), EP_OK); /* so that there is a state */
    CHECK_RC(learn(&ep, &step, NULL), EP_OK);
    CHECK_RC(accumulate(&ep, 2, NULL), EP_OK);
    take(&s, &ep);
    inputs_that_are_not_finite(&ep, &s, &step);
    targets_that_do_not_fit(&ep, &s, &step);
    settings_that_are_no_numbers(&ep, &s, &step);
    steps_too_far(&ep, &s, &step);
    CHECK_RC(ep_apply(&ep, &step), EP_OK);
    CHECK(!unchanged(&s, &ep));
    free(arena);
}

/* ---- Targets in doubt ---- */

static int step_on(ep_t *ep, float target)
{
    return ep_learn(ep, x, &target, &(ep_step){.lr = 0.01f}, NULL);
}

/* -1 and 1, 1 and 2, 0 and 255, an int read as a float: whoever does not look at what ep_learn returns teaches one class
 * alone with the targets that fit. */
static void other_codings_are_not_taken_in_part(void)
{
    static const float codings[][2] = {{-1, 1}, {1, 2}, {0, 255}, {0, 1e-45f}};
    for (size_t c = 0; c < sizeof codings / sizeof codings[0]; c++) {
        ep_t ep;
        int taken = 0;
        build(3, &ep_sigmoid_cross_entropy);
        void *arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, NULL);
        for (int i = 0; i < 100; i++) taken += step_on(&ep, codings[c][i * 7 % 3 % 2]) == EP_OK;
        CHECK(taken <= 1);
        step_on(&ep, 0), step_on(&ep, 1); /* both sides have been seen: no doubt any more */
        CHECK_RC(step_on(&ep, 0), EP_OK);
        CHECK_RC(step_on(&ep, 1), EP_OK);
        free(arena);
    }
}

static void doubt_ends(void)
{
    const float both[2] = {0.25f, 0.75f};
    ep_t ep;
    build(3, &ep_sigmoid_cross_entropy);
    void *arena = net_start(&ep, &m, 2, EP_FOR_SUMS, NULL);
    CHECK_RC(step_on(&ep, 2), EP_ERR_LABEL);
    CHECK_RC(step_on(&ep, 1), EP_ERR_LABEL);
    CHECK_RC(ep_accumulate(&ep, x, both, 2, NULL), EP_OK); /* one call that shows both sides */
    CHECK_RC(step_on(&ep, 1), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, 2, &(ep_step){.lr = 0.01f}, NULL), EP_ERR_LABEL);
    CHECK_RC(ep_learn_label(&ep, x, 1, &(ep_step){.lr = 0.01f}, NULL), EP_OK); /* both have been seen before */
    CHECK_RC(ep_reset(&ep), EP_OK);
    CHECK_RC(step_on(&ep, -1), EP_ERR_LABEL);
    CHECK_RC(step_on(&ep, 1), EP_ERR_LABEL);
    CHECK_RC(ep_reset(&ep), EP_OK);
    CHECK_RC(step_on(&ep, 1), EP_OK);
    CHECK_RC(step_on(&ep, NAN), EP_ERR_LABEL); /* no value at all says nothing of the others */
    CHECK_RC(step_on(&ep, 1), EP_OK);
    free(arena);
    build(3, &ep_mse); /* any value but 0 shows that they are no ints */
    arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, NULL);
    CHECK_RC(step_on(&ep, 1e-45f), EP_ERR_LABEL);
    CHECK_RC(step_on(&ep, 0), EP_ERR_LABEL);
    CHECK_RC(step_on(&ep, -3), EP_OK);
    CHECK_RC(step_on(&ep, 0), EP_OK);
    free(arena);
    build(0, &ep_softmax_cross_entropy); /* four classes: a label may be one of them and no other */
    arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, NULL);
    CHECK_RC(ep_learn_label(&ep, x, 4, &(ep_step){.lr = 0.01f}, NULL), EP_ERR_LABEL);
    CHECK_RC(ep_learn_label(&ep, x, 3, &(ep_step){.lr = 0.01f}, NULL), EP_OK);
    free(arena);
}

static void a_label_of_one_sigmoid_is_its_value(void)
{
    const float as_values[2] = {0, 1};
    float other[7], loss, same;
    ep_t ep;
    build(3, &ep_sigmoid_cross_entropy);
    void *arena = net_start(&ep, &m, 2, EP_FOR_SUMS, NULL);
    const ep_step step = {.lr = 0.5f};
    for (int32_t label = 0; label < 2; label++) CHECK_RC(ep_learn_label(&ep, x, label, &step, NULL), EP_OK);
    CHECK_RC(ep_learn_batch_labels(&ep, x, labels, 2, &step, &loss), EP_OK);
    memcpy(other, ep_params(&ep, NULL), sizeof other);
    CHECK_RC(ep_reset(&ep), EP_OK);
    for (int label = 0; label < 2; label++) CHECK_RC(step_on(&ep, (float)label), EP_OK);
    CHECK_RC(ep_reset(&ep), EP_OK);
    for (int label = 0; label < 2; label++) CHECK_RC(ep_learn(&ep, x, as_values + label, &step, NULL), EP_OK);
    CHECK_RC(ep_learn_batch(&ep, x, as_values, 2, &step, &same), EP_OK);
    CHECK(memcmp(other, ep_params(&ep, NULL), sizeof other) == 0 && loss == same);
    free(arena);
}

/* ---- Inference ---- */

#ifdef EP_NO_INPUT_CHECK
#define REFUSED EP_OK
#else
#define REFUSED EP_ERR_INPUT
#endif

static void codes_are_not_made_of_nan(void)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    ep_t ep;
    build(2, &ep_softmax_cross_entropy);
    void *arena = net_start(&ep, &m, 2, 0, NULL);
    for (int i = 0; i < 3; i++) {
        float y[12], kept[12];
        memset(y, 0x11, sizeof y), memcpy(kept, y, sizeof y);
        fill_random(x, 96);
        x[95] = bad[i]; /* of the third sample, in the second chunk */
        CHECK_RC(ep_infer_batch(&ep, x, y, 3), REFUSED);
        if (REFUSED != EP_OK) CHECK(memcmp(y, kept, sizeof y) == 0);
        CHECK_RC(ep_infer(&ep, x + 64, y), REFUSED);
        memcpy(ep_input(&ep, 0), x + 64, 32 * sizeof *x);
        CHECK_RC(ep_run(&ep, 1), REFUSED);
        CHECK_RC(ep_infer_batch(&ep, x, y, 2), EP_OK);
    }
    free(arena);
    build(0, &ep_mse); /* in float32 it is seen in the output */
    arena = net_start(&ep, &m, 1, 0, NULL);
    float y[4];
    x[0] = NAN;
    CHECK_RC(ep_infer(&ep, x, y), EP_OK);
    CHECK(isnan(y[0]));
    free(arena);
}

/* Codes are made by ep_quantize, and by layers in float32 that hold their weights as codes and make others as they run. */
static void who_makes_codes_is_seen(void)
{
    build(2, &ep_softmax_cross_entropy);
    CHECK(ep_quantizes(&m.model));
    build(1, &ep_mse);
    CHECK(!ep_quantizes(&m.model));
    m.tensors[m.nodes[m.model.n_nodes - 1].io[1]].dtype = EP_I8;
    CHECK(ep_quantizes(&m.model));
}

int main(void)
{
    for (int which = 0; which < NETS; which++) {
        for (int l = 0; l < LOSSES; l++) {
            if (which == 3 && losses[l]->labels) continue; /* one class */
            for (int o = 0; o < OPTIMIZERS; o++) refused_steps_change_nothing(which, losses[l], optimizers[o]);
        }
    }
    other_codings_are_not_taken_in_part();
    doubt_ends();
    a_label_of_one_sigmoid_is_its_value();
    codes_are_not_made_of_nan();
    who_makes_codes_is_seen();
    return failures != 0;
}
