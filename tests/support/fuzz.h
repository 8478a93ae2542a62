/* What the fuzzers of nodes share: random nodes, most of them nonsense, for a build with sanitizers: whatever a check lets
 * through must stay inside its tensors and its working memory. */
#include "harness.c"

#include <stdio.h>

#define MAX_WORDS 24

static uint32_t state = 1;

static uint32_t random_below(uint32_t limit)
{
    state ^= state << 13;
    state ^= state >> 17;
    state ^= state << 5;
    return state % limit;
}

/* 1 .. limit */
static inline int32_t size(uint32_t limit)
{
    return 1 + (int32_t)random_below(limit);
}

static int32_t hostile_integer(void)
{
    static const int32_t values[] = {0,       -1,        1,        7, 64, 1 << 14, 65536, 1 << 28, (1 << 28) + 1,
                                     1 << 30, INT32_MAX, INT32_MIN};
    return values[random_below(sizeof values / sizeof *values)];
}

static float hostile_float(void)
{
    static const float values[] = {NAN, -INFINITY, INFINITY, -1.0f, 0.0f, 3e38f};
    return values[random_below(sizeof values / sizeof *values)];
}

static float some_float(uint32_t rare)
{
    return random_below(rare) == 0 ? hostile_float() : (float)random_below(200) * 0.1f - 10.0f;
}

static inline int32_t weight_flags(void)
{
    return 1 + (int32_t)random_below(2);
}

typedef union word {
    int32_t i;
    float f;
} word;

typedef struct node_case {
    word words[MAX_WORDS]; /* the attributes */
    operand operands[MAX_OPERANDS];
    int n_words, n_in, n_out;
    int learns;
    uint32_t n, scratch;
} node_case;

/* An op. `fill` makes a node that is right, or nearly so; the strings and `count` are for it alone. */
typedef struct kind kind;
struct kind {
    const char *name;
    void (*fill)(node_case *c, const kind *k);
    int learns; /* it has a backward */
    const char *words, *operands;
    void (*count)(const word *w, uint32_t *counts);
    unsigned ran, refused;
};

static inline void put(node_case *c, int32_t i)
{
    c->words[c->n_words++].i = i;
}

/* An operand of `count` elements, or as many for each sample, in memory for floats, which are random. */
static operand *add(node_case *c, int i, int32_t dtype, int32_t flags, int32_t count)
{
    const size_t values = (size_t)(uint32_t)count * (flags != 0 ? 1 : c->n);
    operand *o = &c->operands[i];
    float *data = malloc(values * 4 + 1), *gradient = malloc(values * 4 + 1);
    if (data == NULL || gradient == NULL) {
        abort();
    }
    for (size_t k = 0; k < values; k++) {
        data[k] = gradient[k] = some_float(40);
    }
    *o = (operand){.data = data,
                   .gradient = gradient,
                   .count = (uint32_t)count,
                   .dtype = dtype,
                   .flags = flags,
                   .place_of = -1,
                   .gradient_of = -1,
                   .same_as = -1};
    return o;
}

/* Changes up to two words to nonsense. */
static inline void spoil_words(node_case *c)
{
    for (uint32_t changes = random_below(3); changes > 0; changes--) {
        word *w = &c->words[random_below((uint32_t)c->n_words)];
        if (random_below(2)) {
            w->i = hostile_integer();
        } else {
            w->f = hostile_float();
        }
    }
}

/* Now and then another type, a count (never beyond the memory there is) or kind of an operand. */
static void spoil_operands(node_case *c)
{
    operand *o = &c->operands[random_below((uint32_t)(c->n_in + c->n_out))];
    if (random_below(30) == 0 && o->count > 0) o->count--;
    if (random_below(30) == 0) o->dtype = (int32_t)random_below(5);
    if (random_below(30) == 0 && (o->flags == 0 || c->n == 1)) o->flags = (int32_t)random_below(4);
}

static void try_node(kind *k, void (*spoil)(node_case *c))
{
    node_case c;
    run_result result = {0.0f, 0};
    memset(&c, 0, sizeof c);
    c.n = (uint32_t)size(3);
    kernels_turn = (int)random_below(16);
    c.n_out = 1;
    c.learns = k->learns && random_below(4) != 0;
    k->fill(&c, k);
    spoil(&c);
    const run_args args = {.operands = c.operands,
                           .n_in = c.n_in,
                           .n_out = c.n_out,
                           .n = c.n,
                           .phases = c.learns ? RUN_FORWARD | RUN_BACKWARD | RUN_PARAMS : RUN_FORWARD,
                           .sums = c.n > 1,
                           .accumulate = (uint8_t)random_below(8),
                           .scratch_bytes = c.scratch};
    const int rc = run_node(k->name, c.words, &args, &result);
    for (int i = 0; i < MAX_OPERANDS; i++) {
        free(c.operands[i].data);
        free(c.operands[i].gradient);
    }
    if (rc > 0) {
        printf("%s: fault %d\n", k->name, rc);
        exit(1);
    }
    *(rc == 0 ? &k->ran : &k->refused) += 1;
}

/* The program: seed, count. `spoil` makes nonsense of a node. Prints op, nodes that ran, nodes refused. */
static int fuzz(int argc, char **argv, kind *kinds, size_t n_kinds, void (*spoil)(node_case *c))
{
    state = argc > 1 ? (uint32_t)strtoul(argv[1], NULL, 10) * 2654435761u + 1 : 1;
    const unsigned long count = argc > 2 ? strtoul(argv[2], NULL, 10) : 100000;
    for (unsigned long i = 0; i < count; i++) {
        try_node(&kinds[i % n_kinds], spoil);
    }
    for (size_t i = 0; i < n_kinds; i++) {
        printf("%s %u %u\n", kinds[i].name, kinds[i].ran, kinds[i].refused);
    }
    return 0;
}
