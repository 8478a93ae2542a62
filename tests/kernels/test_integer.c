/* Rounding in integers against the floats it stands for, millions of times. */
#include "kernels/integer_s8.h"

#include <stdio.h>
#include <stdlib.h>

static uint64_t state = 88172645463325252u;
static unsigned long tried, failures;

static uint32_t random_u32(void)
{
    state ^= state << 13;
    state ^= state >> 7;
    state ^= state << 17;
    return (uint32_t)(state >> 16);
}

/* What the portable code gives, to 21 bits. */
static int32_t by_floats(int32_t sum, float multiplier)
{
    float v = (float)sum * multiplier;
    v = v < -2000.0f ? -2000.0f : v;
    v = v > 2000.0f ? 2000.0f : v;
    return ep_nearest(v);
}

static void compare(int32_t sum, float multiplier)
{
    const ep_factor f = ep_make_factor(multiplier);
    const int32_t got = ep_scale(sum, &f), want = by_floats(sum, multiplier);
    const int32_t limited = got < -2000 ? -2000 : got > 2000 ? 2000 : got;
    const uint32_t magnitude = (uint32_t)(sum < 0 ? -(int64_t)sum : sum);
    const int32_t exact = ep_scale_exactly(magnitude, &f), v = want < 0 ? -want : want;
    tried++;
    if ((limited != want || (exact > 2000 ? 2000 : exact) != v) && failures++ < 10) {
        printf("%ld * %.9g: %ld, not %ld\n", (long)sum, (double)multiplier, (long)limited, (long)want);
    }
}

static float as_float(uint32_t bits)
{
    float v;
    memcpy(&v, &bits, sizeof v);
    return v;
}

/* Around a product that is a half, where all rounding is decided: the multiplier nearest to (n + 1/2) / sum, and those beside. */
static void around_a_half(void)
{
    const int32_t sum = (int32_t)(random_u32() >> (random_u32() % 31)) | 1;
    const float near = ((float)(random_u32() % 256) + 0.5f) / (float)sum;
    uint32_t bits;
    memcpy(&bits, &near, sizeof bits);
    for (int32_t i = -3; i <= 3; i++) {
        const float multiplier = as_float(bits + (uint32_t)i);
        compare(sum, multiplier);
        compare(-sum, multiplier);
        compare(sum + 1, multiplier);
    }
}

/* Sums of every size times multipliers of every useful exponent, and now and then of any. */
static void anywhere(void)
{
    const int32_t sum = (int32_t)random_u32() >> (random_u32() % 32);
    const uint32_t exponent = random_u32() % 8 ? 100 + random_u32() % 40 : random_u32() % 255;
    compare(sum, as_float((random_u32() & 0x807FFFFFu) | exponent << 23));
}

/* Powers of two, whose products are halves exactly. */
static void ties(void)
{
    const uint32_t exponent = 100 + random_u32() % 30, odd = random_u32() % 3;
    compare((int32_t)random_u32() >> (random_u32() % 32), as_float(exponent << 23 | (odd == 0 ? 0x400000u : 0)));
}

int main(int argc, char **argv)
{
    const long rounds = argc > 1 ? atol(argv[1]) : 100000;
    for (long i = 0; i < rounds; i++) {
        around_a_half();
        anywhere();
        ties();
    }
    compare(INT32_MIN + 1, 0.5f);
    compare(INT32_MAX, 1e-7f);
    printf("%lu of %lu failed\n", failures, tried);
    return failures != 0;
}
