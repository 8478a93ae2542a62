/* Functions of one float32 element, each with its derivative beside it:
 *
 *     EP_UNARY(name, value of x, v, derivative)
 *
 * where v is what the derivative is written in: x, or y, so that x need not be kept; in place where y is x, dx is dy. `a` are
 * the node's attributes. To add one: a row here, in EP_OPS of edgeprop_ops.h and in export/program/traits.py. */
#include "common.h"

typedef float function(const ep_unary_attr *attr, float v);
enum { FROM_x, FROM_y };

static void map(const ep_t *ep, const ep_node *node, uint32_t n, function *value)
{
    const ep_unary_attr *attr = node->attr;
    const size_t count = (size_t)n * (size_t)attr->count;
    const float *x = ep_in(ep, node, 0);
    float *y = ep_out(ep, node, 0);
    for (size_t i = 0; i < count; i++) y[i] = value(attr, x[i]);
}

static int check(const ep_model *model, const ep_node *node)
{
    const ep_unary_attr *a = node->attr;
    const uint32_t count = a != NULL ? ep_product(a->count, 1, 1) : 0;
    return ep_valid_unary_f32(model, node, count, count) ? EP_OK : EP_ERR_IMAGE;
}

#define EP_UNARY(name, value, v, slope)                                         \
    static float name##_value(const ep_unary_attr *a, float x)                  \
    {                                                                           \
        (void)a;                                                                \
        return value;                                                           \
    }                                                                           \
    static void name##_forward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                           \
        map(ep, node, n, name##_value);                                         \
    }                                                                           \
    const ep_op ep_##name = {name##_forward};                                   \
    int ep_check_##name(const ep_model *model, const ep_node *node)             \
    {                                                                           \
        return check(model, node);                                              \
    }                                                                           \
    EP_UNARY_GRAD(name, v, slope)

#ifdef EP_NO_TRAIN

#define EP_UNARY_GRAD(name, v, slope)

#else

/* dx = dy * slope(x), or of y. */
static void map_gradient(const ep_t *ep, const ep_node *node, uint32_t n, function *slope, int from)
{
    const ep_unary_attr *attr = node->attr;
    const size_t count = (size_t)n * (size_t)attr->count;
    const int add = ep_accumulates(node, 0);
    const float *v = from == FROM_y ? ep_out(ep, node, 0) : ep_in(ep, node, 0), *dy = ep_dout(ep, node, 0);
    float *dx = ep_din(ep, node, 0);
    for (size_t i = 0; dx != NULL && i < count; i++) {
        const float d = dy[i] * slope(attr, v[i]);
        dx[i] = add ? dx[i] + d : d;
    }
}

