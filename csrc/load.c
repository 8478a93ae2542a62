/* Load models from images (docs/format.md).
 *
 * An image is not trusted. All that core, learning and ops rely on is checked here: the header and sections, then each
 * tensor, each node, the training plan, and last each op's own `check`. Sizes and places are added up in 64 bits, where
 * 32-bit fields cannot overflow. */
#include <string.h>

#include "internal.h"
#include "ops/check.h"

enum { HEADER = 96, TENSOR = 24, NODE = 20 }; /* bytes in an image */

/* Set in the flags of a tensor while loading: an activation has a value, a trainable weight has its node; and an
 * activation's gradient is written. */
#define SEEN 0x80u
#define WRITTEN 0x40u

/* Limits of what an image may claim, beside its own size. */
#define MOST_IO 8u            /* inputs of a node, and outputs: ep_node.accumulate has a bit for each input */
#define SIZE_LIMIT (1u << 31) /* bytes of a tensor: as many as an arena has */
#define SCRATCH_FREE 65536u   /* working memory that nobody has to account for */
#define SCRATCH_VECTORS 5u /* else it is so many vectors at most, each no larger than a tensor: an LSTM's of a step */
#define SCANS 64u          /* constants that checks look through, in images' sizes: they may be shared, within reason */

/* The header's numbers, and where its sections begin. */
typedef struct header {
    uint32_t bytes, crc, tensors, nodes, io, words, inputs, outputs;
    uint32_t infer_bytes, scratch_bytes, param_bytes, data_bytes;
    uint32_t loss, train_bytes, train_scratch_bytes, first_node, end_node, logits, name_bytes, meta_bytes, states;
    uint64_t tensors_at, nodes_at, io_at, words_at, train_at, data_at, name_at, end;
} header;

/* What loading goes by. */
typedef struct loader {
    const uint8_t *image;
    header h;
    const ep_registry *registry;
    ep_tensor *tensors;
    ep_node *nodes;
    ep_train *train;
} loader;

static uint16_t get_u16(const uint8_t *from)
{
    return (uint16_t)(from[0] | from[1] << 8);
}

static uint32_t get_u32(const uint8_t *from)
{
    return get_u16(from) | (uint32_t)get_u16(from + 2) << 16;
}

/* ---- Header and sections ----------------------------------------------------------------------------------------- */

static void lay_out(header *h)
{
    h->tensors_at = HEADER;
    h->nodes_at = h->tensors_at + ep_align_up((uint64_t)h->tensors * TENSOR);
    h->io_at = h->nodes_at + ep_align_up((uint64_t)h->nodes * NODE);
    h->words_at = h->io_at + ep_align_up((uint64_t)h->io * 2);
    h->train_at = h->words_at + ep_align_up((uint64_t)h->words * 4);
    h->data_at = h->train_at + (h->loss != 0 ? ep_align_up((uint64_t)h->tensors * 8) : 0);
    h->name_at = h->data_at + ep_align_up(h->data_bytes);
    h->end = h->name_at + ep_align_up(h->name_bytes) + h->meta_bytes;
}

static int read_header(const uint8_t *image, size_t size, header *h)
{
    uint32_t *const fields[] = {&h->tensors,
                                &h->nodes,
                                &h->io,
                                &h->words,
                                &h->inputs,
                                &h->outputs,
                                &h->infer_bytes,
                                &h->scratch_bytes,
                                &h->param_bytes,
                                &h->data_bytes,
                                &h->loss,
                                &h->train_bytes,
                                &h->train_scratch_bytes};
    const uint16_t one = 1;
    uint8_t first;
    memcpy(&first, &one, 1);
    if (size < HEADER || memcmp(image, "EPM1", 4) != 0) return EP_ERR_IMAGE;
    if (get_u16(image + 4) != 1 || get_u16(image + 6) != EP_ABI || first != 1) return EP_ERR_ABI; /* little-endian */
    h->bytes = get_u32(image + 8);
    h->crc = get_u32(image + 12);
    for (unsigned i = 0; i < sizeof fields / sizeof fields[0]; i++) *fields[i] = get_u32(image + 24 + 4 * i);
    h->first_node = get_u16(image + 76);
    h->end_node = get_u16(image + 78);
    h->logits = get_u32(image + 80);
    h->name_bytes = get_u32(image + 84);
    h->meta_bytes = get_u32(image + 88);
    h->states = get_u32(image + 92);
    lay_out(h);
    if (h->tensors > 0xFFFF || h->nodes > 0xFFFF || h->inputs - 1 >= 0xFFFF || h->outputs - 1 >= 0xFFFF ||
        h->states > 0xFFFF || (uint64_t)h->inputs + h->outputs + 2 * (uint64_t)h->states > h->io || h->end > h->bytes) {
        return EP_ERR_IMAGE;
    }
    return EP_OK;
}

