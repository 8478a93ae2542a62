/* Learning: gradients against finite differences, optimizers against their formulas in double, refused steps. */
#include <float.h>

#include "net.h"

static net m;

/* All bytes a refused call must leave alone: the ep_t apart from its bound of the weights, the weights, sums and state. */
typedef struct snapshot {
    ep_t ep;
    uint8_t params[4096], tail[8192];
} snapshot;

static void take(snapshot *s, const ep_t *ep)
{
    s->ep = *ep;
    s->ep.weight_bound = 0;
    s->ep.doubt = 0;
    memcpy(s->params, ep->arena + ep->params_at, m.model.param_bytes);
    memcpy(s->tail, ep->arena + ep->tail_at, ep->size - ep->tail_at);
}

static int unchanged(const snapshot *s, const ep_t *ep)
{
    ep_t now = *ep;
    now.weight_bound = 0; /* may become tighter */
    now.doubt = 0;        /* what targets have shown, learned or not */
    return memcmp(&now, &s->ep, sizeof now) == 0 &&
           memcmp(s->params, ep->arena + ep->params_at, m.model.param_bytes) == 0 &&
           memcmp(s->tail, ep->arena + ep->tail_at, ep->size - ep->tail_at) == 0;
}

/* ---- Reference in double ---- */

/* The loss as a function of all weights: dense, ReLU where clamped below, add; written apart from the runtime's ops. */
static double reference_loss(const double *w, const float *x, int32_t label)
{
    static double value[MAX_TENSORS][64];
    for (uint32_t i = 0; i < m.tensors[m.inputs[0]].count; i++) value[m.inputs[0]][i] = (double)x[i];
    for (uint16_t k = 0; k < m.train.end_node; k++) {
        const ep_node *node = &m.nodes[k];
        double *y = value[node->io[node->n_in]];
        if (node->op == &ep_add_f32) {
            for (uint32_t i = 0; i < m.tensors[node->io[0]].count; i++)
                y[i] = value[node->io[0]][i] + value[node->io[1]][i];
            continue;
        }
        const ep_dense_attr *a = node->attr;
        const ep_tensor *weight = &m.tensors[node->io[1]], *bias = &m.tensors[node->io[2]];
        for (int32_t o = 0; o < a->n_out; o++) {
            y[o] =
                weight->flags == EP_PARAM ? w[bias->offset / 4 + (uint32_t)o] : (double)((const float *)bias->data)[o];
            for (int32_t i = 0; i < a->n_in; i++) {
                const int32_t at = o * a->n_in + i;
                y[o] += value[node->io[0]][i] * (weight->flags == EP_PARAM ? w[weight->offset / 4 + (uint32_t)at]
                                                                           : (double)((const float *)weight->data)[at]);
            }
            y[o] = fmax(y[o], (double)a->lo);
        }
    }
    double sum = 0;
    const double *s = value[m.train.logits];
    for (uint32_t j = 0; j < m.tensors[m.train.logits].count; j++) sum += exp(s[j] - s[label]);
    return log(sum);
}

/* Gradient by central differences, (n_weights,), of the mean loss over n samples. */
static void reference_gradient(const float *weights, const float *x, const int32_t *labels, uint32_t n, double *g)
{
    const uint32_t count = m.model.param_bytes / 4, n_in = m.tensors[m.inputs[0]].count;
    static double w[1024];
    for (uint32_t i = 0; i < count; i++) w[i] = (double)weights[i];
    for (uint32_t i = 0; i < count; i++) {
        const double at = w[i], h = 1e-5;
        g[i] = 0;
        for (uint32_t k = 0; k < n; k++) {
            w[i] = at + h;
            g[i] += reference_loss(w, x + k * n_in, labels[k]);
            w[i] = at - h;
            g[i] -= reference_loss(w, x + k * n_in, labels[k]);
        }
        g[i] /= 2 * h * n;
        w[i] = at;
    }
}

static void build(int which)
{
    if (which == 0) net_head(&m, &ep_softmax_cross_entropy);
    if (which == 1) net_mlp(&m, &ep_softmax_cross_entropy, 0);
    if (which == 2) net_mlp(&m, &ep_softmax_cross_entropy, 1);
    if (which == 3) net_dag(&m, &ep_softmax_cross_entropy);
}

static int32_t random_label(void)
{
    return (int32_t)(random_u32() % m.tensors[m.train.logits].count);
}

/* ---- Steps ---- */

static void a_step_goes_down_the_gradient(void)
{
    for (int which = 0; which < 4; which++) {
        float x[6], before[256], loss;
        double g[256];
        uint32_t count;
        ep_t ep;
        build(which);
        void *arena = net_start(&ep, &m, 1 + (uint32_t)which, EP_FOR_TRAIN, NULL);
        const float *w = ep_params(&ep, &count);
        for (int step = 0; step < 5; step++) {
            const int32_t label = random_label();
            double exact[256];
            fill_random(x, 6);
            memcpy(before, w, 4 * count);
            for (uint32_t i = 0; i < count; i++) exact[i] = (double)w[i];
            reference_gradient(before, x, &label, 1, g);
            CHECK_RC(ep_learn_label(&ep, x, label, &(ep_step){.lr = 0.0625f}, &loss), EP_OK);
            CHECK_NEAR(loss, reference_loss(exact, x, label), 2e-6);
            for (uint32_t i = 0; i < count; i++) CHECK_NEAR(w[i], (double)before[i] - 0.0625 * g[i], 1e-6);
            CHECK(ep.offset == NULL && ep.updates == (uint32_t)step + 1);
        }
        free(arena);
    }
}

