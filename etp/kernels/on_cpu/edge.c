/* Edge products: one row of spherical harmonics meets every channel of a node's features.
 *
 *     z[receiver, k, u] += w[e, path, u] * sum over i, j of value[i, j, k] * y[e, j] * x[sender, i, u]
 *
 * For each edge the sums over j are a handful of numbers that all channels share, a small matrix for
 * each path; what is left is to take all components of a vector of channels through it, in registers.
 * Features are first put into rows of one component of all channels (once for each node). An edge
 * product is written at once; those of a receiver are added up in registers, some edges at a time,
 * one vector of channels after the other, and no array of edges by outputs exists. What is read once,
 * from memory, is asked for before. Gradients take the same walk, edges grouped by sender. With changes
 * hx, hy and hw of the inputs each walk computes the change of its result instead: the second
 * derivative.
 *
 * Compiled once per precision: -DREAL=float -DNAME(x)=x##_float, or the same for double.
 */
#include "edge.h"

#include <stdlib.h>
#include <string.h>

#include "blocks.h"
#include "pool.h"

#define ALIGNMENT 64
#define PIECE_EDGES 64
#define MOST_PIECES 512
#define AHEAD 1 /* edges, by which what is read once is asked for before */
/* Edges that are read side by side, and bytes of their coefficients. At worst the same channels of all
 * want the same set of the first cache level, which has 8 to 12 places. */
#define GROUP 10
#define GROUP_BYTES 16384

typedef struct {
    int32_t x, z, w, mul, padded; /* x, z: first number in the rows of a node */
    int32_t d1, d3, first; /* components; first coefficient */
    int32_t diagonal;      /* whether each component has one coefficient */
    int32_t adds;          /* whether it has its weights with a path before it */
    int32_t start;         /* of its block in the output */
} Path;

#define HEADER 15 /* numbers */
typedef struct {
    int32_t n_paths, n_in, n_out, entries, terms, dim1, dim2, dim3, numel, by_component;
    int32_t in_size, out_size; /* numbers of the rows of a node */
    int32_t macs, every_in, every_out; /* an edge's; whether blocks cover all features */
    const Path *paths;
    const Block *in, *out;
    const int32_t *from;         /* numbers of y: of each term those of all coefficients */
    const int32_t *of_y, *entry; /* coefficients that each number of y goes into */
    const REAL *value, *value_of_y;
} Table;

static Table read_table(const int32_t *p, const void *values) {
    Table t;
    memcpy(&t, p, HEADER * sizeof(int32_t));
    p += HEADER;
    t.paths = (const Path *)p, p += t.n_paths * (int)(sizeof(Path) / sizeof(int32_t));
    t.in = (const Block *)p, p += 5 * t.n_in;
    t.out = (const Block *)p, p += 5 * t.n_out;
    t.from = p, p += t.terms * t.entries;
    t.of_y = p, p += t.dim2 + 1;
    t.entry = p;
    t.value = values;
    t.value_of_y = t.value + t.terms * t.entries;
    return t;
}

static void load_row(const Table *t, const REAL *x, REAL *rows) {
    for (const Block *b = t->in; b < t->in + t->n_in; b++) load_block(b, t->by_component, x, rows);
}

static void store_row(const Block *blocks, int count, int by_component, const REAL *rows, REAL *z) {
    for (const Block *b = blocks; b < blocks + count; b++) store_block(b, by_component, rows, z);
}

static void load_out_row(const Table *t, const REAL *g, REAL *rows) {
    for (const Block *b = t->out; b < t->out + t->n_out; b++)
        load_block(b, t->by_component, g, rows);
}

#define READ(p) (*(const vector *)(p))
#define WRITE(p) (*(vector *)(p))

INLINE vector loaded(const REAL *p) { return *(const loose *)p; }

INLINE void stored(vector v, REAL *p) { *(loose *)p = v; }

/* The numbers that all channels of an edge share: sums of a few terms each, in whole vectors. */
static void mix_y(const Table *t, const REAL *restrict y, REAL *restrict m) {
    const int32_t *from = t->from;
    const REAL *value = t->value;
#ifdef MIXES
    if (t->dim2 <= 2 * LANES) {
        const vector own[2] = {some(y, t->dim2), some(y + LANES, t->dim2 - LANES)};
        for (int e = 0; e < t->entries; e += LANES) {
            vector sum = {0};
            for (int at = e; at < t->terms * t->entries; at += t->entries) {
                const lanes pick = __builtin_convertvector(*(const places *)(from + at), lanes);
                sum += loaded(value + at) * __builtin_shuffle(own[0], own[1], pick);
            }
            WRITE(m + e) = sum;
        }
        return;
    }
#endif
    memset(m, 0, t->entries * sizeof(REAL));
    for (int n = 0; n < t->terms; n++, from += t->entries, value += t->entries)
        for (int e = 0; e < t->entries; e++) m[e] += value[e] * y[from[e]];
}

