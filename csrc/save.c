/* Keeping the trainable weights in two slots of flash. docs/format.md has the bytes. */
#include "internal.h"

#include <float.h>
#include <string.h>

#define HEADER 32u
#define UNIT 64u /* most bytes written or read at once; the largest write_size */

static const uint8_t magic[4] = {'E', 'P', 'H', '1'};

static uint32_t load_u32(const uint8_t *p)
{
    return (uint32_t)p[0] | (uint32_t)p[1] << 8 | (uint32_t)p[2] << 16 | (uint32_t)p[3] << 24;
}

static void store_u32(uint8_t *p, uint32_t v)
{
    for (unsigned i = 0; i < 4; i++) {
        p[i] = (uint8_t)(v >> 8 * i);
    }
}

static uint32_t write_size(const ep_storage *storage)
{
    return storage->write_size ? storage->write_size : 1u;
}

uint32_t ep_record_size(const ep_model *model, uint32_t unit)
{
    if (!model) {
        return 0;
    }
    unit = unit ? unit : 1u;
    return (HEADER + model->param_bytes + unit - 1u) / unit * unit;
}

static int valid_storage(const ep_t *ep, const ep_storage *storage)
{
    if (!ep || !ep->model || !storage || !storage->read || !storage->write || !storage->erase) {
        return 0;
    }
    const uint32_t unit = write_size(storage);
    return unit <= UNIT && (unit & (unit - 1u)) == 0 && ep->model->param_bytes != 0 &&
           storage->slot_size >= ep_record_size(ep->model, unit) && storage->slot_size % unit == 0;
}

/* What a look at a slot finds. */
enum found { NOTHING, FOREIGN, VALID };

/* Checks that `bytes` of weights follow a header and fit its checksum and are finite. 1, 0, or an error. */
static int check_weights(const ep_storage *storage, uint32_t at, const uint8_t *header, uint32_t bytes)
{
    uint32_t crc = ep_crc32(0, header + 8, HEADER - 8u);
    int finite = 1;
    for (uint32_t done = 0, part; done < bytes; done += part) {
        float buffer[UNIT / 4u];
        part = bytes - done < UNIT ? bytes - done : UNIT;
        if (storage->read(storage->user, at + HEADER + done, buffer, part) < 0) {
            return EP_ERR_IO;
        }
        crc = ep_crc32(crc, buffer, part);
        finite &= ep_max_abs(buffer, part / 4u) <= FLT_MAX;
    }
    return finite && crc == load_u32(header + 4);
}

/* Looks at the record in a slot: an enum found, or an error. */
static int look(const ep_model *model, const ep_storage *storage, unsigned slot, uint32_t *sequence)
{
    const uint32_t at = slot * storage->slot_size;
    uint8_t header[HEADER];
    if (storage->read(storage->user, at, header, HEADER) < 0) {
        return EP_ERR_IO;
    }
    const uint32_t bytes = load_u32(header + 20);
    if (memcmp(header, magic, sizeof magic) != 0 || bytes % 4u != 0 || bytes > storage->slot_size - HEADER) {
        return NOTHING;
    }
    const int ours = load_u32(header + 12) == model->fingerprint[0] && load_u32(header + 16) == model->fingerprint[1] &&
                     bytes == model->param_bytes;
    const int rc = check_weights(storage, at, header, bytes);
    if (rc <= 0) {
        return rc < 0 ? rc : NOTHING;
    }
    *sequence = load_u32(header + 8);
    return ours ? VALID : FOREIGN;
}

/* The newest valid record: its slot, or -1 for none; `best` gets the most that was found. Negative `error` on failure. */
static int newest(const ep_model *model, const ep_storage *storage, uint32_t *sequence, int *best)
{
    int slot = -1;
    *best = NOTHING;
    for (unsigned i = 0; i < 2; i++) {
        uint32_t number = 0;
        const int found = look(model, storage, i, &number);
        if (found < 0) {
            *best = found;
            return -1;
        }
        if (found == VALID && (slot < 0 || (int32_t)(number - *sequence) > 0)) {
            slot = (int)i;
            *sequence = number;
        }
        *best = found > *best ? found : *best;
    }
    return slot;
}

