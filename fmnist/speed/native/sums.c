/* Sums over rows and over features; numbers added at places that labels name. */
#include "native.h"

/* out (kept, each `to` after the one before) = the sums of so many numbers, times a number, or they are added to it. x: the
 * numbers, in steps from sum to sum and along a sum. Where the sums lie side by side, all of them grow at a time. */
static void sum(const Instruction *one, float *out, long to, const float *x, long step, long along, long kept) {
    float scale = one->number;
    if (step == 1 && to == 1 && along != 1 && !one->add) {
        for (long i = 0; i < kept; i++) out[i] = 0.0f;
        for (long j = 0; j < one->depth; j++)
            for (long i = 0; i < kept; i++) out[i] += x[j * along + i];
        for (long i = 0; i < kept; i++) out[i] *= scale;
        return;
    }
    for (long i = 0; i < kept; i++) {
        float total = 0.0f;
        const float *from = x + i * step;
        if (along == 1) {
#pragma omp simd reduction(+ : total)
            for (long j = 0; j < one->depth; j++) total += from[j];
        } else
            for (long j = 0; j < one->depth; j++) total += from[j * along];
        out[i * to] = (one->add ? out[i * to] : 0.0f) + total * scale;
    }
}

/* out (features): sums over all rows. */
void sum_rows(const Instruction *one, Part part) {
    const Operand *out = one->operand, *x = out + 1;
    sum(one, AT(float, one, 0, part), out->feature, AT(const float, one, 1, part), x->feature, x->row, part.features);
}

/* out (rows): sums over all features. */
void sum_features(const Instruction *one, Part part) {
    const Operand *out = one->operand, *x = out + 1;
    sum(one, AT(float, one, 0, part), out->row, AT(const float, one, 1, part), x->row, x->feature, part.rows);
}

/* out (features, rows)[label of the row] += share of the row. */
void scatter(const Instruction *one, Part part) {
    const Operand *operand = one->operand;
    float *out = AT(float, one, 0, part);
    const int64_t *label = AT(const int64_t, one, 1, part);
    const float *share = AT(const float, one, 2, part);
    for (long j = 0; j < part.rows; j++)
        out[label[j * operand[1].row] * operand[0].feature + j * operand[0].row] += share[j * operand[2].row];
}

/* out, float64, += x times a number, times another operand's number if there is one. */
void accumulate(const Instruction *one, Part part) {
    double *out = AT(double, one, 0, part);
    const float *x = AT(const float, one, 1, part), *factor = AT(const float, one, 2, part);
    for (long i = 0; i < part.features; i++)
        out[i * one->operand[0].feature] +=
            x[i * one->operand[1].feature] * one->number * (factor ? factor[i * one->operand[2].feature] : 1.0f);
}
