/* y = clamp(the smaller of a and b), broadcast. NaN passes. */
#include "binary_f32.h"

static inline float value(float a, float b)
{
    return a < b || a != a ? a : b;
}

EP_BINARY_F32(min_f32)

#ifndef EP_NO_TRAIN

/* Where both are equal, each takes half. */
static inline float slope_a(float a, float b)
{
    return a < b ? 1.0f : a > b ? 0.0f : 0.5f;
}

static inline float slope_b(float a, float b)
{
    return a > b ? 1.0f : a < b ? 0.0f : 0.5f;
}

EP_BINARY_F32_GRAD(min_f32)

#endif
