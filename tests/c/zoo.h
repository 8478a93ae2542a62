/* Nets with every op of the library, and the image of any net, by docs/format.md. */
#ifndef ZOO_H
#define ZOO_H

#include "net.h"

#ifdef EP_NO_TRAIN
#define ZOO_LOSS NULL
#else
#define ZOO_LOSS &ep_softmax_cross_entropy
#endif

#define NODE(m, name, attr, a, b, c, y) net_node(m, &ep_##name, EP_GRAD(name), &(attr), sizeof(attr), a, b, c, y)
#define NODE_S8(m, name, attr, a, b, c, y) net_node(m, &ep_##name, NULL, &(attr), sizeof(attr), a, b, c, y)

/* x (6, 6, 2): every float32 op, weights trainable from the first convolution on, -> 3 logits, Softmax. */
static inline void net_float_zoo(net *m)
{
    const ep_conv2d_attr conv = {6, 6, 2, 6, 6, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, -INFINITY, INFINITY};
    const ep_conv2d_attr depthwise = {3, 3, 4, 3, 3, 4, 3, 3, 1, 1, 1, 1, 1, 1, 4, 0, 6};
    const ep_pool2d_attr half = {6, 6, 4, 3, 3, 2, 2, 2, 2, 1, 1, 0, 0, 0, 0, 0};
    const ep_pool2d_attr average = {3, 3, 4, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 1, 0, 0};
    const ep_affine_attr affine = {9, 4, -INFINITY, INFINITY};
    const ep_transpose_attr transpose = {{1, 1, 1, 4, 3, 3}, {0, 0, 0, 1, 12, 4}, 4};
    const ep_softmax_attr softmax = {1, 3};
    uint16_t x, y, z, w, b, side;
    net_begin(m, "float zoo");
    x = net_activation(m, EP_F32, 72);
    w = net_data(m, EP_F32, 72, EP_PARAM, NULL), b = net_data(m, EP_F32, 4, EP_PARAM, NULL);
    y = net_activation(m, EP_F32, 144);
    NODE(m, conv2d_f32, conv, x, w, b, y);
    z = net_activation(m, EP_F32, 36);
    NODE(m, max_pool2d_f32, half, y, EP_NOTHING, EP_NOTHING, z);
    side = z;
    w = net_data(m, EP_F32, 36, EP_PARAM, NULL), b = net_data(m, EP_F32, 4, EP_PARAM, NULL);
    y = net_activation(m, EP_F32, 36);
    NODE(m, depthwise_conv2d_f32, depthwise, z, w, b, y);
    y = net_unary(m, &ep_leaky_relu_f32, EP_GRAD(leaky_relu_f32), y, 0.1f);
    w = net_data(m, EP_F32, 4, EP_PARAM, NULL), b = net_data(m, EP_F32, 4, EP_PARAM, NULL);
    z = net_activation(m, EP_F32, 36);
    NODE(m, affine_f32, affine, y, w, b, z);
    y = net_add(m, z, side);
    z = net_activation(m, EP_F32, 36);
    NODE(m, transpose, transpose, y, EP_NOTHING, EP_NOTHING, z);
    y = net_unary(m, &ep_copy, EP_GRAD(copy), z, 0);
    y = net_unary(m, &ep_tanh_f32, EP_GRAD(tanh_f32), y, 0);
    y = net_unary(m, &ep_sigmoid_f32, EP_GRAD(sigmoid_f32), y, 0);
    y = net_unary(m, &ep_clip_f32, EP_GRAD(clip_f32), y, 0);
    z = net_activation(m, EP_F32, 16);
    NODE(m, average_pool2d_f32, average, y, EP_NOTHING, EP_NOTHING, z);
    y = net_dense(m, z, 3, EP_PARAM, -INFINITY);
    z = net_activation(m, EP_F32, 3);
    NODE(m, softmax_f32, softmax, y, EP_NOTHING, EP_NOTHING, z);
    net_plan_training(m, y, 0, ZOO_LOSS);
    net_end(m, x, z);
}

static inline uint16_t net_codes(net *m, uint32_t count, float scale, int16_t zero_point)
{
    const uint16_t y = net_activation(m, EP_I8, count);
    m->tensors[y].scale = scale;
    m->tensors[y].zero_point = zero_point;
    return y;
}

/* Weight (i8), bias (i32) and multiplier (f32, channels) of a node with four inputs. */
static inline void net_sums(net *m, ep_node *node, uint32_t weights, uint32_t channels)
{
    int8_t w[256];
    int32_t bias[16];
    float multiplier[16];
    const uint16_t y = node->io[node->n_in];
    for (uint32_t i = 0; i < weights; i++) w[i] = (int8_t)random_u32();
    for (uint32_t i = 0; i < channels; i++) bias[i] = (int32_t)(random_u32() % 999), multiplier[i] = 0.003f;
    m->n_io -= 1;
    m->io[m->n_io++] = net_data(m, EP_I8, weights, EP_CONST, w);
    m->io[m->n_io++] = net_data(m, EP_I32, channels, EP_CONST, bias);
    m->io[m->n_io++] = net_data(m, EP_F32, channels, EP_CONST, multiplier);
    m->io[m->n_io++] = y;
    node->n_in = 4;
}

