/* GELU: x * P(a normal variable is below x) (Hendrycks and Gimpel, 2016). */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return 0.5f * x * (1.0f + erff(x * 0.70710678f));
}

EP_UNARY_F32(gelu_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    (void)a;
    return 0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x);
}

EP_UNARY_F32_GRAD(gelu_f32, EP_FROM_X)

#endif
