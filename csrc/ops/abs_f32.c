/* |x|; at 0 the slope is 0. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return fabsf(x);
}

EP_UNARY_F32(abs_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    (void)a;
    return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f;
}

EP_UNARY_F32_GRAD(abs_f32, EP_FROM_X)

#endif
