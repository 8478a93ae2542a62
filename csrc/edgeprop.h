/* edgeprop: run a small neural network forward and backward, in C99, in memory the caller brings.
 *
 * This header is the manual. In three calls:
 *
 *     #define DIGITS_IMPLEMENTATION
 *     #include "digits.h"                                  // written by `edgeprop export`
 *
 *     static EP_ALIGNED uint8_t arena[DIGITS_TRAIN_ARENA];
 *     ep_t ep;
 *     int rc = ep_init(&ep, &digits, arena, sizeof arena);
 *     rc = ep_infer(&ep, x, y);                                            // forward
 *     rc = ep_learn_label(&ep, x, label, &(ep_step){.lr = 0.01f}, &loss);  // forward, backward, update
 *
 * Every function that can fail returns 0 (EP_OK) or a negative EP_ERR_* value. After an error the model, the
 * weights and the caller's buffers are as they were before the call.
 *
 * Memory. The library allocates nothing and has no globals. An ep_t and its arena are all the state there is: two
 * threads may run the same `const ep_model` at once, each with an ep_t and an arena of its own. The arena holds no
 * pointers, so its size is the same on a PC and on a board. Its layout, every part rounded up to EP_ALIGN bytes:
 *
 *     [ trainable weights | batch x activations and gradients | scratch | gradient sums | optimizer state ]
 *
 * How much of that is there follows from the size given to ep_init():
 *     >= NAME_INFER_ARENA     inference; the weights are read where the model has them (flash)
 *     >= NAME_RESTORE_ARENA   inference with weights in RAM, so that ep_restore() can bring learned ones back
 *     >= NAME_TRAIN_ARENA     learning, one sample at a time, SGD in place
 *     more                    see ep_arena_size(): gradient sums (mini-batches), momentum, Adam, batches in parallel
 *
 * Streams. A model may have states (`edgeprop export --state`): values that one run leaves for the next, as the hidden
 * state of a recurrent layer or the last frames a convolution over time has seen. They are no inputs or outputs; they
 * keep a place of their own among the activations, zero at ep_init(), moved on by every ep_infer() and ep_run().
 * Learning starts from them and leaves them as they are. With a batch capacity of several there are as many streams.
 *
 * Layout. Images are NHWC (height, width, channel; the channel varies fastest), sequences (time, feature). A sample is
 * contiguous, a batch is samples one after the other. Weights: dense (n_out, n_in); convolution (out_c, kernel_h,
 * kernel_w, in_c / groups); depthwise (kernel_h, kernel_w, out_c).
 *
 * Targets. A model learns class labels (ep_learn_label) or values (ep_learn); its header says which, and which range. The
 * other function gives EP_ERR_LABEL, as does a target outside the range. One sigmoid takes either: label 0 or 1, or a
 * value from 0 to 1. Where there are two classes, or values, a finite target out of range puts the others in doubt, for targets
 * that are coded in another way (-1 and 1, 1 and 2) are refused only in part and the rest would teach one class alone: they
 * are EP_ERR_LABEL then unless both classes (values of any range: one that is not 0) have been seen, before or since. It ends
 * with ep_reset(), ep_restore() and ep_set_params() too. A value below 1e-40 is what an int read as a float looks like.
 *
 * Compile switches, of the library and of all that includes this header alike. Savings: of the text of a program that
 * runs a dense head and calls nothing else, Cortex-M4, gcc 12.2 -Os -Wl,--gc-sections:
 *     EP_NO_TRAIN     leaves out learning, of which a linker drops most anyway where nothing calls it
 *     EP_NO_ERRMSG    leaves out the texts of ep_error()                               1,388 bytes
 *     EP_NO_INPUT_CHECK  ep_infer*() and ep_run() make codes of NaN and infinity too     200 bytes, and 5 instructions
 *                     (else EP_ERR_INPUT; learning always looks)                       for each input of such a model
 *     EP_TRACE        adds a hook called after every node, for tests and debuggers
 */
#ifndef EDGEPROP_H
#define EDGEPROP_H

#include <math.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

#define EP_VERSION_STRING "0.1.0"

/* Number of the layout of the structs below. A generated header that was made for another one does not compile. */
#define EP_ABI 2

