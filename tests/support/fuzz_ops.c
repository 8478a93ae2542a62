/* The ops that letters are enough to describe. Usage: fuzz_ops seed count. */
#include "fuzz.h"

#define MAX_ELEMENTS (1u << 14)

/* ---- The counts that fit the attributes: inputs, then y ---- */

/* a * b * c wrapped: too large for a tensor is as good as wrong. */
static uint32_t product(word a, word b, word c)
{
    return (uint32_t)a.i * (uint32_t)b.i * (uint32_t)c.i;
}

static uint32_t pair(word a, word b)
{
    return (uint32_t)a.i * (uint32_t)b.i;
}

static void count_elements(const word *w, uint32_t *counts)
{
    counts[0] = counts[1] = counts[2] = (uint32_t)w[0].i;
}

static void count_rows(const word *w, uint32_t *counts)
{
    counts[0] = counts[1] = pair(w[0], w[1]);
}

static void count_affine(const word *w, uint32_t *counts)
{
    counts[0] = counts[3] = pair(w[0], w[1]);
    counts[1] = counts[2] = (uint32_t)w[1].i;
}

static void count_prelu(const word *w, uint32_t *counts)
{
    counts[0] = counts[2] = pair(w[0], w[1]);
    counts[1] = (uint32_t)w[1].i;
}

static void count_dense(const word *w, uint32_t *counts)
{
    counts[0] = pair(w[0], w[2]);
    counts[1] = pair(w[0], w[1]);
    counts[2] = (uint32_t)w[1].i;
    counts[3] = pair(w[1], w[2]);
}

static uint32_t in_a_group(word channels, word groups)
{
    return groups.i > 0 ? (uint32_t)channels.i / (uint32_t)groups.i : 1;
}

static void count_depthwise(const word *w, uint32_t *counts)
{
    counts[0] = product(w[0], w[1], w[2]);
    counts[1] = product(w[5], w[6], w[7]);
    counts[2] = (uint32_t)w[5].i;
    counts[3] = product(w[3], w[4], w[5]);
}

static void count_conv(const word *w, uint32_t *counts)
{
    count_depthwise(w, counts);
    counts[1] *= in_a_group(w[2], w[14]);
}

static void count_conv_transpose(const word *w, uint32_t *counts)
{
    count_depthwise(w, counts);
    counts[1] = product(w[2], w[6], w[7]) * in_a_group(w[5], w[14]);
}

/* A constant more for each output channel, before y. */
static void one_more(uint32_t *counts, int y)
{
    counts[y + 1] = counts[y];
    counts[y] = counts[2];
}

static void count_dense_s8(const word *w, uint32_t *counts)
{
    count_dense(w, counts);
    one_more(counts, 3);
}

static void count_depthwise_s8(const word *w, uint32_t *counts)
{
    count_depthwise(w, counts);
    one_more(counts, 3);
}

static void count_conv_s8(const word *w, uint32_t *counts)
{
    count_conv(w, counts);
    one_more(counts, 3);
}

static void count_conv_zero_s8(const word *w, uint32_t *counts)
{
    count_conv_s8(w, counts);
    one_more(counts, 4);
}

static void count_pool(const word *w, uint32_t *counts)
{
    counts[0] = product(w[0], w[1], w[2]);
    counts[1] = product(w[3], w[4], w[2]);
}

static void count_global(const word *w, uint32_t *counts)
{
    counts[0] = pair(w[0], w[1]);
    counts[1] = (uint32_t)w[1].i;
}

static void count_table(const word *w, uint32_t *counts)
{
    counts[0] = counts[2] = (uint32_t)w[0].i;
    counts[1] = 256;
}

static void count_softmax_s8(const word *w, uint32_t *counts)
{
    counts[0] = counts[2] = pair(w[0], w[1]);
    counts[1] = 256;
}

static uint32_t count_dims(const word *w)
{
    return product(w[0], w[1], w[2]) * product(w[3], w[4], w[5]);
}

static void count_broadcast(const word *w, uint32_t *counts)
{
    counts[0] = 1 + random_below(60);
    counts[1] = 1 + random_below(60);
    counts[2] = count_dims(w);
}

