#include "flash.h"
#include "start.h"

#include <string.h>

static uint8_t cells[2 * FLASH_SECTOR] __attribute__((section(".noinit"), aligned(8)));
static int32_t left = -1; /* operations until the power goes */

void power_fails_after(int32_t operations)
{
    left = operations;
}

/* 1 if this operation is the one in which the power goes. */
static int fails_now(void)
{
    return left >= 0 && left-- == 0;
}

void flash_new(void)
{
    memset(cells, 0xFF, sizeof cells);
}

int flash_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    (void)user;
    if (offset > sizeof cells || size > sizeof cells - offset) {
        return -1;
    }
    memcpy(buffer, cells + offset, size);
    return 0;
}

int flash_program(void *user, uint32_t offset, const void *data, uint32_t size)
{
    const uint8_t *from = (const uint8_t *)data;
    (void)user;
    if (offset % FLASH_UNIT != 0 || size % FLASH_UNIT != 0 || offset > sizeof cells || size > sizeof cells - offset) {
        return -1;
    }
    for (uint32_t unit = 0; unit < size; unit += FLASH_UNIT) {
        const int torn = fails_now();
        for (uint32_t i = unit; i < unit + FLASH_UNIT; i++) {
            if (cells[offset + i] != 0xFF) {
                return -1; /* programmed twice */
            }
            cells[offset + i] = torn ? from[i] | 0x5A : from[i]; /* torn: some of its bits are still set */
        }
        if (torn) {
            reset();
        }
    }
    return 0;
}

int flash_erase(void *user, uint32_t offset, uint32_t size)
{
    (void)user;
    if (offset % FLASH_SECTOR != 0 || size != FLASH_SECTOR || offset >= sizeof cells) {
        return -1;
    }
    if (fails_now()) {
        memset(cells + offset, 0xFF, FLASH_SECTOR / 2);
        reset();
    }
    memset(cells + offset, 0xFF, FLASH_SECTOR);
    return 0;
}
