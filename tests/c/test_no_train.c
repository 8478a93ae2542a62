/* EP_NO_TRAIN: a model with trainable weights still runs and takes up a saved head.
 *     test_no_train FILE     an image of the MLP, an input and its output, as test_load writes them */
#include "zoo.h"

static uint8_t slots[1024];

static int read_slots(void *user, uint32_t offset, void *buffer, uint32_t size)
{
    memcpy(buffer, (uint8_t *)user + offset, size);
    return 0;
}

static int write_slots(void *user, uint32_t offset, const void *buffer, uint32_t size)
{
    memcpy((uint8_t *)user + offset, buffer, size);
    return 0;
}

static int erase_slots(void *user, uint32_t offset, uint32_t size)
{
    memset((uint8_t *)user + offset, 0xFF, size);
    return 0;
}

static void an_image_for_learning_runs(const char *path)
{
    static EP_ALIGNED uint8_t file[8192], memory[4096], arena[4096];
    float x[5], expected[3], y[3], zeros[64] = {0};
    const ep_storage storage = {slots, read_slots, write_slots, erase_slots, 512, 1};
    uint32_t count;
    ep_model model;
    ep_t ep;
    FILE *from = fopen(path, "rb");
    size_t size = from != NULL ? fread(file, 1, sizeof file, from) : 0;
    CHECK(size > 32);
    if (failures != 0) return;
    fclose(from);
    size -= sizeof x + sizeof expected;
    memcpy(x, file + size, sizeof x);
    memcpy(expected, file + size + sizeof x, sizeof expected);
    CHECK_RC(ep_load(&model, file, size, memory, sizeof memory, &ep_all), EP_OK);
    CHECK(model.train == NULL && ep_arena_size(&model, 1, EP_FOR_TRAIN, NULL) == 0);
    CHECK_RC(ep_init_batch(&ep, &model, arena, sizeof arena, 1, EP_FOR_SUMS, NULL), EP_ERR_FROZEN);
    CHECK_RC(ep_init(&ep, &model, arena, sizeof arena), EP_OK);
    CHECK_RC(ep_infer(&ep, x, y), EP_OK);
    CHECK(memcmp(y, expected, sizeof y) == 0);
    CHECK_RC(ep_save(&ep, &storage), EP_OK);
    CHECK(ep_params(&ep, &count) != NULL && count == 27);
    CHECK_RC(ep_set_params(&ep, zeros, count), EP_OK);
    CHECK_RC(ep_infer(&ep, x, y), EP_OK);
    CHECK(memcmp(y, expected, sizeof y) != 0);
    CHECK_RC(ep_restore(&ep, &storage), EP_OK);
    CHECK_RC(ep_infer(&ep, x, y), EP_OK);
    CHECK(memcmp(y, expected, sizeof y) == 0);
}

int main(int argc, char **argv)
{
    (void)net_float_zoo, (void)net_int8_zoo; /* compile without training too */
    CHECK(ep_all.n_losses == 0 && ep_all.ops[0].grad == NULL);
#ifdef EP_NO_ERRMSG
    CHECK(strcmp(ep_error(EP_ERR_ARG), "") == 0);
#endif
    CHECK(argc == 2);
    if (argc == 2) an_image_for_learning_runs(argv[1]);
    return failures != 0;
}
