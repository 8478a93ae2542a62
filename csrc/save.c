/* Save and restore what was learned: records in two slots (docs/format.md). */
#include <float.h>
#include <string.h>

#include "internal.h"

enum { HEADER = 32, UNIT = 64 }; /* bytes; the largest write_size, and the buffer's size on the stack */

/* What a slot holds, in the order in which slots are written over. */
enum { INVALID, UNREADABLE, FOREIGN, OURS };

typedef struct slot {
    int state;
    uint32_t sequence, crc, size; /* of the record; size: of the weights in bytes */
} slot;

static void put_u32(uint8_t *to, uint32_t v)
{
    for (int i = 0; i < 4; i++) to[i] = (uint8_t)(v >> (8 * i));
}

static uint32_t get_u32(const uint8_t *from)
{
    return from[0] | (uint32_t)from[1] << 8 | (uint32_t)from[2] << 16 | (uint32_t)from[3] << 24;
}

static uint32_t unit_of(uint32_t write_size)
{
    return write_size == 0 ? 1 : write_size;
}

uint32_t ep_record_size(const ep_model *model, uint32_t write_size)
{
    const uint32_t unit = unit_of(write_size);
    if (model == NULL || unit > UNIT || (unit & (unit - 1)) != 0) return 0;
    if (model->param_bytes == 0 || model->param_bytes > 0x7FFFFFFFu) return 0;
    return (model->param_bytes + HEADER + unit - 1) & ~(unit - 1);
}

static int check_storage(const ep_t *ep, const ep_storage *storage)
{
    uint32_t need;
    if (ep == NULL || ep->model == NULL || storage == NULL || storage->read == NULL) return EP_ERR_ARG;
    need = ep_record_size(ep->model, storage->write_size);
    if (need == 0 || storage->slot_size < need || storage->slot_size > 0x7FFFFFFFu) return EP_ERR_ARG;
    return storage->slot_size % unit_of(storage->write_size) == 0 ? EP_OK : EP_ERR_ARG;
}

/* ---- Reading ----------------------------------------------------------------------------------------------------- */

/* Reads weights piece by piece, for their checksum; *finite is cleared if one is not. */
static int stream_weights(const ep_t *ep, const ep_storage *storage, uint32_t at, uint32_t size, uint32_t *crc,
                          int *finite)
{
    float buffer[UNIT / sizeof(float)];
    while (size != 0) {
        const uint32_t take = size < UNIT ? size : UNIT;
        if (storage->read(storage->user, at, buffer, take) != 0) return EP_ERR_IO;
        *crc = ep_crc32(*crc, buffer, take);
        if (!(EP_KERNEL(ep, max_abs_f32)(buffer, take / sizeof(float)) <= FLT_MAX)) *finite = 0;
        at += take;
        size -= take;
    }
    return EP_OK;
}

/* What slot `index` holds, every byte of its record read. */
static slot inspect(const ep_t *ep, const ep_storage *storage, uint32_t index)
{
    const ep_model *model = ep->model;
    const uint32_t at = index * storage->slot_size;
    uint8_t header[HEADER];
    uint32_t crc;
    int finite = 1, ours;
    slot found = {UNREADABLE, 0, 0, 0};
    if (storage->read(storage->user, at, header, HEADER) != 0) return found;
    found.state = INVALID;
    found.crc = get_u32(header + 4);
    found.sequence = get_u32(header + 8);
    found.size = get_u32(header + 20);
    if (memcmp(header, "EPH1", 4) != 0 || found.size > storage->slot_size - HEADER) return found;
    crc = ep_crc32(0, header + 8, HEADER - 8);
    if (stream_weights(ep, storage, at + HEADER, found.size, &crc, &finite) != EP_OK) {
        found.state = UNREADABLE;
        return found;
    }
    ours = get_u32(header + 12) == model->fingerprint[0] && get_u32(header + 16) == model->fingerprint[1] &&
           found.size == model->param_bytes;
    if (crc == found.crc && (finite || !ours)) found.state = ours ? OURS : FOREIGN;
    return found;
}

/* Sequence numbers may wrap, so what counts is the difference. */
static int newer(const slot *a, const slot *b)
{
    return a->state == OURS && (b->state != OURS || (int32_t)(a->sequence - b->sequence) > 0);
}

/* Reads the record's weights again, whole, and sees that they are what was inspected. */
static int read_weights(const ep_storage *storage, uint32_t index, const slot *record, float *to)
{
    const uint32_t at = index * storage->slot_size;
    uint8_t header[HEADER];
    uint32_t crc;
    if (storage->read(storage->user, at, header, HEADER) != 0) return EP_ERR_IO;
    if (storage->read(storage->user, at + HEADER, to, record->size) != 0) return EP_ERR_IO;
    crc = ep_crc32(ep_crc32(0, header + 8, HEADER - 8), to, record->size);
    return crc == record->crc ? EP_OK : EP_ERR_IO;
}

/* The record is inspected before, so reading it again can only fail if the storage does. For that case it goes through
 * the activations' memory if that is large enough; else, the old weights being gone, those exported are put back. */
