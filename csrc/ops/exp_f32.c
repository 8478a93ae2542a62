/* exp(x), its own derivative. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return expf(x);
}

EP_UNARY_F32(exp_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float y)
{
    (void)a;
    return y;
}

EP_UNARY_F32_GRAD(exp_f32, EP_FROM_Y)

#endif
