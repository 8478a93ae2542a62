/* AVX2 and AVX-512, chosen at run time. */
#define EP_PATCH_BYTES 16384
#define EP_PAD_LINES 1
#define EP_DEPTHWISE_LANES 256
#define EP_PATCH_FLOATS 12288 /* rows enough of a 3x3 convolution of 64 channels to transpose its weights for */
#define EP_TILE_ROWS 64
#define EP_TILE_COLUMNS 64
