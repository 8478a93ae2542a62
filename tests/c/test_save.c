/* Records on a simulated flash: power cuts at every byte, flipped bits, foreign records, failing storage. */
#include "net.h"

enum { SLOT = 512 };

/* Flash as it behaves: erased bytes are 0xFF, a unit is written once, power may fail after any byte. */
typedef struct flash {
    uint8_t bytes[2 * SLOT];
    uint32_t unit;
    long budget;      /* bytes that may still be erased or written; -1: no limit */
    long calls;       /* callbacks that may still succeed; -1: no limit */
    long deaf;        /* the read that fails, that one alone; -1: none */
    long sick;        /* the call that says it failed, though it did its work; -1: none */
    int refused;      /* whether that call was made, and then how many calls that change anything came behind it */
    int torn;         /* how an interrupted erase leaves the rest: 0 as it was, 1 random */
    int last_written; /* offset of the last write */
} flash;

static net m;
static flash f;

static int spend(void)
{
    if (f.calls == 0) return 0;
    if (f.calls > 0) f.calls--;
    return 1;
}

/* What a call that changes something returns: an error of the sick one. */
static int done(void)
{
    if (f.refused > 0) f.refused++;
    if (f.sick == 0) f.refused = 1;
    return f.sick-- == 0 ? -5 : 0;
}

static int flash_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    CHECK(user == &f && offset <= sizeof f.bytes && size <= sizeof f.bytes - offset);
    if (!spend() || f.deaf-- == 0) return -5;
    memcpy(buffer, f.bytes + offset, size);
    return 0;
}

static int flash_write(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    CHECK(user == &f && offset <= sizeof f.bytes && size <= sizeof f.bytes - offset);
    CHECK(offset % f.unit == 0 && size % f.unit == 0 && size != 0);
    if (!spend()) return -5;
    for (uint32_t i = 0; i < size; i++) {
        CHECK(f.bytes[offset + i] == 0xFF);
        if (f.budget == 0) return -5;
        if (f.budget > 0) f.budget--;
        f.bytes[offset + i] = ((const uint8_t *)buffer)[i];
    }
    f.last_written = (int)offset;
    return done();
}

static int flash_erase(void *user, uint32_t offset, uint32_t size)
{
    CHECK(user == &f && offset % SLOT == 0 && size == SLOT);
    if (!spend()) return -5;
    for (uint32_t i = 0; i < size; i++) {
        if (f.budget == 0) {
            for (; f.torn && i < size; i++) f.bytes[offset + i] = (uint8_t)random_u32();
            return -5;
        }
        if (f.budget > 0) f.budget--;
        f.bytes[offset + i] = 0xFF;
    }
    return done();
}

static ep_storage blank(uint32_t unit)
{
    const ep_storage storage = {&f, flash_read, flash_write, flash_erase, SLOT, unit};
    memset(&f, 0, sizeof f);
    memset(f.bytes, 0xFF, sizeof f.bytes);
    f.unit = unit != 0 ? unit : 1;
    f.budget = f.calls = f.deaf = f.sick = -1;
    return storage;
}

static void set_all(ep_t *ep, float v)
{
    float values[64];
    uint32_t count;
    ep_params(ep, &count);
    for (uint32_t i = 0; i < count; i++) values[i] = v + (float)i;
    CHECK_RC(ep_set_params(ep, values, count), EP_OK);
}

/* The v of set_all, or -1 if the weights are not whole. */
static float which(const ep_t *ep)
{
    uint32_t count;
    const float *w = ep_params(ep, &count);
    for (uint32_t i = 0; i < count; i++) {
        if (w[i] != w[0] + (float)i) return -1;
    }
    return w[0];
}

/* A net whose head can be restored, in an arena of its own. */
static void *start(ep_t *ep)
{
    net_head(&m, &ep_mse);
    return net_start(ep, &m, 1, EP_FOR_RESTORE, NULL);
}

/* A storage that holds one record, of set_all(1). */
static ep_storage saved(ep_t *ep)
{
    const ep_storage storage = blank(1);
    set_all(ep, 1);
    CHECK_RC(ep_save(ep, &storage), EP_OK);
    return storage;
}

