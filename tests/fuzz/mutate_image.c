/* Changes an image where its format has structure, and seals it again: what libFuzzer alone would need a checksum's luck
 * for. */
#include "sections.h"

size_t LLVMFuzzerMutate(uint8_t *data, size_t size, size_t most);
size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed);
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out,
                                 size_t most, unsigned seed);

/* A number that is likely to be near some border: of types, of the format, of shapes, of floats. */
static uint32_t border(void)
{
    static const uint32_t values[] = {
        0,          1,          2,          3,          4,          5,          7,          8,
        16,         32,         48,         64,         127,        128,        255,        256,
        0x7FFF,     0xFFFF,     0x10000,    0x3FFF,     0x7FFFFFFF, 0x80000000, 0xFFFFFFFF, 0xFFFFFFF0,
        0x40000000, 0x0FFFFFFF, 0x10000000, 0x00010001, 46341,      0x7FC00000, 0x7F800000, 0xFF800000,
        0x3F800000, 0xBF800000, 0x7F7FFFFF, 0x00000001, 0x4B800000, 0x4F000000};
    switch (draw(4)) {
    case 0: return 16 * draw(64);
    case 1: return (1u << draw(32)) + draw(3) - 1; /* where products wrap */
    default: return values[draw(sizeof values / sizeof *values)];
    }
}

/* What stands there now, changed a little; or a border; or what the same field of another row has. */
static void change_word(uint8_t *at, const uint8_t *other)
{
    const uint32_t now = get_u32(at);
    switch (draw(6)) {
    case 0: put_u32(at, border()); break;
    case 1: put_u32(at, now + draw(3) - 1); break;
    case 2: put_u32(at, now + 16 * (draw(9) - 4)); break;
    case 3: put_u32(at, draw(2) ? now * 2 : now / 2); break;
    case 4: put_u32(at, now ^ 1u << draw(32)); break;
    default: put_u32(at, get_u32(other)); break;
    }
}

static void change_header(uint8_t *image, const sections *s)
{
    (void)s;
    if (draw(3) == 0) { /* training's nodes and logits */
        image[76 + draw(8)] = (uint8_t)draw(8);
    } else {
        change_word(image + 16 + 4 * draw(20), image + 24 + 4 * draw(18));
    }
}

/* Place, count, offset or scale; zero point, type or flags. */
static void change_tensor(uint8_t *image, const sections *s)
{
    uint8_t *rows = image + s->tensors_at, *row, *other;
    if (s->tensors == 0) return;
    row = rows + TENSOR_ROW * draw(s->tensors), other = rows + TENSOR_ROW * draw(s->tensors);
    if (draw(4) == 0) {
        row[16 + draw(4)] = (uint8_t)(draw(2) ? draw(8) : draw(256));
    } else {
        const uint32_t field = 4 * draw(4);
        change_word(row + field, other + field);
    }
}

/* Where an activation lies: nowhere, over another, a little beside it. */
static void move_tensor(uint8_t *image, const sections *s)
{
    uint8_t *rows = image + s->tensors_at;
    if (s->tensors == 0) return;
    uint8_t *row = rows + TENSOR_ROW * draw(s->tensors), *other = rows + TENSOR_ROW * draw(s->tensors);
    put_u32(row + 8, draw(3) == 0 ? EP_NONE : get_u32(other + 8) + (draw(3) == 0 ? 16 * draw(5) : 0));
}

/* One tensor becomes like another: its count, or all but its count. */
static void copy_tensor(uint8_t *image, const sections *s)
{
    uint8_t *rows = image + s->tensors_at;
    if (s->tensors == 0) return;
    uint8_t *row = rows + TENSOR_ROW * draw(s->tensors), *other = rows + TENSOR_ROW * draw(s->tensors);
    if (draw(2)) {
        memmove(row + 4, other + 4, 4);
    } else {
        memmove(row + 8, other + 8, 16);
    }
}

/* Op, arity, backward, accumulation; where its io and attributes begin. */
static void change_node(uint8_t *image, const sections *s)
{
    if (s->nodes == 0) return;
    uint8_t *row = image + s->nodes_at + NODE_ROW * draw(s->nodes);
    switch (draw(4)) {
    case 0: row[0] = (uint8_t)ep_all.ops[draw(ep_all.n_ops)].code; break;
    case 1: row[2 + draw(4)] = (uint8_t)draw(6); break;
    case 2: put_u32(row + 8, draw(s->io + 2)); break;
    default: put_u32(row + 12, draw(s->words + 2)); break;
    }
}

/* Two nodes change places, or one is there twice. */
static void move_node(uint8_t *image, const sections *s)
{
    uint8_t row[NODE_ROW];
    if (s->nodes == 0) return;
    uint8_t *a = image + s->nodes_at + NODE_ROW * draw(s->nodes), *b = image + s->nodes_at + NODE_ROW * draw(s->nodes);
    memcpy(row, a, NODE_ROW);
    memmove(a, b, NODE_ROW);
    if (draw(2)) memcpy(b, row, NODE_ROW);
}

/* Another tensor for a node, a state, an input or an output. */
static void change_io(uint8_t *image, const sections *s)
{
    if (s->io == 0) return;
    uint8_t *entry = image + s->io_at + 2 * (draw(3) ? draw(s->io) : s->io - 1 - draw(s->io < 4 ? s->io : 4));
    const uint32_t index = draw(s->tensors + 1);
    entry[0] = (uint8_t)index, entry[1] = (uint8_t)(index >> 8);
}

