/* Every kernel an instruction set brings, against the portable one, on random shapes and values. Runs on a PC, where all
 * tables of the processor take their turn, and on boards; prints a line per kernel, exits with the number of failures. */
#if defined(GUARD) && (defined(__unix__) || defined(__APPLE__))
#define GUARD_PAGES 1
#define _DEFAULT_SOURCE 1 /* MAP_ANONYMOUS */
#include <sys/mman.h>
#endif

#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#ifndef ROUNDS
#define ROUNDS 400
#endif

#define EP_ENTRY(type, name, arguments) ep_##name##_portable,
static const ep_kernels portable = {"portable", EP_KERNELS(EP_ENTRY)};
#undef EP_ENTRY

#if defined(__unix__) || defined(__APPLE__)
#define LARGE 1 /* shapes now and then that a small board has no memory for */
#else
#define LARGE 0
#endif

static uint32_t state = 1;
static int failures;

static uint32_t random_u32(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8 ^ state << 16;
}

/* lo .. hi. */
static int32_t between(int32_t lo, int32_t hi)
{
    return lo + (int32_t)(random_u32() % (uint32_t)(hi - lo + 1));
}

static float random_float(void)
{
    return (float)between(-1000000, 1000000) * 1e-6f;
}

/* ---- Memory: blocks that end where the next page faults, exact blocks where a sanitizer may watch, or a pool, where a
 * microcontroller's MPU may keep what lies behind a block ------------------------------------------------------------- */

#ifdef GUARD_PAGES
#define LONG 1100 /* codes or elements of the longest rows */
enum { PAGE = 4096, MOST = 1 << 19 };
static uint8_t *regions[24]; /* of MOST bytes, with a page behind that nothing may touch */
static unsigned n_regions;

