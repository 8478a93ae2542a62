// Start-up code and the console of an emulated board: prints by semihosting, ends when loop() has run once.
#include "Arduino.h"

extern "C" {
extern uint32_t data_load[], data_start[], data_end[], bss_start[], bss_end[], stack_top[];
void reset();
void fault();
}

static int semihost(int operation, const void *argument)
{
    register int r0 __asm__("r0") = operation;
    register const void *r1 __asm__("r1") = argument;
    __asm__ volatile("bkpt 0xab" : "+r"(r0) : "r"(r1) : "memory");
    return r0;
}

static void leave(int status)
{
    const uint32_t block[2] = {0x20026, static_cast<uint32_t>(status)}; // ADP_Stopped_ApplicationExit
    for (;;) {
        semihost(0x20, block);
    }
}

Console Serial;

void Console::print(const char *text)
{
    static int terminal = -1;
    if (terminal < 0) {
        const uint32_t open[3] = {reinterpret_cast<uint32_t>(":tt"), 4, 3};
        terminal = semihost(0x01, open);
    }
    const uint32_t write[3] = {static_cast<uint32_t>(terminal), reinterpret_cast<uint32_t>(text), strlen(text)};
    semihost(0x05, write);
}

void Console::print(long value)
{
    char text[12];
    itoa(static_cast<int>(value), text, 10);
    print(text);
}

void Console::print(double value, int digits)
{
    const double unit = pow(10, digits), rounded = floor(value * unit + 0.5);
    char text[20];
    print(static_cast<long>(rounded / unit));
    print(".");
    itoa(static_cast<int>(unit + fmod(rounded, unit)), text, 10); // a one in front keeps the zeros
    print(text + 1);
}

unsigned long millis()
{
    return 10000;
}

void reset()
{
    *reinterpret_cast<volatile uint32_t *>(0xE000ED88) |= 0xFu << 20; // the FPU, on
    __asm__ volatile("dsb\nisb");
    memcpy(data_start, data_load, reinterpret_cast<char *>(data_end) - reinterpret_cast<char *>(data_start));
    memset(bss_start, 0, reinterpret_cast<char *>(bss_end) - reinterpret_cast<char *>(bss_start));
    setup();
    loop();
    leave(0);
}

void fault()
{
    leave(99);
}

extern "C" __attribute__((section(".vectors"), used))
const void *const vectors[16] = {stack_top,           (const void *)reset, (const void *)fault, (const void *)fault,
                                 (const void *)fault, (const void *)fault, (const void *)fault};
