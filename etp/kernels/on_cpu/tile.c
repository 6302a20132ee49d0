/* Tile programs: a bilinear map of two features, evaluated TILE samples, or channels of one sample,
 * at a time.
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

#include "choice.h"
#include "pool.h"
#include "steps.h"
#include "store.h"

#define PIECE_MACS (1 << 15) /* some microseconds: what may be waited for, and outweighs a claim */
#define FETCHED 64 /* bytes at once, a line */
#define LEAST_TRIED (1 << 20) /* bytes of outputs that are large enough to try */

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

/* A block of a tile to its place. Of narrow blocks all samples are copied out at once. */
static void give(const Space *space, const REAL *rows, int width, REAL *z, enum Way way) {
    if (way == STREAMED && width < LEAST_BUFFERED) {
        store(rows, width, space->spare);
        stream_sample(space->spare, TILE * width, z);
    } else if (way <= MOVED || width < LEAST_BUFFERED) {
        store(rows, width, z);
    } else {
        store_buffered(rows, width, z, space->buffer, way == STREAMED);
    }
}

/* A call, in pieces of `size` tiles. A tile is some channels of a row. */
typedef struct {
    const Program *p;
    const void *const *in;
    void *const *out;
    int64_t channels, tiles, size;
    enum Way way;
    int far; /* whether inputs come from memory */
    int64_t fetched[3]; /* bytes of each input of the next tile that one step fetches */
    atomic_int failed;
} Call;

typedef struct {
    int64_t row, first; /* channel */
    int count, last;
} Tile;

static Tile tile_of(const Call *call, int64_t number) {
    const int64_t each = (call->channels + TILE - 1) / TILE, first = number % each * TILE;
    const int64_t left = call->channels - first;
    return (Tile){number / each, first, left > TILE ? TILE : (int)left, number == call->tiles - 1};
}

/* Where the tile begins in a block. */
static int64_t place(const Call *call, const Tile *t, int dim, int start, int width) {
    return (t->row * dim + start) * call->channels + t->first * width;
}

/* What is not whole, or the last there is, is read and written through spare samples. */
static void read_side(const Space *space, const Call *call, const Tile *t, int k,
                      const int32_t **widths) {
    const int dim = call->p->in_dim[k];
    for (int start = 0, width; start < dim; start += width) {
        width = *widths ? *(*widths)++ : dim;
        const REAL *x = (const REAL *)call->in[k] + place(call, t, dim, start, width);
        if (t->count < TILE || t->last) {
            memset(space->spare, 0, sizeof(REAL) * (TILE * width + 4));
            x = memcpy(space->spare, x, sizeof(REAL) * t->count * width);
        }
        REAL *rows = space->rows;
        load(x, width, (REAL *)ROW(call->p->in_row[k] + start));
    }
}

static void write_side(const Space *space, const Call *call, const Tile *t, int k,
                       const int32_t **widths) {
    const int dim = call->p->out_dim[k];
    for (int start = 0, width; start < dim; start += width) {
        width = *widths ? *(*widths)++ : dim;
        REAL *z = (REAL *)call->out[k] + place(call, t, dim, start, width), *rows = space->rows;
        const REAL *own = (const REAL *)ROW(call->p->out_row[k] + start);
        if (t->count < TILE) {
            store(own, width, space->spare);
            memcpy(z, space->spare, sizeof(REAL) * t->count * width);
        } else {
            give(space, own, width, z, call->way);
        }
    }
}

/* A share of what a tile reads comes nearer: the one of a step of the tile before it. In line, for a
 * function that does nothing else is taken for one that does nothing. */
INLINE void fetch(const Call *call, const Tile *t, int step) {
    for (int k = 0; k < call->p->n_in; k++) {
        const int dim = call->p->in_dim[k];
        const int64_t bytes = (int64_t)sizeof(REAL) * t->count * dim, each = call->fetched[k];
        const REAL *x = (const REAL *)call->in[k] + place(call, t, dim, 0, dim);
        const int64_t first = step * each, end = first + each < bytes ? first + each : bytes;
        for (int64_t at = first; at < end; at += FETCHED)
            __builtin_prefetch((const char *)x + at, 0, 2);
    }
}

/* The steps of a tile, between which the next one is fetched where it is far. */
static void run_steps_of(const Space *space, const Call *call, int64_t number) {
    const Program *p = call->p;
    if (!call->far || number + 1 >= call->tiles) {
        run_tile(space->rows, p);
        return;
    }
    const Tile next = tile_of(call, number + 1);
    for (int step = 0; step < p->n_steps; step++) {
        run_steps(space->rows, p, step, step + 1);
        fetch(call, &next, step);
    }
}

static void one_tile(const Space *space, const Call *call, int64_t number) {
    const Tile t = tile_of(call, number);
    const Program *p = call->p;
    const int32_t *widths = p->widths;
    for (int k = 0; k < p->n_in; k++) read_side(space, call, &t, k, &widths);
    run_steps_of(space, call, number);
    for (int k = 0; k < p->n_out; k++) write_side(space, call, &t, k, &widths);
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
    if (call->way == STREAMED) settle();
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
    if (p->widths) return (Trial){-1, STREAMS && bytes > CACHED_BYTES ? STREAMED : STRAIGHT, 0};
    if (dim < LEAST_BUFFERED || bytes < LEAST_TRIED) return (Trial){-1, STRAIGHT, 0};
    const int large = bytes > etp_last_cache(), size = 64 - __builtin_clzll((uint64_t)bytes);
    const uint32_t key = (uint32_t)dim << 9 | (uint32_t)size << 3 | (uint32_t)large << 2 |
                         (uint32_t)(threads > 1) << 1 | (sizeof(REAL) == sizeof(double));
    return etp_try(key, STREAMS && large ? STREAMED + 1 : BUFFERED + 1);
}

/* Inputs that half of the last cache does not hold come from memory: the other half is for outputs. */
static void look_ahead(Call *call, int64_t n) {
    const Program *p = call->p;
    int64_t bytes = 0;
    for (int k = 0; k < p->n_in; k++) {
        const int64_t lines = (int64_t)sizeof(REAL) * TILE * p->in_dim[k] / FETCHED;
        call->fetched[k] = FETCHED * ((lines + p->n_steps - 1) / (p->n_steps ? p->n_steps : 1));
        bytes += (int64_t)sizeof(REAL) * n * p->in_dim[k];
    }
    call->far = !p->widths && bytes > etp_last_cache() / 2;
}

int RUN(const Program *p, const void *const *in, void *const *out, int64_t n, int64_t channels,
        int threads) {
    /* Rows of one channel are the channels of one row. */
    if (channels == 1) channels = n, n = n > 0;
    const int64_t tiles = n * ((channels + TILE - 1) / TILE);
    const int64_t size = 1 + PIECE_MACS / (TILE * (p->macs + 1));
    const Trial trial = way_of(p, n * channels, threads);
    Call call = {p, in, out, channels, tiles, size, (enum Way)trial.way, 0, {0}, 0};
    look_ahead(&call, n * channels);
    etp_parallel((tiles + size - 1) / size, threads, one_piece, &call);
    etp_tried(trial, (double)(n * channels));
    return atomic_load(&call.failed);
}
