/* What an error means and what to do about it. */
#include "edgeprop.h"

const char *ep_error(int rc)
{
#ifdef EP_NO_ERRMSG
    (void)rc;
    return "";
#else
    static const char *const text[] = {
        "no error",
        "an argument is null, zero or out of range: see the comment at the function",
        "the arena is too small: give it the size ep_arena_size() or the model's header names",
        "a buffer is not aligned to 16 bytes: declare it EP_ALIGNED",
        "the model was made for another version of the runtime: export it again",
        "not a model image, or a truncated or inconsistent one: export it again",
        "the image's checksum does not fit its bytes: it was damaged; copy or export it again",
        "the image uses an op this build does not have: give ep_load() a registry with it, or update",
        "the model has no trainable weights: export it with a trainable layer",
        "a target is not a class of the model, or not finite",
        "the step would make a weight NaN or infinite and was refused: lower the learning rate, check the input",
        "the storage holds no valid record: save one first",
        "the storage holds a record of another model: restore it into that one",
        "reading, writing or erasing the storage failed",
    };
    const unsigned i = rc > 0 ? 99u : 0u - (unsigned)rc;
    return i < sizeof text / sizeof *text ? text[i] : "not an error of this library";
#endif
}
