/* OpenMP's threads for the sanitized builds. gcc's own library is not instrumented: ThreadSanitizer sees none of its
 * barriers, and would report races that there are not. These are plain POSIX threads and barriers, which it knows.
 *
 * There is what gcc calls for the constructs that fmnist/speed/ has. One that is missing is an error of the linker.
 * Threads live to the end, as OpenMP's do, with what they have in their own memory. OMP_NUM_THREADS: how many there are.
 */
#include <omp.h>
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

static pthread_barrier_t all, team;
static void (*work)(void *);
static void *shared;
static int threads, members; /* in all; of the team in the region that runs */
static _Thread_local int me;

/* For what depends on time: seconds that a region takes, and that its other threads are late; none: the true ones. */
double region_takes = 0, others_late = 0, pretended_time = 0;
long regions = 0;

static void *serve(void *number) {
    me = (int)(long)number;
    for (;;) {
        pthread_barrier_wait(&all);
        if (me < members) work(shared);
        pthread_barrier_wait(&all);
    }
    return NULL;
}

__attribute__((constructor)) static void start(void) {
    const char *asked = getenv("OMP_NUM_THREADS");
    threads = asked ? atoi(asked) : 2;
    members = 1;
    pthread_barrier_init(&all, NULL, (unsigned)threads);
    for (long number = 1; number < threads; number++) {
        pthread_t thread;
        if (pthread_create(&thread, NULL, serve, (void *)number)) abort();
        pthread_detach(thread);
    }
}

/* A region. limit: of num_threads(...), 1 where if(...) is false, 0 without either. */
void GOMP_parallel(void (*region)(void *), void *data, unsigned limit, unsigned flags) {
    (void)flags;
    work = region, shared = data, pretended_time += region_takes;
    members = limit && (int)limit < threads ? (int)limit : threads;
    pthread_barrier_init(&team, NULL, (unsigned)members);
    pthread_barrier_wait(&all);
    region(data);
    pthread_barrier_wait(&all);
    regions++, pretended_time += others_late;
    pthread_barrier_destroy(&team);
    members = 1;
}

void GOMP_barrier(void) {
    if (members > 1) pthread_barrier_wait(&team);
}

int omp_get_num_threads(void) { return members; }
int omp_get_max_threads(void) { return threads; }
int omp_get_thread_num(void) { return me; }

double omp_get_wtime(void) {
    if (region_takes > 0) return pretended_time;
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (double)now.tv_sec + 1e-9 * (double)now.tv_nsec;
}
