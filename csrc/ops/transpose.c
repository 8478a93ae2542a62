/* y[i0, i1, ..] = x at sum of i_k * strides[k], elements of 1 or 4 bytes. */
#include "common.h"

/* Goes through y in order, the last axis apart: index of the next row of y and `at`, where it begins in x. 0 at the end. */
static int next_row(const ep_transpose_attr *a, int32_t *index, ptrdiff_t *at)
{
    for (int k = 4; k >= 0; k--) {
        *at += a->strides[k];
        if (++index[k] < a->dims[k]) return 1;
        *at -= (ptrdiff_t)a->strides[k] * a->dims[k];
        index[k] = 0;
    }
    return 0;
}

static void transpose_words(const ep_transpose_attr *a, const uint32_t *x, uint32_t *y)
{
    const ptrdiff_t step = a->strides[5];
    int32_t index[5] = {0};
    ptrdiff_t at = 0;
    do {
        const uint32_t *row = x + at;
        for (int32_t i = 0; i < a->dims[5]; i++, row += step) *y++ = *row;
    } while (next_row(a, index, &at));
}

static void transpose_bytes(const ep_transpose_attr *a, const uint8_t *x, uint8_t *y)
{
    const ptrdiff_t step = a->strides[5];
    int32_t index[5] = {0};
    ptrdiff_t at = 0;
    do {
        const uint8_t *row = x + at;
        for (int32_t i = 0; i < a->dims[5]; i++, row += step) *y++ = *row;
    } while (next_row(a, index, &at));
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_transpose_attr *a = node->attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count, out = ep_out_tensor(ep, node, 0)->count;
    const uint8_t *x = ep_in(ep, node, 0);
    uint8_t *y = ep_out(ep, node, 0);
    for (uint32_t i = 0; i < n; i++) {
        if (a->size == 4) {
            transpose_words(a, (const uint32_t *)(const void *)x + i * in, (uint32_t *)(void *)y + i * out);
        } else {
            transpose_bytes(a, x + i * in, y + i * out);
        }
    }
}

const ep_op ep_transpose = {forward};

#ifndef EP_NO_TRAIN

/* dx += dy of one sample, at the element that was read; several elements of y may be one of x. */
static void backward_sample(const ep_transpose_attr *a, float *dx, const float *dy)
{
    const ptrdiff_t step = a->strides[5];
    int32_t index[5] = {0};
    ptrdiff_t at = 0;
    do {
        float *row = dx + at;
        for (int32_t i = 0; i < a->dims[5]; i++, row += step) *row += *dy++;
    } while (next_row(a, index, &at));
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (uint32_t i = 0; dx != NULL && i < n; i++) {
        backward_sample(node->attr, dx, dy);
        dx += ep_in_tensor(ep, node, 0)->count;
        dy += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_grad ep_transpose_grad = {backward, NULL, NULL};

#endif

int ep_check_transpose(const ep_model *model, const ep_node *node)
{
    const ep_transpose_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 0)) return EP_ERR_IMAGE;
    const ep_tensor *x = &model->tensors[node->io[0]];
    const int32_t size = x->dtype == EP_F32 || x->dtype == EP_I32 ? 4 : 1;
    uint32_t count = 1;
    for (int k = 0; k < 6; k++) {
        count = ep_product((int32_t)count, a->dims[k], 1);
        if (count == 0 || a->strides[k] < 0 || (uint32_t)a->strides[k] > x->count) {
            return EP_ERR_IMAGE;
        }
    }
    const int ok = a->size == size && ep_valid_box(a->dims, a->strides, 0, x->count) &&
                   ep_valid_activation(model, node, 0, x->dtype, x->count) &&
                   ep_valid_activation(model, node, 1, x->dtype, count) && (node->grad == NULL || x->dtype == EP_F32);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
