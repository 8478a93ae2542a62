/* The device: a stand-alone program around the generated header, as firmware would be, without an operating system's
 * help beyond stdio.
 *
 *     device [HEAD] < records        text on standard output
 *
 * A record is a letter and binary data in the machine's byte order:
 *     'p' image                      predict:  prints "class logit logit ..."
 *     'l' rate image label           learn:    prints "loss"; label is an int32, rate a float
 * Floats are printed as %a, which loses no bit. HEAD is a file that stands for two sectors of flash: what was learned
 * is restored from it at the start, if there is something, and saved to it at the end.
 */
#include <stdio.h>
#include <string.h>

#define DIGITS_IMPLEMENTATION
#include "digits.h"

enum { PIXELS = 64, CLASSES = 10, SLOT = 16384 };

static EP_ALIGNED uint8_t arena[DIGITS_TRAIN_ARENA];

/* ---- Two sectors of "flash" in a file ---- */

static int flash_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    FILE *file = (FILE *)user;
    if (fseek(file, (long)offset, SEEK_SET) != 0) {
        return -1;
    }
    return fread(buffer, 1, size, file) == size ? 0 : -1;
}

static int flash_write(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    FILE *file = (FILE *)user;
    if (fseek(file, (long)offset, SEEK_SET) != 0) {
        return -1;
    }
    return fwrite(buffer, 1, size, file) == size ? fflush(file) : -1;
}

static int flash_erase(void *user, uint32_t offset, uint32_t size)
{
    FILE *file = (FILE *)user;
    if (fseek(file, (long)offset, SEEK_SET) != 0) {
        return -1;
    }
    for (uint32_t i = 0; i < size; i++) {
        if (fputc(0xFF, file) == EOF) {
            return -1;
        }
    }
    return fflush(file);
}

static FILE *flash_open(const char *path)
{
    FILE *file = fopen(path, "r+b");
    if (file == NULL && (file = fopen(path, "w+b")) != NULL && flash_erase(file, 0, 2 * SLOT) != 0) {
        fclose(file);
        file = NULL;
    }
    return file;
}

/* ---- Records ---- */

static int predict(ep_t *ep)
{
    float image[PIXELS], logits[CLASSES];
    if (fread(image, sizeof image, 1, stdin) != 1) {
        return EP_ERR_ARG;
    }
    int rc = ep_infer(ep, image, logits);
    if (rc != EP_OK) {
        return rc;
    }
    int best = 0;
    for (int k = 1; k < CLASSES; k++) {
        best = logits[k] > logits[best] ? k : best;
    }
    printf("%d", best);
    for (int k = 0; k < CLASSES; k++) {
        printf(" %a", (double)logits[k]);
    }
    putchar('\n');
    return EP_OK;
}

static int learn(ep_t *ep)
{
    ep_step step = {0};
    float image[PIXELS], loss;
    int32_t label;
    if (fread(&step.lr, sizeof step.lr, 1, stdin) != 1 || fread(image, sizeof image, 1, stdin) != 1 ||
        fread(&label, sizeof label, 1, stdin) != 1) {
        return EP_ERR_ARG;
    }
    int rc = ep_learn_label(ep, image, label, &step, &loss);
    if (rc == EP_OK) {
        printf("%a\n", (double)loss);
    }
    return rc;
}

static int serve(ep_t *ep)
{
    int rc = EP_OK;
    for (int c = getchar(); c != EOF && rc == EP_OK; c = getchar()) {
        rc = c == 'p' ? predict(ep) : c == 'l' ? learn(ep) : EP_ERR_ARG;
    }
    return rc;
}

int main(int argc, char **argv)
{
    ep_t ep;
    ep_storage flash = {NULL, flash_read, flash_write, flash_erase, SLOT, 1};
    int rc = ep_init(&ep, &digits, arena, sizeof arena);
    if (rc == EP_OK && argc > 1) {
        flash.user = flash_open(argv[1]);
        rc = flash.user == NULL ? EP_ERR_IO : ep_restore(&ep, &flash);
        rc = rc == EP_ERR_NO_RECORD ? EP_OK : rc; /* a new device has learned nothing yet */
    }
    if (rc == EP_OK) {
        rc = serve(&ep);
    }
    if (rc == EP_OK && flash.user != NULL) {
        rc = ep_save(&ep, &flash);
    }
    if (flash.user != NULL) {
        fclose((FILE *)flash.user);
    }
    if (rc != EP_OK) {
        fprintf(stderr, "device: %s\n", ep_error(rc));
    }
    return rc == EP_OK ? 0 : 1;
}
