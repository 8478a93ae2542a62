/* ELU and its kin: gamma * x above 0, else alpha * (exp(beta * x) - 1). ELU: beta = gamma = 1; SELU: gamma is its scale, alpha
 * that times its alpha; CELU: beta = 1 / alpha. */
#include "unary_f32.h"

static float value(const ep_unary_attr *a, float x)
{
    return x > 0.0f ? a->gamma * x : a->alpha * expm1f(a->beta * x);
}

EP_UNARY_F32(elu_f32)

#ifndef EP_NO_TRAIN

/* With alpha, beta and gamma above 0, y has the sign of x, and beta * alpha * exp(beta * x) is beta * (y + alpha). */
static float slope(const ep_unary_attr *a, float y)
{
    return y > 0.0f ? a->gamma : a->beta * (y + a->alpha);
}

EP_UNARY_F32_GRAD(elu_f32, EP_FROM_Y)

#endif
