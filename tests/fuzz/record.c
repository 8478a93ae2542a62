/* Whatever a storage holds, ep_restore() takes the newest whole record of the model or changes nothing, and a save after it
 * works, does not touch the slot that was in force, and is what a restore finds then. What a whole record is is said anew
 * here, from docs/format.md. */
#include "records.h"

#include "../c/net.h"

typedef struct storage_state {
    uint8_t bytes[2 * SLOT_MOST];
    uint32_t slot, unit;
    long reads; /* that succeed; negative: all do */
} storage_state;

static net m;
static storage_state s;
static unsigned long tried, restored, failed;

__attribute__((destructor)) static void report(void)
{
    fprintf(stderr, "storages: %lu tried, %lu restored, %lu with a read that failed\n", tried, restored, failed);
}

static int storage_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    (void)user;
    EXPECT(offset <= 2 * s.slot && size <= 2 * s.slot - offset, "read outside the storage");
    if (s.reads == 0) return -1;
    s.reads -= s.reads > 0;
    memcpy(buffer, s.bytes + offset, size);
    return 0;
}

static int storage_write(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    (void)user;
    EXPECT(offset <= 2 * s.slot && size <= 2 * s.slot - offset, "write outside the storage");
    EXPECT(offset % s.unit == 0 && size % s.unit == 0, "write of no whole units");
    for (uint32_t i = 0; i < size; i++) EXPECT(s.bytes[offset + i] == 0xFF, "written twice without an erase");
    memcpy(s.bytes + offset, buffer, size);
    return 0;
}

static int storage_erase(void *user, uint32_t offset, uint32_t size)
{
    (void)user;
    EXPECT((offset == 0 || offset == s.slot) && size == s.slot, "erased what is no slot");
    memset(s.bytes + offset, 0xFF, size);
    return 0;
}

static void set_all(ep_t *ep, float v)
{
    float values[WEIGHTS / 4];
    for (uint32_t i = 0; i < WEIGHTS / 4; i++) values[i] = v + (float)i;
    EXPECT(ep_set_params(ep, values, WEIGHTS / 4) == EP_OK, "ep_set_params");
}

static int holds(const ep_t *ep, float v)
{
    for (uint32_t i = 0; i < WEIGHTS / 4; i++) {
        if (ep_params(ep, NULL)[i] != v + (float)i) return 0;
    }
    return 1;
}

/* What slot `i` holds: 0 no whole record, 1 another model's, 2 the model's. */
static int kind_of(uint32_t i)
{
    const uint8_t *slot = s.bytes + i * s.slot;
    float weights[WEIGHTS / 4];
    uint32_t crc;
    if (memcmp(slot, "EPH1", 4) != 0 || !record_crc(slot, s.slot, &crc) || crc != get_u32(slot + 4)) return 0;
    if (get_u32(slot + 12) != m.model.fingerprint[0] || get_u32(slot + 16) != m.model.fingerprint[1] ||
        get_u32(slot + 20) != WEIGHTS) {
        return 1;
    }
    memcpy(weights, slot + RECORD_HEADER, WEIGHTS);
    return all_finite(weights, WEIGHTS / 4) ? 2 : 0;
}

/* The slot in force, or -1. */
static int in_force(void)
{
    const int mine[2] = {kind_of(0) == 2, kind_of(1) == 2};
    const uint32_t ahead = get_u32(s.bytes + s.slot + 8) - get_u32(s.bytes + 8);
    if (mine[0] && mine[1]) return ahead - 1 < 0x7FFFFFFFu ? 1 : 0;
    return mine[1] ? 1 : mine[0] ? 0 : -1;
}

static int weights_are(const ep_t *ep, int slot)
{
    return memcmp(ep_params(ep, NULL), s.bytes + (uint32_t)slot * s.slot + RECORD_HEADER, WEIGHTS) == 0;
}

/* A restore with all reads good. */
static void restore_whole(ep_t *ep, const ep_storage *storage)
{
    const int slot = in_force(), rc = ep_restore(ep, storage);
    const int foreign = kind_of(0) == 1 || kind_of(1) == 1;
    EXPECT(rc == (slot >= 0 ? EP_OK : foreign ? EP_ERR_FOREIGN : EP_ERR_NO_RECORD), "ep_restore gives %d", rc);
    EXPECT(slot >= 0 ? weights_are(ep, slot) : holds(ep, 7), "what is restored is not the newest whole record");
    restored += rc == EP_OK;
}

/* One read fails: a whole record or none, and what was before but where edgeprop.h says otherwise. */
static void restore_failing(ep_t *ep, const ep_storage *storage, long reads)
{
    s.reads = reads;
    const int rc = ep_restore(ep, storage);
    s.reads = -1;
    if (rc == EP_OK) {
        EXPECT((kind_of(0) == 2 && weights_are(ep, 0)) || (kind_of(1) == 2 && weights_are(ep, 1)), "no whole record");
    } else {
        const int exported = memcmp(ep_params(ep, NULL), m.tensors[1].data, 96) == 0;
        EXPECT(holds(ep, 7) || (rc == EP_ERR_IO && exported), "a refused restore changed weights");
    }
    failed++;
}

static void save_again(ep_t *ep, const ep_storage *storage)
{
    static uint8_t before[SLOT_MOST];
    const int slot = in_force();
    if (slot >= 0) memcpy(before, s.bytes + (uint32_t)slot * s.slot, s.slot);
    set_all(ep, 50);
    EXPECT(ep_save(ep, storage) == EP_OK, "ep_save");
    EXPECT(slot < 0 || memcmp(before, s.bytes + (uint32_t)slot * s.slot, s.slot) == 0, "the older record was touched");
    set_all(ep, 60);
    EXPECT(ep_restore(ep, storage) == EP_OK && holds(ep, 50), "what was saved is not what is restored");
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    ep_t ep;
    if (size < RECORD_HEAD) return 0;
    tried++;
    if (m.model.n_tensors == 0) net_head(&m, &ep_mse);
    s.unit = record_unit(data), s.slot = record_slot(data), s.reads = -1;
    memset(s.bytes, 0xFF, sizeof s.bytes);
    memcpy(s.bytes, data + RECORD_HEAD, size - RECORD_HEAD < 2 * s.slot ? size - RECORD_HEAD : 2 * s.slot);
    const ep_storage storage = {&s, storage_read, storage_write, storage_erase, s.slot, s.unit};
    void *arena = net_start(&ep, &m, 1, data[3] & 128 ? EP_FOR_TRAIN : EP_FOR_RESTORE, NULL);
    choose_kernels(&ep, data[3] & 127);
    set_all(&ep, 7);
    if (data[2] != 0) restore_failing(&ep, &storage, data[2] - 1);
    set_all(&ep, 7);
    restore_whole(&ep, &storage);
    save_again(&ep, &storage);
    free(arena);
    return failures != 0 ? abort(), 0 : 0;
}
