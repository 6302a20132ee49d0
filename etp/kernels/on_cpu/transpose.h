/* Samples to rows and back: the transposing loads and stores of a tile. */
#ifndef ETP_TRANSPOSE_H
#define ETP_TRANSPOSE_H
#include "lanes.h"

/* Interleave within groups of four lanes; g is the group, n the lanes of a vector. */
#define LOW(g, n) 4 * g, n + 4 * g, 4 * g + 1, n + 4 * g + 1
#define HIGH(g, n) 4 * g + 2, n + 4 * g + 2, 4 * g + 3, n + 4 * g + 3
#define FRONT(g, n) 4 * g, 4 * g + 1, n + 4 * g, n + 4 * g + 1
#define BACK(g, n) 4 * g + 2, 4 * g + 3, n + 4 * g + 2, n + 4 * g + 3
#define QUAD(g) 4 * g, 4 * g + 1, 4 * g + 2, 4 * g + 3
#if VECTOR_BYTES == 64 && defined(SINGLE)
#define EACH(P) P(0, 16), P(1, 16), P(2, 16), P(3, 16)
#define QUADS(Q) Q(0) Q(1) Q(2) Q(3)
#elif VECTOR_BYTES == 64 || defined(SINGLE)
#define EACH(P) P(0, 8), P(1, 8)
#define QUADS(Q) Q(0) Q(1)
#else
#define EACH(P) P(0, 4)
#define QUADS(Q) Q(0)
#endif

/* Transpose the 4 x 4 matrices that lie side by side in four vectors. */
INLINE void transpose(vector *v) {
    const vector a = __builtin_shufflevector(v[0], v[1], EACH(LOW));
    const vector b = __builtin_shufflevector(v[2], v[3], EACH(LOW));
    const vector c = __builtin_shufflevector(v[0], v[1], EACH(HIGH));
    const vector d = __builtin_shufflevector(v[2], v[3], EACH(HIGH));
    v[0] = __builtin_shufflevector(a, b, EACH(FRONT));
    v[1] = __builtin_shufflevector(a, b, EACH(BACK));
    v[2] = __builtin_shufflevector(c, d, EACH(FRONT));
    v[3] = __builtin_shufflevector(c, d, EACH(BACK));
}

INLINE vector join(const REAL *x, int64_t stride) {
#if VECTOR_BYTES == 64 && defined(SINGLE)
    const quad a = *(const quad *)x, b = *(const quad *)(x + 4 * stride);
    const quad c = *(const quad *)(x + 8 * stride), d = *(const quad *)(x + 12 * stride);
    const octet low = __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
    const octet high = __builtin_shufflevector(c, d, 0, 1, 2, 3, 4, 5, 6, 7);
    return __builtin_shufflevector(low, high, 0, 1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15);
#elif VECTOR_BYTES == 64 || defined(SINGLE)
    const quad a = *(const quad *)x, b = *(const quad *)(x + 4 * stride);
    return __builtin_shufflevector(a, b, 0, 1, 2, 3, 4, 5, 6, 7);
#else
    (void)stride;
    return *(const loose *)x;
#endif
}

/* Up to four components: all numbers of LANES samples are as many vectors as there are components,
 * and each row, or each of these vectors, is picked from all of the others. */
#if VECTOR_BYTES == 64 && defined(SINGLE)
#define N 16
#define PICK(P, ...) \
    P(0, __VA_ARGS__), P(1, __VA_ARGS__), P(2, __VA_ARGS__), P(3, __VA_ARGS__), P(4, __VA_ARGS__), \
        P(5, __VA_ARGS__), P(6, __VA_ARGS__), P(7, __VA_ARGS__), P(8, __VA_ARGS__), \
        P(9, __VA_ARGS__), P(10, __VA_ARGS__), P(11, __VA_ARGS__), P(12, __VA_ARGS__), \
        P(13, __VA_ARGS__), P(14, __VA_ARGS__), P(15, __VA_ARGS__)
#elif VECTOR_BYTES == 64 || defined(SINGLE)
#define N 8
#define PICK(P, ...) \
    P(0, __VA_ARGS__), P(1, __VA_ARGS__), P(2, __VA_ARGS__), P(3, __VA_ARGS__), P(4, __VA_ARGS__), \
        P(5, __VA_ARGS__), P(6, __VA_ARGS__), P(7, __VA_ARGS__)
#else
#define N 4
#define PICK(P, ...) P(0, __VA_ARGS__), P(1, __VA_ARGS__), P(2, __VA_ARGS__), P(3, __VA_ARGS__)
#endif
#define SHUFFLE(a, b, P, ...) __builtin_shufflevector(a, b, PICK(P, __VA_ARGS__))
#define NARROW 4

