/* Blocks of features, channel by channel, to rows of one component each and back. */
#ifndef ETP_BLOCKS_H
#define ETP_BLOCKS_H
#include <string.h>

#include "lanes.h"
#include "transpose.h"

typedef struct {
    int32_t start, mul, dim, row, padded; /* in the features, and its rows */
} Block;

/* Fours of components of LANES channels; what hangs over is written again by the next channel. */
INLINE void store_fours(const REAL *rows, REAL *z, const int dim, int padded, int whole) {
    for (int u = 0; u < whole; u += LANES, z += LANES * dim) {
        const int last = u + LANES >= whole;
        for (int c = (dim - 1) / 4 * 4; c >= 0; c -= 4) {
            if (last && c + 4 > dim) {
                for (int n = 0; n < LANES; n++)
                    for (int k = c; k < dim; k++) z[n * dim + k] = rows[k * padded + u + n];
                continue;
            }
            vector v[4];
            for (int k = 0; k < 4; k++)
                v[k] = *(const vector *)(rows + (c + k < dim ? c + k : c) * padded + u);
            transpose(v);
            REAL *at = z + c;
#define PUT_CHANNELS(g) \
    for (int k = 0; k < 4; k++, at += dim) \
        *(quad *)at = __builtin_shufflevector(v[k], v[k], QUAD(g));
            QUADS(PUT_CHANNELS)
        }
    }
}

INLINE void load_fours(const REAL *x, REAL *rows, const int dim, int padded, int whole) {
    for (int u = 0; u < whole; u += LANES, x += LANES * dim) {
        /* The last four overlap those before, so that nothing behind the block is read. */
        for (int c = 0; c < dim; c += 4) {
            const int from = c + 4 <= dim ? c : dim - 4;
            vector v[4];
            for (int k = 0; k < 4; k++) v[k] = join(x + k * dim + from, dim);
            transpose(v);
            for (int k = 0; k < 4; k++) *(vector *)(rows + (from + k) * padded + u) = v[k];
        }
    }
}

#if defined(__AVX512F__) && !defined(__clang__)
/* Any lane of two vectors is one instruction: all vectors of LANES channels are mixed from all. The
 * loops are unrolled, for the numbers of the lanes are to be known when this is compiled. */
#define MIXES
#define MOST_MIXED 9
#define UNROLL _Pragma("GCC unroll 16")
typedef int32_t int_float __attribute__((vector_size(VECTOR_BYTES)));
typedef int64_t int_double __attribute__((vector_size(VECTOR_BYTES)));
typedef __typeof__(__builtin_choose_expr(sizeof(REAL) == 4, (int_float){0}, (int_double){0})) lanes;
typedef int32_t places __attribute__((vector_size(LANES * sizeof(int32_t)), aligned(4), may_alias));

/* out[m] = numbers m * LANES .. of the features of LANES channels, from one vector a component. */
INLINE void mix(const vector *from, vector *out, const int dim) {
    UNROLL
    for (int m = 0; m < dim; m++) {
        vector sum = from[0];
        UNROLL
        for (int k = 1; k < dim; k++) {
            lanes either;
            UNROLL
            for (int n = 0; n < LANES; n++) {
                const int channel = (m * LANES + n) / dim;
                const int rest = k == 1 ? channel : n; /* of the first vector, or as they are */
                either[n] = (m * LANES + n) % dim == k ? LANES + channel : rest;
            }
            sum = __builtin_shuffle(sum, from[k], either);
        }
        out[m] = sum;
    }
}

INLINE void unmix(const vector *from, vector *out, const int dim) {
    UNROLL
    for (int k = 0; k < dim; k++) {
        vector sum = from[0];
        UNROLL
        for (int m = 1; m < dim; m++) {
            lanes either;
            UNROLL
            for (int n = 0; n < LANES; n++) {
                const int place = (n * dim + k) % LANES;
                const int rest = m == 1 ? place : n; /* of the first vector, or as they are */
                either[n] = (n * dim + k) / LANES == m ? LANES + place : rest;
            }
            sum = __builtin_shuffle(sum, from[m], either);
        }
        out[k] = sum;
    }
}

/* Fours in two steps, halves first. */
INLINE void mix_four(const vector *from, vector *out) {
    vector half[4];
    UNROLL
    for (int k = 0; k < 4; k++) { /* channels of two components: the first half, the second */
        lanes pick;
        UNROLL
        for (int n = 0; n < LANES; n++)
            pick[n] = (k % 2) * (LANES / 2) + n % (LANES / 2) + n / (LANES / 2) * LANES;
        half[k] = __builtin_shuffle(from[k / 2 * 2], from[k / 2 * 2 + 1], pick);
    }
    UNROLL
    for (int m = 0; m < 4; m++) {
        lanes pick;
        UNROLL
        for (int n = 0; n < LANES; n++)
            pick[n] = n % 4 / 2 * LANES + n % 2 * (LANES / 2) + (m % 2) * (LANES / 4) + n / 4;
        out[m] = __builtin_shuffle(half[m / 2], half[m / 2 + 2], pick);
    }
}

