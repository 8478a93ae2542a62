/* Images: what is loaded runs and learns as the model it was made from; each kind of damage is refused by name.
 *     test_load [FILE]     also writes an image of the MLP there, an input and its output */
#include "zoo.h"

static net m;

static void build(int which)
{
    if (which == 0) net_head(&m, &ep_mse);
    if (which == 1) net_mlp(&m, &ep_softmax_cross_entropy, 1);
    if (which == 2) net_dag(&m, &ep_hinge);
    if (which == 3) net_float_zoo(&m);
    if (which == 4) net_int8_zoo(&m);
}

static int load(ep_model *model, const image *im, void **memory)
{
    const long need = ep_load_size(im->bytes, im->size);
    *memory = aligned(need > 0 ? (size_t)need : 1);
    return need < 0 ? (int)need : ep_load(model, im->bytes, im->size, *memory, (size_t)need, &ep_all);
}

/* What ep_load() says of the image after `size` bytes at `at` became `value`. */
static int loads(const image *im, uint32_t at, uint64_t value, int size)
{
    image changed = *im;
    ep_model model;
    void *memory;
    changed.bytes = aligned(im->size);
    memcpy(changed.bytes, im->bytes, im->size);
    put(&changed, at, value, size);
    if (at >= 16) sign(&changed);
    const int rc = load(&model, &changed, &memory);
    free(memory), free(changed.bytes);
    return rc;
}

static void a_loaded_model_gives_the_same_bits(void)
{
    for (int which = 0; which < 5; which++) {
        float x[72], y[8], y2[8], loss = 0, loss2 = 0;
        ep_model model;
        ep_t ep, ep2;
        void *memory, *arena2;
        uint32_t count;
        build(which);
        image im = make_image(&m);
        CHECK_RC(load(&model, &im, &memory), EP_OK);
        CHECK(strcmp(model.name, m.model.name) == 0 && memcmp(model.fingerprint, m.model.fingerprint, 8) == 0);
        for (uint16_t i = 0; i < model.n_tensors; i++) {
            CHECK(model.tensors[i].flags == m.tensors[i].flags && model.tensors[i].count == m.tensors[i].count);
        }
        const size_t size = ep_arena_size(&model, 2, EP_FOR_SUMS, &ep_adam);
        void *arena = net_start(&ep, &m, 2, EP_FOR_SUMS, &ep_adam);
        CHECK(size == ep_arena_size(&m.model, 2, EP_FOR_SUMS, &ep_adam));
        arena2 = aligned(size);
        CHECK_RC(ep_init_batch(&ep2, &model, arena2, size, 2, EP_FOR_SUMS, &ep_adam), EP_OK);
        const ep_step step = {.lr = 0.01f, .optimizer = &ep_adam};
        for (int i = 0; i < 20; i++) {
            const int32_t label = i % 3;
            const float values[4] = {1, 2, 3, 4};
            const void *target = which == 0 ? (const void *)values : &label;
            fill_random(x, 72);
            CHECK_RC(ep_infer(&ep, x, y), EP_OK);
            CHECK_RC(ep_infer(&ep2, x, y2), EP_OK);
            CHECK(memcmp(y, y2, ep_tensor_size(&m.tensors[m.outputs[0]])) == 0);
            CHECK_RC(net_learn(&ep, x, target, &step, &loss), EP_OK);
            CHECK_RC(net_learn(&ep2, x, target, &step, &loss2), EP_OK);
            CHECK(loss == loss2);
        }
        CHECK(memcmp(ep_params(&ep, &count), ep_params(&ep2, NULL), m.model.param_bytes) == 0);
        free(arena), free(arena2), free(memory), free(im.bytes);
    }
}

