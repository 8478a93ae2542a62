/* conv_s8: what some positions see is copied side by side, then multiplied as gemm_s8 does. */
#include "neon.h"

#ifdef EP_NEON

#define PATCHES 4096 /* bytes of the stack */

#define EP_COPY(n)                                 \
    for (int32_t s = 0; s < pieces; s++) {         \
        memcpy(to, x, n);                          \
        memcpy(to + piece - (n), x + piece - (n), n); \
        to += piece;                               \
        x += step;                                 \
    }

/* `pieces` pieces, `step` apart in x, side by side to `to`: each with as few loads as may be. Some codes are copied twice. */
static void copy_pieces(int8_t *to, const int8_t *x, ptrdiff_t step, int32_t pieces, int32_t piece)
{
    if (piece >= 32) {
        for (int32_t s = 0; s < pieces; s++, to += piece, x += step) {
            int32_t i = 0;
            for (; i + 16 < piece; i += 16) {
                vst1q_s8(to + i, vld1q_s8(x + i));
            }
            vst1q_s8(to + piece - 16, vld1q_s8(x + piece - 16));
        }
    } else if (piece >= 16) {
        EP_COPY(16)
    } else if (piece >= 8) {
        EP_COPY(8)
    } else if (piece == 4) {
        for (int32_t s = 0; s < pieces; s++, to += 4, x += step) {
            memcpy(to, x, 4);
        }
    } else if (piece > 4) {
        EP_COPY(4)
    } else if (piece >= 2) {
        EP_COPY(2)
    } else {
        EP_COPY(1)
    }
}

typedef void ep_gemm_kernel(const ep_gemm_s8 *g);

/* One position after the other, for kernels too large for the stack: piece by piece is no product of gemm_s8's. */
static void conv(const ep_conv_s8 *c, ep_gemm_kernel *gemm)
{
    int8_t patches[PATCHES];
    const int32_t count = c->pieces * c->piece, most = PATCHES / count;
    ep_gemm_s8 g = {c->y, patches, c->w, c->bias, c->q, c->y_step, count, 0, c->columns, count};
    if (most == 0) {
        ep_conv_s8_portable(c);
        return;
    }
    for (int32_t l = 0; l < c->lines; l++) {
        for (int32_t p = 0; p < c->run; p += g.rows) {
            const int8_t *x = c->x + l * c->x_line + p * c->x_step;
            g.rows = c->run - p < most ? c->run - p : most;
            for (int32_t r = 0; r < g.rows; r++, x += c->x_step) {
                copy_pieces(patches + r * count, x, c->x_piece, c->pieces, c->piece);
            }
            g.y = c->y + l * c->y_line + p * c->y_step;
            gemm(&g);
        }
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
