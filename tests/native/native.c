/* fmnist/speed/native/ at odd sizes: a small network's step as a program, against plain loops. */
#include "../../fmnist/speed/native/native.h"

#include "check.h"

void run(const Instruction *list, long count);

static const char *unable(void) { return NULL; }

static Operand by_feature(void *at, long features, long rows) { return (Operand){at, features * rows, rows, 1}; }
static Operand matrix(void *at, long rows, long columns) { return (Operand){at, rows * columns, columns, 1}; }
static Operand turned(Operand x) { return (Operand){x.at, x.run, x.row, x.feature}; }

/* One hidden layer: images -> relu -> logits -> log softmax; gradients of both weights, of a bias and of the hidden
 * units, for K runs that share their images or not. */
static void step(long runs, long rows, long pixels_, long hidden, long classes, int shared) {
    uint8_t *x = pixels((shared ? 1 : runs) * rows * pixels_);
    float *w = floats(runs * hidden * pixels_), *bias = floats(runs * hidden), *v = floats(runs * classes * hidden);
    float *h = room(4 * runs * hidden * rows), *z = room(4 * runs * classes * rows), *g = room(4 * runs * hidden * rows);
    float *dw = room(4 * runs * hidden * pixels_), *dv = room(4 * runs * classes * hidden);
    float *db = room(4 * runs * hidden), *share = floats(runs * rows), *means = room(4 * runs * rows);
    int64_t *label = room(8 * runs * rows);
    double *total = room(8 * runs);
    for (long i = 0; i < runs * rows; i++) label[i] = number((uint32_t)classes);
    for (long i = 0; i < runs; i++) total[i] = 1;
    Operand images = {(char *)x, shared ? 0 : rows * pixels_, 0, pixels_}, H = by_feature(h, hidden, rows);
    Operand Z = by_feature(z, classes, rows), G = by_feature(g, hidden, rows), V = matrix(v, classes, hidden);
    Operand of_bias = {(char *)bias, hidden, 1, 0}, of_row = {(char *)means, rows, 0, 1};
    const Instruction program[] = {
        {MULTIPLY_IMAGES, 1, 0, 1, runs, hidden, rows, pixels_, 0, 0, {H, matrix(w, hidden, pixels_), images}},
        {ADD, 0, 1, 0, runs, hidden, rows, 0, 0, 1, {H, H, of_bias}},
        {CLAMP_MIN, 0, 0, 0, runs, hidden, rows, 0, 0, 0, {H, H}},
        {SUM_FEATURES, 0, 0, 0, runs, 1, rows, hidden, 0, 1.0 / (double)hidden, {of_row, H}},
        {MULTIPLY, 0, 0, 0, runs, classes, rows, hidden, 0, 0, {Z, V, H}},
        {LOG_SOFTMAX, 0, 0, 0, runs, classes, rows, 0, 0, 0, {Z, Z}},
        {SCATTER, 0, 0, 0, runs, classes, rows, 0, 0, 0, {Z, {(char *)label, rows, 0, 1}, {(char *)share, rows, 0, 1}}},
        {MULTIPLY, 0, 0, 0, runs, hidden, rows, classes, 0, 0, {G, turned(V), Z}},
        {THRESHOLD_BACKWARD, 0, 0, 0, runs, hidden, rows, 0, 0, 0, {G, G, H}},
        {MULTIPLY, 1, 1, 0, runs, classes, hidden, rows, 0, 0, {matrix(dv, classes, hidden), Z, turned(H)}},
        {MULTIPLY_IMAGES, 1, 0, 0, runs, hidden, pixels_, rows, 0, 0, {matrix(dw, hidden, pixels_), G, images}},
        {SUM_ROWS, 1, 0, 0, runs, hidden, 1, rows, 0, 1, {{(char *)db, hidden, 1, 0}, G}},
        {ACCUMULATE, 1, 0, 0, 1, runs, 1, 0, 0, 0.5, {{(char *)total, 0, 1, 0}, {(char *)bias, 0, hidden, 0}}},
    };
    run(program, sizeof program / sizeof *program);
    char what[100];
    snprintf(what, sizeof what, "runs %ld, rows %ld, pixels %ld, hidden %ld, classes %ld", runs, rows, pixels_, hidden, classes);
    double *relu = malloc(8 * (size_t)(hidden * rows)), *logit = malloc(8 * (size_t)(classes * rows));
    double *back = malloc(8 * (size_t)(hidden * rows)), near = 1e-6 * (double)(pixels_ + rows + hidden) * (double)hidden;
    for (long r = 0; r < runs; r++) {
        const uint8_t *own = x + (shared ? 0 : r * rows * pixels_);
        for (long j = 0; j < rows; j++) {
            double sum = 0, most = -1e30, exponents = 0;
            for (long i = 0; i < hidden; i++) {
                double y = bias[r * hidden + i];
                for (long k = 0; k < pixels_; k++) y += w[(r * hidden + i) * pixels_ + k] * (own[j * pixels_ + k] / 255.0);
                sum += relu[i * rows + j] = h[(r * hidden + i) * rows + j] > 0 ? y : 0; /* a number near 0 is either */
            }
            check(means[r * rows + j], sum / (double)hidden, near, what);
            for (long c = 0; c < classes; c++) {
                double y = 0;
                for (long i = 0; i < hidden; i++) y += v[(r * classes + c) * hidden + i] * relu[i * rows + j];
                logit[c * rows + j] = y, most = y > most ? y : most;
            }
            for (long c = 0; c < classes; c++) exponents += exp(logit[c * rows + j] - most);
            for (long c = 0; c < classes; c++) {
                double *y = logit + c * rows + j;
                *y += -most - log(exponents) + (label[r * rows + j] == c ? share[r * rows + j] : 0);
                check(z[(r * classes + c) * rows + j], *y, near, what);
            }
            for (long i = 0; i < hidden; i++) {
                double *y = back + i * rows + j;
                *y = 0;
                for (long c = 0; c < classes; c++) *y += v[(r * classes + c) * hidden + i] * logit[c * rows + j];
                if (relu[i * rows + j] == 0) *y = 0;
                check(g[(r * hidden + i) * rows + j], *y, near * 10, what);
            }
        }
        for (long i = 0; i < hidden; i++) {
            double sum = 0;
            for (long j = 0; j < rows; j++) sum += back[i * rows + j];
            check(db[r * hidden + i], sum, near * 100, what);
            for (long k = 0; k < pixels_; k++) {
                double y = 0;
                for (long j = 0; j < rows; j++) y += back[i * rows + j] * (own[j * pixels_ + k] / 255.0);
                check(dw[(r * hidden + i) * pixels_ + k], y, near * 100, what);
            }
            for (long c = 0; c < classes; c++) {
                double y = 0;
                for (long j = 0; j < rows; j++) y += logit[c * rows + j] * relu[i * rows + j];
                check(dv[(r * classes + c) * hidden + i], y, near * 100, what);
            }
        }
        check(total[r], 1 + 0.5 * bias[r * hidden], 1e-6, what);
    }
    free(relu), free(logit), free(back);
    end_case();
}

