/* Helium: the vectors of a Cortex-M55 and M85. */
