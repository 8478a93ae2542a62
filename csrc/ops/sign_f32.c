/* 1 above 0, -1 below, else 0; the slope is 0 everywhere. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x; /* NaN passes */
}

EP_UNARY_F32(sign_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float y)
{
    (void)a;
    (void)y;
    return 0.0f;
}

EP_UNARY_F32_GRAD(sign_f32, EP_FROM_Y)

#endif
