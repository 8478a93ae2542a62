/* The float32 kernels in portable C: with the vectors that every processor of the target has. */
#define EP_ISA portable
#if defined(EP_VEC) /* the build says */
#elif defined(__GNUC__) && (defined(__SSE__) || defined(__ARM_NEON))
#define EP_VEC 4
#else
#define EP_VEC 1
#endif
#include "../vector_f32.h"
