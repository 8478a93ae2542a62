/* Random nodes of the float32 ops, most of them nonsense, for a build with sanitizers: whatever a check lets through must stay
 * inside its tensors. Usage: fuzz_ops seed count. Prints op, nodes that ran, nodes refused. */
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

/* What an op looks like: f float32 activations, w weights, a letter for each attribute word (see fill). */
typedef struct shape {
    const char *name;
    int act, weights;
    const char *words;
} shape;

static const shape shapes[] = {
    {"conv2d_f32", 1, 2, "sscsscKKSSDDPPGlh"},
    {"depthwise_conv2d_f32", 1, 2, "sscsscKKSSDDPPGlh"},
    {"dense_f32", 1, 2,
     "sss"
     "lh"},
    {"max_pool2d_f32", 1, 0, "sscssKKSSDDPPFPP"},
    {"average_pool2d_f32", 1, 0, "sscssKKSSDDPPFPP"},
    {"add_f32", 2, 0, "cflh"},
    {"clip_f32", 1, 0, "cflh"},
    {"leaky_relu_f32", 1, 0, "cflh"},
    {"sigmoid_f32", 1, 0, "cflh"},
    {"tanh_f32", 1, 0, "cflh"},
    {"affine_f32", 1, 2, "sslh"},
    {"softmax_f32", 1, 0, "ss"},
    {"transpose", 1, 0, "KKKKKKTTTTTTZ"},
    {"quantize", 1, 0, "cflh"},
    {"dequantize", 1, 0, "cflh"},
    {"copy", 1, 0, "cflh"},
    {"log_softmax_f32", 1, 0, "ss"},
    {"prelu_f32", 1, 1, "ss"},
    {"elu_f32", 1, 0, "cfff"},
    {"gelu_f32", 1, 0, "cfff"},
    {"gelu_tanh_f32", 1, 0, "cfff"},
    {"silu_f32", 1, 0, "cfff"},
    {"hard_sigmoid_f32", 1, 0, "cfff"},
    {"hard_swish_f32", 1, 0, "cfff"},
    {"softplus_f32", 1, 0, "cfff"},
    {"softsign_f32", 1, 0, "cfff"},
    {"mish_f32", 1, 0, "cfff"},
    {"abs_f32", 1, 0, "cfff"},
    {"exp_f32", 1, 0, "cfff"},
    {"log_f32", 1, 0, "cfff"},
    {"sqrt_f32", 1, 0, "cfff"},
    {"reciprocal_f32", 1, 0, "cfff"},
    {"pow_f32", 1, 0, "cfff"},
    {"erf_f32", 1, 0, "cfff"},
    {"thresholded_relu_f32", 1, 0, "cfff"},
    {"sign_f32", 1, 0, "cfff"},
    {"add_broadcast_f32", 2, 0, "KKKKKKBBBBBBBBBBBBflh"},
    {"sub_f32", 2, 0, "KKKKKKBBBBBBBBBBBBflh"},
    {"mul_f32", 2, 0, "KKKKKKBBBBBBBBBBBBflh"},
    {"div_f32", 2, 0, "KKKKKKBBBBBBBBBBBBflh"},
    {"min_f32", 2, 0, "KKKKKKBBBBBBBBBBBBflh"},
    {"max_f32", 2, 0, "KKKKKKBBBBBBBBBBBBflh"},
};

typedef union word {
    int32_t i;
    float f;
} word;

static word plausible(char kind)
{
    word w = {0};
    switch (kind) {
    case 's': w.i = 1 + (int32_t)random_below(9); break;
    case 'c': w.i = 1 + (int32_t)random_below(40); break;
    case 'K': w.i = 1 + (int32_t)random_below(4); break;
    case 'S': w.i = 1 + (int32_t)random_below(3); break;
    case 'D': w.i = 1 + (int32_t)random_below(2); break;
    case 'P': w.i = (int32_t)random_below(4); break;
    case 'G': w.i = 1 + (int32_t)random_below(2); break;
    case 'F': w.i = (int32_t)random_below(2); break;
    case 'B': w.i = random_below(2) ? 0 : (int32_t)random_below(9); break;
    case 'T': w.i = (int32_t)random_below(12); break;
    case 'Z': w.i = random_below(2) ? 4 : 1; break;
    case 'f': w.f = 0.5f; break;
    case 'l': w.f = random_below(2) ? 0.0f : -INFINITY; break;
    default: w.f = random_below(2) ? 6.0f : INFINITY; break;
    }
    return w;
}

