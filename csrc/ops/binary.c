/* The check of binary.h. */
#include "binary.h"

/* 1 if every element lies below `count`, and no sum on the way there leaves int32. */
static int stays_inside(const int32_t *dims, const int32_t *strides, uint32_t count)
{
    int64_t last = 0, sum = 0;
    for (int k = 0; k < 6; k++) {
        if (strides[k] < 0) {
            return 0;
        }
        last += (int64_t)strides[k] * (dims[k] - 1);
        sum += (int64_t)strides[k] * dims[k];
        if (sum > INT32_MAX) {
            return 0;
        }
    }
    return last < (int64_t)count;
}

uint32_t ep_valid_broadcast(const ep_binary_attr *attr, uint32_t a, uint32_t b)
{
    const int32_t *d = attr->dims;
    const uint32_t outer = ep_product(d[0], d[1], d[2]), inner = ep_product(d[3], d[4], d[5]);
    if (outer == 0 || inner == 0 || !stays_inside(d, attr->a_strides, a) || !stays_inside(d, attr->b_strides, b)) {
        return 0;
    }
    return ep_product((int32_t)outer, (int32_t)inner, 1);
}