/* However samples are cut into chunks and calls, the step is that on their mean gradient. */
static void a_mini_batch_takes_the_mean(void)
{
    enum { N = 7 };
    for (int which = 0; which < 4; which++) {
        for (uint32_t capacity = 1; capacity <= 8; capacity++) {
            float x[N * 6], before[256], loss, part[2];
            int32_t labels[N];
            double g[256], expected = 0;
            uint32_t count;
            ep_t ep;
            build(which);
            const uint32_t n_in = m.tensors[m.inputs[0]].count;
            void *arena = net_start(&ep, &m, capacity, EP_FOR_SUMS, NULL);
            const float *w = ep_params(&ep, &count);
            memcpy(before, w, 4 * count);
            fill_random(x, N * 6);
            for (int i = 0; i < N; i++) labels[i] = random_label();
            reference_gradient(before, x, labels, N, g);
            for (uint32_t k = 0; k < N; k++) {
                double exact[256];
                for (uint32_t i = 0; i < count; i++) exact[i] = (double)w[i];
                expected += reference_loss(exact, x + k * n_in, labels[k]) / N;
            }
            CHECK_RC(ep_learn_batch_labels(&ep, x, labels, N, &(ep_step){.lr = 0.5f}, &loss), EP_OK);
            CHECK_NEAR(loss, expected, 2e-6);
            for (uint32_t i = 0; i < count; i++) CHECK_NEAR(w[i], (double)before[i] - 0.5 * g[i], 1e-6);
            CHECK_RC(ep_set_params(&ep, before, count), EP_OK);
            CHECK_RC(ep_accumulate_labels(&ep, x, labels, 3, &part[0]), EP_OK);
            CHECK_RC(ep_accumulate_labels(&ep, x + 3 * n_in, labels + 3, 4, &part[1]), EP_OK);
            CHECK_NEAR((3 * part[0] + 4 * part[1]) / 7, expected, 2e-6);
            CHECK(memcmp(w, before, 4 * count) == 0);
            CHECK_RC(ep_apply(&ep, &(ep_step){.lr = 0.5f}), EP_OK);
            for (uint32_t i = 0; i < count; i++) CHECK_NEAR(w[i], (double)before[i] - 0.5 * g[i], 1e-6);
            CHECK_RC(ep_apply(&ep, &(ep_step){.lr = 0.5f}), EP_ERR_ARG);
            free(arena);
        }
    }
}

/* ---- Optimizers ---- */

typedef struct rule {
    const ep_optimizer *optimizer;
    float momentum, decay;
} rule;

/* One weight in double. */
static void reference_update(const rule *r, int t, double g, double *w, double *s0, double *s1)
{
    const double lr = (double)0.05f, mu = (double)(r->momentum != 0 ? r->momentum : 0.9f);
    const double beta2 = (double)0.999f;
    g += (double)r->decay * *w;
    if (r->optimizer == &ep_sgd) {
        *w -= lr * g;
    } else if (r->optimizer == &ep_momentum) {
        *s0 = mu * *s0 + g;
        *w -= lr * *s0;
    } else if (r->optimizer == &ep_nesterov) {
        *s0 = mu * *s0 + g;
        *w -= lr * (g + mu * *s0);
    } else {
        *s0 = mu * *s0 + (1 - mu) * g;
        *s1 = beta2 * *s1 + (1 - beta2) * g * g;
        *w -= lr * (*s0 / (1 - pow(mu, t))) / (sqrt(*s1 / (1 - pow(beta2, t))) + 1e-8);
    }
}

/* In place and by sums alike. The gradients that the reference takes are those of the runtime, read from its sums. */
static void optimizers_follow_their_formulas(void)
{
    static const rule rules[] = {
        {&ep_sgd, 0, 0},      {&ep_sgd, 0, 0.1f},         {&ep_momentum, 0, 0}, {&ep_momentum, 0.5f, 0.1f},
        {&ep_nesterov, 0, 0}, {&ep_nesterov, 0.7f, 0.1f}, {&ep_adam, 0, 0},     {&ep_adam, 0.8f, 0.1f}};
    for (size_t r = 0; r < sizeof rules / sizeof rules[0]; r++) {
        double w[256], s0[256] = {0}, s1[256] = {0};
        uint32_t count;
        ep_t one, other, probe;
        build(1);
        void *a = net_start(&one, &m, 1, EP_FOR_TRAIN, rules[r].optimizer);
        void *b = net_start(&other, &m, 1, EP_FOR_TRAIN | EP_FOR_SUMS, rules[r].optimizer);
        void *c = net_start(&probe, &m, 1, EP_FOR_SUMS, NULL);
        const float *in_place = ep_params(&one, &count), *by_sums = ep_params(&other, NULL);
        const ep_step step = {.lr = 0.05f,
                              .optimizer = rules[r].optimizer,
                              .momentum = rules[r].momentum,
                              .weight_decay = rules[r].decay};
        for (uint32_t i = 0; i < count; i++) w[i] = (double)in_place[i];
        for (int t = 1; t <= 300; t++) {
            const int32_t label = random_label();
            float x[6], rounded[256];
            fill_random(x, 6);
            for (uint32_t i = 0; i < count; i++) rounded[i] = (float)w[i];
            CHECK_RC(ep_set_params(&probe, rounded, count), EP_OK);
            CHECK_RC(ep_accumulate_labels(&probe, x, &label, 1, NULL), EP_OK);
            const float *g = (const float *)(const void *)(probe.arena + probe.sums_at);
            for (uint32_t i = 0; i < count; i++) reference_update(&rules[r], t, (double)g[i], &w[i], &s0[i], &s1[i]);
            probe.samples = 0;
            CHECK_RC(ep_learn_label(&one, x, label, &step, NULL), EP_OK);
            CHECK_RC(ep_learn_batch_labels(&other, x, &label, 1, &step, NULL), EP_OK);
        }
        for (uint32_t i = 0; i < count; i++) {
            CHECK_NEAR(in_place[i], w[i], 2e-5);
            CHECK_NEAR(by_sums[i], w[i], 2e-5);
        }
        free(a), free(b), free(c);
    }
}

