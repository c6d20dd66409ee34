/* Products of float32 matrices with 8-bit images on processors with AMX: integers.py says how, and calls this.
 *
 * A tile is 16 x 64 bytes. Left sides lie as tiles of 16 rows x 64 digits, the tiles of the three digits one after
 * another; right sides are packed into tiles of 16 x (16 columns x 4 bytes), four neighbours along the sum together, as
 * the processor wants them. Beyond a matrix's edge along the sum all digits are 0. Threads are those of torch's OpenMP,
 * which is to be loaded before this is.
 */
#include <stdint.h>

#if defined(__x86_64__) && defined(__linux__)
#include <cpuid.h>
#include <immintrin.h>
#include <omp.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <unistd.h>

#define NEEDS target("amx-tile,amx-int8,avx512f,avx512bw,avx512vl,avx512vbmi")
#define AMX __attribute__((NEEDS))
#define INLINE static inline __attribute__((always_inline, NEEDS))

enum { ROWS = 16, DEPTH = 64, TILE = ROWS * DEPTH, DIGITS = 3 };
enum { WIDE = 4 };       /* tiles of columns that are packed together */
enum { DEEPEST = 1024 }; /* tiles along a sum that an int32 holds: 128 * 255 * 64 * 1024 < 2^31 */

static long parts(long size, long part) { return (size + part - 1) / part; }
static long least(long a, long b) { return a < b ? a : b; }

/* Whether this processor and its kernel let us. */
int usable(void) {
    unsigned a, b, c, d;
    if (!__get_cpuid_count(7, 0, &a, &b, &c, &d)) return 0;
    if (!(d & 1u << 24) || !(d & 1u << 25)) return 0; /* tiles, int8 */
    if (!__builtin_cpu_supports("avx512bw") || !__builtin_cpu_supports("avx512vl")) return 0;
    if (!__builtin_cpu_supports("avx512vbmi")) return 0;
    return syscall(SYS_arch_prctl, 0x1023, 18) == 0; /* ask for the tiles' registers */
}

/* 64 numbers of a row, or the last `left` ones and zeros. */
INLINE void load(const float *a, long left, __m512 *x) {
    for (int part = 0; part < 4; part++, a += 16, left -= 16)
        x[part] = left >= 16 ? _mm512_loadu_ps(a)
                             : _mm512_maskz_loadu_ps((__mmask16)(left > 0 ? (1u << left) - 1 : 0), a);
}

INLINE __m512i larger(__m512i bits, __m512 x) { /* as bits, in which nan is above all other numbers */
    return _mm512_max_epi32(bits, _mm512_and_si512(_mm512_castps_si512(x), _mm512_set1_epi32(0x7fffffff)));
}

INLINE void write_digits(const __m512 *x, __m512 inverse, int8_t *to) {
    const __m512i half = _mm512_set1_epi32(0x8080);
    const __m512i every_fourth = _mm512_set_epi8(
        124, 120, 116, 112, 108, 104, 100, 96, 92, 88, 84, 80, 76, 72, 68, 64,
        60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0,
        124, 120, 116, 112, 108, 104, 100, 96, 92, 88, 84, 80, 76, 72, 68, 64,
        60, 56, 52, 48, 44, 40, 36, 32, 28, 24, 20, 16, 12, 8, 4, 0);
    __m512i bytes[4];
    for (int part = 0; part < 4; part++) {
        __m512i whole = _mm512_cvtps_epi32(_mm512_mul_ps(x[part], inverse));
        bytes[part] = _mm512_xor_si512(_mm512_add_epi32(whole, half), half);
    }
    for (int digit = 0; digit < DIGITS; digit++) {
        __m512i index = _mm512_add_epi8(every_fourth, _mm512_set1_epi8((char)digit));
        __m512i first = _mm512_permutex2var_epi8(bytes[0], index, bytes[1]);
        __m512i second = _mm512_permutex2var_epi8(bytes[2], index, bytes[3]);
        _mm512_store_si512(to + digit * TILE, _mm512_shuffle_i64x2(first, second, 0x44));
    }
}

/* The digits of a row of m numbers into its lines of a row of tiles; what a whole number stands for. */
INLINE float row_digits(const float *a, long m, int8_t *tiles, float largest, float smallest) {
    __m512i top = _mm512_setzero_si512();
    __m512 x[4];
    for (long i = 0; i < m; i += DEPTH) {
        load(a + i, m - i, x);
        for (int part = 0; part < 4; part++) top = larger(top, x[part]);
    }
    union { int32_t bits; float number; } peak = {.bits = _mm512_reduce_max_epi32(top)};
    float unit = (peak.number < smallest ? smallest : peak.number) / largest;
    for (long i = 0; i < m; i += DEPTH, tiles += DIGITS * TILE) {
        load(a + i, m - i, x);
        write_digits(x, _mm512_set1_ps(1.0f / unit), tiles);
    }
    return unit;
}

