/* Random nodes of group_norm_f32, sparse_dense_f32 and the dynamically quantized layers, some words of them nonsense, for a build
 * with sanitizers: whatever a check lets through must stay inside its tensors. Usage: fuzz_norms seed count. */
#include "harness.c"

#include <stdio.h>

static uint32_t state = 1;

static uint32_t random_below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % limit;
}

static int32_t size(uint32_t limit)
{
    return 1 + (int32_t)random_below(limit);
}

static const int32_t hostile[] = {0, -1, 1, 7, 64, 65536, 1 << 28, (1 << 28) + 1, 1 << 30, INT32_MAX, INT32_MIN};
static const float hostile_float[] = {NAN, -INFINITY, INFINITY, -1.0f, 0.0f, 3e38f};

typedef union word {
    int32_t i;
    float f;
} word;

typedef struct node_case {
    word words[20];
    int n_words;
    operand operands[6];
    int n_in;
} node_case;

static void put(node_case *c, int32_t i)
{
    c->words[c->n_words++].i = i;
}

static void limits(node_case *c)
{
    c->words[c->n_words++].f = random_below(2) ? 0.0f : -INFINITY;
    c->words[c->n_words++].f = random_below(2) ? 6.0f : INFINITY;
}

static void add(node_case *c, int i, int32_t dtype, int32_t flags, int32_t count, uint32_t n)
{
    const size_t bytes = (size_t)count * n * 4;
    const operand o = {.count = (uint32_t)count,
                       .data = malloc(bytes),
                       .gradient = malloc(bytes),
                       .dtype = dtype,
                       .flags = flags,
                       .place_of = -1,
                       .gradient_of = -1,
                       .same_as = -1};
    float *values = o.data;
    for (size_t k = 0; k < (size_t)count * n; k++) {
        values[k] = random_below(40) ? (float)random_below(200) * 0.1f - 10.0f : hostile_float[random_below(6)];
        o.gradient[k] = values[k];
    }
    c->operands[i] = o;
}

static int32_t weight_flags(void)
{
    return 1 + (int32_t)random_below(2);
}

static void group_norm(node_case *c, uint32_t n)
{
    const int32_t rows = size(3), places = size(5), groups = size(4), channels = groups * size(40);
    put(c, rows), put(c, places), put(c, channels), put(c, groups), put(c, (int32_t)random_below(2));
    c->words[c->n_words++].f = random_below(2) ? 0.0f : 0.1f;
    limits(c);
    c->n_in = 3;
    add(c, 0, EP_F32, 0, rows * places * channels, n);
    add(c, 1, EP_F32, weight_flags(), channels, 1);
    add(c, 2, EP_F32, weight_flags(), channels, 1);
    add(c, 3, EP_F32, 0, rows * places * channels, n);
}

static void sparse_dense(node_case *c, uint32_t n)
{
    const int32_t n_in = size(300), n_out = size(6), rows = size(3), stored = size(90);
    put(c, n_in), put(c, n_out), put(c, rows), put(c, stored);
    limits(c);
    c->n_in = 5;
    add(c, 0, EP_F32, 0, rows * n_in, n);
    add(c, 1, EP_F32, weight_flags(), stored, 1);
    add(c, 2, EP_F32, weight_flags(), n_out, 1);
    add(c, 3, EP_I32, 1, n_out + 1, 1);
    add(c, 4, EP_U8, 1, 2 * stored, 1);
    add(c, 5, EP_F32, 0, rows * n_out, n);
    int32_t *starts = c->operands[3].data;
    uint8_t *columns = c->operands[4].data;
    starts[0] = 0;
    for (int32_t k = 1; k < n_out; k++) {
        starts[k] = starts[k - 1] + (int32_t)random_below((uint32_t)(stored - starts[k - 1]) + 1);
    }
    starts[n_out] = stored;
    for (int32_t i = 0; i < stored; i++) {
        const uint32_t at = random_below((uint32_t)n_in);
        columns[2 * i] = (uint8_t)at;
        columns[2 * i + 1] = (uint8_t)(at >> 8);
    }
    if (random_below(8) == 0) starts[random_below((uint32_t)n_out + 1)] = hostile[random_below(11)];
    if (random_below(8) == 0) columns[random_below(2 * (uint32_t)stored)] = (uint8_t)random_below(256);
}