/* The same step many updates later: t counts, and saturates. */
static void adam_keeps_its_bias_correction_exact(void)
{
    static const uint32_t times[] = {1, 2, 3, 7, 100, 12345, 1u << 20, UINT32_MAX};
    const ep_step step = {.lr = 0.01f, .optimizer = &ep_adam, .momentum = 0.9f, .beta2 = 0.999f, .epsilon = 1e-8f};
    for (size_t i = 0; i < sizeof times / sizeof times[0]; i++) {
        float w = 1, s0 = 0.25f, s1 = 0.5f;
        const float g = 0.125f;
        const double b1 = (double)0.9f, b2 = (double)0.999f;
        const double m1 = b1 * 0.25 + (1 - b1) * 0.125, v1 = b2 * 0.5 + (1 - b2) * 0.125 * 0.125;
        const double change = (double)0.01f * (m1 / -expm1((double)times[i] * log(b1))) /
                              (sqrt(v1 / -expm1((double)times[i] * log(b2))) + 1e-8);
        ep_adam.apply(&step, times[i], &w, &s0, &s1, 1, &g, 1);
        CHECK_NEAR((1 - w) / change, 1, 1e-4); /* 1 - w has lost digits */
        w = 0, s0 = 0.25f, s1 = 0.5f;
        ep_adam.apply(&step, times[i], &w, &s0, &s1, 1, &g, 1);
        CHECK_NEAR(-w / change, 1, 1e-6);
    }
}

static void another_optimizer_starts_afresh(void)
{
    const int32_t label = 1;
    float x[6], first[256], again[256];
    uint32_t count;
    ep_t ep;
    build(1);
    fill_random(x, 6);
    void *arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, &ep_adam);
    const float *w = ep_params(&ep, &count);
    const ep_step momentum = {.lr = 0.1f, .optimizer = &ep_momentum}, adam = {.lr = 0.1f, .optimizer = &ep_adam};
    memcpy(first, w, 4 * count);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_OK);
    memcpy(again, w, 4 * count);
    for (int i = 0; i < 3; i++) CHECK_RC(ep_learn_label(&ep, x, label, &adam, NULL), EP_OK);
    CHECK(ep.updates == 3);
    CHECK_RC(ep_set_params(&ep, first, count), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_OK);
    CHECK(memcmp(w, again, 4 * count) == 0 && ep.updates == 1);
    CHECK_RC(ep_reset(&ep), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_OK);
    CHECK(memcmp(w, again, 4 * count) == 0 && ep.updates == 1);
    free(arena);
}

static double norm_of(const float *a, const float *b, uint32_t count)
{
    double sum = 0;
    for (uint32_t i = 0; i < count; i++) sum += pow((double)a[i] - (double)b[i], 2);
    return sqrt(sum);
}

/* A gradient whose norm no float holds is shortened like any other; its step is not left out in silence. */
static void clipping_takes_a_norm_beyond_floats(void)
{
    static const float none[28];
    const float x[6] = {2e19f, 2e19f, 2e19f, 2e19f, 2e19f, 2e19f}, target[4] = {5e18f, 5e18f, 5e18f, 5e18f};
    ep_t ep;
    net_head(&m, &ep_mse);
    void *arena = net_start(&ep, &m, 1, EP_FOR_TRAIN | EP_FOR_SUMS, NULL);
    CHECK_RC(ep_set_params(&ep, none, 28), EP_OK);
    for (int k = 0; k < 4; k++) CHECK_RC(ep_accumulate(&ep, x, target, 1, NULL), EP_OK);
    CHECK_RC(ep_apply(&ep, &(ep_step){.lr = 1, .clip_norm = 1}), EP_OK);
    double length = 0;
    for (int i = 0; i < 28; i++) length += (double)ep_params(&ep, NULL)[i] * (double)ep_params(&ep, NULL)[i];
    CHECK(fabs(sqrt(length) - 1) < 1e-6);
    free(arena);
}