/* Every elementwise operation, on lines along rows and along features: only memory is judged here. */
static void elements(long runs, long features, long rows, int by_row) {
    for (int code = COPY; code < CODES; code++) {
        Operand operand[4];
        for (int i = 0; i < 4; i++) {
            operand[i] = by_feature(floats(runs * features * rows), features, rows);
            if (by_row) operand[i] = (Operand){operand[i].at, features * rows, 1, features};
        }
        Instruction one = {code, 0, 0, 0, runs, features, rows, 0, 0, 0.5, {operand[0], operand[1], operand[2], operand[3]}};
        run(&one, 1);
        end_case();
    }
}

/* Adam's update of a block of each run, with numbers of each run's own. */
static void update(long runs, long size) {
    float *block[4];
    double *by = room(8 * 7 * runs), *before[4];
    Instruction one = {ADAM, 1, 0, 0, runs, size, 1, 0, 0, 0, {[4] = {(char *)by, 7, 0, 0}}};
    for (long i = 0; i < 7 * runs; i++) by[i] = 0.1 * (double)(1 + i % 7) + 0.01 * (double)(i / 7);
    for (int which = 0; which < 4; which++) {
        block[which] = floats(runs * size), before[which] = malloc(8 * (size_t)(runs * size));
        one.operand[which] = (Operand){(char *)block[which], size, 1, 0};
        for (long i = 0; i < runs * size; i++) {
            if (which == 3) block[which][i] *= block[which][i];
            before[which][i] = block[which][i];
        }
    }
    run(&one, 1);
    for (long i = 0; i < runs * size; i++) {
        const double *n = by + i / size * 7, p = before[0][i], g = before[1][i] + n[5] * p;
        double mean = before[2][i] + n[1] * (g - before[2][i]), square = before[3][i] + n[2] * (g * g - before[3][i]);
        check(block[1][i], before[1][i], 0, "gradient");
        check(block[2][i], mean, 1e-5, "mean");
        check(block[3][i], square, 1e-5, "square");
        check(block[0][i], n[6] * p - n[0] * mean / (sqrt(square) * n[3] + n[4]), 1e-4, "parameter");
    }
    for (int which = 0; which < 4; which++) free(before[which]);
    end_case();
}

