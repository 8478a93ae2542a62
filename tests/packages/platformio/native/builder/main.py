"""What SCons builds: the project's program."""

from SCons.Script import Default, DefaultEnvironment

Default([DefaultEnvironment().BuildProgram()])