INLINE void unmix_four(const vector *from, vector *out) {
    vector half[4];
    UNROLL
    for (int k = 0; k < 4; k++) { /* two components of half the channels */
        lanes pick;
        UNROLL
        for (int n = 0; n < LANES; n++)
            pick[n] = 4 * (n % (LANES / 2)) + k / 2 * 2 + n / (LANES / 2);
        half[k] = __builtin_shuffle(from[k % 2 * 2], from[k % 2 * 2 + 1], pick);
    }
    UNROLL
    for (int k = 0; k < 4; k++) {
        lanes pick;
        UNROLL
        for (int n = 0; n < LANES; n++)
            pick[n] = (k % 2) * (LANES / 2) + n % (LANES / 2) + n / (LANES / 2) * LANES;
        out[k] = __builtin_shuffle(half[k / 2 * 2], half[k / 2 * 2 + 1], pick);
    }
}

INLINE void store_mixed(const REAL *rows, REAL *z, const int dim, int padded, int whole) {
    if (dim > MOST_MIXED) {
        store_fours(rows, z, dim, padded, whole);
        return;
    }
    for (int u = 0; u < whole; u += LANES) {
        vector from[MOST_MIXED], out[MOST_MIXED];
        for (int k = 0; k < dim; k++) from[k] = *(const vector *)(rows + k * padded + u);
        if (dim == 4) mix_four(from, out);
        else mix(from, out, dim);
        for (int k = 0; k < dim; k++) *(loose *)(z + u * dim + k * LANES) = out[k];
    }
}

INLINE void load_mixed(const REAL *x, REAL *rows, const int dim, int padded, int whole) {
    if (dim > MOST_MIXED) {
        load_fours(x, rows, dim, padded, whole);
        return;
    }
    for (int u = 0; u < whole; u += LANES) {
        vector from[MOST_MIXED], out[MOST_MIXED];
        for (int k = 0; k < dim; k++) from[k] = *(const loose *)(x + u * dim + k * LANES);
        if (dim == 4) unmix_four(from, out);
        else unmix(from, out, dim);
        for (int k = 0; k < dim; k++) *(vector *)(rows + k * padded + u) = out[k];
    }
}
#else
INLINE void store_mixed(const REAL *rows, REAL *z, const int dim, int padded, int whole) {
    if (dim > NARROW) store_fours(rows, z, dim, padded, whole);
    else
        for (int u = 0; u < whole; u += LANES) store_narrow(rows + u, dim, z + u * dim, padded);
}

INLINE void load_mixed(const REAL *x, REAL *rows, const int dim, int padded, int whole) {
    if (dim > NARROW) load_fours(x, rows, dim, padded, whole);
    else
        for (int u = 0; u < whole; u += LANES) load_narrow(x + u * dim, dim, rows + u, padded);
}
#endif

#define BY_DIM(f, ...) \
    switch (b->dim) { \
        case 2: f(__VA_ARGS__, 2, b->padded, whole); break; \
        case 3: f(__VA_ARGS__, 3, b->padded, whole); break; \
        case 4: f(__VA_ARGS__, 4, b->padded, whole); break; \
        case 5: f(__VA_ARGS__, 5, b->padded, whole); break; \
        case 6: f(__VA_ARGS__, 6, b->padded, whole); break; \
        case 7: f(__VA_ARGS__, 7, b->padded, whole); break; \
        case 8: f(__VA_ARGS__, 8, b->padded, whole); break; \
        case 9: f(__VA_ARGS__, 9, b->padded, whole); break; \
        default: whole = 0; \
    }

INLINE void load_block(const Block *b, int by_component, const REAL *x, REAL *rows) {
    const REAL *from = x + b->start;
    REAL *to = rows + b->row;
    if (by_component || b->dim == 1) {
        for (int k = 0; k < b->dim; k++)
            memcpy(to + k * b->padded, from + k * b->mul, b->mul * sizeof(REAL));
        return;
    }
    int whole = b->mul / LANES * LANES;
    BY_DIM(load_mixed, from, to)
    for (int u = whole; u < b->mul; u++)
        for (int k = 0; k < b->dim; k++) to[k * b->padded + u] = from[u * b->dim + k];
}

INLINE void store_block(const Block *b, int by_component, const REAL *rows, REAL *z) {
    const REAL *from = rows + b->row;
    REAL *to = z + b->start;
    if (by_component || b->dim == 1) {
        for (int k = 0; k < b->dim; k++)
            memcpy(to + k * b->mul, from + k * b->padded, b->mul * sizeof(REAL));
        return;
    }
    int whole = b->mul / LANES * LANES;
    BY_DIM(store_mixed, from, to)
    for (int u = whole; u < b->mul; u++)
        for (int k = 0; k < b->dim; k++) to[u * b->dim + k] = from[k * b->padded + u];
}
#endif
