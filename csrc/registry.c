/* Everything the library has, for ep_load(). Naming ep_all links all of it; a smaller table links less. */
#include "internal.h"

#ifdef EP_NO_TRAIN
#define GRAD_G(name) NULL
#else
#define GRAD_G(name) (&ep_##name##_grad)
#endif
#define GRAD_N(name) NULL
#define ROW(code, name, attr, grad) \
    {code, sizeof(attr) / 4u, #name, &ep_##name, GRAD_##grad(name), ep_check_##name},

static const ep_registry_row rows[] = {EP_OPS(ROW)};

#ifndef EP_NO_TRAIN
#define LOSS(code, name) [code] = &ep_##name,
static const ep_loss *const losses[] = {EP_LOSSES(LOSS)};
const ep_registry ep_all = {rows, losses, sizeof rows / sizeof *rows, sizeof losses / sizeof *losses};
#else
const ep_registry ep_all = {rows, NULL, sizeof rows / sizeof *rows, 0};
#endif
