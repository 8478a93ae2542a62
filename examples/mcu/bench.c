#include "bench.h"
#include "flash.h"
#include "start.h"

#include <stdarg.h>
#include <stdio.h>

enum { SAVES = 4, PLUGGED_IN = 0x0B0A2D }; /* saves: into one sector, the other, and over what each held */

/* What the bench remembers from boot to boot. */
static struct notes {
    uint32_t plugged_in; /* PLUGGED_IN once the board had power for the first time */
    uint32_t boots, cuts;
    uint32_t old_head, new_head; /* checksums: of the newest head that is through, and of the one being saved */
    int32_t cut_at;              /* operation of the save in which the power goes */
    int32_t saves, first_right;
} notes __attribute__((section(".noinit")));

static void say(const char *format, ...)
{
    char line[160];
    va_list values;
    va_start(values, format);
    vsnprintf(line, sizeof line, format, values);
    va_end(values);
    print(line);
}

static uint32_t checksum(const ep_t *ep)
{
    uint32_t count;
    const float *weights = ep_params(ep, &count);
    return ep_crc32(0, weights, count * sizeof *weights);
}

void bench_fails(const char *what, int rc)
{
    say("boot %d, after a cut in operation %d of save %d: %s: %s\n", (int)notes.boots, (int)notes.cut_at,
        (int)notes.saves + 1, what, ep_error(rc));
    leave(1);
}

static void plug_in(const ep_t *ep, int right)
{
    notes = (struct notes){.plugged_in = PLUGGED_IN, .first_right = right};
    notes.old_head = checksum(ep);
}

static void finish(int right, int asked)
{
    say("after %d saves: %d of %d right\n", SAVES, right, asked);
    say("%d cuts, %d boots: always the last head that was saved, whole\n", (int)notes.cuts, (int)notes.boots);
    leave(right > notes.first_right ? 0 : 1);
}

void bench_woke_up(const ep_t *ep, int right, int asked)
{
    if (right < 0) {
        bench_fails("exam", right);
    }
    if (notes.plugged_in != PLUGGED_IN) {
        plug_in(ep, right);
        say("new: %d of %d right\n", right, asked);
    }
    notes.boots++;
    if (checksum(ep) != notes.old_head) {
        bench_fails(checksum(ep) == notes.new_head ? "a head whose save was cut" : "a head that nobody saved",
                    EP_ERR_CHECKSUM);
    }
    if (notes.saves == SAVES) {
        finish(right, asked);
    }
}

void bench_before_save(const ep_t *ep)
{
    notes.new_head = checksum(ep);
    notes.cuts++; /* taken back if it does not come to it */
    power_fails_after(notes.cut_at++);
}

void bench_after_save(void)
{
    say("save %d went through after the power had gone in each of its %d operations\n", (int)notes.saves + 1,
        (int)notes.cut_at - 1);
    notes.cuts--;
    notes.saves++;
    notes.cut_at = 0;
    notes.old_head = notes.new_head;
    reset();
}
