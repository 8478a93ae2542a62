/* On the Pi, in C: meet a new user, learn from a few examples, and remember.
 *
 *     adapt FOLDER
 *
 * FOLDER holds lesson.csv and exam.csv, as prepare.py writes them; the recognizer is compiled in. What was learned is kept
 * in me.slots there. Prints what adapt.py prints.
 */
#define _POSIX_C_SOURCE 200809L

#define RECOGNIZER_IMPLEMENTATION
#include "recognizer.h"

#include <fcntl.h>
#include <stdio.h>
#include <unistd.h>

enum { FEATURES = RECOGNIZER_INPUT_COUNT, CLASSES = RECOGNIZER_LABELS, MOST = 1024, PASSES = 30, SLOT = 16384 };
static const float RATE = 0.02f;

typedef struct samples {
    float x[MOST][FEATURES];
    int32_t y[MOST];
    int count;
} samples;

static samples lesson, exam;
static EP_ALIGNED uint8_t arena[RECOGNIZER_TRAIN_ARENA];

/* ---- Samples: a label and its values a line ---- */

static int read_samples(const char *folder, const char *name, samples *to)
{
    char path[512];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "r");
    if (file == NULL) {
        perror(path);
        return -1;
    }
    while (to->count < MOST && fscanf(file, "%d", &to->y[to->count]) == 1) {
        for (int k = 0; k < FEATURES; k++) {
            if (fscanf(file, ",%f", &to->x[to->count][k]) != 1) {
                fprintf(stderr, "%s: line %d has not %d values\n", path, to->count + 1, FEATURES);
                fclose(file);
                return -1;
            }
        }
        to->count++;
    }
    fclose(file);
    return 0;
}

/* ---- Two slots in a file. ep_save() writes the one that does not hold the newest head, and its header last: a power cut
 * leaves the other. ---- */

static int slot_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    return pread(*(int *)user, buffer, size, (off_t)offset) == (ssize_t)size ? 0 : -1;
}

static int slot_write(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    const int file = *(int *)user;
    return pwrite(file, buffer, size, (off_t)offset) == (ssize_t)size ? fsync(file) : -1;
}

static int slot_erase(void *user, uint32_t offset, uint32_t size)
{
    static const uint8_t blank[256];
    for (uint32_t i = 0; i < size; i += (uint32_t)sizeof blank) {
        if (slot_write(user, offset + i, blank, sizeof blank) != 0) {
            return -1;
        }
    }
    return 0;
}

/* The file, made if it is not there. */
static int open_slots(const char *folder)
{
    char path[512];
    snprintf(path, sizeof path, "%s/me.slots", folder);
    const int file = open(path, O_RDWR | O_CREAT, 0644);
    return file >= 0 && ftruncate(file, 2 * SLOT) == 0 ? file : -1;
}

/* ---- The exam ---- */

static int report(const char *when, ep_t *ep)
{
    int right = 0;
    for (int i = 0; i < exam.count; i++) {
        float logits[CLASSES];
        const int rc = ep_infer(ep, exam.x[i], logits);
        if (rc != EP_OK) {
            return rc;
        }
        int best = 0;
        for (int k = 1; k < CLASSES; k++) {
            best = logits[k] > logits[best] ? k : best;
        }
        right += best == exam.y[i];
    }
    printf("%s: %d of %d right\n", when, right, exam.count);
    return EP_OK;
}

/* ---- The lesson: one step of SGD on each example in turn. A step that would spoil the weights is refused whole. ---- */

static int learn(ep_t *ep)
{
    const ep_step step = {.lr = RATE};
    for (int pass = 0; pass < PASSES; pass++) {
        for (int i = 0; i < lesson.count; i++) {
            const int rc = ep_learn_label(ep, lesson.x[i], lesson.y[i], &step, NULL);
            if (rc != EP_OK) {
                return rc;
            }
        }
    }
    return EP_OK;
}

static int meet(const char *folder)
{
    int file = open_slots(folder);
    const ep_storage slots = {&file, slot_read, slot_write, slot_erase, SLOT, 1};
    ep_t ep;
    int rc = file < 0 ? EP_ERR_IO : ep_init(&ep, &recognizer, arena, sizeof arena);
    if (rc == EP_OK) {
        rc = ep_restore(&ep, &slots); /* a user who has been here before is known */
        if (rc == EP_OK) {
            puts("restored");
        }
        rc = rc == EP_ERR_NO_RECORD ? EP_OK : rc;
    }
    rc = rc == EP_OK ? report("before", &ep) : rc;
    rc = rc == EP_OK ? learn(&ep) : rc;
    rc = rc == EP_OK ? report("after", &ep) : rc;
    rc = rc == EP_OK ? ep_save(&ep, &slots) : rc;
    if (file >= 0) {
        close(file);
    }
    return rc;
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: adapt FOLDER\n");
        return 2;
    }
    if (read_samples(argv[1], "lesson.csv", &lesson) != 0 || read_samples(argv[1], "exam.csv", &exam) != 0) {
        return 2;
    }
    const int rc = meet(argv[1]);
    if (rc != EP_OK) {
        fprintf(stderr, "adapt: %s\n", ep_error(rc));
    }
    return rc != EP_OK;
}
