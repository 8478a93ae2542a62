/* Learn: forward, loss, backward, update.
 *
 * A step that would leave a weight NaN or infinite is refused whole, in place and without a copy of the weights: the
 * backward walk fills in all dX first, then every trainable node bounds its weights' gradients, and only if the largest
 * possible update leaves all weights within EP_WEIGHT_LIMIT does the second walk touch them. */
#include <float.h>
#include <string.h>

#include "internal.h"

#ifndef EP_NO_TRAIN

/* Who collects the gradients of weights. */
struct ep_sink {
    const ep_update *update; /* NULL: they are added to the sums */
    float *to;               /* the weights, or the sums */
    float factor;            /* all that is done is to add factor * gradient; 0: more is */
};

/* A step as it will be taken, once it is admitted. */
struct ep_update {
    const ep_step *step;
    const ep_optimizer *optimizer;
    uint32_t t;        /* number of the update */
    int fresh;         /* its state is zeroed first */
    uint32_t state_at; /* EP_NONE: the optimizer keeps none */
    float *s0, *s1;    /* NULL likewise; all point to parts in the order and layout of the weights */
    float smax;        /* no |state| of slot 0 is larger */
};

/* ---- The arena's tail: [sums | state] ---------------------------------------------------------------------------- */

static uint32_t weights_of(const ep_t *ep)
{
    return ep->model->param_bytes / (uint32_t)sizeof(float);
}

static size_t part_bytes(const ep_t *ep)
{
    return (size_t)ep_align_up(ep->model->param_bytes);
}

/* How many parts, each as large as the weights, fit behind the scratch. */
static size_t tail_parts(const ep_t *ep)
{
    return (ep->size - ep->tail_at) / part_bytes(ep);
}

static float *at(const ep_t *ep, uint32_t offset)
{
    return (float *)(void *)(ep->arena + offset);
}

/* The sums come first in the tail. Their place is taken if an optimizer's state had to go there. */
static int place_sums(ep_t *ep)
{
    if (ep->sums_at != EP_NONE) return EP_OK;
    if (tail_parts(ep) < 1 || ep->state_at == ep->tail_at) return EP_ERR_ARENA;
    ep->sums_at = ep->tail_at;
    return EP_OK;
}

/* State goes behind the sums, or into their place if there is no room behind and nobody wants sums. */
int ep_place_state(const ep_t *ep, ep_update *u, int with_sums)
{
    const size_t slots = u->optimizer->slots, parts = tail_parts(ep);
    if (slots < 1 || slots > 2) return EP_ERR_ARG;
    if (!u->fresh) {
        u->state_at = ep->state_at;
    } else if (parts > slots) {
        u->state_at = ep->tail_at + (uint32_t)part_bytes(ep);
    } else if (parts == slots && !with_sums && ep->samples == 0 && !(ep->what & EP_FOR_SUMS)) {
        u->state_at = ep->tail_at;
    } else {
        return EP_ERR_ARENA;
    }
    u->s0 = at(ep, u->state_at);
    if (slots > 1) u->s1 = at(ep, u->state_at + (uint32_t)part_bytes(ep));
    if (!u->fresh) u->smax = EP_KERNEL(ep, max_abs_f32)(u->s0, weights_of(ep));
    return EP_OK;
}

/* ---- Steps ------------------------------------------------------------------------------------------------------- */

/* 1 if all values are 0 or more and below `end`; not for NaN. */
static int within(const float *values, unsigned count, float end)
{
    while (count-- != 0) {
        if (!(values[count] >= 0 && values[count] < end)) return 0;
    }
    return 1;
}

static int valid_step(const ep_step *step)
{
    const float below_one[] = {step->momentum, step->beta2};
    const float finite[] = {step->lr,        step->epsilon,    step->weight_decay,
                            step->clip_norm, step->skip_below, step->skip_share};
    return within(below_one, 2, 1) && within(finite, 6, INFINITY) && step->lr != 0;
}

/* What `step` will do to this arena; nothing of it is changed yet. */
static int prepare(const ep_t *ep, const ep_step *step, int with_sums, ep_update *u)
{
    const ep_optimizer *optimizer = step->optimizer != NULL ? step->optimizer : &ep_sgd;
    if (!valid_step(step) || (with_sums && step->skip != NULL)) return EP_ERR_ARG;
    memset(u, 0, sizeof *u);
    u->step = step;
    u->optimizer = optimizer;
    u->state_at = EP_NONE;
    u->fresh = optimizer != ep->optimizer;
    u->t = u->fresh ? 1 : ep->updates < UINT32_MAX ? ep->updates + 1 : ep->updates;
    if (optimizer->place != NULL) return optimizer->place(ep, u, with_sums);
    return optimizer->slots == 0 ? EP_OK : EP_ERR_ARG;
}