static void clipping_limits_the_whole_gradient(void)
{
    const int32_t labels[2] = {0, 1};
    float x[12], before[256], free_step[256];
    uint32_t count;
    ep_t ep;
    build(1);
    fill_random(x, 12);
    void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, NULL);
    const float *w = ep_params(&ep, &count);
    memcpy(before, w, 4 * count);
    CHECK_RC(ep_learn_batch_labels(&ep, x, labels, 2, &(ep_step){.lr = 1}, NULL), EP_OK);
    memcpy(free_step, w, 4 * count);
    const double length = norm_of(free_step, before, count);
    for (int k = 0; k < 4; k++) {
        const float clip = (float)length * (0.1f + 0.4f * (float)k);
        CHECK_RC(ep_set_params(&ep, before, count), EP_OK);
        CHECK_RC(ep_learn_batch_labels(&ep, x, labels, 2, &(ep_step){.lr = 1, .clip_norm = clip}, NULL), EP_OK);
        const double share = fmin(1, (double)clip / length);
        for (uint32_t i = 0; i < count; i++) {
            CHECK_NEAR(w[i], (double)before[i] + share * ((double)free_step[i] - (double)before[i]), 1e-6);
        }
    }
    free(arena);
}

/* ---- Arguments ---- */

static void bad_steps_and_targets_are_refused(void)
{
    static const ep_step bad[] = {
        {.lr = 0},
        {.lr = -1},
        {.lr = NAN},
        {.lr = INFINITY},
        {.lr = 1, .momentum = 1},
        {.lr = 1, .momentum = -0.1f},
        {.lr = 1, .momentum = NAN},
        {.lr = 1, .beta2 = 1.5f},
        {.lr = 1, .beta2 = NAN},
        {.lr = 1, .epsilon = -1},
        {.lr = 1, .epsilon = INFINITY},
        {.lr = 1, .weight_decay = -1},
        {.lr = 1, .weight_decay = NAN},
        {.lr = 1, .clip_norm = -1},
        {.lr = 1, .clip_norm = NAN},
    };
    const int32_t labels[3] = {0, 3, -1};
    const ep_step good = {.lr = 0.1f};
    float x[18], loss = 42;
    snapshot s;
    ep_t ep;
    build(1);
    fill_random(x, 18);
    void *arena = net_start(&ep, &m, 2, EP_FOR_SUMS, NULL);
    CHECK_RC(ep_accumulate_labels(&ep, x, labels, 1, NULL), EP_OK);
    take(&s, &ep);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_RC(ep_learn_label(&ep, x, 0, &bad[i], &loss), EP_ERR_ARG);
        CHECK_RC(ep_apply(&ep, &bad[i]), EP_ERR_ARG);
        CHECK_RC(ep_learn_batch_labels(&ep, x, labels, 1, &bad[i], &loss), EP_ERR_ARG);
    }
    CHECK_RC(ep_learn_label(&ep, x, 0, &(ep_step){.lr = 1, .clip_norm = 1}, &loss), EP_ERR_ARG);
    CHECK_RC(ep_learn_label(&ep, x, 0, NULL, &loss), EP_ERR_ARG);
    CHECK_RC(ep_learn_label(&ep, NULL, 0, &good, &loss), EP_ERR_ARG);
    CHECK_RC(ep_learn(&ep, x, NULL, &good, &loss), EP_ERR_ARG);
    CHECK_RC(ep_accumulate_labels(&ep, x, NULL, 1, &loss), EP_ERR_ARG);
    CHECK_RC(ep_learn_label(NULL, x, 0, &good, &loss), EP_ERR_ARG);
    CHECK_RC(ep_accumulate_labels(&ep, x, labels, 0, &loss), EP_ERR_ARG);
    CHECK_RC(ep_apply(&ep, NULL), EP_ERR_ARG);
    CHECK_RC(ep_learn_batch_labels(&ep, x, labels, 1, NULL, &loss), EP_ERR_ARG);
    CHECK_RC(ep_learn_label(&ep, x, 3, &good, &loss), EP_ERR_LABEL);
    CHECK_RC(ep_learn_label(&ep, x, -1, &good, &loss), EP_ERR_LABEL);
    CHECK_RC(ep_accumulate_labels(&ep, x, labels, 2, &loss), EP_ERR_LABEL);
    CHECK_RC(ep_learn_batch_labels(&ep, x, labels, 3, &good, &loss), EP_ERR_LABEL);
    CHECK_RC(ep_learn_label(&ep, x, 0, &(ep_step){.lr = 1, .optimizer = &ep_adam}, &loss), EP_ERR_ARENA);
    CHECK_RC(ep_apply(&ep, &(ep_step){.lr = 1, .optimizer = &ep_momentum}), EP_ERR_ARENA);
    CHECK(unchanged(&s, &ep) && loss == 42);
    free(arena);
    net_head(&m, &ep_mse);
    arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, NULL);
    for (int i = 0; i < 4; i++) {
        float t[4] = {1, 2, 3, 4};
        t[i] = i % 2 ? NAN : INFINITY;
        CHECK_RC(ep_learn(&ep, x, t, &good, &loss), EP_ERR_LABEL);
    }
    CHECK_RC(ep_accumulate(&ep, x, x, 1, &loss), EP_ERR_ARENA);
    m.model.train = NULL;
    CHECK_RC(ep_learn(&ep, x, x, &good, &loss), EP_ERR_FROZEN);
    free(arena);
}

/* ---- Steps that would go wrong ---- */

/* The class with the lowest score: its gradient is large. */
static int32_t unlikely(ep_t *ep, const float *x)
{
    float y[4];
    int32_t label = 0;
    CHECK_RC(ep_infer(ep, x, y), EP_OK);
    for (int32_t j = 1; j < (int32_t)m.tensors[m.outputs[0]].count; j++) label = y[j] < y[label] ? j : label;
    return label;
}