/* What is read once, and is not to drive anything else out of the caches. */
INLINE void ask(const REAL *p) { __builtin_prefetch(p, 0, 0); }

INLINE void ask_row(const REAL *p, int64_t numbers) {
    for (int64_t k = 0; k < numbers; k += LANES) ask(p + k);
}

/* A path takes d1 rows to d3 rows by a matrix that all channels share. Sizes up to MOST are known to
 * the compiler, so that all components of a vector of channels stay in registers. */
#define MOST 7
#define ALL _Pragma("GCC unroll 64")
#define TO(f, d1, ...) \
    switch (p->d3) { \
        case 1: f(__VA_ARGS__, d1, 1, 0); break; \
        case 3: f(__VA_ARGS__, d1, 3, 0); break; \
        case 5: f(__VA_ARGS__, d1, 5, 0); break; \
        default: f(__VA_ARGS__, d1, 7, 0); \
    }
#define BY_SIZE(f, ...) \
    switch (p->diagonal ? p->d1 : -p->d1) { \
        case 3: f(__VA_ARGS__, 3, 3, 1); break; \
        case 5: f(__VA_ARGS__, 5, 5, 1); break; \
        case 7: f(__VA_ARGS__, 7, 7, 1); break; \
        case -3: TO(f, 3, __VA_ARGS__) break; \
        case -5: TO(f, 5, __VA_ARGS__) break; \
        case -7: TO(f, 7, __VA_ARGS__) break; \
        default: TO(f, 1, __VA_ARGS__) \
    }
/* Whether coefficient (k, i) is there, and its number. */
#define HAS(k, i) (!diagonal || (k) == (i))
#define ENTRY(k, i) (diagonal ? (i) : (k) * d1 + (i))

/* What an edge is made of: coefficients, rows of its node, weights or NULL, and the changes of all
 * along which a change is asked for. */
typedef struct {
    const REAL *m, *h, *x, *hx, *w, *hw;
} Edge;

/* Weights of a path, NULL where it has none. */
INLINE const REAL *weights_of(const Path *p, const REAL *w) { return w && p->w >= 0 ? w + p->w : NULL; }

/* Those of a vector of channels: `none` of a path without, and zeros of channels that are not. */
INLINE vector weights_at(const Path *p, const REAL *w, const REAL none, int c) {
    if (!w) return (vector){0} + none;
    return c + LANES <= p->mul ? loaded(w + c) : some(w + c, p->mul - c);
}

/* A pointer from which all that is read is a known step away: otherwise the compiler holds, and spills,
 * the place of each number for all edges. */
INLINE const REAL *base(const REAL *p) {
    __asm__("" : "+r"(p));
    return p;
}

/* What a path reads of an edge for a vector of channels. */
typedef struct {
    const REAL *m, *h, *x, *hx;
    vector w, hw;
} Term;

INLINE Term term_of(const Path *p, const Edge *e, int c) {
    return (Term){.m = base(e->m + p->first), .h = base(e->h + p->first),
                  .x = base(e->x + p->x + c), .hx = base(e->hx + p->x + c)};
}

/* w * (m . x), added to d3 sums */
INLINE void add_path(const Path *p, Term t, vector *sum, const int d1, const int d3,
                     const int diagonal) {
    vector x[MOST];
    ALL for (int i = 0; i < d1; i++) x[i] = READ(t.x + i * p->padded) * t.w;
    ALL for (int k = 0; k < d3; k++)
        ALL for (int i = 0; i < d1; i++)
            if (HAS(k, i)) sum[k] += t.m[ENTRY(k, i)] * x[i];
}

/* The change of the same: w * (h . x + m . hx) + hw * (m . x). */
INLINE void add_change(const Path *p, Term t, vector *sum, const int d1, const int d3,
                       const int diagonal) {
    vector x[MOST], hx[MOST];
    ALL for (int i = 0; i < d1; i++) {
        const vector own = READ(t.x + i * p->padded);
        hx[i] = READ(t.hx + i * p->padded) * t.w + own * t.hw;
        x[i] = own * t.w;
    }
    ALL for (int k = 0; k < d3; k++)
        ALL for (int i = 0; i < d1; i++)
            if (HAS(k, i)) sum[k] += t.h[ENTRY(k, i)] * x[i] + t.m[ENTRY(k, i)] * hx[i];
}

