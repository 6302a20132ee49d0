/* Powers that are given by steps, as tile programs are: fields on a grid or matrices, multiplied.
 *
 * A program answers one question, such as both gradients, or their change along others; there is one
 * for each (kernels/on_cpu/polynomial.py). It runs on a vector of channels of as many nodes as make
 * up the rows of a tile, which stay in the first two cache levels; memory sees each input and each
 * output once. Weights are rows like features, the same for all nodes that share them.
 *
 * Compiled once per precision: -DREAL=float -DSINGLE -DNAME(x)=x##_float, or the same for double.
 */
#include <stdlib.h>

#include "lanes.h"
#include "pool.h"
#include "power.h"
#include "steps.h"

#define NODES WIDTH
#include "nodes.h"

enum Sizes { DIM, OUT, NUMEL, DIRECTORY = 8 };
enum Asked { ASKED_Z = 1, ASKED_X = 2, ASKED_W = 4, ALONG_X = 8, ALONG_W = 16 };

/* What is in front of a program's steps; rows of what it does not have are negative. */
typedef struct {
    int32_t n_steps, rows, x, w, grad, hx, hw, z, gx, gw;
} Head;

typedef struct {
    const PowerCall *call;
    Head head;
    Program program;
    int parts;  /* of a piece */
    int pieces; /* of a chunk */
    int failed;
} Walk;

/* Rows of a thread, and sums of gradients of weights; kept for the next call. */
static vector *space_of_thread(const Walk *walk) {
    static __thread vector *start;
    static __thread int64_t held;
    const int64_t sums = (int64_t)walk->parts * walk->call->program[NUMEL];
    const int64_t needed = (int64_t)walk->head.rows * WIDTH + sums;
    if (held < needed) {
        free(start);
        start = aligned_alloc(4096, ((size_t)needed * sizeof(vector) + 4095) & ~(size_t)4095);
        held = start ? needed : 0;
    }
    return start;
}

static void load_rows(const Span *p, const void *weights, int at, vector *to) {
    const int numel = p->call->program[NUMEL], row = p->chunk->row;
    for (int v = 0; v < NODES; v++) {
        if (row != EACH_ITS_OWN) {
            read_weights(p, weights, row, numel, NODES, to + v);
        } else if (at + v < p->chunk->last) {
            read_weights(p, weights, node_at(p, at + v), numel, NODES, to + v);
        } else {
            for (int k = 0; k < numel; k++) to[k * NODES + v] = (vector){0};
        }
    }
}

/* Gradients of weights: each its own, or added to `sum`. */
static void take_rows(const Span *p, int at, const vector *from, vector *sum) {
    const int numel = p->call->program[NUMEL];
    for (int v = 0; v < NODES; v++) {
        if (p->chunk->row != EACH_ITS_OWN)
            for (int k = 0; k < numel; k++) sum[k] += from[k * NODES + v];
        else if (at + v < p->chunk->last)
            write_weights(p, p->call->gw, node_at(p, at + v), numel, NODES, from + v);
    }
}

static void some_nodes(const Walk *walk, const Span *p, int at, vector *start, vector *sum) {
    const PowerCall *call = walk->call;
    const Head *head = &walk->head;
    const int dim = call->program[DIM], out = call->program[OUT];
    const int32_t *places = call->places, *out_places = places + 2 * dim;
    REAL *rows = (REAL *)start;
    if (head->x >= 0) load_nodes(p, call->x, places, dim, at, ROW(head->x));
    if (head->hx >= 0) load_nodes(p, call->hx, places, dim, at, ROW(head->hx));
    if (head->grad >= 0) load_gradients(p, out_places, out, at, ROW(head->grad));
    if (head->w >= 0) load_rows(p, call->w, at, ROW(head->w));
    if (head->hw >= 0) load_rows(p, call->hw, at, ROW(head->hw));
    run_tile(rows, &walk->program);
    if (head->z >= 0) store_nodes(p, call->z, out_places, out, at, ROW(head->z));
    if (head->gx >= 0) store_nodes(p, call->gx, places, dim, at, ROW(head->gx));
    if (head->gw >= 0) take_rows(p, at, ROW(head->gw), sum);
}

static void one_piece(void *context, int64_t piece) {
    Walk *walk = context;
    const PowerCall *call = walk->call;
    vector *start = space_of_thread(walk);
    if (!start) {
        __atomic_store_n(&walk->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    const int numel = call->program[NUMEL], from = (int)(piece % walk->pieces) * walk->parts;
    int parts = vectors_of(call) - from;
    if (parts > walk->parts) parts = walk->parts;
    vector *sums = start + (int64_t)walk->head.rows * WIDTH;
    memset(sums, 0, (size_t)parts * numel * sizeof(vector));
    const PowerChunk *chunk = call->chunks + piece / walk->pieces;
    for (int at = chunk->first; at < chunk->last; at += NODES) {
        for (int k = 0; k < parts; k++) {
            const Span span = span_of(call, piece / walk->pieces, (from + k) * LANES);
            some_nodes(walk, &span, at, start, sums + k * numel);
        }
    }
    if (walk->head.gw < 0 || chunk->row == EACH_ITS_OWN) return;
    for (int k = 0; k < parts; k++) {
        const Span span = span_of(call, piece / walk->pieces, (from + k) * LANES);
        give_weights(&span, numel, sums + k * numel);
    }
}

static int asked(const PowerCall *call) {
    return (call->z ? ASKED_Z : 0) | (call->want_x ? ASKED_X : 0) | (call->want_w ? ASKED_W : 0) |
           (call->hx ? ALONG_X : 0) | (call->hw ? ALONG_W : 0);
}

int NAME(etp_power_steps)(const PowerCall *call, int threads) {
    const int at = call->program[DIRECTORY + asked(call)];
    if (!at) return 0; /* nothing is asked */
    Walk walk = {.call = call};
    memcpy(&walk.head, call->program + at, sizeof(Head));
    walk.program.steps = (const Step *)(call->program + at + sizeof(Head) / sizeof(int32_t));
    walk.program.n_steps = walk.head.n_steps;
    walk.program.index = (const int32_t *)(walk.program.steps + walk.head.n_steps);
    walk.program.table = call->values;
    walk.parts = parts_of_piece(call, call->program[NUMEL], threads);
    walk.pieces = pieces_of_chunk(call, walk.parts);
    etp_parallel(call->n_chunks * walk.pieces, threads, one_piece, &walk);
    if (!walk.failed && walk.head.gw >= 0) add_spare(call, call->program[NUMEL]);
    return walk.failed;
}