/* Every way a step can fail leaves weights, sums, state and counters bit for bit as they were. */
static void diverging_steps_change_nothing(void)
{
    static const ep_optimizer *const all[] = {&ep_sgd, &ep_momentum, &ep_nesterov, &ep_adam};
    for (int which = 0; which < 4; which++) {
        for (int o = 0; o < 4; o++) {
            float x[6], loss = 42;
            snapshot s;
            ep_t ep;
            build(which);
            fill_random(x, 6);
            void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, all[o]);
            const ep_step step = {.lr = 0.1f, .optimizer = all[o]}, wild = {.lr = 3e38f, .optimizer = all[o]};
            const uint32_t n_in = m.tensors[m.inputs[0]].count;
            int32_t label = 0;
            CHECK_RC(ep_learn_label(&ep, x, label, &step, NULL), EP_OK);
            label = unlikely(&ep, x);
            CHECK_RC(ep_accumulate_labels(&ep, x, &label, 1, NULL), EP_OK);
            take(&s, &ep);
            for (uint32_t i = 0; i < n_in; i++) {
                static const float poison[] = {NAN, INFINITY, -INFINITY};
                for (int k = 0; k < 3; k++) {
                    const float kept = x[i];
                    x[i] = poison[k];
                    CHECK_RC(ep_learn_label(&ep, x, label, &step, &loss), EP_ERR_INPUT);
                    CHECK_RC(ep_accumulate_labels(&ep, x, &label, 1, &loss), EP_ERR_INPUT);
                    x[i] = kept;
                }
            }
            CHECK_RC(ep_learn_label(&ep, x, label, &wild, &loss), EP_ERR_DIVERGED);
            CHECK(unchanged(&s, &ep) && loss == 42);
            /* One that starts another optimizer must leave the old one's state. */
            const ep_step other = {.lr = 3e38f, .optimizer = o == 1 ? &ep_nesterov : &ep_momentum};
            if (o > 0) CHECK_RC(ep_learn_label(&ep, x, label, &other, &loss), EP_ERR_DIVERGED);
            CHECK(unchanged(&s, &ep));
            CHECK_RC(ep_apply(&ep, &wild), EP_ERR_DIVERGED);
            s.ep.samples = 0; /* the sums are dropped */
            CHECK(unchanged(&s, &ep));
            CHECK_RC(ep_learn_label(&ep, x, label, &step, &loss), EP_OK);
            free(arena);
        }
    }
}

/* What weight decay adds may be near the largest float though the step is small: rounding could take it beyond. */
static void large_decays_are_refused(void)
{
    static const ep_optimizer *const all[] = {&ep_sgd, &ep_momentum, &ep_nesterov, &ep_adam};
    for (int o = 0; o < 4; o++) {
        float x[6], values[256];
        uint32_t count;
        snapshot s;
        ep_t ep;
        build(1);
        fill_random(x, 6);
        void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, all[o]);
        ep_params(&ep, &count);
        for (uint32_t i = 0; i < count; i++) values[i] = 1e-3f;
        values[0] = 3e8f; /* of what the features of this sample do not reach */
        x[0] = 0;
        CHECK_RC(ep_set_params(&ep, values, count), EP_OK);
        CHECK_RC(ep_accumulate_labels(&ep, x, &(int32_t){0}, 1, NULL), EP_OK);
        take(&s, &ep);
        const ep_step step = {.lr = 1e-9f, .optimizer = all[o], .weight_decay = 1e30f};
        CHECK_RC(ep_learn_label(&ep, x, 0, &step, NULL), EP_ERR_DIVERGED);
        CHECK(unchanged(&s, &ep));
        CHECK_RC(ep_apply(&ep, &step), EP_ERR_DIVERGED);
        s.ep.samples = 0; /* the sums are dropped */
        CHECK(unchanged(&s, &ep));
        CHECK_RC(ep_learn_label(&ep, x, 0, &(ep_step){.lr = 1e-9f, .optimizer = all[o], .weight_decay = 1e3f}, NULL),
                 EP_OK);
        free(arena);
    }
}

/* The loss can be finite where a gradient on the way back is not, and the other way round. */
static void gradients_and_loss_are_checked_apart(void)
{
    const float x[6] = {0}, apart[4] = {1000, -1000, 0, 0}, far[4] = {1e25f, 0, 0, 0};
    float values[128], loss = 42;
    uint32_t count;
    snapshot s;
    ep_t ep;
    net_mlp(&m, &ep_mse, 0);
    void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, NULL);
    ep_params(&ep, &count);
    for (uint32_t i = 0; i < count; i++) values[i] = i < 40 ? 0 : i < 48 ? 1e-36f : i < 72 ? 3e38f : 0;
    CHECK_RC(ep_set_params(&ep, values, count), EP_OK);
    memset(ep.arena + ep.sums_at, 0, count * 4);
    take(&s, &ep); /* dh is 2e3/3 * 3e38 - 2e3/3 * 3e38 */
    CHECK_RC(ep_accumulate(&ep, x, apart, 1, &loss), EP_ERR_DIVERGED);
    CHECK_RC(ep_learn(&ep, x, apart, &(ep_step){.lr = 1e-30f}, &loss), EP_ERR_DIVERGED);
    CHECK(unchanged(&s, &ep));
    free(arena);
    net_head(&m, &ep_mse);
    arena = net_start(&ep, &m, 1, EP_FOR_SUMS, NULL);
    memset(ep.arena + ep.sums_at, 0, 112);
    take(&s, &ep); /* loss is 1e50 / 4 */
    CHECK_RC(ep_accumulate(&ep, x, far, 1, &loss), EP_ERR_DIVERGED);
    CHECK_RC(ep_learn(&ep, x, far, &(ep_step){.lr = 1e-30f}, &loss), EP_ERR_DIVERGED);
    CHECK(unchanged(&s, &ep) && loss == 42);
    free(arena);
}

