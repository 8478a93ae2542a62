"""Represent a network as the device sees it, and plan where each of its values lies in memory."""