static uint64_t table_bytes(const header *h)
{
    return ep_align_up(sizeof(ep_train)) + ep_align_up(h->tensors * sizeof(ep_tensor)) +
           ep_align_up(h->nodes * sizeof(ep_node));
}

long ep_load_size(const void *image, size_t size)
{
    header h;
    int rc;
    if (image == NULL) return EP_ERR_ARG;
    rc = read_header((const uint8_t *)image, size, &h);
    return rc == EP_OK ? (long)table_bytes(&h) : rc;
}

/* ---- Tensors ----------------------------------------------------------------------------------------------------- */

/* 1 if `bytes` at `offset` lie within `whole`, aligned. */
static int fits(uint32_t offset, uint64_t bytes, uint32_t whole)
{
    return offset % EP_ALIGN == 0 && offset + bytes <= whole;
}

/* 1 if two ranges are disjoint, or begin together: then an op may go through them element by element. */
static int apart_or_same(uint64_t a, uint64_t a_bytes, uint64_t b, uint64_t b_bytes)
{
    return a == b || a + a_bytes <= b || b + b_bytes <= a;
}

static uint64_t bytes_of(const ep_tensor *tensor)
{
    return (uint64_t)tensor->count * (tensor->dtype == EP_F32 || tensor->dtype == EP_I32 ? 4 : 1);
}

static int is_activation(const ep_tensor *tensor)
{
    return tensor->flags == SEEN;
}

/* The most bytes of constants that are looked through, so that an image takes time in proportion to its size. */
static uint64_t scan_limit(const loader *l)
{
    return (uint64_t)l->h.bytes * SCANS + (1u << 20);
}

/* `params`: bytes of the trainable weights before this tensor, and then with it. */
static int load_tensor(const loader *l, const uint8_t *row, ep_tensor *tensor, uint32_t *params)
{
    const uint32_t place = get_u32(row);
    const uint32_t scale = get_u32(row + 12);
    tensor->count = get_u32(row + 4);
    tensor->offset = get_u32(row + 8);
    memcpy(&tensor->scale, &scale, sizeof scale);
    tensor->zero_point = (int16_t)get_u16(row + 16);
    tensor->dtype = row[18];
    tensor->flags = row[19];
    tensor->data = NULL;
    if (tensor->dtype < EP_F32 || tensor->dtype > EP_U8 || tensor->count == 0) return EP_ERR_IMAGE;
    if (tensor->count > EP_COUNT_MAX || bytes_of(tensor) >= SIZE_LIMIT) return EP_ERR_IMAGE;
    if (tensor->flags == 0) {
        if (place != EP_NONE) return EP_ERR_IMAGE;
        if (tensor->offset == EP_NONE) return EP_OK;
        return fits(tensor->offset, bytes_of(tensor), l->h.infer_bytes) ? EP_OK : EP_ERR_IMAGE;
    }
    if (!fits(place, bytes_of(tensor), l->h.data_bytes)) return EP_ERR_IMAGE;
    tensor->data = l->image + l->h.data_at + place;
    if (tensor->flags == EP_CONST || (tensor->flags == (EP_CONST | EP_NARROW) && tensor->dtype == EP_I8)) return EP_OK;
    if (tensor->flags != EP_PARAM || tensor->dtype != EP_F32 || tensor->offset != *params) return EP_ERR_IMAGE;
    if (bytes_of(tensor) > l->h.param_bytes - *params) return EP_ERR_IMAGE;
    *params += tensor->count * 4;
    return EP_OK;
}

