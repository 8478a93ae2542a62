/* Flash at its worst: `power_cut IMAGE STRIDE`. Storage is two slots of simulated flash. Programming only clears bits; a cut
 * leaves the word in work with any of its bits programmed, or the sector in work partly erased; a second cut comes in the save
 * that is tried again; words wear out, loudly or in silence; bits flip at rest. What is restored is the old head or the new
 * one, whole, and saving works again. Second cuts come after every STRIDE-th first one. Prints how many there were of each:
 * cuts, second cuts, worn words, flipped bits. */
#include "edgeprop.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { MOST = 4096, WEIGHTS = 1024 };

/* What an interrupted word or sector is left with. */
enum { AS_IT_WAS, SOME_BITS, MORE_BITS, ANYTHING, KINDS };

/* How a word wears out: programming fails; one bit stays 1; one bit stays 0 whatever is erased. */
enum { LOUD, STAYS_SET, STAYS_CLEAR, WEARS };

static struct {
    uint8_t bytes[2 * MOST];
    uint32_t slot, unit;
    long budget; /* bytes until the power goes; negative: it stays */
    int off, torn;
    long worn; /* offset of a byte that is worn, -1: none */
    int wear;
    uint8_t worn_bit;
} flash;

static ep_model model;
static ep_t ep;

static uint32_t dice(void)
{
    static uint64_t state = 88172645463325252ull;
    state ^= state << 13, state ^= state >> 7, state ^= state << 17;
    return (uint32_t)(state >> 11);
}

static void fail(const char *what, int rc)
{
    fprintf(stderr, "%s: rc %d; unit %u, torn %d, worn %ld by %d\n", what, rc, (unsigned)flash.unit, flash.torn,
            flash.worn, flash.wear);
    exit(1);
}

/* ---- Flash ---------------------------------------------------------------------------------------------------------- */

static int read_flash(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    (void)user;
    if (offset > 2 * flash.slot || size > 2 * flash.slot - offset) fail("read outside", 0);
    if (flash.off) return -1;
    memcpy(buffer, flash.bytes + offset, size);
    return 0;
}

/* 1 if there is power for one more byte. */
static int spend(void)
{
    if (flash.budget == 0) flash.off = 1;
    if (flash.budget > 0) flash.budget--;
    return !flash.off;
}

/* The rest of a word, from the byte at which the power went. */
static void tear_word(uint8_t *cells, const uint8_t *from, uint32_t size)
{
    for (uint32_t i = 0; i < size; i++) {
        const uint8_t noise = (uint8_t)dice();
        switch (flash.torn) {
        case SOME_BITS: cells[i] &= (uint8_t)(from[i] | noise); break; /* some of what was to be cleared */
        case MORE_BITS: cells[i] &= from[i]; break; /* all of it, though nobody lived to hear of it */
        case ANYTHING: cells[i] &= noise; break;    /* and what was to stay */
        default: break;
        }
    }
}

static int program_byte(uint32_t at, uint8_t value)
{
    if (flash.bytes[at] != 0xFF && (flash.worn != (long)at || flash.wear != STAYS_CLEAR)) fail("written twice", 0);
    if (flash.worn == (long)at && flash.wear == LOUD) return -1;
    flash.bytes[at] &= flash.worn == (long)at && flash.wear == STAYS_SET ? value | flash.worn_bit : value;
    return 0;
}

static int write_flash(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    const uint8_t *from = buffer;
    (void)user;
    if (offset % flash.unit || size % flash.unit || offset > 2 * flash.slot || size > 2 * flash.slot - offset) {
        fail("write outside, or of no whole words", 0);
    }
    for (uint32_t i = 0; i < size; i++) {
        if (!spend()) {
            if (flash.budget == 0) tear_word(flash.bytes + offset + i, from + i, flash.unit - i % flash.unit);
            flash.budget = -1;
            return -1;
        }
        if (program_byte(offset + i, from[i]) != 0) return -1;
    }
    return 0;
}

/* The rest of a sector: cells rise one by one, and some controllers clear all of them first. */
static void tear_sector(uint8_t *cells, uint32_t size)
{
    for (uint32_t i = 0; i < size && flash.torn != AS_IT_WAS; i++) {
        const uint8_t noise = (uint8_t)dice();
        cells[i] = flash.torn == SOME_BITS ? cells[i] | noise : flash.torn == MORE_BITS ? 0 : noise;
    }
}