static void dynamic_layer(node_case *c, uint32_t n, int32_t x, int32_t w, int32_t channels, int32_t y)
{
    limits(c);
    c->n_in = 5;
    add(c, 0, EP_F32, 0, x, n);
    add(c, 1, EP_I8, 1, w, 1);
    add(c, 2, EP_F32, 1, channels, 1);
    add(c, 3, EP_F32, 1, channels, 1);
    add(c, 4, EP_I8, 1, channels, 1);
    add(c, 5, EP_F32, 0, y, n);
}

static void dynamic_dense(node_case *c, uint32_t n)
{
    const int32_t n_in = size(300), n_out = size(6), rows = size(3);
    put(c, n_in), put(c, n_out), put(c, rows);
    dynamic_layer(c, n, rows * n_in, n_in * n_out, n_out, rows * n_out);
}

static void dynamic_conv2d(node_case *c, uint32_t n)
{
    const int32_t groups = size(2), in_c = groups * size(30), out_c = groups * size(3), in_h = size(6), in_w = size(6);
    const int32_t out_h = size(5), out_w = size(5), kernel_h = size(3), kernel_w = size(3);
    put(c, in_h), put(c, in_w), put(c, in_c), put(c, out_h), put(c, out_w), put(c, out_c), put(c, kernel_h);
    put(c, kernel_w), put(c, size(3)), put(c, size(3)), put(c, size(2)), put(c, size(2));
    put(c, (int32_t)random_below(4)), put(c, (int32_t)random_below(4)), put(c, groups);
    dynamic_layer(c, n, in_h * in_w * in_c, out_c * kernel_h * kernel_w * (in_c / groups), out_c,
                  out_h * out_w * out_c);
}

typedef struct kind {
    const char *name;
    void (*fill)(node_case *c, uint32_t n);
    int grad;
    unsigned ran, refused;
} kind;

static kind kinds[] = {{"group_norm_f32", group_norm, 1, 0, 0},
                       {"sparse_dense_f32", sparse_dense, 1, 0, 0},
                       {"dynamic_dense_f32", dynamic_dense, 0, 0, 0},
                       {"dynamic_conv2d_f32", dynamic_conv2d, 0, 0, 0}};

/* Changes up to two words to nonsense, and now and then a type or a count (never beyond the memory there is). */
static void spoil(node_case *c)
{
    for (uint32_t changes = random_below(3); changes > 0; changes--) {
        word *w = &c->words[random_below((uint32_t)c->n_words)];
        if (random_below(2)) {
            w->i = hostile[random_below(11)];
        } else {
            w->f = hostile_float[random_below(6)];
        }
    }
    operand *o = &c->operands[random_below((uint32_t)c->n_in + 1)];
    if (random_below(30) == 0) o->count--;
    if (random_below(30) == 0) o->dtype = (int32_t)random_below(5);
    if (random_below(30) == 0) o->flags = (int32_t)random_below(4);
}

static void try_node(kind *k)
{
    const uint32_t n = 1 + random_below(3);
    node_case c = {.n_words = 0};
    run_result result = {0.0f, 0};
    k->fill(&c, n);
    spoil(&c);
    const int learns = k->grad && random_below(4);
    const run_args args = {c.operands,
                           c.n_in,
                           1,
                           n,
                           learns ? RUN_FORWARD | RUN_BACKWARD | RUN_PARAMS : RUN_FORWARD,
                           n > 1,
                           (uint8_t)random_below(2),
                           0};
    const int rc = run_node(k->name, c.words, &args, &result);
    for (int i = 0; i <= c.n_in; i++) {
        free(c.operands[i].data);
        free(c.operands[i].gradient);
    }
    if (rc > 0) {
        printf("%s: fault %d\n", k->name, rc);
        exit(1);
    }
    *(rc == 0 ? &k->ran : &k->refused) += 1;
}

int main(int argc, char **argv)
{
    state = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) * 2654435761u + 1 : 1;
    const unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
    for (unsigned long i = 0; i < count; i++) {
        try_node(&kinds[i % 4]);
    }
    for (int i = 0; i < 4; i++) {
        printf("%s %u %u\n", kinds[i].name, kinds[i].ran, kinds[i].refused);
    }
    return 0;
}