/* x (4, 4, 2), quantized: every int8 op, then in float32 a trainable head of 3 logits. */
static inline void net_int8_zoo(net *m)
{
    const ep_elementwise_attr q = {32, 0, -INFINITY, INFINITY}, add = {64, 0, -131, 124}, lut = {64, 0, -131, 124};
    const ep_elementwise_attr dq = {4, 0, -INFINITY, INFINITY};
    const ep_conv2d_attr conv = {4, 4, 2, 4, 4, 4, 3, 3, 1, 1, 1, 1, 1, 1, 1, -131, 124};
    const ep_conv2d_attr depthwise = {4, 4, 4, 4, 4, 4, 3, 3, 1, 1, 1, 1, 1, 1, 4, -131, 124};
    const ep_pool2d_attr pool = {4, 4, 4, 3, 3, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0};
    const ep_pool2d_attr pool2 = {3, 3, 4, 2, 2, 2, 2, 1, 1, 1, 1, 0, 0, 0, 0, 0};
    const ep_global_pool_attr global = {4, 4};
    const ep_dense_attr dense = {4, 4, 1, -131, 124};
    const ep_softmax_attr softmax = {1, 4};
    int8_t table[256];
    float exps[256];
    uint16_t x, y, z, side;
    for (int i = 0; i < 256; i++) table[i] = (int8_t)(127 - i), exps[i] = expf((float)(i - 255) * 0.1f);
    net_begin(m, "int8 zoo");
    x = net_activation(m, EP_F32, 32);
    y = net_codes(m, 32, 0.1f, 3);
    NODE_S8(m, quantize, q, x, EP_NOTHING, EP_NOTHING, y);
    z = net_codes(m, 64, 0.1f, 3);
    net_sums(m, NODE_S8(m, conv2d_s8, conv, y, EP_NOTHING, EP_NOTHING, z), 72, 4);
    side = z, y = net_codes(m, 64, 0.1f, 3);
    net_sums(m, NODE_S8(m, depthwise_conv2d_s8, depthwise, z, EP_NOTHING, EP_NOTHING, y), 36, 4);
    z = net_codes(m, 64, 0.1f, 3);
    NODE_S8(m, add_s8, add, y, side, EP_NOTHING, z);
    y = net_codes(m, 64, 0.1f, 3);
    NODE_S8(m, lut_s8, lut, z, net_data(m, EP_I8, 256, EP_CONST, table), EP_NOTHING, y);
    z = net_codes(m, 36, 0.1f, 3);
    NODE_S8(m, max_pool2d_s8, pool, y, EP_NOTHING, EP_NOTHING, z);
    y = net_codes(m, 16, 0.1f, 3);
    NODE_S8(m, average_pool2d_s8, pool2, z, EP_NOTHING, EP_NOTHING, y);
    z = net_codes(m, 4, 0.1f, 3);
    NODE_S8(m, global_average_pool_s8, global, y, EP_NOTHING, EP_NOTHING, z);
    y = net_codes(m, 4, 0.1f, 3);
    net_sums(m, NODE_S8(m, dense_s8, dense, z, EP_NOTHING, EP_NOTHING, y), 16, 4);
    z = net_codes(m, 4, 1.0f / 256, -128);
    NODE_S8(m, softmax_s8, softmax, y, net_data(m, EP_F32, 256, EP_CONST, exps), EP_NOTHING, z);
    y = net_activation(m, EP_F32, 4);
    NODE_S8(m, dequantize, dq, z, EP_NOTHING, EP_NOTHING, y);
    z = net_dense(m, y, 3, EP_PARAM, -INFINITY);
    net_plan_training(m, z, (uint16_t)(m->model.n_nodes - 1), ZOO_LOSS);
    net_end(m, x, z);
}

/* ---- Images ---- */

typedef struct image {
    uint8_t *bytes;
    uint32_t size;
    uint32_t tensors, nodes, io, words, train, data, name, meta; /* where the sections begin */
} image;

static inline void put(image *im, uint32_t at, uint64_t value, int size)
{
    for (int i = 0; i < size; i++) im->bytes[at + (uint32_t)i] = (uint8_t)(value >> (8 * i));
}

static inline uint32_t code_of(const ep_op *op)
{
    for (uint16_t i = 0; i < ep_all.n_ops; i++) {
        if (ep_all.ops[i].op == op) return i;
    }
    abort();
}

static inline void sign(image *im)
{
    put(im, 12, ep_crc32(0, im->bytes + 16, im->size - 16), 4);
}