/* Component c of sample s is number d * s + c: among the first two vectors, or behind them. */
#define AT(s, d, c) ((d) * (s) + (c))
#define IN_FRONT(s, d, c) (AT(s, d, c) < 2 * N ? AT(s, d, c) : 0)
#define BEHIND(s, d, c) (AT(s, d, c) < 2 * N ? 0 : AT(s, d, c) - 2 * N)
#define THIRD(s, d, c) (AT(s, d, c) < 2 * N ? (s) : N + AT(s, d, c) - 2 * N)
#define EITHER(s, d, c) (AT(s, d, c) < 2 * N ? (s) : N + (s))

INLINE void load_narrow(const REAL *x, const int dim, REAL *rows, const int64_t stride) {
    vector v[NARROW];
    for (int k = 0; k < dim; k++) v[k] = *(const loose *)(x + k * LANES);
#define GIVE(c, row) *(vector *)(rows + (c) * stride) = row
#define GIVE3(c) GIVE(c, SHUFFLE(SHUFFLE(v[0], v[1], IN_FRONT, 3, c), v[2], THIRD, 3, c))
#define GIVE4(c) \
    GIVE(c, SHUFFLE(SHUFFLE(v[0], v[1], IN_FRONT, 4, c), SHUFFLE(v[2], v[3], BEHIND, 4, c), \
                    EITHER, 4, c))
    switch (dim) {
        case 1: GIVE(0, v[0]); break;
        case 2:
            GIVE(0, SHUFFLE(v[0], v[1], AT, 2, 0));
            GIVE(1, SHUFFLE(v[0], v[1], AT, 2, 1));
            break;
        case 3: GIVE3(0); GIVE3(1); GIVE3(2); break;
        default: GIVE4(0); GIVE4(1); GIVE4(2); GIVE4(3);
    }
}

/* Number e of vector k is component (k * N + e) % d of sample (k * N + e) / d. */
#define PART(e, d, k) (((k) * N + (e)) % (d))
#define OF(e, d, k) (((k) * N + (e)) / (d))
#define LOW_PARTS(e, d, k) (PART(e, d, k) < 2 ? PART(e, d, k) * N + OF(e, d, k) : 0)
#define HIGH_PARTS(e, d, k) (PART(e, d, k) < 2 ? 0 : (PART(e, d, k) - 2) * N + OF(e, d, k))
#define LAST_PART(e, d, k) (PART(e, d, k) < 2 ? (e) : N + OF(e, d, k))
#define ANY_PART(e, d, k) (PART(e, d, k) < 2 ? (e) : N + (e))

INLINE void store_narrow(const REAL *rows, const int dim, REAL *z, const int64_t stride) {
    vector v[NARROW];
    for (int c = 0; c < dim; c++) v[c] = *(const vector *)(rows + c * stride);
#define TAKE(k, numbers) *(loose *)(z + (k) * LANES) = numbers
#define TAKE3(k) TAKE(k, SHUFFLE(SHUFFLE(v[0], v[1], LOW_PARTS, 3, k), v[2], LAST_PART, 3, k))
#define TAKE4(k) \
    TAKE(k, SHUFFLE(SHUFFLE(v[0], v[1], LOW_PARTS, 4, k), SHUFFLE(v[2], v[3], HIGH_PARTS, 4, k), \
                    ANY_PART, 4, k))
    switch (dim) {
        case 1: TAKE(0, v[0]); break;
        case 2:
            TAKE(0, SHUFFLE(v[0], v[1], LOW_PARTS, 2, 0));
            TAKE(1, SHUFFLE(v[0], v[1], LOW_PARTS, 2, 1));
            break;
        case 3: TAKE3(0); TAKE3(1); TAKE3(2); break;
        default: TAKE4(0); TAKE4(1); TAKE4(2); TAKE4(3);
    }
}

/* A tile of samples to rows, four components of LANES samples at once. Reads run on over the end
 * of the tile by up to three numbers. */
INLINE void load(const REAL *x, int dim, REAL *rows) {
    if (dim <= NARROW) {
        for (int low = 0; low < TILE; low += LANES) switch (dim) {
                case 1: load_narrow(x + low, 1, rows + low, TILE); break;
                case 2: load_narrow(x + low * 2, 2, rows + low, TILE); break;
                case 3: load_narrow(x + low * 3, 3, rows + low, TILE); break;
                default: load_narrow(x + low * 4, 4, rows + low, TILE);
            }
        return;
    }
    for (int low = 0; low < TILE; low += LANES)
        for (int c = 0; c < dim; c += 4) {
            vector v[4];
            for (int k = 0; k < 4; k++) v[k] = join(x + (int64_t)(low + k) * dim + c, dim);
            transpose(v);
            for (int k = 0; k < 4 && c + k < dim; k++)
                *(vector *)(rows + (int64_t)(c + k) * TILE + low) = v[k];
        }
}

#if VECTOR_BYTES == 64 && defined(SINGLE)
#define FOUR(a, b, c, d) \
    4 * a, 4 * a + 1, 4 * a + 2, 4 * a + 3, 4 * b, 4 * b + 1, 4 * b + 2, 4 * b + 3, \
        4 * c, 4 * c + 1, 4 * c + 2, 4 * c + 3, 4 * d, 4 * d + 1, 4 * d + 2, 4 * d + 3
