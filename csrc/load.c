/* Models from images. Nothing in an image is trusted: every number is checked before it is used, in 64-bit arithmetic
 * where two of them meet. docs/format.md has the bytes. */
#include "internal.h"

#include <float.h>
#include <string.h>

#define HEADER 96u
#define TENSOR 24u
#define NODE 20u
#define FORMAT 1u
#define LIMIT 0x40000000u /* no count or size in an image may reach this */

/* The header's numbers, and where the sections start. */
typedef struct image {
    const uint8_t *bytes;
    uint32_t total, n_tensors, n_nodes, n_io, n_words, n_inputs, n_outputs;
    uint32_t infer_bytes, scratch_bytes, param_bytes, data_bytes;
    uint32_t loss, train_bytes, train_scratch, first_node, end_node, logits, name_bytes, meta_bytes;
    uint32_t tensors_at, nodes_at, io_at, words_at, train_at, data_at, name_at;
} image;

static uint32_t u16(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8;
}

static uint32_t u32(const uint8_t *p)
{
    return u16(p) | u16(p + 2) << 16;
}

static int read_header(image *m, const void *bytes, size_t size)
{
    const uint8_t *p = bytes;
    if (size < HEADER || memcmp(p, "EPM1", 4) != 0) {
        return EP_ERR_IMAGE;
    }
    if (u16(p + 4) != FORMAT || u16(p + 6) != EP_ABI) {
        return EP_ERR_ABI;
    }
    uint32_t *const plain[] = {&m->n_tensors, &m->n_nodes, &m->n_io, &m->n_words, &m->n_inputs, &m->n_outputs,
                               &m->infer_bytes, &m->scratch_bytes, &m->param_bytes, &m->data_bytes, &m->loss,
                               &m->train_bytes, &m->train_scratch};
    m->bytes = p;
    m->total = u32(p + 8);
    for (unsigned i = 0; i < sizeof plain / sizeof *plain; i++) {
        *plain[i] = u32(p + 24 + 4 * i);
        if (*plain[i] >= LIMIT) {
            return EP_ERR_IMAGE;
        }
    }
    m->first_node = u16(p + 76);
    m->end_node = u16(p + 78);
    m->logits = u32(p + 80);
    m->name_bytes = u32(p + 84);
    m->meta_bytes = u32(p + 88);
    const int ok = m->total <= size && m->n_tensors > 0 && m->n_tensors < 0xFFFFu && m->n_nodes < 0xFFFFu &&
                   m->n_inputs > 0 && m->n_inputs < 0xFFFFu && m->n_outputs > 0 && m->n_outputs < 0xFFFFu &&
                   m->name_bytes > 0 && m->name_bytes < LIMIT && m->meta_bytes < LIMIT && m->param_bytes % 4u == 0;
    return ok ? EP_OK : EP_ERR_IMAGE;
}

/* Where the sections are; EP_ERR_IMAGE unless they fill the image exactly. */
static int find_sections(image *m)
{
    const uint64_t sizes[8] = {(uint64_t)m->n_tensors * TENSOR, (uint64_t)m->n_nodes * NODE, (uint64_t)m->n_io * 2u,
                               (uint64_t)m->n_words * 4u, m->loss ? (uint64_t)m->n_tensors * 8u : 0, m->data_bytes,
                               m->name_bytes, m->meta_bytes};
    uint32_t *const places[8] = {&m->tensors_at, &m->nodes_at, &m->io_at, &m->words_at, &m->train_at, &m->data_at,
                                 &m->name_at, NULL};
    uint64_t at = HEADER, end = HEADER;
    for (unsigned i = 0; i < 8; i++) {
        at = (end + EP_ALIGN - 1u) / EP_ALIGN * EP_ALIGN;
        end = at + sizes[i];
        if (end > m->total) {
            return EP_ERR_IMAGE;
        }
        if (places[i]) {
            *places[i] = (uint32_t)at;
        }
    }
    return end == m->total && m->bytes[m->name_at + m->name_bytes - 1u] == 0 ? EP_OK : EP_ERR_IMAGE;
}

static size_t align(size_t bytes)
{
    return (bytes + EP_ALIGN - 1u) / EP_ALIGN * EP_ALIGN;
}

