/* As fuzz_ops.c, for the ops that move, gather, reduce, resample and multiply. Usage: fuzz_movement seed count. */
#include "harness.c"

#include <stdio.h>

#define MAX_ELEMENTS (1u << 14)
#define MAX_WORDS 24

static uint32_t state;

static uint32_t random_below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % limit;
}

static const int32_t hostile[] = {0,       -1,        1,        7, 64, 1 << 14, 65536, 1 << 28, (1 << 28) + 1,
                                  1 << 30, INT32_MAX, INT32_MIN};
static const float hostile_float[] = {NAN, -INFINITY, INFINITY, -1.0f, 0.0f, 3e38f};

typedef union word {
    int32_t i;
    float f;
} word;

static word words[MAX_WORDS];

static uint32_t product(int a, int b, int c)
{
    return (uint32_t)words[a].i * (uint32_t)words[b].i * (uint32_t)words[c].i;
}

/* The counts that fit the attributes: inputs, then y. */
static void count_box(uint32_t *counts)
{
    counts[0] = 1 + random_below(600);
    counts[1] = 1 + random_below(600);
}

static void count_concat(uint32_t *counts)
{
    counts[3] = 0;
    for (int i = 0; i < 3; i++) {
        counts[i] = (uint32_t)words[0].i * (1 + random_below(5));
        counts[3] += counts[i];
    }
}

static void count_gather(uint32_t *counts)
{
    counts[0] = product(0, 1, 3);
    counts[1] = (uint32_t)words[2].i;
    counts[2] = product(0, 2, 3);
}

static void count_embedding(uint32_t *counts)
{
    counts[0] = (uint32_t)words[0].i;
    counts[1] = (uint32_t)words[1].i * (uint32_t)words[2].i;
    counts[2] = (uint32_t)words[0].i * (uint32_t)words[2].i;
}

static void count_reduce(uint32_t *counts)
{
    counts[0] = product(0, 1, 2);
    counts[1] = (uint32_t)words[0].i * (uint32_t)words[2].i;
}

static void count_resample(uint32_t *counts)
{
    counts[0] = product(0, 1, 3);
    counts[1] = counts[2] = (uint32_t)words[2].i * (uint32_t)words[4].i;
    counts[3] = product(0, 2, 3);
}

static void count_matmul(uint32_t *counts)
{
    counts[0] = product(0, 1, 2);
    counts[1] = product(0, 2, 3);
    counts[2] = product(0, 1, 3);
}

static void count_conv(uint32_t *counts)
{
    const uint32_t out = words[14].i > 0 ? (uint32_t)words[5].i / (uint32_t)words[14].i : 1;
    counts[0] = product(0, 1, 2);
    counts[1] = product(2, 6, 7) * out;
    counts[2] = (uint32_t)words[5].i;
    counts[3] = product(3, 4, 5);
}

/* An op: letters for its attribute words (see plausible) and operands: f float32, w float32 weight, W float32 constant, i ids,
 * x index constant, b codes. */
typedef struct shape {
    const char *name, *words, *operands;
    void (*count)(uint32_t *counts);
} shape;

static const shape shapes[] = {
    {"box", "KKKKKKNNNNNNTTTTTTOOZf", "ff", count_box},
    {"concat", "sZ", "ffff", count_concat},
    {"gather", "ssssZ", "fxf", count_gather},
    {"embedding_f32", "sss", "iwf", count_embedding},
    {"reduce_f32", "sssR", "ff", count_reduce},
    {"resample_f32", "ssssK", "fxWf", count_resample},
    {"matmul_f32", "ssssFlh", "fff", count_matmul},
    {"matmul_s8", "ssss1lh", "bbb", count_matmul},
    {"conv_transpose2d_f32", "sscsscKKSSDDPPGlh", "fwwf", count_conv},
};

static word plausible(char kind, const char *name)
{
    const int codes = strstr(name, "_s8") != NULL;
    word w = {0};
    switch (kind) {
    case 's': w.i = 1 + (int32_t)random_below(9); break;
    case 'c': w.i = 1 + (int32_t)random_below(40); break;
    case 'K': w.i = 1 + (int32_t)random_below(3); break;
    case 'N': w.i = (int32_t)random_below(15) - 7; break;
    case 'O': w.i = (int32_t)random_below(300); break;
    case 'R': w.i = (int32_t)random_below(6); break;
    case 'S': w.i = 1 + (int32_t)random_below(3); break;
    case 'D': w.i = 1 + (int32_t)random_below(2); break;
    case 'P': w.i = (int32_t)random_below(4); break;
    case 'G': w.i = 1 + (int32_t)random_below(2); break;
    case 'F': w.i = (int32_t)random_below(2); break;
    case '1': w.i = 1; break;
    case 'T': w.i = (int32_t)random_below(12); break;
    case 'Z': w.i = random_below(8) ? 4 : 1; break;
    case 'f': w.f = 0.5f; break;
    case 'l': w.f = codes ? -100.0f : random_below(2) ? 0.0f : -INFINITY; break;
    default: w.f = codes ? 100.0f : random_below(2) ? 6.0f : INFINITY; break;
    }
    return w;
}

