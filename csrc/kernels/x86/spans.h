/* Walking over the x of a convolution in spans that are copied to the stack, as int8 kernels for vectors need it. */
#ifndef EP_SPANS_H
#define EP_SPANS_H

#include "../kernels.h"

/* Codes of x, from the first to the last, that this many lines and positions see. */
static inline ptrdiff_t ep_span_of(const ep_conv_s8 *c, int32_t lines, int32_t run)
{
    return (lines - 1) * c->x_line + (run - 1) * c->x_step + (c->pieces - 1) * c->x_piece + c->piece;
}

/* `multiply` for some lines, or some positions of one line, at a time, so that what they see is at most `span` codes.
 * 0, and nothing done, if these were fewer than `least` positions. */
static inline int ep_by_spans(const ep_conv_s8 *c, ptrdiff_t span, int32_t least,
                              void (*multiply)(const ep_conv_s8 *part, const void *at), const void *at)
{
    const ptrdiff_t line = ep_span_of(c, 1, c->run), position = ep_span_of(c, 1, 1);
    ep_conv_s8 part = *c;
    if (position + (least - 1) * c->x_step > span) return 0;
    const int32_t run = line <= span ? c->run : (int32_t)((span - position) / c->x_step) + 1;
    const int32_t lines = line <= span && c->lines > 1 ? (int32_t)((span - line) / c->x_line) + 1 : 1;
    for (int32_t l = 0; l < c->lines; l += lines) {
        part.lines = c->lines - l < lines ? c->lines - l : lines;
        for (int32_t p = 0; p < c->run; p += run) {
            part.run = c->run - p < run ? c->run - p : run;
            part.x = c->x + l * c->x_line + p * c->x_step;
            part.y = c->y + l * c->y_line + p * c->y_step;
            multiply(&part, at);
        }
    }
    return 1;
}

/* A matrix product as a convolution of one line. */
static inline ep_conv_s8 ep_as_conv(const ep_gemm_s8 *g)
{
    const ep_conv_s8 c = {.y = g->y,
                          .x = g->x,
                          .w = g->w,
                          .bias = g->bias,
                          .q = g->q,
                          .y_step = g->y_step,
                          .x_step = g->x_step,
                          .lines = 1,
                          .run = g->rows,
                          .columns = g->columns,
                          .pieces = 1,
                          .piece = g->count,
                          .narrow = g->narrow};
    return c;
}

#endif
