/* A model that fits its buffers and nothing beside: what an application links, for the bytes of it. If LEARN is defined it
 * learns one sample, else it infers one. HEADER, MODEL, ARENA, INPUT and OUTPUT as in count.c. */
#include "board.h"

#include HEADER

static EP_ALIGNED uint8_t arena[ARENA];
static EP_ALIGNED uint8_t x[INPUT];
#ifndef LEARN
static EP_ALIGNED uint8_t y[OUTPUT];
#endif
static ep_t ep;

int main(void)
{
    int rc = ep_init(&ep, &MODEL, arena, sizeof arena);
#ifdef LEARN
    const ep_step step = {.lr = 0.01f};
    float loss;
    if (rc == EP_OK) rc = ep_learn_label(&ep, x, 1, &step, &loss);
#else
    if (rc == EP_OK) rc = ep_infer(&ep, x, y);
#endif
    board_write("stack ");
    board_write_hex(board_stack_used());
    board_write("\n");
    return rc != EP_OK;
}
