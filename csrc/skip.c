/* Skip samples of small loss (selective backprop, Jiang et al. 2019): a forward pass tells which are worth a backward
 * pass. */
#include <float.h>

#include "internal.h"

#ifndef EP_NO_TRAIN

/* Moves the running quantile after a loss: in factors, so that it follows losses of any size, and by as much more up
 * than down as makes both even out where `share` of the losses lies below. */
static float follow(float at, float loss, float share)
{
    const float rate = 0.1f, least = 1e-6f;
    if (at == 0) {
        at = loss;
    } else {
        at *= 1.0f + (loss < at ? share - 1.0f : share) * rate;
    }
    return at >= least && at <= FLT_MAX ? at : least; /* losses may be 0 for long, or below it */
}

int ep_skip_small(ep_t *ep, const ep_step *step, float loss)
{
    const float below = step->skip_below, share = step->skip_share, at = ep->skip_at;
    if (!(below >= 0 && below <= FLT_MAX && share >= 0 && share <= 0.99f)) return EP_ERR_ARG;
    if (!(fabsf(loss) <= FLT_MAX)) return 0; /* for the step to refuse */
    if (share > 0) ep->skip_at = follow(at, loss, share);
    if (!(loss < below) && !(share > 0 && loss < at)) return 0;
    ep->skipped++;
    return 1;
}

#else
typedef int ep_skip_left_out; /* ISO C wants a declaration in every file */
#endif
