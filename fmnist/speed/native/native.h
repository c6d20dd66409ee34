/* What the files of the native library share: instructions, vectors, the operations.
 *
 * The library is compiled once for each set of instructions that a processor may have; vectors are as wide as its
 * registers.
 */
#include <stdint.h>
#include <string.h>

#if defined(__AVX512F__)
#define LANES 16 /* numbers in a vector */
#define NARROW 7 /* vectors of sums beside which the other operands of a product still have registers */
#elif defined(__AVX2__)
#define LANES 8
#define NARROW 13
#else
#define LANES 4
#define NARROW 26
#endif
#define INLINE static inline __attribute__((always_inline))

typedef float vec __attribute__((vector_size(4 * LANES)));
typedef float loose __attribute__((vector_size(4 * LANES), aligned(4), may_alias)); /* one anywhere in memory */
typedef int32_t places __attribute__((vector_size(4 * LANES)));

/* A pointer into a thread's own memory: the compiler must not look its address up again in every turn of a loop. */
INLINE void *found(void *at) {
    __asm__("" : "+r"(at));
    return at;
}

INLINE long least(long a, long b) { return a < b ? a : b; }
INLINE long parts(long size, long part) { return (size + part - 1) / part; }

/* The first numbers, up to a vector of them, then zeros. */
INLINE vec some(const float *at, long count) {
    vec x = {0};
    if (count >= LANES) return *(const loose *)at;
    if (count > 0) memcpy(&x, at, 4 * count);
    return x;
}

INLINE void put(float *at, vec x, long count) {
    if (count >= LANES)
        *(loose *)at = x;
    else
        memcpy(at, &x, 4 * count);
}

#if LANES == 16
#define LOW 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#elif LANES == 8
#define LOW 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH 4, 12, 5, 13, 6, 14, 7, 15
#else
#define LOW 0, 4, 1, 5
#define HIGH 2, 6, 3, 7
#endif
#if defined(__clang__)
#define SHUFFLED(places, a, b, ...) __builtin_shufflevector(a, b, __VA_ARGS__)
#else
#define SHUFFLED(places, a, b, ...) __builtin_shuffle(a, b, (places){__VA_ARGS__})
#endif

/* Transpose a square: each stage interleaves rows i and i + half, and so rotates the bits of (row, column) by one. */
INLINE void transpose(vec *x) {
    for (int stage = 1; stage < LANES; stage *= 2) {
        vec y[LANES];
        for (int i = 0; i < LANES / 2; i++) {
            y[2 * i] = SHUFFLED(places, x[i], x[i + LANES / 2], LOW);
            y[2 * i + 1] = SHUFFLED(places, x[i], x[i + LANES / 2], HIGH);
        }
        for (int i = 0; i < LANES; i++) x[i] = y[i];
    }
}

/* A tensor (runs, features, rows): where it begins, and its steps in elements; a step of 0 repeats what is there. */
typedef struct { char *at; int64_t run, feature, row; } Operand;

/* One operation. operand[0] is its output. `alone`: the threads share it out by its outputs; else each thread does it
 * for its own rows of the batch, which lie along `rows`, or along `features` if they are turned. `waits`: the threads
 * wait for one another first. Operations by rows that do not wait agree in their runs and rows. */
typedef struct {
    int64_t code, alone, waits, turned, runs, features, rows, depth, add;
    double number;
    Operand operand[5];
} Instruction;

/* A part of an operation: its features and its rows, of one run. */
typedef struct { long run, feature, features, row, rows; } Part;

#define AT(type, instruction, which, part)                                                                             \
    ((type *)(instruction)->operand[which].at + (part).run * (instruction)->operand[which].run +                       \
     (part).feature * (instruction)->operand[which].feature + (part).row * (instruction)->operand[which].row)

/* The codes, in the order of fmnist/speed/native.py. From COPY on an operation computes each number by itself. */
enum {
    MULTIPLY, MULTIPLY_IMAGES, SUM_ROWS, SUM_FEATURES, LOG_SOFTMAX, SCATTER, ACCUMULATE, ADAM,
    COPY, ADD, SUBTRACT, TIMES, ADD_PRODUCT, PLUS, SCALE, RECIPROCAL_ROOT, CLAMP_MIN, THRESHOLD_BACKWARD, LEAKY_RELU,
    LEAKY_RELU_BACKWARD, EXP, LOG, NEGATE, ABSOLUTE, SIGN, SIGMOID, SIGMOID_BACKWARD, TANH, TANH_BACKWARD, SILU,
    SILU_BACKWARD, LERP, CODES,
};

void multiply(const Instruction *, Part);
void multiply_images(const Instruction *, Part);
void sum_rows(const Instruction *, Part);
void sum_features(const Instruction *, Part);
void log_softmax(const Instruction *, Part);
void scatter(const Instruction *, Part);
void accumulate(const Instruction *, Part);
void adam(const Instruction *, Part);
void elementwise(const Instruction *, Part);