static void a_record_has_the_bytes_of_the_format(void)
{
    ep_t ep;
    void *arena = start(&ep);
    CHECK(ep_record_size(&m.model, 0) == 32 + 112 && ep_record_size(&m.model, 1) == 144);
    CHECK(ep_record_size(&m.model, 32) == 160 && ep_record_size(&m.model, 64) == 192);
    CHECK(ep_record_size(&m.model, 3) == 0 && ep_record_size(&m.model, 128) == 0 && ep_record_size(NULL, 1) == 0);
    for (uint32_t unit = 1; unit <= 64; unit *= 2) {
        ep_storage storage = blank(unit);
        uint8_t expected[SLOT];
        set_all(&ep, 7);
        CHECK_RC(ep_save(&ep, &storage), EP_OK);
        CHECK_RC(ep_save(&ep, &storage), EP_OK);
        memset(expected, 0xFF, SLOT);
        memcpy(expected, "EPH1\0\0\0\0\1\0\0\0\x78\x56\x34\x12\xF0\xDE\xBC\x9A\x70\0\0\0\0\0\0\0\0\0\0\0", 32);
        memcpy(expected + 32, ep_params(&ep, NULL), 112);
        const uint32_t crc = ep_crc32(0, expected + 8, 24 + 112);
        for (int i = 0; i < 4; i++) expected[4 + i] = (uint8_t)(crc >> (8 * i));
        CHECK(memcmp(f.bytes, expected, SLOT) == 0);
        CHECK(f.bytes[SLOT + 8] == 2 && f.last_written == SLOT);
    }
    free(arena);
}

static void saves_take_turns_and_the_newest_wins(void)
{
    ep_t ep;
    void *arena = start(&ep);
    ep_storage storage = blank(8);
    CHECK_RC(ep_restore(&ep, &storage), EP_ERR_NO_RECORD);
    for (int i = 1; i < 6; i++) {
        set_all(&ep, (float)(10 * i));
        CHECK_RC(ep_save(&ep, &storage), EP_OK);
        CHECK(f.last_written == (i % 2 ? 0 : SLOT) && f.bytes[f.last_written + 8] == i);
        CHECK_RC(ep_reset(&ep), EP_OK);
        CHECK_RC(ep_restore(&ep, &storage), EP_OK);
        CHECK(which(&ep) == (float)(10 * i));
    }
    free(arena);
}

static void reseal(uint8_t *record, uint32_t weights)
{
    const uint32_t crc = ep_crc32(0, record + 8, 24 + weights);
    for (int i = 0; i < 4; i++) record[4 + i] = (uint8_t)(crc >> (8 * i));
}

static void sequence_numbers_wrap(void)
{
    ep_t ep;
    void *arena = start(&ep);
    ep_storage storage = saved(&ep);
    memset(f.bytes + 8, 0xFF, 4);
    reseal(f.bytes, 112);
    for (int i = 2; i < 5; i++) {
        set_all(&ep, (float)i);
        CHECK_RC(ep_save(&ep, &storage), EP_OK);
        set_all(&ep, 99);
        CHECK_RC(ep_restore(&ep, &storage), EP_OK);
        CHECK(which(&ep) == (float)i);
    }
    free(arena);
}