/* Programs for which other threads are late: those that one thread does sooner are left to it, and for 0.2 s at most. */
extern double region_takes, others_late, pretended_time;
extern long regions;
int omp_get_max_threads(void);

static long shared_out(long programs) {
    float *x = floats(1);
    Instruction one = {COPY, 0, 0, 0, 1, 1, 1, 0, 0, 0, {by_feature(x, 1, 1), by_feature(x, 1, 1)}};
    long before = regions;
    for (long i = 0; i < programs; i++) run(&one, 1);
    end_case();
    return regions - before;
}

static void lateness(void) {
    if (omp_get_max_threads() == 1) return; /* there are no others */
    pretended_time += 1e6, region_takes = 20e-3, others_late = 8e-3; /* alone it would take 40 ms at least */
    check((double)shared_out(9), 9, 0, "a wait that is shorter than the work alone");
    region_takes = 1e-4, others_late = 9e-4;
    check((double)shared_out(9), 9, 0, "a wait of less than a millisecond");
    region_takes = 1e-3, others_late = 5e-3;
    check((double)shared_out(9), 1, 0, "others are late: one thread works alone");
    pretended_time += 7e-3;
    check((double)shared_out(9), 1, 0, "a while later the others are tried again");
    for (int i = 0; i < 20; i++, pretended_time += 0.2 + 1e-6)
        check((double)shared_out(9), i > 0, 0, "after 0.2 seconds at the latest they are");
    others_late = 0, pretended_time += 0.2;
    check((double)shared_out(999), 999, 0, "they are late no longer");
    region_takes = 0;
}

static void try_all(void) {
    lateness();
    static const long sizes[][5] = { /* runs, rows, pixels, hidden, classes */
        {1, 1, 1, 1, 2}, {1, 33, 65, 17, 3}, {2, 64, 64, 8, 10}, {3, 70, 100, 105, 5}, {1, 130, 20, 13, 7}, {5, 3, 15, 30, 4},
    };
    for (unsigned i = 0; i < sizeof sizes / sizeof *sizes; i++)
        for (int shared = 0; shared < 2; shared++)
            step(sizes[i][0], sizes[i][1], sizes[i][2], sizes[i][3], sizes[i][4], shared);
    for (long runs = 1; runs < 4; runs++) update(runs, 1), update(runs, 17), update(runs, 1001);
    for (int by_row = 0; by_row < 2; by_row++) elements(3, 17, 65, by_row), elements(1, 1, 3, by_row);
}
