/* The natural logarithm. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return logf(x);
}

EP_UNARY_F32(log_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    (void)a;
    return 1.0f / x;
}

EP_UNARY_F32_GRAD(log_f32, EP_FROM_X)

#endif
