/* board.h on QEMU's Cortex-M boards, from reset to exit: output and exit status go to QEMU by
 * semihosting. The stack is painted at reset, so that its depth can be read afterwards. */
#include "board.h"

#include <stddef.h>

/* Laid down by board.ld. */
extern uint32_t data_image[], data_begin[], data_end[], bss_begin[], bss_end[], stack_limit[], stack_end[];

int main(void);
void reset(void);

/* ---- Semihosting ------------------------------------------------------------------------------------------------- */

enum { SYS_OPEN = 0x01, SYS_WRITE = 0x05, SYS_EXIT_EXTENDED = 0x20, EXITED = 0x20026 };

static uint32_t semihost(uint32_t operation, const uint32_t *arguments)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const uint32_t *r1 __asm__("r1") = arguments;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(uint32_t status)
{
    const uint32_t arguments[2] = {EXITED, status};
    for (;;) semihost(SYS_EXIT_EXTENDED, arguments);
}

static void print(const char *text, uint32_t length)
{
    static uint32_t console; /* ":tt" for writing is QEMU's standard output; SYS_WRITE0 would go to its errors */
    if (console == 0) {
        const uint32_t open[3] = {(uint32_t) ":tt", 4, 3};
        console = semihost(SYS_OPEN, open);
    }
    const uint32_t arguments[3] = {console, (uint32_t)text, length};
    semihost(SYS_WRITE, arguments);
}

void board_write(const char *text)
{
    uint32_t length = 0;
    while (text[length] != 0) length++;
    print(text, length);
}

void board_write_hex(uint32_t value)
{
    char text[9];
    for (int i = 0; i < 8; i++) text[i] = "0123456789abcdef"[value >> (28 - 4 * i) & 15];
    text[8] = 0;
    board_write(text);
}

/* ---- What newlib's printf() asks of a system; the linker drops it where nobody prints ------------------------------ */

int _write(int file, const char *text, int length);
int _read(int file, char *text, int length);
int _lseek(int file, int offset, int from);
int _close(int file);
int _fstat(int file, void *status);
int _isatty(int file);
void *_sbrk(ptrdiff_t more);
void _exit(int status);

int _write(int file, const char *text, int length)
{
    (void)file;
    print(text, (uint32_t)length);
    return length;
}

int _read(int file, char *text, int length)
{
    (void)file, (void)text, (void)length;
    return 0;
}

int _lseek(int file, int offset, int from)
{
    (void)file, (void)offset, (void)from;
    return -1;
}

int _close(int file)
{
    (void)file;
    return -1;
}

int _fstat(int file, void *status)
{
    (void)file, (void)status;
    return -1;
}

int _isatty(int file)
{
    (void)file;
    return 1;
}

/* For the buffers of stdio. */
void *_sbrk(ptrdiff_t more)
{
    static uint64_t heap[512];
    static size_t used;
    if (used + (size_t)more > sizeof heap) return (void *)-1;
    used += (size_t)more;
    return (char *)heap + used - more;
}

void _exit(int status)
{
    leave((uint32_t)status);
}

/* ---- The stack, and marks ---------------------------------------------------------------------------------------- */

#define PAINT 0xA5A5A5A5u

uint32_t board_stack_used(void)
{
    const uint32_t *deepest = stack_limit;
    while (deepest < stack_end && *deepest == PAINT) deepest++;
    return (uint32_t)(stack_end - deepest) * 4;
}

void bench_begin(void)
{
}

void bench_end(void)
{
}

/* ---- From reset to main ------------------------------------------------------------------------------------------ */

__attribute__((used)) static void start(void)
{
    for (uint32_t *from = data_image, *to = data_begin; to < data_end;) *to++ = *from++;
    for (uint32_t *to = bss_begin; to < bss_end;) *to++ = 0;
    leave((uint32_t)main());
}

/* Opens the FPU (CPACR, which does not mind where there is none), and paints the stack that nobody uses yet. */
__attribute__((naked)) void reset(void)
{
    __asm__ volatile(".syntax unified\n"
                     "ldr r0, =0xE000ED88\n ldr r1, [r0]\n ldr r2, =0x00F00000\n orrs r1, r2\n str r1, [r0]\n"
                     "dsb\n isb\n"
                     "ldr r0, =stack_limit\n mov r1, sp\n ldr r2, =0xA5A5A5A5\n"
                     "1: cmp r0, r1\n bhs 2f\n str r2, [r0]\n adds r0, #4\n b 1b\n"
                     "2: bl start\n");
}

static void fault(void)
{
    board_write("fault\n");
    leave(99);
}

__attribute__((section(".vectors"), used)) static const struct {
    uint32_t *stack;
    void (*handlers[15])(void);
} vectors = {stack_end,
             {reset, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault, fault}};