static int erase_flash(void *user, uint32_t offset, uint32_t size)
{
    (void)user;
    if (offset % flash.slot || size != flash.slot || offset / flash.slot > 1) fail("erase of no slot", 0);
    for (uint32_t i = 0; i < size; i++) {
        if (!spend()) {
            if (flash.budget == 0) tear_sector(flash.bytes + offset + i, size - i);
            flash.budget = -1;
            return -1;
        }
        flash.bytes[offset + i] = 0xFF;
        if (flash.worn == (long)(offset + i) && flash.wear == STAYS_CLEAR) {
            flash.bytes[offset + i] &= (uint8_t)~flash.worn_bit;
        }
    }
    return 0;
}

static ep_storage storage_of(uint32_t unit)
{
    flash.unit = unit;
    flash.slot = (ep_record_size(&model, unit) + 63) / 64 * 64;
    if (flash.slot == 0 || flash.slot > MOST) exit(4);
    const ep_storage storage = {NULL, read_flash, write_flash, erase_flash, flash.slot, unit};
    return storage;
}

static void boot(void)
{
    flash.off = 0;
    flash.budget = -1;
}

/* ---- Heads ---------------------------------------------------------------------------------------------------------- */

static void fill(float value)
{
    float values[WEIGHTS];
    uint32_t count = 0;
    if (ep_params(&ep, &count) == NULL || count > WEIGHTS) exit(5);
    for (uint32_t i = 0; i < count; i++) values[i] = value + (float)i;
    if (ep_set_params(&ep, values, count) != EP_OK) exit(6);
}

/* All weights are those of fill(value). */
static int holds(float value)
{
    uint32_t count = 0;
    const float *values = ep_params(&ep, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (values[i] != value + (float)i) return 0;
    }
    return 1;
}

static int save(const ep_storage *storage, float value, long budget)
{
    boot();
    fill(value);
    flash.budget = budget;
    return ep_save(&ep, storage);
}

/* What a restore finds after the power is back: `older`, `newer`, or 0 for no record where `older` is 0. */
static float restored(const ep_storage *storage, float older, float newer)
{
    boot();
    fill(-7);
    const int rc = ep_restore(&ep, storage);
    if (rc == EP_OK && holds(newer)) return newer;
    if (rc == EP_OK && older > 0 && holds(older)) return older;
    if (rc == EP_ERR_NO_RECORD && older <= 0 && holds(-7)) return 0;
    fail("neither the old head nor the new one", rc);
    return -1;
}

static void expect_save(const ep_storage *storage, float value)
{
    const int rc = save(storage, value, -1);
    if (rc != EP_OK || restored(storage, value, value) != value) fail("no save after a cut", rc);
}

/* ---- Cuts ----------------------------------------------------------------------------------------------------------- */

/* Second cuts, some bytes apart, in the save that is tried after a cut that left `now`. */
static long cut_again(const ep_storage *storage, float now, float next)
{
    static uint8_t before[sizeof flash.bytes];
    long cuts = 0;
    memcpy(before, flash.bytes, sizeof before);
    for (long budget = dice() % 5;; budget += 1 + dice() % 7, cuts++) {
        memcpy(flash.bytes, before, sizeof before);
        const int rc = save(storage, next, budget);
        if (rc == EP_OK) break;
        restored(storage, now, next);
        if (cuts % 16 == 0) expect_save(storage, next + 500);
    }
    return cuts;
}

/* Cuts one save, of `next` over `now`, at every byte; the last turn is not cut. */
static void cut_save(const ep_storage *storage, float now, float next, long stride, long counts[2])
{
    static uint8_t before[sizeof flash.bytes], after[sizeof flash.bytes];
    memcpy(before, flash.bytes, sizeof before);
    for (long bytes = 0;; bytes++, counts[0]++) {
        memcpy(flash.bytes, before, sizeof before);
        const int rc = save(storage, next, bytes);
        memcpy(after, flash.bytes, sizeof after);
        const float found = restored(storage, now, next);
        if (rc == EP_OK && (found != next || flash.off)) fail("a save that is none", rc);
        if (rc == EP_OK) break;
        expect_save(storage, next + 300);
        memcpy(flash.bytes, after, sizeof after);
        if (bytes % stride == 0) counts[1] += cut_again(storage, found, next + 400);
    }
    memcpy(flash.bytes, after, sizeof after);
}

