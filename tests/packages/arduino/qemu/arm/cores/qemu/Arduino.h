// As much of Arduino as a sketch needs that prints: a stand-in for tests.
#ifndef ARDUINO_H
#define ARDUINO_H

#include <math.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

void setup();
void loop();
unsigned long millis();

class Console {
  public:
    void begin(unsigned long)
    {
    }
    explicit operator bool() const
    {
        return true;
    }
    void print(const char *text);
    void print(long value);
    void print(double value, int digits = 2);
    template <class T> void println(T value)
    {
        print(value), print("\n");
    }
    void println(double value, int digits)
    {
        print(value, digits), print("\n");
    }
};

extern Console Serial;

#endif
