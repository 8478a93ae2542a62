/* What the fuzzers' targets share: numbers drawn from the input, memory of exact sizes, and how a finding is told. */
#ifndef FUZZ_H
#define FUZZ_H

#include <float.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "edgeprop.h"
#include "internal.h"

#if defined(__has_feature)
#if __has_feature(memory_sanitizer)
#include <sanitizer/msan_interface.h>
#define FUZZ_MEMORY_SANITIZER 1
#define FUZZ_KNOWN(at, size) __msan_unpoison(at, size)
#endif
#endif
#ifndef FUZZ_MEMORY_SANITIZER
#define FUZZ_MEMORY_SANITIZER 0
#define FUZZ_KNOWN(at, size) ((void)(at), (void)(size))
#endif

/* Tells what is wrong and ends the program, so that the fuzzer keeps the input. */
#define EXPECT(condition, ...)                      \
    do {                                            \
        if (!(condition)) {                         \
            fprintf(stderr, "finding: ");           \
            fprintf(stderr, __VA_ARGS__);           \
            fprintf(stderr, " (%s)\n", #condition); \
            abort();                                \
        }                                           \
    } while (0)

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* What is drawn depends on the input alone, so that a finding shows again. */
static uint64_t fuzz_state;

static inline uint32_t draw(uint32_t below)
{
    fuzz_state = fuzz_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(fuzz_state >> 33) % below;
}

static inline uint32_t get_u32(const uint8_t *at)
{
    return at[0] | (uint32_t)at[1] << 8 | (uint32_t)at[2] << 16 | (uint32_t)at[3] << 24;
}

static inline void put_u32(uint8_t *at, uint32_t v)
{
    for (int i = 0; i < 4; i++) at[i] = (uint8_t)(v >> 8 * i);
}

/* Exactly `size` bytes that hold nothing yet, as the memory sanitizer sees it; the others see the first byte behind. */
static inline void *block(size_t size)
{
    void *memory = NULL;
    if (posix_memalign(&memory, EP_ALIGN, size != 0 ? size : 1) != 0) abort();
    if (!FUZZ_MEMORY_SANITIZER) memset(memory, 0xA5, size);
    return memory;
}

static inline int all_finite(const float *v, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        if (!(fabsf(v[i]) <= FLT_MAX)) return 0;
    }
    return 1;
}

/* Makes `ep` use the processor's kernels number `turn`, counted round and round, or those that EP_TEST_KERNELS counts to. */
static inline void choose_kernels(ep_t *ep, unsigned turn)
{
#ifdef EP_DISPATCH
    const char *fixed = getenv("EP_TEST_KERNELS");
    unsigned count = 0;
    while (ep_list_kernels(count) != NULL) count++;
    ep->kernels = ep_list_kernels((fixed != NULL ? (unsigned)atoi(fixed) : turn) % count);
#else
    (void)ep, (void)turn;
#endif
}

#endif