/* 1 if codes that say they are narrow hold no -128. `scanned`: bytes looked through so far. */
static int is_narrow(const loader *l, const ep_tensor *tensor, uint64_t *scanned)
{
    const uint8_t *codes = (const uint8_t *)tensor->data;
    if (!(tensor->flags & EP_NARROW)) return 1;
    *scanned += tensor->count;
    if (*scanned > scan_limit(l)) return 0;
    for (uint32_t i = 0; i < tensor->count; i++) {
        if (codes[i] == 0x80) return 0;
    }
    return 1;
}

/* Trainable weights share no data: all of them together fit it. */
static int load_tensors(const loader *l)
{
    const uint8_t *row = l->image + l->h.tensors_at;
    uint32_t params = 0;
    uint64_t scanned = 0;
    for (uint32_t i = 0; i < l->h.tensors; i++, row += TENSOR) {
        if (load_tensor(l, row, &l->tensors[i], &params) != EP_OK) return EP_ERR_IMAGE;
        if (!is_narrow(l, &l->tensors[i], &scanned)) return EP_ERR_IMAGE;
    }
    return params == l->h.param_bytes && params <= l->h.data_bytes ? EP_OK : EP_ERR_IMAGE;
}

/* ---- Nodes ------------------------------------------------------------------------------------------------------- */

static const ep_registry_row *find_op(const ep_registry *registry, uint16_t code)
{
    for (uint16_t i = 0; i < registry->n_ops; i++) {
        if (registry->ops[i].code == code) return &registry->ops[i];
    }
    return NULL;
}

static int load_node(const loader *l, const uint8_t *row, const ep_registry_row *known, ep_node *node)
{
    const uint64_t io = get_u32(row + 8), word = get_u32(row + 12);
    const uint32_t words = get_u16(row + 6);
    node->n_in = row[2];
    node->n_out = row[3];
    node->accumulate = row[5];
    if (node->n_in - 1u >= MOST_IO || node->n_out - 1u >= MOST_IO) return EP_ERR_IMAGE;
    if (row[4] > 1 || words != known->attr_words) return EP_ERR_IMAGE;
    if (io + node->n_in + node->n_out + 2 * (uint64_t)l->h.states + l->h.inputs + l->h.outputs > l->h.io)
        return EP_ERR_IMAGE;
    if (word + words > l->h.words) return EP_ERR_IMAGE;
    node->op = known->op;
    node->io = (const uint16_t *)(const void *)(l->image + l->h.io_at + 2 * io);
    node->attr = words != 0 ? l->image + l->h.words_at + 4 * word : NULL;
    node->grad = NULL;
#ifndef EP_NO_TRAIN
    if (row[4] != 0 && known->grad == NULL) return EP_ERR_OP;
    if (row[4] != 0) node->grad = known->grad;
#endif
    return EP_OK;
}

/* An input has a value by now; a trainable weight belongs to one node, whose update is then whole. */
static int check_input(const loader *l, uint16_t index)
{
    ep_tensor *tensor;
    if (index >= l->h.tensors) return EP_ERR_IMAGE;
    tensor = &l->tensors[index];
    if (is_activation(tensor)) return tensor->offset != EP_NONE ? EP_OK : EP_ERR_IMAGE;
    if (tensor->flags & EP_CONST) return EP_OK;
    if (tensor->flags != EP_PARAM) return EP_ERR_IMAGE;
    tensor->flags |= SEEN;
    return EP_OK;
}

/* Output k gets its only value here, in memory that overlaps no input halfway. One without a place is never read, and it
 * is one that the op can do without. */
static int check_output(const loader *l, const ep_node *node, const ep_registry_row *known, unsigned k)
{
    const uint16_t index = node->io[node->n_in + k];
    ep_tensor *y;
    if (index >= l->h.tensors) return EP_ERR_IMAGE;
    y = &l->tensors[index];
    if (y->flags != 0) return EP_ERR_IMAGE;
    if (y->offset == EP_NONE && !(known->optional >> k & 1)) return EP_ERR_IMAGE;
    for (unsigned i = 0; i < node->n_in && y->offset != EP_NONE; i++) {
        const ep_tensor *x = &l->tensors[node->io[i]];
        if (is_activation(x) && !apart_or_same(x->offset, bytes_of(x), y->offset, bytes_of(y))) return EP_ERR_IMAGE;
    }
    y->flags = SEEN;
    return EP_OK;
}

