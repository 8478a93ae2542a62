/* SiLU, alias Swish: x * sigmoid(alpha * x); alpha is 1 but for QuickGelu (1.702) and ONNX's Swish. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    return x * ep_sigmoid(a->alpha * x);
}

EP_UNARY_F32(silu_f32)

#ifndef EP_NO_TRAIN

static float slope(const ep_unary_attr *a, float x)
{
    const float s = ep_sigmoid(a->alpha * x);
    return s + a->alpha * x * s * (1.0f - s);
}

EP_UNARY_F32_GRAD(silu_f32, EP_FROM_X)

#endif