/* A transposed matrix of 16 x 16 int32. */
INLINE void transpose(__m512i *x) {
    __m512i t[16];
    for (int i = 0; i < 16; i += 2) {
        t[i] = _mm512_unpacklo_epi32(x[i], x[i + 1]);
        t[i + 1] = _mm512_unpackhi_epi32(x[i], x[i + 1]);
    }
    for (int i = 0; i < 16; i += 4) {
        x[i] = _mm512_unpacklo_epi64(t[i], t[i + 2]);
        x[i + 1] = _mm512_unpackhi_epi64(t[i], t[i + 2]);
        x[i + 2] = _mm512_unpacklo_epi64(t[i + 1], t[i + 3]);
        x[i + 3] = _mm512_unpackhi_epi64(t[i + 1], t[i + 3]);
    }
    for (int i = 0; i < 4; i++) {
        t[i] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0x88);
        t[i + 4] = _mm512_shuffle_i32x4(x[i], x[i + 4], 0xdd);
        t[i + 8] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0x88);
        t[i + 12] = _mm512_shuffle_i32x4(x[i + 8], x[i + 12], 0xdd);
    }
    for (int i = 0; i < 4; i++) {
        x[i] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0x88);
        x[i + 8] = _mm512_shuffle_i32x4(t[i], t[i + 8], 0xdd);
        x[i + 4] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0x88);
        x[i + 12] = _mm512_shuffle_i32x4(t[i + 4], t[i + 12], 0xdd);
    }
}

/* Columns of a right side, up to 16, that are images (k contiguous): tiles for all of k. */
INLINE void pack_images(const uint8_t *images, long step, long depth, long columns, uint8_t *tiles) {
    for (long k = 0; k < depth; k += DEPTH, tiles += TILE) {
        __mmask64 within = depth - k < DEPTH ? (1ull << (depth - k)) - 1 : ~0ull;
        __m512i x[16];
        for (int j = 0; j < 16; j++)
            x[j] = j < columns ? _mm512_maskz_loadu_epi8(within, images + j * step + k) : _mm512_setzero_si512();
        transpose(x);
        for (int j = 0; j < 16; j++) _mm512_store_si512(tiles + j * 64, x[j]);
    }
}

/* Columns, up to 16, that are pixels of a batch of images (k counts the images). */
INLINE void pack_pixels(const uint8_t *images, long step, long depth, long columns, uint8_t *tiles) {
    __mmask16 within = (__mmask16)((1u << columns) - 1);
    for (long k = 0; k < parts(depth, DEPTH) * DEPTH; k += 4, tiles += 64) {
        __m128i row[4];
        for (int i = 0; i < 4; i++)
            row[i] = k + i < depth ? _mm_maskz_loadu_epi8(within, images + (k + i) * step) : _mm_setzero_si128();
        __m128i even = _mm_unpacklo_epi8(row[0], row[1]), odd = _mm_unpacklo_epi8(row[2], row[3]);
        __m128i even_high = _mm_unpackhi_epi8(row[0], row[1]), odd_high = _mm_unpackhi_epi8(row[2], row[3]);
        _mm_store_si128((__m128i *)tiles, _mm_unpacklo_epi16(even, odd));
        _mm_store_si128((__m128i *)tiles + 1, _mm_unpackhi_epi16(even, odd));
        _mm_store_si128((__m128i *)tiles + 2, _mm_unpacklo_epi16(even_high, odd_high));
        _mm_store_si128((__m128i *)tiles + 3, _mm_unpackhi_epi16(even_high, odd_high));
    }
}

/* Memory of this thread's own, with whatever it held last; NULL if there is not enough. */
static uint8_t *kept_memory(long size) {
    static _Thread_local uint8_t *kept;
    static _Thread_local long kept_size;
    if (size > kept_size) {
        free(kept);
        kept = aligned_alloc(64, size);
        kept_size = kept ? size : 0;
    }
    return kept;
}

INLINE void configure(void) {
    struct { uint8_t palette, start, reserved[14]; uint16_t bytes[16]; uint8_t rows[16]; } all = {.palette = 1};
    for (int i = 0; i < 7; i++) all.bytes[i] = DEPTH, all.rows[i] = ROWS;
    _tile_loadconfig(&all);
}