#define EP_ALIGN 16u /* of the arena, of images and of constant data; bytes */
#if defined(__GNUC__) || defined(__clang__)
#define EP_ALIGNED __attribute__((aligned(16)))
#elif defined(_MSC_VER)
#define EP_ALIGNED __declspec(align(16))
#elif defined(__STDC_VERSION__) && __STDC_VERSION__ >= 201112L
#define EP_ALIGNED _Alignas(16)
#else
#define EP_ALIGNED
#endif

/* ---- Errors --------------------------------------------------------------------------------------------------- */

enum {
    EP_OK = 0,
    EP_ERR_ARG = -1,        /* a null pointer, a count of zero, a learning rate that is not finite and positive, ... */
    EP_ERR_ARENA = -2,      /* the arena is too small for what was asked */
    EP_ERR_ALIGN = -3,      /* a buffer is not aligned to EP_ALIGN bytes */
    EP_ERR_ABI = -4,        /* the model was made for another version of this library */
    EP_ERR_IMAGE = -5,      /* not a model image, truncated, or inconsistent */
    EP_ERR_CHECKSUM = -6,   /* an image whose bytes changed since it was written */
    EP_ERR_OP = -7,         /* an image uses an op, a backward or a loss that the registry given to ep_load() lacks */
    EP_ERR_FROZEN = -8,     /* the model has nothing to train */
    EP_ERR_LABEL = -9,      /* a target outside the range the loss takes, or of the other kind, or in doubt (Targets) */
    EP_ERR_DIVERGED = -10,  /* the step would make a weight NaN or infinite: refused, nothing changed */
    EP_ERR_NO_RECORD = -11, /* storage holds no valid record */
    EP_ERR_FOREIGN = -12,   /* storage holds a valid record of another model only */
    EP_ERR_IO = -13,        /* a storage callback failed */
    EP_ERR_INPUT = -14      /* a NaN or infinity among the inputs: of learning, or of a model that quantizes */
};

/* One sentence for an EP_ERR_* value: what is wrong and the cure. Never NULL. "" under EP_NO_ERRMSG. */
const char *ep_error(int rc);

/* ---- The model: what a generated header defines and ep_load() builds ------------------------------------------- */

typedef struct ep_s ep_t;
typedef struct ep_node ep_node;
typedef struct ep_model ep_model;
typedef struct ep_sink ep_sink;

enum { EP_F32 = 1, EP_I8 = 2, EP_I32 = 3, EP_U8 = 4 }; /* ep_tensor.dtype */

/* ep_tensor.flags
 * EP_CONST: `data` holds the values; not in the arena.
 * EP_PARAM: trainable: `data` holds the values as exported, `offset` is its place in the weights' part, where they lie in
 *     tensor order without gaps; the weight of one node only. Instead of EP_CONST.
 * EP_NARROW: beside EP_CONST, int8: no value is -128, so that some kernels may add two products in 16 bits. */
enum { EP_CONST = 1, EP_PARAM = 2, EP_NARROW = 4 };

#define EP_NONE 0xFFFFFFFFu /* "no offset" */

/* A value. Activations live in the arena, at offset * batch capacity from the activations' start. */
typedef struct ep_tensor {
    const void *data; /* constants and trainable weights; NULL for an activation */
    uint32_t count;   /* elements, of one sample for an activation */
    uint32_t offset;  /* bytes; activations: in the inference plan; EP_NONE where that plan never holds it */
    float scale;      /* of codes that an op takes as numbers: real = scale * (q - zero_point); else 0 */
    int16_t zero_point;
    uint8_t dtype; /* EP_F32, ... */
    uint8_t flags; /* EP_CONST, EP_PARAM, EP_NARROW */
} ep_tensor;

/* What an op does. One const table per op, named by the models that use it, so a linker drops all others. */
typedef struct ep_op {
    void (*forward)(const ep_t *ep, const ep_node *node, uint32_t n); /* n: samples, 1 .. batch capacity */
} ep_op;

/* The backward of an op, apart from ep_op so that frozen layers do not bring it in. */
typedef struct ep_grad {
    /* Gradients of the inputs that want one, from those of the output (which may be changed in place: masked). */
    void (*backward)(const ep_t *ep, const ep_node *node, uint32_t n);
    /* Gradients of the node's trainable weights, given row by row to ep_emit(). NULL: the op has no weights. */
    void (*params)(const ep_t *ep, const ep_node *node, uint32_t n, const ep_sink *sink);
    /* An upper bound of |gradient| over all of the node's trainable weights, summed over the n samples. */
    float (*bound)(const ep_t *ep, const ep_node *node, uint32_t n);
} ep_grad;

