/* What harness.c offers; ops.py hands this file to cffi as it is, so there are no directives in it. */
enum { RUN_FORWARD = 1, RUN_BACKWARD = 2, RUN_PARAMS = 4 };
enum { RUN_UNKNOWN = 1, RUN_OUTSIDE = 2, RUN_EMIT = 3 };

typedef struct operand {
    void *data;      /* value: read where it is an input, written where it is an output; NULL: undefined */
    float *gradient; /* of an activation: dY, or dX (read if it accumulates); of a weight: added to; NULL: not wanted */
    uint32_t *emitted; /* of a weight: how often each element was handed over, or NULL */
    uint32_t count;    /* elements, of one sample for an activation */
    float scale;
    int32_t zero_point;
    int32_t dtype, flags; /* as ep_tensor's */
    int32_t place_of;     /* the operand before this whose memory the value shares, or -1 */
    int32_t gradient_of;  /* the same for the gradient */
    int32_t same_as;      /* the operand that this one is (Add of x and x), or -1 */
} operand;

typedef struct run_args {
    operand *operands; /* inputs, then outputs */
    int32_t n_in, n_out;
    uint32_t n;         /* samples */
    int32_t phases;     /* RUN_FORWARD | ...; 0: only the check */
    int32_t sums;       /* the sink adds: the same element may come several times */
    uint8_t accumulate; /* as ep_node's */
    uint32_t scratch_bytes;
} run_args;

typedef struct run_result {
    float bound;
    int32_t faults;
} run_result;

/* Checks a node and runs it. 0, what its check says (EP_ERR_IMAGE), or a RUN_* that is wrong with it. */
int run_node(const char *op, const void *attr, const run_args *args, run_result *result);
