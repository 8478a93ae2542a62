/* What Python sees of edgeprop.h, edgeprop_ops.h and _core.prelude.h. The compiler checks every line of it against
 * those headers; `...` stands for what Python has no use for. */

#define EP_ABI ...
#define EP_ALIGN ...
#define EP_NONE ...

enum {
    EP_OK, EP_ERR_ARG, EP_ERR_ARENA, EP_ERR_ALIGN, EP_ERR_ABI, EP_ERR_IMAGE, EP_ERR_CHECKSUM, EP_ERR_OP, EP_ERR_FROZEN,
    EP_ERR_LABEL, EP_ERR_DIVERGED, EP_ERR_NO_RECORD, EP_ERR_FOREIGN, EP_ERR_IO, EP_ERR_INPUT, ...
};
enum { EP_F32, EP_I8, EP_I32, EP_U8, ... };
enum { EP_CONST, EP_PARAM, ... };
enum { EP_FOR_RESTORE, EP_FOR_TRAIN, EP_FOR_SUMS, ... };

const char *ep_error(int rc);

/* ---- Models ---- */

typedef struct ep_s ep_t;
typedef struct ep_node ep_node;
typedef struct ep_op ep_op;
typedef struct ep_grad ep_grad;
typedef struct ep_registry ep_registry;

typedef struct ep_tensor {
    const void *data;
    uint32_t count;
    uint32_t offset;
    float scale;
    int16_t zero_point;
    uint8_t dtype;
    uint8_t flags;
} ep_tensor;

struct ep_node {
    const ep_op *op;
    const ep_grad *grad;
    const void *attr;
    const uint16_t *io;
    uint8_t n_in, n_out;
    uint8_t accumulate;
};

typedef struct ep_loss {
    float least, most;
    uint8_t labels;
    ...;
} ep_loss;

typedef struct ep_train {
    const uint32_t *offset;
    const uint32_t *grad_offset;
    uint32_t bytes;
    uint32_t scratch_bytes;
    uint16_t first_node;
    uint16_t end_node;
    uint16_t logits;
    const ep_loss *loss;
} ep_train;

typedef struct ep_model {
    uint32_t abi;
    uint32_t fingerprint[2];
    const char *name;
    const ep_tensor *tensors;
    const ep_node *nodes;
    const uint16_t *inputs, *outputs;
    const uint16_t *states;
    uint16_t n_tensors, n_nodes, n_inputs, n_outputs, n_states;
    uint32_t infer_bytes;
    uint32_t scratch_bytes;
    uint32_t param_bytes;
    const ep_train *train;
} ep_model;

/* ---- Running and learning ---- */

typedef struct ep_optimizer {
    uint8_t slots;
    ...;
} ep_optimizer;

typedef struct ep_step ep_step;
struct ep_step {
    float lr;
    const ep_optimizer *optimizer;
    float momentum;
    float beta2;
    float epsilon;
    float weight_decay;
    float clip_norm;
    int (*skip)(ep_t *ep, const ep_step *step, float loss);
    float skip_below;
    float skip_share;
};
int ep_skip_small(ep_t *ep, const ep_step *step, float loss);

struct ep_s {
    uint32_t batch;
    uint32_t acts_at;
    uint32_t sums_at;
    uint32_t samples;
    uint32_t skipped;
    ...;
};

size_t ep_arena_size(const ep_model *model, uint32_t batch, unsigned what, const ep_optimizer *optimizer);
int ep_init_batch(ep_t *ep, const ep_model *model, void *arena, size_t size, uint32_t batch, unsigned what,
                  const ep_optimizer *optimizer);
int ep_reset(ep_t *ep);
int ep_reset_state(ep_t *ep);
int ep_infer_batch(ep_t *ep, const void *x, void *y, uint32_t n);
void *ep_input(ep_t *ep, unsigned i);
int ep_run(ep_t *ep, uint32_t n);
const void *ep_output(const ep_t *ep, unsigned i);
const float *ep_params(const ep_t *ep, uint32_t *count);
int ep_set_params(ep_t *ep, const float *values, uint32_t count);
uint32_t ep_record_size(const ep_model *model, uint32_t write_size);

long ep_load_size(const void *image, size_t size);
int ep_load(ep_model *model, const void *image, size_t size, void *memory, size_t memory_size,
            const ep_registry *registry);
uint32_t ep_crc32(uint32_t crc, const void *data, size_t size);

/* ---- Attributes: the exporter reads the fields' names and types from here ---- */

typedef struct ep_conv2d_attr {
    int32_t in_h, in_w, in_c;
    int32_t out_h, out_w, out_c;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t groups;
    float lo, hi;
} ep_conv2d_attr;

