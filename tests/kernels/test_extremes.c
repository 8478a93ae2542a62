/* int8 kernels at their extremes, each of the processor's, against sums in 64 bits: the largest products, sums at the end of
 * int32, multipliers from denormal to huge, long rows. float32 kernels with NaN and infinity at every place. Prints how many
 * values were compared; exits with 1 if one is wrong. */
#include "kernels/kernels.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static uint64_t state = 1;
static long compared, wrong;

static uint32_t dice(uint32_t sides)
{
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(state >> 33) % sides;
}

/* Exactly that much, so that a sanitizer sees one byte too many. */
static void *take(size_t size)
{
    void *block = malloc(size > 0 ? size : 1);
    if (block == NULL) exit(2);
    return block;
}

static float some_multiplier(void)
{
    static const float values[] = {0,    1e-45f, 1e-38f, 1e-30f, 1e-10f, 1e-6f, 0.001f,  0.5f,   1,
                                   1.5f, 3,      1e10f,  1e30f,  3e38f,  -1,    -0.001f, -3e38f, -0.0f};
    return dice(2) ? values[dice(sizeof values / sizeof *values)] : ldexpf(1.0f, (int)dice(40) - 35);
}

/* Limits of a clamp for a zero point, now and then narrower ones that are not whole. */
static ep_requant some_requant(const float *multiplier)
{
    const int32_t zero = (int32_t)dice(256) - 128;
    ep_requant q = {multiplier, (float)(-128 - zero), (float)(127 - zero), zero};
    if (dice(3) == 0) q.lo += 0.5f, q.hi -= 3.25f;
    if (q.lo > q.hi) q.lo = q.hi;
    return q;
}

/* docs/arithmetic.md, of a sum that fits int32. */
static int8_t code_of(int64_t sum, const ep_requant *q, size_t channel)
{
    float v = (float)(int32_t)sum * q->multiplier[channel];
    if (sum > INT32_MAX || sum < INT32_MIN) exit(3);
    v = v < q->lo ? q->lo : v;
    v = v > q->hi ? q->hi : v;
    return (int8_t)((int32_t)nearbyintf(v) + q->zero_point);
}

static void expect(const ep_kernels *k, const char *what, int good, int32_t count)
{
    compared++;
    if (!good && wrong++ < 10) printf("%s %s: wrong at count %ld\n", k->name, what, (long)count);
}

/* Codes that are all least, all extreme, or any; `narrow`: none is -128. */
static int8_t *codes(size_t count, uint32_t kind, int narrow)
{
    int8_t *v = take(count);
    for (size_t i = 0; i < count; i++) {
        v[i] = (int8_t)(kind == 0 ? -128 : kind == 1 ? (dice(2) ? 127 : -128) : (int32_t)dice(256) - 128);
        if (narrow && v[i] == -128) v[i] = -127;
    }
    return v;
}

static void gemm_s8(const ep_kernels *k, int32_t count)
{
    const int32_t rows = 1 + (int32_t)dice(5), columns = 1 + (int32_t)dice(count > 5000 ? 6 : 40),
                  narrow = (int32_t)dice(2);
    int8_t *x = codes((size_t)(rows * count), dice(3), 0), *w = codes((size_t)(columns * count), dice(3), narrow);
    int8_t *y = take((size_t)(rows * columns));
    int32_t *bias = take((size_t)columns * 4);
    float *multiplier = take((size_t)columns * 4);
    const int64_t limit = INT32_MAX - (int64_t)count * 16384;
    for (int32_t i = 0; i < columns; i++) {
        bias[i] = (int32_t)(dice(3) == 0 ? limit : dice(2) ? -limit : (int64_t)dice(1000) - 500);
        multiplier[i] = some_multiplier();
    }
    const ep_gemm_s8 g = {y, x, w, bias, some_requant(multiplier), columns, count, rows, columns, count, narrow};
    k->gemm_s8(&g);
    for (int32_t r = 0; r < rows; r++) {
        for (int32_t c = 0; c < columns; c++) {
            int64_t sum = bias[c];
            for (int32_t i = 0; i < count; i++) sum += x[r * count + i] * w[c * count + i];
            expect(k, "gemm_s8", y[r * columns + c] == code_of(sum, &g.q, (size_t)c), count);
        }
    }
    free(x), free(w), free(y), free(bias), free(multiplier);
}

