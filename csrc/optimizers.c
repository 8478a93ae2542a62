/* Update weights by their gradients (optimizers), and bound by how much at most.
 *
 * The gradient is a * g, with weight_decay * w added. An `apply` is called for one range of weights after the other,
 * so all of them must see the same t. A `bound` must not be smaller than what apply() does, rounding apart, and is
 * infinite where the state would not stay finite. */
#include "internal.h"

#ifndef EP_NO_TRAIN

/* w -= lr * g */
static void sgd_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                      uint32_t count)
{
    const float lr = step->lr, decay = step->weight_decay, rate = lr * a;
    (void)t, (void)s0, (void)s1;
    if (decay == 0 && fabsf(rate) < EP_WEIGHT_LIMIT) { /* the usual case: two operations a weight */
        for (uint32_t i = 0; i < count; i++) w[i] -= rate * g[i];
        return;
    }
    for (uint32_t i = 0; i < count; i++) w[i] -= lr * (a * g[i] + decay * w[i]);
}

static float sgd_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    (void)t, (void)smax;
    return step->lr * gmax;
}

const ep_optimizer ep_sgd = {.apply = sgd_apply, .bound = sgd_bound};

static float or_else(float value, float otherwise)
{
    return value != 0 ? value : otherwise;
}

static float momentum_of(const ep_step *step)
{
    return or_else(step->momentum, 0.9f);
}

/* v = momentum * v + g;  w -= lr * v   (Polyak 1964, as PyTorch writes it) */
static void momentum_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                           uint32_t count)
{
    const float lr = step->lr, momentum = momentum_of(step), decay = step->weight_decay;
    (void)t, (void)s1;
    for (uint32_t i = 0; i < count; i++) {
        const float v = momentum * s0[i] + (a * g[i] + decay * w[i]);
        s0[i] = v;
        w[i] -= lr * v;
    }
}

static float velocity_bound(const ep_step *step, float gmax, float smax)
{
    const float v = momentum_of(step) * smax + gmax;
    return v <= EP_WEIGHT_LIMIT ? v : INFINITY;
}

static float momentum_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    (void)t;
    return step->lr * velocity_bound(step, gmax, smax);
}

const ep_optimizer ep_momentum = {
    .slots = 1, .apply = momentum_apply, .bound = momentum_bound, .place = ep_place_state};

/* v = momentum * v + g;  w -= lr * (g + momentum * v)   (Nesterov 1983 in the form of Sutskever et al. 2013) */
static void nesterov_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                           uint32_t count)
{
    const float lr = step->lr, momentum = momentum_of(step), decay = step->weight_decay;
    (void)t, (void)s1;
    for (uint32_t i = 0; i < count; i++) {
        const float gi = a * g[i] + decay * w[i], v = momentum * s0[i] + gi;
        s0[i] = v;
        w[i] -= lr * (gi + momentum * v);
    }
}

static float nesterov_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    (void)t;
    return step->lr * (gmax + momentum_of(step) * velocity_bound(step, gmax, smax));
}

const ep_optimizer ep_nesterov = {
    .slots = 1, .apply = nesterov_apply, .bound = nesterov_bound, .place = ep_place_state};

/* 1 - beta^t by squaring, on q = 1 - beta^k itself: 1 - beta^(j+k) = p + (1 - p) q has no cancellation, which
 * 1 - powf() has while t is small. At most 32 rounds. */
static float bias_correction(float beta, uint32_t t)
{
    float p = 0, q = 1 - beta;
    for (; t != 0; t >>= 1) {
        if (t & 1) p += (1 - p) * q;
        q += (1 - q) * q;
    }
    return p;
}

static float epsilon_of(const ep_step *step)
{
    return or_else(step->epsilon, 1e-8f);
}

/* m = beta1 * m + (1 - beta1) * g;  v = beta2 * v + (1 - beta2) * g^2;
 * w -= lr * (m / (1 - beta1^t)) / (sqrt(v / (1 - beta2^t)) + epsilon)   (Kingma & Ba 2015, algorithm 1) */
static void adam_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                       uint32_t count)
{
    const float beta1 = momentum_of(step), beta2 = or_else(step->beta2, 0.999f), decay = step->weight_decay;
    const float epsilon = epsilon_of(step);
    const float rate = step->lr / bias_correction(beta1, t), unbias = 1 / bias_correction(beta2, t);
    for (uint32_t i = 0; i < count; i++) {
        const float gi = a * g[i] + decay * w[i];
        s0[i] = beta1 * s0[i] + (1 - beta1) * gi;
        s1[i] = beta2 * s1[i] + (1 - beta2) * gi * gi;
        w[i] -= rate * s0[i] / (sqrtf(s1[i] * unbias) + epsilon);
    }
}

/* The root may underflow to 0, so only epsilon is sure to be in the denominator. g^2 must not overflow. */
static float adam_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    const float beta1 = momentum_of(step), m = beta1 * smax + (1 - beta1) * gmax;
    if (!(gmax < 1e18f)) return INFINITY;
    return step->lr / bias_correction(beta1, t) * m / epsilon_of(step);
}

const ep_optimizer ep_adam = {.slots = 2, .apply = adam_apply, .bound = adam_bound, .place = ep_place_state};

#else
typedef int ep_optimizers_left_out; /* ISO C wants a declaration in every file */
#endif
