/* The bench the board lies on: cuts the power, and looks at what the firmware knows when it wakes up. It keeps its notes in
 * RAM that a reset leaves alone. No part of the firmware. */
#ifndef BENCH_H
#define BENCH_H

#include "edgeprop.h"

/* The firmware is up with the head it restored, which got `right` of `asked` samples. The head must be the newest one whose
 * save went through, whole: the header of an interrupted one, which is written last, was not. */
void bench_woke_up(const ep_t *ep, int right, int asked);

/* The firmware is about to save; the power will go during it. */
void bench_before_save(const ep_t *ep);

/* The save went through: the power did not go. Resets the board, or ends. */
void bench_after_save(void);

/* Ends with an error. */
void bench_fails(const char *what, int rc);

#endif