/* Bytes of the node's constants that its check looks through: indices, biases, and what comes with these. */
static uint64_t scan_of(const loader *l, const ep_node *node)
{
    uint64_t bytes = 0;
    for (unsigned k = 0; k < node->n_in; k++) {
        const ep_tensor *x = &l->tensors[node->io[k]];
        if ((x->flags & EP_CONST) && (x->dtype == EP_I32 || x->dtype == EP_U8)) bytes += bytes_of(x);
    }
    return bytes;
}

static int load_io(const loader *l, const ep_node *node, const ep_registry_row *known)
{
    for (unsigned k = 0; k < node->n_in; k++) {
        if (check_input(l, node->io[k]) != EP_OK) return EP_ERR_IMAGE;
    }
    for (unsigned k = 0; k < node->n_out; k++) {
        if (check_output(l, node, known, k) != EP_OK) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

static int load_nodes(const loader *l)
{
    const uint8_t *row = l->image + l->h.nodes_at;
    uint64_t scanned = 0;
    for (uint32_t i = 0; i < l->h.nodes; i++, row += NODE) {
        const ep_registry_row *known = find_op(l->registry, get_u16(row));
        int rc = known != NULL ? load_node(l, row, known, &l->nodes[i]) : EP_ERR_OP;
        if (rc == EP_OK) rc = load_io(l, &l->nodes[i], known);
        if (rc != EP_OK) return rc;
        scanned += scan_of(l, &l->nodes[i]);
        if (scanned > scan_limit(l)) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

/* A value that is there before the first node. */
static int mark_input(const loader *l, uint16_t index)
{
    if (index >= l->h.tensors) return EP_ERR_IMAGE;
    if (l->tensors[index].flags != 0 || l->tensors[index].offset == EP_NONE) return EP_ERR_IMAGE;
    l->tensors[index].flags = SEEN;
    return EP_OK;
}

/* Before the nodes: what the caller fills in, and states. */
static int mark_inputs(const loader *l, const ep_model *model)
{
    for (uint16_t i = 0; i < model->n_inputs; i++) {
        if (mark_input(l, model->inputs[i]) != EP_OK) return EP_ERR_IMAGE;
    }
    for (uint16_t i = 0; i < model->n_states; i++) {
        if (mark_input(l, model->states[2 * i]) != EP_OK) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

/* After the nodes: each state has something of its size that follows it. */
static int check_states(const loader *l, const ep_model *model)
{
    for (uint16_t i = 0; i < model->n_states; i++) {
        const ep_tensor *state = &l->tensors[model->states[2 * i]], *next;
        if (model->states[2 * i + 1] >= l->h.tensors) return EP_ERR_IMAGE;
        next = &l->tensors[model->states[2 * i + 1]];
        if (!is_activation(next) || next->offset == EP_NONE) return EP_ERR_IMAGE;
        if (state->dtype != EP_F32 || next->dtype != EP_F32 || state->count != next->count) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

/* After the nodes: what the caller reads. */
static int check_outputs(const loader *l, const ep_model *model)
{
    for (uint16_t i = 0; i < model->n_outputs; i++) {
        const uint16_t index = model->outputs[i];
        if (index >= l->h.tensors || !is_activation(&l->tensors[index])) return EP_ERR_IMAGE;
        if (l->tensors[index].offset == EP_NONE) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

/* Bytes up to the end of a tensor at `offset`, if that is more than `bytes`. */
static uint64_t reach(uint64_t bytes, const ep_tensor *tensor, uint32_t offset)
{
    const uint64_t end = offset != EP_NONE ? offset + ep_align_up(bytes_of(tensor)) : 0;
    return end > bytes ? end : bytes;
}

/* After the nodes: the plan is no larger than what lies in it. */
static int check_infer_bytes(const loader *l)
{
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < l->h.tensors; i++) {
        if (is_activation(&l->tensors[i])) bytes = reach(bytes, &l->tensors[i], l->tensors[i].offset);
    }
    return l->h.infer_bytes <= bytes ? EP_OK : EP_ERR_IMAGE;
}

/* 1 if working memory of this size may be what an op asks for. */
static int is_scratch(const loader *l, uint32_t scratch_bytes)
{
    uint64_t largest = 0;
    for (uint32_t i = 0; i < l->h.tensors; i++) largest = reach(largest, &l->tensors[i], 0);
    return scratch_bytes <= SCRATCH_FREE + SCRATCH_VECTORS * largest;
}

/* ---- Training ---------------------------------------------------------------------------------------------------- */

#ifndef EP_NO_TRAIN

/* Places of activations and their gradients: none, or within the plan, which is no larger than what lies in it. */
static int check_places(const loader *l)
{
    const uint32_t whole = l->h.train_bytes;
    uint64_t bytes = 0;
    for (uint32_t i = 0; i < l->h.tensors; i++) {
        const ep_tensor *tensor = &l->tensors[i];
        const uint32_t value = l->train->offset[i], gradient = l->train->grad_offset[i];
        if (gradient != EP_NONE) {
            if (!is_activation(tensor) || tensor->dtype != EP_F32) return EP_ERR_IMAGE;
            if (!fits(gradient, bytes_of(tensor), whole)) return EP_ERR_IMAGE;
            bytes = reach(bytes, tensor, gradient);
        }
        if (!is_activation(tensor)) continue;
        if (value != EP_NONE && !fits(value, bytes_of(tensor), whole)) return EP_ERR_IMAGE;
        bytes = reach(bytes, tensor, value);
    }
    return whole <= bytes ? EP_OK : EP_ERR_IMAGE;
}

/* In places `at`, y overlaps no input of its node halfway. */
static int check_overlap(const loader *l, const ep_node *node, const uint32_t *at, uint16_t y)
{
    for (unsigned i = 0; i < node->n_in; i++) {
        const uint16_t x = node->io[i];
        if (!is_activation(&l->tensors[x]) || at[x] == EP_NONE || at[y] == EP_NONE) continue;
        if (!apart_or_same(at[x], bytes_of(&l->tensors[x]), at[y], bytes_of(&l->tensors[y]))) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

/* All that node `index` touches while learning has a place, but for outputs of frozen ops that have none in inference
 * either, and for gradients of some of several outputs. */
static int check_walk(const loader *l, uint32_t index)
{
    const ep_node *node = &l->nodes[index];
    const unsigned n = (unsigned)node->n_in + node->n_out;
    const int learns = node->grad != NULL && index >= l->h.first_node;
    int gradients = 0;
    for (unsigned k = 0; k < n; k++) {
        const uint16_t i = node->io[k];
        if (!is_activation(&l->tensors[i])) continue;
        if (l->train->offset[i] == EP_NONE && (learns || l->tensors[i].offset != EP_NONE)) return EP_ERR_IMAGE;
        if (k < node->n_in) continue;
        gradients += l->train->grad_offset[i] != EP_NONE;
        if (check_overlap(l, node, l->train->offset, i) != EP_OK) return EP_ERR_IMAGE;
        if (check_overlap(l, node, l->train->grad_offset, i) != EP_OK) return EP_ERR_IMAGE;
    }
    return learns && gradients == 0 ? EP_ERR_IMAGE : EP_OK;
}

static int produces(const ep_node *node, uint32_t index)
{
    for (unsigned k = 0; k < node->n_out; k++) {
        if (node->io[node->n_in + k] == index) return 1;
    }
    return 0;
}

/* The logits have a value and a gradient while learning, and as many elements as an output: so many targets there are. */
static int check_logits(const loader *l, const ep_model *model)
{
    const uint32_t logits = l->h.logits;
    int reached = 0, shown = 0;
    for (uint32_t i = 0; i < l->h.end_node; i++) reached |= produces(&l->nodes[i], logits);
    if (!reached || l->train->offset[logits] == EP_NONE || l->train->grad_offset[logits] == EP_NONE)
        return EP_ERR_IMAGE;
    for (uint16_t i = 0; i < model->n_outputs; i++) {
        shown |= l->tensors[model->outputs[i]].count == l->tensors[logits].count;
    }
    return shown ? EP_OK : EP_ERR_IMAGE;
}

/* On the way back from the loss no gradient is read that this step has not written, and each is begun once and then added
 * to: else a step would go by what the one before it left. The last check that asks for is_activation(). */
static int check_gradients(const loader *l)
{
    l->tensors[l->h.logits].flags |= WRITTEN;
    for (uint32_t i = l->h.end_node; i-- > l->h.first_node;) {
        const ep_node *node = &l->nodes[i];
        for (unsigned k = node->n_in; node->grad != NULL && k < (unsigned)node->n_in + node->n_out; k++) {
            const uint16_t y = node->io[k];
            if (l->train->grad_offset[y] != EP_NONE && !(l->tensors[y].flags & WRITTEN)) return EP_ERR_IMAGE;
        }
        for (unsigned k = 0; node->grad != NULL && k < node->n_in; k++) {
            const uint16_t x = node->io[k];
            if (l->train->grad_offset[x] == EP_NONE) continue;
            if ((node->accumulate >> k & 1) != ((l->tensors[x].flags & WRITTEN) != 0)) return EP_ERR_IMAGE;
            l->tensors[x].flags |= WRITTEN;
        }
    }
    return EP_OK;
}

static const ep_loss *find_loss(const ep_registry *registry, uint32_t code)
{
    return code < registry->n_losses ? registry->losses[code] : NULL;
}

/* States come first in the training plan, where inference left them, and a step lays nothing over them. */
static int check_states_stay(const loader *l, const ep_model *model)
{
    const ep_train *train = l->train;
    uint64_t end = 0;
    for (uint16_t i = 0; i < model->n_states; i++) {
        const uint16_t state = model->states[2 * i];
        if (train->offset[state] != l->tensors[state].offset) return EP_ERR_IMAGE;
        end = reach(end, &l->tensors[state], train->offset[state]);
    }
    for (uint16_t i = 0; i < model->n_inputs; i++) {
        if (train->offset[model->inputs[i]] < end) return EP_ERR_IMAGE;
    }
    for (uint32_t i = 0; i < l->h.end_node; i++) {
        const ep_node *node = &l->nodes[i];
        for (unsigned k = 0; k < node->n_out; k++) {
            if (train->offset[node->io[node->n_in + k]] < end) return EP_ERR_IMAGE;
        }
    }
    for (uint32_t i = 0; i < l->h.tensors; i++) {
        if (train->grad_offset[i] < end) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

static int load_train(const loader *l, ep_model *model)
{
    const header *h = &l->h;
    ep_train *train = l->train;
    train->loss = find_loss(l->registry, h->loss);
    if (train->loss == NULL) return EP_ERR_OP;
    train->offset = (const uint32_t *)(const void *)(l->image + h->train_at);
    train->grad_offset = train->offset + h->tensors;
    train->bytes = h->train_bytes;
    train->scratch_bytes = h->train_scratch_bytes;
    train->first_node = (uint16_t)h->first_node;
    train->end_node = (uint16_t)h->end_node;
    train->logits = (uint16_t)h->logits;
    if (h->first_node >= h->end_node || h->end_node > h->nodes) return EP_ERR_IMAGE;
    if (h->param_bytes == 0 || check_places(l) != EP_OK) return EP_ERR_IMAGE;
    for (uint16_t i = 0; i < model->n_inputs; i++) {
        if (train->offset[model->inputs[i]] == EP_NONE) return EP_ERR_IMAGE;
    }
    if (check_states_stay(l, model) != EP_OK) return EP_ERR_IMAGE;
    for (uint32_t i = 0; i < h->end_node; i++) {
        if (check_walk(l, i) != EP_OK) return EP_ERR_IMAGE;
    }
    if (check_logits(l, model) != EP_OK || !is_scratch(l, h->train_scratch_bytes)) return EP_ERR_IMAGE;
    if (check_gradients(l) != EP_OK) return EP_ERR_IMAGE;
    model->train = train;
    return EP_OK;
}

#else

static int load_train(const loader *l, ep_model *model)
{
    (void)l, (void)model;
    return EP_OK;
}

#endif

/* ---- All together ------------------------------------------------------------------------------------------------ */

static void fill_model(const loader *l, ep_model *model)
{
    const header *h = &l->h;
    memset(model, 0, sizeof *model);
    model->abi = EP_ABI;
    model->fingerprint[0] = get_u32(l->image + 16);
    model->fingerprint[1] = get_u32(l->image + 20);
    model->name = h->name_bytes != 0 ? (const char *)(l->image + h->name_at) : "";
    model->tensors = l->tensors;
    model->nodes = l->nodes;
    model->outputs = (const uint16_t *)(const void *)(l->image + h->io_at) + (h->io - h->outputs);
    model->inputs = model->outputs - h->inputs;
    model->states = h->states != 0 ? model->inputs - 2 * h->states : NULL;
    model->n_states = (uint16_t)h->states;
    model->n_tensors = (uint16_t)h->tensors;
    model->n_nodes = (uint16_t)h->nodes;
    model->n_inputs = (uint16_t)h->inputs;
    model->n_outputs = (uint16_t)h->outputs;
    model->infer_bytes = h->infer_bytes;
    model->scratch_bytes = h->scratch_bytes;
    model->param_bytes = h->param_bytes;
}

static int check_ops(const loader *l, const ep_model *model)
{
    const uint8_t *row = l->image + l->h.nodes_at;
    for (uint32_t i = 0; i < l->h.tensors; i++) l->tensors[i].flags &= (uint8_t) ~(SEEN | WRITTEN);
    for (uint32_t i = 0; i < l->h.nodes; i++, row += NODE) {
        if (find_op(l->registry, get_u16(row))->check(model, &l->nodes[i]) != EP_OK) return EP_ERR_IMAGE;
    }
    return EP_OK;
}

static int load_all(const loader *l, ep_model *model)
{
    const header *h = &l->h;
    int rc;
    if (h->name_bytes != 0 && l->image[h->name_at + h->name_bytes - 1] != 0) return EP_ERR_IMAGE;
    fill_model(l, model);
    rc = load_tensors(l);
    if (rc == EP_OK) rc = mark_inputs(l, model);
    if (rc == EP_OK) rc = load_nodes(l);
    if (rc == EP_OK) rc = check_outputs(l, model);
    if (rc == EP_OK) rc = check_states(l, model);
    if (rc == EP_OK) rc = check_infer_bytes(l);
    if (rc == EP_OK && !is_scratch(l, h->scratch_bytes)) rc = EP_ERR_IMAGE;
    if (rc == EP_OK && h->loss != 0) rc = load_train(l, model);
    return rc == EP_OK ? check_ops(l, model) : rc;
}

int ep_load(ep_model *model, const void *image, size_t size, void *memory, size_t memory_size,
            const ep_registry *registry)
{
    loader l;
    ep_model loaded;
    int rc;
    if (model == NULL || image == NULL || memory == NULL || registry == NULL) return EP_ERR_ARG;
    if ((uintptr_t)image % EP_ALIGN != 0 || (uintptr_t)memory % EP_ALIGN != 0) return EP_ERR_ALIGN;
    l.image = (const uint8_t *)image;
    l.registry = registry;
    rc = read_header(l.image, size, &l.h);
    if (rc != EP_OK) return rc;
    if (l.h.bytes > size) return EP_ERR_IMAGE;
    if (ep_crc32(0, l.image + 16, l.h.bytes - 16) != l.h.crc) return EP_ERR_CHECKSUM;
    if (table_bytes(&l.h) > memory_size) return EP_ERR_ARENA;
    l.train = (ep_train *)memory;
    l.tensors = (ep_tensor *)(void *)((uint8_t *)memory + ep_align_up(sizeof(ep_train)));
    l.nodes = (ep_node *)(void *)((uint8_t *)l.tensors + ep_align_up(l.h.tensors * sizeof(ep_tensor)));
    rc = load_all(&l, &loaded);
    if (rc == EP_OK) *model = loaded;
    return rc;
}
