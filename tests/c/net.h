/* Builds models in memory, tensor by tensor, with a plan in which nothing shares memory but what a test asks for. */
#ifndef NET_H
#define NET_H

#include "check.h"

enum { MAX_TENSORS = 64, MAX_NODES = 32, MAX_IO = 256, POOL = 1 << 16 };

typedef struct net {
    ep_model model;
    ep_train train;
    ep_tensor tensors[MAX_TENSORS];
    ep_node nodes[MAX_NODES];
    uint16_t io[MAX_IO], inputs[1], outputs[1];
    uint32_t offset[MAX_TENSORS], grad_offset[MAX_TENSORS];
    uint32_t n_io, pool_used;
    EP_ALIGNED uint8_t pool[POOL]; /* constants, weights, attributes */
} net;

static inline void net_begin(net *m, const char *name)
{
    memset(m, 0, sizeof *m);
    m->model.abi = EP_ABI;
    m->model.fingerprint[0] = 0x12345678;
    m->model.fingerprint[1] = 0x9ABCDEF0;
    m->model.name = name;
    m->model.tensors = m->tensors;
    m->model.nodes = m->nodes;
    m->model.inputs = m->inputs;
    m->model.outputs = m->outputs;
    m->model.n_inputs = m->model.n_outputs = 1;
}

static inline void *net_pool(net *m, size_t size)
{
    void *place = m->pool + m->pool_used;
    m->pool_used += (uint32_t)ep_align_up(size);
    if (m->pool_used > POOL) abort();
    return place;
}

static inline uint16_t net_activation(net *m, uint8_t dtype, uint32_t count)
{
    ep_tensor *t = &m->tensors[m->model.n_tensors];
    t->dtype = dtype;
    t->count = count;
    t->offset = m->model.infer_bytes;
    m->model.infer_bytes += (uint32_t)ep_align_up(ep_tensor_size(t));
    return m->model.n_tensors++;
}

/* A constant, or with EP_PARAM a trainable weight; `values` may be NULL for random floats. */
static inline uint16_t net_data(net *m, uint8_t dtype, uint32_t count, uint8_t flags, const void *values)
{
    ep_tensor *t = &m->tensors[m->model.n_tensors];
    void *place;
    t->dtype = dtype;
    t->count = count;
    t->flags = flags;
    t->offset = flags == EP_PARAM ? m->model.param_bytes : EP_NONE;
    if (flags == EP_PARAM) m->model.param_bytes += (uint32_t)ep_tensor_size(t);
    place = net_pool(m, ep_tensor_size(t));
    if (values != NULL) {
        memcpy(place, values, ep_tensor_size(t));
    } else {
        fill_random((float *)place, count);
    }
    t->data = place;
    return m->model.n_tensors++;
}

/* Up to three inputs (EP_NOTHING: fewer), one output. */
#define EP_NOTHING 0xFFFF
static inline ep_node *net_node(net *m, const ep_op *op, const ep_grad *grad, const void *attr, size_t attr_size,
                                uint16_t a, uint16_t b, uint16_t c, uint16_t y)
{
    const uint16_t in[3] = {a, b, c};
    ep_node *node = &m->nodes[m->model.n_nodes++];
    void *place = net_pool(m, attr_size);
    memcpy(place, attr, attr_size);
    node->op = op;
    node->grad = grad;
    node->attr = place;
    node->io = &m->io[m->n_io];
    for (int i = 0; i < 3; i++) {
        if (in[i] == EP_NOTHING) continue;
        m->io[m->n_io++] = in[i];
        node->n_in++;
    }
    m->io[m->n_io++] = y;
    node->n_out = 1;
    return node;
}

/* A dense layer with random weights; `flags` of both: EP_CONST or EP_PARAM. Returns y. */
static inline uint16_t net_dense(net *m, uint16_t x, int32_t n_out, uint8_t flags, float lo)
{
    const int32_t n_in = (int32_t)m->tensors[x].count;
    const ep_dense_attr attr = {n_in, n_out, 1, lo, INFINITY};
    const uint16_t weight = net_data(m, EP_F32, (uint32_t)(n_in * n_out), flags, NULL);
    const uint16_t bias = net_data(m, EP_F32, (uint32_t)n_out, flags, NULL);
    const uint16_t y = net_activation(m, EP_F32, (uint32_t)n_out);
    net_node(m, &ep_dense_f32, EP_GRAD(dense_f32), &attr, sizeof attr, x, weight, bias, y);
    return y;
}

static inline uint16_t net_add(net *m, uint16_t a, uint16_t b)
{
    const ep_elementwise_attr attr = {(int32_t)m->tensors[a].count, 0, -INFINITY, INFINITY};
    const uint16_t y = net_activation(m, EP_F32, m->tensors[a].count);
    net_node(m, &ep_add_f32, EP_GRAD(add_f32), &attr, sizeof attr, a, b, EP_NOTHING, y);
    return y;
}

/* A one-input float32 op that keeps the count, with an ep_elementwise_attr. */
static inline uint16_t net_unary(net *m, const ep_op *op, const ep_grad *grad, uint16_t x, float alpha)
{
    const ep_elementwise_attr attr = {(int32_t)m->tensors[x].count, alpha, -0.9f, 0.9f};
    const uint16_t y = net_activation(m, EP_F32, m->tensors[x].count);
    net_node(m, op, grad, &attr, sizeof attr, x, EP_NOTHING, EP_NOTHING, y);
    return y;
}

/* Gradients get places where a node at or behind first_node reads or writes them; the last consumer of a value writes
 * its gradient first, the others add. dlogits lie over the logits, as exported models have it. */
