/* Cortex-M without DSP instructions: M0, M0+, M3. */