/* No |weight| is larger after the update, rounding apart: so what is added up on the way stays off the largest float too. */
static float reach(const ep_t *ep, const ep_update *u, float gmax)
{
    if (u->step->weight_decay != 0) gmax += u->step->weight_decay * ep->weight_bound;
    if (!(gmax <= EP_WEIGHT_LIMIT)) return INFINITY;
    return ep->weight_bound + u->optimizer->bound(u->step, u->t, gmax, u->smax);
}

/* Refuses a step whose gradients are within `gmax` if it might take a weight too far. The bound of the weights is a
 * running one; only when it has grown too large are they looked at. */
static int admit(ep_t *ep, const ep_update *u, float gmax)
{
    float bound = reach(ep, u, gmax);
    if (!(bound <= EP_WEIGHT_LIMIT)) { /* NaN too */
        ep->weight_bound = EP_KERNEL(ep, max_abs_f32)(ep_weights(ep), weights_of(ep));
        bound = reach(ep, u, gmax);
    }
    if (!(bound <= EP_WEIGHT_LIMIT)) return EP_ERR_DIVERGED;
    ep->weight_bound = bound;
    return EP_OK;
}

/* Makes the admitted step the arena's, and a sink that takes it. */
static ep_sink begin(ep_t *ep, const ep_update *u)
{
    ep_sink sink = {u, ep_weights(ep), 0};
    if (u->optimizer == &ep_sgd && u->step->weight_decay == 0) sink.factor = -u->step->lr;
    if (u->s0 != NULL && u->fresh) memset(u->s0, 0, u->optimizer->slots * part_bytes(ep));
    if (u->state_at == ep->tail_at) ep->sums_at = EP_NONE;
    ep->optimizer = u->optimizer;
    ep->state_at = u->state_at;
    ep->updates = u->t;
    return sink;
}

/* Gradient a * g (count,) of the weights from the i-th on. */
static void take_gradient(const ep_t *ep, const ep_sink *sink, size_t i, uint32_t count, float a, const float *g)
{
    const ep_update *u = sink->update;
    const float factor = sink->factor * a;
    float *to = sink->to + i;
    if (factor == 0 && sink->factor != 0) return; /* as behind a ReLU that lets nothing through; g is finite */
    if (u != NULL && (sink->factor == 0 || !(fabsf(factor) < EP_WEIGHT_LIMIT))) {
        u->optimizer->apply(u->step, u->t, to, u->s0 != NULL ? u->s0 + i : NULL, u->s1 != NULL ? u->s1 + i : NULL, a, g,
                            count);
        return;
    }
    EP_KERNEL(ep, axpy_f32)(to, factor, g, count);
}

static size_t place_of(const ep_t *ep, uint16_t index)
{
    return ep->model->tensors[index].offset / sizeof(float);
}

void ep_emit(const ep_t *ep, const ep_sink *sink, uint16_t index, uint32_t first, uint32_t count, float a,
             const float *g)
{
    take_gradient(ep, sink, place_of(ep, index) + first, count, a, g);
}

void ep_emit_rank_one(const ep_t *ep, const ep_sink *sink, uint16_t index, uint32_t rows, uint32_t count,
                      const float *a, const float *g)
{
    size_t i = place_of(ep, index);
    for (uint32_t r = 0; r < rows; r++, i += count) take_gradient(ep, sink, i, count, a[r], g);
}

float *ep_sink_sums(const ep_t *ep, const ep_sink *sink, uint16_t index)
{
    return sink->update == NULL ? sink->to + place_of(ep, index) : NULL;
}

int ep_sink_adds(const ep_sink *sink)
{
    return sink->update == NULL;
}

/* ---- Walks ------------------------------------------------------------------------------------------------------- */

static void backward(const ep_t *ep, uint32_t n)
{
    const ep_train *train = ep->model->train;
    for (uint16_t i = train->end_node; i-- > train->first_node;) {
        const ep_node *node = &ep->model->nodes[i];
        if (node->grad == NULL) continue;
        node->grad->backward(ep, node, n);
#ifdef EP_TRACE
        if (ep->trace != NULL) ep->trace(ep->trace_user, ep, i, 1);
#endif
    }
}

static int has_trainable(const ep_t *ep, const ep_node *node)
{
    for (unsigned i = 0; i < node->n_in; i++) {
        if (ep_trains(ep, node, i)) return 1;
    }
    return 0;
}