static void cut_everywhere(long stride, long counts[2])
{
    for (uint32_t unit = 1; unit <= 64; unit *= 2) {
        const ep_storage storage = storage_of(unit);
        for (flash.torn = 0; flash.torn < KINDS; flash.torn++) {
            memset(flash.bytes, 0xA5, sizeof flash.bytes);
            for (int round = 0; round < 3; round++) { /* into slot 0, slot 1, slot 0 again */
                cut_save(&storage, 1000.0f * (float)round, 1000.0f * (float)(round + 1), stride, counts);
            }
        }
    }
}

/* ---- Wear and rot --------------------------------------------------------------------------------------------------- */

static ep_storage two_records(uint32_t unit)
{
    const ep_storage storage = storage_of(unit);
    flash.worn = -1;
    memset(flash.bytes, 0xFF, sizeof flash.bytes);
    if (save(&storage, 10, -1) != EP_OK || save(&storage, 20, -1) != EP_OK) exit(7);
    return storage;
}

/* Each byte of both slots wears out: a save works or says that it did not, twice, and the head before stands. */
static long wear_everywhere(uint32_t unit)
{
    static uint8_t before[sizeof flash.bytes];
    const ep_storage storage = two_records(unit);
    long count = 0;
    memcpy(before, flash.bytes, sizeof before);
    for (flash.wear = 0; flash.wear < WEARS; flash.wear++) {
        for (long at = 0; at < 2 * (long)flash.slot; at++, count++) {
            float now = 20;
            memcpy(flash.bytes, before, sizeof before);
            flash.worn = at;
            flash.worn_bit = (uint8_t)(1u << dice() % 8);
            for (float next = 30; next < 50; next += 10) {
                const int rc = save(&storage, next, -1);
                if (rc != EP_OK && rc != EP_ERR_IO) fail("a save on worn flash", rc);
                now = rc == EP_OK ? next : now;
                restored(&storage, now, now);
            }
        }
    }
    flash.worn = -1;
    return count;
}

/* One to four bits flip at rest, each bit once for itself: one of the two heads, or, both being hit, none. */
static long rot_everywhere(uint32_t unit)
{
    static uint8_t before[sizeof flash.bytes];
    const ep_storage storage = two_records(unit);
    const uint32_t bits = 16 * flash.slot;
    memcpy(before, flash.bytes, sizeof before);
    for (uint32_t bit = 0; bit < 2 * bits; bit++) {
        int hit[2] = {0, 0};
        memcpy(flash.bytes, before, sizeof before);
        for (uint32_t more = bit < bits ? 0 : dice() % 4, at = bit % bits;; more--, at = dice() % bits) {
            flash.bytes[at / 8] ^= (uint8_t)(1u << at % 8);
            hit[at / 8 >= flash.slot] = 1;
            if (more == 0) break;
        }
        boot();
        fill(-7);
        const int rc = ep_restore(&ep, &storage);
        if (rc == EP_OK ? !holds(20) && !(hit[1] && holds(10)) : !(hit[0] && hit[1] && holds(-7))) fail("rot", rc);
        expect_save(&storage, 30);
    }
    return 2 * (long)bits;
}

int main(int argc, char **argv)
{
    static uint64_t image[1 << 15], memory[1 << 12], arena[1 << 13];
    FILE *file = argc == 3 ? fopen(argv[1], "rb") : NULL;
    long counts[2] = {0, 0}, worn = 0;
    if (file == NULL) return 2;
    const size_t size = fread(image, 1, sizeof image, file);
    fclose(file);
    if (ep_load(&model, image, size, memory, sizeof memory, &ep_all) != EP_OK ||
        ep_init(&ep, &model, arena, sizeof arena) != EP_OK) {
        return 3;
    }
    flash.worn = -1;
    cut_everywhere(strtol(argv[2], NULL, 10), counts);
    flash.torn = AS_IT_WAS;
    for (uint32_t unit = 1; unit <= 64; unit *= 8) worn += wear_everywhere(unit);
    printf("%ld %ld %ld %ld\n", counts[0], counts[1], worn, rot_everywhere(4));
    return 0;
}