static size_t tables_size(const image *m)
{
    return align(m->n_tensors * sizeof(ep_tensor)) + align(m->n_nodes * sizeof(ep_node)) + align(sizeof(ep_train));
}

long ep_load_size(const void *bytes, size_t size)
{
    image m;
    if (!bytes) {
        return EP_ERR_ARG;
    }
    const int rc = read_header(&m, bytes, size);
    return rc == EP_OK ? (long)tables_size(&m) : rc;
}

static const void *section(const image *m, uint32_t at)
{
    return m->bytes + at;
}

/* Whether [offset, offset + bytes) lies in [0, limit) and starts where a tensor may. */
static int fits(uint32_t offset, uint64_t bytes, uint32_t limit, uint32_t alignment)
{
    return offset % alignment == 0 && offset <= limit && bytes <= limit - offset;
}

static int load_tensor(const image *m, const uint8_t *p, ep_tensor *t, uint32_t *params)
{
    const uint32_t at = u32(p);
    t->count = u32(p + 4);
    t->offset = u32(p + 8);
    memcpy(&t->scale, p + 12, 4);
    t->zero_point = (int16_t)u16(p + 16);
    t->dtype = p[18];
    t->flags = p[19];
    t->data = NULL;
    if (t->dtype < EP_F32 || t->dtype > EP_U8 || t->count == 0 || t->count >= LIMIT || t->flags > EP_PARAM ||
        !(fabsf(t->scale) <= FLT_MAX)) {
        return EP_ERR_IMAGE;
    }
    const uint64_t bytes = ep_tensor_size(t);
    if (t->flags == 0) {
        return at == EP_NONE && (t->offset == EP_NONE || fits(t->offset, bytes, m->infer_bytes, EP_ALIGN))
                   ? EP_OK
                   : EP_ERR_IMAGE;
    }
    if (!fits(at, bytes, m->data_bytes, EP_ALIGN)) {
        return EP_ERR_IMAGE;
    }
    t->data = section(m, m->data_at + at);
    if (t->flags == EP_PARAM) { /* packed, in order */
        if (t->dtype != EP_F32 || t->offset != *params || bytes > m->param_bytes - *params) {
            return EP_ERR_IMAGE;
        }
        *params += (uint32_t)bytes;
    }
    return EP_OK;
}

static int load_tensors(const image *m, ep_tensor *tensors)
{
    const uint8_t *p = section(m, m->tensors_at);
    uint32_t params = 0;
    for (uint32_t i = 0; i < m->n_tensors; i++, p += TENSOR) {
        if (load_tensor(m, p, &tensors[i], &params) != EP_OK) {
            return EP_ERR_IMAGE;
        }
    }
    return params == m->param_bytes ? EP_OK : EP_ERR_IMAGE;
}

static const ep_registry_row *find_op(const ep_registry *registry, uint32_t code)
{
    for (uint16_t i = 0; i < registry->n_ops; i++) {
        if (registry->ops[i].code == code) {
            return &registry->ops[i];
        }
    }
    return NULL;
}

static int load_node(const image *m, const uint8_t *p, ep_node *node, const ep_registry *registry)
{
    const ep_registry_row *row = find_op(registry, u16(p));
    const uint32_t words = u16(p + 6), io = u32(p + 8), first = u32(p + 12);
    if (!row || (p[4] && !row->grad)) {
        return EP_ERR_OP;
    }
    node->op = row->op;
    node->grad = p[4] ? row->grad : NULL;
    node->n_in = p[2];
    node->n_out = p[3];
    node->accumulate = p[5];
    const uint32_t n = (uint32_t)node->n_in + node->n_out;
    if (node->n_in == 0 || node->n_in > 8 || node->n_out == 0 || words != row->attr_words || io > m->n_io ||
        n > m->n_io - io || first > m->n_words || words > m->n_words - first || (p[4] && !m->loss)) {
        return EP_ERR_IMAGE;
    }
    node->io = (const uint16_t *)section(m, m->io_at) + io;
    node->attr = words ? (const uint8_t *)section(m, m->words_at) + (size_t)first * 4u : NULL;
    return EP_OK;
}

