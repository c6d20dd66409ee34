/* Products of float32 matrices with 8-bit images that skip black pixels.
 *
 * A grey level of 0 adds nothing to a sum. Half of Fashion-MNIST's pixels are 0, so half of the multiplications are left
 * out. For each row of bytes a 64-bit mask tells which of the next 64 are not 0; for each set bit a row of the packed
 * matrix, times the grey level, is added to sums that stay in registers.
 */
#include "native.h"

#if defined(__AVX2__)
#include <immintrin.h>
#endif

enum { DEPTH = 64, WIDE = LANES * NARROW, TASK = 512 };
typedef uint8_t bytes __attribute__((vector_size(16)));
typedef uint8_t loose_bytes __attribute__((vector_size(16), aligned(1), may_alias));

/* A bit for each of 64 bytes. */
INLINE uint64_t not_black(const uint8_t *at) {
#if defined(__AVX512BW__)
    __m512i x = _mm512_loadu_si512(at);
    return _mm512_test_epi8_mask(x, x);
#elif defined(__AVX2__)
    __m256i zero = _mm256_setzero_si256();
    uint32_t low = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)at), zero));
    uint32_t high = _mm256_movemask_epi8(_mm256_cmpeq_epi8(_mm256_loadu_si256((const __m256i *)(at + 32)), zero));
    return ~((uint64_t)high << 32 | low);
#else
    const uint64_t seven = 0x7f7f7f7f7f7f7f7f;
    uint64_t mask = 0, x;
    for (int i = 0; i < 8; i++) {
        memcpy(&x, at + 8 * i, 8);
        x = (((x & seven) + seven) | x) & ~seven;
        mask |= ((x >> 7) * 0x0102040810204080 >> 56) << 8 * i;
    }
    return mask;
#endif
}

/* sums (rows, V vectors) += grey (rows, 64) @ packed (64, V vectors); the first time they are set. */
INLINE void add_rows(const int V, const uint8_t *grey, long step, long rows, const vec *packed, vec *sums, int first,
                     const float *value) {
    for (long r = 0; r < rows; r++, grey += step, sums += V) {
        uint64_t mask = not_black(grey);
        vec s[NARROW];
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) s[v] = first ? (vec){0} : sums[v];
        while (mask) {
            int k = __builtin_ctzll(mask);
            mask &= mask - 1;
            vec x = value[grey[k]] - (vec){0};
            const vec *w = packed + k * V;
#pragma GCC unroll 32
            for (int v = 0; v < V; v++) s[v] += x * w[v];
        }
#pragma GCC unroll 32
        for (int v = 0; v < V; v++) sums[v] = s[v];
    }
}

static void add(int V, const uint8_t *grey, long step, long rows, const vec *packed, vec *sums, int first,
                const float *value) {
    switch (V) {
#define CASE(n) case n: if (n <= NARROW) add_rows(n <= NARROW ? n : 1, grey, step, rows, packed, sums, first, value); break;
        CASE(1) CASE(2) CASE(3) CASE(4) CASE(5) CASE(6) CASE(7) CASE(8) CASE(9) CASE(10) CASE(11) CASE(12) CASE(13)
#if LANES == 4
        CASE(14) CASE(15) CASE(16) CASE(17) CASE(18) CASE(19) CASE(20) CASE(21) CASE(22) CASE(23) CASE(24) CASE(25) CASE(26)
#endif
    }
}

/* packed (64, V vectors) = the first `deep` columns of a (n, m), transposed; zeros beyond. */
static void pack(const float *a, long m, long n, long deep, int V, vec *packed) {
    for (int v = 0; v < V; v++)
        for (long k = 0; k < deep; k += LANES) {
            vec x[LANES];
            for (int i = 0; i < LANES; i++)
                x[i] = v * LANES + i < n ? some(a + (v * LANES + i) * m + k, deep - k) : (vec){0};
            transpose(x);
            for (int i = 0; i < LANES; i++) packed[(k + i) * V + v] = x[i];
        }
}

