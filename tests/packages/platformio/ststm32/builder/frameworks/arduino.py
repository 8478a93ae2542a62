"""The Arduino core, beside this platform."""

import os

from SCons.Script import DefaultEnvironment

env = DefaultEnvironment()
core = os.path.join(env.PioPlatform().get_dir(), "core")
env.Append(CPPDEFINES=[("ARDUINO", 10808)], CPPPATH=[core], LINKFLAGS=["-T", os.path.join(core, "qemu.ld")])
env.BuildSources(os.path.join("$BUILD_DIR", "core"), core)