struct ep_node {
    const ep_op *op;
    const ep_grad *grad; /* NULL: the backward walk never comes here */
    const void *attr;    /* the op's ep_*_attr, made of 4-byte words only; NULL if it has none */
    const uint16_t *io;  /* indices into tensors: n_in inputs (activations, then weights), then n_out outputs */
    uint8_t n_in, n_out;
    uint8_t accumulate; /* bit i: add to the gradient of input i (another consumer has written it) */
};

/* What is to be learned: one of both, the other NULL. */
typedef struct ep_target {
    const float *values;   /* (n, count) */
    const int32_t *labels; /* (n,) */
} ep_target;

/* A loss: value and gradient. */
typedef struct ep_loss {
    /* Mean loss over n samples of `count` logits; writes d loss / d logits, which may be the same memory. The target is
     * checked: labels are in range, and values too. A loss of `shares` takes labels where count is 1. */
    float (*forward)(const float *logits, const ep_target *target, float *dlogits, uint32_t count, uint32_t n);
    uint8_t labels; /* 1: targets are class labels in 0 .. count-1; 0: values, `count` a sample */
    uint8_t shares; /* 1: the values lie in 0 .. 1; 0: they may be anything that is finite */
} ep_loss;

/* What only learning needs; a model without trainable weights has none. */
typedef struct ep_train {
    const uint32_t *offset;      /* (n_tensors) place of each activation in the training plan, bytes per sample */
    const uint32_t *grad_offset; /* (n_tensors) place of its gradient, or EP_NONE */
    uint32_t bytes;              /* activations and gradients, one sample */
    uint32_t scratch_bytes;      /* working memory of the neediest op, forward or backward */
    uint16_t first_node;         /* the backward walk ends here */
    uint16_t end_node;           /* learning runs nodes 0 .. end_node-1 (a Softmax behind the logits is skipped) */
    uint16_t logits;             /* tensor the loss looks at */
    const ep_loss *loss;
} ep_train;

struct ep_model {
    uint32_t abi;            /* EP_ABI */
    uint32_t fingerprint[2]; /* of ops, shapes and exported weights; binds a saved head to its model */
    const char *name;
    const ep_tensor *tensors;
    const ep_node *nodes;
    const uint16_t *inputs, *outputs; /* indices into tensors */
    const uint16_t *states; /* (n_states, 2) a state, and the value that takes its place after a run; NULL: none */
    uint16_t n_tensors, n_nodes, n_inputs, n_outputs, n_states;
    uint32_t infer_bytes;   /* activations of the inference plan, one sample */
    uint32_t scratch_bytes; /* working memory of the neediest forward op; not multiplied by the batch */
    uint32_t param_bytes;   /* all trainable weights, float32 */
    const ep_train *train;  /* NULL: nothing to train */
};

/* ---- Optimizers ------------------------------------------------------------------------------------------------ */

typedef struct ep_step ep_step;
typedef struct ep_update ep_update; /* a step about to be taken; private */

typedef struct ep_optimizer {
    uint8_t slots; /* float32 arrays of state it keeps per weight: SGD 0, momentum 1, Adam 2 */
    /* w (count,) -= what gradient a*g asks; s0, s1: this range's state. `t`: number of this update, from 1. */
    void (*apply)(const ep_step *step, uint32_t t, float *w, float *s0, float *s1, float a, const float *g,
                  uint32_t count);
    /* An upper bound of |change of a weight| given bounds of |gradient| and of |state slot 0|. */
    float (*bound)(const ep_step *step, uint32_t t, float gmax, float smax);
    /* ep_place_state if there are slots, else NULL: so SGD alone links nothing of it. */
    int (*place)(const ep_t *ep, ep_update *update, int with_sums);
} ep_optimizer;

extern const ep_optimizer ep_sgd;      /* w -= lr * g */
extern const ep_optimizer ep_momentum; /* v = momentum * v + g;  w -= lr * v   (as PyTorch) */
extern const ep_optimizer ep_nesterov; /* v = momentum * v + g;  w -= lr * (g + momentum * v) */
extern const ep_optimizer ep_adam;     /* Kingma & Ba 2015, bias-corrected, epsilon outside the root */

