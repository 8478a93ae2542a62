/* What the fuzzer of saved heads gives to the library: a storage, as bytes. */
#ifndef RECORDS_H
#define RECORDS_H

#include "fuzz.h"

/* Byte 0: the unit of writing; 1: how much larger than a record a slot is; 2: the read that fails, 0: none; 3: the
 * kernels. Then the slots' bytes, one slot after the other; erased where the input ends. */
enum { RECORD_HEAD = 4, RECORD_HEADER = 32, WEIGHTS = 112, SLOT_MOST = 512, RECORD_FINGERPRINT = 0x12345678 };

static inline uint32_t record_unit(const uint8_t *data)
{
    return 1u << data[0] % 7;
}

/* Bytes of a slot, a multiple of the unit. */
static inline uint32_t record_slot(const uint8_t *data)
{
    const uint32_t unit = record_unit(data), least = (RECORD_HEADER + WEIGHTS + unit - 1) & ~(unit - 1);
    const uint32_t more = data[1] % 5 * unit;
    return least + more;
}

/* The checksum of a slot's record as its size field has it, if that lies within the slot. */
static inline int record_crc(const uint8_t *slot, uint32_t slot_size, uint32_t *crc)
{
    const uint32_t size = get_u32(slot + 20);
    if (size > slot_size - RECORD_HEADER) return 0;
    *crc = ep_crc32(0, slot + 8, RECORD_HEADER - 8 + size);
    return 1;
}

#endif
