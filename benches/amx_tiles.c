/* How fast tiles of AMX are by where their operands come from, with one thread. Linux, an x86-64 CPU with AMX:
 *
 *   gcc -O2 -mamx-tile -mamx-bf16 benches/amx_tiles.c -o target/amx_tiles && target/amx_tiles 576 && target/amx_tiles 1536
 *
 * The loop loads as that of crates/compute/src/cpu/amx.rs, where weights and x have since changed places: two tiles of weights
 * meet two of x, 512 rows of x and 96 of weights in all, K columns as given. "past L1": weights are loaded by tileloaddt1. "steps of 384": sums go on from memory.
 * The last two lines are of f32 as sums of three bf16, in operations of f32, with 192 weights as our tasks have them. */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { T = 512, N = 96, TRIES = 300 };

static double now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return t.tv_sec + 1e-9 * t.tv_nsec;
}

/* 32 rows of w, w_stride bytes apart, with 32 columns of x; sums in 32 rows of 128 bytes. */
#define TILES(NAME, LOAD_W)                                                                                              \
    static void NAME(int first, long steps, const char *x, const char *w, long w_stride, char *out) {                    \
        const char *lower = w + 16 * w_stride;                                                                           \
        char *lower_out = out + 2048;                                                                                    \
        if (first)                                                                                                       \
            __asm__ volatile("tilezero %tmm0\n tilezero %tmm1\n tilezero %tmm2\n tilezero %tmm3\n");                     \
        else                                                                                                             \
            __asm__ volatile("tileloadd (%0,%2,1),%%tmm0\n tileloadd 64(%0,%2,1),%%tmm1\n"                               \
                             "tileloadd (%1,%2,1),%%tmm2\n tileloadd 64(%1,%2,1),%%tmm3\n" ::"r"(out), "r"(lower_out),   \
                             "r"(128L) : "memory");                                                                      \
        __asm__ volatile("1:\n" LOAD_W " (%0,%4,1),%%tmm4\n tileloadd (%1,%5,1),%%tmm6\n tdpbf16ps %%tmm6,%%tmm4,%%tmm0\n" \
                         "tileloadd 64(%1,%5,1),%%tmm7\n tdpbf16ps %%tmm7,%%tmm4,%%tmm1\n" LOAD_W                        \
                         " (%2,%4,1),%%tmm5\n tdpbf16ps %%tmm6,%%tmm5,%%tmm2\n tdpbf16ps %%tmm7,%%tmm5,%%tmm3\n"         \
                         "add $64,%0\n add $64,%2\n add $2048,%1\n dec %3\n jnz 1b\n"                                    \
                         : "+r"(w), "+r"(x), "+r"(lower), "+r"(steps) : "r"(w_stride), "r"(128L) : "memory");            \
        __asm__ volatile("tilestored %%tmm0,(%0,%2,1)\n tilestored %%tmm1,64(%0,%2,1)\n"                                 \
                         "tilestored %%tmm2,(%1,%2,1)\n tilestored %%tmm3,64(%1,%2,1)\n" ::"r"(out), "r"(lower_out),     \
                         "r"(128L) : "memory");                                                                          \
    }
TILES(plain, "tileloadd")
TILES(past_l1, "tileloaddt1")

/* f32 as sums of three bf16, as crates/compute/src/cpu/amx.rs computes it: 32 rows of x, 64 bytes of each summand in turn, meet a
 * panel of 32 weights, 2,048 bytes of each summand in turn. W loads a summand of the panel, X one of x and multiplies. */
#define W(AT) "tileloaddt1 " #AT "(%0,%4,1),%%tmm6\n tileloaddt1 64+" #AT "(%0,%4,1),%%tmm7\n"
#define X(AT)                                                                                                            \
    "tileloadd " #AT "(%1,%5,1),%%tmm4\n tdpbf16ps %%tmm6,%%tmm4,%%tmm0\n tdpbf16ps %%tmm7,%%tmm4,%%tmm1\n"              \
    "tileloadd " #AT "(%2,%5,1),%%tmm5\n tdpbf16ps %%tmm6,%%tmm5,%%tmm2\n tdpbf16ps %%tmm7,%%tmm5,%%tmm3\n"
