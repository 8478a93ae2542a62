/* board.h where there is an operating system. */
#include "board.h"

#include <stdio.h>

void board_write(const char *text)
{
    fputs(text, stdout);
}

void board_write_hex(uint32_t value)
{
    printf("%08lx", (unsigned long)value);
}

uint32_t board_stack_used(void)
{
    return 0;
}

void bench_begin(void)
{
}

void bench_end(void)
{
}