#define MIX(a, b, ...) __builtin_shufflevector(a, b, FOUR(__VA_ARGS__))

/* Four rows in, a vector for each of four samples of every quad out. */
INLINE void load_quads(const REAL *rows, vector v[4]) {
    for (int k = 0; k < 4; k++) v[k] = *(const vector *)(rows + (int64_t)k * TILE);
    transpose(v);
}

/* Sixteen components of sixteen samples, a whole vector for each sample. */
INLINE void store_square(const REAL *rows, int dim, REAL *z) {
    vector v[4][4];
    for (int b = 0; b < 4; b++) load_quads(rows + (int64_t)4 * b * TILE, v[b]);
    for (int k = 0; k < 4; k++) {
        const vector a = MIX(v[0][k], v[1][k], 0, 1, 4, 5), b = MIX(v[2][k], v[3][k], 0, 1, 4, 5);
        const vector c = MIX(v[0][k], v[1][k], 2, 3, 6, 7), d = MIX(v[2][k], v[3][k], 2, 3, 6, 7);
        *(loose *)(z + (int64_t)k * dim) = MIX(a, b, 0, 2, 4, 6);
        *(loose *)(z + (int64_t)(k + 4) * dim) = MIX(a, b, 1, 3, 5, 7);
        *(loose *)(z + (int64_t)(k + 8) * dim) = MIX(c, d, 0, 2, 4, 6);
        *(loose *)(z + (int64_t)(k + 12) * dim) = MIX(c, d, 1, 3, 5, 7);
    }
}

#define HALF(x, h) \
    __builtin_shufflevector(x, x, 8 * h, 8 * h + 1, 8 * h + 2, 8 * h + 3, 8 * h + 4, 8 * h + 5, \
                            8 * h + 6, 8 * h + 7)

/* Eight components of sixteen samples, half a vector for each sample. */
INLINE void store_half(const REAL *rows, int dim, REAL *z) {
    vector v[2][4];
    for (int b = 0; b < 2; b++) load_quads(rows + (int64_t)4 * b * TILE, v[b]);
    for (int k = 0; k < 4; k++) {
        const vector a = MIX(v[0][k], v[1][k], 0, 4, 1, 5), b = MIX(v[0][k], v[1][k], 2, 6, 3, 7);
        *(octet *)(z + (int64_t)k * dim) = HALF(a, 0);
        *(octet *)(z + (int64_t)(k + 4) * dim) = HALF(a, 1);
        *(octet *)(z + (int64_t)(k + 8) * dim) = HALF(b, 0);
        *(octet *)(z + (int64_t)(k + 12) * dim) = HALF(b, 1);
    }
}
#define WHOLE 8 /* components that are stored without running on */
#else
#define WHOLE 0
#endif

/* Rows to a tile of samples. Four numbers may run on into the next sample, which is written later:
 * components go from the last to the first, samples from the first to the last. */
INLINE void store(const REAL *rows, int dim, REAL *z) {
    if (dim <= NARROW) {
        for (int low = 0; low < TILE; low += LANES) switch (dim) {
                case 1: store_narrow(rows + low, 1, z + low, TILE); break;
                case 2: store_narrow(rows + low, 2, z + low * 2, TILE); break;
                case 3: store_narrow(rows + low, 3, z + low * 3, TILE); break;
                default: store_narrow(rows + low, 4, z + low * 4, TILE);
            }
        return;
    }
    const REAL *end = z + (int64_t)TILE * dim;
    const int whole = WHOLE ? dim / WHOLE * WHOLE : 0;
    for (int low = 0; low < TILE; low += LANES) {
        for (int c = (dim - 1) / 4 * 4; c >= whole; c -= 4) {
            vector v[4];
            for (int k = 0; k < 4; k++)
                v[k] = *(const vector *)(rows + (int64_t)(c + k) * TILE + low);
            transpose(v);
            REAL *at = z + (int64_t)low * dim + c;
#define PUT(g) \
    for (int k = 0; k < 4; k++, at += dim) \
        *(quad *)at = __builtin_shufflevector(v[k], v[k], QUAD(g));
#define PUT_EDGE(g) \
    for (int k = 0; k < 4; k++, at += dim) { \
        const quad q = __builtin_shufflevector(v[k], v[k], QUAD(g)); \
        if (at + 4 <= end) *(quad *)at = q; \
        else for (int j = 0; j < 3 && c + j < dim; j++) at[j] = q[j]; \
    }
            if (low + LANES < TILE || c + 4 <= dim) {
                QUADS(PUT)
            } else {
                QUADS(PUT_EDGE)
            }
        }
#if WHOLE
        const REAL *from = rows + low;
        REAL *to = z + (int64_t)low * dim;
        int c = 0;
        for (; c + 16 <= dim; c += 16) store_square(from + (int64_t)c * TILE, dim, to + c);
        if (c < whole) store_half(from + (int64_t)c * TILE, dim, to + c);
#endif
    }
}
#endif
