/* x / (1 + |x|). */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return x / (1.0f + fabsf(x));
}

EP_UNARY_F32(softsign_f32)

#ifndef EP_NO_TRAIN

/* 1 / (1 + |x|)^2, where 1 / (1 + |x|) = 1 - |y|. */
static float slope(const ep_unary_attr *a, float y)
{
    (void)a;
    const float rest = 1.0f - fabsf(y);
    return rest * rest;
}

EP_UNARY_F32_GRAD(softsign_f32, EP_FROM_Y)

#endif