INLINE void add(const int change, const Path *p, Term t, vector *sum, const int d1, const int d3,
                const int diagonal) {
    if (change) add_change(p, t, sum, d1, d3, diagonal);
    else add_path(p, t, sum, d1, d3, diagonal);
}

/* Edges of one receiver, and its rows. */
typedef struct {
    const Edge *edges;
    int count;
    REAL *z;
    const REAL *next; /* weights that are read next, and asked for now, */
    int step;         /* a line at a time, or none */
} Sum;

#define SIDE 2 /* vectors of channels side by side */

/* Sums over the edges of a group stay in registers; several vectors of channels at a time, as long as
 * there are so many and all have weights. */
INLINE void sum_path(const int change, const Path *p, Sum *s, const int d1, const int d3,
                     const int diagonal) {
    const Edge *end = s->edges + s->count;
    const REAL *next = s->next;
    REAL *z = s->z + p->z;
    vector sum[SIDE][MOST];
    const int step = s->step, whole = p->w >= 0 && s->edges->w ? p->mul : 0;
    int c = 0;
    for (; c + SIDE * LANES <= whole; c += SIDE * LANES) {
        ALL for (int v = 0; v < SIDE; v++)
            ALL for (int k = 0; k < d3; k++) sum[v][k] = READ(z + k * p->padded + c + v * LANES);
        for (const Edge *e = s->edges; e < end; e++) {
            Term t = term_of(p, e, c);
            const REAL *w = base(e->w + p->w + c), *hw = change ? base(e->hw + p->w + c) : w;
            ALL for (int v = 0; v < SIDE; v++) {
                t.w = loaded(w + v * LANES), t.hw = loaded(hw + v * LANES);
                ask(next), next += step;
                if (change) ask(next + (hw - w));
                add(change, p, t, sum[v], d1, d3, diagonal);
                t.x += LANES, t.hx += LANES;
            }
        }
        ALL for (int v = 0; v < SIDE; v++)
            ALL for (int k = 0; k < d3; k++) WRITE(z + k * p->padded + c + v * LANES) = sum[v][k];
    }
    s->next = next;
    for (; c < p->padded; c += LANES) {
        ALL for (int k = 0; k < d3; k++) sum[0][k] = READ(z + k * p->padded + c);
        for (const Edge *e = s->edges; e < end; e++) {
            Term t = term_of(p, e, c);
            t.w = weights_at(p, weights_of(p, e->w), 1, c);
            if (change) t.hw = weights_at(p, weights_of(p, e->hw), 0, c);
            add(change, p, t, sum[0], d1, d3, diagonal);
        }
        ALL for (int k = 0; k < d3; k++) WRITE(z + k * p->padded + c) = sum[0][k];
    }
}

/* A path of an edge whose output is written at once. */
typedef struct {
    const Edge *edge;
    const REAL *w, *hw;
    int64_t later; /* how far on weights are that are read later, and asked for now */
    REAL *z;       /* its block in the output */
    int by_component, streams;
} Output;

/* Vectors to the output, `step` apart, of the components of a vector of channels. */
INLINE void give(const Path *p, const Output *o, int c, const vector *v, const int d3,
                 int64_t step) {
    REAL *to = o->z + (o->by_component ? c : c * d3);
    const int left = p->mul - c;
    if (left < LANES) {
        ALL for (int k = 0; k < d3; k++)
            put_some(v[k], to + k * step, o->by_component ? left : left * d3 - k * LANES);
        return;
    }
    ALL for (int k = 0; k < d3; k++) {
        if (o->streams) streamed(v[k], to + k * step);
        else stored(v[k], to + k * step);
    }
}

INLINE void mix_path(const int change, const Path *p, const Output *o, const int d1, const int d3,
                     const int diagonal) {
    Term t = term_of(p, o->edge, 0);
    for (int c = 0; c < p->padded; c += LANES, t.x += LANES, t.hx += LANES) {
        vector sum[MOST], mixed[MOST];
        ALL for (int k = 0; k < d3; k++) sum[k] = (vector){0};
        t.w = weights_at(p, o->w, 1, c), t.hw = weights_at(p, o->hw, 0, c);
        ask(o->w + c + o->later);
        if (change) ask(o->hw + c + o->later);
        add(change, p, t, sum, d1, d3, diagonal);
        if (d3 == 1 || o->by_component) {
            give(p, o, c, sum, d3, p->mul);
            continue;
        }
        store_mixed((const REAL *)sum, (REAL *)mixed, d3, LANES, LANES);
        give(p, o, c, mixed, d3, LANES);
    }
}

