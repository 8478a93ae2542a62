/* Changes what a storage holds where a record has structure, and gives most records their checksum again. */
#include "records.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);

/* A record of the model from the start, its weights left. */
static void make_record(uint8_t *slot)
{
    memcpy(slot, "EPH1", 4);
    put_u32(slot + 8, draw(3) ? draw(4) : 0x7FFFFFFE + draw(4));
    put_u32(slot + 12, RECORD_FINGERPRINT);
    put_u32(slot + 16, 0x9ABCDEF0u);
    put_u32(slot + 20, WEIGHTS);
    put_u32(slot + 24, 0), put_u32(slot + 28, 0);
}

static void change_record(uint8_t *slot, const uint8_t *other)
{
    static const uint32_t values[] = {0,          1,          WEIGHTS,    WEIGHTS - 4, 0x7FC00000, 0x7F800000,
                                      0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFE0,  144,        160};
    switch (draw(5)) {
    case 0: make_record(slot); break;
    case 1: put_u32(slot + 8 + 4 * draw(6), values[draw(12)]); break;
    case 2: put_u32(slot + RECORD_HEADER + 4 * draw(WEIGHTS / 4), values[draw(12)]); break;
    case 3: slot[draw(RECORD_HEADER + WEIGHTS)] ^= (uint8_t)(1u << draw(8)); break;
    default: put_u32(slot + 8, get_u32(other + 8) + draw(3) - 1); break;
    }
}

static void seal_record(uint8_t *slot, uint32_t size)
{
    uint32_t crc;
    if (record_crc(slot, size, &crc)) put_u32(slot + 4, crc);
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    FUZZ_KNOWN(data, most);
    fuzz_state = seed;
    draw(2);
    if (size < RECORD_HEAD || draw(6) == 0) size = LLVMFuzzerMutate(data, size, most);
    FUZZ_KNOWN(data, most);
    if (size < RECORD_HEAD) return size;
    const uint32_t slot = record_slot(data), whole = RECORD_HEAD + 2 * slot;
    if (whole > most) return size;
    for (; size < whole; size++) data[size] = 0xFF;
    if (draw(4) == 0) data[draw(RECORD_HEAD)] = (uint8_t)draw(256);
    if (record_slot(data) != slot) return size;
    uint8_t *slots[2] = {data + RECORD_HEAD, data + RECORD_HEAD + slot};
    for (uint32_t i = 1 + draw(3), k = draw(2); i > 0; i--, k = draw(2)) change_record(slots[k], slots[!k]);
    for (int k = 0; k < 2; k++) {
        if (draw(8) != 0) seal_record(slots[k], slot);
    }
    return size;
}
