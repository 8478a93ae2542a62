/* rnn_f32, gru_f32 and lstm_f32. Usage: fuzz_recurrent seed count. */
#include "fuzz.h"

static void recurrent(node_case *c, int32_t gates, int32_t kept, int states, int32_t variant)
{
    const int32_t d = size(2), h = size(20), x = size(9), steps = size(6), q = size(3), rows = d * gates * h;
    put(c, steps), put(c, x), put(c, h), put(c, d), put(c, (int32_t)random_below(2)), put(c, variant);
    put(c, (int32_t)random_below(4)), put(c, q);
    add(c, 0, EP_F32, 0, q * steps * x);
    add(c, 1, EP_F32, weight_flags(), rows * x);
    add(c, 2, EP_F32, weight_flags(), rows * h);
    add(c, 3, EP_F32, weight_flags(), rows * 2);
    c->n_in = 4;
    for (int i = 0; i < states && (i > 0 || random_below(2)); i++) {
        add(c, c->n_in++, EP_F32, (int32_t)random_below(2), q * d * h);
    }
    add(c, c->n_in, EP_F32, 0, q * steps * d * h);
    for (int i = 0; i < states; i++) {
        add(c, c->n_in + 1 + i, EP_F32, 0, q * d * h);
    }
    c->n_out = 1 + states;
    if (c->learns) {
        add(c, c->n_in + c->n_out++, EP_F32, 0, q * steps * d * kept * h);
    }
    c->scratch = (uint32_t)((kept > 3 ? kept : 3) * h * 4);
}

static void rnn(node_case *c, const kind *k)
{
    (void)k;
    recurrent(c, 1, 1, 1, (int32_t)random_below(2));
}

static void gru(node_case *c, const kind *k)
{
    (void)k;
    recurrent(c, 3, 4, 1, (int32_t)random_below(2));
}

static void lstm(node_case *c, const kind *k)
{
    (void)k;
    recurrent(c, 4, 5, 2, 0);
}

/* How many operands there are, and how much working memory, may be wrong too. */
static void spoil(node_case *c)
{
    spoil_words(c);
    spoil_operands(c);
    if (random_below(30) == 0) c->scratch -= 4;
    if (random_below(30) == 0) c->n_out--;
}

int main(int argc, char **argv)
{
    kind kinds[] = {{.name = "rnn_f32", .fill = rnn, .learns = 1},
                    {.name = "gru_f32", .fill = gru, .learns = 1},
                    {.name = "lstm_f32", .fill = lstm, .learns = 1}};
    return fuzz(argc, argv, kinds, sizeof kinds / sizeof *kinds, spoil);
}
