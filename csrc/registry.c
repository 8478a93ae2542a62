/* List all ops and losses for ep_load(). Naming the list links all of them; a table with fewer rows links fewer. */
#include "internal.h"

#define GRAD_G(name) EP_GRAD(name)
#define GRAD_N(name) NULL
#define ROW(code, name, attr, grad) \
    {code, sizeof(attr) / 4, #name, &ep_##name, GRAD_##grad(name), ep_check_##name, EP_OPTIONAL_OUTPUTS(code)},
static const ep_registry_row ops[] = {EP_OPS(ROW)};

#ifndef EP_NO_TRAIN
#define LOSS(code, name) [code] = &ep_##name,
static const ep_loss *const losses[] = {EP_LOSSES(LOSS)};
#define N_LOSSES (sizeof losses / sizeof losses[0])
#else
#define losses NULL
#define N_LOSSES 0
#endif

const ep_registry ep_all = {ops, losses, sizeof ops / sizeof ops[0], N_LOSSES};