/* Bytes at .. at+size-1 of a record: header, weights, then 0xFF. */
static void record_bytes(const ep_t *ep, const uint8_t *header, uint32_t at, uint8_t *to, uint32_t size)
{
    const uint8_t *weights = ep->arena + ep->params_at;
    for (uint32_t i = 0; i < size; i++, at++) {
        const uint32_t w = at - HEADER;
        to[i] = at < HEADER ? header[at] : w < ep->model->param_bytes ? weights[w] : 0xFFu;
    }
}

/* Writes (or compares, if `verify`) bytes from .. to-1 of the record. */
static int transfer(const ep_t *ep, const ep_storage *storage, uint32_t slot_at, const uint8_t *header, uint32_t from,
                    uint32_t to, int verify)
{
    for (uint32_t part; from < to; from += part) {
        uint8_t wanted[UNIT], found[UNIT];
        part = to - from < UNIT ? to - from : UNIT;
        record_bytes(ep, header, from, wanted, part);
        if (!verify) {
            if (storage->write(storage->user, slot_at + from, wanted, part) < 0) {
                return EP_ERR_IO;
            }
        } else if (storage->read(storage->user, slot_at + from, found, part) < 0 || memcmp(wanted, found, part) != 0) {
            return EP_ERR_IO;
        }
    }
    return EP_OK;
}

static void make_header(const ep_t *ep, uint32_t sequence, uint8_t *header)
{
    memset(header, 0, HEADER);
    memcpy(header, magic, sizeof magic);
    store_u32(header + 8, sequence);
    store_u32(header + 12, ep->model->fingerprint[0]);
    store_u32(header + 16, ep->model->fingerprint[1]);
    store_u32(header + 20, ep->model->param_bytes);
    const uint32_t crc = ep_crc32(0, header + 8, HEADER - 8u);
    store_u32(header + 4, ep_crc32(crc, ep->arena + ep->params_at, ep->model->param_bytes));
}

int ep_save(ep_t *ep, const ep_storage *storage)
{
    if (!valid_storage(ep, storage) || ep->params_at == EP_NONE) {
        return EP_ERR_ARG;
    }
    uint32_t sequence = 0;
    uint8_t header[HEADER];
    int best;
    const int current = newest(ep->model, storage, &sequence, &best);
    if (best < 0) {
        return best;
    }
    const uint32_t at = current == 0 ? storage->slot_size : 0;
    const uint32_t unit = write_size(storage), size = ep_record_size(ep->model, unit);
    const uint32_t head = HEADER > unit ? HEADER : unit; /* what is written last, and makes the record valid */
    make_header(ep, sequence + 1u, header);
    int rc = storage->erase(storage->user, at, storage->slot_size) < 0 ? EP_ERR_IO : EP_OK;
    if (rc == EP_OK) {
        rc = transfer(ep, storage, at, header, head, size, 0);
    }
    if (rc == EP_OK) {
        rc = transfer(ep, storage, at, header, 0, head, 0);
    }
    return rc == EP_OK ? transfer(ep, storage, at, header, 0, size, 1) : rc;
}

int ep_restore(ep_t *ep, const ep_storage *storage)
{
    if (!valid_storage(ep, storage)) {
        return EP_ERR_ARG;
    }
    if (ep->params_at == EP_NONE) {
        return EP_ERR_ARENA;
    }
    uint32_t sequence = 0;
    int best;
    const int slot = newest(ep->model, storage, &sequence, &best);
    if (slot < 0) {
        return best < 0 ? best : best == FOREIGN ? EP_ERR_FOREIGN : EP_ERR_NO_RECORD;
    }
    const uint32_t at = (uint32_t)slot * storage->slot_size + HEADER;
    if (storage->read(storage->user, at, ep->arena + ep->params_at, ep->model->param_bytes) < 0) {
        return EP_ERR_IO;
    }
    ep_params_changed(ep);
    return EP_OK;
}