static void fill(const shape *s)
{
    const size_t count = strlen(s->words);
    for (size_t i = 0; i < count; i++) {
        words[i] = plausible(s->words[i], s->name);
    }
    if (strncmp(s->name, "conv", 4) == 0) {
        words[2].i *= words[14].i;
        words[5].i *= words[14].i;
    }
    for (uint32_t changes = random_below(3); changes > 0; changes--) {
        const uint32_t at = random_below((uint32_t)count);
        if (strchr("flh", s->words[at]) != NULL) {
            words[at].f = hostile_float[random_below(sizeof hostile_float / sizeof *hostile_float)];
        } else {
            words[at].i = hostile[random_below(sizeof hostile / sizeof *hostile)];
        }
    }
}

/* Room for `count` values of 4 bytes: floats; or for ids and indices small integers, a few of them hostile. */
static void *values(size_t count, int integers)
{
    word *p = malloc(count * sizeof *p + 1);
    if (p == NULL) {
        abort();
    }
    const uint32_t rare = integers ? 2000 : 50;
    for (size_t i = 0; i < count; i++) {
        if (integers) {
            p[i].i = random_below(rare) == 0 ? hostile[random_below(12)]
                                             : (int32_t)random_below(integers > 1 ? 3 : 12) - (integers == 1);
        } else {
            p[i].f = random_below(rare) == 0 ? hostile_float[random_below(6)] : (float)random_below(200) * 0.1f - 10.0f;
        }
    }
    return p;
}

static operand random_operand(const shape *s, int i, uint32_t count, uint32_t n)
{
    const char kind = s->operands[i];
    operand o = {.count = count,
                 .scale = 0.1f,
                 .zero_point = (int32_t)random_below(30) - 15,
                 .dtype = kind == 'b'                  ? EP_I8
                          : kind == 'i' || kind == 'x' ? EP_I32
                                                       : EP_F32,
                 .place_of = -1,
                 .gradient_of = -1,
                 .same_as = -1};
    if (random_below(100) == 0) {
        o.count += random_below(3) - (o.count > 0);
    }
    if (random_below(100) == 0) {
        o.dtype = (int32_t)random_below(6);
    }
    if (random_below(50) == 0) {
        o.scale = hostile_float[random_below(6)];
        o.zero_point = hostile[random_below(12)] & 0xFFFF;
    }
    o.flags = kind == 'w' ? 1 + (int32_t)random_below(2) : kind == 'W' || kind == 'x' ? EP_CONST : 0;
    if (random_below(100) == 0) {
        o.flags = (int32_t)random_below(4);
    }
    o.data = values((size_t)o.count * n, kind == 'i' ? 1 : kind == 'x' ? 2 : 0);
    o.gradient = values((size_t)o.count * n, 0);
    return o;
}

/* 1: it ran; 0: refused. */
static int try_node(const shape *s)
{
    uint32_t counts[MAX_OPERANDS];
    operand operands[MAX_OPERANDS];
    run_result result = {0.0f, 0};
    const uint32_t n = 1 + random_below(3);
    const int n_in = (int)strlen(s->operands) - 1, grad = strstr(s->name, "_s8") == NULL && random_below(4) != 0;
    fill(s);
    s->count(counts);
    for (int i = 0; i <= n_in; i++) {
        if (counts[i] > MAX_ELEMENTS) {
            counts[i] = random_below(MAX_ELEMENTS); /* let the check see that it does not fit */
        }
        operands[i] = random_operand(s, i, counts[i], n);
    }
    const run_args args = {operands,
                           n_in,
                           1,
                           n,
                           grad ? RUN_FORWARD | RUN_BACKWARD | RUN_PARAMS : RUN_FORWARD,
                           n > 1,
                           (uint8_t)random_below(8),
                           0};
    const int rc = run_node(s->name, words, &args, &result);
    for (int i = 0; i <= n_in; i++) {
        free(operands[i].data);
        free(operands[i].gradient);
    }
    if (rc > 0) {
        printf("%s: fault %d\n", s->name, rc);
        exit(1);
    }
    return rc == 0;
}

int main(int argc, char **argv)
{
    const size_t kinds = sizeof shapes / sizeof *shapes;
    unsigned ran[sizeof shapes / sizeof *shapes] = {0}, refused[sizeof shapes / sizeof *shapes] = {0};
    state = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) * 2654435761u + 1 : 1;
    const unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
    for (unsigned long i = 0; i < count; i++) {
        const size_t kind = i % kinds;
        *(try_node(&shapes[kind]) ? &ran[kind] : &refused[kind]) += 1;
    }
    for (size_t i = 0; i < kinds; i++) {
        printf("%s %u %u\n", shapes[i].name, ran[i], refused[i]);
    }
    return 0;
}
