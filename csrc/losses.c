/* Losses: value, and gradient with respect to the logits, which may be written over them. */
#include "internal.h"

#ifndef EP_NO_TRAIN

/* Mean over samples of log sum exp(z) - z[label]; the gradient is (softmax(z) - onehot) / n. The maximum is taken off
 * first, so that no exponential overflows. */
static float softmax_cross_entropy(const float *logits, const void *target, float *dlogits, uint32_t count, uint32_t n)
{
    const int32_t *label = target;
    const float share = 1.0f / (float)n;
    float loss = 0.0f;
    for (uint32_t s = 0; s < n; s++, logits += count, dlogits += count) {
        const uint32_t truth = (uint32_t)label[s];
        float max = logits[0], sum = 0.0f;
        for (uint32_t k = 1; k < count; k++) {
            max = logits[k] > max ? logits[k] : max;
        }
        const float margin = logits[truth] - max;
        for (uint32_t k = 0; k < count; k++) {
            dlogits[k] = expf(logits[k] - max);
            sum += dlogits[k];
        }
        const float scale = share / sum;
        for (uint32_t k = 0; k < count; k++) {
            dlogits[k] *= scale;
        }
        dlogits[truth] -= share;
        loss += logf(sum) - margin;
    }
    return loss * share;
}

const ep_loss ep_softmax_cross_entropy = {softmax_cross_entropy, 1};

/* Mean over samples and outputs of max(z, 0) - z t + log(1 + exp(-|z|)); the gradient is (sigmoid(z) - t) / (n count). */
static float sigmoid_cross_entropy(const float *logits, const void *target, float *dlogits, uint32_t count, uint32_t n)
{
    const float *truth = target;
    const size_t total = (size_t)count * n;
    const float share = 1.0f / (float)total;
    float loss = 0.0f;
    for (size_t i = 0; i < total; i++) {
        const float z = logits[i], e = expf(-fabsf(z));
        const float p = z >= 0.0f ? 1.0f / (1.0f + e) : e / (1.0f + e);
        loss += (z > 0.0f ? z : 0.0f) - z * truth[i] + log1pf(e);
        dlogits[i] = (p - truth[i]) * share;
    }
    return loss * share;
}

const ep_loss ep_sigmoid_cross_entropy = {sigmoid_cross_entropy, 0};

/* Mean over samples and outputs of (z - t)^2; the gradient is 2 (z - t) / (n count). */
static float mse(const float *logits, const void *target, float *dlogits, uint32_t count, uint32_t n)
{
    const float *truth = target;
    const size_t total = (size_t)count * n;
    const float share = 1.0f / (float)total;
    float loss = 0.0f;
    for (size_t i = 0; i < total; i++) {
        const float d = logits[i] - truth[i];
        loss += d * d;
        dlogits[i] = 2.0f * d * share;
    }
    return loss * share;
}

const ep_loss ep_mse = {mse, 0};

/* Mean over samples of the sum over wrong classes of max(0, 1 + z[k] - z[label]) (Weston & Watkins 1999). */
static float hinge(const float *logits, const void *target, float *dlogits, uint32_t count, uint32_t n)
{
    const int32_t *label = target;
    const float share = 1.0f / (float)n;
    float loss = 0.0f;
    for (uint32_t s = 0; s < n; s++, logits += count, dlogits += count) {
        const uint32_t truth = (uint32_t)label[s];
        const float right = logits[truth];
        float dright = 0.0f;
        for (uint32_t k = 0; k < count; k++) {
            const float margin = 1.0f + logits[k] - right;
            const int wrong = k != truth && !(margin <= 0.0f); /* NaN counts, so that it is noticed */
            loss += wrong ? margin : 0.0f;
            dlogits[k] = wrong ? share : 0.0f;
            dright -= dlogits[k];
        }
        dlogits[truth] = dright;
    }
    return loss * share;
}

const ep_loss ep_hinge = {hinge, 1};

#endif
