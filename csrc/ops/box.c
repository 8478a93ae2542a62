/* A box of x into a box of y, the rest of y filled: slices, padding, broadcasts. Elements of 1 or 4 bytes. */
#include "common.h"

/* Where a row, along the last axis, begins in x and in y. */
typedef struct place {
    int32_t index[5];
    ptrdiff_t x, y;
} place;

static place first_row(const ep_box_attr *a)
{
    const place p = {{0}, a->x_offset, a->y_offset};
    return p;
}

/* On to the next row; 0 at the end. */
static int next_row(const ep_box_attr *a, place *p)
{
    for (int k = 4; k >= 0; k--) {
        p->x += a->x_strides[k];
        p->y += a->y_strides[k];
        if (++p->index[k] < a->dims[k]) return 1;
        p->x -= (ptrdiff_t)a->x_strides[k] * a->dims[k];
        p->y -= (ptrdiff_t)a->y_strides[k] * a->dims[k];
        p->index[k] = 0;
    }
    return 0;
}

/* 1 if neighbours of the last axis are neighbours in x and in y. */
static int is_dense(const ep_box_attr *a)
{
    return a->x_strides[5] == 1 && a->y_strides[5] == 1;
}

static void copy_words(const ep_box_attr *a, const float *x, float *y)
{
    place p = first_row(a);
    do {
        if (is_dense(a)) {
            memmove(y + p.y, x + p.x, (size_t)a->dims[5] * sizeof *y);
            continue;
        }
        for (int32_t i = 0; i < a->dims[5]; i++) {
            memmove(y + p.y + (ptrdiff_t)i * a->y_strides[5], x + p.x + (ptrdiff_t)i * a->x_strides[5], sizeof *y);
        }
    } while (next_row(a, &p));
}

static void copy_bytes(const ep_box_attr *a, const uint8_t *x, uint8_t *y)
{
    place p = first_row(a);
    do {
        if (is_dense(a)) {
            memmove(y + p.y, x + p.x, (size_t)a->dims[5]);
            continue;
        }
        for (int32_t i = 0; i < a->dims[5]; i++) {
            y[p.y + (ptrdiff_t)i * a->y_strides[5]] = x[p.x + (ptrdiff_t)i * a->x_strides[5]];
        }
    } while (next_row(a, &p));
}

/* Elements in the box; at most as many as y has. */
static size_t volume(const ep_box_attr *a)
{
    size_t count = 1;
    for (int k = 0; k < 6; k++) count *= (size_t)a->dims[k];
    return count;
}

static void fill(const ep_box_attr *a, void *y, size_t count)
{
    if (a->size == 1) {
        memset(y, (int)a->fill, count);
        return;
    }
    float *words = y;
    for (size_t i = 0; i < count; i++) words[i] = a->fill;
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_box_attr *a = node->attr;
    const size_t in = ep_in_tensor(ep, node, 0)->count, out = ep_out_tensor(ep, node, 0)->count;
    const uint8_t *x = ep_in(ep, node, 0);
    uint8_t *y = ep_out(ep, node, 0);
    if (volume(a) != out) fill(a, y, n * out);
    for (uint32_t i = 0; i < n; i++) {
        if (a->size == 4) {
            copy_words(a, (const float *)(const void *)x + i * in, (float *)(void *)y + i * out);
        } else {
            copy_bytes(a, x + i * in, y + i * out);
        }
    }
}

const ep_op ep_box = {forward};

#ifndef EP_NO_TRAIN

/* dx += dy of one sample, where it was read; several elements of y may be one of x. */
static void backward_sample(const ep_t *ep, const ep_box_attr *a, float *dx, const float *dy)
{
    place p = first_row(a);
    do {
        if (is_dense(a)) {
            EP_KERNEL(ep, add_f32)(dx + p.x, dy + p.y, (size_t)a->dims[5]);
            continue;
        }
        for (int32_t i = 0; i < a->dims[5]; i++) {
            dx[p.x + (ptrdiff_t)i * a->x_strides[5]] += dy[p.y + (ptrdiff_t)i * a->y_strides[5]];
        }
    } while (next_row(a, &p));
}

static void backward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const float *dy = ep_dout(ep, node, 0);
    float *dx = ep_begin_din(ep, node, n);
    for (uint32_t i = 0; dx != NULL && i < n; i++) {
        backward_sample(ep, node->attr, dx, dy);
        dx += ep_in_tensor(ep, node, 0)->count;
        dy += ep_out_tensor(ep, node, 0)->count;
    }
}

const ep_grad ep_box_grad = {backward, NULL, NULL};

#endif

static int is_fill(const ep_box_attr *a, uint8_t dtype)
{
    if (dtype == EP_F32) return 1;
    return dtype == EP_I32 ? a->fill == 0.0f : a->fill >= -128.0f && a->fill <= 255.0f;
}

int ep_check_box(const ep_model *model, const ep_node *node)
{
    const ep_box_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 0)) return EP_ERR_IMAGE;
    const ep_tensor *x = &model->tensors[node->io[0]], *y = &model->tensors[node->io[1]];
    uint32_t count = 1;
    for (int k = 0; k < 6; k++) {
        count = ep_product((int32_t)count, a->dims[k], 1);
        if (count == 0 || a->y_strides[k] < 0) return EP_ERR_IMAGE;
    }
    const int ok = a->size == (x->dtype == EP_F32 || x->dtype == EP_I32 ? 4 : 1) && count <= y->count &&
                   ep_valid_activation(model, node, 0, x->dtype, x->count) &&
                   ep_valid_activation(model, node, 1, x->dtype, y->count) &&
                   ep_valid_box(a->dims, a->x_strides, a->x_offset, x->count) &&
                   ep_valid_box(a->dims, a->y_strides, a->y_offset, y->count) && is_fill(a, x->dtype) &&
                   (node->grad == NULL || x->dtype == EP_F32);
    return ok ? EP_OK : EP_ERR_IMAGE;
}