/* Hands the gradients of the weights to `sink`. NULL: returns what no |gradient| of a weight is larger than; infinity if
 * there is none such. */
static float collect(const ep_t *ep, uint32_t n, const ep_sink *sink)
{
    const ep_train *train = ep->model->train;
    float largest = 0;
    for (uint16_t i = train->first_node; i < train->end_node; i++) {
        const ep_node *node = &ep->model->nodes[i];
        float bound;
        if (node->grad == NULL || node->grad->params == NULL || !has_trainable(ep, node)) continue;
        if (sink != NULL) {
            node->grad->params(ep, node, n, sink);
            continue;
        }
        bound = node->grad->bound(ep, node, n);
        if (!(bound <= EP_WEIGHT_LIMIT)) return INFINITY; /* NaN too */
        if (bound > largest) largest = bound;
    }
    return largest;
}

/* Forward and loss of n samples, for the gradient of the sum over them. Leaves the training plan in force. */
static float predict(ep_t *ep, const void *x, const ep_target *target, uint32_t n)
{
    const ep_model *model = ep->model;
    const ep_train *train = model->train;
    const uint32_t count = model->tensors[train->logits].count;
    float loss, *dlogits;
    ep->offset = train->offset;
    memcpy(ep_tensor_ptr(ep, model->inputs[0]), x, n * ep_tensor_size(&model->tensors[model->inputs[0]]));
    ep_forward(ep, train->end_node, n);
    dlogits = ep_gradient_ptr(ep, train->logits);
    loss = train->loss->forward((const float *)ep_tensor_ptr(ep, train->logits), target, dlogits, count, n);
    if (n > 1) { /* the loss gives the mean */
        const size_t all = (size_t)count * n;
        for (size_t i = 0; i < all; i++) dlogits[i] *= (float)n;
    }
    return loss;
}

/* Backward of n samples. Returns a bound of the weights' gradients, infinite if these or the mean loss are not finite. */
static float walk_back(ep_t *ep, uint32_t n, float loss)
{
    if (!(fabsf(loss) <= FLT_MAX)) return INFINITY;
    backward(ep, n);
    return collect(ep, n, NULL);
}

/* ---- What callers give ------------------------------------------------------------------------------------------- */

static int check_ready(const ep_t *ep, const void *x, const ep_target *target)
{
    if (ep == NULL || ep->model == NULL || x == NULL) return EP_ERR_ARG;
    if (target->values == NULL && target->labels == NULL) return EP_ERR_ARG;
    if (ep->model->train == NULL || ep->model->param_bytes == 0) return EP_ERR_FROZEN;
    if (ep->model->n_inputs != 1) return EP_ERR_ARG;
    return ep->what & EP_FOR_TRAIN ? EP_OK : EP_ERR_ARENA;
}

/* How many classes labels name: of a loss of labels one for each logit, of a single sigmoid two, else none. */
static uint32_t classes_of(const ep_loss *loss, uint32_t count)
{
    return loss->labels ? count : count == 1 && loss->shares ? 2 : 0;
}

/* Targets coded in another way (-1 and 1, 1 and 2, an int read as a float) are refused only in part, and the rest would
 * teach one class alone. So once such a one was met, others are taken only if both sides have been seen at any time: of two
 * classes both, of values that may be anything one that is not 0. */
enum { DOUBT = 1, LOW = 2, HIGH = 4 };

/* Which sides a value of the loss's range shows; DOUBT: none, it is of another coding; 0: it is infinite or NaN. What an
 * int32_t below 65536 looks like that was handed over as a float is no value. By the bits, which costs less. */
static unsigned sides_of(const ep_loss *loss, float value)
{
    uint32_t bits;
    memcpy(&bits, &value, sizeof bits);
    if (bits << 1 == 0) return LOW; /* of either sign */
    if (bits << 1 >= 0xFF000000u) return 0;
    if (bits < 0x10000u) return DOUBT;
    if (!loss->shares) return LOW | HIGH;
    return bits > 0x3F800000 ? DOUBT : bits < 0x3F000000 ? LOW : HIGH; /* 1, 0.5; the sign is the highest bit */
}

