"""The one table of what wheels there are: for whom, how compiled, and what can run them here."""

from __future__ import annotations

from dataclasses import dataclass

#: The stable ABI of Python 3.10: one wheel serves it and all later ones (pyproject.toml, wheel.py-api).
PYTHON_ABI = "cp310-abi3"


@dataclass(frozen=True)
class Target:
    """One wheel.

    platform : tag that pip compares with what the machine calls itself; CONTRIBUTING.md says why these
    zig      : processor, system and C library to compile for; a number is the oldest glibc to run with
    cpu      : the least processor that must run it
    debian   : Debian's architecture whose Python runs it under emulation; "": none does
    qemu     : emulator, and the processors to emulate; "": this machine's own
    python_platform : what Python calls such a machine where the emulated one calls itself something else
    """

    platform: str
    zig: str
    cpu: str
    debian: str = ""
    qemu: tuple[str, ...] = ()
    python_platform: str = ""

    @property
    def tag(self) -> str:
        """The end of the wheel's name."""
        return f"{PYTHON_ABI}-{self.platform}"

    @property
    def processor(self) -> str:
        """What `uname -m` says there."""
        return next(name for name in ("x86_64", "aarch64", "armv7l", "armv6l") if self.platform.endswith(name))

    @property
    def musl(self) -> bool:
        """Whether the C library is musl, not glibc."""
        return "musl" in self.zig


# cortex_a7 is the Pi 2: NEON and VFPv4, which ARMv7 leaves optional and every Pi since has. arm1176jzf_s is the Pi Zero
# and the first Pi: ARMv6 with VFPv2. No glibc tag but the plain linux_ one is known for ARMv6, to pip as to piwheels.
# Debian has no hard-float ARMv6 Python, so ARMv6 code runs in the ARMv7 one, which is told that it is on a Pi Zero.
TARGETS = (
    Target("manylinux_2_17_x86_64", "x86_64-linux-gnu.2.17", "x86_64", "amd64", ("qemu-x86_64", "", "Nehalem")),
    Target(
        "manylinux_2_17_aarch64", "aarch64-linux-gnu.2.17", "generic", "arm64", ("qemu-aarch64", "cortex-a53", "max")
    ),
    Target("manylinux_2_17_armv7l", "arm-linux-gnueabihf.2.17", "cortex_a7", "armhf", ("qemu-arm", "cortex-a7")),
    Target(
        "linux_armv6l", "arm-linux-gnueabihf.2.17", "arm1176jzf_s", "armhf", ("qemu-arm", "cortex-a7"), "linux-armv6l"
    ),
    Target("musllinux_1_2_x86_64", "x86_64-linux-musl", "x86_64"),
    Target("musllinux_1_2_aarch64", "aarch64-linux-musl", "generic"),
    Target("musllinux_1_2_armv7l", "arm-linux-musleabihf", "cortex_a7"),
    Target("musllinux_1_2_armv6l", "arm-linux-musleabihf", "arm1176jzf_s"),
)
