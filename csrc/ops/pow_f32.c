/* x to the power of alpha, a constant. */
#include "unary_f32.h"

/* Squares and cubes, which are nearly all there are, without powf(). */
static float raise(float x, float exponent)
{
    return exponent == 1.0f ? x : exponent == 2.0f ? x * x : exponent == 3.0f ? x * x * x : powf(x, exponent);
}

static float value(const ep_unary_attr *a, float x)
{
    return raise(x, a->alpha);
}

EP_UNARY_F32(pow_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    return a->alpha * raise(x, a->alpha - 1.0f);
}

EP_UNARY_F32_GRAD(pow_f32, EP_FROM_X)

#endif