/* One word, or some of one node's: what is bounded one by one may still be too large together. */
static void change_attributes(uint8_t *image, const sections *s)
{
    if (s->nodes == 0 || s->words == 0) return;
    const uint8_t *row = image + s->nodes_at + NODE_ROW * draw(s->nodes);
    const uint32_t first = get_u32(row + 12) % s->words, own = row[6] != 0 ? row[6] : 1;
    for (uint32_t i = draw(4) ? 1 : 1 + draw(3); i > 0; i--) {
        uint8_t *word = image + s->words_at + 4 * ((first + draw(own)) % s->words);
        if (draw(2)) {
            put_u32(word, border());
        } else {
            change_word(word, image + s->words_at + 4 * draw(s->words));
        }
    }
}

/* The model's output is another value, and what was the output has no place any more, in both plans or in one. */
static void orphan_output(uint8_t *image, const sections *s)
{
    const uint32_t outputs = get_u32(image + 44);
    if (outputs == 0 || outputs > s->io || s->tensors == 0) return;
    uint8_t *entry = image + s->io_at + 2 * (s->io - 1 - draw(outputs));
    const uint32_t was = (entry[0] | (uint32_t)entry[1] << 8) % s->tensors, now = draw(s->tensors), which = 1 + draw(3);
    entry[0] = (uint8_t)now, entry[1] = (uint8_t)(now >> 8);
    if (which & 1) put_u32(image + s->tensors_at + TENSOR_ROW * was + 8, EP_NONE);
    if ((which & 2) && s->learns) put_u32(image + s->train_at + 4 * was, EP_NONE);
}

static void change_plan(uint8_t *image, const sections *s)
{
    uint8_t *places = image + s->train_at;
    const uint32_t n = 2 * s->tensors;
    if (!s->learns || n == 0) return;
    uint8_t *place = places + 4 * draw(n);
    if (draw(3) == 0) {
        put_u32(place, EP_NONE);
    } else {
        change_word(place, places + 4 * draw(n));
    }
}

static void change_data(uint8_t *image, const sections *s)
{
    if (s->data < 4) return;
    uint8_t *at = image + s->data_at + draw(s->data - 3);
    if (draw(2)) {
        *at ^= (uint8_t)(1u << draw(8));
    } else {
        put_u32(at, border());
    }
}

static void change_somewhere(uint8_t *image, const sections *s)
{
    static void (*const changes[])(uint8_t *, const sections *) = {
        change_header,     change_tensor,     change_tensor, move_tensor,   copy_tensor,
        change_node,       move_node,         change_io,     change_io,     change_attributes,
        change_attributes, change_attributes, change_plan,   orphan_output, change_data};
    changes[draw(sizeof changes / sizeof *changes)](image, s);
}

/* Without its last node, whose first input becomes the model's output: codes come out, values lose their reader. Returns
 * the new size. */
static size_t drop_node(uint8_t *image, size_t size, const sections *s)
{
    if (s->nodes < 2 || s->io == 0) return size;
    const uint8_t *row = image + s->nodes_at + NODE_ROW * (s->nodes - 1);
    const uint8_t *input = image + s->io_at + 2 * (get_u32(row + 8) % s->io);
    const size_t shift = s->io_at - behind(s->nodes_at, (uint64_t)(s->nodes - 1) * NODE_ROW);
    memmove(image + s->io_at + 2 * (s->io - 1), input, 2);
    memmove(image + s->io_at - shift, image + s->io_at, size - s->io_at);
    put_u32(image + 28, s->nodes - 1);
    put_u32(image + 8, (uint32_t)(size - shift));
    return size - shift;
}

size_t LLVMFuzzerCustomMutator(uint8_t *data, size_t size, size_t most, unsigned seed)
{
    sections s;
    FUZZ_KNOWN(data, most);
    fuzz_state = seed;
    draw(2);
    if (draw(12) == 0 || !find_sections(data, size, &s)) {
        size = LLVMFuzzerMutate(data, size, most);
    } else if (draw(24) == 0) {
        size = drop_node(data, size, &s);
    } else {
        for (uint32_t i = draw(3) ? 1 : 1 + draw(4); i > 0; i--) {
            if (find_sections(data, size, &s)) change_somewhere(data, &s);
        }
    }
    FUZZ_KNOWN(data, most);
    seal_image(data, size);
    return size;
}

/* A piece of another image at the same place, a multiple of 4. */
size_t LLVMFuzzerCustomCrossOver(const uint8_t *a, size_t a_size, const uint8_t *b, size_t b_size, uint8_t *out,
                                 size_t most, unsigned seed)
{
    const size_t size = a_size < most ? a_size : most, both = size < b_size ? size : b_size;
    fuzz_state = seed;
    draw(2);
    FUZZ_KNOWN(out, most), FUZZ_KNOWN(a, a_size), FUZZ_KNOWN(b, b_size);
    memcpy(out, a, size);
    if (both >= IMAGE_HEADER) {
        const size_t from = 16 + draw((uint32_t)(both - 16) / 4) * 4, wanted = 4 + 4 * draw(16);
        memcpy(out + from, b + from, wanted < both - from ? wanted : both - from);
        seal_image(out, size);
    }
    return size;
}
