/* alpha * x + beta, held to 0 .. 1. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    const float v = a->alpha * x + a->beta;
    return v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v; /* NaN passes */
}

EP_UNARY_F32(hard_sigmoid_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float y)
{
    return y > 0.0f && y < 1.0f ? a->alpha : 0.0f;
}

EP_UNARY_F32_GRAD(hard_sigmoid_f32, EP_FROM_Y)

#endif
