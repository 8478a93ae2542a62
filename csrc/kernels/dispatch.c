/* Which kernels this processor has, where one build serves many. */
#include "kernels.h"

#ifdef EP_DISPATCH

#define EP_ENTRY(type, name, arguments) ep_##name##_portable,
static const ep_kernels portable = {"portable", EP_KERNELS(EP_ENTRY)};
#undef EP_ENTRY

static int always(void)
{
    return 1;
}

/* The best first. */
static const struct {
    const ep_kernels *kernels;
    int (*there)(void);
} table[] = {
    {&portable, always},
};

const ep_kernels *ep_list_kernels(unsigned i)
{
    for (unsigned k = 0; k < sizeof table / sizeof *table; k++) {
        if (table[k].there() && i-- == 0) {
            return table[k].kernels;
        }
    }
    return NULL;
}

const ep_kernels *ep_best_kernels(void)
{
    return ep_list_kernels(0);
}

#else
typedef int ep_dispatch_left_out; /* ISO C wants a declaration in every file */
#endif
