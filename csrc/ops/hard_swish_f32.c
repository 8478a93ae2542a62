/* x * (x / 6 + 1/2, held to 0 .. 1) (Howard and others, 2019). */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    const float v = x * (1.0f / 6.0f) + 0.5f;
    return x * (v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v);
}

EP_UNARY_F32(hard_swish_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    (void)a;
    return x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : x * (1.0f / 3.0f) + 0.5f;
}

EP_UNARY_F32_GRAD(hard_swish_f32, EP_FROM_X)

#endif
