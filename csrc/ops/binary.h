/* Walk over two operands that are broadcast, for the ops of ep_binary_attr. */
#ifndef EP_BINARY_H
#define EP_BINARY_H

#include "check.h"

/* Where a row, the last of the dims, begins in each operand. */
typedef struct ep_rows {
    ptrdiff_t a, b;
    int32_t at[5];
} ep_rows;

/* On to the next row; 0 after the last. */
static inline int ep_next_row(const ep_binary_attr *attr, ep_rows *r)
{
    for (int k = 4; k >= 0; k--) {
        r->a += attr->a_strides[k];
        r->b += attr->b_strides[k];
        if (++r->at[k] < attr->dims[k]) return 1;
        r->at[k] = 0;
        r->a -= (ptrdiff_t)attr->a_strides[k] * attr->dims[k];
        r->b -= (ptrdiff_t)attr->b_strides[k] * attr->dims[k];
    }
    return 0;
}

/* Elements from one sample of input `i` to the next: none in a constant. */
static inline size_t ep_sample_step(const ep_t *ep, const ep_node *node, unsigned i)
{
    const ep_tensor *t = ep_in_tensor(ep, node, i);
    return t->flags == 0 ? t->count : 0;
}

/* Elements of y if the attributes make sense and stay within `a` and `b` elements of the operands; else 0. */
uint32_t ep_valid_broadcast(const ep_binary_attr *attr, uint32_t a, uint32_t b);

#endif
