/* A program: the operations of a training step, done in one parallel region. */
#include "native.h"

int omp_get_num_threads(void), omp_get_thread_num(void);
double omp_get_wtime(void); /* of torch's OpenMP, which is to be loaded before */

enum { BLOCK = 64 }; /* rows of a batch that go through consecutive operations together: they stay in the caches */
enum { LONG = 384 }; /* columns of a product with images for each thread; with so many they alone are shared: evenly */
enum { FEW = 48 };   /* outputs; with fewer for each thread, threads share the columns of an operation too */
static const double LATE = 1e-3, LONGEST = 0.2; /* seconds: to wait; that the calling thread works by itself, at most */

static void (*const DO[])(const Instruction *, Part) = {
    multiply, multiply_images, sum_rows, sum_features, log_softmax, scatter, accumulate, adam, elementwise,
};

static void perform(const Instruction *one, Part part) {
    if (part.features > 0 && part.rows > 0) DO[least(one->code, COPY)](one, part);
}

/* Rows of the batch from operation to operation: a thread waits for nobody. The first thread has no fewer than any. */
static void by_rows(const Instruction *list, long count, long me, long threads) {
    long runs = list->runs, rows = list->turned ? list->features : list->rows, block = BLOCK;
    if (runs % threads) block = least(BLOCK, parts(parts(rows, threads), LANES) * LANES);
    long blocks = parts(rows, block), units = runs * blocks;
    for (long unit = parts(units * me, threads); unit < parts(units * (me + 1), threads); unit++) {
        long first = unit % blocks * block, some_rows = least(block, rows - first);
        for (const Instruction *one = list; one < list + count; one++) {
            Part part = {unit / blocks, 0, one->features, first, some_rows};
            if (one->turned) part = (Part){unit / blocks, first, some_rows, 0, one->rows};
            perform(one, part);
        }
    }
}

/* Outputs of one operation, shared out among threads: whole runs, or else features, then rows as well. */
static void by_outputs(const Instruction *one, long me, long threads) {
    if (one->runs % threads == 0) {
        for (long run = one->runs * me / threads; run < one->runs * (me + 1) / threads; run++)
            perform(one, (Part){run, 0, one->features, 0, one->rows});
        return;
    }
    long across = one->code == MULTIPLY_IMAGES && one->rows >= LONG * threads ? 1 : threads;
    while (across > 1 && (threads % across || one->features < across * FEW) && one->rows > 1) across--;
    long down = threads / across;
    long tall = parts(parts(one->features, across), LANES) * LANES, wide = parts(parts(one->rows, down), 16) * 16;
    long feature = me / down * tall, row = me % down * wide;
    for (long run = 0; run < one->runs; run++)
        perform(one, (Part){run, feature, least(tall, one->features - feature), row, least(wide, one->rows - row)});
}

/* One thread's part of a program. Returns how long it has waited for others, at most. */
static double take_part(const Instruction *list, long count, long me, long threads) {
    double longest = 0;
    for (long i = 0, end; i < count; i = end) {
        for (end = i + 1; end < count && !list[i].alone && !list[end].alone && !list[end].waits; end++) continue;
        if (list[i].alone)
            by_outputs(list + i, me, threads);
        else
            by_rows(list + i, end - i, me, threads);
        if (end < count && list[end].waits) {
            double since = omp_get_wtime();
#pragma omp barrier
            double waited = omp_get_wtime() - since;
            if (waited > longest) longest = waited;
        }
    }
    return longest;
}

/* The calling thread has the largest part of everything: it waits for long only if another is not running, as beside
 * other work. If it had ended sooner by itself, it works alone for a while: for the longer the more often that is met,
 * in relation to the time that passes between. Results do not depend on it. */
void run(const Instruction *list, long count) {
    static _Thread_local double until = 0, penalty = 0; /* seconds */
    double start = omp_get_wtime(), waited = 0, done = 0, threads = 1;
    if (start < until) {
        take_part(list, count, 0, 1);
        return;
    }
#pragma omp parallel
    {
        double own = take_part(list, count, omp_get_thread_num(), omp_get_num_threads());
        if (omp_get_thread_num() == 0) waited = own, done = omp_get_wtime(), threads = omp_get_num_threads();
    }
    double end = omp_get_wtime(), took = end - start;
    if (end - done > waited) waited = end - done;
    if (waited > LATE && threads * (took - waited) < took) {
        penalty = 2 * penalty + took;
        if (penalty > LONGEST) penalty = LONGEST;
        until = end + penalty;
    } else
        penalty = took < penalty ? penalty - took : 0;
}