static void count_transpose(const word *w, uint32_t *counts)
{
    counts[0] = 1 + random_below(400);
    counts[1] = count_dims(w);
}

static void count_box(const word *w, uint32_t *counts)
{
    (void)w;
    counts[0] = 1 + random_below(600);
    counts[1] = 1 + random_below(600);
}

static void count_concat(const word *w, uint32_t *counts)
{
    counts[3] = 0;
    for (int i = 0; i < 3; i++) {
        counts[i] = (uint32_t)w[0].i * (1 + random_below(5));
        counts[3] += counts[i];
    }
}

static void count_gather(const word *w, uint32_t *counts)
{
    counts[0] = product(w[0], w[1], w[3]);
    counts[1] = (uint32_t)w[2].i;
    counts[2] = product(w[0], w[2], w[3]);
}

static void count_embedding(const word *w, uint32_t *counts)
{
    counts[0] = (uint32_t)w[0].i;
    counts[1] = pair(w[1], w[2]);
    counts[2] = pair(w[0], w[2]);
}

static void count_reduce(const word *w, uint32_t *counts)
{
    counts[0] = product(w[0], w[1], w[2]);
    counts[1] = pair(w[0], w[2]);
}

static void count_resample(const word *w, uint32_t *counts)
{
    counts[0] = product(w[0], w[1], w[3]);
    counts[1] = counts[2] = pair(w[2], w[4]);
    counts[3] = product(w[0], w[2], w[3]);
}

static void count_matmul(const word *w, uint32_t *counts)
{
    counts[0] = product(w[0], w[1], w[2]);
    counts[1] = product(w[0], w[2], w[3]);
    counts[2] = product(w[0], w[1], w[3]);
}

/* ---- Words and operands ---- */

static word plausible(char letter)
{
    word w = {0};
    switch (letter) {
    case 's': w.i = size(9); break;
    case 'c': w.i = size(40); break;
    case 'K': w.i = size(4); break;
    case 'S': w.i = size(3); break;
    case 'D':
    case 'G': w.i = size(2); break;
    case 'P': w.i = (int32_t)random_below(4); break;
    case 'F': w.i = (int32_t)random_below(2); break;
    case '1': w.i = 1; break;
    case 'B': w.i = random_below(2) ? 0 : (int32_t)random_below(9); break;
    case 'T': w.i = (int32_t)random_below(12); break;
    case 'N': w.i = (int32_t)random_below(15) - 7; break;
    case 'O': w.i = (int32_t)random_below(300); break;
    case 'R': w.i = (int32_t)random_below(6); break;
    case 'Z': w.i = random_below(8) ? 4 : 1; break;
    case 'A': w.f = random_below(2) ? 0.0f : 128.0f; break;
    case 'f': w.f = 0.5f; break;
    case 'l': w.f = random_below(2) ? 0.0f : -INFINITY; break;
    case 'h': w.f = random_below(2) ? 6.0f : INFINITY; break;
    case 'm': w.f = -100.0f; break;
    default: w.f = 100.0f; break;
    }
    return w;
}

static void fill_words(node_case *c, const kind *k)
{
    word *w = c->words;
    c->n_words = (int)strlen(k->words);
    for (int i = 0; i < c->n_words; i++) {
        w[i] = plausible(k->words[i]);
    }
    if (strncmp(k->name, "depthwise", 9) == 0 && random_below(4)) {
        w[14] = w[2];
        w[5].i = w[2].i * size(3);
    } else if (strncmp(k->name, "conv", 4) == 0) {
        w[2].i *= w[14].i;
        w[5].i *= w[14].i;
    }
    for (uint32_t changes = random_below(3); changes > 0; changes--) {
        const uint32_t at = random_below((uint32_t)c->n_words);
        if (strchr("fAlhmn", k->words[at]) != NULL) {
            w[at].f = hostile_float();
        } else {
            w[at].i = hostile_integer();
        }
    }
}

