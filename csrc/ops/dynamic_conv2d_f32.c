/* Convolution in integers whose input's scale and zero point are found at run time, for each sample its own: what
 * onnxruntime's quantize_dynamic() writes (DynamicQuantizeLinear, ConvInteger, Cast, Mul, Add), to the bit of its integers. */
#include "dynamic.h"

/* What an output position sees of one group of channels, in the order of its weights, as it is gathered. */
typedef struct patch {
    int32_t *sums;
    const int8_t *w; /* of the codes in hand */
    const int8_t *zeros;
    int32_t held;
    int16_t codes[EP_CODES];
} patch;

static int32_t group_in(const ep_conv2d_attr *a)
{
    return a->in_c / a->groups;
}

static void flush(patch *p, const ep_conv2d_attr *a)
{
    const int32_t taps = a->kernel_h * a->kernel_w * group_in(a);
    ep_add_products(p->sums, p->codes, p->w, p->held, a->out_c / a->groups, taps, p->zeros);
    p->w += p->held;
    p->held = 0;
}

/* One tap's channels; NULL: in the padding, which is the zero point. */
static void gather(patch *p, const ep_conv2d_attr *a, const float *x, ep_coding c)
{
    const int32_t channels = group_in(a);
    for (int32_t i = 0, take; i < channels; i += take) {
        take = channels - i < EP_CODES - p->held ? channels - i : EP_CODES - p->held;
        if (x != NULL) {
            ep_encode(p->codes + p->held, x + i, take, c);
        } else {
            memset(p->codes + p->held, 0, (size_t)take * sizeof *p->codes);
        }
        p->held += take;
        if (p->held == EP_CODES) flush(p, a);
    }
}

/* The sums of one output position, into y. */
static void position(const ep_conv2d_attr *a, const float *x, const int8_t *w, const int8_t *zeros, float *y,
                     int32_t oy, int32_t ox, ep_coding c)
{
    const int32_t taps = a->kernel_h * a->kernel_w * group_in(a), group_out = a->out_c / a->groups;
    for (int32_t g = 0; g < a->groups; g++) {
        patch p = {.sums = (int32_t *)(void *)y + (ptrdiff_t)g * group_out,
                   .w = w + (ptrdiff_t)g * group_out * taps,
                   .zeros = zeros + (ptrdiff_t)g * group_out,
                   .codes = {0}};
        memset(p.sums, 0, (size_t)group_out * sizeof *p.sums);
        for (int32_t ky = 0; ky < a->kernel_h; ky++) {
            const int32_t iy = oy * a->stride_h - a->pad_top + ky * a->dilation_h;
            for (int32_t kx = 0; kx < a->kernel_w; kx++) {
                const int32_t ix = ox * a->stride_w - a->pad_left + kx * a->dilation_w;
                const int inside = iy >= 0 && iy < a->in_h && ix >= 0 && ix < a->in_w;
                const float *tap = NULL;
                if (inside) {
                    tap = x + ((ptrdiff_t)iy * a->in_w + ix) * a->in_c + (ptrdiff_t)g * group_in(a);
                }
                gather(&p, a, tap, c);
            }
        }
        if (p.held > 0) flush(&p, a);
    }
}

static void forward(const ep_t *ep, const ep_node *node, uint32_t n)
{
    const ep_conv2d_attr *a = node->attr;
    const size_t size = ep_in_tensor(ep, node, 0)->count;
    const int8_t *w = ep_in(ep, node, 1), *zeros = ep_in(ep, node, 4);
    const float *x = ep_in(ep, node, 0), *bias = ep_in(ep, node, 2), *w_scale = ep_in(ep, node, 3);
    float *y = ep_out(ep, node, 0);
    for (uint32_t s = 0; s < n; s++, x += size) {
        const ep_coding c = ep_code_range(x, size);
        for (int32_t oy = 0; oy < a->out_h; oy++) {
            for (int32_t ox = 0; ox < a->out_w; ox++, y += a->out_c) {
                position(a, x, w, zeros, y, oy, ox, c);
                ep_scale_sums(y, c, w_scale, bias, a->out_c);
                ep_clamp_output(ep, y, a->lo, a->hi, (size_t)a->out_c);
            }
        }
    }
}

const ep_op ep_dynamic_conv2d_f32 = {forward};

int ep_check_dynamic_conv2d_f32(const ep_model *model, const ep_node *node)
{
    const ep_conv2d_attr *a = node->attr;
    if (!ep_valid_arity(node, 1, 4)) return EP_ERR_IMAGE;
    if (a->groups <= 0 || a->in_c % a->groups != 0 || a->out_c % a->groups != 0) {
        return EP_ERR_IMAGE;
    }
    const uint32_t x = ep_product(a->in_h, a->in_w, a->in_c), y = ep_product(a->out_h, a->out_w, a->out_c);
    const uint32_t taps = ep_product(a->kernel_h, a->kernel_w, group_in(a));
    const uint32_t channels = ep_product(a->out_c, 1, 1);
    const int ok = x != 0 && y != 0 && taps != 0 && taps <= EP_DYNAMIC_MAX && ep_valid_windows(a) &&
                   ep_valid_activation(model, node, 0, EP_F32, x) && ep_valid_const(model, node, 4, EP_I8, channels) &&
                   ep_valid_activation(model, node, 5, EP_F32, y) &&
                   ep_valid_const(model, node, 1, EP_I8, ep_product((int32_t)taps, a->out_c, 1)) &&
                   ep_valid_const(model, node, 2, EP_F32, channels) &&
                   ep_valid_const(model, node, 3, EP_F32, channels) && a->lo <= a->hi && node->grad == NULL;
    return ok ? EP_OK : EP_ERR_IMAGE;
}
