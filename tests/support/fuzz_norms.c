/* group_norm_f32, sparse_dense_f32 and the dynamically quantized layers. Usage: fuzz_norms seed count. */
#include "fuzz.h"

static void limits(node_case *c)
{
    c->words[c->n_words++].f = random_below(2) ? 0.0f : -INFINITY;
    c->words[c->n_words++].f = random_below(2) ? 6.0f : INFINITY;
}

static void group_norm(node_case *c, const kind *k)
{
    (void)k;
    const int32_t rows = size(3), places = size(5), groups = size(4), channels = groups * size(40);
    put(c, rows), put(c, places), put(c, channels), put(c, groups), put(c, (int32_t)random_below(2));
    c->words[c->n_words++].f = random_below(2) ? 0.0f : 0.1f;
    limits(c);
    c->n_in = 3;
    add(c, 0, EP_F32, 0, rows * places * channels);
    add(c, 1, EP_F32, weight_flags(), channels);
    add(c, 2, EP_F32, weight_flags(), channels);
    add(c, 3, EP_F32, 0, rows * places * channels);
}

static void sparse_dense(node_case *c, const kind *k)
{
    (void)k;
    const int32_t n_in = size(300), n_out = size(6), rows = size(3), stored = size(90);
    put(c, n_in), put(c, n_out), put(c, rows), put(c, stored);
    limits(c);
    c->n_in = 5;
    add(c, 0, EP_F32, 0, rows * n_in);
    add(c, 1, EP_F32, weight_flags(), stored);
    add(c, 2, EP_F32, weight_flags(), n_out);
    add(c, 3, EP_I32, 1, n_out + 1);
    add(c, 4, EP_U8, 1, 2 * stored);
    add(c, 5, EP_F32, 0, rows * n_out);
    int32_t *starts = c->operands[3].data;
    uint8_t *columns = c->operands[4].data;
    starts[0] = 0;
    for (int32_t r = 1; r < n_out; r++) {
        starts[r] = starts[r - 1] + (int32_t)random_below((uint32_t)(stored - starts[r - 1]) + 1);
    }
    starts[n_out] = stored;
    for (int32_t i = 0; i < stored; i++) {
        const uint32_t at = random_below((uint32_t)n_in);
        columns[2 * i] = (uint8_t)at;
        columns[2 * i + 1] = (uint8_t)(at >> 8);
    }
    if (random_below(8) == 0) starts[random_below((uint32_t)n_out + 1)] = hostile_integer();
    if (random_below(8) == 0) columns[random_below(2 * (uint32_t)stored)] = (uint8_t)random_below(256);
}

static void dynamic_layer(node_case *c, int32_t x, int32_t w, int32_t channels, int32_t y)
{
    limits(c);
    c->n_in = 5;
    add(c, 0, EP_F32, 0, x);
    add(c, 1, EP_I8, 1, w);
    add(c, 2, EP_F32, 1, channels);
    add(c, 3, EP_F32, 1, channels);
    add(c, 4, EP_I8, 1, channels);
    add(c, 5, EP_F32, 0, y);
}

static void dynamic_dense(node_case *c, const kind *k)
{
    (void)k;
    const int32_t n_in = size(300), n_out = size(6), rows = size(3);
    put(c, n_in), put(c, n_out), put(c, rows);
    dynamic_layer(c, rows * n_in, n_in * n_out, n_out, rows * n_out);
}

static void dynamic_conv2d(node_case *c, const kind *k)
{
    (void)k;
    const int32_t groups = size(2), in_c = groups * size(30), out_c = groups * size(3), in_h = size(6), in_w = size(6);
    const int32_t out_h = size(5), out_w = size(5), kernel_h = size(3), kernel_w = size(3);
    put(c, in_h), put(c, in_w), put(c, in_c), put(c, out_h), put(c, out_w), put(c, out_c), put(c, kernel_h);
    put(c, kernel_w), put(c, size(3)), put(c, size(3)), put(c, size(2)), put(c, size(2));
    put(c, (int32_t)random_below(4)), put(c, (int32_t)random_below(4)), put(c, groups);
    dynamic_layer(c, in_h * in_w * in_c, out_c * kernel_h * kernel_w * (in_c / groups), out_c, out_h * out_w * out_c);
}

static void spoil(node_case *c)
{
    spoil_words(c);
    spoil_operands(c);
}

int main(int argc, char **argv)
{
    kind kinds[] = {{.name = "group_norm_f32", .fill = group_norm, .learns = 1},
                    {.name = "sparse_dense_f32", .fill = sparse_dense, .learns = 1},
                    {.name = "dynamic_dense_f32", .fill = dynamic_dense},
                    {.name = "dynamic_conv2d_f32", .fill = dynamic_conv2d}};
    return fuzz(argc, argv, kinds, sizeof kinds / sizeof *kinds, spoil);
}