static void arguments_are_checked(void)
{
    ep_model model;
    void *memory;
    build(1);
    image im = make_image(&m);
    const size_t need = (size_t)ep_load_size(im.bytes, im.size);
    CHECK_RC(load(&model, &im, &memory), EP_OK);
    CHECK_RC(ep_load(NULL, im.bytes, im.size, memory, need, &ep_all), EP_ERR_ARG);
    CHECK_RC(ep_load(&model, NULL, im.size, memory, need, &ep_all), EP_ERR_ARG);
    CHECK_RC(ep_load(&model, im.bytes, im.size, NULL, need, &ep_all), EP_ERR_ARG);
    CHECK_RC(ep_load(&model, im.bytes, im.size, memory, need, NULL), EP_ERR_ARG);
    CHECK_RC(ep_load(&model, im.bytes + 8, im.size - 8, memory, need, &ep_all), EP_ERR_ALIGN);
    CHECK_RC(ep_load(&model, im.bytes, im.size, (uint8_t *)memory + 8, need, &ep_all), EP_ERR_ALIGN);
    CHECK_RC(ep_load(&model, im.bytes, im.size, memory, need - 1, &ep_all), EP_ERR_ARENA);
    CHECK(ep_load_size(NULL, 100) == EP_ERR_ARG && ep_load_size(im.bytes, 95) == EP_ERR_IMAGE);
    CHECK(ep_load_size(im.bytes, 96) == (long)need); /* of the header alone */
    /* A registry may be smaller. */
    ep_registry_row rows[2] = {ep_all.ops[2], ep_all.ops[11]};
    ep_registry some = {rows, ep_all.losses, 2, ep_all.n_losses};
    CHECK_RC(ep_load(&model, im.bytes, im.size, memory, need, &some), EP_OK);
    some.n_ops = 1;
    CHECK_RC(ep_load(&model, im.bytes, im.size, memory, need, &some), EP_ERR_OP);
    some.n_ops = 2, rows[0].grad = NULL;
    CHECK_RC(ep_load(&model, im.bytes, im.size, memory, need, &some), EP_ERR_OP);
    rows[0].grad = ep_all.ops[2].grad, some.n_losses = 1;
    CHECK_RC(ep_load(&model, im.bytes, im.size, memory, need, &some), EP_ERR_OP);
    /* More memory than the image, as in flash. */
    uint8_t *flash = aligned(im.size + 100);
    memcpy(flash, im.bytes, im.size);
    CHECK_RC(ep_load(&model, flash, im.size + 100, memory, need, &ep_all), EP_OK);
    free(flash), free(memory), free(im.bytes);
}

/* Every length in memory of just that length, so that a sanitizer sees any byte read behind it. */
static void truncated_images_are_refused(void)
{
    ep_model model;
    build(1);
    image im = make_image(&m);
    const size_t need = (size_t)ep_load_size(im.bytes, im.size);
    void *memory = aligned(need);
    for (uint32_t size = 0; size < im.size; size++) {
        uint8_t *part = aligned(size);
        memcpy(part, im.bytes, size);
        CHECK_RC(ep_load(&model, part, size, memory, need, &ep_all), EP_ERR_IMAGE);
        if (size >= 96) { /* the header says it is whole */
            image cut = im;
            cut.bytes = part, cut.size = size;
            put(&cut, 8, size, 4);
            sign(&cut);
            CHECK_RC(ep_load(&model, part, size, memory, need, &ep_all), EP_ERR_IMAGE);
        }
        free(part);
    }
    free(memory), free(im.bytes);
}

