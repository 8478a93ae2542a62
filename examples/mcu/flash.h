/* Flash of two sectors, emulated in RAM that a reset leaves alone, and a power supply that can fail.
 *
 * It behaves as flash does: erasing sets all bits of a sector, programming clears bits of one unit, once between two erases,
 * and what is interrupted is left half done. On a real board these three functions call the vendor's driver. */
#ifndef FLASH_H
#define FLASH_H

#include <stdint.h>

enum { FLASH_SECTOR = 8192, FLASH_UNIT = 8 }; /* bytes; 8 as on an STM32L4 */

/* As ep_storage wants them: 0, or negative. */
int flash_read(void *user, uint32_t offset, void *buffer, uint32_t size);
int flash_program(void *user, uint32_t offset, const void *data, uint32_t size);
int flash_erase(void *user, uint32_t offset, uint32_t size);

/* Both sectors as they leave the factory. */
void flash_new(void);

/* The power goes in the middle of operation number `operations` from now: a unit programmed, or a sector erased.
 * Negative: it stays. */
void power_fails_after(int32_t operations);

#endif
