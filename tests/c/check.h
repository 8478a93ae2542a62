/* What the C tests share: checks that say where they failed, random numbers, aligned memory. */
#ifndef CHECK_H
#define CHECK_H

#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeprop.h"
#include "internal.h"

static int failures;

#define CHECK(condition)                                           \
    do {                                                           \
        if (!(condition)) {                                        \
            printf("%s:%d: %s\n", __FILE__, __LINE__, #condition); \
            failures++;                                            \
        }                                                          \
    } while (0)

#define CHECK_RC(call, expected)                                                                \
    do {                                                                                        \
        int got_ = (call);                                                                      \
        if (got_ != (expected)) {                                                               \
            printf("%s:%d: %s gives %d, not %s\n", __FILE__, __LINE__, #call, got_, #expected); \
            failures++;                                                                         \
        }                                                                                       \
    } while (0)

/* |a - b| <= tolerance * max(1, |b|) */
#define CHECK_NEAR(a, b, tolerance)                                                           \
    do {                                                                                      \
        double a_ = (double)(a), b_ = (double)(b);                                            \
        if (!(fabs(a_ - b_) <= (double)(tolerance)*fmax(1.0, fabs(b_)))) {                    \
            printf("%s:%d: %s is %.9g, not %s = %.9g\n", __FILE__, __LINE__, #a, a_, #b, b_); \
            failures++;                                                                       \
        }                                                                                     \
    } while (0)

/* Marsaglia's xorshift. */
static inline uint32_t random_u32(void)
{
    static uint32_t state = 2463534242u;
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state;
}

/* Uniform in -1 .. 1. */
static inline float random_float(void)
{
    return (float)random_u32() / 2147483648.0f - 1.0f;
}

static inline void fill_random(float *v, size_t count)
{
    for (size_t i = 0; i < count; i++) v[i] = random_float();
}

/* Exactly `size` bytes, so that a sanitizer sees the first one behind; a multiple of EP_ALIGN or not. */
static inline void *aligned(size_t size)
{
    void *memory = NULL;
    if (posix_memalign(&memory, EP_ALIGN, size != 0 ? size : 1) != 0) abort();
    memset(memory, 0xA5, size);
    return memory;
}

#endif