/* After a cut at any byte the older record is in force until the new one is whole, and saving works again. */
static void power_may_fail_at_any_byte(void)
{
    static const uint32_t units[] = {1, 4, 8, 32, 64};
    ep_t ep;
    int cuts = 0;
    void *arena = start(&ep);
    for (int u = 0; u < 5; u++) {
        for (int torn = 0; torn < 2; torn++) {
            for (int saves = 0; saves < 3; saves++) {
                const long whole = SLOT + (long)ep_record_size(&m.model, units[u]);
                for (long cut = 0; cut <= whole; cut++) {
                    ep_storage storage = blank(units[u]);
                    for (int i = 1; i <= saves; i++) {
                        set_all(&ep, (float)i);
                        CHECK_RC(ep_save(&ep, &storage), EP_OK);
                    }
                    f.budget = cut;
                    f.torn = torn;
                    set_all(&ep, 50);
                    const int rc = ep_save(&ep, &storage);
                    CHECK(rc == (cut < whole ? EP_ERR_IO : EP_OK));
                    CHECK(which(&ep) == 50);
                    f.budget = -1;
                    set_all(&ep, 99);
                    const int got = ep_restore(&ep, &storage);
                    const float now = which(&ep);
                    if (got == EP_OK) {
                        /* The last unit may be whole though the storage did not live to say so. */
                        CHECK(now == 50 ? cut >= whole - (long)(units[u] - 1) - 32 : now == (float)saves && saves > 0);
                        CHECK(rc != EP_OK || now == 50);
                    } else {
                        CHECK(got == EP_ERR_NO_RECORD && saves == 0 && now == 99);
                    }
                    set_all(&ep, 60);
                    CHECK_RC(ep_save(&ep, &storage), EP_OK);
                    set_all(&ep, 99);
                    CHECK_RC(ep_restore(&ep, &storage), EP_OK);
                    CHECK(which(&ep) == 60);
                    cuts++;
                }
            }
        }
    }
    printf("%d power cuts\n", cuts);
    free(arena);
}

