/* Apply activations, masks and gradients that several float32 ops share. */
#include "common.h"

#ifndef EP_NO_TRAIN

void ep_mask_output(const ep_t *ep, const ep_node *node, float lo, float hi, uint32_t n)
{
    if (lo != -INFINITY || hi != INFINITY) {
        const size_t count = (size_t)n * ep_out_tensor(ep, node, 0)->count;
        EP_KERNEL(ep, mask_f32)(ep_dout(ep, node, 0), ep_out(ep, node, 0), lo, hi, count);
    }
}

float *ep_begin_din(const ep_t *ep, const ep_node *node, uint32_t n)
{
    float *dx = ep_din(ep, node, 0);
    if (dx != NULL && !ep_accumulates(node, 0)) {
        memset(dx, 0, (size_t)n * ep_in_tensor(ep, node, 0)->count * sizeof *dx);
    }
    return dx;
}

void ep_pass_gradient(float *dx, const float *dy, int add, size_t count)
{
    if (dx == NULL || (dx == dy && !add)) return;
    for (size_t i = 0; i < count; i++) dx[i] = add ? dx[i] + dy[i] : dy[i];
}

float ep_bound_layer(const ep_t *ep, const ep_node *node, uint32_t n, float terms)
{
    const size_t nx = (size_t)n * ep_in_tensor(ep, node, 0)->count, ny = (size_t)n * ep_out_tensor(ep, node, 0)->count;
    float factor = 1.0f;
    if (ep_trains(ep, node, 1)) {
        factor = EP_KERNEL(ep, max_abs_f32)(ep_in(ep, node, 0), nx);
        if (ep_trains(ep, node, 2) && factor < 1.0f) factor = 1.0f;
    }
    const float bound = EP_KERNEL(ep, max_abs_f32)(ep_dout(ep, node, 0), ny) * factor;
    /* A sum of rounded terms may end above the exact one. */
    return terms > 1.0f ? bound * terms * (1.0f + terms * 1.2e-7f) : bound;
}

void ep_emit_bias(const ep_t *ep, const ep_node *node, const ep_sink *sink, int32_t channels, uint32_t rows)
{
    const float *dy = ep_dout(ep, node, 0); /* (rows, channels) */
    float sum[EP_TILE_COLUMNS];
    for (int32_t k = 0; k < channels; k += EP_TILE_COLUMNS) {
        const int32_t lanes = channels - k < EP_TILE_COLUMNS ? channels - k : EP_TILE_COLUMNS;
        memset(sum, 0, sizeof sum);
        for (uint32_t r = 0; r < rows; r++) {
            EP_KERNEL(ep, add_f32)(sum, dy + (size_t)r * (size_t)channels + k, (size_t)lanes);
        }
        ep_emit(ep, sink, node->io[2], (uint32_t)k, (uint32_t)lanes, 1.0f, sum);
    }
}

#else
typedef int ep_common_left_out; /* ISO C wants a declaration in every file */
#endif
