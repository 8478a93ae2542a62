/* y = clamp(a - b), broadcast. */
#include "binary_f32.h"

static inline float value(float a, float b)
{
    return a - b;
}

EP_BINARY_F32(sub_f32)

#ifndef EP_NO_TRAIN

static inline float slope_a(float a, float b)
{
    (void)a;
    (void)b;
    return 1.0f;
}

static inline float slope_b(float a, float b)
{
    (void)a;
    (void)b;
    return -1.0f;
}

EP_BINARY_F32_GRAD(sub_f32)

#endif
