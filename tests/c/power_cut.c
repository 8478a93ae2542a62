/* Cuts the power at every byte of a save: `power_cut IMAGE`. Storage is two slots of simulated flash that can only clear
 * bits and stops working after a number of bytes; an erase can stop half way, too. After each cut the head restored is the
 * old one or the new one, whole. Prints the number of cuts. */
#include "edgeprop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { SLOT = 4096 };

static uint8_t flash[2 * SLOT];
static long budget; /* bytes until the power goes */

static int read_flash(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    (void)user;
    if (offset > sizeof flash || size > sizeof flash - offset) {
        exit(10);
    }
    memcpy(buffer, flash + offset, size);
    return 0;
}

static int write_flash(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    const uint8_t *from = buffer;
    const uint32_t unit = *(uint32_t *)user;
    if (offset % unit || size % unit || offset > sizeof flash || size > sizeof flash - offset) {
        exit(11);
    }
    for (uint32_t i = 0; i < size; i++, budget--) {
        if (budget <= 0) {
            return -1;
        }
        if (flash[offset + i] != 0xFF) {
            exit(12); /* written twice without an erase */
        }
        flash[offset + i] = from[i];
    }
    return 0;
}

static int erase_flash(void *user, uint32_t offset, uint32_t size)
{
    (void)user;
    if (offset % SLOT || size != SLOT) {
        exit(13);
    }
    for (uint32_t i = 0; i < size; i++, budget--) {
        if (budget <= 0) {
            return -1;
        }
        flash[offset + i] = 0xFF;
    }
    return 0;
}

static uint64_t image[1 << 15], memory[1 << 12], arena[1 << 13];

static void fill(ep_t *ep, float value)
{
    uint32_t count = 0;
    float values[1024];
    if (!ep_params(ep, &count) || count > 1024) {
        exit(14);
    }
    for (uint32_t i = 0; i < count; i++) {
        values[i] = value + (float)i;
    }
    if (ep_set_params(ep, values, count) != EP_OK) {
        exit(15);
    }
}

/* All weights are those of fill(value). */
static int holds(const ep_t *ep, float value)
{
    uint32_t count = 0;
    const float *values = ep_params(ep, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (values[i] != value + (float)i) {
            return 0;
        }
    }
    return 1;
}

static long cut_everywhere(ep_t *ep, uint32_t unit)
{
    const ep_storage storage = {&unit, read_flash, write_flash, erase_flash, SLOT, unit};
    static uint8_t before[sizeof flash];
    long cuts = 0;
    for (float round = 1; round < 4; round++) { /* into slot 0, slot 1, slot 0 again */
        memcpy(before, flash, sizeof flash);
        for (long bytes = 0;; bytes++, cuts++) {
            memcpy(flash, before, sizeof flash);
            fill(ep, 100.0f * round);
            budget = bytes;
            const int saved = ep_save(ep, &storage);
            budget = 1 << 30;
            fill(ep, -1);
            const int restored = ep_restore(ep, &storage);
            const int is_new = restored == EP_OK && holds(ep, 100.0f * round);
            const int is_old = round == 1 ? restored == EP_ERR_NO_RECORD && holds(ep, -1)
                                          : restored == EP_OK && holds(ep, 100.0f * (round - 1));
            if (saved == EP_OK ? !is_new : !(is_old || is_new)) {
                fprintf(stderr, "unit %u, round %g, cut after %ld bytes: rc %d, %d\n", (unsigned)unit, (double)round,
                        bytes, saved, restored);
                exit(1);
            }
            if (saved == EP_OK) {
                break;
            }
        }
    }
    return cuts;
}

int main(int argc, char **argv)
{
    static const uint32_t units[] = {1, 4, 8, 32, 64};
    FILE *file = argc == 2 ? fopen(argv[1], "rb") : NULL;
    ep_model model;
    ep_t ep;
    if (!file) {
        return 2;
    }
    const size_t size = fread(image, 1, sizeof image, file);
    fclose(file);
    if (ep_load(&model, image, size, memory, sizeof memory, &ep_all) != EP_OK ||
        ep_init(&ep, &model, arena, sizeof arena) != EP_OK) {
        return 3;
    }
    long cuts = 0;
    for (unsigned i = 0; i < sizeof units / sizeof *units; i++) {
        memset(flash, 0xA5, sizeof flash);
        cuts += cut_everywhere(&ep, units[i]);
    }
    printf("%ld\n", cuts);
    return 0;
}