static inline void net_plan_training(net *m, uint16_t logits, uint16_t first_node, const ep_loss *loss)
{
    ep_model *model = &m->model;
    uint32_t at = model->infer_bytes;
    uint8_t produced[MAX_TENSORS] = {0}, written[MAX_TENSORS] = {0};
    model->train = &m->train;
    m->train.offset = m->offset;
    m->train.grad_offset = m->grad_offset;
    m->train.logits = logits;
    m->train.loss = loss;
    m->train.first_node = first_node;
    m->train.end_node = 0;
    for (uint16_t i = 0; i < model->n_nodes; i++) {
        const ep_node *node = &m->nodes[i];
        if (node->io[node->n_in] == logits) m->train.end_node = (uint16_t)(i + 1);
    }
    for (uint16_t i = 0; i < model->n_tensors; i++) {
        m->offset[i] = m->tensors[i].flags == 0 ? m->tensors[i].offset : EP_NONE;
        m->grad_offset[i] = EP_NONE;
    }
    for (uint16_t i = first_node; i < m->train.end_node; i++) {
        const uint16_t y = m->nodes[i].io[m->nodes[i].n_in];
        m->grad_offset[y] = y == logits ? m->offset[y] : at;
        if (y != logits) at += (uint32_t)ep_align_up(4 * m->tensors[y].count);
        produced[y] = 1;
    }
    for (uint16_t i = m->train.end_node; i-- > first_node;) {
        ep_node *node = &m->nodes[i];
        for (unsigned k = 0; k < node->n_in; k++) {
            if (!produced[node->io[k]]) continue;
            if (written[node->io[k]]) node->accumulate |= (uint8_t)(1u << k);
            written[node->io[k]] = 1;
        }
    }
    m->train.bytes = at;
}

static inline void net_end(net *m, uint16_t x, uint16_t y)
{
    m->inputs[0] = x;
    m->outputs[0] = y;
}

#ifndef EP_NO_TRAIN
/* A step on a target as the model's loss takes it. */
static inline int net_learn(ep_t *ep, const void *x, const void *target, const ep_step *step, float *loss)
{
    if (ep->model->train->loss->labels) return ep_learn_label(ep, x, *(const int32_t *)target, step, loss);
    return ep_learn(ep, x, (const float *)target, step, loss);
}
#endif

/* x (6,) -> 4 logits. */
static inline void net_head(net *m, const ep_loss *loss)
{
    uint16_t x, y;
    net_begin(m, "head");
    x = net_activation(m, EP_F32, 6);
    y = net_dense(m, x, 4, EP_PARAM, -INFINITY);
    net_plan_training(m, y, 0, loss);
    net_end(m, x, y);
}

/* x (5,) -> 8, ReLU -> 3 logits, Softmax; the first layer frozen or not. */
static inline void net_mlp(net *m, const ep_loss *loss, int frozen)
{
    const ep_softmax_attr softmax = {1, 3};
    uint16_t x, h, y, p;
    net_begin(m, "mlp");
    x = net_activation(m, EP_F32, 5);
    h = net_dense(m, x, 8, frozen ? EP_CONST : EP_PARAM, 0);
    y = net_dense(m, h, 3, EP_PARAM, -INFINITY);
    p = net_activation(m, EP_F32, 3);
    net_node(m, &ep_softmax_f32, EP_GRAD(softmax_f32), &softmax, sizeof softmax, y, EP_NOTHING, EP_NOTHING, p);
    net_plan_training(m, y, frozen ? 1 : 0, loss);
    if (frozen) m->nodes[0].grad = NULL;
    net_end(m, x, p);
}

/* x (5,) -> h (8,); h + dense(h) -> 3 logits: h has two consumers, and its gradient two parts. */
static inline void net_dag(net *m, const ep_loss *loss)
{
    uint16_t x, h, s, y;
    net_begin(m, "dag");
    x = net_activation(m, EP_F32, 5);
    h = net_dense(m, x, 8, EP_PARAM, -INFINITY);
    s = net_add(m, h, net_dense(m, h, 8, EP_PARAM, -INFINITY));
    y = net_dense(m, s, 3, EP_PARAM, -INFINITY);
    net_plan_training(m, y, 0, loss);
    net_end(m, x, y);
}

/* A frame x (4,) and what is left of those before, h (4,): h' = tanh(dense(x) + h) -> 3 logits, `states` (2,) is h, h'. */
static inline void net_stream(net *m, const ep_loss *loss, uint16_t *states)
{
    uint16_t x, y;
    net_begin(m, "stream");
    x = net_activation(m, EP_F32, 4);
    states[0] = net_activation(m, EP_F32, 4);
    y = net_add(m, net_dense(m, x, 4, EP_PARAM, -INFINITY), states[0]);
    states[1] = net_unary(m, &ep_tanh_f32, EP_GRAD(tanh_f32), y, 0);
    y = net_dense(m, states[1], 3, EP_PARAM, -INFINITY);
    net_plan_training(m, y, 0, loss);
    m->model.states = states;
    m->model.n_states = 1;
    net_end(m, x, y);
}

/* An arena of just the right size. */
static inline void *net_start(ep_t *ep, const net *m, uint32_t batch, unsigned what, const ep_optimizer *optimizer)
{
    const size_t size = ep_arena_size(&m->model, batch, what, optimizer);
    void *arena = aligned(size);
    CHECK(size != 0);
    CHECK_RC(ep_init_batch(ep, &m->model, arena, size, batch, what, optimizer), EP_OK);
    return arena;
}

#endif