#ifdef MIXES
/* Vector q of the components of LANES channels, of what each channel or each component has. */
INLINE vector of_channels(vector v, int q, const int d3) {
    lanes pick;
    UNROLL
    for (int n = 0; n < LANES; n++) pick[n] = (q * LANES + n) / d3;
    return __builtin_shuffle(v, pick);
}

INLINE vector of_components(const REAL *m, int q, const int d3) {
    lanes pick;
    UNROLL
    for (int n = 0; n < LANES; n++) pick[n] = (q * LANES + n) % d3;
    return __builtin_shuffle(loaded(m), pick);
}

/* From scalars, in the order of the output: mixing components would take d3 times as many steps. */
INLINE void spread_path(const int change, const Path *p, const Output *o, const int d3) {
    const Term t = term_of(p, o->edge, 0);
    vector m[MOST], h[MOST], z[MOST];
    ALL for (int q = 0; q < d3; q++) {
        m[q] = of_components(t.m, q, d3);
        if (change) h[q] = of_components(t.h, q, d3);
    }
    for (int c = 0; c < p->padded; c += LANES) {
        const vector own = READ(t.x + c), w = weights_at(p, o->w, 1, c), x = own * w;
        ask(o->w + c + o->later);
        if (change) {
            const vector hx = READ(t.hx + c) * w + own * weights_at(p, o->hw, 0, c);
            ask(o->hw + c + o->later);
            ALL for (int q = 0; q < d3; q++)
                z[q] = of_channels(x, q, d3) * h[q] + of_channels(hx, q, d3) * m[q];
        } else {
            ALL for (int q = 0; q < d3; q++) z[q] = of_channels(x, q, d3) * m[q];
        }
        give(p, o, c, z, d3, LANES);
    }
}
#define SPREADS(o, d1, d3) ((d1) == 1 && (d3) > 1 && !(o)->by_component)
#else
#define SPREADS(o, d1, d3) 0
#define spread_path(change, p, o, d3) (void)0
#endif

INLINE void give_path(const int change, const Path *p, const Output *o, const int d1, const int d3,
                      const int diagonal) {
    if (SPREADS(o, d1, d3)) spread_path(change, p, o, d3);
    else mix_path(change, p, o, d1, d3, diagonal);
}

/* What a path reads and writes on the way back: rows of nodes at its first number, its coefficients
 * and weights. */
typedef struct {
    const REAL *m, *h, *x, *hx, *g, *w, *hw;
    int64_t later; /* how far on weights are that are read later, and asked for now */
    REAL *gx, *gw; /* no gw where there are no weights */
    vector *dot; /* one for each coefficient */
    int want_x, adds, streams;
} Row;

/* `whole`: of weights and channels that are there, for all vectors but the last. */
INLINE vector own_weights(const Path *p, const REAL *w, int64_t later, const REAL none, int c,
                          const int whole) {
    if (!whole) return weights_at(p, w, none, c);
    ask(w + later + c);
    return loaded(w + c);
}

INLINE void put_weight(const Path *p, const Row *r, int c, vector v, const int whole) {
    const int left = whole ? LANES : p->mul - c;
    REAL *to = r->gw + c;
    if (!whole && !r->gw) return;
    if (left < LANES) put_some(r->adds ? v + some(to, left) : v, to, left);
    else if (r->adds) stored(loaded(to) + v, to);
    else if (r->streams) streamed(v, to);
    else stored(v, to);
}

/* Gradients. By x: t = m^T . g, weighted; by the weights: x . t; by coefficients: w * x * g. */
INLINE void back(const Path *p, const Row *r, int c, vector *dot, const int d1, const int d3,
                 const int diagonal, const int whole) {
    const REAL *m = r->m;
    vector g[MOST], of_weight = {0};
    const vector w = own_weights(p, r->w, r->later, 1, c, whole);
    ALL for (int k = 0; k < d3; k++) g[k] = READ(r->g + k * p->padded + c);
    ALL for (int i = 0; i < d1; i++) {
        const vector x = READ(r->x + i * p->padded + c), wx = w * x;
        vector t = {0};
        ALL for (int k = 0; k < d3; k++) {
            if (!HAS(k, i)) continue;
            t += m[ENTRY(k, i)] * g[k];
            dot[ENTRY(k, i)] += wx * g[k];
        }
        of_weight += x * t;
        if (r->want_x) WRITE(r->gx + i * p->padded + c) += w * t;
    }
    put_weight(p, r, c, of_weight, whole);
}