static void *take(size_t size)
{
    if (regions[n_regions] == NULL) {
        regions[n_regions] = mmap(NULL, MOST + PAGE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (regions[n_regions] == MAP_FAILED || mprotect(regions[n_regions] + MOST, PAGE, PROT_NONE) != 0) {
            printf("no memory\n");
            exit(99);
        }
    }
    return regions[n_regions++] + MOST - size;
}

static void drop_all(void)
{
    n_regions = 0;
}
#elif defined(__unix__) || defined(__APPLE__)
#define LONG 1100
static void *blocks[64];
static unsigned n_blocks;

static void *take(size_t size)
{
    blocks[n_blocks] = malloc(size > 0 ? size : 1);
    return blocks[n_blocks++];
}

static void drop_all(void)
{
    while (n_blocks > 0) {
        free(blocks[--n_blocks]);
    }
}
#else
#define LONG 300
static union {
    float aligned;
    uint8_t bytes[160000];
} pool __attribute__((aligned(32)));
static size_t used;

static void need(size_t size)
{
    if (size > sizeof pool.bytes) {
        printf("the pool is too small\n");
        exit(99);
    }
}

#ifdef GUARD
static volatile uint32_t *const mpu = (volatile uint32_t *)0xE000ED90;
enum { TYPE = 0, CTRL = 1, RNR = 2, RBAR = 3, RASR = 4, RLAR = 4, MAIR0 = 12 }; /* registers, in words */
enum { REDZONE = 32 }; /* bytes, the least that an MPU can keep */
static uint32_t n_guards;

/* A region: nobody's, or to read and write. ARMv8-M refuses the privileged nothing but what lies in two regions. */
static void set_region(uint32_t region, const uint8_t *at, size_t size, int ours)
{
    mpu[RNR] = region;
#if __ARM_ARCH >= 8
    (void)ours;
    mpu[RBAR] = (uint32_t)at | 3; /* to read and write, no code */
    mpu[RLAR] = ((uint32_t)at + (uint32_t)size - 1) / 32 * 32 | 1;
#else
    (void)size;
    mpu[RBAR] = (uint32_t)at;
    mpu[RASR] = ours ? 0 : 1u << 28 | 4 << 1 | 1; /* no access, no code, 2^(4 + 1) bytes */
#endif
}

/* Blocks end where nobody may read, the first ones, as many as there are regions. */
static void *take(size_t size)
{
    const size_t end = (used + size + REDZONE - 1) / REDZONE * REDZONE;
    const uint32_t regions = mpu[TYPE] >> 8 & 255;
    if (regions == 0) {
        printf("no MPU\n");
        exit(99);
    }
    need(end + REDZONE);
    if (used == 0) {
        mpu[MAIR0] = 0x44; /* plain memory */
        if (__ARM_ARCH >= 8) {
            set_region(n_guards++, pool.bytes, sizeof pool.bytes, 1);
        }
    }
    if (n_guards < regions) {
        set_region(n_guards++, pool.bytes + end, REDZONE, 0);
    }
    mpu[CTRL] = 5; /* on, and all else as it was */
    __asm__ volatile("dsb\n isb" ::: "memory");
    used = end + REDZONE;
    return pool.bytes + end - size;
}

static void drop_all(void)
{
    mpu[CTRL] = 0;
    __asm__ volatile("dsb\n isb" ::: "memory");
    while (n_guards > 0) {
        mpu[RNR] = --n_guards;
        mpu[RASR] = 0;
    }
    used = 0;
}
#else
static void *take(size_t size)
{
    void *block = pool.bytes + used;
    used += (size + 15) / 16 * 16;
    need(used);
    return block;
}

static void drop_all(void)
{
    used = 0;
}
#endif
#endif

/* Now and then all values are the extreme one: sums that do not fit in between show. */
static int8_t *codes(size_t count)
{
    int8_t *v = take(count);
    const uint32_t kind = random_u32() % 8;
    for (size_t i = 0; i < count; i++) {
        v[i] = (int8_t)(kind == 0 ? -128 : kind == 1 ? 127 : between(-128, 127));
    }
    return v;
}

static float *floats(size_t count)
{
    float *v = take(count * sizeof *v);
    for (size_t i = 0; i < count; i++) {
        v[i] = random_float();
    }
    return v;
}

static int32_t *biases(size_t count)
{
    int32_t *v = take(count * sizeof *v);
    for (size_t i = 0; i < count; i++) {
        v[i] = between(-20000, 20000);
    }
    return v;
}

/* `spread`: sums are about as large as this. */
static ep_requant requant(size_t channels, float spread)
{
    float *multiplier = take(channels * sizeof *multiplier);
    ep_requant q = {multiplier, 0, 0, between(-128, 127)};
    const int32_t lo = between(-128, 0), hi = between(1, 127);
    const float part = (float)between(0, 8) / 8;
    const uint32_t kind = random_u32() % 4;
    for (size_t i = 0; i < channels; i++) {
        multiplier[i] = 128.0f / spread * (float)between(100, 4000) * 1e-3f;
        if (kind == 0) {
            multiplier[i] = 1.0f / (float)(1 << between(1, 10)); /* ties */
        }
    }
    q.lo = (float)((kind & 1 ? -128 : lo) - q.zero_point);
    q.hi = (float)((kind & 1 ? 127 : hi) - q.zero_point);
    if (kind == 2) {
        q.lo += part * 0.9f;
        q.hi -= part * 0.7f;
    }
    return q;
}

/* ---- Comparison --------------------------------------------------------------------------------------------------- */

static void expect_codes(const char *what, const int8_t *got, const int8_t *want, size_t count, const int32_t *shape)
{
    for (size_t i = 0; i < count; i++) {
        if (got[i] != want[i]) {
            if (failures++ < 10) {
                printf("%s: shape %ld %ld %ld %ld, element %lu: %d, not %d\n", what, (long)shape[0], (long)shape[1],
                       (long)shape[2], (long)shape[3], (unsigned long)i, got[i], want[i]);
            }
            return;
        }
    }
}

static void expect_floats(const char *what, const float *got, const float *want, size_t count, const int32_t *shape)
{
    for (size_t i = 0; i < count; i++) {
        const float limit = 2e-5f + 2e-5f * fabsf(want[i]);
        if (!(fabsf(got[i] - want[i]) <= limit) && !(isnan(got[i]) && isnan(want[i])) && !(got[i] == want[i])) {
            if (failures++ < 10) {
                printf("%s: shape %ld %ld %ld %ld, element %lu: %g, not %g\n", what, (long)shape[0], (long)shape[1],
                       (long)shape[2], (long)shape[3], (unsigned long)i, (double)got[i], (double)want[i]);
            }
            return;
        }
    }
}

static void *copy_of(const void *v, size_t size)
{
    return memcpy(take(size), v, size);
}

/* ---- int8 --------------------------------------------------------------------------------------------------------- */

/* Codes for weights; none is -128 if `narrow`. */
static const int8_t *weights(size_t count, int narrow)
{
    int8_t *w = codes(count);
    for (size_t i = 0; narrow && i < count; i++) {
        w[i] = w[i] == -128 ? -127 : w[i];
    }
    return w;
}

static void gemm_s8(const ep_kernels *k)
{
    const int32_t rows = between(1, 20), columns = between(1, 40), count = between(1, random_u32() % 4 ? 80 : LONG);
    const int32_t gap_x = between(0, 5), gap_y = between(0, 5), shape[4] = {rows, columns, count, gap_x};
    const ptrdiff_t x_step = count + gap_x, y_step = columns + gap_y;
    const int narrow = (int)(random_u32() % 2);
    ep_gemm_s8 g = {NULL,
                    codes((size_t)((rows - 1) * x_step + count)),
                    weights((size_t)(columns * count), narrow),
                    biases((size_t)columns),
                    requant((size_t)columns, 128.0f * 74 * sqrtf((float)count)),
                    y_step,
                    x_step,
                    rows,
                    columns,
                    count,
                    narrow};
    const size_t size = (size_t)((rows - 1) * y_step + columns);
    int8_t *want = codes(size), *got = copy_of(want, size);
    g.y = want;
    portable.gemm_s8(&g);
    g.y = got;
    k->gemm_s8(&g);
    expect_codes("gemm_s8", got, want, size, shape);
}

static void conv_s8(const ep_kernels *k)
{
    const int32_t lines = between(1, 4), run = between(1, 12), columns = between(1, 40), pieces = between(1, 5);
    const int32_t piece = between(1, random_u32() % 4 ? 30 : 100), stride = between(1, piece), gap = between(0, 5);
    const int32_t width = (run - 1) * stride + piece + between(0, 9), shape[4] = {lines * run, columns, pieces, piece};
    const ptrdiff_t y_step = columns + gap, y_line = run * y_step;
    const size_t y_size = (size_t)((lines * run - 1) * y_step + columns);
    const int narrow = (int)(random_u32() % 2);
    ep_conv_s8 c = {NULL,
                    codes((size_t)((lines - 1 + pieces - 1) * width + (run - 1) * stride + piece)),
                    weights((size_t)(columns * pieces * piece), narrow),
                    biases((size_t)columns),
                    requant((size_t)columns, 128.0f * 74 * sqrtf((float)(pieces * piece))),
                    y_line,
                    y_step,
                    width,
                    stride,
                    width,
                    lines,
                    run,
                    columns,
                    pieces,
                    piece,
                    narrow};
    int8_t *want = codes(y_size), *got = copy_of(want, y_size);
    c.y = want;
    portable.conv_s8(&c);
    c.y = got;
    k->conv_s8(&c);
    expect_codes("conv_s8", got, want, y_size, shape);
}

static void depthwise_s8(const ep_kernels *k)
{
    static const uint8_t kernels[] = {1, 2, 3, 3, 3, 4, 5};
    const int32_t kh = kernels[between(0, 6)], kw = kernels[between(0, 6)];
    const int32_t channels = between(1, random_u32() % 4 ? 40 : 150), run = between(1, 6), stride = between(1, 2);
    const int32_t dilation = between(1, 2), gap = random_u32() % 2 ? between(0, 7) : 0, all = channels + gap;
    const int32_t lines = between(1, 3), shape[4] = {run, channels, kh, kw};
    const int32_t width = (run - 1) * stride + (kw - 1) * dilation + 1, height = (lines - 1) * stride + kh;
    const size_t x_size = (size_t)((height * width - 1) * all + channels);
    const size_t w_size = (size_t)((kh * kw - 1) * all + channels),
                 y_size = (size_t)((lines * run - 1) * all + channels);
    ep_depthwise_s8 d = {NULL,
                         codes(x_size),
                         codes(w_size),
                         biases((size_t)channels),
                         requant((size_t)channels, 128.0f * 74 * sqrtf((float)(kh * kw))),
                         run * all,
                         all,
                         stride * width * all,
                         stride * all,
                         width * all,
                         dilation * all,
                         kw * all,
                         all,
                         lines,
                         run,
                         channels,
                         kh,
                         kw};
    int8_t *want = codes(y_size), *got = copy_of(want, y_size);
    d.y = want;
    portable.depthwise_s8(&d);
    d.y = got;
    k->depthwise_s8(&d);
    expect_codes("depthwise_s8", got, want, y_size, shape);
}

static void requantize_s8(const ep_kernels *k)
{
    const int32_t count = between(1, 70), shape[4] = {count, 0, 0, 0};
    const int32_t bits = between(1, 30);
    const ep_requant q = requant((size_t)count, (float)(1 << bits));
    int32_t *sums = take((size_t)count * sizeof *sums);
    for (int32_t i = 0; i < count; i++) {
        sums[i] = (int32_t)(random_u32() % (2u << bits)) - (1 << bits);
    }
    sums[0] = random_u32() % 2 ? INT32_MAX - between(0, 9) : -INT32_MAX + between(0, 9);
    int8_t *want = codes((size_t)count + 1), *got = copy_of(want, (size_t)count + 1);
    portable.requantize_s8(want, sums, &q, count);
    k->requantize_s8(got, sums, &q, count);
    expect_codes("requantize_s8", got, want, (size_t)count + 1, shape);
}

static void add_s8(const ep_kernels *k)
{
    const int32_t count = between(1, 200), shape[4] = {count, 0, 0, 0};
    const int32_t offset = random_u32() % 2 ? 128 : 0, zero = between(-128, 127) + offset;
    const float whole = random_u32() % 4 == 0 ? 0.5f : 0; /* ties */
    const ep_add_args args = {whole > 0 ? whole : 0.01f + fabsf(random_float()),
                              whole > 0 ? whole : 0.01f + fabsf(random_float()) * 2,
                              whole > 0 ? (float)between(-100, 100) / 2 : random_float() * 100,
                              random_u32() % 2 ? (float)(-128 + offset) : (float)(zero < 120 ? zero : 120),
                              (float)(127 + offset),
                              offset};
    const int8_t *a = codes((size_t)count), *b = codes((size_t)count);
    int8_t *want = codes((size_t)count + 1), *got = copy_of(want, (size_t)count + 1);
    portable.add_s8(&args, want, a, b, (size_t)count);
    k->add_s8(&args, got, a, b, (size_t)count);
    expect_codes("add_s8", got, want, (size_t)count + 1, shape);
    int8_t *in_place = copy_of(a, (size_t)count);
    k->add_s8(&args, in_place, in_place, b, (size_t)count);
    expect_codes("add_s8 over a", in_place, want, (size_t)count, shape);
    in_place = copy_of(b, (size_t)count);
    k->add_s8(&args, in_place, a, in_place, (size_t)count);
    expect_codes("add_s8 over b", in_place, want, (size_t)count, shape);
}

/* Sums that two roundings make a tie and one does not: both products must be fused with what they are added to. */
static void add_s8_fused(const ep_kernels *k)
{
    const int32_t count = between(1, 40), shape[4] = {count, 0, 0, 0}, offset = random_u32() % 2 ? 128 : 0;
    const int first = (int)(random_u32() % 2);
    const int32_t code = between(-128, 127);
    const float ratio = 0.05f + fabsf(random_float()), product = (float)(code + offset) * ratio;
    const float fixed = (float)between(-20, 20) + 0.5f - product;
    const ep_add_args args = {ratio, ratio, fixed, (float)(-128 + offset), (float)(127 + offset), offset};
    int8_t *x = codes((size_t)count), *zero = codes((size_t)count);
    int8_t *want = codes((size_t)count), *got = copy_of(want, (size_t)count);
    for (int32_t i = 0; i < count; i++) {
        x[i] = (int8_t)code;
        zero[i] = (int8_t)-offset;
    }
    portable.add_s8(&args, want, first ? x : zero, first ? zero : x, (size_t)count);
    k->add_s8(&args, got, first ? x : zero, first ? zero : x, (size_t)count);
    expect_codes("add_s8 near ties", got, want, (size_t)count, shape);
}

static void max_s8(const ep_kernels *k)
{
    const int32_t count = between(1, 200), shape[4] = {count, 0, 0, 0};
    const int8_t *x = codes((size_t)count);
    int8_t *want = codes((size_t)count + 1), *got = copy_of(want, (size_t)count + 1);
    portable.max_s8(want, x, count);
    k->max_s8(got, x, count);
    expect_codes("max_s8", got, want, (size_t)count + 1, shape);
}

static void sum_s8(const ep_kernels *k)
{
    const int32_t count = between(1, 200), shape[4] = {count, 0, 0, 0};
    const int8_t *x = codes((size_t)count);
    int32_t *want = biases((size_t)count + 1), *got = copy_of(want, ((size_t)count + 1) * sizeof *want);
    portable.sum_s8(want, x, count);
    k->sum_s8(got, x, count);
    expect_codes("sum_s8", (const int8_t *)got, (const int8_t *)want, ((size_t)count + 1) * sizeof *want, shape);
}

/* ---- float32 ------------------------------------------------------------------------------------------------------ */

static void dots_f32(const ep_kernels *k)
{
    const int large = LARGE && random_u32() % 8 == 0;
    const int32_t rows = between(1, large ? 70 : 20), columns = between(1, large ? 140 : 40);
    const int32_t count = between(0, large ? 600 : random_u32() % 4 ? 40 : LONG / 2);
    const int32_t gap = between(0, 5), mode = between(0, 2), shape[4] = {rows, columns, count, mode};
    const ptrdiff_t x_step = count + gap, w_step = count + between(0, 5), y_step = columns + between(0, 5);
    const size_t size = (size_t)((rows - 1) * y_step + columns);
    ep_dots_f32 d = {NULL,
                     NULL,
                     floats((size_t)((rows - 1) * x_step + count)),
                     floats((size_t)((columns - 1) * w_step + count)),
                     y_step,
                     y_step,
                     x_step,
                     w_step,
                     rows,
                     columns,
                     count};
    float *want = floats(size), *got = copy_of(want, size * sizeof *want);
    const float *base = floats(size);
    d.base = mode == 0 ? want : base; /* mode 0: adds to y; 1: a matrix; 2: one row for all */
    d.base_step = mode == 2 ? 0 : y_step;
    d.y = want;
    portable.dots_f32(&d);
    d.base = mode == 0 ? got : base;
    d.y = got;
    k->dots_f32(&d);
    expect_floats("dots_f32", got, want, size, shape);
}

static void outer_f32(const ep_kernels *k)
{
    const int32_t rows = between(1, 12), columns = between(1, random_u32() % 4 ? 40 : 140);
    const int32_t count = between(0, LARGE && random_u32() % 8 == 0 ? 600 : 20);
    const int32_t transposed = between(0, 1), shape[4] = {rows, columns, count, transposed};
    const ptrdiff_t c_step = random_u32() % 4 ? columns + between(0, 5) : between(0, columns); /* rows may overlap */
    const ptrdiff_t b_step = columns + between(0, 5), a_row = transposed ? 1 : count + 2,
                    a_step = transposed ? rows + 3 : 1;
    const size_t size = (size_t)((rows - 1) * c_step + columns);
    ep_outer_f32 o = {NULL,
                      floats((size_t)((rows + 3) * (count + 3))),
                      floats((size_t)(count * b_step + columns)),
                      c_step,
                      a_row,
                      a_step,
                      b_step,
                      rows,
                      columns,
                      count};
    float *want = floats(size), *got = copy_of(want, size * sizeof *want);
    o.c = want;
    portable.outer_f32(&o);
    o.c = got;
    k->outer_f32(&o);
    expect_floats("outer_f32", got, want, size, shape);
}

static void depthwise_f32(const ep_kernels *k)
{
    const int32_t kh = between(1, 5), kw = between(1, 5), channels = between(1, random_u32() % 4 ? 40 : 150);
    const int32_t run = between(1, 6), lines = between(1, 3), stride = between(1, 2), all = channels + between(0, 7);
    const int32_t width = (run - 1) * stride + kw, height = (lines - 1) * stride + kh;
    const int32_t shape[4] = {run, channels, kh, kw};
    const size_t y_size = (size_t)((lines * run - 1) * all + channels);
    ep_depthwise_f32 d = {NULL,
                          floats((size_t)((height * width - 1) * all + channels)),
                          floats((size_t)((kh * kw - 1) * all + channels)),
                          floats((size_t)channels),
                          run * all,
                          all,
                          stride * width * all,
                          stride * all,
                          width * all,
                          all,
                          kw * all,
                          all,
                          lines,
                          run,
                          channels,
                          kh,
                          kw};
    float *want = floats(y_size), *got = copy_of(want, y_size * sizeof *want);
    d.y = want;
    portable.depthwise_f32(&d);
    d.y = got;
    k->depthwise_f32(&d);
    expect_floats("depthwise_f32", got, want, y_size, shape);
}

/* The ones over plain rows: what each does to y (count,), with one element behind that must stay. */
static void rows_f32(const ep_kernels *k)
{
    const size_t count = (size_t)between(1, 150), size = (count + 1) * sizeof(float);
    const int32_t shape[4] = {(int32_t)count, 0, 0, 0};
    const float *x = floats(count), *w = floats(count), a = random_float();
    float *start = floats(count + 1), *want, *got;
    start[random_u32() % count] = random_u32() % 2 ? NAN : -NAN;
    start[random_u32() % count] = INFINITY;
#define COMPARE(name, ...)                                   \
    want = copy_of(start, size), got = copy_of(start, size); \
    portable.name(want, __VA_ARGS__);                        \
    k->name(got, __VA_ARGS__);                               \
    expect_floats(#name, got, want, count + 1, shape);
    COMPARE(axpy_f32, a, x, count)
    COMPARE(multiply_add_f32, x, w, count)
    COMPARE(add_f32, x, count)
    COMPARE(clamp_f32, -0.3f, 0.4f, count)
    COMPARE(clamp_f32, 0.0f, INFINITY, count)
    COMPARE(mask_f32, x, -0.3f, 0.4f, count)
    COMPARE(mask_f32, x, x[0], x[count - 1], count)
#undef COMPARE
}

static void max_abs_f32(const ep_kernels *k)
{
    const size_t count = (size_t)between(0, 150);
    const int32_t shape[4] = {(int32_t)count, 0, 0, 0};
    float *v = floats(count), want, got;
    for (int special = 0; special < 3; special++) {
        if (special > 0 && count > 0) {
            v[random_u32() % count] = special == 1 ? -INFINITY : -NAN;
        }
        want = portable.max_abs_f32(v, count);
        got = k->max_abs_f32(v, count);
        expect_floats("max_abs_f32", &got, &want, 1, shape);
    }
}

static void test_table(const ep_kernels *k)
{
    static void (*const tests[])(const ep_kernels *) = {gemm_s8,       conv_s8,  depthwise_s8, requantize_s8, add_s8,
                                                        add_s8_fused,  max_s8,   sum_s8,       dots_f32,      outer_f32,
                                                        depthwise_f32, rows_f32, max_abs_f32};
    const int before = failures;
    for (unsigned t = 0; t < sizeof tests / sizeof *tests; t++) {
        for (int round = 0; round < ROUNDS; round++) {
            tests[t](k);
            drop_all();
        }
    }
    printf("%s: %d failures\n", k->name, failures - before);
}

int main(void)
{
#ifdef EP_DISPATCH
    for (unsigned i = 0; ep_list_kernels(i) != NULL; i++) {
        test_table(ep_list_kernels(i));
    }
#else
#define EP_ENTRY(type, name, arguments) EP_PICKED(name, EP_PICK_##name),
    static const ep_kernels picked = {"picked", EP_KERNELS(EP_ENTRY)};
    test_table(&picked);
#endif
    return failures != 0;
}