#define EP_UNARY_GRAD(name, v, slope)                                            \
    static float name##_slope(const ep_unary_attr *a, float v)                   \
    {                                                                            \
        (void)a, (void)v;                                                        \
        return slope;                                                            \
    }                                                                            \
    static void name##_backward(const ep_t *ep, const ep_node *node, uint32_t n) \
    {                                                                            \
        map_gradient(ep, node, n, name##_slope, FROM_##v);                       \
    }                                                                            \
    const ep_grad ep_##name##_grad = {name##_backward, NULL, NULL};

#endif

/* ---- What they are made of ------------------------------------------------------------------------------------------ */

/* Held to 0 .. 1; NaN passes. */
static inline float held(float v)
{
    return v < 0.0f ? 0.0f : v > 1.0f ? 1.0f : v;
}

/* log(1 + exp(x)), by the exponential of a negative number only, which cannot overflow. */
static inline float softplus(float x)
{
    return (x > 0.0f ? x : 0.0f) + log1pf(expf(-fabsf(x)));
}

/* Squares and cubes, which are nearly all there are, without powf(). */
static float power(float x, float exponent)
{
    return exponent == 1.0f ? x : exponent == 2.0f ? x * x : exponent == 3.0f ? x * x * x : powf(x, exponent);
}

static inline float bend(float x)
{
    return tanhf(0.79788456f * (x + 0.044715f * x * x * x));
}

#ifndef EP_NO_TRAIN

static inline float gelu_tanh_slope(float x, float t)
{
    return 0.5f * (1.0f + t) + 0.5f * x * (1.0f - t * t) * 0.79788456f * (1.0f + 0.134145f * x * x);
}

static inline float mish_slope(float x, float t)
{
    return t + x * (1.0f - t * t) * ep_sigmoid(x);
}

static inline float silu_slope(float x, float alpha, float s)
{
    return s + alpha * x * s * (1.0f - s);
}

#endif

/* ---- The functions ---------------------------------------------------------------------------------------------------- */

/* clang-format off */

/* |x|; at 0 the slope is 0. */
EP_UNARY(abs_f32, fabsf(x), x, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : 0.0f)

/* ELU and its kin: gamma * x above 0, else alpha * (exp(beta * x) - 1). ELU: beta = gamma = 1; SELU: gamma is its scale, alpha
 * that times its alpha; CELU: beta = 1 / alpha. With all above 0, y has the sign of x, and beta * alpha * exp(beta * x) is
 * beta * (y + alpha). */
EP_UNARY(elu_f32, x > 0.0f ? a->gamma * x : a->alpha * expm1f(a->beta * x), y, y > 0.0f ? a->gamma : a->beta * (y + a->alpha))

/* The error function. */
EP_UNARY(erf_f32, erff(x), x, 1.1283792f * expf(-x * x))

EP_UNARY(exp_f32, expf(x), y, y)

/* GELU: x * P(a normal variable is below x), and its approximation by tanh (Hendrycks and Gimpel, 2016). */
EP_UNARY(gelu_f32, 0.5f * x * (1.0f + erff(x * 0.70710678f)), x,
         0.5f * (1.0f + erff(x * 0.70710678f)) + x * 0.39894228f * expf(-0.5f * x * x))
EP_UNARY(gelu_tanh_f32, 0.5f * x * (1.0f + bend(x)), x, gelu_tanh_slope(x, bend(x)))

/* alpha * x + beta, held to 0 .. 1. */
EP_UNARY(hard_sigmoid_f32, held(a->alpha * x + a->beta), y, y > 0.0f && y < 1.0f ? a->alpha : 0.0f)

/* x * (x / 6 + 1/2, held to 0 .. 1) (Howard and others, 2019). */
EP_UNARY(hard_swish_f32, x * held(x * (1.0f / 6.0f) + 0.5f), x,
         x <= -3.0f ? 0.0f : x >= 3.0f ? 1.0f : x * (1.0f / 3.0f) + 0.5f)

/* The natural logarithm. */
EP_UNARY(log_f32, logf(x), x, 1.0f / x)

/* x * tanh(log(1 + exp(x))) (Misra, 2019). */
EP_UNARY(mish_f32, x * tanhf(softplus(x)), x, mish_slope(x, tanhf(softplus(x))))

/* x to the power of alpha, a constant. */
EP_UNARY(pow_f32, power(x, a->alpha), x, a->alpha * power(x, a->alpha - 1.0f))

EP_UNARY(reciprocal_f32, 1.0f / x, y, -y * y)

/* 1 above 0, -1 below, else 0 (NaN passes); the slope is 0 everywhere. */
EP_UNARY(sign_f32, x > 0.0f ? 1.0f : x < 0.0f ? -1.0f : x, y, 0.0f)

/* SiLU, alias Swish: x * sigmoid(alpha * x); alpha is 1 but for QuickGelu (1.702) and ONNX's Swish. */
EP_UNARY(silu_f32, x * ep_sigmoid(a->alpha * x), x, silu_slope(x, a->alpha, ep_sigmoid(a->alpha * x)))

/* log(1 + exp(x)), whose slope sigmoid(x) is 1 - exp(-y). */
EP_UNARY(softplus_f32, softplus(x), y, -expm1f(-y))

/* x / (1 + |x|), whose slope is 1 / (1 + |x|)^2, where 1 / (1 + |x|) = 1 - |y|. */
EP_UNARY(softsign_f32, x / (1.0f + fabsf(x)), y, (1.0f - fabsf(y)) * (1.0f - fabsf(y)))

EP_UNARY(sqrt_f32, sqrtf(x), y, 0.5f / y)

/* x above alpha, else 0; NaN passes. */
EP_UNARY(thresholded_relu_f32, x <= a->alpha ? 0.0f : x, x, x > a->alpha ? 1.0f : 0.0f)

/* clang-format on */