/* The change of the same. */
INLINE void back_change(const Path *p, const Row *r, int c, vector *dot, const int d1, const int d3,
                        const int diagonal, const int whole) {
    const REAL *m = r->m, *h = r->h;
    vector g[MOST], of_weight = {0};
    const vector w = own_weights(p, r->w, r->later, 1, c, whole);
    const vector hw = own_weights(p, r->hw, r->later, 0, c, whole);
    ALL for (int k = 0; k < d3; k++) g[k] = READ(r->g + k * p->padded + c);
    ALL for (int i = 0; i < d1; i++) {
        const vector x = READ(r->x + i * p->padded + c), hx = READ(r->hx + i * p->padded + c);
        const vector change = w * hx + hw * x;
        vector t = {0}, ht = {0};
        ALL for (int k = 0; k < d3; k++) {
            if (!HAS(k, i)) continue;
            t += m[ENTRY(k, i)] * g[k];
            ht += h[ENTRY(k, i)] * g[k];
            dot[ENTRY(k, i)] += change * g[k];
        }
        of_weight += hx * t + x * ht;
        if (r->want_x) WRITE(r->gx + i * p->padded + c) += w * ht + hw * t;
    }
    put_weight(p, r, c, of_weight, whole);
}

INLINE void backward_path(const int change, const Path *p, const Row *r, const int d1, const int d3,
                          const int diagonal) {
    const int entries = diagonal ? d1 : d1 * d3, whole = r->w ? p->mul / LANES * LANES : 0;
    vector dot[MOST * MOST];
    ALL for (int e = 0; e < entries; e++) dot[e] = (vector){0};
    for (int c = 0; c < whole; c += LANES) {
        if (change) back_change(p, r, c, dot, d1, d3, diagonal, 1);
        else back(p, r, c, dot, d1, d3, diagonal, 1);
    }
    for (int c = whole; c < p->padded; c += LANES) {
        if (change) back_change(p, r, c, dot, d1, d3, diagonal, 0);
        else back(p, r, c, dot, d1, d3, diagonal, 0);
    }
    ALL for (int e = 0; e < entries; e++) r->dot[e] = dot[e];
}

typedef struct {
    const EdgeCall *call;
    Table table;
    int64_t groups, pieces;
    const REAL *x, *hx, *g; /* rows of nodes; NULL where they are made edge by edge */
    REAL *shared;           /* gradients of shared weights, one set a piece */
    int streams;            /* whether what is written once goes past the caches */
    int asks;               /* whether what is read once is more than caches hold */
    int at_once;            /* whether an edge's output is written from registers */
    int failed;
} Walk;

/* Memory of one piece: rows and small tables, all aligned and zero where padding is read. */
typedef struct {
    void *all;
    REAL *x, *hx, *g, *result, *m, *h, *of_m;
    vector *dot;
    int most; /* edges of which there can be coefficients m and h */
} Scratch;

static int64_t aligned(int64_t numbers) {
    const int64_t each = ALIGNMENT / sizeof(REAL);
    return (numbers + each - 1) / each * each;
}

static int take(const Table *t, Scratch *s) {
    const int64_t in = aligned(t->in_size), out = aligned(t->out_size);
    const int64_t entries = aligned(t->entries), larger = in > out ? in : out;
    const int64_t fit = GROUP_BYTES / (entries * (int64_t)sizeof(REAL));
    s->most = fit < 1 ? 1 : fit > GROUP ? GROUP : (int)fit;
    const int64_t zeros = 2 * in + out + larger + entries + t->entries * LANES;
    const int64_t total = zeros + 2 * s->most * entries;
    if (posix_memalign(&s->all, ALIGNMENT, total * sizeof(REAL))) return 1;
    memset(s->all, 0, zeros * sizeof(REAL));
    REAL *at = s->all;
    s->x = at, at += in;
    s->hx = at, at += in;
    s->g = at, at += out;
    s->result = at, at += larger;
    s->of_m = at, at += entries;
    s->dot = (vector *)at, at += t->entries * LANES;
    s->m = at, at += s->most * entries;
    s->h = at;
    return 0;
}

/* First group of a piece: pieces have about as many edges each, whatever their number of groups. */
static int64_t first_group(const Walk *walk, int64_t piece) {
    const EdgeCall *c = walk->call;
    const int64_t edge = c->edges * piece / walk->pieces;
    if (piece == walk->pieces) return walk->groups;
    if (!c->starts) return edge;
    int64_t low = 0, high = walk->groups;
    while (low < high) {
        const int64_t middle = (low + high) / 2;
        if (c->starts[middle] < edge) low = middle + 1;
        else high = middle;
    }
    return piece ? low : 0;
}

