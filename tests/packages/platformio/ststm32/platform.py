"""A platform without packages."""

from platformio.platform.base import PlatformBase


class Ststm32Platform(PlatformBase):
    """A Cortex-M4F."""
