/* The steps of a tile program, each a vector operation over the samples of a tile. */
#ifndef ETP_STEPS_H
#define ETP_STEPS_H
#include <string.h>

#include "lanes.h"
#include "tile.h"

#if VECTOR_BYTES == 64
#define STRIP 12 /* rows of a dense step summed at once, as many as the registers hold */
#else
#define STRIP 3
#endif
#define BLOCK 4 /* rows and columns of a matrix product summed at once */

enum Code { DENSE, SPARSE, OUTER, SPREAD, MULTIPLY, MATRIX, ZERO, BUTTERFLY };

/* to[m] (+)= sum over k of table[k][m] * from[k] for `count` consecutive m. */
INLINE void dense_strip(REAL *rows, const REAL *table, const int32_t *from, int inner, int stride,
                        const int32_t *to, int add, const int count) {
    vector sum[STRIP][WIDTH] = {0};
    for (int k = 0; k < inner; k++, table += stride) {
        const vector *x = ROW(from[k]);
        for (int m = 0; m < count; m++)
            for (int w = 0; w < WIDTH; w++) sum[m][w] += table[m] * x[w];
    }
    if (add)
        for (int m = 0; m < count; m++)
            for (int w = 0; w < WIDTH; w++) ROW(to[m])[w] += sum[m][w];
    else
        for (int m = 0; m < count; m++)
            for (int w = 0; w < WIDTH; w++) ROW(to[m])[w] = sum[m][w];
}

/* A few rows are summed slower, each waiting for its own last sum: the last two strips are alike. */
static void dense(REAL *rows, const Step *s, const int32_t *index, const REAL *table) {
    const int inner = s->first, outer = s->size;
    const int32_t *from = index + s->index, *to = from + inner;
    for (int m = 0, count; m < outer; m += count) {
        const int left = outer - m;
        count = left <= STRIP ? left : left < 2 * STRIP ? (left + 1) / 2 : STRIP;
#define STRIP_OF(n) \
    case n: \
        dense_strip(rows, table + s->table + m, from, inner, outer, to + m, s->other, n); \
        break;
        switch (count) {
            STRIP_OF(1) STRIP_OF(2) STRIP_OF(3)
#if STRIP > 3
            STRIP_OF(4) STRIP_OF(5) STRIP_OF(6) STRIP_OF(7) STRIP_OF(8) STRIP_OF(9)
            STRIP_OF(10) STRIP_OF(11) STRIP_OF(12)
#endif
        }
#undef STRIP_OF
    }
}

/* to[r] (+)= sum over its n entries of w[e] * from[e], for `count` rows with as many entries. */
INLINE void sparse_rows(REAL *rows, const int32_t *to, const int32_t *from, const REAL *w, int count,
                        int add, const int n) {
    for (int r = 0; r < count; r++, from += n, w += n) {
        vector *z = ROW(to[r]), sum[WIDTH] = {0};
        for (int e = 0; e < n; e++) {
            const vector *x = ROW(from[e]);
            for (int v = 0; v < WIDTH; v++) sum[v] += w[e] * x[v];
        }
        if (add)
            for (int v = 0; v < WIDTH; v++) z[v] += sum[v];
        else
            for (int v = 0; v < WIDTH; v++) z[v] = sum[v];
    }
}

/* Runs of rows with as many entries: entries of a row and rows of each run, targets, sources. */
static void sparse(REAL *rows, const Step *s, const int32_t *index, const REAL *table) {
    const int32_t *run = index + s->index, *to = run + 2 * s->first, *from = to + s->size;
    const REAL *w = table + s->table;
    for (const int32_t *end = to; run < end; run += 2) {
        const int n = run[0], count = run[1];
        switch (n) {
#define ENTRIES(n) \
    case n: \
        sparse_rows(rows, to, from, w, count, s->other, n); \
        break;
            ENTRIES(0) ENTRIES(1) ENTRIES(2) ENTRIES(3) ENTRIES(4) ENTRIES(5) ENTRIES(6)
            ENTRIES(7) ENTRIES(8)
            default: sparse_rows(rows, to, from, w, count, s->other, n);
#undef ENTRIES
        }
        to += count, from += (int64_t)n * count, w += (int64_t)n * count;
    }
}

