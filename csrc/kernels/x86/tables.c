/* The kernels of x86 processors, by what these have. */
#include "x86.h"

#if defined(EP_DISPATCH) && defined(__x86_64__)

#define EP_ENTRY(type, name, arguments) ep_##name##_avx2,
const ep_kernels ep_kernels_avx2 = {"avx2", EP_KERNELS(EP_ENTRY)};
#undef EP_ENTRY

#define EP_ENTRY(type, name, arguments) ep_##name##_avx512,
const ep_kernels ep_kernels_avx512 = {"avx512", EP_KERNELS(EP_ENTRY)};
#undef EP_ENTRY

#else
typedef int ep_tables_left_out; /* ISO C wants a declaration in every file */
#endif
