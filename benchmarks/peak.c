/* What one core can do at most: multiply-accumulates in registers, and reads from memory.
 *
 *     peak [BYTES ...]
 *
 * prints a line `mac DTYPE GMAC/s INSTRUCTION` for float32 and int8, and a line `read BYTES GB/s` for each buffer size.
 * Built for the machine it runs on (-march=native): which instructions it takes is seen here, by the compiler's macros.
 */
#define _POSIX_C_SOURCE 200809L
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <time.h>

#if defined(__SSE2__)
#include <immintrin.h>
#elif defined(__ARM_NEON)
#include <arm_neon.h>
#endif

enum { ROUNDS = 60, TURNS = 20000, CHAINS = 12 }; /* CHAINS: enough to hide the latency of an instruction */

#if defined(__AVX512F__)
#define BYTES 64
#elif defined(__AVX__)
#define BYTES 32
#else
#define BYTES 16
#endif
typedef float floats __attribute__((vector_size(BYTES)));
typedef uint32_t words __attribute__((vector_size(BYTES)));

static volatile int zero; /* what the compiler cannot know */

/* Tells the compiler that a register's value is used and changed here: it stays where it is. */
#if defined(__AVX512F__)
#define KEEP(v) __asm__ volatile("" : "+v"(v))
#elif defined(__SSE2__)
#define KEEP(v) __asm__ volatile("" : "+x"(v))
#elif defined(__ARM_NEON)
#define KEEP(v) __asm__ volatile("" : "+w"(v))
#else
#define KEEP(v) __asm__ volatile("" : "+m"(v))
#endif

static double seconds(void)
{
    struct timespec t;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &t);
    return (double)t.tv_sec + 1e-9 * (double)t.tv_nsec;
}

/* ---- float32: acc = acc * a + b, which the compiler contracts to one instruction where there is one ------------- */

static const char *const f32_name = BYTES == 64 ? "vfmadd zmm" : BYTES == 32 ? "vfmadd ymm" : "128-bit fma";
enum { F32_MACS = BYTES / 4 };

static void f32_turns(void)
{
    floats acc[CHAINS], a = {0}, b = {0};
    a += 0.5f + (float)zero;
    b += 1.0f + (float)zero;
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) acc[i] = a;
    for (int turn = 0; turn < TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = acc[i] * a + b;
            KEEP(acc[i]);
        }
    }
}

/* ---- int8 -------------------------------------------------------------------------------------------------------- */

#if defined(__AVX512VNNI__)
typedef __m512i ints;
#define INT8_NAME "vpdpbusd zmm"
enum { INT8_MACS = 64 };
static ints int8_start(int v)
{
    return _mm512_set1_epi8((char)v);
}
static ints int8_mac(ints acc, ints a, ints b)
{
    return _mm512_dpbusd_epi32(acc, a, b);
}
#elif defined(__AVX2__)
typedef __m256i ints;
#if defined(__AVXVNNI__)
#define INT8_NAME "vpdpbusd ymm"
enum { INT8_MACS = 32 };
static ints int8_mac(ints acc, ints a, ints b)
{
    return _mm256_dpbusd_avx_epi32(acc, a, b);
}
#else
#define INT8_NAME "vpmaddwd ymm"
enum { INT8_MACS = 16 };
static ints int8_mac(ints acc, ints a, ints b)
{
    return _mm256_add_epi32(acc, _mm256_madd_epi16(a, b));
}
#endif
static ints int8_start(int v)
{
    return _mm256_set1_epi8((char)v);
}
#elif defined(__SSE2__)
typedef __m128i ints;
#define INT8_NAME "pmaddwd xmm"
enum { INT8_MACS = 8 };
static ints int8_start(int v)
{
    return _mm_set1_epi8((char)v);
}
static ints int8_mac(ints acc, ints a, ints b)
{
    return _mm_add_epi32(acc, _mm_madd_epi16(a, b));
}
#elif defined(__ARM_FEATURE_DOTPROD)
typedef int32x4_t ints;
#define INT8_NAME "sdot"
enum { INT8_MACS = 16 };
static ints int8_start(int v)
{
    return vdupq_n_s32(v * 0x01010101);
}
static ints int8_mac(ints acc, ints a, ints b)
{
    return vdotq_s32(acc, vreinterpretq_s8_s32(a), vreinterpretq_s8_s32(b));
}
#elif defined(__ARM_NEON)
typedef int32x4_t ints;
#define INT8_NAME "smlal"
enum { INT8_MACS = 4 };
static ints int8_start(int v)
{
    return vdupq_n_s32(v * 0x01010101);
}
static ints int8_mac(ints acc, ints a, ints b)
{
    return vmlal_s16(acc, vget_low_s16(vreinterpretq_s16_s32(a)), vget_low_s16(vreinterpretq_s16_s32(b)));
}
#else
typedef int32_t ints;
#define INT8_NAME "scalar"
enum { INT8_MACS = 1 };
static ints int8_start(int v)
{
    return v;
}
static ints int8_mac(ints acc, ints a, ints b)
{
    return (ints)((uint32_t)acc + (uint32_t)a * (uint32_t)b);
}
#endif

static void int8_turns(void)
{
    ints acc[CHAINS], a = int8_start(3 + zero), b = int8_start(1 + zero);
#pragma GCC unroll 12
    for (int i = 0; i < CHAINS; i++) acc[i] = a;
    for (int turn = 0; turn < TURNS; turn++) {
#pragma GCC unroll 12
        for (int i = 0; i < CHAINS; i++) {
            acc[i] = int8_mac(acc[i], a, b);
            KEEP(acc[i]);
            KEEP(a); /* or a product of a and b would be taken once, before the loop */
        }
    }
}

/* ---- Memory ------------------------------------------------------------------------------------------------------- */

static const words *buffer;
static size_t vectors;

static void read_turn(void)
{
    words sum[8] = {{0}};
    for (size_t i = 0; i + 8 <= vectors; i += 8) {
#pragma GCC unroll 8
        for (size_t k = 0; k < 8; k++) {
            sum[k] ^= buffer[i + k];
            KEEP(sum[k]);
        }
    }
}

/* ---- All ---------------------------------------------------------------------------------------------------------- */

/* Least seconds of a call. */
static double least(void (*call)(void), int times)
{
    double best = 1e9;
    call();
    for (int round = 0; round < ROUNDS; round++) {
        double start = seconds();
        for (int i = 0; i < times; i++) call();
        double took = (seconds() - start) / times;
        if (took < best) best = took;
    }
    return best;
}

int main(int argc, char **argv)
{
    printf("mac f32 %.1f %s\n", 1e-9 * TURNS * CHAINS * F32_MACS / least(f32_turns, 1), f32_name);
    printf("mac int8 %.1f %s\n", 1e-9 * TURNS * CHAINS * INT8_MACS / least(int8_turns, 1), INT8_NAME);
    for (int i = 1; i < argc; i++) {
        size_t size = (size_t)strtoul(argv[i], NULL, 10) / (8 * BYTES) * (8 * BYTES);
        void *memory = NULL;
        if (size == 0 || posix_memalign(&memory, BYTES, size) != 0) return 1;
        for (size_t k = 0; k < size; k++) ((uint8_t *)memory)[k] = (uint8_t)k;
        buffer = (const words *)memory;
        vectors = size / BYTES;
        printf("read %s %.1f\n", argv[i], 1e-9 * (double)size / least(read_turn, 1 + (int)((1u << 20) / size)));
        free(memory);
    }
    return 0;
}