static inline void put_tensors(image *im, const net *m)
{
    uint32_t data = 0;
    for (uint32_t i = 0; i < m->model.n_tensors; i++) {
        const ep_tensor *t = &m->tensors[i];
        const uint32_t at = im->tensors + 24 * i;
        put(im, at, t->flags != 0 ? data : EP_NONE, 4);
        put(im, at + 4, t->count, 4);
        put(im, at + 8, t->offset, 4);
        memcpy(im->bytes + at + 12, &t->scale, 4);
        put(im, at + 16, (uint16_t)t->zero_point, 2);
        put(im, at + 18, t->dtype, 1);
        put(im, at + 19, t->flags, 1);
        if (m->model.train != NULL) {
            put(im, im->train + 4 * i, m->offset[i], 4);
            put(im, im->train + 4 * (m->model.n_tensors + i), m->grad_offset[i], 4);
        }
        if (t->flags == 0) continue;
        memcpy(im->bytes + im->data + data, t->data, ep_tensor_size(t));
        data += (uint32_t)ep_align_up(ep_tensor_size(t));
    }
}

static inline void put_nodes(image *im, const net *m)
{
    uint32_t word = 0;
    for (uint32_t i = 0; i < m->model.n_nodes; i++) {
        const ep_node *node = &m->nodes[i];
        const ep_registry_row *row = &ep_all.ops[code_of(node->op)];
        const uint32_t at = im->nodes + 20 * i;
        put(im, at, row->code, 2);
        put(im, at + 2, node->n_in, 1);
        put(im, at + 3, node->n_out, 1);
        put(im, at + 4,
            m->model.train != NULL && node->grad != NULL && i >= m->train.first_node && i < m->train.end_node, 1);
        put(im, at + 5, node->accumulate, 1);
        put(im, at + 6, row->attr_words, 2);
        put(im, at + 8, (uint64_t)(node->io - m->io), 4);
        put(im, at + 12, word, 4);
        memcpy(im->bytes + im->words + 4 * word, node->attr, 4u * row->attr_words);
        word += row->attr_words;
    }
}

/* Bytes of all attributes and of all constants and weights. */
static inline void measure(const net *m, uint32_t *words, uint32_t *data)
{
    *words = *data = 0;
    for (uint32_t i = 0; i < m->model.n_nodes; i++) *words += ep_all.ops[code_of(m->nodes[i].op)].attr_words;
    for (uint32_t i = 0; i < m->model.n_tensors; i++) {
        if (m->tensors[i].flags != 0) *data += (uint32_t)ep_align_up(ep_tensor_size(&m->tensors[i]));
    }
}

static inline image make_image(const net *m)
{
    const ep_model *model = &m->model;
    const uint32_t up = EP_ALIGN - 1, name = (uint32_t)strlen(model->name) + 1;
    uint32_t words, data, loss = 0;
    image im;
    measure(m, &words, &data);
    im.tensors = 96;
    im.nodes = (im.tensors + 24u * model->n_tensors + up) & ~up;
    im.io = (im.nodes + 20u * model->n_nodes + up) & ~up;
    im.words = (im.io + 2 * (m->n_io + 2) + up) & ~up;
    im.train = (im.words + 4 * words + up) & ~up;
    im.data = model->train != NULL ? (im.train + 8u * model->n_tensors + up) & ~up : im.train;
    im.name = im.data + data;
    im.meta = (im.name + name + up) & ~up;
    im.size = im.meta + 2;
    im.bytes = aligned(im.size);
    memset(im.bytes, 0, im.size);
    memcpy(im.bytes, "EPM1\1\0", 6);
    for (uint16_t i = 1; i < ep_all.n_losses && model->train != NULL; i++)
        loss = ep_all.losses[i] == m->train.loss ? i : loss;
    const uint32_t fields[] = {model->fingerprint[0],
                               model->fingerprint[1],
                               model->n_tensors,
                               model->n_nodes,
                               m->n_io + 2,
                               words,
                               1,
                               1,
                               model->infer_bytes,
                               model->scratch_bytes,
                               model->param_bytes,
                               data,
                               loss,
                               loss != 0 ? m->train.bytes : 0,
                               loss != 0 ? m->train.scratch_bytes : 0,
                               loss != 0 ? m->train.first_node | (uint32_t)m->train.end_node << 16 : 0,
                               loss != 0 ? m->train.logits : 0,
                               name,
                               2,
                               0};
    put(&im, 6, EP_ABI, 2);
    put(&im, 8, im.size, 4);
    for (uint32_t i = 0; i < sizeof fields / sizeof fields[0]; i++) put(&im, 16 + 4 * i, fields[i], 4);
    put_tensors(&im, m);
    put_nodes(&im, m);
    memcpy(im.bytes + im.io, m->io, 2 * m->n_io);
    put(&im, im.io + 2 * m->n_io, m->inputs[0], 2);
    put(&im, im.io + 2 * m->n_io + 2, m->outputs[0], 2);
    memcpy(im.bytes + im.name, model->name, name);
    memcpy(im.bytes + im.meta, "{}", 2);
    sign(&im);
    return im;
}

#endif
