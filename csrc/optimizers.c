/* Optimizers. An `apply` updates a range of weights from gradient a * g; a `bound` says how far a weight may move. */
#include "internal.h"

#ifndef EP_NO_TRAIN

static float or_default(float value, float standard)
{
    return value > 0.0f ? value : standard;
}

/* w -= lr * (a g + decay w), written so that without decay an element costs one multiply-add. */
static void sgd_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                      uint32_t count)
{
    const float rate = step->lr * a, keep = 1.0f - step->lr * step->weight_decay;
    (void)t, (void)s0, (void)s1;
    if (step->weight_decay > 0.0f) {
        for (uint32_t i = 0; i < count; i++) {
            w[i] = keep * w[i] - rate * g[i];
        }
        return;
    }
    for (uint32_t i = 0; i < count; i++) {
        w[i] -= rate * g[i];
    }
}

static float sgd_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    (void)t, (void)smax;
    return step->lr * gmax;
}

const ep_optimizer ep_sgd = {0, sgd_apply, sgd_bound};

/* Polyak 1964, in PyTorch's form: v = momentum v + g, w -= lr v. */
static void momentum_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                           uint32_t count)
{
    const float momentum = or_default(step->momentum, 0.9f);
    (void)t, (void)s1;
    for (uint32_t i = 0; i < count; i++) {
        s0[i] = momentum * s0[i] + (a * g[i] + step->weight_decay * w[i]);
        w[i] -= step->lr * s0[i];
    }
}

static float momentum_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    (void)t;
    return step->lr * (smax + gmax);
}

const ep_optimizer ep_momentum = {1, momentum_apply, momentum_bound};

/* Nesterov's look-ahead (Sutskever et al. 2013), in PyTorch's form: w -= lr (g + momentum v). */
static void nesterov_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                           uint32_t count)
{
    const float momentum = or_default(step->momentum, 0.9f);
    (void)t, (void)s1;
    for (uint32_t i = 0; i < count; i++) {
        const float grad = a * g[i] + step->weight_decay * w[i];
        s0[i] = momentum * s0[i] + grad;
        w[i] -= step->lr * (grad + momentum * s0[i]);
    }
}

static float nesterov_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    (void)t;
    return step->lr * (gmax + smax + gmax);
}

const ep_optimizer ep_nesterov = {1, nesterov_apply, nesterov_bound};

static float power(float base, uint32_t exponent)
{
    float result = 1.0f;
    for (; exponent; exponent >>= 1) {
        result *= exponent & 1u ? base : 1.0f;
        base *= base;
    }
    return result;
}

/* Kingma & Ba 2015, algorithm 1. */
static void adam_apply(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                       uint32_t count)
{
    const float beta1 = or_default(step->momentum, 0.9f), beta2 = or_default(step->beta2, 0.999f);
    const float epsilon = or_default(step->epsilon, 1e-8f);
    const float rate = step->lr / (1.0f - power(beta1, t)), root = 1.0f / sqrtf(1.0f - power(beta2, t));
    for (uint32_t i = 0; i < count; i++) {
        const float grad = a * g[i] + step->weight_decay * w[i];
        s0[i] = beta1 * s0[i] + (1.0f - beta1) * grad;
        s1[i] = beta2 * s1[i] + (1.0f - beta2) * grad * grad;
        w[i] -= rate * s0[i] / (sqrtf(s1[i]) * root + epsilon);
    }
}

/* |m| stays below the larger of what it was and the gradient; the root may be 0, so epsilon alone divides. A gradient
 * whose square overflows must not pass: it would leave an infinity in the state. */
static float adam_bound(const ep_step *step, uint32_t t, float gmax, float smax)
{
    const float beta1 = or_default(step->momentum, 0.9f), epsilon = or_default(step->epsilon, 1e-8f);
    const float largest = gmax > smax ? gmax : smax;
    (void)t;
    if (!(gmax <= 1e18f)) {
        return INFINITY;
    }
    return step->lr / (1.0f - beta1) * (largest / epsilon);
}

const ep_optimizer ep_adam = {2, adam_apply, adam_bound};

#endif