typedef struct ep_dense_attr {
    int32_t n_in, n_out;
    int32_t rows;
    float lo, hi;
} ep_dense_attr;

typedef struct ep_pool2d_attr {
    int32_t in_h, in_w, channels;
    int32_t out_h, out_w;
    int32_t kernel_h, kernel_w;
    int32_t stride_h, stride_w;
    int32_t dilation_h, dilation_w;
    int32_t pad_top, pad_left;
    int32_t count_include_pad;
    int32_t pad_bottom, pad_right;
} ep_pool2d_attr;

typedef struct ep_global_pool_attr {
    int32_t size, channels;
} ep_global_pool_attr;

typedef struct ep_elementwise_attr {
    int32_t count;
    float alpha;
    float lo, hi;
} ep_elementwise_attr;

typedef struct ep_affine_attr {
    int32_t rows, channels;
    float lo, hi;
} ep_affine_attr;

typedef struct ep_softmax_attr {
    int32_t rows, channels;
} ep_softmax_attr;

typedef struct ep_transpose_attr {
    int32_t dims[6];
    int32_t strides[6];
    int32_t size;
} ep_transpose_attr;

typedef struct ep_box_attr {
    int32_t dims[6];
    int32_t x_strides[6];
    int32_t y_strides[6];
    int32_t x_offset, y_offset;
    int32_t size;
    float fill;
} ep_box_attr;

typedef struct ep_concat_attr {
    int32_t outer;
    int32_t size;
} ep_concat_attr;

typedef struct ep_gather_attr {
    int32_t outer, in, out, inner;
    int32_t size;
} ep_gather_attr;

typedef struct ep_embedding_attr {
    int32_t rows, vocabulary, width;
} ep_embedding_attr;

typedef struct ep_reduce_attr {
    int32_t outer, size, inner;
    int32_t which;
} ep_reduce_attr;

typedef struct ep_resample_attr {
    int32_t outer, in, out, inner;
    int32_t taps;
} ep_resample_attr;

typedef struct ep_matmul_attr {
    int32_t batch, rows, count, columns;
    int32_t transposed;
    float lo, hi;
} ep_matmul_attr;
typedef struct ep_recurrent_attr {
    int32_t steps, n_in, n_hidden;
    int32_t directions;
    int32_t reverse;
    int32_t variant;
    int32_t truncate;
    int32_t sequences;
} ep_recurrent_attr;
typedef struct ep_group_norm_attr {
    int32_t rows, size, channels, groups;
    int32_t center;
    float epsilon;
    float lo, hi;
} ep_group_norm_attr;

typedef struct ep_sparse_dense_attr {
    int32_t n_in, n_out, rows;
    int32_t stored;
    float lo, hi;
} ep_sparse_dense_attr;

typedef struct ep_unary_attr {
    int32_t count;
    float alpha, beta, gamma;
} ep_unary_attr;

typedef struct ep_binary_attr {
    int32_t dims[6];
    int32_t a_strides[6];
    int32_t b_strides[6];
    float alpha;
    float lo, hi;
} ep_binary_attr;

/* ---- The prelude's own ---- */

typedef struct ep_py_op {
    int code;
    const char *name;
    const char *attr;
    int has_grad;
    const ep_op *op;
} ep_py_op;

typedef struct ep_py_loss {
    int code;
    const char *name;
    const ep_loss *loss;
} ep_py_loss;

typedef struct ep_py_optimizer {
    const char *name;
    const ep_optimizer *optimizer;
} ep_py_optimizer;

static const char *const ep_py_version;
static const ep_py_op ep_py_ops[];
static const ep_py_loss ep_py_losses[];
static const int ep_py_n_ops;
static const int ep_py_n_losses;
static const ep_py_optimizer ep_py_optimizers[];
static const int ep_py_n_optimizers;
static const ep_registry *const ep_py_registry;

int ep_py_fit(ep_t *ep, const void *x, size_t x_bytes, const void *target, size_t target_bytes, uint32_t n,
              uint32_t batch, const ep_step *step, double *loss);
int ep_py_accumulate(ep_t *ep, const void *x, const void *target, uint32_t n);
void ep_py_dlogits(const ep_t *ep, const float *logits, const void *target, float *dlogits, uint32_t n);

int ep_py_save(ep_t *ep, uint8_t *slots, uint32_t slot_size);
int ep_py_restore(ep_t *ep, uint8_t *slots, uint32_t slot_size);

typedef struct ep_py_trace {
    uint8_t *values;
    uint8_t *gradients;
    const uint64_t *at;
    uint8_t *seen;
    uint32_t n;
} ep_py_trace;

void ep_py_set_trace(ep_t *ep, ep_py_trace *trace);
const float *ep_py_sums(const ep_t *ep);