/* lr * a overflows where lr * (a * g) does not. */
static void large_rates_of_small_gradients_are_exact(void)
{
    const float g[2] = {0, 1e-30f};
    float w[2] = {1, 2};
    ep_sgd.apply(&(ep_step){.lr = 1e20f}, 1, w, NULL, NULL, 1e25f, g, 2);
    CHECK_NEAR(w[0], 1, 0);
    CHECK_NEAR(w[1], -1e15, 1e-6);
}

/* A bad sample in any chunk: what the sums held before is there, to the bit. */
static void a_refused_batch_leaves_the_sums(void)
{
    enum { N = 6 };
    for (uint32_t capacity = 1; capacity <= 7; capacity++) {
        for (int bad = 0; bad < N; bad++) {
            int32_t labels[N] = {0, 1, 2, 0, 1, 2};
            float x[N * 5], kept[256], loss = 42;
            uint32_t count;
            snapshot s;
            ep_t ep;
            build(1);
            fill_random(x, N * 5);
            void *arena = net_start(&ep, &m, capacity, EP_FOR_SUMS, NULL);
            CHECK_RC(ep_accumulate_labels(&ep, x, labels, 2, NULL), EP_OK);
            take(&s, &ep);
            x[bad * 5] = NAN;
            CHECK_RC(ep_accumulate_labels(&ep, x, labels, N, &loss), EP_ERR_INPUT);
            CHECK_RC(ep_learn_batch_labels(&ep, x, labels, N, &(ep_step){.lr = 1}, &loss), EP_ERR_INPUT);
            x[bad * 5] = 3e38f; /* found only when the sample is run */
            labels[bad] = unlikely(&ep, x + bad * 5);
            CHECK_RC(ep_accumulate_labels(&ep, x, labels, N, &loss), EP_ERR_DIVERGED);
            CHECK_RC(ep_learn_batch_labels(&ep, x, labels, N, &(ep_step){.lr = 1}, &loss), EP_ERR_DIVERGED);
            CHECK(unchanged(&s, &ep) && loss == 42);
            /* With nothing accumulated, what a refused call left in the memory must not count. */
            CHECK_RC(ep_reset(&ep), EP_OK);
            CHECK_RC(ep_learn_batch_labels(&ep, x, labels, N, &(ep_step){.lr = 1}, &loss), EP_ERR_DIVERGED);
            CHECK_RC(ep_apply(&ep, &(ep_step){.lr = 1}), EP_ERR_ARG);
            x[bad * 5] = 0.5f;
            CHECK_RC(ep_learn_batch_labels(&ep, x, labels, N, &(ep_step){.lr = 1}, NULL), EP_OK);
            memcpy(kept, ep_params(&ep, &count), sizeof(float) * 75);
            CHECK_RC(ep_reset(&ep), EP_OK);
            CHECK_RC(ep_learn_batch_labels(&ep, x, labels, N, &(ep_step){.lr = 1}, NULL), EP_OK);
            CHECK(memcmp(kept, ep_params(&ep, &count), 4 * count) == 0);
            free(arena);
        }
    }
}

static void sums_that_overflow_are_dropped(void)
{
    const float x[6] = {1e18f, 1e18f, 1e18f, 1e18f, 1e18f, 1e18f}, t[4] = {0, 0, 0, 0};
    float before[28];
    uint32_t count;
    ep_t ep;
    net_head(&m, &ep_mse);
    void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, NULL);
    memcpy(before, ep_params(&ep, &count), sizeof before);
    for (int i = 0; i < 1000; i++) CHECK_RC(ep_accumulate(&ep, x, t, 1, NULL), EP_OK);
    float *sums = (float *)(void *)(ep.arena + ep.sums_at);
    sums[3] = INFINITY;
    CHECK_RC(ep_apply(&ep, &(ep_step){.lr = 1e-30f}), EP_ERR_DIVERGED);
    CHECK(memcmp(before, ep_params(&ep, &count), sizeof before) == 0 && ep.samples == 0);
    free(arena);
}

/* Large and small numbers at once: whatever is accepted leaves finite weights and state, whatever is not changes
 * nothing. */