static void fill(const shape *s, word *words)
{
    const size_t count = strlen(s->words);
    for (size_t i = 0; i < count; i++) {
        words[i] = plausible(s->words[i]);
    }
    if (strncmp(s->name, "depthwise", 9) == 0 && random_below(4)) {
        words[14] = words[2];
        words[5].i = words[2].i * (1 + (int32_t)random_below(3));
    } else if (strncmp(s->name, "conv", 4) == 0) {
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

/* a * b * c wrapped: too large for a tensor is as good as wrong. */
static uint32_t product(word a, word b, word c)
{
    return (uint32_t)a.i * (uint32_t)b.i * (uint32_t)c.i;
}

/* The counts that fit the attributes; x, then weights, then y. */
static void counts_of(const shape *s, const word *w, uint32_t *counts)
{
    const word one = {1};
    counts[0] = counts[1] = counts[2] = counts[3] = (uint32_t)w[0].i;
    if (strstr(s->name, "conv2d") != NULL) {
        const uint32_t group = w[14].i > 0 ? (uint32_t)w[2].i / (uint32_t)w[14].i : 1;
        counts[0] = product(w[0], w[1], w[2]);
        counts[1] = product(w[5], w[6], w[7]) * (s->name[0] == 'c' ? group : 1);
        counts[2] = (uint32_t)w[5].i;
        counts[3] = product(w[3], w[4], w[5]);
    } else if (strcmp(s->name, "dense_f32") == 0) {
        counts[0] = product(w[0], w[2], one);
        counts[1] = product(w[0], w[1], one);
        counts[2] = (uint32_t)w[1].i;
        counts[3] = product(w[1], w[2], one);
    } else if (strcmp(s->name, "affine_f32") == 0) {
        counts[0] = counts[3] = product(w[0], w[1], one);
        counts[1] = counts[2] = (uint32_t)w[1].i;
    } else if (strstr(s->name, "softmax_f32") != NULL) {
        counts[0] = counts[1] = product(w[0], w[1], one);
    } else if (strcmp(s->name, "prelu_f32") == 0) {
        counts[0] = counts[2] = product(w[0], w[1], one);
        counts[1] = (uint32_t)w[1].i;
    } else if (s->act == 2 && strlen(s->words) > 6) {
        counts[0] = 1 + random_below(60);
        counts[1] = 1 + random_below(60);
        counts[2] = product(w[0], w[1], w[2]) * product(w[3], w[4], w[5]);
    } else if (strstr(s->name, "pool2d") != NULL) {
        counts[0] = product(w[0], w[1], w[2]);
        counts[1] = product(w[3], w[4], w[2]);
    } else if (strcmp(s->name, "transpose") == 0) {
        counts[0] = 1 + random_below(400);
        counts[1] = product(w[0], w[1], w[2]) * product(w[3], w[4], w[5]);
    }
}

static float *floats(size_t count)
{
    float *p = malloc(count * sizeof *p + 1);
    if (p == NULL) {
        abort();
    }
    for (size_t i = 0; i < count; i++) {
        p[i] = random_below(50) == 0 ? hostile_float[random_below(6)] : (float)random_below(200) * 0.1f - 10.0f;
    }
    return p;
}

static int32_t type_of(const shape *s, int i)
{
    if ((strcmp(s->name, "quantize") == 0 && i == 1) || (strcmp(s->name, "dequantize") == 0 && i == 0)) {
        return random_below(2) ? EP_I8 : EP_U8;
    }
    return EP_F32;
}

/* An operand of random values; sometimes of a wrong type, count or kind. */
static operand random_operand(const shape *s, int i, uint32_t count, uint32_t n)
{
    const int weight = i >= s->act && i < s->act + s->weights;
    operand o = {.count = count,
                 .scale = 0.1f,
                 .zero_point = 5,
                 .dtype = type_of(s, i),
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
    o.flags = weight ? 1 + (int32_t)random_below(2) : 0;
    if (random_below(100) == 0) {
        o.flags = (int32_t)random_below(4);
    }
    o.data = floats((size_t)o.count * n);
    o.gradient = floats((size_t)o.count * n);
    return o;
}

/* 1: it ran; 0: refused; -1: too large to try. */
static int try_node(const shape *s)
{
    word words[MAX_WORDS];
    uint32_t counts[MAX_OPERANDS];
    operand operands[MAX_OPERANDS];
    run_result result = {0.0f, 0};
    const uint32_t n = 1 + random_below(3);
    const int n_in = s->act + s->weights, grad = strstr(s->name, "quantize") == NULL && random_below(4) != 0;
    fill(s, words);
    counts_of(s, words, counts);
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
                           (uint8_t)random_below(4),
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