static int load_nodes(const image *m, ep_node *nodes, const ep_registry *registry)
{
    const uint8_t *p = section(m, m->nodes_at);
    const uint16_t *io = section(m, m->io_at);
    for (uint32_t i = 0; i < m->n_io; i++) {
        if (io[i] >= m->n_tensors) {
            return EP_ERR_IMAGE;
        }
    }
    for (uint32_t i = 0; i < m->n_nodes; i++, p += NODE) {
        const int rc = load_node(m, p, &nodes[i], registry);
        if (rc != EP_OK) {
            return rc;
        }
    }
    return EP_OK;
}

static int is_activation(const ep_tensor *t)
{
    return t->flags == 0;
}

/* Whether tensor `index` is a model input or what one of the first `end` nodes makes. */
static int is_made(const ep_model *model, uint16_t index, uint32_t end)
{
    for (uint16_t i = 0; i < model->n_inputs; i++) {
        if (model->inputs[i] == index) {
            return 1;
        }
    }
    for (uint32_t i = 0; i < end; i++) {
        const ep_node *node = &model->nodes[i];
        for (unsigned k = 0; k < node->n_out; k++) {
            if (node->io[node->n_in + k] == index) {
                return 1;
            }
        }
    }
    return 0;
}

/* Values are made once, before they are used, and have a place in the inference plan. */
static int check_flow(const ep_model *model)
{
    for (uint16_t i = 0; i < model->n_inputs; i++) {
        const ep_tensor *t = &model->tensors[model->inputs[i]];
        if (!is_activation(t) || t->offset == EP_NONE) {
            return EP_ERR_IMAGE;
        }
    }
    for (uint32_t i = 0; i < model->n_nodes; i++) {
        const ep_node *node = &model->nodes[i];
        for (unsigned k = 0; k < node->n_in; k++) {
            if (is_activation(&model->tensors[node->io[k]]) && !is_made(model, node->io[k], i)) {
                return EP_ERR_IMAGE;
            }
        }
        for (unsigned k = node->n_in; k < (unsigned)node->n_in + node->n_out; k++) {
            const ep_tensor *t = &model->tensors[node->io[k]];
            if (!is_activation(t) || t->offset == EP_NONE || is_made(model, node->io[k], i)) {
                return EP_ERR_IMAGE;
            }
        }
    }
    for (uint16_t i = 0; i < model->n_outputs; i++) {
        if (!is_made(model, model->outputs[i], model->n_nodes)) {
            return EP_ERR_IMAGE;
        }
    }
    return EP_OK;
}

/* Activations that learning touches have a place in the training plan, gradients that a backward reads or writes too. */
static int check_train_tensor(const ep_model *model, const ep_train *train, uint16_t index)
{
    const ep_tensor *t = &model->tensors[index];
    return !is_activation(t) || fits(train->offset[index], ep_tensor_size(t), train->bytes, EP_ALIGN) ? EP_OK
                                                                                                       : EP_ERR_IMAGE;
}

static int check_gradients(const ep_model *model, const ep_train *train)
{
    for (uint16_t i = 0; i < model->n_tensors; i++) {
        const ep_tensor *t = &model->tensors[i];
        const uint32_t at = train->grad_offset[i];
        if (at != EP_NONE &&
            (!is_activation(t) || t->dtype != EP_F32 || !fits(at, ep_tensor_size(t), train->bytes, EP_ALIGN))) {
            return EP_ERR_IMAGE;
        }
    }
    return EP_OK;
}

static int check_train(const ep_model *model)
{
    const ep_train *train = model->train;
    if (train->end_node > model->n_nodes || train->first_node >= train->end_node ||
        train->logits >= model->n_tensors || !is_activation(&model->tensors[train->logits]) ||
        model->tensors[train->logits].dtype != EP_F32 || !is_made(model, train->logits, train->end_node) ||
        check_gradients(model, train) != EP_OK || train->grad_offset[train->logits] == EP_NONE) {
        return EP_ERR_IMAGE;
    }
    for (uint16_t i = 0; i < model->n_inputs; i++) {
        if (check_train_tensor(model, train, model->inputs[i]) != EP_OK) {
            return EP_ERR_IMAGE;
        }
    }
    for (uint32_t i = 0; i < model->n_nodes; i++) {
        const ep_node *node = &model->nodes[i];
        for (unsigned k = 0; i < train->end_node && k < (unsigned)node->n_in + node->n_out; k++) {
            if (check_train_tensor(model, train, node->io[k]) != EP_OK) {
                return EP_ERR_IMAGE;
            }
        }
        if (!node->grad) {
            continue;
        }
        if (i < train->first_node || i >= train->end_node || train->grad_offset[node->io[node->n_in]] == EP_NONE) {
            return EP_ERR_IMAGE;
        }
    }
    return EP_OK;
}

