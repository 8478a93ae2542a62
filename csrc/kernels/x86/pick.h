/* AVX2 and AVX-512, chosen at run time. */
#define EP_PATCH_BYTES 16384
#define EP_PAD_LINES 1
#define EP_DEPTHWISE_LANES 256
