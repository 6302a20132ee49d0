/* Powers: sums of products of the components of one feature, channel by channel.
 *
 *     z[n, k, u] = sum over pairs (k, m) of c[k, m, u] * monomial m of x[n, ., u]
 *     c[k, m, u] = sum over p of value[k, m, p] * w[element of n, p, u]
 *
 * A piece of work is a vector of channels of some nodes that share their weights: these are contracted
 * to c once. Monomials are formed each from an earlier one and a component, for several nodes at a
 * time, and stay in the first cache level. Gradients walk the same products back. With changes hx
 * and hw of the inputs each walk computes the change of its result instead: the second derivative.
 *
 * Compiled once per precision: -DREAL=float -DNAME(x)=x##_float, or the same for double.
 */
#include "power.h"

#include <stdlib.h>
#include <string.h>

#include "pool.h"

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#else
#define VECTOR_BYTES 32
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
#define INLINE static inline __attribute__((always_inline))
#define NODES 8 /* at a time; 4 where fewer are left */

typedef REAL vector __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));
typedef REAL loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

typedef struct {
    int32_t dim, out, numel, monomials, pairs, terms;
    const int32_t *parent, *factor;    /* of each monomial; the first are the components */
    const int32_t *row, *monomial;     /* pairs by output */
    const int32_t *column, *pair, *output; /* the same by monomial */
    const int32_t *term, *weight;      /* terms of each pair */
    const int32_t *of_weight, *entry;  /* the same by weight */
    const REAL *value, *value_of_weight;
} Table;

static Table read_table(const int32_t *p, const void *values) {
    Table t;
    memcpy(&t, p, 6 * sizeof(int32_t));
    p += 8;
    t.parent = p, p += t.monomials;
    t.factor = p, p += t.monomials;
    t.row = p, p += t.out + 1;
    t.monomial = p, p += t.pairs;
    t.column = p, p += t.monomials + 1;
    t.pair = p, p += t.pairs;
    t.output = p, p += t.pairs;
    t.term = p, p += t.pairs + 1;
    t.weight = p, p += t.terms;
    t.of_weight = p, p += t.numel + 1;
    t.entry = p;
    t.value = values;
    t.value_of_weight = t.value + t.terms;
    return t;
}

/* One vector of channels of a row of features, a vector for each component, `step` apart. */
static void load(const REAL *from, const int32_t *places, int dim, int first, int lanes, vector *to,
                 int step) {
    for (int i = 0; i < dim; i++, to += step) {
        const int stride = places[2 * i + 1];
        const REAL *x = from + places[2 * i] + (int64_t)first * stride;
        if (stride == 1 && lanes == LANES) {
            *to = *(const loose *)x;
            continue;
        }
        REAL *lane = (REAL *)to;
        for (int u = 0; u < lanes; u++) lane[u] = x[u * stride];
        for (int u = lanes; u < LANES; u++) lane[u] = 0;
    }
}

static void store(const vector *from, int step, const int32_t *places, int dim, int first, int lanes,
                  REAL *to) {
    for (int i = 0; i < dim; i++, from += step) {
        const int stride = places[2 * i + 1];
        REAL *z = to + places[2 * i] + (int64_t)first * stride;
        if (stride == 1 && lanes == LANES) {
            *(loose *)z = *from;
            continue;
        }
        const REAL *lane = (const REAL *)from;
        for (int u = 0; u < lanes; u++) z[u * stride] = lane[u];
    }
}

/* Weights to coefficients of pairs. */
static void contract(const Table *t, const vector *w, vector *c) {
    for (int e = 0; e < t->pairs; e++) {
        vector sum = {0};
        for (int n = t->term[e]; n < t->term[e + 1]; n++) sum += t->value[n] * w[t->weight[n]];
        c[e] = sum;
    }
}

/* Gradients of coefficients to those of weights. */
static void contract_back(const Table *t, const vector *gc, vector *gw) {
    for (int p = 0; p < t->numel; p++) {
        vector sum = {0};
        for (int n = t->of_weight[p]; n < t->of_weight[p + 1]; n++)
            sum += t->value_of_weight[n] * gc[t->entry[n]];
        gw[p] = sum;
    }
}

