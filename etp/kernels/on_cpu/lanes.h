/* Vectors and tiles: TILE samples, a row for each component. REAL is float (with SINGLE) or double. */
#ifndef ETP_LANES_H
#define ETP_LANES_H
#include <stdint.h>

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

#define ROW(r) ((vector *)(rows + (int64_t)(r) * TILE))
#endif
