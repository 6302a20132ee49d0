/* The ways in which a tile's outputs are written; choice.c finds the fastest on this processor. */
#ifndef ETP_STORE_H
#define ETP_STORE_H
#include <string.h>

#include "transpose.h"

/* How outputs are written: straight to their place, from rows that lie half a page further on (loads
 * of rows may seem to depend on stores at the same place of another page), or through a buffer
 * of aligned samples that is copied out line by line, with a streaming store past the caches. */
enum Way { STRAIGHT, MOVED, BUFFERED, STREAMED };
#define MOVED_BYTES 2048
#define LINE ((int)(64 / sizeof(REAL)))
#define LEAST_BUFFERED 16 /* components */
#ifdef __AVX__
#define STREAMS 1
#else
#define STREAMS 0
#endif

/* Length of a sample in the buffer: whole lines, an odd number so that samples do not alias. */
INLINE int64_t buffered_dim(int dim) { return (int64_t)LINE * (((dim + LINE - 1) / LINE) | 1); }

INLINE void copy_sample(const REAL *from, int dim, REAL *to) {
    memcpy(to, from, sizeof(REAL) * (size_t)dim);
}

/* Whole lines go past the caches, what hangs over at both ends through them. */
INLINE void stream_sample(const REAL *from, int dim, REAL *to) {
    int front = (int)(-((uintptr_t)to / sizeof(REAL)) & (uintptr_t)(LINE - 1));
    if (front > dim) front = dim;
    const int whole = front + (dim - front) / LINE * LINE;
    copy_sample(from, front, to);
    for (int k = front; k < whole; k += LANES) streamed(*(const loose *)(from + k), to + k);
    copy_sample(from + whole, dim - whole, to + whole);
}

/* LANES samples, components run on to the end of the last four or sixteen. */
INLINE void store_to_buffer(const REAL *rows, int dim, REAL *buffer, int64_t stride) {
#if WHOLE
    for (int c = 0; c < dim; c += 16)
        store_square(rows + (int64_t)c * TILE, (int)stride, buffer + c);
#else
    for (int c = 0; c < dim; c += 4) {
        vector v[4];
        for (int k = 0; k < 4; k++) v[k] = *(const vector *)(rows + (int64_t)(c + k) * TILE);
        transpose(v);
        REAL *at = buffer + c;
#define PUT_ALIGNED(g) \
    for (int k = 0; k < 4; k++, at += stride) \
        *(quad *)at = __builtin_shufflevector(v[k], v[k], QUAD(g));
        QUADS(PUT_ALIGNED)
    }
#endif
}

static void store_buffered(const REAL *rows, int dim, REAL *z, REAL *buffer, const int stream) {
    const int64_t stride = buffered_dim(dim);
    for (int low = 0; low < TILE; low += LANES) {
        store_to_buffer(rows + low, dim, buffer, stride);
        for (int s = 0; s < LANES; s++) {
            REAL *to = z + (int64_t)(low + s) * dim;
            if (stream) stream_sample(buffer + s * stride, dim, to);
            else copy_sample(buffer + s * stride, dim, to);
        }
    }
}
#endif
