/* Dispatch to the best kernels that this processor has, where one build serves many. */
#include "kernels.h"

#ifdef EP_DISPATCH

#define EP_ENTRY(type, name, arguments) ep_##name##_portable,
static const ep_kernels portable = {"portable", EP_KERNELS(EP_ENTRY)};
#undef EP_ENTRY

#ifdef __x86_64__
#include "x86/x86.h"

/* The compiler's support asks the processor and whether the system saves the registers. */
static int has_avx2(void)
{
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
}

static int has_avx512(void)
{
    return has_avx2() && __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512vl") && __builtin_cpu_supports("avx512dq") &&
           __builtin_cpu_supports("avx512vnni");
}
#endif

#ifdef __aarch64__
#include "neon/neon.h"

#include <sys/auxv.h>

#ifndef HWCAP_ASIMDDP
#define HWCAP_ASIMDDP (1ul << 20)
#endif

static int has_dotprod(void)
{
    return (getauxval(AT_HWCAP) & HWCAP_ASIMDDP) != 0;
}
#endif

static int always(void)
{
    return 1;
}

/* The best first. */
static const struct {
    const ep_kernels *kernels;
    int (*there)(void);
} table[] = {
#ifdef __x86_64__
    {&ep_kernels_avx512, has_avx512},
    {&ep_kernels_avx2, has_avx2},
#endif
#ifdef __aarch64__
    {&ep_kernels_dotprod, has_dotprod},
    {&ep_kernels_neon, always},
#endif
    {&portable, always},
};

const ep_kernels *ep_list_kernels(unsigned i)
{
    for (unsigned k = 0; k < sizeof table / sizeof *table; k++) {
        if (table[k].there() && i-- == 0) return table[k].kernels;
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
