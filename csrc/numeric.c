/* Small loops over floats that several ops share. */
#include <string.h>

#include "internal.h"

/* As integers, |v| order as floats do, with infinity and then NaN on top: one compare finds all three. */
float ep_max_abs(const float *v, size_t count)
{
    uint32_t largest = 0;
    float result;
    for (size_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &v[i], sizeof bits);
        bits &= 0x7FFFFFFFu;
        if (bits > largest) largest = bits;
    }
    memcpy(&result, &largest, sizeof result);
    return result;
}

void ep_mask_clamp(float *dy, const float *y, float lo, float hi, size_t count)
{
    if (lo == -INFINITY && hi == INFINITY) return;
    for (size_t i = 0; i < count; i++) {
        if (!(y[i] > lo && y[i] < hi)) dy[i] = 0;
    }
}

/* Adding 1.5 * 2^23 leaves no fraction bits, so the addition itself rounds, half to even. */
int32_t ep_round_even(float v)
{
    const float shift = 12582912.0f;
    float shifted = v + shift;
    int32_t bits, zero;
    memcpy(&bits, &shifted, sizeof bits);
    memcpy(&zero, &shift, sizeof zero);
    return bits - zero;
}
