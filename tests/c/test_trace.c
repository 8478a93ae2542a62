/* EP_TRACE: the hook sees every node forward, and backward those of the backward walk. */
#include "zoo.h"

typedef struct seen {
    char text[256];
    int n;
} seen;

static net m;

static void hook(void *user, const ep_t *ep, uint16_t node, int phase)
{
    seen *s = user;
    const uint16_t y = m.nodes[node].io[m.nodes[node].n_in];
    CHECK(ep->model == &m.model && ep_tensor_ptr(ep, y) != NULL);
    CHECK(phase == 0 || ep_gradient_ptr(ep, y) != NULL);
    s->n += sprintf(s->text + s->n, "%d%c ", node, phase == 0 ? 'f' : 'b');
}

static void expect(ep_t *ep, seen *s, const char *text)
{
    CHECK(strcmp(s->text, text) == 0);
    memset(s, 0, sizeof *s);
    ep->trace_user = s;
}

int main(void)
{
    const int32_t labels[2] = {1, 2};
    float x[10], y[6];
    seen s = {"", 0};
    ep_t ep;
    fill_random(x, 10);
    net_mlp(&m, &ep_softmax_cross_entropy, 1);
    void *arena = net_start(&ep, &m, 1, EP_FOR_SUMS, NULL);
    ep.trace = hook;
    expect(&ep, &s, "");
    CHECK_RC(ep_infer(&ep, x, y), EP_OK);
    expect(&ep, &s, "0f 1f 2f ");
    CHECK_RC(ep_learn_label(&ep, x, labels[0], &(ep_step){.lr = 0.1f}, NULL), EP_OK);
    expect(&ep, &s, "0f 1f 1b ");
    CHECK_RC(ep_learn_batch_labels(&ep, x, labels, 2, &(ep_step){.lr = 0.1f}, NULL), EP_OK);
    expect(&ep, &s, "0f 1f 1b 0f 1f 1b ");
    free(arena);
    return failures != 0;
}
