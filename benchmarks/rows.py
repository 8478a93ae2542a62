"""A row of `build/bench.json`, and how it prints."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

Row = dict[str, Any]

HEADER = (
    f"{'work':<26} {'dtype':<5} {'batch':>5} {'ours us':>10} {'peer us':>10} {'ratio':>6} {'of peak':>7}  peer; others"
)


def row(work: str, dtype: str, batch: int, best: dict[str, float], rivals: Sequence[str], **more: Any) -> Row:
    """Return a row from seconds a call by runtime, ours under "ours".

    The peer is the fastest of `rivals` that ran; the others' figures stand under `others_us`.
    """
    micro = {name: round(1e6 * seconds, 2) for name, seconds in best.items()}
    peer = min((name for name in rivals if name in micro), key=micro.__getitem__, default=None)
    return {
        "work": work,
        "dtype": dtype,
        "batch": batch,
        "ours_us": micro["ours"],
        "peer": peer,
        "peer_us": None if peer is None else micro[peer],
        "ratio": None if peer is None else round(best["ours"] / best[peer], 3),
        "others_us": {name: us for name, us in micro.items() if name not in ("ours", peer)},
        **more,
    }


def line(row: Row) -> str:
    """Return the row as a line under `HEADER`."""
    text = f"{row['work']:<26} {row['dtype']:<5} {row['batch']:>5} {row['ours_us']:>10.1f}"
    if row["peer"] is None:
        text += f" {'-':>10} {'-':>6}"
    else:
        text += f" {row['peer_us']:>10.1f} {row['ratio']:>6.2f}"
    text += f" {row['share_of_peak']:>7.0%}" if "share_of_peak" in row else f" {'-':>7}"
    text += f"  {row['peer'] or 'none'}"
    others = ", ".join(f"{name} {us:.1f}" for name, us in row["others_us"].items())
    notes = [others, *row.get("notes", ())]
    return "; ".join([text, *(note for note in notes if note)])
