/* Derive the constants of sums of quantized values, as ONNX Runtime's QLinearAdd on x86 has them. */
#ifndef EP_ADD_S8_H
#define EP_ADD_S8_H

#include "../internal.h"
#include "../kernels/fma.h"
#include "../kernels/kernels.h"

/* offset: 128 where the graph has uint8 codes, else 0; lo, hi: of the sum without the zero point. */
static inline ep_add_args ep_prepare_add(float offset, float lo, float hi, const ep_tensor *a, const ep_tensor *b,
                                         const ep_tensor *y)
{
    ep_add_args p;
    p.offset = (int32_t)offset;
    p.a_ratio = a->scale / y->scale;
    p.b_ratio = b->scale / y->scale;
    const float b_part = p.b_ratio * ((float)b->zero_point + offset);
    const float parts = ep_fma(p.a_ratio, (float)a->zero_point + offset, b_part);
    const float y_zero = (float)y->zero_point + offset;
    p.fixed = y_zero - parts;
    p.lo = lo + y_zero;
    p.hi = hi + y_zero;
    return p;
}

#endif
