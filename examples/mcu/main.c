/* The firmware: wakes up, brings back what it learned, learns some more, saves it. That the power may go at any moment of a
 * save costs it nothing: ep_save() leaves the older head in force until the newer one is whole.
 *
 * Around it stands a bench (bench.c) that cuts the power in the middle of each write in turn and sees what the firmware has
 * learned when it wakes up again.
 */
#include "bench.h"
#include "flash.h"

#include "people.h"

#define RECOGNIZER_IMPLEMENTATION
#include "recognizer.h"

static EP_ALIGNED uint8_t arena[RECOGNIZER_TRAIN_ARENA];

/* Two sectors of flash. A head must fit into one of them: ep_record_size(&recognizer, FLASH_UNIT) bytes. */
static const ep_storage flash = {NULL, flash_read, flash_program, flash_erase, FLASH_SECTOR, FLASH_UNIT};

/* One pass over what the user shows: a step of SGD on each sample. A step that would spoil the weights is refused. */
static int learn(ep_t *ep)
{
    const ep_step step = {.lr = 0.02f};
    int rc = EP_OK;
    for (int i = 0; i < LESSON_COUNT && rc == EP_OK; i++) {
        rc = ep_learn_label(ep, lesson_x[i], lesson_y[i], &step, NULL);
    }
    return rc;
}

/* How many samples of the exam are recognized; negative: an error. */
static int take_exam(ep_t *ep)
{
    int right = 0;
    for (int i = 0; i < EXAM_COUNT; i++) {
        float logits[RECOGNIZER_OUTPUT_COUNT];
        const int rc = ep_infer(ep, exam_x[i], logits);
        if (rc != EP_OK) {
            return rc;
        }
        uint32_t best = 0;
        for (uint32_t k = 1; k < RECOGNIZER_OUTPUT_COUNT; k++) {
            best = logits[k] > logits[best] ? k : best;
        }
        right += best == (uint32_t)exam_y[i];
    }
    return right;
}

int main(void)
{
    ep_t ep;
    int rc = ep_init(&ep, &recognizer, arena, sizeof arena);
    if (rc == EP_OK) {
        rc = ep_restore(&ep, &flash);
        rc = rc == EP_ERR_NO_RECORD ? EP_OK : rc; /* a new device, or one whose first save was cut: as exported */
    }
    if (rc != EP_OK) {
        bench_fails("restore", rc);
    }
    bench_woke_up(&ep, take_exam(&ep), EXAM_COUNT);

    rc = learn(&ep);
    if (rc != EP_OK) {
        bench_fails("learn", rc);
    }

    bench_before_save(&ep);
    rc = ep_save(&ep, &flash); /* the power may go in here */
    if (rc != EP_OK) {
        bench_fails("save", rc);
    }
    bench_after_save();
    return 0;
}
