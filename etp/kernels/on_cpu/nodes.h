/* Features and weights of some nodes of a power, a vector of channels, to rows and back.
 *
 * Rows hold NODES nodes side by side, which is defined before this is included.
 */
#ifndef ETP_NODES_H
#define ETP_NODES_H
#include <string.h>

#include "blocks.h"
#include "power.h"

#define FEWEST_PARTS (64 / VECTOR_BYTES) /* vectors of channels of a piece: whole lines */
#define MOST_PARTS 32
#define KEPT_BYTES 32768 /* of what a piece holds from node to node */

/* Nodes that share their weights, a vector of channels. */
typedef struct {
    const PowerCall *call;
    const PowerChunk *chunk;
    int first, lanes; /* channels */
} Span;

static int vectors_of(const PowerCall *call) { return (int)((call->channels + LANES - 1) / LANES); }

static int pieces_of_chunk(const PowerCall *call, int parts) {
    return (vectors_of(call) + parts - 1) / parts;
}

/* Vectors of channels of a piece, so that features are read in long runs: as many as the cache holds
 * what each has of its own, `kept` vectors, and leave pieces enough. */
static int parts_of_piece(const PowerCall *call, int64_t kept, int threads) {
    const int64_t held = KEPT_BYTES / (kept * (int64_t)sizeof(vector));
    const int64_t shared = vectors_of(call) * call->n_chunks / (2 * threads);
    int64_t parts = held < shared ? held : shared;
    if (parts > MOST_PARTS) parts = MOST_PARTS;
    if (parts < FEWEST_PARTS) parts = FEWEST_PARTS;
    const int pieces = pieces_of_chunk(call, (int)parts);
    return (vectors_of(call) + pieces - 1) / pieces;
}

static Span span_of(const PowerCall *call, int64_t chunk, int first) {
    const int left = (int)call->channels - first;
    return (Span){call, call->chunks + chunk, first, left < LANES ? left : LANES};
}

/* All of l = 0 to 3 of a channel together, as MACE has them, too. */
#define TURN(f, ...) \
    if (b->dim == 16) f(__VA_ARGS__, 16, b->padded, whole); \
    else BY_DIM(f, __VA_ARGS__)

/* A vector of channels of one node, from its features. Where the channels of a component are not
 * side by side, components come in blocks, as many as the numbers from one channel to the next. */
static void load_lanes(const REAL *from, const int32_t *places, int dim, int first, int lanes,
                       vector *to) {
    for (int i = 0; i < dim;) {
        const int stride = places[2 * i + 1];
        const REAL *x = from + places[2 * i] + (int64_t)first * stride;
        REAL *rows = (REAL *)(to + i * NODES);
        const Block block = {.dim = stride, .padded = NODES * LANES}, *b = &block;
        int whole = lanes == LANES ? LANES : 0;
        if (whole && stride == 1) *(vector *)rows = *(const loose *)x;
        else if (whole) { TURN(load_mixed, x, rows) }
        for (int k = 0; k < stride && whole == 0; k++)
            for (int u = 0; u < LANES; u++)
                rows[k * b->padded + u] = u < lanes ? x[u * stride + k] : 0;
        i += stride;
    }
}

static void store_lanes(const vector *from, const int32_t *places, int dim, int first, int lanes,
                        REAL *to) {
    for (int i = 0; i < dim;) {
        const int stride = places[2 * i + 1];
        REAL *z = to + places[2 * i] + (int64_t)first * stride;
        const REAL *rows = (const REAL *)(from + i * NODES);
        const Block block = {.dim = stride, .padded = NODES * LANES}, *b = &block;
        int whole = lanes == LANES ? LANES : 0;
        if (whole && stride == 1) *(loose *)z = *(const vector *)rows;
        else if (whole) { TURN(store_mixed, rows, z) }
        for (int k = 0; k < stride && whole == 0; k++)
            for (int u = 0; u < lanes; u++) z[u * stride + k] = rows[k * b->padded + u];
        i += stride;
    }
}

INLINE int64_t node_at(const Span *p, int number) {
    return p->call->order ? p->call->order[number] : number;
}

/* Features of the nodes from number `at`, each `width` numbers behind the last; those past the last
 * node are zero. */
INLINE void load_strided(const Span *p, const void *features, int64_t width, const int32_t *places,
                         int dim, int at, vector *to) {
    for (int v = 0; v < NODES; v++) {
        if (at + v >= p->chunk->last) {
            for (int i = 0; i < dim; i++) to[i * NODES + v] = (vector){0};
            continue;
        }
        const int64_t node = node_at(p, at + v);
        load_lanes((const REAL *)features + node * width, places, dim, p->first, p->lanes, to + v);
    }
}

INLINE void load_nodes(const Span *p, const void *features, const int32_t *places, int dim, int at,
                       vector *to) {
    load_strided(p, features, dim * p->call->channels, places, dim, at, to);
}

INLINE void load_gradients(const Span *p, const int32_t *places, int out, int at, vector *to) {
    load_strided(p, p->call->g, p->call->g_row, places, out, at, to);
}

INLINE void store_nodes(const Span *p, void *features, const int32_t *places, int dim, int at,
                        const vector *from) {
    const int64_t width = dim * p->call->channels;
    for (int v = 0; v < NODES && at + v < p->chunk->last; v++) {
        const int64_t node = node_at(p, at + v);
        store_lanes(from + v, places, dim, p->first, p->lanes, (REAL *)features + node * width);
    }
}


/* Weights of a row, each `step` vectors behind the last. */
INLINE void read_weights(const Span *p, const void *weights, int64_t row, int numel, int step,
                         vector *to) {
    const REAL *from = (const REAL *)weights + row * numel * p->call->channels + p->first;
    for (int k = 0; k < numel; k++, from += p->call->channels, to += step) {
        if (p->lanes == LANES) {
            *to = *(const loose *)from;
            continue;
        }
        *to = (vector){0};
        memcpy(to, from, p->lanes * sizeof(REAL));
    }
}

INLINE void write_weights(const Span *p, void *weights, int64_t row, int numel, int step,
                          const vector *from) {
    REAL *to = (REAL *)weights + row * numel * p->call->channels + p->first;
    for (int k = 0; k < numel; k++, from += step, to += p->call->channels)
        memcpy(to, from, p->lanes * sizeof(REAL));
}

/* Gradients of the weights that the nodes share, to their place or to be added up later. */
static void give_weights(const Span *p, int numel, const vector *from) {
    const PowerChunk *chunk = p->chunk;
    if (chunk->spare < 0) write_weights(p, p->call->gw, chunk->row, numel, 1, from);
    else write_weights(p, p->call->gw_spare, chunk->spare, numel, 1, from);
}

/* Adds up what nodes of one row of the weights gave in several chunks. */
static void add_spare(const PowerCall *call, int numel) {
    const int64_t size = numel * call->channels;
    for (const PowerChunk *c = call->chunks; c < call->chunks + call->n_chunks; c++) {
        if (c->spare < 0) continue;
        REAL *to = (REAL *)call->gw + c->row * size;
        const REAL *from = (const REAL *)call->gw_spare + c->spare * size;
        for (int64_t k = 0; k < size; k++) to[k] += from[k];
    }
}
#endif
