"""A platform without packages."""

from platformio.platform.base import PlatformBase


class NativePlatform(PlatformBase):
    """This PC."""