static void no_step_makes_a_weight_infinite(void)
{
    static const ep_optimizer *const all[] = {&ep_sgd, &ep_momentum, &ep_nesterov, &ep_adam};
    int accepted = 0, refused = 0;
    for (int round = 0; round < 20000; round++) {
        static void *arena;
        static ep_t ep;
        snapshot s;
        float x[6], values[256];
        uint32_t count;
        if (round % 50 == 0) {
            free(arena);
            build(round / 50 % 4);
            arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, &ep_adam);
        }
        const int32_t label = random_label();
        const ep_step step = {.lr = powf(10, 38 * random_float()),
                              .optimizer = all[random_u32() % 4],
                              .weight_decay = random_u32() % 2 ? 0 : powf(10, 20 * random_float())};
        for (int i = 0; i < 6; i++) x[i] = random_u32() % 4 ? random_float() * powf(10, 30 * random_float()) : 0;
        if (round % 7 == 0) {
            ep_params(&ep, &count);
            for (uint32_t i = 0; i < count; i++) values[i] = random_float() * powf(10, 38 * random_float());
            ep_set_params(&ep, values, count);
        }
        take(&s, &ep);
        if (ep_learn_label(&ep, x, label, &step, NULL) == EP_OK) {
            const float *w = ep_params(&ep, &count);
            CHECK(EP_KERNEL(&ep, max_abs_f32)(w, count) <= ep.weight_bound * 1.0001f && ep.weight_bound < FLT_MAX);
            if (ep.state_at != EP_NONE) {
                CHECK(isfinite(EP_KERNEL(&ep, max_abs_f32)((const float *)(const void *)(ep.arena + ep.state_at),
                                                           ep.optimizer->slots * count)));
            }
            accepted++;
        } else {
            CHECK(unchanged(&s, &ep));
            refused++;
        }
    }
    CHECK(accepted > 1000 && refused > 1000);
    printf("%d steps taken, %d refused\n", accepted, refused);
}

/* The running bound of the weights grows with every step; once too large, the weights are looked at. */
static void long_runs_are_not_refused(void)
{
    const ep_step step = {.lr = 0.01f, .optimizer = &ep_adam, .weight_decay = 0.01f};
    float x[6];
    ep_t ep;
    build(1);
    void *arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, &ep_adam);
    for (int i = 0; i < 20000; i++) {
        const int32_t label = random_label();
        fill_random(x, 6);
        CHECK_RC(ep_learn_label(&ep, x, label, &step, NULL), EP_OK);
    }
    free(arena);
}

/* ---- The tail of the arena ---- */

static void sums_and_state_share_the_tail(void)
{
    const int32_t label = 0;
    const ep_step momentum = {.lr = 0.1f, .optimizer = &ep_momentum}, sgd = {.lr = 0.1f};
    const float x[6] = {1, 2, 3, 4, 5, 6};
    ep_t ep;
    build(0);
    const size_t train = ep_arena_size(&m.model, 1, EP_FOR_TRAIN, NULL), part = 112;
    uint8_t *arena = aligned(train + 3 * part);
    /* Room for one part: sums or state, whichever comes first. */
    CHECK_RC(ep_init(&ep, &m.model, arena, train + part), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_OK);
    CHECK_RC(ep_accumulate_labels(&ep, x, &label, 1, NULL), EP_ERR_ARENA);
    CHECK_RC(ep_learn_batch_labels(&ep, x, &label, 1, &momentum, NULL), EP_ERR_ARENA);
    CHECK_RC(ep_learn_label(&ep, x, label, &sgd, NULL), EP_OK);
    CHECK_RC(ep_accumulate_labels(&ep, x, &label, 1, NULL), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_ERR_ARENA);
    CHECK_RC(ep_apply(&ep, &sgd), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_OK);
    /* Room for two: sums in front, momentum behind, whichever comes first. */
    CHECK_RC(ep_init(&ep, &m.model, arena, train + 2 * part), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_OK);
    CHECK_RC(ep_accumulate_labels(&ep, x, &label, 1, NULL), EP_OK);
    CHECK(ep.sums_at == ep.tail_at && ep.state_at == ep.tail_at + part);
    CHECK_RC(ep_learn_label(&ep, x, label, &(ep_step){.lr = 1, .optimizer = &ep_adam}, NULL), EP_ERR_ARENA);
    CHECK_RC(ep_apply(&ep, &momentum), EP_OK);
    CHECK(ep.updates == 2);
    CHECK_RC(ep_learn_label(&ep, x, label, &(ep_step){.lr = 1, .optimizer = &ep_adam}, NULL), EP_OK);
    CHECK(ep.state_at == ep.tail_at && ep.sums_at == EP_NONE);
    /* Asked for by name, the sums' place is theirs. */
    CHECK_RC(ep_init_batch(&ep, &m.model, arena, train + 3 * part, 1, EP_FOR_SUMS, NULL), EP_OK);
    CHECK_RC(ep_learn_label(&ep, x, label, &momentum, NULL), EP_ERR_ARENA);
    free(arena);
}

/* ---- Selective backprop ---- */

