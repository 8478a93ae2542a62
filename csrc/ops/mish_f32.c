/* x * tanh(log(1 + exp(x))) (Misra, 2019). */
#include "unary_f32.h"

static float bend(float x)
{
    return tanhf((x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x))));
}

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return x * bend(x);
}

EP_UNARY_F32(mish_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    (void)a;
    const float t = bend(x);
    return t + x * (1.0f - t * t) * ep_sigmoid(x);
}

EP_UNARY_F32_GRAD(mish_f32, EP_FROM_X)

#endif