static void a_flipped_bit_is_seen(void)
{
    ep_t ep;
    void *arena = start(&ep);
    ep_storage storage = saved(&ep);
    for (int bit = 0; bit < 8 * 144; bit++) {
        f.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
        set_all(&ep, 99);
        CHECK_RC(ep_restore(&ep, &storage), EP_ERR_NO_RECORD);
        CHECK(which(&ep) == 99);
        f.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    set_all(&ep, 2);
    CHECK_RC(ep_save(&ep, &storage), EP_OK);
    for (int bit = 0; bit < 8 * 144; bit++) {
        f.bytes[SLOT + bit / 8] ^= (uint8_t)(1 << bit % 8);
        CHECK_RC(ep_restore(&ep, &storage), EP_OK);
        CHECK(which(&ep) == 1);
        f.bytes[SLOT + bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    free(arena);
}

/* A record whose checksum fits, but whose weights are no numbers, or whose size is not the model's. */
static void valid_records_of_nonsense_are_refused(void)
{
    static const float bad[] = {NAN, INFINITY, -INFINITY};
    ep_t ep;
    void *arena = start(&ep);
    for (int i = 0; i < 3; i++) {
        for (int at = 0; at < 28; at++) {
            ep_storage storage = saved(&ep);
            memcpy(f.bytes + 32 + 4 * at, &bad[i], 4);
            reseal(f.bytes, 112);
            CHECK_RC(ep_restore(&ep, &storage), EP_ERR_NO_RECORD);
            CHECK(which(&ep) == 1);
        }
    }
    for (uint32_t size = 0; size < 1000; size++) {
        ep_storage storage = blank(1);
        CHECK_RC(ep_save(&ep, &storage), EP_OK);
        f.bytes[20] = (uint8_t)size, f.bytes[21] = (uint8_t)(size >> 8);
        if (size <= SLOT - 32) reseal(f.bytes, size);
        CHECK_RC(ep_restore(&ep, &storage), size == 112         ? EP_OK
                                            : size <= SLOT - 32 ? EP_ERR_FOREIGN
                                                                : EP_ERR_NO_RECORD);
        CHECK(which(&ep) == 1);
    }
    free(arena);
}

static void records_of_other_models_are_told_apart(void)
{
    static net other;
    ep_t ep, ep2;
    net_head(&m, &ep_mse);
    net_head(&other, &ep_mse);
    other.model.fingerprint[1]++;
    void *arena = net_start(&ep, &m, 1, EP_FOR_RESTORE, NULL),
         *arena2 = net_start(&ep2, &other, 1, EP_FOR_RESTORE, NULL);
    ep_storage storage = blank(1);
    set_all(&ep, 1), set_all(&ep2, 2);
    CHECK_RC(ep_save(&ep2, &storage), EP_OK);
    CHECK_RC(ep_restore(&ep, &storage), EP_ERR_FOREIGN);
    CHECK_RC(ep_save(&ep, &storage), EP_OK); /* beside, not over */
    CHECK(f.last_written == SLOT && f.bytes[SLOT + 8] == 1);
    CHECK_RC(ep_restore(&ep, &storage), EP_OK);
    CHECK_RC(ep_restore(&ep2, &storage), EP_OK);
    CHECK(which(&ep) == 1 && which(&ep2) == 2);
    set_all(&ep, 3);
    CHECK_RC(ep_save(&ep, &storage), EP_OK); /* over the foreign one, since the other is ours and newest */
    CHECK(f.last_written == 0 && f.bytes[8] == 2);
    CHECK_RC(ep_restore(&ep2, &storage), EP_ERR_FOREIGN);
    free(arena), free(arena2);
}

/* Whichever callback fails, restore leaves the weights and save the older record. */
static void storage_may_fail_at_any_call(void)
{
    for (int small = 0; small < 2; small++) {
        ep_t ep;
        long good = 0;
        net_head(&m, &ep_mse);
        if (!small) m.model.scratch_bytes = 112; /* room to read a record before it counts */
        void *arena = net_start(&ep, &m, 1, EP_FOR_RESTORE, NULL);
        for (long calls = 0; good < 3; calls++) {
            ep_storage storage = saved(&ep);
            set_all(&ep, 2);
            CHECK_RC(ep_save(&ep, &storage), EP_OK);
            set_all(&ep, 99);
            f.calls = calls;
            int rc = ep_restore(&ep, &storage);
            good = rc == EP_OK ? good + 1 : 0;
            /* Without room, a record that can be read once but not twice leaves the weights as exported. */
            CHECK(rc == EP_OK ? which(&ep) == 2 || which(&ep) == 1 : rc == EP_ERR_IO);
            CHECK(rc == EP_OK || which(&ep) == 99 ||
                  (small && memcmp(ep_params(&ep, NULL), m.tensors[1].data, 24 * 4) == 0));
            f.calls = calls;
            set_all(&ep, 3);
            rc = ep_save(&ep, &storage);
            CHECK(rc == EP_OK || rc == EP_ERR_IO);
            f.calls = -1;
            CHECK_RC(ep_restore(&ep, &storage), EP_OK);
            CHECK(rc == EP_OK ? which(&ep) == 3 : which(&ep) == 2 || which(&ep) == 3 || which(&ep) == 1);
        }
        free(arena);
    }
}

/* A read that fails once, as behind a power cut or a busy bus, hides no older record that later passes for the newest. */
static void a_read_may_fail_once(void)
{
    for (int records = 1; records <= 2; records++) {
        for (long deaf = 0; deaf < 12; deaf++) {
            ep_t ep;
            void *arena = start(&ep);
            ep_storage storage = saved(&ep);
            if (records == 2) CHECK_RC(ep_save(&ep, &storage), EP_OK);
            set_all(&ep, 3);
            f.deaf = deaf;
            const int rc = ep_save(&ep, &storage);
            f.deaf = -1;
            CHECK(rc == EP_OK || rc == EP_ERR_IO);
            CHECK_RC(ep_restore(&ep, &storage), EP_OK);
            CHECK(which(&ep) == 3 || (rc != EP_OK && which(&ep) == 1));
            free(arena);
        }
    }
}

/* An erase or a write that reports an error is one, whatever it left, and nothing more is written behind it. */
static void what_a_callback_reports_is_believed(void)
{
    for (uint32_t unit = 1; unit <= 64; unit *= 2) {
        long failing = 0;
        for (;; failing++) {
            ep_t ep;
            void *arena = start(&ep);
            ep_storage storage = blank(unit);
            int rc;
            set_all(&ep, 3);
            f.sick = failing;
            rc = ep_save(&ep, &storage);
            free(arena);
            if (f.refused == 0) {
                CHECK_RC(rc, EP_OK);
                break;
            }
            CHECK_RC(rc, EP_ERR_IO);
            CHECK(f.refused == 1);
        }
        CHECK(failing >= 2 && failing <= 5);
    }
}

/* A record so small that with units of 64 bytes the header's is its only one. */
static void small_records_fit_one_unit(void)
{
    ep_t ep;
    uint16_t x, y;
    net_begin(&m, "small");
    x = net_activation(&m, EP_F32, 2);
    y = net_dense(&m, x, 2, EP_PARAM, -INFINITY);
    net_end(&m, x, y);
    void *arena = net_start(&ep, &m, 1, EP_FOR_RESTORE, NULL);
    for (uint32_t unit = 1; unit <= 64; unit *= 2) {
        ep_storage storage = blank(unit);
        set_all(&ep, 5);
        CHECK_RC(ep_save(&ep, &storage), EP_OK);
        set_all(&ep, 99);
        CHECK_RC(ep_restore(&ep, &storage), EP_OK);
        CHECK(which(&ep) == 5 && f.last_written == 0);
    }
    free(arena);
}

/* Gives the record whole once; the second time half of it, and fails (1), or other bytes, and does not say so (2). */
static int fickle, times_read;

static int fickle_read(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    const int rc = flash_read(user, offset, buffer, size);
    if (size < 112 || fickle == 0) return rc;
    times_read++;
    memset((uint8_t *)buffer + size / 2, 0, size / 2);
    return fickle == 1 ? -7 : 0;
}

static void a_record_that_changes_while_read_is_refused(void)
{
    for (int small = 0; small < 2; small++) {
        for (fickle = 1; fickle <= 2; fickle++) {
            ep_t ep;
            net_head(&m, &ep_mse);
            if (!small) m.model.scratch_bytes = 112;
            void *arena = net_start(&ep, &m, 1, EP_FOR_RESTORE, NULL);
            ep_storage storage = blank(1);
            storage.read = fickle_read;
            set_all(&ep, 1);
            CHECK_RC(ep_save(&ep, &storage), EP_OK);
            set_all(&ep, 99);
            CHECK_RC(ep_restore(&ep, &storage), EP_ERR_IO);
            CHECK(times_read > 0);
            if (small) { /* no room beside the weights: as exported */
                CHECK(memcmp(ep_params(&ep, NULL), m.tensors[1].data, 24 * 4) == 0);
                CHECK(memcmp(ep_params(&ep, NULL) + 24, m.tensors[2].data, 4 * 4) == 0);
            } else {
                CHECK(which(&ep) == 99);
            }
            free(arena);
        }
    }
    fickle = 0;
}

static int lying_write(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    const int rc = flash_write(user, offset, buffer, size);
    if (offset % SLOT == 32) f.bytes[offset + 5] ^= 4;
    return rc;
}

static void what_was_written_is_read_back(void)
{
    ep_t ep;
    void *arena = start(&ep);
    ep_storage storage = blank(1);
    storage.write = lying_write;
    CHECK_RC(ep_save(&ep, &storage), EP_ERR_IO);
    free(arena);
}

static void bad_storage_is_refused(void)
{
    ep_t ep;
    void *arena = start(&ep);
    ep_storage storage = blank(1), s = storage;
    CHECK_RC(ep_save(NULL, &storage), EP_ERR_ARG);
    CHECK_RC(ep_save(&ep, NULL), EP_ERR_ARG);
    CHECK_RC(ep_restore(&ep, NULL), EP_ERR_ARG);
    s.slot_size = 143;
    CHECK_RC(ep_save(&ep, &s), EP_ERR_ARG);
    CHECK_RC(ep_restore(&ep, &s), EP_ERR_ARG);
    s = storage, s.write_size = 5;
    CHECK_RC(ep_save(&ep, &s), EP_ERR_ARG);
    s = storage, s.write_size = 64, s.slot_size = 200;
    CHECK_RC(ep_save(&ep, &s), EP_ERR_ARG);
    s = storage, s.slot_size = 0x80000000u;
    CHECK_RC(ep_save(&ep, &s), EP_ERR_ARG);
    s = storage, s.read = NULL;
    CHECK_RC(ep_restore(&ep, &s), EP_ERR_ARG);
    s = storage, s.write = NULL;
    CHECK_RC(ep_save(&ep, &s), EP_ERR_ARG);
    s = storage, s.erase = NULL;
    CHECK_RC(ep_save(&ep, &s), EP_ERR_ARG);
    free(arena);
    arena = net_start(&ep, &m, 1, 0, NULL);
    CHECK_RC(ep_save(&ep, &storage), EP_ERR_ARG);
    CHECK_RC(ep_restore(&ep, &storage), EP_ERR_ARENA);
    free(arena);
}

/* Velocity learned on the old weights must not push the new ones. */
static void restoring_starts_the_optimizer_afresh(void)
{
    const ep_step step = {.lr = 0.1f, .optimizer = &ep_momentum};
    const float x[6] = {1, 2, 3, 4, 5, 6}, t[4] = {1, 2, 3, 4};
    float once[28];
    ep_t ep;
    net_head(&m, &ep_mse);
    void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, &ep_momentum);
    ep_storage storage = blank(1);
    CHECK_RC(ep_save(&ep, &storage), EP_OK);
    CHECK_RC(ep_learn(&ep, x, t, &step, NULL), EP_OK);
    memcpy(once, ep_params(&ep, NULL), sizeof once);
    CHECK_RC(ep_learn(&ep, x, t, &step, NULL), EP_OK);
    CHECK_RC(ep_accumulate(&ep, x, t, 1, NULL), EP_OK);
    CHECK_RC(ep_restore(&ep, &storage), EP_OK);
    CHECK_RC(ep_apply(&ep, &step), EP_ERR_ARG);
    CHECK_RC(ep_learn(&ep, x, t, &step, NULL), EP_OK);
    CHECK(memcmp(once, ep_params(&ep, NULL), sizeof once) == 0);
    free(arena);
}

/* The stream that went before the power cut is gone, and so is the one that is on when a head is brought back: with room
 * for a record among the activations, and without. */
static void restoring_begins_the_stream_anew(void)
{
    for (uint32_t batch = 1; batch <= 40; batch = batch == 1 ? 2 : batch * 20) {
        uint16_t states[2];
        float x[4 * 40], first[3 * 40], later[3 * 40], again[3 * 40];
        const float *state;
        ep_t ep;
        net_stream(&m, &ep_mse, states);
        fill_random(x, sizeof x / sizeof x[0]);
        void *arena = net_start(&ep, &m, batch, EP_FOR_RESTORE, NULL);
        ep_storage storage = blank(1);
        CHECK_RC(ep_save(&ep, &storage), EP_OK);
        CHECK_RC(ep_infer_batch(&ep, x, first, batch), EP_OK);
        CHECK_RC(ep_infer_batch(&ep, x, later, batch), EP_OK);
        CHECK(memcmp(first, later, 12 * batch) != 0);
        CHECK_RC(ep_restore(&ep, &storage), EP_OK);
        state = ep_tensor_ptr(&ep, states[0]);
        for (uint32_t i = 0; i < 4 * batch; i++) CHECK(state[i] == 0);
        CHECK_RC(ep_infer_batch(&ep, x, again, batch), EP_OK);
        CHECK(memcmp(first, again, 12 * batch) == 0);
        storage.read = fickle_read, fickle = 1; /* fails when a record has come through where the state lies */
        CHECK_RC(ep_restore(&ep, &storage), EP_ERR_IO);
        fickle = 0;
        for (uint32_t i = 0; i < 4 * batch; i++) CHECK(state[i] == 0);
        CHECK_RC(ep_restore(&ep, &storage), EP_OK);
        CHECK_RC(ep_infer_batch(&ep, x, again, batch), EP_OK);
        CHECK(memcmp(first, again, 12 * batch) == 0);
        free(arena);
    }
}

int main(void)
{
    a_record_has_the_bytes_of_the_format();
    saves_take_turns_and_the_newest_wins();
    sequence_numbers_wrap();
    power_may_fail_at_any_byte();
    a_flipped_bit_is_seen();
    valid_records_of_nonsense_are_refused();
    records_of_other_models_are_told_apart();
    storage_may_fail_at_any_call();
    a_read_may_fail_once();
    what_a_callback_reports_is_believed();
    small_records_fit_one_unit();
    a_record_that_changes_while_read_is_refused();
    what_was_written_is_read_back();
    bad_storage_is_refused();
    restoring_starts_the_optimizer_afresh();
    restoring_begins_the_stream_anew();
    return failures != 0;
}
