/* Edge products: one row of spherical harmonics meets every channel of a node's features.
 *
 *     z[receiver, k, u] += w[e, path, u] * sum over i, j of value[i, j, k] * y[e, j] * x[sender, i, u]
 *
 * For each edge the sums over j are a handful of numbers that all channels share, one for each entry
 * (k, i) of each path; what is left is vector operations over channels. Features are first put into
 * rows of one component of all channels (once for each node), the rows of a result stay in the first
 * cache level while its edges come by, and no array of edges by outputs exists. Gradients take the
 * same walk, edges grouped by sender. With changes hx, hy and hw of the inputs each walk computes the
 * change of its result instead: the second derivative.
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

typedef struct {
    int32_t x, z, w, mul, padded, d3, row; /* x, z: first number in the rows of a node */
} Path;

typedef struct {
    int32_t n_paths, n_in, n_out, entries, terms, dim1, dim2, dim3, numel, by_component;
    int32_t in_size, out_size, widest; /* numbers of the rows of a node, of the widest row */
    int32_t macs, every_in, every_out; /* an edge's; whether blocks cover all features */
    const Path *paths;
    const Block *in, *out;
    const int32_t *row;            /* first entry of each output component of each path */
    const int32_t *component;      /* row of x of each entry, from its path's first number */
    const int32_t *term, *from;    /* terms of each entry: numbers of y */
    const int32_t *of_y, *entry;   /* the same terms by number of y */
    const REAL *value, *value_of_y;
} Table;

