"""Rows of `conftest.CASES` for layers over sequences: name, what stands before the head, shape of a sample."""

from __future__ import annotations

from edgeprop import trainer as t

SEQUENCE = (4, 2)

ROWS = [
    ("simple rnn", lambda: [t.SimpleRNN(3)], SEQUENCE),
    ("simple rnn relu", lambda: [t.SimpleRNN(3, activation="relu", return_sequences=True)], SEQUENCE),
    ("simple rnn both ways", lambda: [t.SimpleRNN(2, bidirectional=True, bias=False)], SEQUENCE),
    ("lstm", lambda: [t.LSTM(2)], SEQUENCE),
    ("lstm sequences", lambda: [t.LSTM(2, return_sequences=True, bias=False)], SEQUENCE),
    ("lstm both ways", lambda: [t.LSTM(2, return_sequences=True, bidirectional=True)], SEQUENCE),
    ("lstm stacked", lambda: [t.LSTM(2, return_sequences=True), t.LSTM(2, bidirectional=True)], SEQUENCE),
    ("gru", lambda: [t.GRU(3)], SEQUENCE),
    ("gru reset first", lambda: [t.GRU(2, linear_before_reset=False, return_sequences=True)], SEQUENCE),
    ("gru reset first both ways", lambda: [t.GRU(2, linear_before_reset=False, bidirectional=True)], SEQUENCE),
    ("gru both ways", lambda: [t.GRU(2, bidirectional=True, return_sequences=True, bias=False)], SEQUENCE),
    ("time dense", lambda: [t.TimeDense(3), t.Tanh(), t.TimeDense(2, bias=False)], SEQUENCE),
    ("recurrent after conv", lambda: [t.Conv1D(3, 2), t.Transpose(0, 2, 1), t.GRU(2), t.Tanh()], SEQUENCE),
]