#define F32_TILES(NAME, PRODUCTS, PANEL)                                                                                 \
    static void NAME(int first, long steps, const char *x, long x_stride, const char *w, char *out, long out_stride) {   \
        const char *lower = x + 16 * x_stride;                                                                           \
        char *lower_out = out + 16 * out_stride;                                                                         \
        if (first)                                                                                                       \
            __asm__ volatile("tilezero %tmm0\n tilezero %tmm1\n tilezero %tmm2\n tilezero %tmm3\n");                     \
        else                                                                                                             \
            __asm__ volatile("tileloadd (%0,%2,1),%%tmm0\n tileloadd 64(%0,%2,1),%%tmm1\n"                               \
                             "tileloadd (%1,%2,1),%%tmm2\n tileloadd 64(%1,%2,1),%%tmm3\n" ::"r"(out), "r"(lower_out),   \
                             "r"(out_stride) : "memory");                                                                \
        __asm__ volatile("1:\n" PRODUCTS "add $192,%1\n add $192,%2\n add $" #PANEL ",%0\n dec %3\n jnz 1b\n"            \
                         : "+r"(w), "+r"(x), "+r"(lower), "+r"(steps) : "r"(128L), "r"(x_stride) : "memory");            \
        __asm__ volatile("tilestored %%tmm0,(%0,%2,1)\n tilestored %%tmm1,64(%0,%2,1)\n"                                 \
                         "tilestored %%tmm2,(%1,%2,1)\n tilestored %%tmm3,64(%1,%2,1)\n" ::"r"(out), "r"(lower_out),     \
                         "r"(out_stride) : "memory");                                                                    \
    }
F32_TILES(three_products, W(0) X(0) X(64) X(128), 2048)
F32_TILES(six_products, W(0) X(0) X(64) X(128) W(2048) X(0) X(64) W(4096) X(0), 6144)

static void measure(const char *name, void (*tiles)(int, long, const char *, const char *, long, char *), long k, long step,
                    const char *x, const char *w, char *out) {
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        double begun = now();
        for (long from = 0; from < k; from += step) {
            long columns = k - from < step ? k - from : step, stride = 2 * step + 64;
            for (long t = 0; t < T; t += 32)
                for (long n = 0; n < N; n += 32)
                    tiles(from == 0, columns / 32, x + 2 * (t * k + 32 * from), w + n * stride, stride,
                          out + 4 * (t * N + 32 * n));
        }
        double took = now() - begun;
        best = took < best ? took : best;
    }
    printf("%-40s %6.0f GFLOP/s\n", name, 2e-9 * T * N * k / best);
}

/* T rows of x and 192 weights, whose panels have so many summands. */
static void measure_f32(const char *name, void (*tiles)(int, long, const char *, long, const char *, char *, long), long summands,
                        long k, const char *x, const char *w, char *out) {
    enum { STEP = 768, COLUMNS = 192 };
    long x_stride = (k / 32 | 1) * 192, out_stride = 4 * COLUMNS + 64;
    double best = 1e9;
    for (int i = 0; i < TRIES; i++) {
        double begun = now();
        for (long from = 0; from < k; from += STEP) {
            long steps = (k - from < STEP ? k - from : STEP) / 32;
            for (long t = 0; t < T; t += 32)
                for (long n = 0; n < COLUMNS; n += 32)
                    tiles(from == 0, steps, x + t * x_stride + from / 32 * 192, x_stride,
                          w + (n / 32 * k + from) / 32 * 2048 * summands, out + t * out_stride + 4 * n, out_stride);
        }
        double took = now() - begun;
        best = took < best ? took : best;
    }
    printf("%-40s %6.0f GFLOP/s of f32\n", name, 2e-9 * T * COLUMNS * k / best);
}

int main(int count, char **arguments) {
    static uint8_t shapes[64] __attribute__((aligned(64))) = {1};
    long k = count > 1 ? atol(arguments[1]) : 576;
    if (k < 32 || k > 4096 || k % 32 || syscall(SYS_arch_prctl, 0x1023, 18)) {
        fprintf(stderr, "needs AMX, and for K a multiple of 32 up to 4096\n");
        return 1;
    }
    for (int i = 0; i < 8; i++) shapes[16 + 2 * i] = 64, shapes[48 + i] = 16;
    __asm__ volatile("ldtilecfg (%0)" ::"r"(shapes) : "memory");
    uint32_t *x = aligned_alloc(4096, T * (k + 64) * 6), *w = aligned_alloc(4096, 192 * 6 * 4096);
    char *out = aligned_alloc(4096, 4 * T * 256);
    for (long i = 0; i < T * (k + 64) * 6 / 4; i++) x[i] = 0x3f803f80 + i % 7;
    for (long i = 0; i < 192 * 6 * 1024; i++) w[i] = 0x3f803f80 + i % 5;
    printf("K = %ld\n", k);
    measure("weights from the second-level cache", plain, k, k, (char *)x, (char *)w, out);
    measure("the same past L1", past_l1, k, k, (char *)x, (char *)w, out);
    measure("the same in steps of 384", plain, k, 384, (char *)x, (char *)w, out);
    measure("the same past L1 in steps of 384", past_l1, k, 384, (char *)x, (char *)w, out);
    measure_f32("f32, three products, 192 weights", three_products, 1, k, (char *)x, (char *)w, out);
    measure_f32("f32, six products, 192 weights", six_products, 3, k, (char *)x, (char *)w, out);
    return 0;
}