INLINE int64_t edge_of(const EdgeCall *c, int64_t place) {
    return c->order ? c->order[place] : place;
}

/* One that comes a little later, and what is read of it is asked for; or this one. */
INLINE int64_t later_edge(const Walk *walk, int64_t place, int ahead) {
    const int64_t later = place + ahead;
    return edge_of(walk->call, walk->asks && later < walk->call->edges ? later : place);
}

/* Rows of one node; where none were made, from what is given, of which `later` is asked for. */
static const REAL *rows_of(const Table *t, const REAL *made, const void *given, int64_t row,
                           int64_t later, REAL *scratch) {
    if (made) return made + row * t->in_size;
    ask_row((const REAL *)given + later * t->dim1, t->dim1);
    load_row(t, (const REAL *)given + row * t->dim1, scratch);
    return scratch;
}

static const REAL *out_rows_of(const Table *t, const REAL *made, const void *given, int64_t row,
                               REAL *scratch) {
    if (made) return made + row * t->out_size;
    load_out_row(t, (const REAL *)given + row * t->dim3, scratch);
    return scratch;
}

/* Whether a result whose numbers are written once goes past the caches. */
static int beyond_caches(int64_t rows, int64_t numbers) {
    return rows * numbers * (int64_t)sizeof(REAL) > CACHED_BYTES;
}

static int aligned_at(const REAL *p) { return (uintptr_t)p % VECTOR_BYTES == 0; }

/* Whether an edge's output is written path by path, from registers: paths are blocks of their own
 * there. */
static int written_at_once(const EdgeCall *call, const Table *t) {
    return !call->starts && t->n_out == t->n_paths;
}

/* An edge, whose coefficients are made, as that of a number in its group; rows of `later` are asked
 * for. */
static Edge read_edge(const Walk *walk, Scratch *s, int64_t e, int64_t later, int number) {
    const EdgeCall *c = walk->call;
    const Table *t = &walk->table;
    const int64_t row = c->senders ? c->senders[e] : e, w = e * c->w_stride;
    const int64_t at = number * aligned(t->entries);
    Edge edge = {.m = s->m + at, .h = s->h + at};
    if (c->w) edge.w = (const REAL *)c->w + w;
    edge.x = rows_of(t, walk->x, c->x, row, later, s->x);
    mix_y(t, (const REAL *)c->y + e * t->dim2, s->m + at);
    if (!c->hx) return edge;
    if (c->hw) edge.hw = (const REAL *)c->hw + w;
    edge.hx = rows_of(t, walk->hx, c->hx, row, later, s->hx);
    mix_y(t, (const REAL *)c->hy + e * t->dim2, s->h + at);
    return edge;
}

static void give_edge(const Walk *walk, Scratch *s, int64_t e) {
    const EdgeCall *c = walk->call;
    const Table *t = &walk->table;
    const int64_t later = later_edge(walk, e, AHEAD);
    const Edge edge = read_edge(walk, s, e, later, 0);
    REAL *z = (REAL *)c->z + e * t->dim3;
    for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
        const Output o = {&edge, weights_of(p, edge.w), weights_of(p, edge.hw),
                          (later - e) * c->w_stride, z + p->start, t->by_component,
                          walk->streams && aligned_at(z + p->start)};
        if (edge.hx) BY_SIZE(give_path, 1, p, &o)
        else BY_SIZE(give_path, 0, p, &o)
    }
}

/* Add up edges at their receiver: those of a group for one vector of channels after the other, so
 * that sums stay in registers. Weights of edges that lie as they come are asked for line by line,
 * others when their turn comes near. */
static void sum_edges(const Walk *walk, Scratch *s, int64_t first, int64_t last) {
    const EdgeCall *c = walk->call;
    const Table *t = &walk->table;
    Edge edges[GROUP];
    for (int64_t place = first; place < last; place += s->most) {
        const int count = last - place < s->most ? (int)(last - place) : s->most;
        for (int k = 0; k < count; k++) {
            const int64_t later = later_edge(walk, place + k, count);
            edges[k] = read_edge(walk, s, edge_of(c, place + k), later, k);
            if (walk->asks && c->order && c->w)
                ask_row((const REAL *)c->w + later * c->w_stride, t->numel);
        }
        const int step = walk->asks && !c->order ? LANES : 0;
        Sum sum = {edges, count, s->result, edges[count - 1].w, step};
        if (step && sum.next) sum.next += t->numel;
        for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
            if (c->hx) BY_SIZE(sum_path, 1, p, &sum)
            else BY_SIZE(sum_path, 0, p, &sum)
        }
    }
}

