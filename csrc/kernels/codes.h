/* Clamp rounded values to int8, for kernels that round first and clamp then. */
#ifndef EP_CODES_H
#define EP_CODES_H

#include "scalar_s8.h"

/* What codes are clamped to. Rounding never changes the order of two numbers, so clamping the rounded value to the rounded
 * limits gives what rounding the clamped value does; the zero point may then be added first. */
typedef struct ep_codes {
    int32_t lo, hi, zero_point;
    int all; /* lo and hi are those of int8 */
} ep_codes;

static inline ep_codes ep_make_codes(const ep_requant *q)
{
    ep_codes c = {ep_nearest(q->lo) + q->zero_point, ep_nearest(q->hi) + q->zero_point, q->zero_point, 0};
    c.all = c.lo == -128 && c.hi == 127;
    return c;
}

static inline int32_t ep_limit(const ep_codes *c, int32_t code)
{
    code = code < c->lo ? c->lo : code;
    return code > c->hi ? c->hi : code;
}

#endif
