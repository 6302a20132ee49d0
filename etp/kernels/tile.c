/* Tile programs: a bilinear map of two features, evaluated TILE samples at a time.
 *
 * A tile is transposed, so that a row holds one component of TILE samples and every step is a
 * vector operation over samples. Rows stay in the first two cache levels from the first step to
 * the last; memory sees each input and each output once. The steps are listed in `Code`; a program
 * (kernels/program.py) is a list of them with their indices and coefficients.
 *
 * Compiled once per precision with -DREAL=float or -DREAL=double.
 */
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define STRIP 12 /* rows of a dense step summed at once, as many as the registers hold */
#elif defined(__AVX__)
#define VECTOR_BYTES 32
#define STRIP 3
#else
#define VECTOR_BYTES 16
#define STRIP 2
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
#define WIDTH (128 / VECTOR_BYTES) /* vectors in a row */
#define TILE (WIDTH * LANES)
#define BLOCK 4 /* rows and columns of a matrix product summed at once */
#define HUGE_PAGE (1 << 21)
#define INLINE static inline __attribute__((always_inline))

typedef REAL vector __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));
typedef REAL loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

typedef struct {
    int32_t code, size, to, first, second, index, table, other;
} Step;

typedef struct {
    const Step *steps;
    const int32_t *index;
    const REAL *table;
    int32_t n_steps, rows, n_in, n_out;
    int32_t in_row[3], in_dim[3], out_row[2], out_dim[2];
} Program;

enum Code { DENSE, SPARSE, OUTER, SPREAD, MULTIPLY, MATRIX, ZERO };

#define ROW(r) ((vector *)(rows + (int64_t)(r) * TILE))

/* to[m] = sum over k of table[k][m] * from[k] for `count` consecutive m. */
INLINE void dense_strip(REAL *rows, const REAL *table, const int32_t *from, int inner, int stride,
                        const int32_t *to, const int count) {
    vector sum[STRIP][WIDTH];
    for (int m = 0; m < count; m++)
        for (int w = 0; w < WIDTH; w++) sum[m][w] = (vector){0};
    for (int k = 0; k < inner; k++, table += stride) {
        const vector *x = ROW(from[k]);
        for (int m = 0; m < count; m++)
            for (int w = 0; w < WIDTH; w++) sum[m][w] += table[m] * x[w];
    }
    for (int m = 0; m < count; m++)
        for (int w = 0; w < WIDTH; w++) ROW(to[m])[w] = sum[m][w];
}

static void dense(REAL *rows, const Step *s, const int32_t *index, const REAL *table) {
    const int inner = s->first, outer = s->size;
    const int32_t *from = index + s->index, *to = from + inner;
    int m = 0;
    for (; m + STRIP <= outer; m += STRIP)
        dense_strip(rows, table + s->table + m, from, inner, outer, to + m, STRIP);
#define REST(n) \
    case n: \
        dense_strip(rows, table + s->table + m, from, inner, outer, to + m, n); \
        break;
    switch (outer - m) {
        REST(1)
#if STRIP > 2
        REST(2)
#endif
#if STRIP > 3
        REST(3) REST(4) REST(5) REST(6) REST(7) REST(8) REST(9) REST(10) REST(11)
#endif
    }
#undef REST
}

/* Compressed rows: to[r] (+)= sum over its entries of table[e] * from[e]. */
static void sparse(REAL *rows, const Step *s, const int32_t *index, const REAL *table) {
    const int32_t *start = index + s->index, *to = start + s->size + 1, *from = to + s->size;
    const REAL *w = table + s->table;
    for (int r = 0; r < s->size; r++) {
        vector *z = ROW(to[r]), sum[WIDTH];
        for (int v = 0; v < WIDTH; v++) sum[v] = s->other ? z[v] : (vector){0};
        for (int e = start[r]; e < start[r + 1]; e++) {
            const vector *x = ROW(from[e]);
            for (int v = 0; v < WIDTH; v++) sum[v] += w[e] * x[v];
        }
        for (int v = 0; v < WIDTH; v++) z[v] = sum[v];
    }
}

/* to + r = row i[r] * row j[r]. */
static void outer(REAL *rows, const Step *s, const int32_t *index) {
    const int32_t *pair = index + s->index;
    for (int r = 0; r < s->size; r++) {
        const vector *x = ROW(pair[2 * r]), *y = ROW(pair[2 * r + 1]);
        vector *z = ROW(s->to + r);
        for (int v = 0; v < WIDTH; v++) z[v] = x[v] * y[v];
    }
}

/* Transpose of `outer`: gradients of i and j from that of their product, `first` and `second`
 * rows behind i and j. */