/* A tile of a product, (rows, columns) of out, from rows of tiles along the sum. */
INLINE void multiply(const int8_t *left, const uint8_t *right, long deep, const float *units, float *out, long step,
                     long rows, long columns, int add) {
    int32_t sums[DIGITS][ROWS][16] __attribute__((aligned(64)));
    const __m512 base = _mm512_set1_ps(256.0f);
    __mmask16 within = (__mmask16)((1u << columns) - 1);
    for (long i = 0; i < rows; i++) __builtin_prefetch(out + i * step, 1);
    for (long first = 0; first < deep; first += DEEPEST, add = 1) {
        _tile_zero(0);
        _tile_zero(1);
        _tile_zero(2);
        for (long k = first; k < least(deep, first + DEEPEST); k++) {
            _tile_loadd(6, right + k * TILE, 64);
            _tile_loadd(3, left + (k * DIGITS) * TILE, 64);
            _tile_dpbsud(0, 3, 6);
            _tile_loadd(4, left + (k * DIGITS + 1) * TILE, 64);
            _tile_dpbsud(1, 4, 6);
            _tile_loadd(5, left + (k * DIGITS + 2) * TILE, 64);
            _tile_dpbsud(2, 5, 6);
        }
        _tile_stored(0, sums[0], 64);
        _tile_stored(1, sums[1], 64);
        _tile_stored(2, sums[2], 64);
        for (long i = 0; i < rows; i++) {
            __m512 x[DIGITS], before = _mm512_setzero_ps();
            for (int digit = 0; digit < DIGITS; digit++)
                x[digit] = _mm512_cvtepi32_ps(_mm512_load_si512(sums[digit][i]));
            __m512 whole = _mm512_fmadd_ps(base, _mm512_fmadd_ps(base, x[2], x[1]), x[0]);
            whole = _mm512_mul_ps(whole, _mm512_set1_ps(1.0f / 255)); /* a unit / 255 might be denormal */
            if (add) before = _mm512_maskz_loadu_ps(within, out + i * step);
            _mm512_mask_storeu_ps(out + i * step, within, _mm512_fmadd_ps(whole, _mm512_set1_ps(units[i]), before));
        }
    }
}

/* out (runs, n, columns) = a (runs, n, depth) @ images / 255, or that is added to it; 0 if memory was short.
 *
 * tiles, units: rooms for the digits of a run: one for each run if they are kept, else one or more. An a that is NULL
 * has its digits there already. images: those of a run begin at images + run * run_step, each `step` bytes after the
 * one before it; the sum is along their pixels, or else along the images. */
AMX int product(const float *a, int8_t *tiles, float *units, const uint8_t *images, float *out, long runs, long n,
                long depth, long columns, long run_step, long step, long rooms, int along_pixels, int add,
                float largest, float smallest) {
    long deep = parts(depth, DEPTH), block = deep * DIGITS * TILE, failed = 0;
#pragma omp parallel reduction(+ : failed)
    {
        long threads = omp_get_num_threads(), me = omp_get_thread_num();
        int apart = runs % threads == 0 && (rooms == runs || rooms >= threads); /* each thread has runs of its own */
        long parts_of_run = apart ? 1 : threads, part = apart ? 0 : me;
        long first_row = n * part / parts_of_run, last_row = n * (part + 1) / parts_of_run;
        long slice = 16 * least(WIDE, parts(columns, 16 * parts_of_run));
        uint8_t *right = kept_memory(deep * TILE * WIDE);
        if (right)
            configure();
        else
            failed = 1;
        for (long run = apart ? me : 0; run < runs; run += apart ? threads : 1) {
            long room = rooms == runs ? run : apart ? me : 0;
            int8_t *left = tiles + room * parts(n, ROWS) * block;
            float *unit = units + room * n;
            if (a)
                for (long i = first_row; i < last_row; i++)
                    unit[i] = row_digits(a + (run * n + i) * depth, depth, left + i / ROWS * block + i % ROWS * DEPTH,
                                         largest, smallest);
            if (!apart) {
#pragma omp barrier
            }
            for (long start = part * slice; right && start < columns; start += parts_of_run * slice) {
                const uint8_t *from = images + run * run_step;
                long stop = least(columns, start + slice);
                for (long j = start; j < stop; j += 16) {
                    uint8_t *to = right + (j - start) / 16 * deep * TILE;
                    if (along_pixels)
                        pack_images(from + j * step, step, depth, least(16, stop - j), to);
                    else
                        pack_pixels(from + j, step, depth, least(16, stop - j), to);
                }
                for (long i = 0; i < n; i += ROWS)
                    for (long j = start; j < stop; j += 16)
                        multiply(left + i / ROWS * block, right + (j - start) / 16 * deep * TILE, deep, unit + i,
                                 out + (run * n + i) * columns + j, columns, least(ROWS, n - i), least(16, stop - j),
                                 add);
            }
            if (!apart) {
#pragma omp barrier
            }
        }
        if (right) _tile_release();
    }
    return !failed;
}
#else
int usable(void) { return 0; }
#endif