/* to + r = row i[r] * row j[r]; row i stays in registers while i is the same. */
static void outer(REAL *rows, const Step *s, const int32_t *index) {
    const int32_t *pair = index + s->index, *end = pair + 2 * s->size;
    vector *z = ROW(s->to);
    while (pair < end) {
        const int i = *pair;
        vector x[WIDTH];
        for (int v = 0; v < WIDTH; v++) x[v] = ROW(i)[v];
        for (; pair < end && *pair == i; pair += 2, z += WIDTH)
            for (int v = 0; v < WIDTH; v++) z[v] = x[v] * ROW(pair[1])[v];
    }
}

/* How many pairs from here on have the same i. */
INLINE int run_of(const int32_t *pair, const int32_t *end) {
    int count = 1;
    while (pair + 2 * count < end && pair[2 * count] == *pair) count++;
    return count;
}

/* Whether the next as many pairs are of another i with the same j. */
INLINE int run_repeats(const int32_t *pair, const int32_t *end, int count) {
    const int32_t *other = pair + 2 * count;
    if (other + 2 * count > end) return 0;
    for (int r = 0; r < count; r++)
        if (other[2 * r] != *other || other[2 * r + 1] != pair[2 * r + 1]) return 0;
    return 1;
}

/* Gradients of `many` rows i and of the `count` rows j that each of them is paired with. */
INLINE void spread_runs(REAL *rows, const int32_t *pair, const vector *g, int count, int first,
                        int second, const int many) {
    vector x[2][WIDTH], gx[2][WIDTH];
    for (int m = 0; m < many; m++) {
        const int i = pair[2 * m * count];
        for (int v = 0; v < WIDTH; v++) x[m][v] = ROW(i)[v], gx[m][v] = ROW(i + first)[v];
    }
    for (int r = 0; r < count; r++) {
        const int j = pair[2 * r + 1];
        const vector *y = ROW(j);
        for (int v = 0; v < WIDTH; v++) {
            vector gy = ROW(j + second)[v];
            for (int m = 0; m < many; m++) {
                const vector own = g[(m * count + r) * WIDTH + v];
                gx[m][v] += own * y[v], gy += own * x[m][v];
            }
            ROW(j + second)[v] = gy;
        }
    }
    for (int m = 0; m < many; m++)
        for (int v = 0; v < WIDTH; v++) ROW(pair[2 * m * count] + first)[v] = gx[m][v];
}

/* Transpose of `outer`: gradients of i and j from that of their product, `first` and `second`
 * rows behind i and j. That of i stays in registers while i is the same, and two of them are worked
 * through at once: what is added up in memory waits for its own last store. */
static void spread(REAL *rows, const Step *s, const int32_t *index) {
    const int32_t *pair = index + s->index, *end = pair + 2 * s->size;
    const vector *g = ROW(s->to);
    for (int count; pair < end; pair += 2 * count, g += count * WIDTH) {
        count = run_of(pair, end);
        if (run_repeats(pair, end, count)) {
            spread_runs(rows, pair, g, count, s->first, s->second, 2);
            count *= 2;
        } else {
            spread_runs(rows, pair, g, count, s->first, s->second, 1);
        }
    }
}

/* Rows i and j become their sum and their difference. */
static void butterfly(REAL *rows, const Step *s, const int32_t *index) {
    const int32_t *pair = index + s->index;
    for (int r = 0; r < s->size; r++) {
        vector *a = ROW(pair[2 * r]), *b = ROW(pair[2 * r + 1]);
        for (int v = 0; v < WIDTH; v++) {
            const vector x = a[v], y = b[v];
            a[v] = x + y, b[v] = x - y;
        }
    }
}

/* Products of rows: 0 written, 1 added to what is there, 2 subtracted from it. */
static void multiply(REAL *rows, const Step *s) {
    const vector *x = ROW(s->first), *y = ROW(s->second);
    vector *z = ROW(s->to);
    const int count = s->size * WIDTH;
    switch (s->other) {
        case 0:
            for (int v = 0; v < count; v++) z[v] = x[v] * y[v];
            break;
        case 1:
            for (int v = 0; v < count; v++) z[v] += x[v] * y[v];
            break;
        default:
            for (int v = 0; v < count; v++) z[v] -= x[v] * y[v];
    }
}

typedef struct {
    int row, step, inner; /* element (i, k) is row + i * step + k * inner */
} View;

