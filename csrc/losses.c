/* Compute losses: the mean over n samples of `count` logits, and in the same pass its gradient. Each reads a logit
 * before it writes that logit's gradient, so both may be the same memory. A NaN among the logits makes the loss NaN. */
#include "internal.h"

#ifndef EP_NO_TRAIN

#include <string.h>

/* exp(x) for x <= 0 within 1e-7 of it, the same bits on every board; 0 below exp(-86). NaN passes. As 2^k * exp(r) with
 * |r| <= log(2) / 2, and Taylor's series to r^7. */
static float exp_of_negative(float x)
{
    if (x < -86.0f) return 0;
    if (!(x <= 0)) return x; /* NaN */
    const int32_t k = (int32_t)(x * 1.44269504f - 0.5f);
    const float n = (float)k, r = x - n * 0.693359375f + n * 2.12194440e-4f; /* the first product is exact */
    float p = 1.0f / 720 + r * (1.0f / 5040);
    p = 1.0f / 120 + r * p;
    p = 1.0f / 24 + r * p;
    p = 1.0f / 6 + r * p;
    p = 0.5f + r * p;
    p = 1 + r * p;
    p = 1 + r * p;
    uint32_t bits;
    memcpy(&bits, &p, sizeof bits);
    bits += (uint32_t)k << 23;
    memcpy(&p, &bits, sizeof p);
    return p;
}

/* loss = log(sum_j exp(s_j)) - s_y, shifted by the largest s so that exp cannot overflow; d s = softmax(s) - onehot. */
static float softmax_cross_entropy_forward(const float *logits, const ep_target *target, float *dlogits, uint32_t count,
                                           uint32_t n)
{
    const int32_t *labels = target->labels;
    const float mean = 1.0f / (float)n;
    float loss = 0;
    for (uint32_t k = 0; k < n; k++, logits += count, dlogits += count) {
        float largest = logits[0], sum = 0, picked, share;
        for (uint32_t j = 1; j < count; j++) {
            if (logits[j] > largest) largest = logits[j];
        }
        picked = logits[labels[k]] - largest;
        for (uint32_t j = 0; j < count; j++) {
            const float e = exp_of_negative(logits[j] - largest);
            dlogits[j] = e;
            sum += e;
        }
        /* cppcheck-suppress invalidFunctionArg ; count is never 0, and the largest logit adds exp(0) */
        loss += logf(sum) - picked;
        share = mean / sum;
        for (uint32_t j = 0; j < count; j++) dlogits[j] *= share;
        dlogits[labels[k]] -= mean;
    }
    return loss * mean;
}

const ep_loss ep_softmax_cross_entropy = {.forward = softmax_cross_entropy_forward, .labels = 1};

/* loss = max(s, 0) - s * t + log(1 + exp(-|s|)), which is -t log p - (1 - t) log(1 - p) without overflow;
 * d s = p - t with p = 1 / (1 + exp(-s)). */
static float sigmoid_cross_entropy_forward(const float *logits, const ep_target *target, float *dlogits, uint32_t count,
                                           uint32_t n)
{
    const size_t all = (size_t)count * n;
    const float mean = 1.0f / ((float)count * (float)n);
    float loss = 0;
    for (size_t i = 0; i < all; i++) {
        const float t = target->values != NULL ? target->values[i] : (float)target->labels[i];
        const float s = logits[i], e = exp_of_negative(-fabsf(s)), p = (s >= 0 ? 1 : e) / (1 + e);
        loss += (s >= 0 ? s : 0) - s * t + log1pf(e);
        dlogits[i] = (p - t) * mean;
    }
    return loss * mean;
}

const ep_loss ep_sigmoid_cross_entropy = {.forward = sigmoid_cross_entropy_forward, .shares = 1};

/* loss = (s - t)^2; d s = 2 (s - t). */
static float mse_forward(const float *logits, const ep_target *target, float *dlogits, uint32_t count, uint32_t n)
{
    const float *values = target->values;
    const size_t all = (size_t)count * n;
    const float mean = 1.0f / ((float)count * (float)n);
    float loss = 0;
    for (size_t i = 0; i < all; i++) {
        const float d = logits[i] - values[i];
        loss += d * d;
        dlogits[i] = 2 * d * mean;
    }
    return loss * mean;
}

const ep_loss ep_mse = {.forward = mse_forward};

/* Multi-class (Weston & Watkins 1999): loss = sum over j != y of max(0, 1 + s_j - s_y). */
static float hinge_forward(const float *logits, const ep_target *target, float *dlogits, uint32_t count, uint32_t n)
{
    const int32_t *labels = target->labels;
    const float mean = 1.0f / (float)n;
    float loss = 0;
    for (uint32_t k = 0; k < n; k++, logits += count, dlogits += count) {
        const uint32_t label = (uint32_t)labels[k];
        const float picked = logits[label];
        float violations = 0;
        for (uint32_t j = 0; j < count; j++) {
            const float margin = 1 + logits[j] - picked;
            dlogits[j] = 0;
            if (j == label || margin <= 0) continue; /* a NaN goes on, into the loss */
            loss += margin;
            dlogits[j] = mean;
            violations += mean;
        }
        dlogits[label] = -violations;
    }
    return loss * mean;
}

const ep_loss ep_hinge = {.forward = hinge_forward, .labels = 1};

#else
typedef int ep_losses_left_out; /* ISO C wants a declaration in every file */
#endif
