/* log(1 + exp(x)), of a negative exponent only, which cannot overflow. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    (void)a;
    return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}

EP_UNARY_F32(softplus_f32)

#ifndef EP_NO_TRAIN

/* sigmoid(x) = 1 - exp(-y). */
static float slope(const ep_unary_attr *a, float y)
{
    (void)a;
    return -expm1f(-y);
}

EP_UNARY_F32_GRAD(softplus_f32, EP_FROM_Y)

#endif