/* `height` rows and `width` columns of a product, `wide` vectors of each at once. */
INLINE void matrix_block(REAL *rows, View a, View b, View to, int inner, int add, const int height,
                         const int width, const int wide) {
    for (int first = 0; first < WIDTH; first += wide) {
        vector sum[BLOCK][BLOCK][WIDTH];
        for (int i = 0; i < height; i++)
            for (int j = 0; j < width; j++)
                for (int v = 0; v < wide; v++)
                    sum[i][j][v] =
                        add ? ROW(to.row + i * to.step + j * to.inner)[first + v] : (vector){0};
        for (int k = 0; k < inner; k++) {
            for (int v = 0; v < wide; v++) {
                vector x[BLOCK], y[BLOCK];
                for (int i = 0; i < height; i++)
                    x[i] = ROW(a.row + i * a.step + k * a.inner)[first + v];
                for (int j = 0; j < width; j++)
                    y[j] = ROW(b.row + j * b.step + k * b.inner)[first + v];
                for (int i = 0; i < height; i++)
                    for (int j = 0; j < width; j++) sum[i][j][v] += x[i] * y[j];
            }
        }
        for (int i = 0; i < height; i++)
            for (int j = 0; j < width; j++)
                for (int v = 0; v < wide; v++)
                    ROW(to.row + i * to.step + j * to.inner)[first + v] = sum[i][j][v];
    }
}

/* The same of a whole product of few terms, whose rows lie side by side: a row of the first matrix
 * stays in registers. */
INLINE void matrix_rows(REAL *rows, View a, View b, View to, int height, int width, int add,
                        const int inner) {
    for (int i = 0; i < height; i++) {
        vector x[BLOCK][WIDTH], *z = ROW(to.row + i * to.step);
        const vector *y[BLOCK];
        for (int k = 0; k < inner; k++) {
            y[k] = ROW(b.row + k * b.step);
            for (int v = 0; v < WIDTH; v++) x[k][v] = ROW(a.row + i * a.step + k * a.inner)[v];
        }
        for (int j = 0; j < width * WIDTH; j += WIDTH)
            for (int v = 0; v < WIDTH; v++) {
                vector sum = add ? z[j + v] : (vector){0};
                for (int k = 0; k < inner; k++) sum += x[k][v] * y[k][j + v];
                z[j + v] = sum;
            }
    }
}

/* Product of two matrices whose elements lie in rows as three views say; added with `other`. */
static void matrix(REAL *rows, const Step *s, const int32_t *index) {
    const int32_t *n = index + s->index; /* rows, inner, columns, then how far apart elements are */
    const int inner = n[1];
    if (inner <= BLOCK && n[4] == 1 && n[8] == 1) {
        const View to = {s->to, n[3], 1}, a = {s->first, n[5], n[6]}, b = {s->second, n[7], 1};
#define TERMS(k) \
    case k: \
        matrix_rows(rows, a, b, to, n[0], n[2], s->other, k); \
        return;
        switch (inner) { TERMS(1) TERMS(2) TERMS(3) TERMS(4) }
    }
    for (int i = 0; i < n[0]; i += BLOCK) {
        for (int j = 0; j < n[2]; j += BLOCK) {
            const int height = n[0] - i < BLOCK ? n[0] - i : BLOCK;
            const int width = n[2] - j < BLOCK ? n[2] - j : BLOCK;
            const View to = {s->to + i * n[3] + j * n[4], n[3], n[4]};
            const View a = {s->first + i * n[5], n[5], n[6]};
            const View b = {s->second + j * n[8], n[8], n[7]};
            /* Few sums are summed in all vectors of a row, or each would wait for the last. */
#define SHAPE(h, w) \
    case h * 8 + w: \
        matrix_block(rows, a, b, to, inner, s->other, h, w, (h) * (w) <= BLOCK ? WIDTH : 1); \
        break;
#define SHAPES(h) SHAPE(h, 1) SHAPE(h, 2) SHAPE(h, 3) SHAPE(h, 4)
            switch (height * 8 + width) { SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) }
        }
    }
}

static void run_steps(REAL *rows, const Program *p, int first, int end) {
    const REAL *table = p->table;
    for (const Step *s = p->steps + first; s < p->steps + end; s++) switch (s->code) {
            case DENSE: dense(rows, s, p->index, table); break;
            case SPARSE: sparse(rows, s, p->index, table); break;
            case OUTER: outer(rows, s, p->index); break;
            case SPREAD: spread(rows, s, p->index); break;
            case MULTIPLY: multiply(rows, s); break;
            case MATRIX: matrix(rows, s, p->index); break;
            case BUTTERFLY: butterfly(rows, s, p->index); break;
            case ZERO: memset(ROW(s->to), 0, sizeof(REAL) * TILE * s->size); break;
        }
}

static void run_tile(REAL *rows, const Program *p) { run_steps(rows, p, 0, p->n_steps); }
#endif