static void requantize_s8(const ep_kernels *k)
{
    static const int32_t ends[] = {0, 1, -1, INT32_MAX, INT32_MIN, 16777217, -16777217, 3, 5};
    const int32_t count = 1 + (int32_t)dice(70);
    int32_t *sums = take((size_t)count * 4);
    float *multiplier = take((size_t)count * 4);
    int8_t *y = take((size_t)count);
    for (int32_t i = 0; i < count; i++) {
        sums[i] = dice(2) ? ends[dice(9)] : (int32_t)(dice(0x7FFFFFFF) << 1);
        multiplier[i] = some_multiplier();
    }
    const ep_requant q = some_requant(multiplier);
    k->requantize_s8(y, sums, &q, count);
    for (int32_t i = 0; i < count; i++) expect(k, "requantize_s8", y[i] == code_of(sums[i], &q, (size_t)i), count);
    free(sums), free(multiplier), free(y);
}

static void add_s8(const ep_kernels *k)
{
    static const float ratios[] = {1e-38f, 1e-10f, 0.5f, 1, 0.3333333f, 100, 1e10f, 9e29f};
    const size_t count = 1 + dice(80);
    int8_t *a = codes(count, dice(3), 0), *b = codes(count, dice(3), 0), *y = take(count), *want = take(count);
    ep_add_args p = {ratios[dice(8)], ratios[dice(8)], (float)dice(512) - 256.0f, 0, 0, dice(2) ? 128 : 0};
    if (dice(4) == 0) p.fixed = ratios[dice(8)] * 128;
    p.lo = (float)(p.offset - 128), p.hi = (float)(p.offset + 127);
    k->add_s8(&p, y, a, b, count);
    for (size_t i = 0; i < count; i++) { /* fused sums, and one rounding to a code */
        float v = fmaf((float)(a[i] + p.offset), p.a_ratio, fmaf((float)(b[i] + p.offset), p.b_ratio, p.fixed));
        v = v < p.lo ? p.lo : v;
        v = v > p.hi ? p.hi : v;
        want[i] = (int8_t)((int32_t)nearbyintf(v) - p.offset);
        expect(k, "add_s8", y[i] == want[i], (int32_t)count);
    }
    free(a), free(b), free(y), free(want);
}

/* What is no number is seen wherever it is, and passes a clamp. */
static void not_a_number(const ep_kernels *k, size_t count)
{
    static const float special[] = {NAN, -INFINITY, -77.0f};
    float *v = take(count * sizeof *v);
    for (size_t at = 0; at < count; at++) {
        for (int kind = 0; kind < 3; kind++) {
            for (size_t i = 0; i < count; i++) v[i] = (float)dice(1000) * 0.01f - 5.0f;
            v[at] = special[kind];
            const float most = k->max_abs_f32(v, count);
            expect(k, "max_abs_f32", kind == 0 ? isnan(most) : most == -special[kind], (int32_t)count);
            k->clamp_f32(v, 0.0f, 6.0f, count);
            expect(k, "clamp_f32", kind == 0 ? isnan(v[at]) : v[at] == 0.0f, (int32_t)count);
        }
    }
    free(v);
}

static void test_table(const ep_kernels *k, int rounds)
{
    static const int32_t counts[] = {1,  2,  3,   4,   7,   8,   15,   16,   17,    31,    32,     33,    63,
                                     64, 65, 127, 128, 129, 255, 1000, 4096, 65535, 65536, 100000, 131071};
    compared = 0;
    for (unsigned i = 0; i < sizeof counts / sizeof *counts; i++) {
        for (int round = 0; round < (counts[i] > 5000 ? 1 + rounds / 20 : rounds); round++) gemm_s8(k, counts[i]);
    }
    for (int round = 0; round < 100 * rounds; round++) requantize_s8(k), add_s8(k);
    for (size_t count = 1; count < 140; count += count < 70 ? 1 : 7) not_a_number(k, count);
    printf("%s: %ld compared\n", k->name, compared);
}

int main(int argc, char **argv)
{
    const int rounds = argc > 1 ? atoi(argv[1]) : 20;
#ifdef EP_DISPATCH
    for (unsigned i = 0; ep_list_kernels(i) != NULL; i++) test_table(ep_list_kernels(i), rounds);
#else
#define EP_ENTRY(type, name, arguments) EP_PICKED(name, EP_PICK_##name),
    static const ep_kernels picked = {"picked", EP_KERNELS(EP_ENTRY)};
    test_table(&picked, rounds);
#endif
    return wrong != 0;
}
