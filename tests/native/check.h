/* What the drivers share. A driver defines `unable` and `try_all`; this is its main program.
 *
 * All cases are tried with their memory at three places: on the heap, where AddressSanitizer finds what is read or
 * written outside by plain C; and just before or behind a page that nobody may touch, where the processor finds what
 * vector instructions do, which AddressSanitizer does not know.
 */
#include <math.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

/* Why nothing can be tried on this machine, or NULL. */
static const char *unable(void);
/* Try all cases. */
static void try_all(void);

static enum { HEAP, BEFORE_A_GUARD, BEHIND_A_GUARD, PLACES } place;
static struct { char *memory; size_t bytes; } rooms_taken[32];
static int rooms_count;

/* Memory of exactly so many bytes, full of nan: it shows if something is used that was not written. */
static inline void *room(long bytes) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE), size = (size_t)bytes, inner = (size + page - 1) / page * page;
    char *memory = NULL, *start;
    if (place == HEAP) {
        if (posix_memalign((void **)&memory, 64, size)) abort(); /* aligned as torch's is */
        start = memory;
    } else {
        memory = mmap(NULL, inner + 2 * page, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
        if (memory == MAP_FAILED || mprotect(memory + page, inner, PROT_READ | PROT_WRITE)) abort();
        start = memory + page + (place == BEFORE_A_GUARD ? inner - size : 0);
    }
    if (rooms_count == sizeof rooms_taken / sizeof *rooms_taken) abort();
    rooms_taken[rooms_count].memory = memory;
    rooms_taken[rooms_count++].bytes = inner + 2 * page;
    for (size_t i = 0; i < size; i++) start[i] = (char)0xff;
    return start;
}

/* Give back all memory that a case has taken. */
static inline void end_case(void) {
    while (rooms_count--)
        if (place == HEAP)
            free(rooms_taken[rooms_count].memory);
        else
            munmap(rooms_taken[rooms_count].memory, rooms_taken[rooms_count].bytes);
    rooms_count = 0;
}

/* A number in [0, below); the same ones in each run. */
static inline uint32_t number(uint32_t below) {
    static uint64_t state = 1;
    state = state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)((state >> 33) % below);
}

static inline float *floats(long count) { /* in [-1, 1] */
    float *x = room(count * (long)sizeof *x);
    for (long i = 0; i < count; i++) x[i] = (float)number(2000001) / 1e6f - 1;
    return x;
}

static inline uint8_t *pixels(long count) { /* half of them black */
    uint8_t *x = room(count);
    for (long i = 0; i < count; i++) x[i] = number(2) ? (uint8_t)number(256) : 0;
    return x;
}

/* End the program unless a result is near the true one. what: of which case. */
static inline void check(double got, double expected, double tolerance, const char *what) {
    if (fabs(got - expected) <= tolerance) return;
    fprintf(stderr, "%s: got %.9g, expected %.9g\n", what, got, expected);
    exit(1);
}

/* Whether this processor has the instructions that this was compiled for. */
static inline int able(void) {
#if defined(__AVX512F__)
    return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw") &&
           __builtin_cpu_supports("avx512dq") && __builtin_cpu_supports("avx512vl");
#elif defined(__AVX2__)
    return __builtin_cpu_supports("avx2") && __builtin_cpu_supports("fma");
#else
    return 1;
#endif
}

int main(int count, char **words) {
    (void)count;
    const char *reason = able() ? unable() : "this processor lacks the instructions";
    if (reason) {
        printf("%s: built with sanitizers, not run: %s\n", words[0], reason);
        return 0;
    }
    for (place = HEAP; place < PLACES; place++) try_all();
    printf("%s: right and clean with %s threads\n", words[0], getenv("OMP_NUM_THREADS"));
    return 0;
}
