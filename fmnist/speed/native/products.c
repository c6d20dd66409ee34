/* Products of float32 matrices: tiles of 6 rows and two vectors of columns stay in registers along the sum. */
#include "native.h"

enum { TALL = 6, DEEP = 256, WIDE = 2 * LANES };

static _Thread_local vec own[DEEP * 2];

/* packed (deep, 2 vectors) = so many columns of b, whose steps along the sum and the columns are given. */
static void pack(const float *b, long step, long column_step, long deep, long columns, vec *packed) {
    if (column_step == 1) {
        for (long k = 0; k < deep; k++, b += step)
            packed[2 * k] = some(b, columns), packed[2 * k + 1] = some(b + LANES, columns - LANES);
        return;
    }
    for (int half = 0; half < 2; half++, b += LANES * column_step, columns -= LANES)
        for (long k = 0; k < deep; k += LANES) {
            vec x[LANES];
            for (long j = 0; j < LANES; j++) x[j] = j < columns ? some(b + j * column_step + k, deep - k) : (vec){0};
            transpose(x);
            for (long i = 0; i < least(LANES, deep - k); i++) packed[2 * (k + i) + half] = x[i];
        }
}

/* out (tall, columns) = a (tall, deep) @ packed, or that is added to it. */
INLINE void tile(const long tall, const float *a, long a_row, long a_step, long deep, const vec *packed,
                 float *out, long out_row, long columns, int add) {
    vec sums[TALL][2];
#pragma GCC unroll 6
    for (long i = 0; i < tall; i++) sums[i][0] = sums[i][1] = (vec){0};
    for (long k = 0; k < deep; k++) {
        vec left = packed[2 * k], right = packed[2 * k + 1];
#pragma GCC unroll 6
        for (long i = 0; i < tall; i++) {
            vec x = a[i * a_row + k * a_step] - (vec){0};
            sums[i][0] += x * left;
            sums[i][1] += x * right;
        }
    }
#pragma GCC unroll 6
    for (long i = 0; i < tall; i++)
        for (int half = 0; half < 2; half++) {
            float *to = out + i * out_row + half * LANES;
            long count = columns - half * LANES;
            if (count > 0) put(to, add ? some(to, count) + sums[i][half] : sums[i][half], count);
        }
}

void multiply(const Instruction *one, Part part) {
    const Operand *operand = one->operand, *left = operand + 1, *right = operand + 2;
    vec *packed = found(own);
    for (long k = 0; k < one->depth; k += DEEP) {
        long deep = least(DEEP, one->depth - k);
        int add = one->add || k;
        for (long j = 0; j < part.rows; j += WIDE) {
            Part at = {part.run, part.feature, 0, part.row + j, 0};
            const float *b = (const float *)right->at + at.run * right->run + at.row * right->row + k * right->feature;
            const float *a = (const float *)left->at + at.run * left->run + at.feature * left->feature + k * left->row;
            float *out = AT(float, one, 0, at);
            pack(b, right->feature, right->row, deep, part.rows - j, packed);
            for (long i = 0; i < part.features; i += TALL) {
                const float *from = a + i * left->feature;
                float *to = out + i * operand->feature;
                switch (least(TALL, part.features - i)) {
#define CASE(tall)                                                                                                     \
    case tall:                                                                                                         \
        tile(tall, from, left->feature, left->row, deep, packed, to, operand->feature, part.rows - j, add);                   \
        break;
                    CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6)
                }
            }
        }
    }
}
