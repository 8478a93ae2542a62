/* Describe error codes in words. */
#include "edgeprop.h"

const char *ep_error(int rc)
{
#ifdef EP_NO_ERRMSG
    (void)rc;
    return "";
#else
    /* By -rc. */
    static const char *const texts[] = {
        "ok",
        "invalid argument; see the comment of the function in edgeprop.h for what it takes",
        "the arena is too small; give as many bytes as ep_arena_size() or the model's *_ARENA macro says",
        "a buffer is not aligned; declare it EP_ALIGNED, or align it to EP_ALIGN bytes",
        "the model was made for another version of this library; export it again",
        "not a model image, or truncated or inconsistent; export it again",
        "the image's bytes changed since it was written; copy it again",
        "the image needs an op, a backward or a loss that the registry lacks; add its row, or use ep_all",
        "nothing to train; export the model with trainable layers and a loss",
        "a target is not what the loss takes: class labels 0 .. count-1 go to ep_learn_label(), values (0 .. 1 for a "
        "sigmoid) "
        "to ep_learn(); after a refused one, both classes must be seen before more is learned",
        "the step would make a weight NaN or infinite and was refused; lower the learning rate, check the input",
        "the storage holds no valid record; save one first",
        "the storage holds only records of another model; restore it into that one, or save over it",
        "the storage failed to read, write or erase; check its callbacks and the hardware",
        "a NaN or infinity among the inputs, from which nothing is learned or quantized; check the sensor",
    };
    const int n = (int)(sizeof texts / sizeof texts[0]);
    return rc <= 0 && rc > -n ? texts[-rc] : "not a code of this library; pass what one of its functions returned";
#endif
}
