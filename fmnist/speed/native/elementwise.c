/* Operations on each number by itself, a line of numbers at a time; and the exponential function that they need. */
#include "native.h"

enum { LINE = 256 };

/* exp(x) to float32's accuracy: 2^n exp(r) with n whole and |r| <= log(2) / 2; the polynomial is Cephes' expf. */
INLINE float exponential(float x) {
    x = x > 89.0f ? 89.0f : x; /* so written, nan stays */
    x = x < -104.0f ? -104.0f : x;
    float n = x * 1.44269504f + 12582912.0f - 12582912.0f; /* rounded */
    float r = x - n * 0.693359375f + n * 2.12194440e-4f;
    float p = 1.9875691500e-4f;
    p = p * r + 1.3981999507e-3f, p = p * r + 8.3334519073e-3f, p = p * r + 4.1665795894e-2f;
    p = p * r + 1.6666665459e-1f, p = p * r + 5.0000001201e-1f, p = p * r * r + r + 1.0f;
    int32_t whole = (int32_t)n, half = whole >> 1; /* in two steps, for 2^128 and 2^-149 are no factors */
    union { int32_t bits; float number; } one = {.bits = (half + 127) << 23}, other = {.bits = (whole - half + 127) << 23};
    return p * one.number * other.number;
}

/* log(x) of numbers that are not denormal: Cephes' logf. */
INLINE float logarithm(float x) {
    union { float number; int32_t bits; } u = {.number = x};
    int32_t e = ((u.bits >> 23) & 255) - 126;
    u.bits = (u.bits & 0x7fffff) | 0x3f000000;
    float m = u.number;
    int low = m < 0.707106781f;
    float n = (float)(e - low), r = low ? m + m - 1.0f : m - 1.0f, z = r * r;
    float p = 7.0376836292e-2f;
    p = p * r - 1.1514610310e-1f, p = p * r + 1.1676998740e-1f, p = p * r - 1.2420140846e-1f;
    p = p * r + 1.4249322787e-1f, p = p * r - 1.6668057665e-1f, p = p * r + 2.0000714765e-1f;
    p = p * r - 2.4999993993e-1f, p = p * r + 3.3333331174e-1f;
    float y = r * z * p - n * 2.12194440e-4f - 0.5f * z + r + n * 0.693359375f;
    y = x == 0.0f ? -__builtin_inff() : y;
    return x >= 0.0f && x < __builtin_inff() ? y : x > 0.0f ? x : x == 0.0f ? y : __builtin_nanf("");
}

INLINE float sigmoid(float x) { return 1.0f / (1.0f + exponential(-x)); }

/* tanh(x): Cephes' tanhf. */
INLINE float hyperbolic_tangent(float x) {
    float far = __builtin_copysignf(1.0f - 2.0f / (exponential(2.0f * __builtin_fabsf(x)) + 1.0f), x), z = x * x;
    float p = -5.70498872745e-3f;
    p = p * z + 2.06390887954e-2f, p = p * z - 5.37397155531e-2f, p = p * z + 1.33314422036e-1f;
    p = p * z - 3.33332819422e-1f;
    float near = p * z * x + x;
    return __builtin_fabsf(x) < 0.625f ? near : far;
}

/* y = f(a, b, c) for n numbers; s is a number of the operation. */
static void line(int64_t code, float s, float *y, const float *a, const float *b, const float *c, long n) {
    switch (code) {
#define CASE(code, value)                                                                                              \
    case code:                                                                                                         \
        _Pragma("GCC ivdep") for (long i = 0; i < n; i++) y[i] = value;                                                \
        break;
        CASE(COPY, a[i])
        CASE(ADD, a[i] + s * b[i])
        CASE(SUBTRACT, a[i] - s * b[i])
        CASE(TIMES, a[i] * b[i])
        CASE(ADD_PRODUCT, a[i] + s * b[i] * c[i])
        CASE(PLUS, a[i] + s)
        CASE(SCALE, a[i] * s)
        CASE(RECIPROCAL_ROOT, 1.0f / __builtin_sqrtf(a[i]))
        CASE(CLAMP_MIN, a[i] < s ? s : a[i])
        CASE(THRESHOLD_BACKWARD, b[i] <= s ? 0.0f : a[i])
        CASE(LEAKY_RELU, a[i] > 0.0f ? a[i] : a[i] * s)
        CASE(LEAKY_RELU_BACKWARD, b[i] > 0.0f ? a[i] : a[i] * s)
        CASE(EXP, exponential(a[i]))
        CASE(LOG, logarithm(a[i]))
        CASE(NEGATE, -a[i])
        CASE(ABSOLUTE, __builtin_fabsf(a[i]))
        CASE(SIGN, a[i] > 0.0f ? 1.0f : a[i] < 0.0f ? -1.0f : 0.0f)
        CASE(SIGMOID, sigmoid(a[i]))
        CASE(SIGMOID_BACKWARD, a[i] * (1.0f - b[i]) * b[i])
        CASE(TANH, hyperbolic_tangent(a[i]))
        CASE(TANH_BACKWARD, a[i] * (1.0f - b[i] * b[i]))
        CASE(SILU, a[i] * sigmoid(a[i]))
        CASE(LERP, a[i] + s * (b[i] - a[i]))
        CASE(SILU_BACKWARD, a[i] * sigmoid(b[i]) * (1.0f + b[i] * (1.0f - sigmoid(b[i]))))
    }
}

