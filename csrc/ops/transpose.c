/* Any permutation of up to six axes, of elements of one or four bytes. */
#include "hx.h"

#define AXES 6

/* Walks y in order while keeping the place in x. */
typedef struct walker {
    int32_t index[AXES];
    size_t x;
} walker;

static void advance(const ep_transpose_attr *a, walker *w)
{
    for (int k = AXES - 1; k >= 0; k--) {
        w->x += (size_t)a->strides[k];
        if (++w->index[k] < a->dims[k]) {
            return;
        }
        w->x -= (size_t)a->strides[k] * (size_t)a->dims[k];
        w->index[k] = 0;
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_transpose_attr *a = node->attr;
    const size_t count = ep_in_tensor(ep, node, 0)->count, size = (size_t)a->size;
    const uint8_t *x = ep_in(ep, node, 0);
    uint8_t *y = ep_out(ep, node, 0);
    for (; n-- > 0; x += count * size) {
        walker w = {{0, 0, 0, 0, 0, 0}, 0};
        for (size_t i = 0; i < count; i++, y += size) {
            memcpy(y, x + w.x * size, size);
            advance(a, &w);
        }
    }
}

const ep_op ep_transpose = {forward};

#ifndef EP_NO_TRAIN

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_transpose_attr *a = node->attr;
    const size_t count = ep_in_tensor(ep, node, 0)->count;
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (; dx && n-- > 0; dx += count) {
        walker w = {{0, 0, 0, 0, 0, 0}, 0};
        for (size_t i = 0; i < count; i++, dy++) {
            dx[w.x] = ep_accumulates(node, 0) ? dx[w.x] + *dy : *dy;
            advance(a, &w);
        }
    }
}

const ep_grad ep_transpose_grad = {backward, NULL, NULL};

#endif

/* Every place in x is read once: the strides, sorted, must be those of a packed array. Enough for safety: the farthest
 * place is the last one. */
int ep_check_transpose(const ep_model *model, const ep_node *node)
{
    const ep_transpose_attr *a = node->attr;
    if (node->n_in != 1 || node->n_out != 1 || !a) {
        return EP_ERR_IMAGE;
    }
    const ep_tensor *x = &model->tensors[node->io[0]], *y = &model->tensors[node->io[1]];
    int64_t count = 1, last = 0;
    for (int k = 0; k < AXES; k++) {
        if (a->dims[k] < 1 || a->strides[k] < 0 || count * a->dims[k] > INT32_MAX) {
            return EP_ERR_IMAGE;
        }
        count *= a->dims[k];
        last += (int64_t)(a->dims[k] - 1) * a->strides[k];
    }
    const size_t size = ep_tensor_size(x) / x->count;
    const int ok = x->flags == 0 && x->count == (uint32_t)count && y->count == x->count && x->dtype == y->dtype &&
                   last < count && (size_t)a->size == size && (!node->grad || x->dtype == EP_F32);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