/* Arrays over monomials, pairs and outputs hold `count` nodes side by side. */

INLINE void form(const Table *t, vector *m, const int count) {
    for (int k = t->dim; k < t->monomials; k++) {
        const vector *p = m + t->parent[k] * count, *f = m + t->factor[k] * count;
        for (int v = 0; v < count; v++) m[k * count + v] = p[v] * f[v];
    }
}

INLINE void form_change(const Table *t, const vector *m, vector *h, const int count) {
    for (int k = t->dim; k < t->monomials; k++) {
        const int p = t->parent[k] * count, f = t->factor[k] * count;
        for (int v = 0; v < count; v++) h[k * count + v] = h[p + v] * m[f + v] + m[p + v] * h[f + v];
    }
}

INLINE void forward(const Table *t, const vector *c, const vector *m, vector *z, const int count) {
    for (int k = 0; k < t->out; k++) {
        vector sum[count];
        for (int v = 0; v < count; v++) sum[v] = (vector){0};
        for (int e = t->row[k]; e < t->row[k + 1]; e++) {
            const vector *from = m + t->monomial[e] * count, own = c[e];
            for (int v = 0; v < count; v++) sum[v] += own * from[v];
        }
        for (int v = 0; v < count; v++) z[k * count + v] = sum[v];
    }
}

/* The same plus the change of its coefficients. */
INLINE void forward_change(const Table *t, const vector *c, const vector *hc, const vector *m,
                           const vector *h, vector *z, const int count) {
    for (int k = 0; k < t->out; k++) {
        vector sum[count];
        for (int v = 0; v < count; v++) sum[v] = (vector){0};
        for (int e = t->row[k]; e < t->row[k + 1]; e++) {
            const int from = t->monomial[e] * count;
            const vector own = c[e], change = hc[e];
            for (int v = 0; v < count; v++) sum[v] += own * h[from + v] + change * m[from + v];
        }
        for (int v = 0; v < count; v++) z[k * count + v] = sum[v];
    }
}

/* gm = sum over outputs of c * g. */
INLINE void gather(const Table *t, const vector *c, const vector *g, vector *gm, const int count) {
    for (int k = 0; k < t->monomials; k++) {
        vector sum[count];
        for (int v = 0; v < count; v++) sum[v] = (vector){0};
        for (int n = t->column[k]; n < t->column[k + 1]; n++) {
            const vector *from = g + t->output[n] * count, own = c[t->pair[n]];
            for (int v = 0; v < count; v++) sum[v] += own * from[v];
        }
        for (int v = 0; v < count; v++) gm[k * count + v] = sum[v];
    }
}

/* gc += sum over nodes of g * m. */
INLINE void correlate(const Table *t, const vector *g, const vector *m, vector *gc, const int count) {
    for (int k = 0; k < t->out; k++) {
        vector own[count];
        for (int v = 0; v < count; v++) own[v] = g[k * count + v];
        for (int e = t->row[k]; e < t->row[k + 1]; e++) {
            const vector *from = m + t->monomial[e] * count;
            vector even = gc[e], odd = own[1] * from[1];
            for (int v = 0; v < count; v += 2) even += own[v] * from[v];
            for (int v = 3; v < count; v += 2) odd += own[v] * from[v];
            gc[e] = even + odd;
        }
    }
}

/* Gradients of monomials to those of components. */
INLINE void form_back(const Table *t, const vector *m, vector *gm, const int count) {
    for (int k = t->monomials - 1; k >= t->dim; k--) {
        const int p = t->parent[k] * count, f = t->factor[k] * count;
        for (int v = 0; v < count; v++) gm[p + v] += gm[k * count + v] * m[f + v];
        for (int v = 0; v < count; v++) gm[f + v] += gm[k * count + v] * m[p + v];
    }
}

/* The same for gradients gm of monomials m and gh of their changes h. */
INLINE void form_change_back(const Table *t, const vector *m, const vector *h, vector *gm,
                             vector *gh, const int count) {
    for (int k = t->monomials - 1; k >= t->dim; k--) {
        const int at = k * count, p = t->parent[k] * count, f = t->factor[k] * count;
        for (int v = 0; v < count; v++) gm[p + v] += gm[at + v] * m[f + v] + gh[at + v] * h[f + v];
        for (int v = 0; v < count; v++) gm[f + v] += gm[at + v] * m[p + v] + gh[at + v] * h[p + v];
        for (int v = 0; v < count; v++) gh[p + v] += gh[at + v] * m[f + v];
        for (int v = 0; v < count; v++) gh[f + v] += gh[at + v] * m[p + v];
    }
}

