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

#include "pool.h"

#if defined(__AVX512F__)
#define VECTOR_BYTES 64
#define WIDE 8 /* vectors of channels held at once */
#else
#define VECTOR_BYTES 32
#define WIDE 2
#endif
#define LANES ((int)(VECTOR_BYTES / sizeof(REAL)))
#define INLINE static inline __attribute__((always_inline))
#define ALIGNMENT 64
#define PIECE_EDGES 64
#define MOST_PIECES 512

typedef REAL vector __attribute__((vector_size(VECTOR_BYTES), aligned(VECTOR_BYTES)));
typedef REAL loose __attribute__((vector_size(VECTOR_BYTES), aligned(sizeof(REAL)), may_alias));

typedef struct {
    int32_t x, z, w, mul, padded, d3, row; /* x, z: first number in the rows of a node */
} Path;

typedef struct {
    int32_t start, mul, dim, row, padded; /* in the features, and its rows */
} Block;

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

/* Features of one row to rows of components and back. */

#if defined(__AVX512F__)
#define MOST_MIXED 9
typedef int32_t int_float __attribute__((vector_size(64)));
typedef int64_t int_double __attribute__((vector_size(64)));
typedef __typeof__(__builtin_choose_expr(sizeof(REAL) == 4, (int_float){0}, (int_double){0})) lanes;

/* out[m] = numbers m * LANES .. of the features of LANES channels, from one vector a component. */
INLINE void mix(const vector *from, vector *out, const int dim) {
    for (int m = 0; m < dim; m++) {
        vector sum = from[0];
        lanes pick;
        for (int n = 0; n < LANES; n++) pick[n] = (m * LANES + n) / dim;
        sum = __builtin_shuffle(sum, pick);
        for (int k = 1; k < dim; k++) {
            lanes either;
            for (int n = 0; n < LANES; n++)
                either[n] = (m * LANES + n) % dim == k ? LANES + (m * LANES + n) / dim : n;
            sum = __builtin_shuffle(sum, from[k], either);
        }
        out[m] = sum;
    }
}

INLINE void unmix(const vector *from, vector *out, const int dim) {
    for (int k = 0; k < dim; k++) {
        vector sum = from[0];
        lanes pick;
        for (int n = 0; n < LANES; n++) pick[n] = (n * dim + k) % LANES;
        sum = __builtin_shuffle(sum, pick);
        for (int m = 1; m < dim; m++) {
            lanes either;
            for (int n = 0; n < LANES; n++)
                either[n] = (n * dim + k) / LANES == m ? LANES + (n * dim + k) % LANES : n;
            sum = __builtin_shuffle(sum, from[m], either);
        }
        out[k] = sum;
    }
}

INLINE void store_mixed(const REAL *rows, REAL *z, const int dim, int padded, int whole) {
    for (int u = 0; u < whole; u += LANES) {
        vector from[MOST_MIXED], out[MOST_MIXED];
        for (int k = 0; k < dim; k++) from[k] = *(const vector *)(rows + k * padded + u);
        mix(from, out, dim);
        for (int k = 0; k < dim; k++) *(loose *)(z + u * dim + k * LANES) = out[k];
    }
}

INLINE void load_mixed(const REAL *x, REAL *rows, const int dim, int padded, int whole) {
    for (int u = 0; u < whole; u += LANES) {
        vector from[MOST_MIXED], out[MOST_MIXED];
        for (int k = 0; k < dim; k++) from[k] = *(const loose *)(x + u * dim + k * LANES);
        unmix(from, out, dim);
        for (int k = 0; k < dim; k++) *(vector *)(rows + k * padded + u) = out[k];
    }
}
#endif

#define BY_DIM(f, ...) \
    switch (b->dim) { \
        case 2: f(__VA_ARGS__, 2, b->padded, whole); break; \
        case 3: f(__VA_ARGS__, 3, b->padded, whole); break; \
        case 4: f(__VA_ARGS__, 4, b->padded, whole); break; \
        case 5: f(__VA_ARGS__, 5, b->padded, whole); break; \
        case 6: f(__VA_ARGS__, 6, b->padded, whole); break; \
        case 7: f(__VA_ARGS__, 7, b->padded, whole); break; \
        case 8: f(__VA_ARGS__, 8, b->padded, whole); break; \
        case 9: f(__VA_ARGS__, 9, b->padded, whole); break; \
        default: whole = 0; \
    }

static void load_row(const Table *t, const REAL *x, REAL *rows) {
    for (const Block *b = t->in; b < t->in + t->n_in; b++) {
        const REAL *from = x + b->start;
        REAL *to = rows + b->row;
        if (t->by_component || b->dim == 1) {
            for (int k = 0; k < b->dim; k++)
                memcpy(to + k * b->padded, from + k * b->mul, b->mul * sizeof(REAL));
            continue;
        }
        int whole = 0;
#if defined(__AVX512F__)
        whole = b->mul / LANES * LANES;
        BY_DIM(load_mixed, from, to)
#endif
        for (int u = whole; u < b->mul; u++)
            for (int k = 0; k < b->dim; k++) to[k * b->padded + u] = from[u * b->dim + k];
    }
}

