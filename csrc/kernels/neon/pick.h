/* NEON, 32 and 64 bits, with and without dot products. */
