/* Declare what ops may ask of the core. Not installed; users include edgeprop.h. */
#ifndef EP_INTERNAL_H
#define EP_INTERNAL_H

#include "kernels/contract.h"

#include "edgeprop.h"
#include "kernels/kernels.h"

/* No weight, and no state of an optimizer, may pass this; FLT_MAX is far enough that rounding does not matter. */
#define EP_WEIGHT_LIMIT 1e38f

/* Where a tensor's values lie: the arena for activations, the weights' part for trainable weights (the model's own
 * data when the arena has none), the model's data for constants. */
void *ep_tensor_ptr(const ep_t *ep, uint16_t index);

/* 1 unless `index` is an activation that the plan in force does not hold, which only ops of optional outputs meet. */
int ep_has_place(const ep_t *ep, uint16_t index);

/* Where the gradient of activation `index` lies, or NULL if nobody wants it. */
float *ep_gradient_ptr(const ep_t *ep, uint16_t index);

/* Inputs and outputs of a node, by position. */
static inline const ep_tensor *ep_in_tensor(const ep_t *ep, const ep_node *node, unsigned i)
{
    return &ep->model->tensors[node->io[i]];
}
static inline const ep_tensor *ep_out_tensor(const ep_t *ep, const ep_node *node, unsigned i)
{
    return &ep->model->tensors[node->io[node->n_in + i]];
}
static inline const void *ep_in(const ep_t *ep, const ep_node *node, unsigned i)
{
    return ep_tensor_ptr(ep, node->io[i]);
}
static inline void *ep_out(const ep_t *ep, const ep_node *node, unsigned i)
{
    return ep_tensor_ptr(ep, node->io[node->n_in + i]);
}
static inline float *ep_din(const ep_t *ep, const ep_node *node, unsigned i)
{
    return ep_gradient_ptr(ep, node->io[i]);
}
static inline float *ep_dout(const ep_t *ep, const ep_node *node, unsigned i)
{
    return ep_gradient_ptr(ep, node->io[node->n_in + i]);
}
static inline int ep_accumulates(const ep_node *node, unsigned i)
{
    return (node->accumulate >> i) & 1;
}
static inline int ep_trains(const ep_t *ep, const ep_node *node, unsigned i)
{
    return (ep_in_tensor(ep, node, i)->flags & EP_PARAM) != 0;
}

/* Bytes of one sample of an activation, or of all of a constant. */
size_t ep_tensor_size(const ep_tensor *tensor);

/* 1 unless there is a NaN or infinity among `count` floats at `values`, aligned or not. By their bits, so that no
 * compiler's idea of arithmetic matters. */
int ep_finite(const void *values, size_t count);

/* 1 if a node makes codes of floats, behind which a NaN looks like any other value. */
int ep_quantizes(const ep_model *model);

/* Runs nodes 0 .. end-1 on the n samples that lie in the inputs. */
void ep_forward(const ep_t *ep, uint16_t end, uint32_t n);

/* To be called when all weights were replaced: what was remembered about the old ones goes. */
void ep_weights_replaced(ep_t *ep);

/* The weights' part of the arena, writable; there must be one. */
static inline float *ep_weights(const ep_t *ep)
{
    return (float *)(void *)(ep->arena + ep->params_at);
}

/* Rounded up to EP_ALIGN; 64 bits, because sizes from an image may be anything. */
static inline uint64_t ep_align_up(uint64_t bytes)
{
    return (bytes + (EP_ALIGN - 1u)) & ~(uint64_t)(EP_ALIGN - 1u);
}

/* Working memory for one op at a time; its size is planned by the exporter (0 bytes unless the op asks). */
void *ep_scratch(const ep_t *ep);

/* Hands gradient a * g (count,) of elements first .. first+count-1 of trainable tensor `index` to whoever collects it: the
 * optimizer, in place, or the gradient sums. Every element must be handed over exactly once per call of `params` when
 * n is 1; with sums (n may be larger) any number of times. */
void ep_emit(const ep_t *ep, const ep_sink *sink, uint16_t index, uint32_t first, uint32_t count, float a,
             const float *g);

/* The same for all of a tensor (rows, count) whose gradient is a (rows,) times g (count,). */
void ep_emit_rank_one(const ep_t *ep, const ep_sink *sink, uint16_t index, uint32_t rows, uint32_t count,
                      const float *a, const float *g);

/* Where the sink keeps the sums of tensor `index`'s gradient, to add to directly; NULL if it does not add. */
float *ep_sink_sums(const ep_t *ep, const ep_sink *sink, uint16_t index);

/* 1 if the sink adds to sums, so that several contributions to one element are allowed. */
int ep_sink_adds(const ep_sink *sink);

/* The checks of the ops, for ep_registry_row. */
#define EP_DECLARE(code, name, attr, grad) int ep_check_##name(const ep_model *model, const ep_node *node);
EP_OPS(EP_DECLARE)
#undef EP_DECLARE

#endif
