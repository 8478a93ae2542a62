/* What a program without an operating system gets from start.c. */
#ifndef START_H
#define START_H

/* Resets the board: main() starts again, .data and .bss as at first, .noinit as it is. */
void reset(void) __attribute__((noreturn));

/* To the console. */
void print(const char *text);

/* Ends the emulator with this status. */
void leave(int status) __attribute__((noreturn));

#endif
