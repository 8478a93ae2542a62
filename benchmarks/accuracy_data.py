"""Real data sets for `benchmarks.accuracy`: training, validation and test part of each, as the nets take them.

The validation part is cut from the training part; the test part is used once, for the figures of the table.
"""

from __future__ import annotations

import gzip
import io
import wave
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

Array = np.ndarray[Any, np.dtype[Any]]


@dataclass
class Data:
    """A data set in three parts: x (n, ...) float32 and y (n,) of classes 0, 1, ... each."""

    train: tuple[Array, Array]
    validation: tuple[Array, Array]
    test: tuple[Array, Array]

    def samples(self, n: int) -> Array:
        """The first n of the training part, to calibrate with."""
        return self.train[0][:n]


def split(x: Array, y: Array, validation: int, seed: int = 0) -> tuple[tuple[Array, Array], tuple[Array, Array]]:
    """Shuffled (x, y) without and with the `validation` last."""
    order = np.random.default_rng(seed).permutation(len(x))
    rest, last = order[:-validation], order[-validation:]
    return (x[rest], y[rest]), (x[last], y[last])


# ---- Images ----------------------------------------------------------------------------------------------------------


def _idx(path: Path) -> Array:
    """An array of bytes in the format of MNIST."""
    data = gzip.decompress(path.read_bytes())
    shape = np.frombuffer(data, ">u4", data[3], 4)
    return np.frombuffer(data, np.uint8, offset=4 + 4 * data[3]).reshape(shape)


def fashion_mnist(folder: Path) -> Data:
    """Ten kinds of clothes, 1 x 28 x 28 in 0 .. 1; the standard split."""

    def part(name: str) -> tuple[Array, Array]:
        images, labels = (_idx(folder / f"{name}-{kind}.gz") for kind in ("images-idx3-ubyte", "labels-idx1-ubyte"))
        return (images[:, None] / np.float32(255)).astype(np.float32), labels.astype(np.int64)

    train, validation = split(*part("train"), validation=2000)
    return Data(train, validation, part("t10k"))


def usps(folder: Path) -> Data:
    """Digits of zip codes, 1 x 16 x 16, 0 for paper to 1 for ink; of 7,291, 2,000 drawn by a fixed seed are the test part."""
    stored = np.load(folder / "usps_train.npz")
    x, y = ((stored["x"].reshape(-1, 1, 16, 16) / 1000 + 1) / 2).astype(np.float32), stored["y"].astype(np.int64)
    rest, test = split(x, y, 2000, seed=1989)
    return Data(*split(*rest, validation=500), test)


# ---- Speech ----------------------------------------------------------------------------------------------------------

RATE, SAMPLES, FRAME, HOP, BANDS, COEFFICIENTS = 8000, 8000, 256, 158, 26, 10


def mel_bank() -> Array:
    """(FRAME / 2 + 1, BANDS) triangles, evenly spaced in mel from 100 to 3,800 Hz."""
    mel = np.linspace(*(2595 * np.log10(1 + np.array([100.0, 3800.0]) / 700)), BANDS + 2)
    edges = 700 * (10 ** (mel / 2595) - 1)
    f = np.arange(FRAME // 2 + 1)[:, None] * RATE / FRAME
    up, down = (f - edges[:-2]) / np.diff(edges)[:-1], (edges[2:] - f) / np.diff(edges)[1:]
    return np.maximum(0, np.minimum(up, down))


def mfcc(clips: Array) -> Array:
    """(n, 1, 49, 10) mel-frequency cepstral coefficients (Davis & Mermelstein 1980) of (n, 8000) samples in -1 .. 1."""
    frames = np.lib.stride_tricks.sliding_window_view(clips, FRAME, axis=1)[:, ::HOP][:, :49]
    power = np.abs(np.fft.rfft(frames * np.hanning(FRAME), axis=2)) ** 2
    logs = np.log(power @ mel_bank() + 1e-5)
    k = np.arange(COEFFICIENTS) * np.pi / BANDS
    dct = np.cos(k * (np.arange(BANDS)[:, None] + 0.5)) / np.sqrt(BANDS)
    return (logs @ dct)[:, None].astype(np.float32)


def one_second(clip: Array) -> Array:
    """(SAMPLES,) float: the clip in the middle, cut or padded with zeros, as loud as all others."""
    x = np.asarray(clip, np.float64)
    start = max(0, (len(x) - SAMPLES) // 2)
    x = x[start : start + SAMPLES]
    room = SAMPLES - len(x)
    return np.pad(x / max(np.abs(x).max(), 1e-9), (room // 2, room - room // 2))


def standardized(train: Array, *others: Array) -> list[Array]:
    """All with the training part's mean 0 and standard deviation 1 for each coefficient."""
    mean, deviation = train.mean((0, 1, 2)), train.std((0, 1, 2))
    return [((part - mean) / deviation).astype(np.float32) for part in (train, *others)]


def _wav(data: bytes) -> Array:
    """The samples of a WAV file of one 16-bit channel."""
    with wave.open(io.BytesIO(data)) as file:
        return np.frombuffer(file.readframes(file.getnframes()), np.int16)


def fsdd(folder: Path) -> Data:
    """Spoken digits, 1 x 49 x 10: takes 0 to 9 of each speaker and digit are the test part, 10 to 13 validation."""
    with zipfile.ZipFile(next(folder.glob("*.zip"))) as archive:
        names = sorted(name for name in archive.namelist() if name.endswith(".wav"))
        clips = [_wav(archive.read(name)) for name in names]
    x = mfcc(np.stack([one_second(clip) for clip in clips]))
    stems = [Path(name).stem.split("_") for name in names]
    y, take = np.array([int(stem[0]) for stem in stems]), np.array([int(stem[2]) for stem in stems])
    return _parts(x, y, take >= 14, (take >= 10) & (take < 14), take < 10)


def _parts(x: Array, y: Array, *masks: Array) -> Data:
    """Training part, shuffled, validation and test part of those masks, standardized by the first."""
    parts = standardized(*(x[mask] for mask in masks))
    targets = [y[mask] for mask in masks]
    order = np.random.default_rng(0).permutation(len(parts[0]))
    return Data((parts[0][order], targets[0][order]), (parts[1], targets[1]), (parts[2], targets[2]))


def dspspeech8(folder: Path) -> Data:
    """Eight command words, 1 x 49 x 10: takes 0 and 1 of a speaker and word are the test part, take 2 validation."""
    stored = np.load(next(folder.glob("*.npz")))
    v = stored["x_mulaw"] / 255 * 2 - 1
    clips = np.sign(v) * (256.0 ** np.abs(v) - 1) / 255
    x = mfcc(np.stack([one_second(clip) for clip in clips]))
    y, speaker = stored["word"].astype(np.int64), stored["speaker"]
    group = speaker.astype(np.int64) * 100 + y
    take = np.array([np.count_nonzero(group[:i] == one) for i, one in enumerate(group)])
    return _parts(x, y, take >= 3, take == 2, take < 2)


LOADERS: dict[str, Callable[[Path], Data]] = {
    "fashion_mnist": fashion_mnist,
    "usps": usps,
    "fsdd": fsdd,
    "dspspeech8": dspspeech8,
}
