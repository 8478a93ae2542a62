"""The digits as another camera sees them: mounted askew, out of focus, in worse light."""

from __future__ import annotations

from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


def shifted(
    images: Array, *, degrees: float = 25.0, spread: float = 0.3, contrast: float = 0.8, glow: float = 0.1
) -> Array:
    """Turn the images, thicken the strokes, flatten the contrast.

    Parameters
    ----------
    images : (n, 1, 8, 8), 0 for paper to 1 for ink
    degrees : how far the camera is turned
    spread : how much of a stroke's ink reaches the pixels beside it
    contrast, glow : what becomes of black ink, and how grey white paper looks

    Returns
    -------
    (n, 1, 8, 8) float32, 0 to 1
    """
    turned = rotated(images, degrees)
    thick = turned + spread * (neighbours_maximum(turned) - turned)
    return np.clip(glow + contrast * thick, 0.0, 1.0).astype(np.float32)


def rotated(images: Array, degrees: float) -> Array:
    """Images (n, 1, h, w) turned about their middle, bilinearly; paper comes in at the corners."""
    height, width = images.shape[-2:]
    y, x = np.mgrid[:height, :width] - np.array([height - 1, width - 1]).reshape(2, 1, 1) / 2
    cos, sin = np.cos(np.deg2rad(degrees)), np.sin(np.deg2rad(degrees))
    source_y = cos * y + sin * x + (height - 1) / 2
    source_x = cos * x - sin * y + (width - 1) / 2
    top, left = np.floor(source_y).astype(int), np.floor(source_x).astype(int)
    result = np.zeros(images.shape, np.float32)
    for row in (top, top + 1):
        for column in (left, left + 1):
            inside = (row >= 0) & (row < height) & (column >= 0) & (column < width)
            weight = inside * (1 - abs(source_y - row)) * (1 - abs(source_x - column))
            result += images[..., row.clip(0, height - 1), column.clip(0, width - 1)] * weight
    return result


def neighbours_maximum(images: Array) -> Array:
    """The darkest of each pixel and the four beside it; images (n, 1, h, w)."""
    height, width = images.shape[-2:]
    padded = np.pad(images, ((0, 0), (0, 0), (1, 1), (1, 1)))
    places = ((1, 1), (0, 1), (2, 1), (1, 0), (1, 2))
    return np.maximum.reduce([padded[..., i : i + height, j : j + width] for i, j in places])