static int check_targets(ep_t *ep, const ep_target *target, uint32_t n)
{
    const ep_loss *loss = ep->model->train->loss;
    const uint32_t count = ep->model->tensors[ep->model->train->logits].count, classes = classes_of(loss, count);
    const int32_t *labels = target->labels;
    const size_t all = labels != NULL ? n : (size_t)n * count;
    unsigned seen = 0, sides = LOW;
    if (labels != NULL ? classes == 0 : loss->labels) return EP_ERR_LABEL; /* the other function's */
    for (size_t i = 0; i < all && sides > DOUBT; i++, seen |= sides) {
        if (labels == NULL) {
            sides = sides_of(loss, target->values[i]);
        } else {
            sides = (uint32_t)labels[i] >= classes ? DOUBT : labels[i] == 0 ? LOW : HIGH;
        }
    }
    if (classes <= 2) ep->doubt = (uint8_t)(ep->doubt | seen);
    if (sides <= DOUBT) return EP_ERR_LABEL;
    return ep->doubt & DOUBT && ep->doubt != (DOUBT | LOW | HIGH) ? EP_ERR_LABEL : EP_OK;
}

/* Nothing is learned from a NaN or infinity: codes would make numbers of it that look like any other. */
static int check_samples(ep_t *ep, const void *x, const ep_target *target, uint32_t n)
{
    const ep_tensor *input = &ep->model->tensors[ep->model->inputs[0]];
    if (input->dtype == EP_F32 && !ep_finite(x, (size_t)n * input->count)) return EP_ERR_INPUT;
    return check_targets(ep, target, n);
}

/* ---- One sample, in place ---------------------------------------------------------------------------------------- */

static int learn(ep_t *ep, const void *x, const ep_target *target, const ep_step *step, float *loss)
{
    ep_update u;
    float value, skip_at;
    int skip, rc = check_ready(ep, x, target);
    if (rc != EP_OK) return rc;
    if (step == NULL || step->clip_norm > 0) return EP_ERR_ARG; /* the norm would need the whole gradient at once */
    rc = prepare(ep, step, 0, &u);
    if (rc == EP_OK) rc = check_samples(ep, x, target, 1);
    if (rc != EP_OK) return rc;
    value = predict(ep, x, target, 1);
    skip_at = ep->skip_at;
    skip = step->skip != NULL ? step->skip(ep, step, value) : 0;
    if (skip < 0) {
        rc = skip;
    } else if (skip == 0) {
        rc = admit(ep, &u, walk_back(ep, 1, value));
        if (rc == EP_OK) {
            ep_sink sink = begin(ep, &u);
            collect(ep, 1, &sink);
        }
    }
    if (rc != EP_OK) ep->skip_at = skip_at;
    ep->offset = NULL;
    if (rc == EP_OK && loss != NULL) *loss = value;
    return rc;
}

int ep_learn(ep_t *ep, const void *x, const float *target, const ep_step *step, float *loss)
{
    const ep_target values = {target, NULL};
    return learn(ep, x, &values, step, loss);
}

int ep_learn_label(ep_t *ep, const void *x, int32_t label, const ep_step *step, float *loss)
{
    const ep_target labels = {NULL, &label};
    return learn(ep, x, &labels, step, loss);
}

/* ---- Mini-batches ------------------------------------------------------------------------------------------------ */

/* Adds n samples' gradients to the sums, chunk by chunk, or with `sink` NULL only sees whether all are finite. */
static int add_chunks(ep_t *ep, const void *x, const ep_target *target, uint32_t n, const ep_sink *sink, float *loss)
{
    const ep_model *model = ep->model;
    const size_t x_bytes = ep_tensor_size(&model->tensors[model->inputs[0]]);
    const size_t count = model->tensors[model->train->logits].count;
    ep_target rest = *target;
    int rc = EP_OK;
    *loss = 0;
    for (uint32_t done = 0, take; done < n && rc == EP_OK; done += take) {
        float value;
        take = n - done < ep->batch ? n - done : ep->batch;
        value = predict(ep, (const uint8_t *)x + done * x_bytes, &rest, take);
        if (rest.values != NULL) rest.values += take * count;
        if (rest.labels != NULL) rest.labels += take;
        if (!(walk_back(ep, take, value) <= EP_WEIGHT_LIMIT)) {
            rc = EP_ERR_DIVERGED;
        } else if (sink != NULL) {
            collect(ep, take, sink);
        }
        *loss += value * ((float)take / (float)n);
    }
    ep->offset = NULL;
    return rc;
}

/* Sums are whole or untouched: while they hold nothing, a refused chunk leaves nothing behind. If they do hold
 * something and there are several chunks, all are tried first, which takes twice the time. */
