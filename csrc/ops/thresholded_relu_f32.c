/* x above alpha, else 0. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    return x <= a->alpha ? 0.0f : x; /* NaN passes */
}

EP_UNARY_F32(thresholded_relu_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    return x > a->alpha ? 1.0f : 0.0f;
}

EP_UNARY_F32_GRAD(thresholded_relu_f32, EP_FROM_X)

#endif
