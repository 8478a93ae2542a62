/* What __builtin_cpu_supports() says, for zig, whose library has but a stub of it that says no to everything: a wheel
 * compiled with that would run its portable kernels on every PC. Included before all else when zig compiles for x86-64. */
#ifndef EDGEPROP_WHEELS_X86_H
#define EDGEPROP_WHEELS_X86_H

#include <cpuid.h>
#include <string.h>

/* Registers that the system must save for an instruction set to be of use: bits of XCR0. */
enum { X86_NONE = 0, X86_YMM = 0x06, X86_ZMM = 0xE6 };
enum { X86_EAX, X86_EBX, X86_ECX, X86_EDX };

static const struct x86_feature {
    const char *name;
    unsigned leaf, subleaf, word, bit, saved;
} x86_features[] = {
    {"sse4.1", 1, 0, X86_ECX, 19, X86_NONE},    {"avx", 1, 0, X86_ECX, 28, X86_YMM},
    {"fma", 1, 0, X86_ECX, 12, X86_YMM},        {"f16c", 1, 0, X86_ECX, 29, X86_YMM},
    {"avx2", 7, 0, X86_EBX, 5, X86_YMM},        {"avxvnni", 7, 1, X86_EAX, 4, X86_YMM},
    {"avx512f", 7, 0, X86_EBX, 16, X86_ZMM},    {"avx512dq", 7, 0, X86_EBX, 17, X86_ZMM},
    {"avx512bw", 7, 0, X86_EBX, 30, X86_ZMM},   {"avx512vl", 7, 0, X86_EBX, 31, X86_ZMM},
    {"avx512vnni", 7, 0, X86_ECX, 11, X86_ZMM}, {"avx512vbmi", 7, 0, X86_ECX, 1, X86_ZMM},
    {"avx512vbmi2", 7, 0, X86_ECX, 6, X86_ZMM},
};

static inline unsigned x86_saved(void)
{
    unsigned a, b, c, d, low, high;
    if (!__get_cpuid(1, &a, &b, &c, &d) || !(c >> 27 & 1)) {
        return 0;
    }
    __asm__ volatile("xgetbv" : "=a"(low), "=d"(high) : "c"(0));
    return low;
}

static inline int x86_supports(const char *name)
{
    for (unsigned i = 0; i < sizeof x86_features / sizeof *x86_features; i++) {
        const struct x86_feature *f = &x86_features[i];
        unsigned word[4];
        if (strcmp(f->name, name) == 0) {
            return __get_cpuid_count(f->leaf, f->subleaf, &word[0], &word[1], &word[2], &word[3]) &&
                   (word[f->word] >> f->bit & 1) && (x86_saved() & f->saved) == f->saved;
        }
    }
    return 0;
}

#define __builtin_cpu_supports(name) x86_supports(name)

#endif
