/* The square root. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return sqrtf(x);
}

EP_UNARY_F32(sqrt_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float y)
{
    (void)a;
    return 0.5f / y;
}

EP_UNARY_F32_GRAD(sqrt_f32, EP_FROM_Y)

#endif