/* What a thread works in, and keeps for the next call. */
typedef struct {
    vector *w, *c, *hc, *gc, *m, *h, *gm, *gh, *z;
} Space;

static int space_of_thread(const Table *t, Space *s) {
    static __thread vector *start;
    static __thread int64_t held;
    const int64_t blocks = (int64_t)t->monomials * NODES;
    const int64_t needed = t->numel + 3 * t->pairs + 4 * blocks + t->out * NODES;
    if (held < needed) {
        free(start);
        start = aligned_alloc(VECTOR_BYTES, (size_t)needed * sizeof(vector));
        held = start ? needed : 0;
    }
    if (!start) return 1;
    vector *at = start;
    s->w = at, at += t->numel;
    s->c = at, at += t->pairs;
    s->hc = at, at += t->pairs;
    s->gc = at, at += t->pairs;
    s->m = at, at += blocks;
    s->h = at, at += blocks;
    s->gm = at, at += blocks;
    s->gh = at, at += blocks;
    s->z = at;
    return 0;
}

typedef struct {
    const PowerCall *call;
    Table table;
    int tiles;
    int failed;
} Walk;

/* A piece: some nodes, a vector of channels. */
typedef struct {
    const PowerCall *call;
    const Table *t;
    const PowerChunk *chunk;
    int first, lanes; /* channels */
    Space s;
} Piece;

static int open_piece(Walk *walk, int64_t index, Piece *p) {
    p->call = walk->call;
    p->t = &walk->table;
    p->chunk = walk->call->chunks + index / walk->tiles;
    p->first = (int)(index % walk->tiles) * LANES;
    const int64_t left = walk->call->channels - p->first;
    p->lanes = left < LANES ? (int)left : LANES;
    if (!space_of_thread(p->t, &p->s)) return 0;
    __atomic_store_n(&walk->failed, 1, __ATOMIC_RELAXED);
    return 1;
}

/* Weights of the piece to coefficients. */
static void weigh(const Piece *p, const void *weights, vector *c) {
    const int64_t channels = p->call->channels;
    const REAL *from = (const REAL *)weights + p->chunk->row * p->t->numel * channels + p->first;
    for (int k = 0; k < p->t->numel; k++, from += channels) {
        if (p->lanes == LANES) {
            p->s.w[k] = *(const loose *)from;
            continue;
        }
        p->s.w[k] = (vector){0};
        memcpy(p->s.w + k, from, p->lanes * sizeof(REAL));
    }
    contract(p->t, p->s.w, c);
}

static void weigh_back(const Piece *p) {
    const PowerCall *call = p->call;
    const int64_t size = p->t->numel * call->channels;
    REAL *to = p->chunk->spare < 0 ? (REAL *)call->gw + p->chunk->row * size
                                   : (REAL *)call->gw_spare + p->chunk->spare * size;
    contract_back(p->t, p->s.gc, p->s.w);
    for (int k = 0; k < p->t->numel; k++)
        memcpy(to + k * call->channels + p->first, p->s.w + k, p->lanes * sizeof(REAL));
}

/* Features of `count` nodes from number `at`; those past the last are zero. */
INLINE void load_nodes(const Piece *p, const void *features, const int32_t *places, int dim, int at,
                       vector *to, const int count) {
    const int64_t width = dim * p->call->channels;
    for (int v = 0; v < count; v++) {
        if (at + v >= p->chunk->last) {
            for (int i = 0; i < dim; i++) to[i * count + v] = (vector){0};
            continue;
        }
        const int64_t node = p->call->order ? p->call->order[at + v] : at + v;
        load((const REAL *)features + node * width, places, dim, p->first, p->lanes, to + v, count);
    }
}