/* How to take one step. Zero means the default, so {.lr = 0.01f} is plain SGD. */
struct ep_step {
    float lr;                      /* learning rate, > 0 */
    const ep_optimizer *optimizer; /* NULL: &ep_sgd */
    float momentum;                /* momentum, Adam's beta1; 0: 0.9 */
    float beta2;                   /* Adam; 0: 0.999 */
    float epsilon;                 /* Adam; 0: 1e-8 */
    float weight_decay;            /* L2: adds weight_decay * w to the gradient */
    float clip_norm;               /* largest norm of the whole gradient, 0: no limit; ep_apply() only */
    /* ep_learn() only: looks at a sample's loss. 1: the sample costs its forward pass alone, no backward, no update;
     * 0: it is learned; an EP_ERR_*: the step is refused. NULL: every sample is learned. */
    int (*skip)(ep_t *ep, const ep_step *step, float loss);
    float skip_below; /* for ep_skip_small */
    float skip_share;
};

#ifndef EP_NO_TRAIN
/* For ep_optimizer.place: finds room for the state in the arena. EP_ERR_ARENA, EP_ERR_ARG (slots not 1 or 2). */
int ep_place_state(const ep_t *ep, ep_update *update, int with_sums);

/* For ep_step.skip: learning from what is hard (selective backprop, Jiang et al. 2019). Skips a sample whose loss is below
 * skip_below, or among the smallest skip_share (0 .. 0.99) of the losses by a running estimate of that quantile, which
 * starts at the first loss; 0: that rule is off. Counts in ep->skipped. EP_ERR_ARG: one of them is out of range. */
int ep_skip_small(ep_t *ep, const ep_step *step, float loss);
#endif

/* ---- Running --------------------------------------------------------------------------------------------------- */

struct ep_s { /* all fields private but `skipped` */
    const ep_model *model;
    const struct ep_kernels *kernels; /* of this processor; NULL where the compiler chose them */
    uint8_t *arena;
    size_t size;
    uint32_t batch;                                             /* capacity: samples that fit at once */
    uint32_t params_at, acts_at, scratch_at, sums_at, state_at; /* bytes from arena; EP_NONE: not there */
    uint32_t tail_at;              /* end of the scratch: sums and state go from here to `size`, when first needed */
    uint32_t what;                 /* EP_FOR_* bits there is room for */
    const uint32_t *offset;        /* NULL: inference plan, else the training plan's offsets */
    const ep_optimizer *optimizer; /* whose state the arena holds */
    uint32_t updates;              /* taken since the optimizer's state was zeroed */
    uint32_t samples;              /* accumulated since the last ep_apply() */
    float weight_bound;            /* no |weight| is larger */
    float skip_at;                 /* running quantile of the losses for ep_skip_small; 0: none yet */
    uint32_t skipped; /* samples that ep_skip_small skipped since ep_init(): yours to read and to set to 0 */
    uint8_t doubt;    /* whether a target of another coding was met, and which classes were seen */
#ifdef EP_TRACE
    void (*trace)(void *user, const ep_t *ep, uint16_t node, int phase); /* phase: 0 forward, 1 backward */
    void *trace_user;
#endif
};

/* What ep_arena_size() is to make room for, beyond inference. */
enum {
    EP_FOR_RESTORE = 1, /* weights in RAM */
    EP_FOR_TRAIN = 2,   /* ep_learn() with SGD */
    EP_FOR_SUMS = 4     /* ep_accumulate(), ep_apply(), ep_learn_batch() */
};

/* Bytes of arena for `batch` samples at once, the EP_FOR_* bits in `what` and an optimizer (NULL: SGD).
 * 0 if an argument is invalid, the model cannot be trained though `what` says so, or the size passes 2^31. */
size_t ep_arena_size(const ep_model *model, uint32_t batch, unsigned what, const ep_optimizer *optimizer);

/* Binds a model to an arena (aligned to EP_ALIGN, `size` bytes, see the table at the top; batch capacity 1) and puts
 * the weights as exported into it. The arena must outlive `ep`. What is left of it behind the parts in the table is for
 * gradient sums and optimizer state, which take their place when first needed (sums in front; state alone may have it
 * all). Returns EP_ERR_ARG, EP_ERR_ALIGN, EP_ERR_ABI, EP_ERR_ARENA. */
