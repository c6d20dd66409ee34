/* AMX's tiles in plain C, in place of its instructions: the driver of integers.c runs on processors without them, and
 * sanitizers see what is read and written, which they do not in instructions that they do not know. */
#include <immintrin.h>
#include <stdint.h>

#undef _tile_loadconfig
#undef _tile_release
#undef _tile_zero
#undef _tile_loadd
#undef _tile_stored
#undef _tile_dpbsud
#define _tile_loadconfig(config) ((void)(config))
#define _tile_release() ((void)0)
#define _tile_zero(tile) tile_zero(tile)
#define _tile_loadd(tile, from, step) tile_load(tile, from, step)
#define _tile_stored(tile, to, step) tile_store(tile, to, step)
#define _tile_dpbsud(sums, left, right) tile_multiply(sums, left, right)

static _Thread_local union { int32_t sums[16][16]; int8_t left[16][64]; uint8_t right[16][64]; } tiles[8];

static inline void tile_zero(int tile) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++) tiles[tile].sums[i][j] = 0;
}

static inline void tile_load(int tile, const void *from, long step) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 64; j++) tiles[tile].right[i][j] = ((const uint8_t *)from)[i * step + j];
}

static inline void tile_store(int tile, void *to, long step) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 64; j++) ((uint8_t *)to)[i * step + j] = tiles[tile].right[i][j];
}

/* It touches nothing but tiles: it is left alone by sanitizers, and ten times as fast. */
__attribute__((noinline, no_sanitize("address", "undefined", "thread")))
static void tile_multiply(int sums, int left, int right) {
    for (int i = 0; i < 16; i++)
        for (int j = 0; j < 16; j++)
            for (int k = 0; k < 64; k++)
                tiles[sums].sums[i][j] += tiles[left].left[i][k] * tiles[right].right[k / 4][j * 4 + k % 4];
}