static void store_row(const Block *blocks, int count, int by_component, const REAL *rows, REAL *z) {
    for (const Block *b = blocks; b < blocks + count; b++) {
        const REAL *from = rows + b->row;
        REAL *to = z + b->start;
        if (by_component || b->dim == 1) {
            for (int k = 0; k < b->dim; k++)
                memcpy(to + k * b->mul, from + k * b->padded, b->mul * sizeof(REAL));
            continue;
        }
        int whole = 0;
#if defined(__AVX512F__)
        whole = b->mul / LANES * LANES;
        BY_DIM(store_mixed, from, to)
#endif
        for (int u = whole; u < b->mul; u++)
            for (int k = 0; k < b->dim; k++) to[u * b->dim + k] = from[k * b->padded + u];
    }
}

static void load_out_row(const Table *t, const REAL *g, REAL *rows) {
    Table turned = *t;
    turned.in = t->out, turned.n_in = t->n_out;
    load_row(&turned, g, rows);
}

/* The numbers that all channels of an edge share. */
static void mix_y(const Table *t, const REAL *y, REAL *m) {
    for (int e = 0; e < t->entries; e++) {
        REAL sum = 0;
        for (int n = t->term[e]; n < t->term[e + 1]; n++) sum += t->value[n] * y[t->from[n]];
        m[e] = sum;
    }
}

#define AT(p) (*(const vector *)(p))
#define TO(p) (*(vector *)(p))

/* One path of one edge, `count` vectors of channels from channel c: z += w * (m . x). */
INLINE void forward_part(const Table *t, const Path *p, const REAL *m, const REAL *x, const REAL *w,
                         REAL *z, int c, const int count) {
    for (int k = 0; k < p->d3; k++) {
        vector sum[count];
        for (int v = 0; v < count; v++) sum[v] = (vector){0};
        for (int e = t->row[p->row + k]; e < t->row[p->row + k + 1]; e++) {
            const REAL *from = x + p->x + t->component[e] + c;
            for (int v = 0; v < count; v++) sum[v] += m[e] * AT(from + v * LANES);
        }
        REAL *to = z + p->z + k * p->padded + c;
        if (w)
            for (int v = 0; v < count; v++)
                TO(to + v * LANES) += *(const loose *)(w + c + v * LANES) * sum[v];
        else
            for (int v = 0; v < count; v++) TO(to + v * LANES) += sum[v];
    }
}

/* The change of the same: z += w * (h . x + m . hx) + hw * (m . x). */
INLINE void forward_change(const Table *t, const Path *p, const REAL *m, const REAL *h,
                           const REAL *x, const REAL *hx, const REAL *w, const REAL *hw, REAL *z,
                           int c, const int count) {
    for (int k = 0; k < p->d3; k++) {
        vector sum[count], change[count];
        for (int v = 0; v < count; v++) sum[v] = change[v] = (vector){0};
        for (int e = t->row[p->row + k]; e < t->row[p->row + k + 1]; e++) {
            const int at = p->x + t->component[e] + c;
            for (int v = 0; v < count; v++) {
                const vector xv = AT(x + at + v * LANES);
                sum[v] += m[e] * xv;
                change[v] += h[e] * xv + m[e] * AT(hx + at + v * LANES);
            }
        }
        REAL *to = z + p->z + k * p->padded + c;
        for (int v = 0; v < count; v++) {
            vector total = change[v];
            if (w)
                total = *(const loose *)(w + c + v * LANES) * total +
                        *(const loose *)(hw + c + v * LANES) * sum[v];
            TO(to + v * LANES) += total;
        }
    }
}

/* Gradients of one path of one edge; `dot` has a vector for each entry. */
INLINE void backward_part(const Table *t, const Path *p, const REAL *m, const REAL *x,
                          const REAL *g, const REAL *w, REAL *gx, REAL *gw, vector *dot, int c,
                          const int count, const int want_x) {
    vector total[count];
    for (int v = 0; v < count; v++) total[v] = (vector){0};
    for (int k = 0; k < p->d3; k++) {
        const REAL *gk = g + p->z + k * p->padded + c;
        vector wg[count], sum[count];
        for (int v = 0; v < count; v++) {
            wg[v] = AT(gk + v * LANES);
            if (w) wg[v] *= *(const loose *)(w + c + v * LANES);
            sum[v] = (vector){0};
        }
        for (int e = t->row[p->row + k]; e < t->row[p->row + k + 1]; e++) {
            const int at = p->x + t->component[e] + c;
            vector d = {0};
            for (int v = 0; v < count; v++) {
                const vector xv = AT(x + at + v * LANES);
                d += wg[v] * xv;
                if (w) sum[v] += m[e] * xv;
                if (want_x) TO(gx + at + v * LANES) += m[e] * wg[v];
            }
            dot[e] += d;
        }
        if (w)
            for (int v = 0; v < count; v++) total[v] += AT(gk + v * LANES) * sum[v];
    }
    if (w)
        for (int v = 0; v < count; v++) *(loose *)(gw + c + v * LANES) = total[v];
}

