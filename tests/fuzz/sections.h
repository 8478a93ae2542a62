/* Where the sections of an image lie (docs/format.md), and what makes a changed one whole again. */
#ifndef SECTIONS_H
#define SECTIONS_H

#include "fuzz.h"

enum { IMAGE_HEADER = 96, TENSOR_ROW = 24, NODE_ROW = 20, IMAGE_MOST = 1 << 16 };

/* Numbers of rows, and places in bytes. */
typedef struct sections {
    uint32_t tensors, nodes, io, words, data, learns;
    uint64_t tensors_at, nodes_at, io_at, words_at, train_at, data_at, end;
} sections;

static inline uint64_t behind(uint64_t at, uint64_t bytes)
{
    return at + ep_align_up(bytes);
}

/* 0 if the header's numbers do not fit into `size` bytes. */
static inline int find_sections(const uint8_t *image, size_t size, sections *s)
{
    if (size < IMAGE_HEADER) return 0;
    s->tensors = get_u32(image + 24), s->nodes = get_u32(image + 28), s->io = get_u32(image + 32);
    s->words = get_u32(image + 36), s->data = get_u32(image + 60), s->learns = get_u32(image + 64) != 0;
    s->tensors_at = IMAGE_HEADER;
    s->nodes_at = behind(s->tensors_at, (uint64_t)s->tensors * TENSOR_ROW);
    s->io_at = behind(s->nodes_at, (uint64_t)s->nodes * NODE_ROW);
    s->words_at = behind(s->io_at, (uint64_t)s->io * 2);
    s->train_at = behind(s->words_at, (uint64_t)s->words * 4);
    s->data_at = behind(s->train_at, s->learns ? (uint64_t)s->tensors * 8 : 0);
    s->end = s->data_at + s->data;
    return s->end <= size;
}

/* Magic, versions, size and checksum as they must be: nothing behind them is reached without. A size within the image is
 * left, so that images in larger memory are seen too. */
static inline void seal_image(uint8_t *image, size_t size)
{
    uint32_t bytes;
    if (size < IMAGE_HEADER) return;
    bytes = get_u32(image + 8);
    if (bytes < IMAGE_HEADER || bytes > size) bytes = (uint32_t)size;
    memcpy(image, "EPM1", 4);
    put_u32(image + 4, 1u | (uint32_t)EP_ABI << 16);
    put_u32(image + 8, bytes);
    put_u32(image + 12, ep_crc32(0, image + 16, bytes - 16));
}

#endif
