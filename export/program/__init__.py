"""The device's view of a network, and where each of its values lies in memory."""
