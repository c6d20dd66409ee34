/* What a processor can do, for isa.py, which compiles and times it.

   The float32 peak of one thread: fused multiply-adds that wait for nothing, in the widest registers of the compiler's
   instruction set. */
#if defined __AVX512F__
enum { BYTES = 64 };
#elif defined __AVX__
enum { BYTES = 32 };
#else
enum { BYTES = 16 };
#endif
enum { SUMS = 12, LANES = BYTES / sizeof(float) };  /* enough sums to hide a multiply-add's latency; all in registers */
typedef float vector __attribute__((vector_size(BYTES)));

/* Returns the number of floating-point operations. */
double loop(long rounds) {
    vector factor = {0}, term = {0};
    factor += 0.999f, term += 0.001f;
    vector a = term, b = a + a, c = b + a, d = c + a, e = d + a, f = e + a, g = f + a, h = g + a, i = h + a, j = i + a,
           k = j + a, l = k + a;
    for (long r = 0; r < rounds; r++) {
        a = a * factor + term, b = b * factor + term, c = c * factor + term, d = d * factor + term;
        e = e * factor + term, f = f * factor + term, g = g * factor + term, h = h * factor + term;
        i = i * factor + term, j = j * factor + term, k = k * factor + term, l = l * factor + term;
    }
    vector all = a + b + c + d + e + f + g + h + i + j + k + l;
    return all[0] > 0 ? 2.0 * SUMS * LANES * rounds : 0;
}

static _Atomic int turn;

/* Two threads, `me` 0 and 1, hand a word to each other so many times. */
void hand_over(int me, long times) {
    for (long i = 0; i < times; i++) {
        while (turn != me) continue;
        turn = !me;
    }
}
