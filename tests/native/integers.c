/* fmnist/speed/integers.c at odd sizes, against plain loops. */
#if defined(__x86_64__) && defined(__linux__)
#include "tiles.h"
#endif
#include "../../fmnist/speed/integers.c"

#include "check.h"

#if defined(__x86_64__) && defined(__linux__)
static const char *unable(void) {
    int able = __builtin_cpu_supports("avx512bw") && __builtin_cpu_supports("avx512vl") &&
               __builtin_cpu_supports("avx512vbmi");
    return able ? NULL : "this processor has no AVX-512 VBMI";
}

/* out = a @ images / 255, then the same added to it with the digits that were kept. */
static void try(long runs, long n, long depth, long columns, long rooms, int along_pixels, int shared) {
    long rows = along_pixels ? columns : depth, width = along_pixels ? depth : columns, step = width + 3;
    long one = (rows - 1) * step + width, run_step = shared ? 0 : one; /* nothing lies behind the last image */
    float *a = floats(runs * n * depth), *units = room(rooms * n * 4), *out = room(runs * n * columns * 4);
    int8_t *digits = room(rooms * parts(n, ROWS) * parts(depth, DEPTH) * DIGITS * TILE);
    uint8_t *images = pixels(shared ? one : runs * one);
    char what[200];
    for (int add = 0; add < (rooms == runs ? 2 : 1); add++) {
        if (!product(add ? NULL : a, digits, units, images, out, runs, n, depth, columns, run_step, step, rooms,
                     along_pixels, add, 8355000.0f, 1e-30f))
            abort();
        snprintf(what, sizeof what, "runs %ld, n %ld, depth %ld, columns %ld, rooms %ld, along_pixels %d, add %d", runs,
                 n, depth, columns, rooms, along_pixels, add);
        for (long run = 0; run < runs; run++)
            for (long i = 0; i < n; i++)
                for (long j = 0; j < columns; j++) {
                    double sum = 0;
                    for (long k = 0; k < depth; k++)
                        sum += a[(run * n + i) * depth + k] *
                               (double)images[run * run_step + (along_pixels ? j * step + k : k * step + j)];
                    check(out[(run * n + i) * columns + j], (1 + add) * sum / 255, 2e-7 * (double)(depth + 1), what);
                }
    }
    end_case();
}

static void try_all(void) {
    static const long sizes[][3] = {{1, 1, 1}, {16, 64, 16}, {17, 65, 17}, {15, 63, 79}, {33, 129, 65}, {10, 100, 3}};
    static const long rooms[][2] = {{1, 1}, {3, 3}, {3, 1}, {4, 2}}; /* after the number of runs */
    for (unsigned size = 0; size < sizeof sizes / sizeof *sizes; size++)
        for (unsigned of = 0; of < sizeof rooms / sizeof *rooms; of++)
            for (int way = 0; way < 4; way++)
                try(rooms[of][0], sizes[size][0], sizes[size][1], sizes[size][2], rooms[of][1], way & 1, way >> 1);
    try(1, 2, DEPTH * DEEPEST + 1, 2, 1, 1, 0); /* longer than a sum that an int32 holds */
}
#else
static const char *unable(void) { return "nothing of it is for this machine"; }
static void try_all(void) {}
#endif