static int32_t type_of(char letter)
{
    switch (letter) {
    case 'b':
    case 'B': return EP_I8;
    case 'i':
    case 'x':
    case 'z': return EP_I32;
    case 'q': return random_below(2) ? EP_I8 : EP_U8;
    default: return EP_F32;
    }
}

/* Ids, indices and biases are small integers, and multipliers small; a few of them are hostile. */
static void set_values(operand *o, char letter, uint32_t n)
{
    word *w = o->data;
    const size_t count = (size_t)o->count * (o->flags != 0 ? 1 : n);
    for (size_t i = 0; i < count && strchr("ixzM", letter) != NULL; i++) {
        const int odd = random_below(2000) == 0;
        switch (letter) {
        case 'i': w[i].i = odd ? hostile_integer() : (int32_t)random_below(12) - 1; break;
        case 'x': w[i].i = odd ? hostile_integer() : (int32_t)random_below(3); break;
        case 'z': w[i].i = odd ? hostile_integer() : (int32_t)random_below(2000) - 1000; break;
        default: w[i].f = odd ? hostile_float() : (float)size(100) * 1e-4f; break;
        }
    }
}

/* f: float32, w: float32 weight, W: float32 constant, M: multipliers, b: codes, B: constant codes, z: biases, q: codes of
 * either type, i: ids, x: constant indices. */
static void fill(node_case *c, const kind *k)
{
    uint32_t counts[MAX_OPERANDS] = {0};
    fill_words(c, k);
    k->count(c->words, counts);
    c->n_in = (int)strlen(k->operands) - 1;
    for (int i = 0; i <= c->n_in; i++) {
        const char letter = k->operands[i];
        if (counts[i] > MAX_ELEMENTS) {
            counts[i] = random_below(MAX_ELEMENTS); /* let the check see that it does not fit */
        }
        if (random_below(100) == 0) {
            counts[i] += random_below(3) - (counts[i] > 0);
        }
        const int32_t flags = letter == 'w' ? weight_flags() : strchr("WMBzx", letter) != NULL ? EP_CONST : 0;
        operand *o = add(c, i, type_of(letter), flags, (int32_t)counts[i]);
        set_values(o, letter, c->n);
        o->scale = 0.1f;
        o->zero_point = (int32_t)random_below(30) - 15;
    }
}

static void spoil(node_case *c)
{
    operand *o = &c->operands[random_below((uint32_t)c->n_in + 1)];
    if (random_below(20) == 0) {
        o->scale = hostile_float();
        o->zero_point = hostile_integer() & 0xFFFF;
    }
    spoil_operands(c);
}

