/* conv_s8: what some positions see is copied side by side, then multiplied as gemm_s8 does. */
#include "neon.h"

#ifdef EP_NEON

#define PATCHES 16384 /* bytes of the stack */

#define EP_COPY(n)                                    \
    for (int32_t s = 0; s < pieces; s++) {            \
        memcpy(to, x, n);                             \
        memcpy(to + piece - (n), x + piece - (n), n); \
        to += piece;                                  \
        x += step;                                    \
    }

/* `pieces` pieces, `step` apart in x, side by side to `to`: each with as few loads as may be. Some codes are copied twice. */
static void copy_pieces(int8_t *to, const int8_t *x, ptrdiff_t step, int32_t pieces, int32_t piece)
{
    if (piece >= 32) {
        for (int32_t s = 0; s < pieces; s++, to += piece, x += step) {
            int32_t i = 0;
            for (; i + 32 <= piece; i += 32) {
                const int8x16_t u = vld1q_s8(x + i), v = vld1q_s8(x + i + 16);
                vst1q_s8(to + i, u);
                vst1q_s8(to + i + 16, v);
            }
            if (i + 16 < piece) vst1q_s8(to + i, vld1q_s8(x + i));
            vst1q_s8(to + piece - 16, vld1q_s8(x + piece - 16));
        }
    } else if (piece >= 16) {
        EP_COPY(16)
    } else if (piece >= 8) {
        EP_COPY(8)
    } else if (piece == 4) {
        for (int32_t s = 0; s < pieces; s++, to += 4, x += step) memcpy(to, x, 4);
    } else if (piece > 4) {
        EP_COPY(4)
    } else if (piece >= 2) {
        EP_COPY(2)
    } else {
        EP_COPY(1)
    }
}

typedef void ep_gemm_kernel(const ep_gemm_s8 *g);

static void conv(const ep_conv_s8 *c, ep_gemm_kernel *gemm)
{
    int8_t patches[PATCHES];
    const int32_t count = c->pieces * c->piece;
    int32_t most = PATCHES / count, left = c->lines * c->run, l = 0, p = 0;
    ep_gemm_s8 g = {.y = c->y,
                    .x = patches,
                    .w = c->w,
                    .bias = c->bias,
                    .q = c->q,
                    .y_step = c->y_step,
                    .x_step = count,
                    .columns = c->columns,
                    .count = count,
                    .narrow = c->narrow};
    if (most == 0 || c->y_line != c->run * c->y_step) { /* what no convolution of an image asks for */
        ep_conv_s8_portable(c);
        return;
    }
    most = most < 8 ? most : most / 8 * 8; /* whole blocks */
    for (; left > 0; left -= g.rows, g.y += g.rows * g.y_step) {
        g.rows = left < most ? left : most;
        for (int32_t r = 0; r < g.rows; r++) {
            copy_pieces(patches + r * count, c->x + l * c->x_line + p * c->x_step, c->x_piece, c->pieces, c->piece);
            if (++p == c->run) {
                p = 0;
                l++;
            }
        }
        gemm(&g);
    }
}

#if defined(EP_DISPATCH) || !defined(__ARM_FEATURE_DOTPROD)
void ep_gemm_s8_neon(const ep_gemm_s8 *g);

void ep_conv_s8_neon(const ep_conv_s8 *c)
{
    conv(c, ep_gemm_s8_neon);
}
#endif

#if defined(EP_DISPATCH) || defined(__ARM_FEATURE_DOTPROD)
void ep_gemm_s8_dotprod(const ep_gemm_s8 *g);

void ep_conv_s8_dotprod(const ep_conv_s8 *c)
{
    conv(c, ep_gemm_s8_dotprod);
}
#endif

#else
typedef int ep_conv_neon_left_out; /* ISO C wants a declaration in every file */
#endif
