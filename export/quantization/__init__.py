"""From a float32 graph and samples to an int8 one, in QDQ form: ranges, clipping, corrections, and what it costs."""
