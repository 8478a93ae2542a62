/* Random nodes of rnn_f32, gru_f32 and lstm_f32, some words of them nonsense, for a build with sanitizers: whatever a check lets
 * through must stay inside its tensors and its working memory. Usage: fuzz_recurrent seed count. */
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

typedef struct node_case {
    ep_recurrent_attr attr;
    operand operands[MAX_OPERANDS];
    int n_in, n_out;
    uint32_t scratch;
} node_case;

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

typedef struct kind {
    const char *name;
    int32_t gates, kept;
    int states;
    int32_t variants;
    unsigned ran, refused;
} kind;

static kind kinds[] = {{"rnn_f32", 1, 1, 1, 2, 0, 0}, {"gru_f32", 3, 4, 1, 2, 0, 0}, {"lstm_f32", 4, 5, 2, 1, 0, 0}};

static void fill(node_case *c, const kind *k, uint32_t n, int learns)
{
    const int32_t d = size(2), h = size(20), x = size(9), steps = size(6), q = size(3), rows = d * k->gates * h;
    c->attr = (ep_recurrent_attr){steps,
                                  x,
                                  h,
                                  d,
                                  (int32_t)random_below(2),
                                  (int32_t)random_below((uint32_t)k->variants),
                                  (int32_t)random_below(4),
                                  q};
    add(c, 0, EP_F32, 0, q * steps * x, n);
    add(c, 1, EP_F32, weight_flags(), rows * x, n);
    add(c, 2, EP_F32, weight_flags(), rows * h, n);
    add(c, 3, EP_F32, weight_flags(), rows * 2, n);
    c->n_in = 4;
    for (int i = 0; i < k->states && (i > 0 || random_below(2)); i++) {
        const int32_t flags = (int32_t)random_below(2);
        add(c, c->n_in++, EP_F32, flags, q * d * h, n);
    }
    add(c, c->n_in, EP_F32, 0, q * steps * d * h, n);
    for (int i = 0; i < k->states; i++) {
        add(c, c->n_in + 1 + i, EP_F32, 0, q * d * h, n);
    }
    c->n_out = 1 + k->states;
    if (learns) {
        add(c, c->n_in + c->n_out++, EP_F32, 0, q * steps * d * k->kept * h, n);
    }
    c->scratch = (uint32_t)((k->kept > 3 ? k->kept : 3) * h * 4);
}

/* Changes up to two words to nonsense, and now and then a type, a count (never beyond the memory there is), or how many
 * operands there are. */
static void spoil(node_case *c)
{
    int32_t words[sizeof c->attr / 4];
    memcpy(words, &c->attr, sizeof words);
    for (uint32_t changes = random_below(3); changes > 0; changes--) {
        words[random_below(sizeof words / 4)] = hostile[random_below(11)];
    }
    memcpy(&c->attr, words, sizeof words);
    operand *o = &c->operands[random_below((uint32_t)(c->n_in + c->n_out))];
    if (random_below(30) == 0) o->count--;
    if (random_below(30) == 0) o->dtype = (int32_t)random_below(5);
    if (random_below(30) == 0 && o->flags != 0) o->flags = (int32_t)random_below(4);
    if (random_below(30) == 0) c->scratch -= 4;
    if (random_below(30) == 0) c->n_out--;
}

static void try_node(kind *k)
{
    const uint32_t n = 1 + random_below(3);
    const int learns = random_below(4) != 0;
    node_case c;
    run_result result = {0.0f, 0};
    memset(&c, 0, sizeof c);
    fill(&c, k, n, learns);
    const int operands = c.n_in + c.n_out;
    spoil(&c);
    const run_args args = {.operands = c.operands,
                           .n_in = c.n_in,
                           .n_out = c.n_out,
                           .n = n,
                           .phases = learns ? RUN_FORWARD | RUN_BACKWARD | RUN_PARAMS : RUN_FORWARD,
                           .sums = n > 1,
                           .accumulate = (uint8_t)random_below(2),
                           .scratch_bytes = c.scratch};
    const int rc = run_node(k->name, &c.attr, &args, &result);
    for (int i = 0; i < operands; i++) {
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
        try_node(&kinds[i % 3]);
    }
    for (int i = 0; i < 3; i++) {
        printf("%s %u %u\n", kinds[i].name, kinds[i].ran, kinds[i].refused);
    }
    return 0;
}
