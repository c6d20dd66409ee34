/* Sums over rows and over features; numbers added at places that labels name. */
#include "native.h"

/* out (features) = the sum of x over all rows, times a number, or that is added to it. */
void sum_rows(const Instruction *one, Part part) {
    const Operand *in = one->operand + 1;
    float *out = AT(float, one, 0, part), scale = one->number;
    const float *x = AT(const float, one, 1, part);
    if (in->feature == 1 && in->row != 1 && one->operand[0].feature == 1 && !one->add) { /* what lies row by row */
        for (long i = 0; i < part.features; i++) out[i] = 0.0f;
        for (long j = 0; j < one->depth; j++)
            for (long i = 0; i < part.features; i++) out[i] += x[j * in->row + i];
        for (long i = 0; i < part.features; i++) out[i] *= scale;
        return;
    }
    for (long i = 0; i < part.features; i++) {
        float total = 0.0f;
        const float *from = x + i * in->feature;
        if (in->row == 1) {
#pragma omp simd reduction(+ : total)
            for (long j = 0; j < one->depth; j++) total += from[j];
        } else
            for (long j = 0; j < one->depth; j++) total += from[j * in->row];
        float *to = out + i * one->operand[0].feature;
        *to = (one->add ? *to : 0.0f) + total * scale;
    }
}

/* out (rows) = the sum of x over all features, times a number. */
void sum_features(const Instruction *one, Part part) {
    const Operand *in = one->operand + 1;
    float *out = AT(float, one, 0, part), scale = one->number;
    const float *x = AT(const float, one, 1, part);
    if (in->row == 1 && one->operand[0].row == 1) {
        for (long j = 0; j < part.rows; j++) out[j] = 0.0f;
        for (long i = 0; i < one->depth; i++)
            for (long j = 0; j < part.rows; j++) out[j] += x[i * in->feature + j];
        for (long j = 0; j < part.rows; j++) out[j] *= scale;
        return;
    }
    for (long j = 0; j < part.rows; j++) {
        float total = 0.0f;
        const float *from = x + j * in->row;
        if (in->feature == 1) {
#pragma omp simd reduction(+ : total)
            for (long i = 0; i < one->depth; i++) total += from[i];
        } else
            for (long i = 0; i < one->depth; i++) total += from[i * in->feature];
        out[j * one->operand[0].row] = total * scale;
    }
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