static Table read_table(const int32_t *p, const void *values) {
    Table t;
    memcpy(&t, p, 16 * sizeof(int32_t));
    p += 16;
    t.paths = (const Path *)p, p += 7 * t.n_paths;
    t.in = (const Block *)p, p += 5 * t.n_in;
    t.out = (const Block *)p, p += 5 * t.n_out;
    int32_t rows = 1;
    for (int k = 0; k < t.n_paths; k++) rows += t.paths[k].d3;
    t.row = p, p += rows;
    t.component = p, p += t.entries;
    t.term = p, p += t.entries + 1;
    t.from = p, p += t.terms;
    t.of_y = p, p += t.dim2 + 1;
    t.entry = p;
    t.value = values;
    t.value_of_y = t.value + t.terms;
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

/* The numbers that all channels of an edge share. */
static void mix_y(const Table *t, const REAL *y, REAL *m) {
    for (int e = 0; e < t->entries; e++) {
        REAL sum = 0;
        for (int n = t->term[e]; n < t->term[e + 1]; n++) sum += t->value[n] * y[t->from[n]];
        m[e] = sum;
    }
}

#define READ(p) (*(const vector *)(p))
#define WRITE(p) (*(vector *)(p))

INLINE vector loaded(const REAL *p) { return *(const loose *)p; }

INLINE void stored(vector v, REAL *p) { *(loose *)p = v; }

/* A row is one output component of one path: at most MOST entries of it at once, their number known
 * to the compiler, so that coefficients stay in registers while channels go by. */
#define MOST 6
#define BY_COUNT(f, ...) \
    switch (n) { \
        case 1: f(__VA_ARGS__, 1); break; \
        case 2: f(__VA_ARGS__, 2); break; \
        case 3: f(__VA_ARGS__, 3); break; \
        case 4: f(__VA_ARGS__, 4); break; \
        case 5: f(__VA_ARGS__, 5); break; \
        default: f(__VA_ARGS__, 6); \
    }

/* What a row reads: entries, coefficients and their changes, and the rows of features. */
typedef struct {
    const int32_t *component;
    const REAL *m, *h, *x, *hx, *g, *w, *hw;
    int width; /* channels, padded */
} Row;

/* z = or += w * (m . x) */
INLINE void forward_row(const Row *r, REAL *z, const int fresh, const int weighted, const int n) {
    const REAL *x[MOST];
    REAL m[MOST];
    for (int e = 0; e < n; e++) x[e] = r->x + r->component[e], m[e] = r->m[e];
    const REAL *w = r->w;
    for (int c = 0; c < r->width; c += LANES) {
        vector sum = m[0] * READ(x[0] + c);
        for (int e = 1; e < n; e++) sum += m[e] * READ(x[e] + c);
        if (weighted) sum *= loaded(w + c);
        WRITE(z + c) = fresh ? sum : WRITE(z + c) + sum;
    }
}

/* The change of the same: z = or += w * (h . x + m . hx) + hw * (m . x). */
INLINE void forward_change(const Row *r, REAL *z, const int fresh, const int weighted,
                           const int n) {
    for (int c = 0; c < r->width; c += LANES) {
        vector sum = {0}, change = {0};
        for (int e = 0; e < n; e++) {
            const vector x = READ(r->x + r->component[e] + c);
            sum += r->m[e] * x;
            change += r->h[e] * x + r->m[e] * READ(r->hx + r->component[e] + c);
        }
        if (weighted) change = loaded(r->w + c) * change + loaded(r->hw + c) * sum;
        WRITE(z + c) = fresh ? change : WRITE(z + c) + change;
    }
}

static void forward_path(const Table *t, const Path *p, Row r, REAL *z, int fresh) {
    const REAL *m = r.m, *h = r.h;
    r.x += p->x, r.hx += r.hx ? p->x : 0, r.width = p->padded;
    for (int k = 0; k < p->d3; k++) {
        const int end = t->row[p->row + k + 1];
        int e = t->row[p->row + k], first = fresh;
        REAL *to = z + p->z + k * p->padded;
        if (e == end && fresh) memset(to, 0, p->padded * sizeof(REAL));
        for (; e < end; e += MOST, first = 0) {
            const int n = end - e;
            r.component = t->component + e, r.m = m + e;
            if (r.hx) {
                r.h = h + e;
                if (r.w) BY_COUNT(forward_change, &r, to, first, 1)
                else BY_COUNT(forward_change, &r, to, first, 0)
            } else if (r.w) {
                if (first) BY_COUNT(forward_row, &r, to, 1, 1)
                else BY_COUNT(forward_row, &r, to, 0, 1)
            } else {
                if (first) BY_COUNT(forward_row, &r, to, 1, 0)
                else BY_COUNT(forward_row, &r, to, 0, 0)
            }
        }
    }
}

/* Gradients of one row; `dot` has a vector for each entry. */
INLINE void backward_row(const Row *r, REAL *gx, REAL *gw, vector *dot, const int fresh,
                         const int weighted, const int want_x, const int n) {
    const REAL *x[MOST];
    REAL *to[MOST], m[MOST];
    vector d[MOST];
    for (int e = 0; e < n; e++) {
        x[e] = r->x + r->component[e], to[e] = gx + r->component[e], m[e] = r->m[e];
        d[e] = (vector){0};
    }
    const REAL *g = r->g, *w = r->w;
    for (int c = 0; c < r->width; c += LANES) {
        const vector gv = READ(g + c), wg = weighted ? loaded(w + c) * gv : gv;
        vector sum = {0};
        for (int e = 0; e < n; e++) {
            const vector xv = READ(x[e] + c);
            d[e] += wg * xv;
            if (weighted) sum += m[e] * xv;
            if (want_x) WRITE(to[e] + c) += m[e] * wg;
        }
        if (weighted) stored(fresh ? gv * sum : loaded(gw + c) + gv * sum, gw + c);
    }
    for (int e = 0; e < n; e++) dot[e] += d[e];
}

/* The change of the same. */
INLINE void backward_change(const Row *r, REAL *gx, REAL *gw, vector *dot, const int fresh,
                            const int weighted, const int want_x, const int n) {
    vector d[MOST];
    for (int e = 0; e < n; e++) d[e] = (vector){0};
    for (int c = 0; c < r->width; c += LANES) {
        const vector gv = READ(r->g + c);
        const vector wg = weighted ? loaded(r->w + c) * gv : gv;
        const vector hg = weighted ? loaded(r->hw + c) * gv : (vector){0};
        vector sum = {0};
        for (int e = 0; e < n; e++) {
            const int at = r->component[e] + c;
            const vector xv = READ(r->x + at), hv = READ(r->hx + at);
            d[e] += wg * hv;
            if (weighted) d[e] += hg * xv, sum += r->h[e] * xv + r->m[e] * hv;
            if (want_x) {
                vector more = r->h[e] * wg;
                if (weighted) more += r->m[e] * hg;
                WRITE(gx + at) += more;
            }
        }
        if (weighted) stored(fresh ? gv * sum : loaded(gw + c) + gv * sum, gw + c);
    }
    for (int e = 0; e < n; e++) dot[e] += d[e];
}

INLINE void backward_path(const Table *t, const Path *p, Row r, REAL *gx, REAL *gw, vector *dot,
                          const int want_x) {
    const REAL *m = r.m, *h = r.h, *g = r.g + p->z;
    r.x += p->x, r.hx += r.hx ? p->x : 0, r.width = p->padded;
    int fresh = 1;
    for (int k = 0; k < p->d3; k++) {
        const int end = t->row[p->row + k + 1];
        r.g = g + k * p->padded;
        for (int e = t->row[p->row + k]; e < end; e += MOST, fresh = 0) {
            const int n = end - e;
            r.component = t->component + e, r.m = m + e;
            if (r.hx) {
                r.h = h + e;
                if (r.w) BY_COUNT(backward_change, &r, gx + p->x, gw, dot + e, fresh, 1, want_x)
                else BY_COUNT(backward_change, &r, gx + p->x, gw, dot + e, fresh, 0, want_x)
            } else {
                if (r.w) BY_COUNT(backward_row, &r, gx + p->x, gw, dot + e, fresh, 1, want_x)
                else BY_COUNT(backward_row, &r, gx + p->x, gw, dot + e, fresh, 0, want_x)
            }
        }
    }
    if (fresh && r.w) memset(gw, 0, p->padded * sizeof(REAL));
}

/* Weights of a path; where its channels do not fill their vectors, a copy that does. */
INLINE const REAL *weights(const Path *p, const REAL *w, REAL *copy) {
    if (!w || p->w < 0) return NULL;
    if (p->mul == p->padded) return w + p->w;
    memcpy(copy, w + p->w, p->mul * sizeof(REAL));
    return copy;
}

typedef struct {
    const EdgeCall *call;
    Table table;
    int64_t groups, pieces;
    const REAL *x, *hx, *g; /* rows of nodes; NULL where they are made edge by edge */
    REAL *shared;           /* gradients of shared weights, one set a piece */
    int failed;
} Walk;

/* Memory of one piece: rows and small tables, all aligned and zero where padding is read. */
typedef struct {
    void *all;
    REAL *x, *hx, *g, *result, *m, *h, *w, *hw, *gw;
    vector *dot;
} Scratch;

static int64_t aligned(int64_t numbers) {
    const int64_t each = ALIGNMENT / sizeof(REAL);
    return (numbers + each - 1) / each * each;
}

static int take(const Table *t, Scratch *s) {
    const int64_t in = aligned(t->in_size), out = aligned(t->out_size);
    const int64_t entries = aligned(t->entries), wide = aligned(t->widest);
    const int64_t larger = in > out ? in : out;
    const int64_t total = 2 * in + out + larger + 2 * entries + 3 * wide + t->entries * LANES;
    if (posix_memalign(&s->all, ALIGNMENT, total * sizeof(REAL))) return 1;
    memset(s->all, 0, total * sizeof(REAL));
    REAL *at = s->all;
    s->x = at, at += in;
    s->hx = at, at += in;
    s->g = at, at += out;
    s->result = at, at += larger;
    s->m = at, at += entries;
    s->h = at, at += entries;
    s->w = at, at += wide;
    s->hw = at, at += wide;
    s->gw = at, at += wide;
    s->dot = (vector *)at;
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

static const REAL *rows_of(const Table *t, const REAL *made, const void *given, int64_t row,
                           REAL *scratch) {
    if (made) return made + row * t->in_size;
    load_row(t, (const REAL *)given + row * t->dim1, scratch);
    return scratch;
}

static const REAL *out_rows_of(const Table *t, const REAL *made, const void *given, int64_t row,
                               REAL *scratch) {
    if (made) return made + row * t->out_size;
    load_out_row(t, (const REAL *)given + row * t->dim3, scratch);
    return scratch;
}

/* Add what an edge gives to the result, or, where `fresh`, write it. */
static void forward_edge(const Walk *walk, Scratch *s, int64_t e, int fresh) {
    const EdgeCall *call = walk->call;
    const Table *t = &walk->table;
    const int64_t row = call->senders ? call->senders[e] : e;
    const REAL *w = call->w ? (const REAL *)call->w + e * call->w_stride : NULL;
    const REAL *hw = call->hw ? (const REAL *)call->hw + e * call->w_stride : NULL;
    Row r = {.m = s->m, .h = s->h, .x = rows_of(t, walk->x, call->x, row, s->x)};
    mix_y(t, (const REAL *)call->y + e * t->dim2, s->m);
    if (call->hx) {
        r.hx = rows_of(t, walk->hx, call->hx, row, s->hx);
        mix_y(t, (const REAL *)call->hy + e * t->dim2, s->h);
    }
    for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
        r.w = weights(p, w, s->w), r.hw = weights(p, hw, s->hw);
        forward_path(t, p, r, s->result, fresh);
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
    const int64_t end = first_group(walk, piece + 1);
    for (int64_t n = first_group(walk, piece); n < end; n++) {
        const int64_t first = c->starts ? c->starts[n] : n;
        const int64_t last = c->starts ? c->starts[n + 1] : n + 1;
        /* Paths with outputs of their own need not be added up. */
        const int own = !c->starts && t->n_out == t->n_paths;
        if (!own) memset(s.result, 0, t->out_size * sizeof(REAL));
        for (int64_t place = first; place < last; place++)
            forward_edge(walk, &s, edge_of(c, place), own);
        store_row(t->out, t->n_out, t->by_component, s.result, (REAL *)c->z + n * t->dim3);
    }
    free(s.all);
}

/* gy[j] = sum over the channels of the dot products that number j of y goes into. */
static void gather_y(const Table *t, const vector *dot, REAL *gy) {
    for (int j = 0; j < t->dim2; j++) {
        vector sum = {0};
        for (int n = t->of_y[j]; n < t->of_y[j + 1]; n++)
            sum += t->value_of_y[n] * dot[t->entry[n]];
        for (int half = LANES / 2; half; half /= 2)
            for (int v = 0; v < half; v++) sum[v] += sum[v + half];
        gy[j] = sum[0];
    }
}

INLINE void backward_paths(const Walk *walk, Scratch *s, int64_t e, Row r, REAL *gw, int adds,
                           const int want_x) {
    const EdgeCall *call = walk->call;
    const Table *t = &walk->table;
    const REAL *w = call->w ? (const REAL *)call->w + e * call->w_stride : NULL;
    const REAL *hw = call->hw ? (const REAL *)call->hw + e * call->w_stride : NULL;
    for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
        r.w = weights(p, w, s->w), r.hw = weights(p, hw, s->hw);
        const int direct = r.w && !adds && p->mul == p->padded;
        REAL *gp = direct ? gw + p->w : s->gw;
        backward_path(t, p, r, s->result, gp, s->dot, want_x);
        if (!r.w || direct) continue;
        for (int u = 0; u < p->mul; u++) {
            if (adds) gw[p->w + u] += gp[u];
            else gw[p->w + u] = gp[u];
        }
    }
}

static void backward_edge(const Walk *walk, Scratch *s, int64_t e, const REAL *x, const REAL *hx,
                          REAL *shared) {
    const EdgeCall *c = walk->call;
    const Table *t = &walk->table;
    const int64_t row = c->receivers ? c->receivers[e] : e;
    const REAL *g = out_rows_of(t, walk->g, c->g, row, s->g);
    REAL *gw = shared ? shared : c->gw ? (REAL *)c->gw + e * c->w_stride : s->gw;
    mix_y(t, (const REAL *)c->y + e * t->dim2, s->m);
    if (hx) mix_y(t, (const REAL *)c->hy + e * t->dim2, s->h);
    memset(s->dot, 0, t->entries * sizeof(vector));
    const Row r = {.m = s->m, .h = s->h, .x = x, .hx = hx, .g = g};
    if (c->want_x) backward_paths(walk, s, e, r, gw, shared != NULL, 1);
    else backward_paths(walk, s, e, r, gw, shared != NULL, 0);
    gather_y(t, s->dot, (REAL *)c->gy + e * t->dim2);
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
        const REAL *x = rows_of(t, NULL, c->x, n, s.x);
        const REAL *hx = c->hx ? rows_of(t, NULL, c->hx, n, s.hx) : NULL;
        if (c->want_x) memset(s.result, 0, t->in_size * sizeof(REAL));
        for (int64_t place = first; place < last; place++)
            backward_edge(walk, &s, edge_of(c, place), x, hx, shared);
        if (c->want_x)
            store_row(t->in, t->n_in, t->by_component, s.result, (REAL *)c->gx + n * t->dim1);
    }
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
