/* Runs a model on generated samples and prints what comes out of every node, to the bit: int8 values as a hash, floats as
 * they are. If LEARN is defined, also the gradients and ten learning steps; SUMS: bytes for gradient sums, 0 if there is
 * no room. HEADER is the model's header, MODEL its symbol, ARENA the bytes it needs, INPUT and OUTPUT bytes of a sample.
 * The library is compiled with EP_TRACE. */
#include "board.h"
#include "internal.h"

#include <string.h>

#include HEADER

#define SAMPLES 3
#define STEPS 10

static EP_ALIGNED uint8_t arena[ARENA + SUMS];
static EP_ALIGNED uint8_t x[INPUT], y[OUTPUT];
static uint32_t state = 1;

static uint32_t next(void)
{
    state = state * 1664525u + 1013904223u;
    return state >> 8;
}

static void fill(const ep_tensor *input)
{
    for (uint32_t i = 0; i < input->count; i++) {
        if (input->dtype == EP_F32) {
            ((float *)(void *)x)[i] = (float)((int32_t)next() - 0x800000) / 4194304.0f; /* -2 .. 2 */
        } else if (input->dtype == EP_I32) {
            ((int32_t *)(void *)x)[i] = (int32_t)(next() % 16) - 2; /* ids, some of them outside their table */
        } else {
            x[i] = (uint8_t)next();
        }
    }
}

/* ---- What is printed: KIND NAME values --------------------------------------------------------------------------- */

static void show_floats(const char *name, const float *values, uint32_t count)
{
    board_write("f32 ");
    board_write(name);
    for (uint32_t i = 0; i < count; i++) {
        uint32_t bits;
        memcpy(&bits, &values[i], sizeof bits);
        board_write(" ");
        board_write_hex(bits);
    }
    board_write("\n");
}

static void show_codes(const char *name, const uint8_t *codes, size_t count)
{
    uint32_t hash = 2166136261u; /* FNV-1a */
    for (size_t i = 0; i < count; i++) hash = (hash ^ codes[i]) * 16777619u;
    board_write("int8 ");
    board_write(name);
    board_write(" ");
    board_write_hex(hash);
    board_write("\n");
}

static void show(const char *name, const ep_tensor *tensor, const void *values)
{
    if (values == NULL) return; /* an output that the plan leaves out */
    if (tensor->dtype == EP_F32) {
        show_floats(name, values, tensor->count);
    } else {
        show_codes(name, values, ep_tensor_size(tensor));
    }
}

static void trace(void *user, const ep_t *ep, uint16_t index, int phase)
{
    const ep_node *node = &ep->model->nodes[index];
    (void)user;
    for (unsigned i = 0; phase == 0 && i < node->n_out; i++) {
        const uint16_t output = node->io[node->n_in + i];
        show("y", ep_out_tensor(ep, node, i), ep_has_place(ep, output) ? ep_out(ep, node, i) : NULL);
    }
    for (unsigned i = 0; phase == 1 && i < node->n_in; i++) {
        const float *dx = ep_din(ep, node, i);
        if (dx != NULL) show_floats("dx", dx, ep_in_tensor(ep, node, i)->count);
    }
}

/* ---- What is run ------------------------------------------------------------------------------------------------- */

static int infer(ep_t *ep)
{
    const ep_model *model = &MODEL;
    int rc = EP_OK;
    for (int i = 0; i < SAMPLES && rc == EP_OK; i++) {
        fill(&model->tensors[model->inputs[0]]);
        rc = ep_infer(ep, x, y);
        show("output", &model->tensors[model->outputs[0]], y);
    }
    return rc;
}

#ifdef LEARN
static int learn(ep_t *ep)
{
    const ep_model *model = &MODEL;
    const ep_step step = {.lr = 0.05f};
    uint32_t count;
    const float *weights = ep_params(ep, &count);
    for (int i = 0; i < STEPS; i++) {
        const int32_t label = (int32_t)(next() % model->tensors[model->train->logits].count);
        float loss;
        int rc = EP_OK;
        fill(&model->tensors[model->inputs[0]]);
        if (i == 0 && SUMS != 0) {
            rc = ep_accumulate_labels(ep, x, &label, 1, &loss);
            if (rc == EP_OK) show_floats("dweights", (const float *)(void *)(ep->arena + ep->sums_at), count);
            if (rc == EP_OK) rc = ep_reset(ep); /* drops the sums */
        }
        if (rc == EP_OK) rc = ep_learn_label(ep, x, label, &step, &loss);
        if (rc != EP_OK) return rc;
        ep->trace = NULL;
        show_floats("loss", &loss, 1);
        show_floats("weights", weights, count);
    }
    return EP_OK;
}
#else
static int learn(ep_t *ep)
{
    (void)ep;
    return EP_OK;
}
#endif

int main(void)
{
    ep_t ep;
    int rc = ep_init(&ep, &MODEL, arena, sizeof arena);
    ep.trace = trace;
    if (rc == EP_OK) rc = infer(&ep);
    if (rc == EP_OK) rc = learn(&ep);
    board_write("done ");
    board_write_hex((uint32_t)rc);
    board_write("\n");
    return rc != EP_OK;
}
