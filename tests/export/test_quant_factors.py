"""Equalization of channels: what is evened out, and channels that are dead on either side, which stay as they are."""

from __future__ import annotations

import numpy as np
import pytest

from edgeprop.export.quantization import corrections

R1 = np.array([4.0, 1.0, 0.0, 2.0, 0.0])
R2 = np.array([1.0, 4.0, 3.0, 0.0, 0.0])


def test_factors_of_weights() -> None:
    """Equation 11 of Nagel et al. (2019): r1 / s and r2 s are one size; a dead channel has factor 1."""
    s = corrections._weight_factors(R1, R2)
    np.testing.assert_allclose((R1 / s)[:2], (R2 * s)[:2])
    np.testing.assert_array_equal(s[2:], 1)


@pytest.mark.parametrize("grouped", [False, True])
def test_factors_of_values(grouped: bool) -> None:
    """No value's range grows, the largest stays; dead channels have factor 1, and all are finite and positive."""
    s = corrections._value_factors(R1, R2, grouped)
    assert np.isfinite(s).all()
    assert (s > 0).all()
    np.testing.assert_array_equal(s[2:], 1)
    scaled = R1[:2] / s[:2]
    assert scaled.max() == pytest.approx(R1.max())
    if grouped:
        np.testing.assert_allclose(scaled, R1.max())
    np.testing.assert_array_equal(corrections._value_factors(np.zeros(3), np.ones(3), grouped), 1)
    np.testing.assert_array_equal(corrections._value_factors(np.ones(3), np.zeros(3), grouped), 1)
