"""The cross compiler, and what SCons builds with it."""

from SCons.Script import Default, DefaultEnvironment

env = DefaultEnvironment()
cpu = ["-mcpu=cortex-m4", "-mthumb", "-mfloat-abi=hard", "-mfpu=fpv4-sp-d16"]
env.Replace(
    AR="arm-none-eabi-ar",
    AS="arm-none-eabi-as",
    CC="arm-none-eabi-gcc",
    CXX="arm-none-eabi-g++",
    LINK="arm-none-eabi-gcc",
    RANLIB="arm-none-eabi-ranlib",
    PROGSUFFIX=".elf",
)
env.Append(
    CCFLAGS=[*cpu, "-Os", "-ffunction-sections", "-fdata-sections", "-nostdlib"],
    CFLAGS=["-std=gnu11"],
    CXXFLAGS=["-std=gnu++14", "-fno-threadsafe-statics", "-fno-rtti", "-fno-exceptions"],
    LINKFLAGS=[*cpu, "-Os", "-Wl,--gc-sections", "-nostartfiles", "--specs=nano.specs"],
    LIBS=["c", "m", "gcc"],
)
Default([env.BuildProgram()])