/* Lines lie along the dimension in which the output is contiguous. Operands that are not so are gathered first. */
void elementwise(const Instruction *one, Part part) {
    int along_rows = one->operand[0].row == 1 || part.features == 1;
    long lines = along_rows ? part.features : part.rows, length = along_rows ? part.rows : part.features;
    long across[4], along[4];
    const float *first[4], *from[4] = {0};
    float gathered[4][LINE], *out = AT(float, one, 0, part);
    for (int which = 0; which < 4; which++) {
        const Operand *operand = one->operand + which;
        first[which] = AT(const float, one, which, part);
        across[which] = along_rows ? operand->feature : operand->row;
        along[which] = along_rows ? operand->row : operand->feature;
    }
    for (long i = 0; i < lines; i++)
        for (long start = 0; start < length; start += LINE) {
            long n = least(LINE, length - start);
            for (int which = 1; which < 4 && first[which]; which++) {
                const float *x = first[which] + i * across[which] + start * along[which];
                from[which] = along[which] == 1 ? x : gathered[which];
                if (along[which] == 0)
                    for (long j = 0; j < n; j++) gathered[which][j] = *x;
                else if (along[which] != 1)
                    for (long j = 0; j < n; j++) gathered[which][j] = x[j * along[which]];
            }
            line(one->code, one->number, out + i * across[0] + start, from[1], from[2], from[3], n);
        }
}

/* Adam's update (Kingma & Ba 2015): of parameters by their gradients, means and squares, and by a run's seven numbers. */
void adam(const Instruction *one, Part part) {
    float *p = AT(float, one, 0, part), *mean = AT(float, one, 2, part), *square = AT(float, one, 3, part), by[7];
    const float *gradient = AT(const float, one, 1, part);
    for (int i = 0; i < 7; i++) by[i] = (float)AT(const double, one, 4, part)[i];
    float rate = by[0], to_mean = by[1], to_square = by[2], root = by[3], eps = by[4], decay = by[5], kept = by[6];
#pragma GCC ivdep
    for (long i = 0; i < part.features; i++) {
        float g = gradient[i] + decay * p[i];
        mean[i] += to_mean * (g - mean[i]);
        square[i] = (1.0f - to_square) * square[i] + to_square * g * g; /* so written, an infinite one stays so */
        p[i] = kept * p[i] - rate * mean[i] / (__builtin_sqrtf(square[i]) * root + eps);
    }
}

enum { COLUMNS = 64 };

/* out = x - log(sum(exp(x))) over the features of each row of the batch; rows are contiguous. */
void log_softmax(const Instruction *one, Part part) {
    long out_step = one->operand[0].feature, step = one->operand[1].feature;
    for (long start = 0; start < part.rows; start += COLUMNS) {
        Part at = {part.run, part.feature, part.features, part.row + start, least(COLUMNS, part.rows - start)};
        const float *x = AT(const float, one, 1, at);
        float *out = AT(float, one, 0, at), most[COLUMNS], total[COLUMNS];
        for (long j = 0; j < at.rows; j++) most[j] = x[j], total[j] = 0.0f;
        for (long i = 1; i < at.features; i++)
            for (long j = 0; j < at.rows; j++) most[j] = x[i * step + j] > most[j] ? x[i * step + j] : most[j];
        for (long i = 0; i < at.features; i++)
            for (long j = 0; j < at.rows; j++) total[j] += exponential(x[i * step + j] - most[j]);
        for (long j = 0; j < at.rows; j++) total[j] = logarithm(total[j]) + most[j];
        for (long i = 0; i < at.features; i++)
            for (long j = 0; j < at.rows; j++) out[i * out_step + j] = x[i * step + j] - total[j];
    }
}