static void spread(REAL *rows, const Step *s, const int32_t *index) {
    const int32_t *pair = index + s->index;
    for (int r = 0; r < s->size; r++) {
        const int i = pair[2 * r], j = pair[2 * r + 1];
        const vector *g = ROW(s->to + r), *x = ROW(i), *y = ROW(j);
        vector *gx = ROW(i + s->first), *gy = ROW(j + s->second);
        for (int v = 0; v < WIDTH; v++) gx[v] += g[v] * y[v], gy[v] += g[v] * x[v];
    }
}

static void multiply(REAL *rows, const Step *s) {
    const vector *x = ROW(s->first), *y = ROW(s->second);
    vector *z = ROW(s->to);
    if (s->other)
        for (int v = 0; v < s->size * WIDTH; v++) z[v] += x[v] * y[v];
    else
        for (int v = 0; v < s->size * WIDTH; v++) z[v] = x[v] * y[v];
}

typedef struct {
    int row, step, inner; /* element (i, k) is row + i * step + k * inner */
} View;

INLINE void matrix_block(REAL *rows, View a, View b, int to, int side, const int height,
                         const int width) {
    for (int v = 0; v < WIDTH; v++) {
        vector sum[BLOCK][BLOCK];
        for (int i = 0; i < height; i++)
            for (int j = 0; j < width; j++) sum[i][j] = (vector){0};
        for (int k = 0; k < side; k++) {
            vector x[BLOCK], y[BLOCK];
            for (int i = 0; i < height; i++) x[i] = ROW(a.row + i * a.step + k * a.inner)[v];
            for (int j = 0; j < width; j++) y[j] = ROW(b.row + j * b.step + k * b.inner)[v];
            for (int i = 0; i < height; i++)
                for (int j = 0; j < width; j++) sum[i][j] += x[i] * y[j];
        }
        for (int i = 0; i < height; i++)
            for (int j = 0; j < width; j++) ROW(to + i * side + j)[v] = sum[i][j];
    }
}

/* Product of two side x side matrices, either transposed: 1 the first, 2 the second. */
static void matrix(REAL *rows, const Step *s) {
    const int side = s->size;
    const View first = s->other & 1 ? (View){s->first, 1, side} : (View){s->first, side, 1};
    const View second = s->other & 2 ? (View){s->second, side, 1} : (View){s->second, 1, side};
    for (int i = 0; i < side; i += BLOCK) {
        for (int j = 0; j < side; j += BLOCK) {
            const int height = side - i < BLOCK ? side - i : BLOCK;
            const int width = side - j < BLOCK ? side - j : BLOCK;
            const View a = {first.row + i * first.step, first.step, first.inner};
            const View b = {second.row + j * second.step, second.step, second.inner};
            const int to = s->to + i * side + j;
#define SHAPE(h, w) \
    case h * 8 + w: \
        matrix_block(rows, a, b, to, side, h, w); \
        break;
#define SHAPES(h) SHAPE(h, 1) SHAPE(h, 2) SHAPE(h, 3) SHAPE(h, 4)
            switch (height * 8 + width) { SHAPES(1) SHAPES(2) SHAPES(3) SHAPES(4) }
        }
    }
}

static void run_tile(REAL *rows, const Program *p) {
    for (const Step *s = p->steps; s < p->steps + p->n_steps; s++) switch (s->code) {
            case DENSE: dense(rows, s, p->index, p->table); break;
            case SPARSE: sparse(rows, s, p->index, p->table); break;
            case OUTER: outer(rows, s, p->index); break;
            case SPREAD: spread(rows, s, p->index); break;
            case MULTIPLY: multiply(rows, s); break;
            case MATRIX: matrix(rows, s); break;
            case ZERO: memset(ROW(s->to), 0, sizeof(REAL) * TILE * s->size); break;
        }
}

