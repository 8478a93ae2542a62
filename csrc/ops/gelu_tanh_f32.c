/* GELU's approximation by tanh (Hendrycks and Gimpel, 2016). */
#include "unary_f32.h"

static float bend(float x)
{
    return tanhf(0.79788456f * (x + 0.044715f * x * x * x));
}

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return 0.5f * x * (1.0f + bend(x));
}

EP_UNARY_F32(gelu_tanh_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    (void)a;
    const float t = bend(x);
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456f * (1.0f + 0.134145f * x * x);
}

EP_UNARY_F32_GRAD(gelu_tanh_f32, EP_FROM_X)

#endif
