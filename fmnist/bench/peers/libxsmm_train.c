/* 784-200-10 trained by plain SGD with the kernels of LIBXSMM: no shuffle, no figures. with_libxsmm.py calls it.

   LIBXSMM's products are column-major, so its matrices are the transposes of these row-major ones. Gradients are scaled
   by -lr / rows of the batch as soon as they are made: a product that adds to its output then updates the weights. */
#include <libxsmm.h>
#include <math.h>
#include <omp.h>
#include <stdlib.h>
#include <string.h>

enum { IN = 784, HID = 200, OUT = 10, CHUNK = 128, INNER = 112 };  /* the last two: rows and inputs at a time */

typedef struct { float w1[IN * HID], b1[HID], w2[OUT * HID], b2[OUT]; } Net;

static struct { int rows, batch; float lr; const float *x; float *flipped; const long long *labels; Net *net; } work;
static Net gradient;
static float flipped_w2[HID * OUT];
static float hidden[CHUNK * HID], d_hidden[CHUNK * HID], d_out[CHUNK * OUT], d_out_flipped[OUT * CHUNK];

/* c (n, m) = or += b (n, k) a (k, m), all row-major; distances between rows as given. */
static void product(int m, int n, int k, const float *a, int lda, const float *b, int ldb, float *c, int ldc, float add) {
    const float one = 1;
    libxsmm_smmdispatch(m, n, k, &lda, &ldb, &ldc, &one, &add, NULL, NULL)(a, b, c);
}

static int smaller(int a, int b) { return a < b ? a : b; }

/* rows [from, to) of a chunk: outputs, and the gradients with respect to them and to the hidden layer */
static void pass(const float *x, const long long *labels, int rows, int from, int to, float scale) {
    int n = to - from;
    float *h = hidden + from * HID, *dh = d_hidden + from * HID, *d = d_out + from * OUT;
    const Net *net = work.net;
    if (!n) return;
    for (int r = 0; r < n; r++) memcpy(h + r * HID, net->b1, sizeof net->b1);
    for (int k = 0; k < IN; k += INNER)
        product(HID, n, smaller(INNER, IN - k), net->w1 + k * HID, HID, x + (size_t)from * IN + k, IN, h, HID, 1);
    for (int i = 0; i < n * HID; i++) h[i] = h[i] > 0 ? h[i] : 0;
    for (int r = 0; r < n; r++) memcpy(d + r * OUT, net->b2, sizeof net->b2);
    product(OUT, n, HID, flipped_w2, OUT, h, HID, d, OUT, 1);
    for (int r = 0; r < n; r++) {
        float *p = d + r * OUT, top = p[0], sum = 0;
        for (int j = 1; j < OUT; j++) top = p[j] > top ? p[j] : top;
        for (int j = 0; j < OUT; j++) sum += p[j] = expf(p[j] - top);
        for (int j = 0; j < OUT; j++) p[j] = scale * (p[j] / sum - (labels[from + r] == j));
        for (int j = 0; j < OUT; j++) d_out_flipped[j * rows + from + r] = p[j];
    }
    product(HID, n, OUT, net->w2, HID, d, OUT, dh, HID, 0);
    for (int i = 0; i < n * HID; i++) dh[i] = h[i] > 0 ? dh[i] : 0;
}

/* adds the chunk's gradient of inputs [from, to) to `into`; the first thread adds all else */
static void update(Net *into, const float *flipped, int rows, int from, int to, int first) {
    if (to > from)
        product(HID, to - from, rows, d_hidden, HID, flipped + (size_t)from * rows, rows, into->w1 + from * HID, HID, 1);
    if (!first) return;
    product(HID, OUT, rows, hidden, HID, d_out_flipped, rows, into->w2, HID, 1);
    for (int r = 0; r < rows; r++) {
        for (int j = 0; j < HID; j++) into->b1[j] += d_hidden[r * HID + j];
        for (int j = 0; j < OUT; j++) into->b2[j] += d_out[r * OUT + j];
    }
}

static void flip_w2(void) {
    for (int j = 0; j < OUT; j++) for (int i = 0; i < HID; i++) flipped_w2[i * OUT + j] = work.net->w2[j * HID + i];
}

/* x (rows, 784), labels (rows): kept by the caller, as is the net. Each chunk of x is also kept transposed.
   Returns the instruction set that LIBXSMM has chosen; NULL if there is no memory. */
const char *prepare(int rows, int batch, float lr, const float *x, const long long *labels, Net *net) {
    float *flipped = malloc(sizeof(float) * IN * rows);
    if (!flipped) return NULL;
    libxsmm_init();
    for (int start = 0; start < rows; start += batch)
        for (int end = smaller(rows, start + batch), at = start; at < end; at += CHUNK) {
            int n = smaller(CHUNK, end - at);
            for (int r = 0; r < n; r++)
                for (int p = 0; p < IN; p++) flipped[(size_t)at * IN + p * n + r] = x[(size_t)(at + r) * IN + p];
        }
    work.rows = rows, work.batch = batch, work.lr = lr, work.x = x, work.flipped = flipped;
    work.labels = labels, work.net = net;
    flip_w2();
    return libxsmm_get_target_arch();
}

void epoch(void) {
#pragma omp parallel
    {
        int threads = omp_get_num_threads(), me = omp_get_thread_num();
        int first = IN * me / threads, last = IN * (me + 1) / threads;
        for (int start = 0; start < work.rows; start += work.batch) {
            int size = smaller(work.batch, work.rows - start);
            Net *into = size > CHUNK ? &gradient : work.net;
            for (int at = start; at < start + size; at += CHUNK) {
                int n = smaller(CHUNK, start + size - at);
                size_t offset = (size_t)at * IN;
                pass(work.x + offset, work.labels + at, n, n * me / threads, n * (me + 1) / threads, -work.lr / size);
#pragma omp barrier
                update(into, work.flipped + offset, n, first, last, !me);
                if (!me && into == work.net) flip_w2();
#pragma omp barrier
            }
            if (into == work.net) continue;
            float *to = (float *)work.net, *from = (float *)&gradient;
#pragma omp for
            for (int i = 0; i < (int)(sizeof(Net) / sizeof(float)); i++) to[i] += from[i], from[i] = 0;
#pragma omp single
            flip_w2();
        }
    }
}

/* c = b a, all (side, side): the product by which all entrants are compared */
void square(int side, const float *a, const float *b, float *c) {
#pragma omp parallel for
    for (int row = 0; row < side; row += 32)
        product(side, smaller(32, side - row), side, a, side, b + row * side, side, c + row * side, side, 0);
}
