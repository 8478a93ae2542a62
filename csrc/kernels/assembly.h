/* Write functions in assembly, in C files. */
#ifndef EP_ASSEMBLY_H
#define EP_ASSEMBLY_H

/* The body is assembly to the last instruction; nothing is concluded from its not using its argument. */
#if defined(__has_attribute) && __has_attribute(noipa)
#define EP_ASSEMBLY __attribute__((naked, noipa))
#else
#define EP_ASSEMBLY __attribute__((naked, noinline, used))
#endif

#endif
