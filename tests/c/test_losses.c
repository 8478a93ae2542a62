/* Each loss against its formula in double, and its gradient against finite differences of that. */
#include "net.h"

typedef double (*formula)(const double *s, const void *target, uint32_t count, uint32_t n);

static double softmax_formula(const double *s, const void *target, uint32_t count, uint32_t n)
{
    double loss = 0;
    for (uint32_t k = 0; k < n; k++, s += count) {
        double sum = 0;
        for (uint32_t j = 0; j < count; j++) sum += exp(s[j]);
        loss -= log(exp(s[((const int32_t *)target)[k]]) / sum);
    }
    return loss / n;
}

static double sigmoid_formula(const double *s, const void *target, uint32_t count, uint32_t n)
{
    double loss = 0;
    for (uint32_t i = 0; i < count * n; i++) {
        const double t = (double)((const float *)target)[i], p = 1 / (1 + exp(-s[i]));
        loss -= t * log(p) + (1 - t) * log(1 - p);
    }
    return loss / (count * n);
}

static double mse_formula(const double *s, const void *target, uint32_t count, uint32_t n)
{
    double loss = 0;
    for (uint32_t i = 0; i < count * n; i++) loss += pow(s[i] - (double)((const float *)target)[i], 2);
    return loss / (count * n);
}

static double hinge_formula(const double *s, const void *target, uint32_t count, uint32_t n)
{
    double loss = 0;
    for (uint32_t k = 0; k < n; k++, s += count) {
        const uint32_t y = (uint32_t)((const int32_t *)target)[k];
        for (uint32_t j = 0; j < count; j++) loss += j == y ? 0 : fmax(0, 1 + s[j] - s[y]);
    }
    return loss / n;
}

static void loss_is_its_formula(const ep_loss *loss, formula reference)
{
    enum { N = 3, COUNT = 5, ALL = N * COUNT };
    for (int round = 0; round < 50; round++) {
        float logits[ALL], values[ALL], d[ALL], aliased[ALL];
        double s[ALL];
        int32_t labels[N];
        for (int i = 0; i < ALL; i++) {
            logits[i] = 3 * random_float();
            values[i] = (random_float() + 1) / 2;
            s[i] = (double)logits[i];
        }
        for (int i = 0; i < N; i++) labels[i] = (int32_t)(random_u32() % COUNT);
        const void *target = loss->labels ? (const void *)labels : values;
        const ep_target typed = {loss->labels ? NULL : values, loss->labels ? labels : NULL};
        memcpy(aliased, logits, sizeof logits);
        CHECK_NEAR(loss->forward(logits, &typed, d, COUNT, N), reference(s, target, COUNT, N), 1e-6);
        loss->forward(aliased, &typed, aliased, COUNT, N);
        CHECK(memcmp(aliased, d, sizeof d) == 0);
        for (int i = 0; i < ALL; i++) {
            const double h = 1e-6, at = s[i];
            s[i] = at + h;
            const double up = reference(s, target, COUNT, N);
            s[i] = at - h;
            CHECK_NEAR(d[i], (up - reference(s, target, COUNT, N)) / (2 * h), 2e-7);
            s[i] = at;
        }
    }
}

static void extremes_stay_finite(void)
{
    const float zero = 0, one = 1;
    const ep_target label = {NULL, &(const int32_t){0}}, off = {&zero, NULL}, on = {&one, NULL};
    float s[3] = {1000, -1000, 0}, d[3];
    CHECK(ep_softmax_cross_entropy.forward(s, &label, d, 3, 1) == 0 && d[0] == 0 && d[1] == 0);
    s[0] = -3e38f, s[1] = 3e38f;
    CHECK(isfinite(ep_softmax_cross_entropy.forward(s + 1, &label, d, 2, 1)));
    s[0] = -200, s[1] = 0;
    CHECK_NEAR(ep_softmax_cross_entropy.forward(s, &label, d, 2, 1), 200, 1e-6);
    CHECK(d[0] == -1 && d[1] == 1);
    s[0] = -500;
    CHECK_NEAR(ep_sigmoid_cross_entropy.forward(s, &on, d, 1, 1), 500, 1e-6);
    CHECK(d[0] == -1 && ep_sigmoid_cross_entropy.forward(s, &off, d, 1, 1) == 0 && d[0] == 0);
    s[0] = 500;
    CHECK_NEAR(ep_sigmoid_cross_entropy.forward(s, &off, d, 1, 1), 500, 1e-6);
    CHECK(d[0] == 1);
}

static void nan_reaches_the_loss(void)
{
    const float values[3] = {0, 1, 0};
    const ep_target label = {NULL, &(const int32_t){1}}, t = {values, NULL};
    for (int i = 0; i < 3; i++) {
        float s[3] = {5, 1, -5}, d[3];
        s[i] = NAN;
        CHECK(isnan(ep_softmax_cross_entropy.forward(s, &label, d, 3, 1)));
        CHECK(isnan(ep_hinge.forward(s, &label, d, 3, 1)));
        CHECK(isnan(ep_mse.forward(s, &t, d, 3, 1)));
        CHECK(isnan(ep_sigmoid_cross_entropy.forward(s, &t, d, 3, 1)));
    }
}

int main(void)
{
    loss_is_its_formula(&ep_softmax_cross_entropy, softmax_formula);
    loss_is_its_formula(&ep_sigmoid_cross_entropy, sigmoid_formula);
    loss_is_its_formula(&ep_mse, mse_formula);
    loss_is_its_formula(&ep_hinge, hinge_formula);
    extremes_stay_finite();
    nan_reaches_the_loss();
    return failures != 0;
}
