/* The error function. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return erff(x);
}

EP_UNARY_F32(erf_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    (void)a;
    return 1.1283792f * expf(-x * x);
}

EP_UNARY_F32_GRAD(erf_f32, EP_FROM_X)

#endif
