/* One axis of a resize: y[o, j] = sum over taps of weight * x[o, index], a slice (inner,) each. */
#include "common.h"

#define NARROW 4 /* elements below which a call of a kernel costs more than the work */

/* y += w * x. Taps of weight 0 fill up rows of the table: what they point at does not count. */
static void add_tap(const ep_t *ep, float *y, float w, const float *x, int32_t count)
{
    if (w == 0.0f) return;
    if (count >= NARROW) {
        EP_KERNEL(ep, axpy_f32)(y, w, x, (size_t)count);
        return;
    }
    for (int32_t i = 0; i < count; i++) y[i] += w * x[i];
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_resample_attr *a = node->attr;
    const size_t outer = (size_t)n * (size_t)a->outer;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    memset(y, 0, (size_t)n * ep_out_tensor(ep, node, 0)->count * sizeof *y);
    for (size_t o = 0; o < outer; o++, x += (ptrdiff_t)a->in * a->inner) {
        const int32_t *index = ep_in(ep, node, 1);
        const float *weight = ep_in(ep, node, 2);
        for (int32_t j = 0; j < a->out; j++, y += a->inner) {
            for (int32_t t = 0; t < a->taps; t++) {
                add_tap(ep, y, *weight++, x + (ptrdiff_t)*index++ * a->inner, a->inner);
            }
        }
    }
}

const ep_op ep_resample_f32 = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_resample_attr *a = node->attr;
    const size_t outer = (size_t)n * (size_t)a->outer;
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (size_t o = 0; dx != NULL && o < outer; o++, dx += (ptrdiff_t)a->in * a->inner) {
        const int32_t *index = ep_in(ep, node, 1);
        const float *weight = ep_in(ep, node, 2);
        for (int32_t j = 0; j < a->out; j++, dy += a->inner) {
            for (int32_t t = 0; t < a->taps; t++) {
                add_tap(ep, dx + (ptrdiff_t)*index++ * a->inner, *weight++, dy, a->inner);
            }
        }
    }
}

const ep_grad ep_resample_f32_grad = {backward, NULL, NULL};

#endif

int ep_check_resample_f32(const ep_model *model, const ep_node *node)
{
    const ep_resample_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 2)) return EP_ERR_IMAGE;
    const uint32_t table = ep_product(a->out, a->taps, 1);
    const int ok = ep_valid_activation(model, node, 0, EP_F32, ep_product(a->outer, a->in, a->inner)) &&
                   ep_valid_indices(model, node, 1, table, a->in) && ep_valid_const(model, node, 2, EP_F32, table) &&
                   ep_valid_activation(model, node, 3, EP_F32, ep_product(a->outer, a->out, a->inner));
    return ok ? EP_OK : EP_ERR_IMAGE;
}
