/* Tile programs: a bilinear map of two features, evaluated TILE samples at a time.
 *
 * A tile is transposed, so that a row holds one component of TILE samples and every step is a
 * vector operation over samples. Rows stay in the first two cache levels from the first step to
 * the last; memory sees each input and each output once. The steps are in steps.h; a program
 * (kernels/program.py) is a list of them with their indices and coefficients.
 *
 * Compiled once per precision: -DREAL=float -DSINGLE -DRUN=etp_tile_float, or the same for double.
 */
#include "tile.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#ifdef __linux__
#include <sys/mman.h>
#endif

#include "choice.h"
#include "pool.h"
#include "steps.h"
#include "store.h"

#define PIECE_MACS (1 << 15) /* some microseconds: what may be waited for, and outweighs a claim */
#define HUGE_PAGE (1 << 21)
#define LEAST_TRIED (1 << 20) /* bytes of outputs that are large enough to try */

/* Fresh memory comes page by page, which costs more than filling it: ask for large pages. */
static void advise(void *start, int64_t bytes) {
#ifdef MADV_HUGEPAGE
    uintptr_t low = ((uintptr_t)start + HUGE_PAGE - 1) & ~(uintptr_t)(HUGE_PAGE - 1);
    uintptr_t high = ((uintptr_t)start + bytes) & ~(uintptr_t)(HUGE_PAGE - 1);
    if (high > low) madvise((void *)low, high - low, MADV_HUGEPAGE);
#endif
}

static int widest(const Program *p) {
    int dim = 0;
    for (int k = 0; k < p->n_in; k++) dim = p->in_dim[k] > dim ? p->in_dim[k] : dim;
    for (int k = 0; k < p->n_out; k++) dim = p->out_dim[k] > dim ? p->out_dim[k] : dim;
    return dim;
}

/* What a thread works in: rows, a tile of samples, and a buffer of LANES aligned samples. */
typedef struct {
    REAL *rows, *spare, *buffer;
} Space;

/* A thread keeps its space for the next call. */
static Space space_of_thread(const Program *p, enum Way way) {
    static __thread char *start;
    static __thread int64_t held;
    const int64_t wide = widest(p), rows = (int64_t)TILE * p->rows;
    const int64_t spare = (int64_t)TILE * (wide + 16), buffer = LANES * buffered_dim((int)wide);
    const int64_t needed = MOVED_BYTES + (int64_t)sizeof(REAL) * (rows + spare + buffer);
    if (held < needed) {
        free(start);
        start = aligned_alloc(4096, ((size_t)needed + 4095) & ~(size_t)4095);
        held = start ? needed : 0;
    }
    if (!start) return (Space){0};
    REAL *first = (REAL *)(start + (way == MOVED ? MOVED_BYTES : 0));
    return (Space){first, first + rows, first + rows + spare};
}

static void give(const Space *space, const REAL *rows, int dim, REAL *z, enum Way way) {
    if (way <= MOVED || dim < LEAST_BUFFERED) store(rows, dim, z);
    else if (way == BUFFERED) store_buffered(rows, dim, z, space->buffer, 0);
    else store_buffered(rows, dim, z, space->buffer, 1);
}

/* A call, in pieces of `size` tiles. */
typedef struct {
    const Program *p;
    const void *const *in;
    void *const *out;
    int64_t n, tiles, size;
    enum Way way;
    atomic_int failed;
} Call;

/* Tile number `tile` of n samples. The last one is read and written through the spare one. */
static void one_tile(const Space *space, const Call *call, int64_t tile) {
    const Program *p = call->p;
    const int64_t low = tile * TILE, left = call->n - low;
    const int count = left > TILE ? TILE : (int)left;
    REAL *rows = space->rows, *spare = left > TILE ? NULL : space->spare;
    for (int k = 0; k < p->n_in; k++) {
        const int dim = p->in_dim[k];
        const REAL *x = (const REAL *)call->in[k] + low * dim;
        if (spare) {
            memset(spare, 0, sizeof(REAL) * (TILE * dim + 4));
            x = memcpy(spare, x, sizeof(REAL) * count * dim);
        }
        load(x, dim, (REAL *)ROW(p->in_row[k]));
    }
    run_tile(rows, p);
    for (int k = 0; k < p->n_out; k++) {
        const int dim = p->out_dim[k];
        REAL *z = (REAL *)call->out[k] + low * dim;
        give(space, (REAL *)ROW(p->out_row[k]), dim, spare ? spare : z, call->way);
        if (spare) memcpy(z, spare, sizeof(REAL) * count * dim);
    }
}

static void one_piece(void *context, int64_t index) {
    Call *call = context;
    const Space space = space_of_thread(call->p, call->way);
    if (!space.rows) {
        atomic_store(&call->failed, 1);
        return;
    }
    const int64_t first = index * call->size, end = first + call->size;
    for (int64_t tile = first; tile < end && tile < call->tiles; tile++)
        one_tile(&space, call, tile);
#if STREAMS
    if (call->way == STREAMED) _mm_sfence();
#endif
}

/* Outputs that stay in the first two caches are written straight, and those that no cache holds may
 * go past them: whoever reads them must fetch them from memory in any case. */
static Trial way_of(const Program *p, int64_t n, int threads) {
    int dim = 0;
    int64_t bytes = 0;
    for (int k = 0; k < p->n_out; k++) {
        dim = p->out_dim[k] > dim ? p->out_dim[k] : dim;
        bytes += (int64_t)sizeof(REAL) * n * p->out_dim[k];
    }
    if (dim < LEAST_BUFFERED || bytes < LEAST_TRIED) return (Trial){-1, STRAIGHT, 0};
    const int large = bytes > etp_last_cache(), size = 64 - __builtin_clzll((uint64_t)bytes);
    const uint32_t key = (uint32_t)dim << 9 | (uint32_t)size << 3 | (uint32_t)large << 2 |
                         (uint32_t)(threads > 1) << 1 | (sizeof(REAL) == sizeof(double));
    return etp_try(key, STREAMS && large ? STREAMED + 1 : BUFFERED + 1);
}

int RUN(const Program *p, const void *const *in, void *const *out, int64_t n, int threads) {
    const int64_t tiles = (n + TILE - 1) / TILE, size = 1 + PIECE_MACS / (TILE * (p->macs + 1));
    const Trial trial = way_of(p, n, threads);
    Call call = {p, in, out, n, tiles, size, (enum Way)trial.way, 0};
    for (int k = 0; k < p->n_out; k++) advise(out[k], sizeof(REAL) * n * p->out_dim[k]);
    etp_parallel((tiles + size - 1) / size, threads, one_piece, &call);
    etp_tried(trial, (double)n);
    return atomic_load(&call.failed);
}
