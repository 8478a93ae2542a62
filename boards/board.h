/* What a program may ask of the board it runs on: a Cortex-M in QEMU (start.c), or a system with stdio (hosted.c). */
#ifndef BOARD_H
#define BOARD_H

#include <stdint.h>

/* Writes a text to QEMU's, or the program's, standard output. */
void board_write(const char *text);

/* The same with a number as eight hexadecimal digits: to the bit, whatever type it was. */
void board_write_hex(uint32_t value);

/* Bytes of stack that were touched since start, or 0 where nobody knows. */
uint32_t board_stack_used(void);

/* Marks for those who count instructions: what runs between the two. They do nothing. */
void bench_begin(void);
void bench_end(void);

#endif
