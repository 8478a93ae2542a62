/* One call of ep_infer(), or of ep_learn() if LEARN is defined, between marks, after one that warms up.
 * HEADER is the model's header, MODEL its symbol, ARENA the bytes it needs, INPUT and OUTPUT bytes of a sample. */
#include "board.h"

#include HEADER

static EP_ALIGNED uint8_t arena[ARENA];
static EP_ALIGNED uint8_t x[INPUT];
#ifndef LEARN
static EP_ALIGNED uint8_t y[OUTPUT];
#endif

static uint32_t hash(const uint8_t *bytes, uint32_t count)
{
    uint32_t h = 2166136261u; /* FNV-1a */
    for (uint32_t i = 0; i < count; i++) h = (h ^ bytes[i]) * 16777619u;
    return h;
}

/* Codes of all values, or floats from -1 to 1: the same on every board. */
static void fill(const ep_tensor *input)
{
    uint32_t state = 1;
    for (uint32_t i = 0; i < input->count; i++) {
        state = state * 1664525u + 1013904223u;
        if (input->dtype == EP_F32) {
            ((float *)(void *)x)[i] = (float)((int32_t)(state >> 8) - 0x800000) / 8388608.0f;
        } else {
            x[i] = (uint8_t)(state >> 24);
        }
    }
}

#ifdef LEARN
static int once(ep_t *ep)
{
    const ep_step step = {.lr = 0.01f};
    float loss;
    return ep_learn_label(ep, x, 1, &step, &loss);
}
#else
static int once(ep_t *ep)
{
    return ep_infer(ep, x, y);
}
#endif

int main(void)
{
    ep_t ep;
    int rc = ep_init(&ep, &MODEL, arena, sizeof arena);
    fill(&MODEL.tensors[MODEL.inputs[0]]);
    if (rc == EP_OK) rc = once(&ep);
    if (rc != EP_OK) return 1;
    bench_begin();
    rc = once(&ep);
    bench_end();
    board_write("hash ");
#ifdef LEARN
    board_write_hex(hash((const uint8_t *)ep_params(&ep, NULL), MODEL.param_bytes));
#else
    board_write_hex(hash(y, sizeof y));
#endif
    board_write("\nstack ");
    board_write_hex(board_stack_used());
    board_write("\n");
    return rc != EP_OK;
}
