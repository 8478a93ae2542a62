/* The DSP instructions of a Cortex-M4, M7, M33. */