static int add_samples(ep_t *ep, const void *x, const ep_target *target, uint32_t n, float *loss)
{
    const ep_sink sums = {NULL, at(ep, ep->sums_at), 1};
    int rc = EP_OK;
    if (ep->samples == 0) {
        memset(ep->arena + ep->sums_at, 0, ep->model->param_bytes);
    } else if (n > ep->batch) {
        rc = add_chunks(ep, x, target, n, NULL, loss);
    }
    if (rc == EP_OK) rc = add_chunks(ep, x, target, n, &sums, loss);
    if (rc == EP_OK) ep->samples += n;
    return rc;
}

static int check_batch(ep_t *ep, const void *x, const ep_target *target, uint32_t n)
{
    int rc = check_ready(ep, x, target);
    if (rc != EP_OK) return rc;
    if (n == 0 || n > UINT32_MAX - ep->samples) return EP_ERR_ARG;
    rc = place_sums(ep);
    return rc == EP_OK ? check_samples(ep, x, target, n) : rc;
}

static int accumulate(ep_t *ep, const void *x, const ep_target *target, uint32_t n, float *loss)
{
    float value;
    int rc = check_batch(ep, x, target, n);
    if (rc == EP_OK) rc = add_samples(ep, x, target, n, &value);
    if (rc == EP_OK && loss != NULL) *loss = value;
    return rc;
}

int ep_accumulate(ep_t *ep, const void *x, const float *targets, uint32_t n, float *loss)
{
    const ep_target values = {targets, NULL};
    return accumulate(ep, x, &values, n, loss);
}

int ep_accumulate_labels(ep_t *ep, const void *x, const int32_t *labels, uint32_t n, float *loss)
{
    const ep_target target = {NULL, labels};
    return accumulate(ep, x, &target, n, loss);
}

/* Euclidean norm in units of the largest element, in which no square overflows; in blocks lest small terms get lost. */
static float norm(const float *g, uint32_t count, float largest)
{
    float sum = 0;
    for (uint32_t i = 0; i < count;) {
        float block = 0;
        for (uint32_t end = count - i < 64 ? count : i + 64; i < end; i++) {
            const float r = g[i] / largest;
            block += r * r;
        }
        sum += block;
    }
    return sqrtf(sum);
}

/* What to multiply the sums by: the mean over the samples, shortened to clip_norm. */
static float mean_factor(const ep_step *step, uint32_t samples, const float *sums, uint32_t count, float largest)
{
    const float mean = 1.0f / (float)samples;
    float units;
    if (step->clip_norm == 0 || largest < FLT_MIN) return mean;
    units = norm(sums, count, largest);
    return largest * mean * units > step->clip_norm ? step->clip_norm / largest / units : mean;
}

int ep_apply(ep_t *ep, const ep_step *step)
{
    ep_update u;
    const float *sums;
    float gmax, a;
    int rc;
    if (ep == NULL || ep->model == NULL || step == NULL || ep->samples == 0) return EP_ERR_ARG;
    rc = prepare(ep, step, 1, &u);
    if (rc != EP_OK) return rc;
    sums = at(ep, ep->sums_at);
    gmax = EP_KERNEL(ep, max_abs_f32)(sums, weights_of(ep));
    a = mean_factor(step, ep->samples, sums, weights_of(ep), gmax);
    rc = admit(ep, &u, gmax * a); /* refused too if a sum is not finite */
    ep->samples = 0;
    if (rc == EP_OK) {
        ep_sink sink = begin(ep, &u);
        u.optimizer->apply(step, u.t, sink.to, u.s0, u.s1, a, sums, weights_of(ep));
    }
    return rc;
}

static int learn_batch(ep_t *ep, const void *x, const ep_target *target, uint32_t n, const ep_step *step, float *loss)
{
    ep_update u;
    float value;
    int rc = check_batch(ep, x, target, n);
    if (rc != EP_OK) return rc;
    rc = step != NULL ? prepare(ep, step, 1, &u) : EP_ERR_ARG; /* before any work; ep_apply() does it again */
    if (rc == EP_OK) rc = add_samples(ep, x, target, n, &value);
    if (rc == EP_OK) rc = ep_apply(ep, step);
    if (rc == EP_OK && loss != NULL) *loss = value;
    return rc;
}

int ep_learn_batch(ep_t *ep, const void *x, const float *targets, uint32_t n, const ep_step *step, float *loss)
{
    const ep_target values = {targets, NULL};
    return learn_batch(ep, x, &values, n, step, loss);
}

int ep_learn_batch_labels(ep_t *ep, const void *x, const int32_t *labels, uint32_t n, const ep_step *step, float *loss)
{
    const ep_target target = {NULL, labels};
    return learn_batch(ep, x, &target, n, step, loss);
}

#else
typedef int ep_learn_left_out; /* ISO C wants a declaration in every file */
#endif