int ep_init(ep_t *ep, const ep_model *model, void *arena, size_t size);

/* The same with room for `batch` samples at once and just the parts `what` asks for: ep_arena_size() bytes, whatever
 * `size` is. Also returns EP_ERR_FROZEN: nothing to train, or left out of this build. */
int ep_init_batch(ep_t *ep, const ep_model *model, void *arena, size_t size, uint32_t batch, unsigned what,
                  const ep_optimizer *optimizer);

/* Weights as exported, optimizer state and gradient sums dropped. EP_ERR_ARG. */
int ep_reset(ep_t *ep);

/* States, of all streams, to zero: the next run begins a new sequence. EP_ERR_ARG. */
int ep_reset_state(ep_t *ep);

/* Runs a model of one input and one output on one sample. `x`: the input tensor's type and count; `y` likewise.
 * Returns EP_ERR_ARG (null, or several inputs or outputs: use ep_input, ep_run, ep_output), EP_ERR_INPUT. */
int ep_infer(ep_t *ep, const void *x, void *y);

/* The same on n samples, in chunks of the batch capacity. For a model with states the i-th sample of each chunk is the
 * next one of the i-th stream: with a capacity of 1, n samples are n steps of one stream. */
int ep_infer_batch(ep_t *ep, const void *x, void *y, uint32_t n);

/* Piecewise: fill ep_input(ep, i), run, read ep_output(ep, i). Pointers into the arena, NULL if i is out of range.
 * Inputs may be overwritten by the run. ep_run returns EP_ERR_ARG if n is 0 or over the capacity, EP_ERR_INPUT. */
void *ep_input(ep_t *ep, unsigned i);
int ep_run(ep_t *ep, uint32_t n);
const void *ep_output(const ep_t *ep, unsigned i);

#ifndef EP_NO_TRAIN
/* One step on one sample: forward, loss, backward, update in place. `target`: a value for each logit; `label`: the class;
 * see Targets above for which of both a model takes. `loss` (may be NULL) gets the loss before the update. A sample that
 * step->skip skips gives EP_OK too and changes no weight and no state of an optimizer. State of an optimizer lasts until a
 * step uses another one. Returns
 * EP_ERR_ARG (also: several inputs; clip_norm, which takes ep_apply), EP_ERR_FROZEN, EP_ERR_ARENA (no room to train, or
 * for this optimizer), EP_ERR_LABEL, EP_ERR_INPUT (x is not finite), EP_ERR_DIVERGED; on any of them no
 * weight and no state has changed. */
int ep_learn(ep_t *ep, const void *x, const float *target, const ep_step *step, float *loss);
int ep_learn_label(ep_t *ep, const void *x, int32_t label, const ep_step *step, float *loss);

/* Mini-batches: add n samples' gradients to the sums, then take one step on their mean. Needs EP_FOR_SUMS. n may pass
 * the batch capacity; give all samples of a step in one call then, else they are run twice (first to see that none is
 * refused). `targets`: n times those of a sample, one after the other. `loss`: the mean over these n samples.
 * ep_accumulate: EP_ERR_ARG, _FROZEN, _ARENA, _LABEL, _INPUT, _DIVERGED (a sample's gradient is not finite; the sums stay).
 * ep_apply: EP_ERR_ARG (also: nothing accumulated; `skip`), _ARENA, _DIVERGED (refused whole; the sums are dropped). */
int ep_accumulate(ep_t *ep, const void *x, const float *targets, uint32_t n, float *loss);
int ep_accumulate_labels(ep_t *ep, const void *x, const int32_t *labels, uint32_t n, float *loss);
int ep_apply(ep_t *ep, const ep_step *step);

/* ep_accumulate over n samples in chunks, then ep_apply. Refused whole on any error. */
int ep_learn_batch(ep_t *ep, const void *x, const float *targets, uint32_t n, const ep_step *step, float *loss);
int ep_learn_batch_labels(ep_t *ep, const void *x, const int32_t *labels, uint32_t n, const ep_step *step, float *loss);
#endif

/* The trainable weights, float32, in the order and layout of the model's EP_PARAM tensors: *count floats.
 * NULL if the arena holds none. For reading; write with ep_set_params (EP_ERR_ARG, EP_ERR_DIVERGED if not finite), which
 * leaves optimizer state and gradient sums alone. */