/* The change of the same. */
INLINE void backward_change(const Table *t, const Path *p, const REAL *m, const REAL *h,
                            const REAL *x, const REAL *hx, const REAL *g, const REAL *w,
                            const REAL *hw, REAL *gx, REAL *gw, vector *dot, int c,
                            const int count, const int want_x) {
    vector total[count];
    for (int v = 0; v < count; v++) total[v] = (vector){0};
    for (int k = 0; k < p->d3; k++) {
        const REAL *gk = g + p->z + k * p->padded + c;
        vector wg[count], hg[count], sum[count];
        for (int v = 0; v < count; v++) {
            wg[v] = AT(gk + v * LANES);
            hg[v] = w ? wg[v] * *(const loose *)(hw + c + v * LANES) : (vector){0};
            if (w) wg[v] *= *(const loose *)(w + c + v * LANES);
            sum[v] = (vector){0};
        }
        for (int e = t->row[p->row + k]; e < t->row[p->row + k + 1]; e++) {
            const int at = p->x + t->component[e] + c;
            vector d = {0};
            for (int v = 0; v < count; v++) {
                const vector xv = AT(x + at + v * LANES), hv = AT(hx + at + v * LANES);
                d += hg[v] * xv + wg[v] * hv;
                if (w) sum[v] += h[e] * xv + m[e] * hv;
                if (want_x) TO(gx + at + v * LANES) += h[e] * wg[v] + m[e] * hg[v];
            }
            dot[e] += d;
        }
        if (w)
            for (int v = 0; v < count; v++) total[v] += AT(gk + v * LANES) * sum[v];
    }
    if (w)
        for (int v = 0; v < count; v++) *(loose *)(gw + c + v * LANES) = total[v];
}

#define BY_CHANNELS(wide, f, ...) \
    do { \
        int c = 0; \
        for (; c + (wide) * LANES <= p->padded; c += (wide) * LANES) f(__VA_ARGS__, c, wide REST); \
        for (; c + 2 * LANES <= p->padded; c += 2 * LANES) f(__VA_ARGS__, c, 2 REST); \
        for (; c < p->padded; c += LANES) f(__VA_ARGS__, c, 1 REST); \
    } while (0)

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

static void forward_edge(const Walk *walk, Scratch *s, int64_t e) {
    const EdgeCall *call = walk->call;
    const Table *t = &walk->table;
    const int64_t row = call->senders ? call->senders[e] : e;
    const REAL *x = rows_of(t, walk->x, call->x, row, s->x);
    const REAL *w = call->w ? (const REAL *)call->w + e * call->w_stride : NULL;
    mix_y(t, (const REAL *)call->y + e * t->dim2, s->m);
    if (!call->hx) {
        for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
            const REAL *wp = weights(p, w, s->w);
#define REST
            BY_CHANNELS(WIDE, forward_part, t, p, s->m, x, wp, s->result);
        }
        return;
    }
    const REAL *hx = rows_of(t, walk->hx, call->hx, row, s->hx);
    const REAL *hw = call->hw ? (const REAL *)call->hw + e * call->w_stride : NULL;
    mix_y(t, (const REAL *)call->hy + e * t->dim2, s->h);
    for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
        const REAL *wp = weights(p, w, s->w), *hp = weights(p, hw, s->hw);
        BY_CHANNELS(WIDE / 2, forward_change, t, p, s->m, s->h, x, hx, wp, hp, s->result);
#undef REST
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
        memset(s.result, 0, t->out_size * sizeof(REAL));
        for (int64_t place = first; place < last; place++) forward_edge(walk, &s, edge_of(c, place));
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

INLINE void backward_paths(const Walk *walk, Scratch *s, int64_t e, const REAL *x, const REAL *hx,
                           const REAL *g, REAL *gw, int adds, const int want_x) {
    const EdgeCall *call = walk->call;
    const Table *t = &walk->table;
    const REAL *w = call->w ? (const REAL *)call->w + e * call->w_stride : NULL;
    const REAL *hw = call->hw ? (const REAL *)call->hw + e * call->w_stride : NULL;
    for (const Path *p = t->paths; p < t->paths + t->n_paths; p++) {
        const REAL *wp = weights(p, w, s->w);
        const int direct = wp && !adds && p->mul == p->padded;
        REAL *gp = direct ? gw + p->w : s->gw;
#define REST , want_x
        if (!hx) {
            BY_CHANNELS(WIDE, backward_part, t, p, s->m, x, g, wp, s->result, gp, s->dot);
        } else {
            const REAL *hp = weights(p, hw, s->hw);
            BY_CHANNELS(WIDE / 2, backward_change, t, p, s->m, s->h, x, hx, g, wp, hp, s->result,
                        gp, s->dot);
        }
#undef REST
        if (!wp || direct) continue;
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
    if (c->want_x) backward_paths(walk, s, e, x, hx, g, gw, shared != NULL, 1);
    else backward_paths(walk, s, e, x, hx, g, gw, shared != NULL, 0);
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
