/* test_kernels.c on a board without an operating system: its output goes where the board's does. */
#include "board.h"

#include <stddef.h>

int _write(int file, const char *text, int count);
void *_sbrk(ptrdiff_t count);

/* No memory to give out: printf() then does without. */
void *_sbrk(ptrdiff_t count)
{
    (void)count;
    return (void *)-1;
}

int _write(int file, const char *text, int count)
{
    (void)file;
    for (int i = 0; i < count; i++) {
        const char one[2] = {text[i], 0};
        board_write(one);
    }
    return count;
}

#include "test_kernels.c"
