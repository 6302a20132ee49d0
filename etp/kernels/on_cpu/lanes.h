/* Vectors and tiles: TILE samples, a row for each component. REAL is float (with SINGLE) or double. */
#ifndef ETP_LANES_H
#define ETP_LANES_H
#include <stdint.h>
#include <string.h>
#ifdef __AVX__
#include <immintrin.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#else
#define VECTOR_BYTES 32
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
#define WIDTH (128 / VECTOR_BYTES) /* vectors in a row */
#define TILE (WIDTH * LANES)
#define INLINE static inline __attribute__((always_inline))

typedef REAL vector __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));
typedef REAL loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));
typedef REAL quad __attribute__((vector_size(4 * sizeof(REAL)), aligned(sizeof(REAL)), may_alias));
typedef REAL octet __attribute__((vector_size(8 * sizeof(REAL)), aligned(sizeof(REAL))));

#define CACHED_BYTES (8 << 20) /* of a result, for its reader to find it in a cache */

/* Past the caches, to an aligned place; `settle` after the last, before another thread reads. */
INLINE void streamed(vector v, REAL *p) {
#if defined(__AVX512F__)
    _mm512_stream_si512((void *)p, (__m512i)v);
#elif defined(__AVX__)
    _mm256_stream_si256((void *)p, (__m256i)v);
#else
    *(vector *)p = v;
#endif
}

INLINE void settle(void) {
#ifdef __AVX__
    _mm_sfence();
#endif
}

/* The first n numbers, and zeros: nothing behind them is read, or written. */
INLINE vector some(const REAL *p, int n) {
    n = n < 0 ? 0 : n > LANES ? LANES : n;
#if defined(__AVX512F__)
    const unsigned first = (1u << n) - 1;
    if (sizeof(REAL) == 4) return (vector)_mm512_maskz_loadu_ps((__mmask16)first, p);
    return (vector)_mm512_maskz_loadu_pd((__mmask8)first, p);
#else
    vector v = {0};
    memcpy(&v, p, (size_t)n * sizeof(REAL));
    return v;
#endif
}

INLINE void put_some(vector v, REAL *p, int n) {
    n = n < 0 ? 0 : n > LANES ? LANES : n;
#if defined(__AVX512F__)
    const unsigned first = (1u << n) - 1;
    if (sizeof(REAL) == 4) _mm512_mask_storeu_ps(p, (__mmask16)first, (__m512)v);
    else _mm512_mask_storeu_pd(p, (__mmask8)first, (__m512d)v);
#else
    memcpy(p, &v, (size_t)n * sizeof(REAL));
#endif
}

#define ROW(r) ((vector *)(rows + (int64_t)(r) * TILE))
#endif