static void flipped_bits_are_seen(void)
{
    ep_model model;
    build(0);
    image im = make_image(&m);
    void *memory = aligned((size_t)ep_load_size(im.bytes, im.size));
    for (uint32_t bit = 0; bit < 8 * im.size; bit++) {
        im.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        const long need = ep_load_size(im.bytes, im.size);
        const int rc = need < 0 ? (int)need : ep_load(&model, im.bytes, im.size, memory, (size_t)need, &ep_all);
        CHECK(rc == EP_ERR_IMAGE || rc == EP_ERR_CHECKSUM || rc == EP_ERR_ABI);
        CHECK(bit / 8 < 96 || rc == EP_ERR_CHECKSUM);
        CHECK(bit / 8 < 4 || bit / 8 >= 8 || rc == EP_ERR_ABI);
        im.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(memory), free(im.bytes);
}

/* One field at a time, signed again. MLP: tensors 0 x, 1 w0, 2 b0, 3 h, 4 w1, 5 b1, 6 logits, 7 p; nodes dense, dense,
 * softmax; the first is frozen. */
static void every_field_is_checked(void)
{
    build(1);
    image im = make_image(&m);
#define T(i) (im.tensors + 24u * (i))
#define N(i) (im.nodes + 20u * (i))
    const struct {
        uint32_t at;
        uint64_t value;
        int size, rc;
    } rows[] = {
        {0, 'X', 1, EP_ERR_IMAGE},
        {4, 2, 2, EP_ERR_ABI},
        {6, EP_ABI + 1, 2, EP_ERR_ABI},
        {8, im.size - 1, 4, EP_ERR_IMAGE},
        {8, im.size + 1, 4, EP_ERR_IMAGE},
        {12, 0, 4, EP_ERR_CHECKSUM},
        {24, 65536, 4, EP_ERR_IMAGE}, /* tensors */
        {24, 0xFFFFFFFF, 4, EP_ERR_IMAGE},
        {28, 65536, 4, EP_ERR_IMAGE}, /* nodes */
        {32, 1, 4, EP_ERR_IMAGE},     /* io */
        {32, 0xFFFFFFFF, 4, EP_ERR_IMAGE},
        {36, 0xFFFFFFFF, 4, EP_ERR_IMAGE}, /* words */
        {36, 5, 4, EP_ERR_IMAGE},
        {40, 0, 4, EP_ERR_IMAGE}, /* inputs */
        {40, 0xFFFFFFFF, 4, EP_ERR_IMAGE},
        {44, 0, 4, EP_ERR_IMAGE}, /* outputs */
        {44, 0xFFFFFFFF, 4, EP_ERR_IMAGE},
        {48, 16, 4, EP_ERR_IMAGE}, /* infer_bytes */
        {56, 0, 4, EP_ERR_IMAGE},  /* param_bytes */
        {56, m.model.param_bytes - 4, 4, EP_ERR_IMAGE},
        {56, m.model.param_bytes + 4, 4, EP_ERR_IMAGE},
        {60, 16, 4, EP_ERR_IMAGE}, /* data */
        {60, 0xFFFFFFFF, 4, EP_ERR_IMAGE},
        {64, 99, 4, EP_ERR_OP}, /* loss */
        {64, 0xFFFFFFFF, 4, EP_ERR_OP},
        {68, 16, 4, EP_ERR_IMAGE}, /* train bytes */
        {76, 2, 2, EP_ERR_IMAGE},  /* first_node */
        {78, 4, 2, EP_ERR_IMAGE},  /* end_node */
        {78, 1, 2, EP_ERR_IMAGE},
        {80, 8, 4, EP_ERR_IMAGE}, /* logits */
        {80, 3, 4, EP_ERR_IMAGE}, /* one without a gradient */
        {80, 0x10006, 4, EP_ERR_IMAGE},
        {84, 0xFFFFFFFF, 4, EP_ERR_IMAGE}, /* name */
        {84, 3, 4, EP_ERR_IMAGE},          /* not ended */
        {84, 0, 4, EP_OK},
        {88, 3, 4, EP_ERR_IMAGE}, /* meta */
        {88, 0, 4, EP_OK},
        {T(0), 0, 4, EP_ERR_IMAGE},     /* an activation with data */
        {T(0) + 4, 0, 4, EP_ERR_IMAGE}, /* count */
        {T(0) + 4, 0xFFFFFFFF, 4, EP_ERR_IMAGE},
        {T(0) + 4, 0x40000001, 4, EP_ERR_IMAGE}, /* 4 bytes in 32 bits */
        {T(0) + 8, 4, 4, EP_ERR_IMAGE},          /* offset */
        {T(0) + 8, m.model.infer_bytes, 4, EP_ERR_IMAGE},
        {T(0) + 8, 0xFFFFFFF0, 4, EP_ERR_IMAGE},
        {T(0) + 8, EP_NONE, 4, EP_ERR_IMAGE},
        {T(3) + 8, EP_NONE, 4, EP_ERR_IMAGE},
        {T(3) + 8, 16, 4, EP_ERR_IMAGE}, /* over half of x */
        {T(0) + 18, 0, 1, EP_ERR_IMAGE}, /* dtype */
        {T(0) + 18, 5, 1, EP_ERR_IMAGE},
        {T(0) + 18, EP_I8, 1, EP_ERR_IMAGE},
        {T(0) + 19, 3, 1, EP_ERR_IMAGE}, /* flags */
        {T(0) + 19, 0x80, 1, EP_ERR_IMAGE},
        {T(1) + 19, 0x81, 1, EP_ERR_IMAGE},
        {T(0) + 19, EP_NARROW, 1, EP_ERR_IMAGE},
        {T(1) + 19, EP_CONST | EP_NARROW, 1, EP_ERR_IMAGE}, /* int8 only */
        {T(1) + 19, EP_CONST | EP_PARAM | EP_NARROW, 1, EP_ERR_IMAGE},
        {T(1), 4, 4, EP_ERR_IMAGE}, /* place of a constant */
        {T(1), EP_NONE, 4, EP_ERR_IMAGE},
        {T(1), 0xFFFFFFF0, 4, EP_ERR_IMAGE},
        {T(1) + 19, EP_PARAM, 1, EP_ERR_IMAGE},
        {T(4) + 19, EP_CONST, 1, EP_ERR_IMAGE},
        {T(4) + 18, EP_I32, 1, EP_ERR_IMAGE}, /* a weight that is no float */
        {T(5) + 8, 0, 4, EP_ERR_IMAGE},       /* place of a trainable weight */
        {T(5) + 8, 100, 4, EP_ERR_IMAGE},
        {N(0), 99, 2, EP_ERR_OP},       /* op */
        {N(0) + 2, 0, 1, EP_ERR_IMAGE}, /* inputs */
        {N(0) + 2, 2, 1, EP_ERR_IMAGE},
        {N(0) + 2, 255, 1, EP_ERR_IMAGE},
        {N(0) + 3, 0, 1, EP_ERR_IMAGE}, /* outputs */
        {N(0) + 3, 2, 1, EP_ERR_IMAGE},
        {N(1) + 4, 2, 1, EP_ERR_IMAGE},           /* backward */
        {N(0) + 6, 4, 2, EP_ERR_IMAGE},           /* attribute words */
        {N(0) + 8, 0xFFFFFFFF, 4, EP_ERR_IMAGE},  /* first io */
        {N(2) + 8, 9, 4, EP_ERR_IMAGE},           /* into the model's own */
        {N(0) + 12, 0xFFFFFFFF, 4, EP_ERR_IMAGE}, /* first word */
        {N(2) + 12, 11, 4, EP_ERR_IMAGE},
        {im.io, 3, 2, EP_ERR_IMAGE}, /* an input without a value yet */
        {im.io, 6, 2, EP_ERR_IMAGE},
        {im.io, 8, 2, EP_ERR_IMAGE}, /* no such tensor */
        {im.io, 0xFFFF, 2, EP_ERR_IMAGE},
        {im.io + 2, 4, 2, EP_ERR_IMAGE},          /* a trainable weight twice */
        {im.io + 6, 0, 2, EP_ERR_IMAGE},          /* output over the model's input */
        {im.io + 6, 1, 2, EP_ERR_IMAGE},          /* output over a constant */
        {im.io + 14, 3, 2, EP_ERR_IMAGE},         /* a second output of the same tensor */
        {im.io + 2 * m.n_io, 3, 2, EP_ERR_IMAGE}, /* model input that a node computes */
        {im.io + 2 * m.n_io, 1, 2, EP_ERR_IMAGE},
        {im.io + 2 * m.n_io, 9, 2, EP_ERR_IMAGE},
        {im.io + 2 * m.n_io + 2, 1, 2, EP_ERR_IMAGE}, /* model output */
        {im.io + 2 * m.n_io + 2, 9, 2, EP_ERR_IMAGE},
        {im.words, 0x7FFFFFFF, 4, EP_ERR_IMAGE}, /* n_in: left to the op */
        {im.train, EP_NONE, 4, EP_ERR_IMAGE},    /* x has no place in training */
        {im.train, 4, 4, EP_ERR_IMAGE},
        {im.train, 0xFFFFFFF0, 4, EP_ERR_IMAGE},
        {im.train + 4 * 3, EP_NONE, 4, EP_ERR_IMAGE},
        {im.train + 4 * 3, 16, 4, EP_ERR_IMAGE},            /* over half of x */
        {im.train + 4 * 1, 0xFFFFFFF0, 4, EP_OK},           /* nobody looks for a constant there */
        {im.train + 4 * (8 + 6), EP_NONE, 4, EP_ERR_IMAGE}, /* gradient of the logits */
        {im.train + 4 * (8 + 6), 4, 4, EP_ERR_IMAGE},
        {im.train + 4 * (8 + 6), m.train.bytes, 4, EP_ERR_IMAGE},
        {im.train + 4 * (8 + 1), 0, 4, EP_ERR_IMAGE}, /* gradient of a constant */
        {im.train + 4 * (8 + 4), 0, 4, EP_ERR_IMAGE}, /* of a weight */
    };
    CHECK_RC(loads(&im, 16, 0, 4), EP_OK); /* the fingerprint is anyone's */
    for (size_t i = 0; i < sizeof rows / sizeof rows[0]; i++) {
        const int rc = loads(&im, rows[i].at, rows[i].value, rows[i].size);
        if (rc != rows[i].rc) printf("row %d: ", (int)i);
        CHECK_RC(rc, rows[i].rc);
    }
    free(im.bytes);
}

/* Where shapes agree, so that only the rules of the graph can object. DAG: tensors 0 x, 1 w0, 2 b0, 3 h, 4 w1, 5 b1,
 * 6 dense(h), 7 sum, 8 w2, 9 b2, 10 logits; io x w0 b0 h | h w1 b1 6 | 3 6 7 | 7 w2 b2 10. */
static void graphs_that_make_no_sense_are_refused(void)
{
    build(2);
    image im = make_image(&m);
    const uint32_t gradient = im.train + 4 * 11;
    CHECK(m.tensors[10].count == 3 && m.io[7] == 6 && m.io[10] == 7 && m.n_io == 15);
    CHECK_RC(loads(&im, im.io + 2 * 4, 7, 2), EP_ERR_IMAGE);  /* dense reads a sum to come */
    CHECK_RC(loads(&im, im.io + 2 * 6, 2, 2), EP_ERR_IMAGE);  /* a trainable bias of two nodes */
    CHECK_RC(loads(&im, im.io + 2 * 10, 3, 2), EP_ERR_IMAGE); /* a second value of h */
    CHECK_RC(loads(&im, im.io + 2 * 10, 0, 2), EP_ERR_IMAGE);
    /* h + h: nobody writes the gradient that dense(h) learns from. */
    CHECK_RC(loads(&im, im.io + 2 * 9, 3, 2), EP_ERR_IMAGE);
    CHECK(m.nodes[1].accumulate == 1 && m.nodes[2].accumulate == 0);
    /* dense(h) would begin dh, which the sum has begun; the sum would add to a dh of the step before. */
    CHECK_RC(loads(&im, im.nodes + 20 * 1 + 5, 0, 1), EP_ERR_IMAGE);
    CHECK_RC(loads(&im, im.nodes + 20 * 2 + 5, 1, 1), EP_ERR_IMAGE);
    CHECK_RC(loads(&im, im.nodes + 20 * 2 + 5, 2, 1), EP_ERR_IMAGE);
    CHECK_RC(loads(&im, im.nodes + 20 * 1 + 5, 3, 1), EP_OK); /* a weight has no gradient in the plan */
    CHECK_RC(loads(&im, 78, 3, 2), EP_ERR_IMAGE);             /* learning ends before the logits */
    CHECK_RC(loads(&im, gradient + 4 * 6, m.grad_offset[3] + 16, 4), EP_ERR_IMAGE); /* over half of dh */
    CHECK_RC(loads(&im, gradient + 4 * 6, m.grad_offset[3], 4), EP_OK);
    free(im.bytes);
    build(1);
    im = make_image(&m);
    put(&im, im.io + 2 * (m.n_io + 1), 6, 2); /* the model's output */
    CHECK_RC(loads(&im, 92, 0, 4), EP_OK);
    CHECK_RC(loads(&im, im.io + 2 * (m.n_io - 1), 6, 2), EP_ERR_IMAGE); /* Softmax over its own input's name */
    free(im.bytes);
}

/* 65,535 tensors share their data, and the sum of their sizes wraps to the size of the weights' part. */
static void sizes_do_not_wrap(void)
{
    enum { N = 0xFFFF, COUNT = 16384 + 4, DATA = 4 * COUNT };
    const uint32_t nodes = (96 + 24 * N + 15) & ~15u, io = nodes, data = io + 16;
    image im;
    ep_model model;
    void *memory;
    im.size = data + DATA;
    im.bytes = aligned(im.size);
    memset(im.bytes, 0, im.size);
    memcpy(im.bytes, "EPM1\1\0", 6);
    put(&im, 6, EP_ABI, 2), put(&im, 8, im.size, 4), put(&im, 24, N, 4), put(&im, 32, 2, 4);
    put(&im, 40, 1, 4), put(&im, 44, 1, 4), put(&im, 48, 16, 4), put(&im, 60, DATA, 4);
    uint32_t params = 0;
    for (uint32_t i = 0; i < N; i++) {
        const uint32_t at = 96 + 24 * i;
        put(&im, at, i == 0 ? EP_NONE : 0, 4);
        put(&im, at + 4, i == 0 ? 4 : COUNT, 4);
        put(&im, at + 8, i == 0 ? 0 : params, 4);
        put(&im, at + 18, EP_F32, 1), put(&im, at + 19, i == 0 ? 0 : EP_PARAM, 1);
        if (i > 0) params += DATA;
    }
    CHECK(params < DATA * 100u);
    put(&im, 56, params, 4);
    sign(&im);
    CHECK_RC(load(&model, &im, &memory), EP_ERR_IMAGE);
    free(memory), free(im.bytes);
}

static void write_file(const char *path)
{
    float x[5], y[3];
    ep_t ep;
    build(1);
    image im = make_image(&m);
    void *arena = net_start(&ep, &m, 1, 0, NULL);
    FILE *to = fopen(path, "wb");
    CHECK(to != NULL);
    if (to == NULL) return;
    fill_random(x, 5);
    CHECK_RC(ep_infer(&ep, x, y), EP_OK);
    fwrite(im.bytes, 1, im.size, to), fwrite(x, 1, sizeof x, to), fwrite(y, 1, sizeof y, to);
    fclose(to), free(arena), free(im.bytes);
}

int main(int argc, char **argv)
{
    if (argc > 1) write_file(argv[1]);
    a_loaded_model_gives_the_same_bits();
    arguments_are_checked();
    truncated_images_are_refused();
    flipped_bits_are_seen();
    every_field_is_checked();
    graphs_that_make_no_sense_are_refused();
    sizes_do_not_wrap();
    return failures != 0;
}
