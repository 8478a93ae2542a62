/* Start-up code of a Cortex-M4F under QEMU: vector table, memory, the FPU, and a console by semihosting. */
#include "start.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
int main(void);

enum { SYS_OPEN = 0x01, SYS_CLOSE = 0x02, SYS_WRITE = 0x05, SYS_EXIT_EXTENDED = 0x20, APPLICATION_EXIT = 0x20026 };
#define AIRCR (*(volatile uint32_t *)0xE000ED0Cu) /* application interrupt and reset control */
#define CPACR (*(volatile uint32_t *)0xE000ED88u) /* coprocessor access control */

static uint32_t semihost(uint32_t operation, const void *argument)
{
    register uint32_t r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

void leave(int status)
{
    const uint32_t block[2] = {APPLICATION_EXIT, (uint32_t)status};
    for (;;) {
        semihost(SYS_EXIT_EXTENDED, block);
    }
}

void reset(void)
{
    __asm__ volatile("dsb" ::: "memory");
    AIRCR = 0x05FA0004u; /* SYSRESETREQ */
    for (;;) {
        __asm__ volatile("dsb");
    }
}

/* The terminal is closed again, for a reset would not. */
void print(const char *text)
{
    static const char terminal[] = ":tt";
    const uint32_t open[3] = {(uint32_t)terminal, 4, sizeof terminal - 1};
    const uint32_t handle = semihost(SYS_OPEN, open);
    const uint32_t write[3] = {handle, (uint32_t)text, strlen(text)};
    semihost(SYS_WRITE, write);
    semihost(SYS_CLOSE, &handle);
}

/* newlib's snprintf asks for a heap, and does without. */
void *_sbrk(ptrdiff_t size);
void *_sbrk(ptrdiff_t size)
{
    (void)size;
    return (void *)-1;
}

void start(void);
void start(void)
{
    CPACR |= 0xFu << 20; /* the FPU, on */
    __asm__ volatile("dsb\nisb");
    memcpy(data_start, data_load, (size_t)((uint8_t *)data_end - (uint8_t *)data_start));
    memset(bss_start, 0, (size_t)((uint8_t *)bss_end - (uint8_t *)bss_start));
    leave(main());
}

static void fault(void)
{
    leave(99);
}

__attribute__((section(".vectors"), used)) static void (*const vectors[16])(void) = {
    (void (*)(void))stack_top, start, fault, fault, fault, fault, fault};
