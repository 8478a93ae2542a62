/* Check shapes, attributes and operands of nodes. */
#include "check.h"

#define POSITION_MAX (1 << 28) /* so that sums of a few positions on an axis stay in int32 */
#define CANVAS_FREE (1u << 24) /* elements of an image with its padding: always allowed, */
#define CANVAS_TIMES 16u       /* and so many times those of the image without, as dilated kernels see them, */
#define CANVAS_MAX (1u << 28)  /* up to this, so that floats, in bytes, stay in int32 */

uint32_t ep_product(int32_t a, int32_t b, int32_t c)
{
    if (a <= 0 || b <= 0 || c <= 0) return 0;
    const int64_t ab = (int64_t)a * b;
    if (ab > (int64_t)EP_COUNT_MAX || ab * c > (int64_t)EP_COUNT_MAX) return 0;
    return (uint32_t)(ab * c);
}

int ep_valid_box(const int32_t *dims, const int32_t *strides, int32_t offset, uint32_t count)
{
    int64_t first = offset, last = offset;
    for (int k = 0; k < 6; k++) {
        const int64_t stride = strides[k], reach = ((int64_t)dims[k] - 1) * stride;
        if (dims[k] <= 0 || (stride < 0 ? -stride : stride) > (int64_t)EP_COUNT_MAX) return 0;
        *(reach < 0 ? &first : &last) += reach;
        if (first < 0 || last >= (int64_t)count) return 0;
    }
    return 1;
}

static int64_t larger(int64_t a, int64_t b)
{
    return a > b ? a : b;
}

/* What the windows of an axis go over, padding and one step more included; 0 if they make no sense. */
static uint64_t span_of(int32_t in, int32_t out, int32_t kernel, int32_t stride, int32_t dilation, int32_t pad,
                        int32_t pad_end)
{
    if (in <= 0 || out <= 0 || kernel <= 0 || stride <= 0 || dilation <= 0 || pad < 0 || pad_end < 0) {
        return 0;
    }
    const int64_t seen = ((int64_t)out - 1) * stride + ((int64_t)kernel - 1) * dilation + 1;
    const int64_t span = larger(larger(seen, (int64_t)in + pad + pad_end), larger(stride, dilation));
    return span <= POSITION_MAX ? (uint64_t)span : 0;
}

/* 1 if an image of these spans is not too large: of `count` elements without its padding, which may be 0 for too many. */
static int valid_canvas(uint64_t rows, uint64_t columns, int32_t channels, uint32_t count)
{
    uint64_t limit = (uint64_t)CANVAS_TIMES * count;
    limit = limit > CANVAS_FREE ? limit : CANVAS_FREE;
    limit = limit < CANVAS_MAX ? limit : CANVAS_MAX;
    const uint64_t area = rows * columns;
    return count != 0 && area != 0 && area <= limit && area * (uint64_t)channels <= limit;
}

int ep_valid_windows(const ep_conv2d_attr *a)
{
    const uint64_t rows = span_of(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top, 0);
    const uint64_t columns = span_of(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left, 0);
    return valid_canvas(rows, columns, a->in_c, ep_product(a->in_h, a->in_w, a->in_c));
}

int ep_valid_transposed_windows(const ep_conv2d_attr *a)
{
    ep_conv2d_attr of_y = *a;
    of_y.in_h = a->out_h, of_y.in_w = a->out_w, of_y.in_c = a->out_c;
    of_y.out_h = a->in_h, of_y.out_w = a->in_w, of_y.out_c = a->in_c;
    return ep_valid_windows(&of_y);
}

int ep_valid_const(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return (t->flags & EP_CONST) != 0 && t->data != NULL && t->dtype == dtype && t->count == count && count > 0;
}

int ep_valid_arity(const ep_node *node, unsigned n_act, unsigned n_weights)
{
    return node->n_in == n_act + n_weights && node->n_out == 1 && node->attr != NULL;
}

int ep_valid_optional(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return (t->flags & (EP_CONST | EP_PARAM)) == 0 && t->dtype == dtype && t->count == count && count > 0;
}

int ep_valid_activation(const ep_model *model, const ep_node *node, unsigned index, uint8_t dtype, uint32_t count)
{
    return ep_valid_optional(model, node, index, dtype, count) && model->tensors[node->io[index]].offset != EP_NONE;
}

int ep_valid_codes(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    const int16_t first = t->dtype == EP_U8 ? 0 : -128;
    return (t->dtype == EP_U8 || t->dtype == EP_I8) && ep_valid_activation(model, node, index, t->dtype, count) &&
           t->scale > 0.0f && t->scale <= 3.0e38f && t->zero_point >= first && t->zero_point <= first + 255;
}

int ep_valid_weight(const ep_model *model, const ep_node *node, unsigned index, uint32_t count)
{
    const ep_tensor *t = &model->tensors[node->io[index]];
    return (t->flags & (EP_CONST | EP_PARAM)) != 0 && t->data != NULL && t->dtype == EP_F32 && t->count == count &&
           count > 0;
}

int ep_valid_indices(const ep_model *model, const ep_node *node, unsigned index, uint32_t count, int32_t limit)
{
    if (!ep_valid_const(model, node, index, EP_I32, count)) return 0;
    const int32_t *v = model->tensors[node->io[index]].data;
    for (uint32_t i = 0; i < count; i++) {
        if (v[i] < 0 || v[i] >= limit) return 0;
    }
    return 1;
}

int ep_valid_layer_f32(const ep_model *model, const ep_node *node, uint32_t in, uint32_t weight, uint32_t bias,
                       uint32_t out)
{
    return ep_valid_arity(node, 1, 2) && ep_valid_activation(model, node, 0, EP_F32, in) &&
           ep_valid_weight(model, node, 1, weight) && ep_valid_weight(model, node, 2, bias) &&
           ep_valid_activation(model, node, 3, EP_F32, out);
}

int ep_valid_unary_f32(const ep_model *model, const ep_node *node, uint32_t in, uint32_t out)
{
    return ep_valid_arity(node, 1, 0) && ep_valid_activation(model, node, 0, EP_F32, in) &&
           ep_valid_activation(model, node, 1, EP_F32, out);
}

int ep_valid_pool(const ep_pool2d_attr *a, uint32_t *in, uint32_t *out)
{
    const uint64_t rows =
        span_of(a->in_h, a->out_h, a->kernel_h, a->stride_h, a->dilation_h, a->pad_top, a->pad_bottom);
    const uint64_t columns =
        span_of(a->in_w, a->out_w, a->kernel_w, a->stride_w, a->dilation_w, a->pad_left, a->pad_right);
    *in = ep_product(a->in_h, a->in_w, a->channels);
    *out = ep_product(a->out_h, a->out_w, a->channels);
    return *out != 0 && valid_canvas(rows, columns, a->channels, *in);
}