int main(int argc, char **argv)
{
    static kind kinds[] = {
        {"conv2d_f32", fill, 1, "sscsscKKSSDDPPGlh", "fwwf", count_conv, 0, 0},
        {"depthwise_conv2d_f32", fill, 1, "sscsscKKSSDDPPGlh", "fwwf", count_depthwise, 0, 0},
        {"dense_f32", fill, 1, "ssslh", "fwwf", count_dense, 0, 0},
        {"max_pool2d_f32", fill, 1, "sscssKKSSDDPPFPP", "ff", count_pool, 0, 0},
        {"average_pool2d_f32", fill, 1, "sscssKKSSDDPPFPP", "ff", count_pool, 0, 0},
        {"add_f32", fill, 1, "cflh", "fff", count_elements, 0, 0},
        {"clip_f32", fill, 1, "cflh", "ff", count_elements, 0, 0},
        {"leaky_relu_f32", fill, 1, "cflh", "ff", count_elements, 0, 0},
        {"sigmoid_f32", fill, 1, "cflh", "ff", count_elements, 0, 0},
        {"tanh_f32", fill, 1, "cflh", "ff", count_elements, 0, 0},
        {"affine_f32", fill, 1, "sslh", "fwwf", count_affine, 0, 0},
        {"softmax_f32", fill, 1, "ss", "ff", count_rows, 0, 0},
        {"transpose", fill, 1, "KKKKKKTTTTTTZ", "ff", count_transpose, 0, 0},
        {"quantize", fill, 0, "cflh", "fq", count_elements, 0, 0},
        {"dequantize", fill, 0, "cflh", "qf", count_elements, 0, 0},
        {"copy", fill, 1, "cflh", "ff", count_elements, 0, 0},
        {"log_softmax_f32", fill, 1, "ss", "ff", count_rows, 0, 0},
        {"prelu_f32", fill, 1, "ss", "fwf", count_prelu, 0, 0},
        {"elu_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"gelu_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"gelu_tanh_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"silu_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"hard_sigmoid_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"hard_swish_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"softplus_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"softsign_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"mish_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"abs_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"exp_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"log_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"sqrt_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"reciprocal_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"pow_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"erf_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"thresholded_relu_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"sign_f32", fill, 1, "cfff", "ff", count_elements, 0, 0},
        {"add_broadcast_f32", fill, 1, "KKKKKKBBBBBBBBBBBBflh", "fff", count_broadcast, 0, 0},
        {"sub_f32", fill, 1, "KKKKKKBBBBBBBBBBBBflh", "fff", count_broadcast, 0, 0},
        {"mul_f32", fill, 1, "KKKKKKBBBBBBBBBBBBflh", "fff", count_broadcast, 0, 0},
        {"div_f32", fill, 1, "KKKKKKBBBBBBBBBBBBflh", "fff", count_broadcast, 0, 0},
        {"min_f32", fill, 1, "KKKKKKBBBBBBBBBBBBflh", "fff", count_broadcast, 0, 0},
        {"max_f32", fill, 1, "KKKKKKBBBBBBBBBBBBflh", "fff", count_broadcast, 0, 0},
        {"box", fill, 1, "KKKKKKNNNNNNTTTTTTOOZf", "ff", count_box, 0, 0},
        {"concat", fill, 1, "sZ", "ffff", count_concat, 0, 0},
        {"gather", fill, 1, "ssssZ", "fxf", count_gather, 0, 0},
        {"embedding_f32", fill, 1, "sss", "iwf", count_embedding, 0, 0},
        {"reduce_f32", fill, 1, "sssR", "ff", count_reduce, 0, 0},
        {"resample_f32", fill, 1, "ssssK", "fxWf", count_resample, 0, 0},
        {"matmul_f32", fill, 1, "ssssFlh", "fff", count_matmul, 0, 0},
        {"conv_transpose2d_f32", fill, 1, "sscsscKKSSDDPPGlh", "fwwf", count_conv_transpose, 0, 0},
        {"matmul_s8", fill, 0, "ssss1mn", "bbb", count_matmul, 0, 0},
        {"conv2d_s8", fill, 0, "sscsscKKSSDDPPGmn", "bBzMb", count_conv_s8, 0, 0},
        {"depthwise_conv2d_s8", fill, 0, "sscsscKKSSDDPPGmn", "bBzMb", count_depthwise_s8, 0, 0},
        {"conv2d_zero_s8", fill, 0, "sscsscKKSSDDPPGmn", "bBzMBb", count_conv_zero_s8, 0, 0},
        {"dense_s8", fill, 0, "sssmn", "bBzMb", count_dense_s8, 0, 0},
        {"max_pool2d_s8", fill, 0, "sscssKKSSDDPPFPP", "bb", count_pool, 0, 0},
        {"average_pool2d_s8", fill, 0, "ccsssKKSS11PPFPP", "bb", count_pool, 0, 0},
        {"global_average_pool_s8", fill, 0, "ss", "bb", count_global, 0, 0},
        {"add_s8", fill, 0, "cAmn", "bbb", count_elements, 0, 0},
        {"mul_s8", fill, 0, "KKKKKKBBBBBBBBBBBBAmn", "bbb", count_broadcast, 0, 0},
        {"add_broadcast_s8", fill, 0, "KKKKKKBBBBBBBBBBBBAmn", "bbb", count_broadcast, 0, 0},
        {"lut_s8", fill, 0, "cflh", "bBb", count_table, 0, 0},
        {"softmax_s8", fill, 0, "ss", "bMb", count_softmax_s8, 0, 0},
    };
    return fuzz(argc, argv, kinds, sizeof kinds / sizeof *kinds, spoil);
}
