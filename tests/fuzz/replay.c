/* Gives files to a fuzzer's target, without libFuzzer: `replay FILE...`; once for each of the processor's kernels. */
#include "fuzz.h"

static unsigned kernels(void)
{
    unsigned count = 1;
#ifdef EP_DISPATCH
    while (ep_list_kernels(count) != NULL) count++;
#endif
    return count;
}

static int replay(const char *path)
{
    static uint8_t bytes[1 << 17];
    FILE *file = fopen(path, "rb");
    if (file == NULL) return 0;
    const size_t size = fread(bytes, 1, sizeof bytes, file);
    fclose(file);
    LLVMFuzzerTestOneInput(bytes, size);
    return 1;
}

int main(int argc, char **argv)
{
    char turn[12];
    int files = 0;
    for (unsigned k = 0; k < kernels(); k++) {
        snprintf(turn, sizeof turn, "%u", k);
        setenv("EP_TEST_KERNELS", turn, 1);
        for (int i = 1; i < argc; i++) files += replay(argv[i]);
    }
    printf("%d files under %u kernels\n", files, kernels());
    return files == (argc - 1) * (int)kernels() ? 0 : 2;
}