static void forward_piece(void *context, int64_t piece) {
    Walk *walk = context;
    const EdgeCall *c = walk->call;
    const Table *t = &walk->table;
    Scratch s;
    if (take(t, &s)) {
        __atomic_store_n(&walk->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    if (!walk->x) s.most = 1; /* of which there are rows */
    const int64_t end = first_group(walk, piece + 1);
    for (int64_t n = first_group(walk, piece); n < end; n++) {
        if (walk->at_once) {
            give_edge(walk, &s, n);
            continue;
        }
        memset(s.result, 0, t->out_size * sizeof(REAL));
        sum_edges(walk, &s, c->starts ? c->starts[n] : n, c->starts ? c->starts[n + 1] : n + 1);
        store_row(t->out, t->n_out, t->by_component, s.result, (REAL *)c->z + n * t->dim3);
    }
    if (walk->streams) settle();
    free(s.all);
}

/* Sums over the lanes of four vectors. */
INLINE void sum_lanes(const vector *from, REAL *to) {
    vector v[4] = {from[0], from[1], from[2], from[3]};
    transpose(v);
    const vector s = (v[0] + v[1]) + (v[2] + v[3]);
    quad sum = {0};
#define ADD_QUAD(g) sum += __builtin_shufflevector(s, s, QUAD(g));
    QUADS(ADD_QUAD)
    *(quad *)to = sum;
}

/* gy[j] = sum over the channels of the dot products that number j of y goes into. */
static void gather_y(const Table *t, const vector *dot, REAL *of_m, REAL *gy) {
    for (int e = 0; e < t->entries; e += 4) sum_lanes(dot + e, of_m + e);
    for (int j = 0; j < t->dim2; j++) {
        REAL sum = 0;
        for (int n = t->of_y[j]; n < t->of_y[j + 1]; n++) sum += t->value_of_y[n] * of_m[t->entry[n]];
        gy[j] = sum;
    }
}

static void backward_edge(const Walk *walk, Scratch *s, int64_t place, const REAL *x,
                          const REAL *hx, REAL *shared) {
    const EdgeCall *c = walk->call;
    const Table *t = &walk->table;
    const int64_t e = edge_of(c, place), later = later_edge(walk, place, AHEAD);
    const int64_t row = c->receivers ? c->receivers[e] : e;
    const REAL *g = out_rows_of(t, walk->g, c->g, row, s->g);
    const REAL *w = c->w ? (const REAL *)c->w + e * c->w_stride : NULL;
    const REAL *hw = c->hw ? (const REAL *)c->hw + e * c->w_stride : NULL;
    REAL *gw = shared ? shared : (REAL *)c->gw + (c->gw ? e * c->w_stride : 0);
    mix_y(t, (const REAL *)c->y + e * t->dim2, s->m);
    if (hx) mix_y(t, (const REAL *)c->hy + e * t->dim2, s->h);
    for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
        const Row r = {.m = s->m + p->first, .h = s->h + p->first, .x = x + p->x,
                       .hx = hx ? hx + p->x : NULL, .g = g + p->z, .w = weights_of(p, w),
                       .hw = weights_of(p, hw), .later = (later - e) * c->w_stride,
                       .gx = s->result + p->x, .gw = w && p->w >= 0 ? gw + p->w : NULL,
                       .dot = s->dot + p->first, .want_x = c->want_x, .adds = shared || p->adds,
                       .streams = walk->streams && aligned_at(gw + p->w)};
        if (!walk->g) ask_row((const REAL *)c->g + later * t->dim3 + p->start, p->mul * p->d3);
        if (hx) BY_SIZE(backward_path, 1, p, &r)
        else BY_SIZE(backward_path, 0, p, &r)
    }
    gather_y(t, s->dot, s->of_m, (REAL *)c->gy + e * t->dim2);
}

static void backward_piece(void *context, int64_t piece) {
    Walk *walk = context;
    const EdgeCall *c = walk->call;
    const Table *t = &walk->table;
    Scratch s;
    if (take(t, &s)) {
        __atomic_store_n(&walk->failed, 1, __ATOMIC_RELAXED);
        return;
    }
    REAL *shared = walk->shared ? walk->shared + piece * t->numel : NULL;
    const int64_t end = first_group(walk, piece + 1);
    for (int64_t n = first_group(walk, piece); n < end; n++) {
        const int64_t first = c->starts ? c->starts[n] : n;
        const int64_t last = c->starts ? c->starts[n + 1] : n + 1;
        const int64_t next = walk->asks && n + 1 < c->in_rows ? n + 1 : n;
        const REAL *x = rows_of(t, NULL, c->x, n, next, s.x);
        const REAL *hx = c->hx ? rows_of(t, NULL, c->hx, n, next, s.hx) : NULL;
        if (c->want_x) memset(s.result, 0, t->in_size * sizeof(REAL));
        for (int64_t place = first; place < last; place++)
            backward_edge(walk, &s, place, x, hx, shared);
        if (c->want_x)
            store_row(t->in, t->n_in, t->by_component, s.result, (REAL *)c->gx + n * t->dim1);
    }
    if (walk->streams) settle();
    free(s.all);
}

typedef struct {
    const Table *table;
    const REAL *from;
    REAL *to;
    int64_t count, pieces;
    int out;
} Lay;

static void lay_piece(void *context, int64_t piece) {
    const Lay *l = context;
    const Table *t = l->table;
    for (int64_t n = l->count * piece / l->pieces; n < l->count * (piece + 1) / l->pieces; n++) {
        if (l->out) load_out_row(t, l->from + n * t->dim3, l->to + n * t->out_size);
        else load_row(t, l->from + n * t->dim1, l->to + n * t->in_size);
    }
}

/* Rows of all nodes; NULL for want of memory. */
static REAL *laid(const Table *t, const void *from, int64_t count, int out, int threads) {
    const int64_t size = out ? t->out_size : t->in_size;
    void *to;
    if (posix_memalign(&to, ALIGNMENT, (count * size + 1) * sizeof(REAL))) return NULL;
    int padded = 0;
    const Block *blocks = out ? t->out : t->in;
    for (int k = 0; k < (out ? t->n_out : t->n_in); k++) padded |= blocks[k].mul != blocks[k].padded;
    if (padded) memset(to, 0, count * size * sizeof(REAL));
    Lay lay = {t, from, to, count, count < MOST_PIECES ? count : MOST_PIECES, out};
    if (count) etp_parallel(lay.pieces, threads, lay_piece, &lay);
    return to;
}

static Walk begin(const EdgeCall *call, int64_t groups) {
    Walk walk = {.call = call, .table = read_table(call->program, call->values), .groups = groups};
    const Table *t = &walk.table;
    const int own = (call->w_stride ? t->numel : 0) + (call->senders ? 0 : t->dim1);
    walk.asks = beyond_caches(call->edges, own + (call->g && !call->receivers ? t->dim3 : 0));
    /* A number of pieces that does not depend on threads: sums over pieces are always the same. */
    const int64_t pieces = (call->edges + PIECE_EDGES - 1) / PIECE_EDGES;
    walk.pieces = pieces < 1 ? 1 : pieces > MOST_PIECES ? MOST_PIECES : pieces;
    return walk;
}

int NAME(etp_edge_forward)(const EdgeCall *call, int threads) {
    Walk walk = begin(call, call->out_rows);
    REAL *x = NULL, *hx = NULL;
    if (call->senders) {
        walk.x = x = laid(&walk.table, call->x, call->in_rows, 0, threads);
        if (call->hx) walk.hx = hx = laid(&walk.table, call->hx, call->in_rows, 0, threads);
        walk.failed = !x || (call->hx && !hx);
    }
    walk.streams = beyond_caches(call->out_rows, walk.table.dim3);
    walk.at_once = written_at_once(call, &walk.table);
    if (!walk.failed) etp_parallel(walk.pieces, threads, forward_piece, &walk);
    free(x);
    free(hx);
    return walk.failed;
}

int NAME(etp_edge_backward)(const EdgeCall *call, int threads) {
    Walk walk = begin(call, call->in_rows);
    const Table *t = &walk.table;
    REAL *g = NULL;
    if (call->receivers) {
        walk.g = g = laid(t, call->g, call->out_rows, 1, threads);
        walk.failed = !g;
    }
    const int shares = call->gw && !call->w_stride;
    if (shares) {
        walk.shared = calloc(walk.pieces * t->numel, sizeof(REAL));
        walk.failed |= !walk.shared;
    }
    walk.streams = call->gw && !shares && beyond_caches(call->edges, t->numel);
    if (!walk.failed) etp_parallel(walk.pieces, threads, backward_piece, &walk);
    if (shares && !walk.failed) {
        REAL *gw = call->gw;
        memset(gw, 0, t->numel * sizeof(REAL));
        for (int64_t piece = 0; piece < walk.pieces; piece++)
            for (int k = 0; k < t->numel; k++) gw[k] += walk.shared[piece * t->numel + k];
    }
    free(walk.shared);
    free(g);
    return walk.failed;
}
