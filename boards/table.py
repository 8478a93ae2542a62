"""The boards: one row each, with all that a build and a run need to know."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class Memory:
    """Where a microcontroller's program lies. Places and sizes as the linker reads them; the stack ends the RAM."""

    code: tuple[str, str]
    constants: tuple[str, str]
    ram: tuple[str, str]
    stack: str = "64K"


@dataclass(frozen=True)
class Board:
    """A board, or a CPU that many boards have.

    Attributes
    ----------
    what : for readers
    compiler, flags : gcc and what it must be told about the CPU
    emulator : QEMU's command; the program comes behind it
    packages : of Debian, that hold them
    memory : None on a board with Linux
    zig : flags of the compiler that `pip install ziglang` brings; () where it does not serve
    """

    name: str
    what: str
    compiler: str
    flags: tuple[str, ...]
    emulator: tuple[str, ...]
    packages: tuple[str, ...]
    memory: Memory | None = None
    zig: tuple[str, ...] = ()


_BARE = ("gcc-arm-none-eabi", "libnewlib-arm-none-eabi", "qemu-system-arm")
_ARMEL = ("gcc-arm-linux-gnueabi", "libc6-dev-armel-cross", "qemu-user")
_ARMHF = ("gcc-arm-linux-gnueabihf", "libc6-dev-armhf-cross", "qemu-user")
_ARM64 = ("gcc-aarch64-linux-gnu", "libc6-dev-arm64-cross", "qemu-user")
_RISCV = ("gcc-riscv64-linux-gnu", "libc6-dev-riscv64-cross", "qemu-user")

_MPS2 = Memory(code=("0x0", "1M"), constants=("0x100000", "3M"), ram=("0x20000000", "4M"))
_AN505 = Memory(code=("0x10000000", "1M"), constants=("0x10100000", "3M"), ram=("0x38000000", "4M"))
# The tightly coupled memories hold 512 KiB each, too little for float32 MobileNet: constants and RAM go to the SRAM.
_AN547 = Memory(code=("0x0", "512K"), constants=("0x21000000", "2M"), ram=("0x21200000", "2M"))
_MICROBIT = Memory(code=("0x0", "96K"), constants=("0x18000", "160K"), ram=("0x20000000", "16K"), stack="2K")


def _bare(name: str, what: str, cpu: str, machine: str, memory: Memory) -> Board:
    flags = ("-mthumb", *cpu.split())
    emulator = (
        *("qemu-system-arm", "-M", machine, "-nographic", "-monitor", "none", "-serial", "none"),
        *("-semihosting-config", "enable=on,target=native", "-kernel"),
    )
    return Board(name, what, "arm-none-eabi-gcc", flags, emulator, _BARE, memory)


def _linux(name: str, what: str, gcc: str, qemu: str, packages: tuple[str, ...], zig: str) -> Board:
    compiler, *flags = gcc.split()
    return Board(name, what, compiler, tuple(flags), tuple(qemu.split()), packages, None, ("-target", *zig.split()))


def _arm64(name: str, what: str) -> Board:
    gcc, zig = f"aarch64-linux-gnu-gcc -mcpu=cortex-{name}", f"aarch64-linux-musl -mcpu=cortex_{name}"
    return _linux(name, what, gcc, f"qemu-aarch64 -cpu cortex-{name}", _ARM64, zig)


_ROWS = (
    # QEMU's only M0 is the micro:bit's, which is small: v6-M code runs on the M3 board as well, and has room there.
    _bare("m0", "Cortex-M0+", "-mcpu=cortex-m0plus -mfloat-abi=soft", "mps2-an385", _MPS2),
    _bare("mb", "micro:bit", "-mcpu=cortex-m0 -mfloat-abi=soft", "microbit", _MICROBIT),
    _bare("m3", "Cortex-M3", "-mcpu=cortex-m3 -mfloat-abi=soft", "mps2-an385", _MPS2),
    _bare("m4f", "Cortex-M4F", "-mcpu=cortex-m4 -mfloat-abi=hard -mfpu=fpv4-sp-d16", "mps2-an386", _MPS2),
    _bare("m7", "Cortex-M7", "-mcpu=cortex-m7 -mfloat-abi=hard -mfpu=fpv5-d16", "mps2-an500", _MPS2),
    _bare("m33", "Cortex-M33", "-mcpu=cortex-m33 -mfloat-abi=hard -mfpu=fpv5-sp-d16", "mps2-an505", _AN505),
    _bare("m55", "Cortex-M55", "-mcpu=cortex-m55 -mfloat-abi=hard", "mps3-an547", _AN547),
    # Debian's armhf library is ARMv7 and dies on ARMv6; armel's is not, and calls it softly with floats.
    _linux(
        *("v6", "Pi Zero, Pi 1"),
        "arm-linux-gnueabi-gcc -marm -mcpu=arm1176jzf-s -mfpu=vfp -mfloat-abi=softfp",
        *("qemu-arm -cpu arm1176", _ARMEL, "arm-linux-musleabihf -mcpu=arm1176jzf_s"),
    ),
    _linux(
        *("v7", "Pi 2"),
        "arm-linux-gnueabihf-gcc -mcpu=cortex-a7 -mfpu=neon-vfpv4 -mfloat-abi=hard",
        *("qemu-arm -cpu cortex-a7", _ARMHF, "arm-linux-musleabihf -mcpu=cortex_a7"),
    ),
    _arm64("a53", "Pi 3, Zero 2"),
    _arm64("a72", "Pi 4"),
    _arm64("a76", "Pi 5"),
    _linux("rv64", "RISC-V, 64 bits", "riscv64-linux-gnu-gcc", "qemu-riscv64", _RISCV, "riscv64-linux-musl"),
)

BOARDS = {board.name: board for board in _ROWS}

#: this machine, whose answers the boards' are held against
HOST = Board("host", "this machine", "cc", (), (), ("gcc",))


def _desktop(name: str, what: str, target: str) -> Board:
    return Board(name, what, "", (), (), (), None, ("-target", target))


#: systems that the library is compiled for, to see that their users are not shut out; nothing is run
DESKTOPS = (
    _desktop("win64", "Windows x86-64", "x86_64-windows-gnu"),
    _desktop("mac64", "macOS x86-64", "x86_64-macos"),
    _desktop("macarm", "macOS AArch64", "aarch64-macos"),
)