#define LOW16 0, 16, 1, 17, 2, 18, 3, 19, 4, 20, 5, 21, 6, 22, 7, 23
#define HIGH16 8, 24, 9, 25, 10, 26, 11, 27, 12, 28, 13, 29, 14, 30, 15, 31
#define LOW8 0, 8, 1, 9, 2, 10, 3, 11
#define HIGH8 4, 12, 5, 13, 6, 14, 7, 15
#define LOW4 0, 4, 1, 5
#define HIGH4 2, 6, 3, 7
#define LOW2 0, 2
#define HIGH2 1, 3
#define ZIP(n) \
    for (int r = 0; r < n / 2; r++) { \
        next[2 * r] = __builtin_shufflevector(block[r], block[r + n / 2], LOW##n); \
        next[2 * r + 1] = __builtin_shufflevector(block[r], block[r + n / 2], HIGH##n); \
    } \
    memcpy(block, next, sizeof next)

/* Transpose a LANES x LANES block in registers: log2(LANES) perfect shuffles. */
INLINE void transpose(vector *block) {
    vector next[LANES];
#if VECTOR_BYTES == 64 && defined(SINGLE)
    ZIP(16); ZIP(16); ZIP(16); ZIP(16);
#elif VECTOR_BYTES == 64 || (VECTOR_BYTES == 32 && defined(SINGLE))
    ZIP(8); ZIP(8); ZIP(8);
#elif VECTOR_BYTES == 32 || defined(SINGLE)
    ZIP(4); ZIP(4);
#else
    ZIP(2);
#endif
}

/* `count` samples of `dim` components to rows; missing samples are zeros. Vector reads may run on
 * into the next samples, but never past `end`. */
static void load(const REAL *x, int dim, int count, const REAL *end, REAL *rows) {
    for (int low = 0; low < TILE; low += LANES)
        for (int c = 0; c < dim; c += LANES) {
            vector block[LANES];
            for (int s = 0; s < LANES; s++) {
                const REAL *at = x + (int64_t)(low + s) * dim + c;
                block[s] = (vector){0};
                if (low + s >= count) continue;
                if (at + LANES <= end) block[s] = *(const loose *)at;
                else memcpy(&block[s], at, sizeof(REAL) * (end - at));
            }
            transpose(block);
            for (int r = 0; r < LANES && c + r < dim; r++)
                *(vector *)(rows + (int64_t)(c + r) * TILE + low) = block[r];
        }
}

/* Rows to `count` samples. Vectors may run on into the next sample, which is written later: blocks
 * of components go from the last to the first, samples from the first to the last. */
static void store(const REAL *rows, int dim, int count, REAL *z) {
    const REAL *end = z + (int64_t)count * dim;
    for (int low = 0; low < count; low += LANES)
        for (int c = (dim - 1) / LANES * LANES; c >= 0; c -= LANES) {
            vector block[LANES];
            for (int r = 0; r < LANES; r++)
                block[r] = c + r < dim ? *(const vector *)(rows + (int64_t)(c + r) * TILE + low)
                                       : (vector){0};
            transpose(block);
            for (int s = 0; s < LANES && low + s < count; s++) {
                REAL *at = z + (int64_t)(low + s) * dim + c;
                if (at + LANES <= end) *(loose *)at = block[s];
                else memcpy(at, &block[s], sizeof(REAL) * (dim - c < LANES ? dim - c : LANES));
            }
        }
}

/* Fresh memory comes page by page, which costs more than filling it: ask for large pages. */
static void advise(void *start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t low = ((uintptr_t)start + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t high = ((uintptr_t)start + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);
    if (high > low) madvise((void *)low, high - low, MADV_HUGEPAGE);
#endif
}

/* Run a program on n samples; inputs and outputs are contiguous, those that are not used null.
 * Returns 0, or 1 where memory for the tile cannot be had. */
int run(const Program *p, const REAL *in0, const REAL *in1, const REAL *in2, REAL *out0,
        REAL *out1, int64_t n, int threads) {
    const REAL *const in[] = {in0, in1, in2};
    REAL *const out[] = {out0, out1};
    const int64_t tiles = (n + TILE - 1) / TILE;
    int failed = 0;
    for (int k = 0; k < p->n_out; k++) advise(out[k], sizeof(REAL) * n * p->out_dim[k]);
#pragma omp parallel num_threads(threads) if (threads > 1) reduction(| : failed)
    {
        /* A thread keeps its rows for the next call. */
        static __thread REAL *rows;
        static __thread int32_t held;
        if (held < p->rows) {
            free(rows);
            rows = aligned_alloc(4096, (sizeof(REAL) * TILE * p->rows + 4095) & ~(size_t)4095);
            held = rows ? p->rows : 0;
        }
        failed = held < p->rows;
#pragma omp for schedule(static)
        for (int64_t tile = 0; tile < tiles; tile++) {
            if (failed) continue;
            const int64_t low = tile * TILE;
            const int count = n - low < TILE ? (int)(n - low) : TILE;
            for (int k = 0; k < p->n_in; k++)
                load(in[k] + low * p->in_dim[k], p->in_dim[k], count, in[k] + n * p->in_dim[k],
                     (REAL *)ROW(p->in_row[k]));
            run_tile(rows, p);
            for (int k = 0; k < p->n_out; k++)
                store((REAL *)ROW(p->out_row[k]), p->out_dim[k], count,
                      out[k] + low * p->out_dim[k]);
        }
    }
    return failed;
}