int ep_restore(ep_t *ep, const ep_storage *storage)
{
    slot slots[2];
    uint32_t pick;
    int rc = check_storage(ep, storage), direct;
    if (rc != EP_OK) return rc;
    if (ep->params_at == EP_NONE) return EP_ERR_ARENA;
    for (uint32_t i = 0; i < 2; i++) slots[i] = inspect(ep, storage, i);
    pick = newer(&slots[1], &slots[0]) ? 1 : 0;
    if (slots[pick].state != OURS) {
        if (slots[0].state == UNREADABLE || slots[1].state == UNREADABLE) return EP_ERR_IO;
        return slots[0].state == FOREIGN || slots[1].state == FOREIGN ? EP_ERR_FOREIGN : EP_ERR_NO_RECORD;
    }
    direct = ep->tail_at - ep->acts_at < ep->model->param_bytes;
    rc =
        read_weights(storage, pick, &slots[pick], direct ? ep_weights(ep) : (float *)(void *)(ep->arena + ep->acts_at));
    if (rc != EP_OK) {
        if (direct) ep_reset(ep);
        ep_reset_state(ep);
        return rc;
    }
    if (!direct) memcpy(ep_weights(ep), ep->arena + ep->acts_at, ep->model->param_bytes);
    ep_reset_state(ep);
    ep_weights_replaced(ep);
    return EP_OK;
}

/* ---- Writing ----------------------------------------------------------------------------------------------------- */

static void make_header(uint8_t *header, const ep_model *model, uint32_t sequence, const float *weights)
{
    memset(header, 0, HEADER);
    memcpy(header, "EPH1", 4);
    put_u32(header + 8, sequence);
    put_u32(header + 12, model->fingerprint[0]);
    put_u32(header + 16, model->fingerprint[1]);
    put_u32(header + 20, model->param_bytes);
    put_u32(header + 4, ep_crc32(ep_crc32(0, header + 8, HEADER - 8), weights, model->param_bytes));
}

/* `size` bytes, the last unit of the storage filled up with 0xFF. */
static int write_padded(const ep_storage *storage, uint32_t at, const uint8_t *from, uint32_t size)
{
    const uint32_t unit = unit_of(storage->write_size), rest = size & (unit - 1), whole = size - rest;
    uint8_t last[UNIT];
    if (whole != 0 && storage->write(storage->user, at, from, whole) != 0) return EP_ERR_IO;
    if (rest == 0) return EP_OK;
    memset(last, 0xFF, sizeof last);
    memcpy(last, from + whole, rest);
    return storage->write(storage->user, at + whole, last, unit) == 0 ? EP_OK : EP_ERR_IO;
}

/* The unit with the header is written last: without it the rest is no record. */
static int write_record(const ep_t *ep, const ep_storage *storage, uint32_t at, uint32_t sequence)
{
    const uint8_t *weights = ep->arena + ep->params_at;
    const uint32_t size = ep->model->param_bytes;
    const uint32_t room = unit_of(storage->write_size) > HEADER ? unit_of(storage->write_size) - HEADER : 0;
    const uint32_t shared = room < size ? room : size; /* weights in the header's unit */
    uint8_t first[UNIT];
    make_header(first, ep->model, sequence, ep_weights(ep));
    memcpy(first + HEADER, weights, shared);
    if (storage->erase(storage->user, at, storage->slot_size) != 0) return EP_ERR_IO;
    if (write_padded(storage, at + HEADER + shared, weights + shared, size - shared) != EP_OK) return EP_ERR_IO;
    return write_padded(storage, at, first, HEADER + shared);
}

int ep_save(ep_t *ep, const ep_storage *storage)
{
    slot slots[2], written;
    uint32_t target, sequence = 1;
    int rc = check_storage(ep, storage);
    if (rc != EP_OK) return rc;
    if (storage->write == NULL || storage->erase == NULL || ep->params_at == EP_NONE) return EP_ERR_ARG;
    for (uint32_t i = 0; i < 2; i++) slots[i] = inspect(ep, storage, i);
    if (slots[0].state == UNREADABLE && slots[1].state == UNREADABLE) return EP_ERR_IO;
    if (slots[0].state == OURS && slots[1].state == OURS) {
        target = newer(&slots[1], &slots[0]) ? 0 : 1;
    } else {
        target = slots[1].state < slots[0].state ? 1 : 0;
    }
    if (slots[!target].state == OURS) sequence = slots[!target].sequence + 1;
    rc = write_record(ep, storage, target * storage->slot_size, sequence);
    if (rc != EP_OK) return rc;
    written = inspect(ep, storage, target);
    if (written.state != OURS || written.sequence != sequence) return EP_ERR_IO;
    /* What could not be read now may be read later, and be a record with a higher number. */
    if (slots[!target].state != UNREADABLE) return EP_OK;
    return storage->erase(storage->user, !target * storage->slot_size, storage->slot_size) == 0 ? EP_OK : EP_ERR_IO;
}