INLINE void store_nodes(const Piece *p, void *features, const int32_t *places, int dim, int at,
                        const vector *from, const int count) {
    const int64_t width = dim * p->call->channels;
    for (int v = 0; v < count && at + v < p->chunk->last; v++) {
        const int64_t node = p->call->order ? p->call->order[at + v] : at + v;
        store(from + v, count, places, dim, p->first, p->lanes, (REAL *)features + node * width);
    }
}

INLINE void forward_nodes(const Piece *p, int at, const int count) {
    const PowerCall *call = p->call;
    const Table *t = p->t;
    load_nodes(p, call->x, call->places, t->dim, at, p->s.m, count);
    form(t, p->s.m, count);
    if (call->hx) {
        load_nodes(p, call->hx, call->places, t->dim, at, p->s.h, count);
        form_change(t, p->s.m, p->s.h, count);
        forward_change(t, p->s.c, p->s.hc, p->s.m, p->s.h, p->s.z, count);
    } else {
        forward(t, p->s.c, p->s.m, p->s.z, count);
    }
    store_nodes(p, call->z, call->places + 2 * t->dim, t->out, at, p->s.z, count);
}

INLINE void backward_nodes(const Piece *p, int at, const int count) {
    const PowerCall *call = p->call;
    const Table *t = p->t;
    const Space *s = &p->s;
    load_nodes(p, call->x, call->places, t->dim, at, s->m, count);
    load_nodes(p, call->g, call->places + 2 * t->dim, t->out, at, s->z, count);
    form(t, s->m, count);
    if (call->hx) {
        load_nodes(p, call->hx, call->places, t->dim, at, s->h, count);
        form_change(t, s->m, s->h, count);
    }
    if (call->want_w) correlate(t, s->z, call->hx ? s->h : s->m, s->gc, count);
    if (!call->want_x) return;
    gather(t, call->hx ? s->hc : s->c, s->z, s->gm, count);
    if (call->hx) {
        gather(t, s->c, s->z, s->gh, count);
        form_change_back(t, s->m, s->h, s->gm, s->gh, count);
    } else {
        form_back(t, s->m, s->gm, count);
    }
    store_nodes(p, call->gx, call->places, t->dim, at, s->gm, count);
}

#define ALL_NODES(walk_nodes, p) \
    for (int at = (p)->chunk->first; at < (p)->chunk->last; at += NODES) \
        if ((p)->chunk->last - at > NODES / 2) \
            walk_nodes(p, at, NODES); \
        else \
            walk_nodes(p, at, NODES / 2);

static void forward_piece(void *context, int64_t index) {
    Piece p;
    if (open_piece(context, index, &p)) return;
    weigh(&p, p.call->w, p.s.c);
    if (p.call->hw) weigh(&p, p.call->hw, p.s.hc);
    ALL_NODES(forward_nodes, &p)
}

static void backward_piece(void *context, int64_t index) {
    Piece p;
    if (open_piece(context, index, &p)) return;
    if (p.call->want_x) weigh(&p, p.call->w, p.s.c);
    if (p.call->want_x && p.call->hw) weigh(&p, p.call->hw, p.s.hc);
    if (p.call->want_w) memset(p.s.gc, 0, p.t->pairs * sizeof(vector));
    ALL_NODES(backward_nodes, &p)
    if (p.call->want_w) weigh_back(&p);
}

static int run(const PowerCall *call, int threads, void (*piece)(void *context, int64_t index)) {
    Walk walk = {call, read_table(call->program, call->values),
                 (int)((call->channels + LANES - 1) / LANES), 0};
    etp_parallel(call->n_chunks * walk.tiles, threads, piece, &walk);
    return walk.failed;
}

int NAME(etp_power_forward)(const PowerCall *call, int threads) {
    return run(call, threads, forward_piece);
}

int NAME(etp_power_backward)(const PowerCall *call, int threads) {
    if (run(call, threads, backward_piece)) return 1;
    const int64_t size = call->program[2] * call->channels;
    for (const PowerChunk *c = call->chunks; call->want_w && c < call->chunks + call->n_chunks; c++) {
        if (c->spare < 0) continue;
        REAL *to = (REAL *)call->gw + c->row * size;
        const REAL *from = (const REAL *)call->gw_spare + c->spare * size;
        for (int64_t k = 0; k < size; k++) to[k] += from[k];
    }
    return 0;
}