static void small_losses_are_skipped(void)
{
    const int32_t label = 1;
    float x[6], loss, plain;
    snapshot s;
    ep_t ep;
    build(1);
    fill_random(x, 6);
    void *arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, &ep_adam);
    CHECK_RC(ep_learn_label(&ep, x, label, &(ep_step){.lr = 0.01f, .optimizer = &ep_adam}, NULL), EP_OK);
    take(&s, &ep);
    CHECK_RC(ep_learn_label(&ep, x, label,
                            &(ep_step){.lr = 0.01f, .optimizer = &ep_adam, .skip = ep_skip_small, .skip_below = 1e9f},
                            &plain),
             EP_OK);
    CHECK(ep.skipped == 1 && plain > 0);
    s.ep.skipped = 1;
    CHECK(unchanged(&s, &ep)); /* another optimizer leaves its state alone too */
    CHECK_RC(
        ep_learn_label(&ep, x, label, &(ep_step){.lr = 1, .skip = ep_skip_small, .skip_below = plain * 1.001f}, &loss),
        EP_OK);
    s.ep.skipped = 2;
    CHECK(unchanged(&s, &ep) && loss == plain);
    CHECK_RC(ep_learn_label(&ep, x, label, &(ep_step){.lr = 0.01f, .skip = ep_skip_small, .skip_below = plain}, &loss),
             EP_OK);
    CHECK(!unchanged(&s, &ep) && ep.skipped == 2 && loss == plain); /* not smaller */
    /* A loss that is no number is refused, not skipped. */
    const float huge[6] = {3e38f, -3e38f, 3e38f, 3e38f, -3e38f, 3e38f};
    CHECK_RC(ep_learn_label(&ep, huge, label,
                            &(ep_step){.lr = 0.01f, .skip = ep_skip_small, .skip_below = 1e9f, .skip_share = 0.9f},
                            NULL),
             EP_ERR_DIVERGED);
    CHECK(ep.skipped == 2);
    /* Nor does a step that is refused count as a loss that was seen. */
    ep.skip_at = 0.5f;
    CHECK_RC(ep_learn_label(&ep, huge, label, &(ep_step){.lr = 1e38f, .skip = ep_skip_small, .skip_share = 0.1f}, NULL),
             EP_ERR_DIVERGED);
    x[0] = 1;
    CHECK_RC(ep_learn_label(&ep, x, label, &(ep_step){.lr = 3e38f, .skip = ep_skip_small, .skip_share = 1e-9f}, NULL),
             EP_ERR_DIVERGED);
    CHECK(ep.skip_at == 0.5f);
    free(arena);
}

/* Of losses of any size, about the share that was asked for; those learned from are the larger ones. */
static void a_share_is_skipped(void)
{
    for (int k = 1; k < 4; k++) {
        const float share = 0.25f * (float)k;
        double sum[2] = {0, 0};
        int count[2] = {0, 0};
        ep_t ep;
        build(1);
        void *arena = net_start(&ep, &m, 1, EP_FOR_TRAIN, NULL);
        for (int i = 0; i < 8000; i++) {
            const int32_t label = random_label();
            const uint32_t before = ep.skipped;
            float x[6], loss;
            fill_random(x, 6);
            CHECK_RC(ep_learn_label(&ep, x, label, &(ep_step){.lr = 1e-4f, .skip = ep_skip_small, .skip_share = share},
                                    &loss),
                     EP_OK);
            sum[ep.skipped > before] += (double)loss;
            count[ep.skipped > before]++;
        }
        CHECK_NEAR(count[1] / 8000.0, (double)share, 0.03);
        CHECK(sum[0] / count[0] > 1.2 * sum[1] / count[1]);
        free(arena);
    }
}

static void skipping_is_for_single_samples(void)
{
    const int32_t label = 0;
    const float x[6] = {1, 2, 3, 4, 5, 6};
    const ep_step bad[] = {
        {.lr = 1, .skip = ep_skip_small, .skip_below = -1},       {.lr = 1, .skip = ep_skip_small, .skip_below = NAN},
        {.lr = 1, .skip = ep_skip_small, .skip_below = INFINITY}, {.lr = 1, .skip = ep_skip_small, .skip_share = -0.1f},
        {.lr = 1, .skip = ep_skip_small, .skip_share = 1},        {.lr = 1, .skip = ep_skip_small, .skip_share = NAN}};
    const ep_step fine[] = {{.lr = 1, .skip = ep_skip_small, .skip_below = 1},
                            {.lr = 1, .skip = ep_skip_small, .skip_share = 0.5f}};
    ep_t ep;
    build(1);
    void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, NULL);
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        CHECK_RC(ep_learn_label(&ep, x, label, &bad[i], NULL), EP_ERR_ARG);
    }
    CHECK_RC(ep_accumulate_labels(&ep, x, &label, 1, NULL), EP_OK);
    for (size_t i = 0; i < sizeof fine / sizeof fine[0]; i++) {
        CHECK_RC(ep_apply(&ep, &fine[i]), EP_ERR_ARG);
        CHECK_RC(ep_learn_batch_labels(&ep, x, &label, 1, &fine[i], NULL), EP_ERR_ARG);
    }
    CHECK_RC(ep_apply(&ep, &(ep_step){.lr = 0.01f}), EP_OK); /* the sums were left */
    free(arena);
}

int main(void)
{
    a_step_goes_down_the_gradient();
    a_mini_batch_takes_the_mean();
    optimizers_follow_their_formulas();
    adam_keeps_its_bias_correction_exact();
    another_optimizer_starts_afresh();
    clipping_limits_the_whole_gradient();
    clipping_takes_a_norm_beyond_floats();
    bad_steps_and_targets_are_refused();
    diverging_steps_change_nothing();
    large_decays_are_refused();
    gradients_and_loss_are_checked_apart();
    large_rates_of_small_gradients_are_exact();
    a_refused_batch_leaves_the_sums();
    sums_that_overflow_are_dropped();
    no_step_makes_a_weight_infinite();
    long_runs_are_not_refused();
    sums_and_state_share_the_tail();
    small_losses_are_skipped();
    a_share_is_skipped();
    skipping_is_for_single_samples();
    return failures != 0;
}
