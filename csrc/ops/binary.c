/* The check of binary.h. */
#include "binary.h"

uint32_t ep_valid_broadcast(const ep_binary_attr *attr, uint32_t a, uint32_t b)
{
    const int32_t *d = attr->dims;
    const uint32_t outer = ep_product(d[0], d[1], d[2]), inner = ep_product(d[3], d[4], d[5]);
    for (int k = 0; k < 6; k++) {
        if (attr->a_strides[k] < 0 || (uint32_t)attr->a_strides[k] > a || attr->b_strides[k] < 0 ||
            (uint32_t)attr->b_strides[k] > b) {
            return 0;
        }
    }
    if (!ep_valid_box(d, attr->a_strides, 0, a) || !ep_valid_box(d, attr->b_strides, 0, b)) {
        return 0;
    }
    return ep_product((int32_t)outer, (int32_t)inner, 1);
}