/* out (n, rows; a row `step` apart) = sums (rows, V vectors) transposed, or that is added to it. */
static void leave(const vec *sums, int V, long rows, float *out, long step, long n, int more) {
    for (long r = 0; r < rows; r += LANES)
        for (int v = 0; v < V; v++) {
            vec x[LANES];
            long count = least(LANES, rows - r);
            for (int i = 0; i < LANES; i++) x[i] = i < count ? sums[(r + i) * V + v] : (vec){0};
            transpose(x);
            for (int i = 0; i < least(LANES, n - v * LANES); i++) {
                float *to = out + (v * LANES + i) * step + r;
                put(to, more ? x[i] + some(to, count) : x[i], count);
            }
        }
}

/* As `transpose`, for 16 x 16 bytes. */
INLINE void transpose_bytes(bytes *x) {
    for (int stage = 0; stage < 4; stage++) {
        bytes y[16];
        for (int i = 0; i < 8; i++) {
            y[2 * i] = SHUFFLED(bytes, x[i], x[i + 8], 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23);
            y[2 * i + 1] = SHUFFLED(bytes, x[i], x[i + 8], 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31);
        }
        for (int i = 0; i < 16; i++) x[i] = y[i];
    }
}

/* grey (columns, 64) = the columns of so many images, up to 64, transposed; zeros beyond. */
static void turn(const uint8_t *images, long step, long columns, long deep, uint8_t *grey) {
    for (long c = 0; c < columns; c += 16)
        for (int k = 0; k < DEPTH; k += 16) {
            bytes x[16];
            for (int i = 0; i < 16; i++) {
                x[i] = (bytes){0};
                const uint8_t *from = images + (k + i) * step + c;
                if (k + i >= deep) continue;
                if (columns - c >= 16)
                    x[i] = *(const loose_bytes *)from;
                else
                    memcpy(&x[i], from, columns - c);
            }
            transpose_bytes(x);
            for (int i = 0; i < 16; i++) *(bytes *)(grey + (c + i) * DEPTH + k) = x[i];
        }
}

typedef struct {
    vec packed[DEPTH * NARROW], sums[TASK * NARROW];
    uint8_t grey[TASK * DEPTH] __attribute__((aligned(64)));
    float value[256]; /* of a grey level */
} Room;
static _Thread_local Room own;

/* Up to NARROW vectors of features of the output and up to TASK of its columns. */
static void tile(const Instruction *one, Part part, Room *room) {
    int V = parts(part.features, LANES), along_pixels = one->turned;
    const uint8_t *images = (const uint8_t *)one->operand[2].at + part.run * one->operand[2].run;
    long step = one->operand[2].row; /* from image to image, in bytes */
    for (long k = 0; k < one->depth; k += DEPTH) {
        long deep = least(one->depth - k, DEPTH), grey_step = DEPTH;
        const uint8_t *grey = room->grey, *from = images + (along_pixels ? part.row * step + k : k * step + part.row);
        const float *a = (const float *)one->operand[1].at + part.run * one->operand[1].run;
        pack(a + part.feature * one->depth + k, one->depth, part.features, deep, V, room->packed);
        if (!along_pixels)
            turn(from, step, part.rows, deep, room->grey);
        else if (deep == DEPTH)
            grey = from, grey_step = step;
        else
            for (long r = 0; r < part.rows; r++) {
                memcpy(room->grey + r * DEPTH, from + r * step, deep);
                memset(room->grey + r * DEPTH + deep, 0, DEPTH - deep);
            }
        add(V, grey, grey_step, part.rows, room->packed, room->sums, k == 0, room->value);
    }
    leave(room->sums, V, part.rows, AT(float, one, 0, part), one->operand[0].feature, part.features, one->add);
}

/* out (features, columns) = a (features, depth) @ images / 255, or that is added to it. Columns are images, and the sum
 * is over their pixels, if it is `turned`; else columns are pixels, and the sum is over the images. */
void multiply_images(const Instruction *one, Part part) {
    Room *room = found(&own);
    for (int i = 0; i < 256; i++) room->value[i] = i / 255.0f;
    long wide = parts(parts(part.features, parts(part.features, WIDE)), LANES) * LANES;
    long task = parts(part.rows, parts(part.rows, TASK));
    for (long feature = 0; feature < part.features; feature += wide)
        for (long row = 0; row < part.rows; row += task)
            tile(one, (Part){part.run, part.feature + feature, least(wide, part.features - feature), part.row + row,
                             least(task, part.rows - row)}, room);
}