static int load_train(const image *m, ep_train *train, const ep_registry *registry)
{
    if (m->loss >= registry->n_losses || !registry->losses[m->loss] || m->logits >= m->n_tensors) {
        return EP_ERR_IMAGE;
    }
    train->offset = section(m, m->train_at);
    train->grad_offset = train->offset + m->n_tensors;
    train->bytes = m->train_bytes;
    train->scratch_bytes = m->train_scratch;
    train->first_node = (uint16_t)m->first_node;
    train->end_node = (uint16_t)m->end_node;
    train->logits = (uint16_t)m->logits;
    train->loss = registry->losses[m->loss];
    return EP_OK;
}

static void fill_model(ep_model *model, const image *m, const ep_tensor *tensors, const ep_node *nodes)
{
    memset(model, 0, sizeof *model);
    model->abi = EP_ABI;
    model->fingerprint[0] = u32(m->bytes + 16);
    model->fingerprint[1] = u32(m->bytes + 20);
    model->name = section(m, m->name_at);
    model->tensors = tensors;
    model->nodes = nodes;
    model->outputs = (const uint16_t *)section(m, m->io_at) + (m->n_io - m->n_outputs);
    model->inputs = model->outputs - m->n_inputs;
    model->n_tensors = (uint16_t)m->n_tensors;
    model->n_nodes = (uint16_t)m->n_nodes;
    model->n_inputs = (uint16_t)m->n_inputs;
    model->n_outputs = (uint16_t)m->n_outputs;
    model->infer_bytes = m->infer_bytes;
    model->scratch_bytes = m->scratch_bytes;
    model->param_bytes = m->param_bytes;
}

/* Each op's own check, and that its scratch was planned for. */
static int check_ops(const image *m, const ep_model *model, const ep_registry *registry)
{
    const uint8_t *p = section(m, m->nodes_at);
    for (uint32_t i = 0; i < model->n_nodes; i++, p += NODE) {
        const ep_registry_row *row = find_op(registry, u16(p));
        const int rc = row ? row->check(model, &model->nodes[i]) : EP_ERR_OP;
        if (rc != EP_OK) {
            return rc;
        }
    }
    return EP_OK;
}

int ep_load(ep_model *model, const void *bytes, size_t size, void *memory, size_t memory_size,
            const ep_registry *registry)
{
    image m;
    if (!model || !bytes || !memory || !registry) {
        return EP_ERR_ARG;
    }
    if ((uintptr_t)bytes % EP_ALIGN || (uintptr_t)memory % EP_ALIGN) {
        return EP_ERR_ALIGN;
    }
    int rc = read_header(&m, bytes, size);
    rc = rc == EP_OK ? find_sections(&m) : rc;
    if (rc != EP_OK) {
        return rc;
    }
    if (ep_crc32(0, m.bytes + 16, m.total - 16u) != u32(m.bytes + 12)) {
        return EP_ERR_CHECKSUM;
    }
    if (m.n_inputs + m.n_outputs > m.n_io || m.n_nodes == 0) {
        return EP_ERR_IMAGE;
    }
    if (memory_size < tables_size(&m)) {
        return EP_ERR_ARENA;
    }
    uint8_t *place = memory;
    ep_tensor *tensors = (void *)place;
    ep_node *nodes = (void *)(place + align(m.n_tensors * sizeof *tensors));
    ep_train *train = (void *)((uint8_t *)nodes + align(m.n_nodes * sizeof *nodes));
    ep_model built;
    rc = load_tensors(&m, tensors);
    rc = rc == EP_OK ? load_nodes(&m, nodes, registry) : rc;
    if (rc == EP_OK) {
        fill_model(&built, &m, tensors, nodes);
        rc = check_flow(&built);
    }
    if (rc == EP_OK && m.loss) {
        rc = load_train(&m, train, registry);
        built.train = train;
        rc = rc == EP_OK ? check_train(&built) : rc;
    }
    rc = rc == EP_OK ? check_ops(&m, &built, registry) : rc;
    if (rc == EP_OK) {
        *model = built;
    }
    return rc;
}
