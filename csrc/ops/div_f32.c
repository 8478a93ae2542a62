/* y = clamp(a / b), broadcast. */
#include "binary_f32.h"

static inline float value(float a, float b)
{
    return a / b;
}

EP_BINARY_F32(div_f32)

#ifndef EP_NO_TRAIN

static inline float slope_a(float a, float b)
{
    (void)a;
    return 1.0f / b;
}

static inline float slope_b(float a, float b)
{
    return -a / (b * b);
}

EP_BINARY_F32_GRAD(div_f32)

#endif