const float *ep_params(const ep_t *ep, uint32_t *count);
int ep_set_params(ep_t *ep, const float *values, uint32_t count);

/* ---- Keeping what was learned ----------------------------------------------------------------------------------- */

/* Storage of two equal slots, as two flash sectors. Callbacks return 0 or a negative value. `write` gets offsets and
 * sizes that are multiples of `write_size`, to ranges erased before; `erase` gets whole slots. */
typedef struct ep_storage {
    void *user;
    int (*read)(void *user, uint32_t offset, void *buffer, uint32_t size);
    int (*write)(void *user, uint32_t offset, const void *buffer, uint32_t size);
    int (*erase)(void *user, uint32_t offset, uint32_t size);
    uint32_t slot_size;  /* bytes; >= ep_record_size() */
    uint32_t write_size; /* 1 .. 64, a power of two; 0: 1 */
} ep_storage;

/* Bytes of a saved head: header and weights, rounded up to `write_size`. */
uint32_t ep_record_size(const ep_model *model, uint32_t write_size);

/* Writes the weights as a record into the slot that does not hold the newest one; the header goes last, so a power cut
 * at any byte leaves the older record in force. Reads it back. A slot that cannot be read counts as empty if the other
 * can, and is erased. EP_ERR_ARG (no weights in RAM; slots too small, or no multiple of write_size), EP_ERR_IO. */
int ep_save(ep_t *ep, const ep_storage *storage);

/* Takes the newest valid record of this model, whose weights are all finite; needs only `read`. Optimizer state and
 * gradient sums are dropped, inputs and outputs overwritten, states reset. On error the weights stay as they are: EP_ERR_ARG,
 * EP_ERR_ARENA (needs EP_FOR_RESTORE), EP_ERR_NO_RECORD, EP_ERR_FOREIGN, EP_ERR_IO. Only if storage gives a whole record
 * and then fails to give it again, and the weights are larger than activations and scratch, they are as exported. */
int ep_restore(ep_t *ep, const ep_storage *storage);

/* ---- Models from images (.ep) ----------------------------------------------------------------------------------- */

/* One row per op that ep_load() may meet. `check` sees that attributes, counts and types fit each other, so that
 * forward and backward stay inside their tensors: 0 or EP_ERR_IMAGE. */
typedef struct ep_registry_row {
    uint16_t code;
    uint16_t attr_words;
    const char *name;
    const ep_op *op;
    const ep_grad *grad; /* NULL: no backward */
    int (*check)(const ep_model *model, const ep_node *node);
    uint8_t optional; /* bit i: output i may have no place (EP_NONE) in a plan in which nobody reads it */
} ep_registry_row;

typedef struct ep_registry {
    const ep_registry_row *ops;
    const ep_loss *const *losses; /* (n_losses) by code; codes begin at 1, so losses[0] is NULL */
    uint16_t n_ops, n_losses;
} ep_registry;

extern const ep_registry ep_all; /* everything this library has; make a smaller one to link less */

/* Bytes of memory ep_load() needs for its tables; EP_ERR_ARG, EP_ERR_IMAGE, EP_ERR_ABI (also on a big-endian machine).
 * Reads only the first 96 bytes, the image's header. */
long ep_load_size(const void *image, size_t size);

/* Builds a model from an image. The image (aligned to EP_ALIGN) and `memory` (likewise, `memory_size` bytes) must
 * outlive it; weights are used where they lie. `size` may be larger than the image. Every offset, count, shape and type
 * is checked: an image is not trusted. Under EP_NO_TRAIN what only learning needs is skipped. Returns EP_ERR_ARG,
 * EP_ERR_ALIGN, EP_ERR_ARENA (memory too small), EP_ERR_ABI, EP_ERR_CHECKSUM, EP_ERR_IMAGE, EP_ERR_OP. */
int ep_load(ep_model *model, const void *image, size_t size, void *memory, size_t memory_size,
            const ep_registry *registry);

/* CRC-32 (IEEE 802.3, reflected, as zlib's) of more bytes; start with crc = 0. */
uint32_t ep_crc32(uint32_t crc, const void *data, size_t size);

#include "edgeprop_ops.h"

#ifdef __cplusplus
}
#endif
#endif
