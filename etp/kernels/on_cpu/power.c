/* Powers: sums of products of the components of one feature, channel by channel.
 *
 *     z[n, k, u] = sum over pairs (k, m) of c[k, m, u] * monomial m of x[n, ., u]
 *     c[k, m, u] = sum over p of value[k, m, p] * w[element of n, p, u]
 *
 * Each monomial is a product of two shorter ones, of which there are few (power_table.py). These are
 * formed, and an output is a sparse bilinear form of them:
 *
 *     z[k] = sum over a of short[a] * (sum over b of c[k, a b] * short[b])
 *
 * a multiply-add for each pair, in long runs. Gradients of the short products take the same runs, and
 * are brought to the components in the end. With changes hx and hw of the inputs the same walk
 * carries the change of each number beside it: all of the second derivative, from inputs that are
 * read once.
 *
 * A piece of work is some vectors of channels of some nodes that share their weights, which are
 * contracted to c once: as many vectors as c leaves in the cache, so that features are read in long
 * runs. Several nodes are walked at a time, whose products stay in the first cache level.
 *
 * Compiled once per precision: -DREAL=float -DNAME(x)=x##_float, or the same for double.
 */
#include "power.h"

#include <stdlib.h>
#include <string.h>

#include "lanes.h"
#include "pool.h"

#define NODES 4 /* at a time */
#include "nodes.h"
#include "power_radial.h"

typedef struct {
    int32_t dim, out, numel, pairs, terms, shorts;
    const int32_t *term, *weight;      /* terms of each pair */
    const int32_t *of_weight, *entry;  /* the same by weight */
    const int32_t *parent, *factor;    /* of each short product: first the components, last a 1 */
    const int32_t *row, *left, *run;   /* runs of each output, and their products; pairs of a run */
    const int32_t *right;              /* the other product of each pair */
    const REAL *value, *value_of_weight;
    int32_t radial; /* whether it is that of power_radial.h, whose terms stand in place of pairs */
    int kind;
    Components in, given;
} Table;

/* The closed form that stands behind the table. */
static void read_radial(Table *t, const int32_t *p, int kind) {
    t->radial = 1, t->kind = kind;
    t->in = (Components){p[0], p[1]}, t->given = (Components){p[2], p[3]};
    p += 4;
    t->value += 2 * t->terms;
    t->pairs = TERMS;
    t->term = p, p += TERMS + 1;
    t->terms = t->term[TERMS];
    t->weight = p, p += t->terms;
    t->of_weight = p, p += t->numel + 1;
    t->entry = p;
    t->value_of_weight = t->value + t->terms;
}

/* How features lie if the closed form at p reads them, ANYHOW if it had better not. */
static int radial_kind(const int32_t *p, const int32_t *places, int dim) {
    const int kind = kind_of(places, (Components){p[0], p[1]});
    const int out = kind_of(places + 2 * dim, (Components){p[2], p[3]});
    if (p[3] < 0 && out == BLOCKS) return kind; /* a scalar alone lies both ways */
    return out == (kind == TOGETHER ? BLOCKS : kind) ? kind : ANYHOW;
}

static Table read_table(const PowerCall *call) {
    const int32_t *p = call->program;
    Table t = {p[0], p[1], p[2], .pairs = p[4], .terms = p[5], .shorts = p[6]};
    const int32_t monomials = p[3], runs = p[7], exact = p[8];
    p += 9 + 2 * monomials + t.out + 1 + t.pairs; /* what other forms read */
    t.term = p, p += t.pairs + 1;
    t.weight = p, p += t.terms;
    t.of_weight = p, p += t.numel + 1;
    t.entry = p, p += t.terms;
    t.parent = p, p += t.shorts;
    t.factor = p, p += t.shorts;
    t.row = p, p += t.out + 1;
    t.left = p, p += runs;
    t.run = p, p += runs + 1;
    t.right = p, p += t.pairs;
    t.value = call->values;
    t.value_of_weight = t.value + t.terms;
    if (exact < (sizeof(REAL) == sizeof(float) ? 1 : 2)) return t;
    const int kind = radial_kind(p, call->places, t.dim);
    if (kind != ANYHOW) read_radial(&t, p, kind);
    return t;
}

/* Arrays over short products and outputs hold NODES nodes side by side, of which n are walked: all,
 * or one alone, which would otherwise take as long. */
#define EACH_NODE for (int v = 0; v < n; v++)
#define NUMBER(array, k) ((array) + (int64_t)(k) * NODES)

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

/* Short products of the components, and a 1. */
INLINE void form(const Table *t, vector *m, const int n) {
    const int last = t->shorts - 1;
    for (int k = t->dim; k < last; k++) {
        const vector *p = NUMBER(m, t->parent[k]), *f = NUMBER(m, t->factor[k]);
        vector *to = NUMBER(m, k);
        EACH_NODE to[v] = p[v] * f[v];
    }
    EACH_NODE NUMBER(m, last)[v] = (vector){0} + 1;
}

INLINE void form_change(const Table *t, const vector *m, vector *h, const int n) {
    const int last = t->shorts - 1;
    for (int k = t->dim; k < last; k++) {
        const vector *mp = NUMBER(m, t->parent[k]), *mf = NUMBER(m, t->factor[k]);
        const vector *hp = NUMBER(h, t->parent[k]), *hf = NUMBER(h, t->factor[k]);
        vector *to = NUMBER(h, k);
        EACH_NODE to[v] = hp[v] * mf[v] + mp[v] * hf[v];
    }
    EACH_NODE NUMBER(h, last)[v] = (vector){0};
}

/* Gradients of short products to those of components. Read before anything is written, which could
 * be the same for all that the compiler knows. */
INLINE void form_back(const Table *t, const vector *m, vector *gm, const int n) {
    for (int k = t->shorts - 2; k >= t->dim; k--) {
        const vector *mp = NUMBER(m, t->parent[k]), *mf = NUMBER(m, t->factor[k]);
        vector *gp = NUMBER(gm, t->parent[k]), *gf = NUMBER(gm, t->factor[k]), own[NODES];
        EACH_NODE own[v] = NUMBER(gm, k)[v];
        if (gp == gf) {
            EACH_NODE gp[v] += (own[v] + own[v]) * mp[v];
            continue;
        }
        EACH_NODE gp[v] += own[v] * mf[v];
        EACH_NODE gf[v] += own[v] * mp[v];
    }
}

/* The same for gradients gm of products m and gh of their changes h. */
INLINE void form_change_back(const Table *t, const vector *m, const vector *h, vector *gm,
                             vector *gh, const int n) {
    for (int k = t->shorts - 2; k >= t->dim; k--) {
        const vector *mp = NUMBER(m, t->parent[k]), *mf = NUMBER(m, t->factor[k]);
        const vector *hp = NUMBER(h, t->parent[k]), *hf = NUMBER(h, t->factor[k]);
        vector *gmp = NUMBER(gm, t->parent[k]), *gmf = NUMBER(gm, t->factor[k]), g[NODES];
        vector *ghp = NUMBER(gh, t->parent[k]), *ghf = NUMBER(gh, t->factor[k]), o[NODES];
        EACH_NODE g[v] = NUMBER(gm, k)[v], o[v] = NUMBER(gh, k)[v];
        EACH_NODE gmp[v] += g[v] * mf[v] + o[v] * hf[v];
        EACH_NODE gmf[v] += g[v] * mp[v] + o[v] * hp[v];
        EACH_NODE ghp[v] += o[v] * mf[v];
        EACH_NODE ghf[v] += o[v] * mp[v];
    }
}

INLINE void forward(const Table *t, const vector *c, const vector *m, vector *z, const int n) {
    for (int k = 0; k < t->out; k++) {
        vector sum[NODES];
        EACH_NODE sum[v] = (vector){0};
        for (int r = t->row[k]; r < t->row[k + 1]; r++) {
            const vector *left = NUMBER(m, t->left[r]);
            vector own[NODES];
            EACH_NODE own[v] = (vector){0};
            for (int e = t->run[r]; e < t->run[r + 1]; e++) {
                const vector *right = NUMBER(m, t->right[e]), ce = c[e];
                EACH_NODE own[v] += ce * right[v];
            }
            EACH_NODE sum[v] += left[v] * own[v];
        }
        EACH_NODE NUMBER(z, k)[v] = sum[v];
    }
}

INLINE vector over_nodes(const vector *of, const int n) {
    if (n == 1) return of[0];
    vector even = of[0], odd = of[1];
    for (int v = 2; v < n; v += 2) even += of[v], odd += of[v + 1];
    return even + odd;
}

/* Gradients of short products and coefficients, added to gm and gc, from those of outputs. */
INLINE void backward(const Table *t, const vector *c, const vector *m, const vector *g, vector *gm,
                     vector *gc, const int want_x, const int want_w, const int n) {
    for (int k = 0; k < t->out; k++) {
        const vector *gk = NUMBER(g, k);
        for (int r = t->row[k]; r < t->row[k + 1]; r++) {
            const vector *left = NUMBER(m, t->left[r]);
            vector own[NODES], down[NODES], product[NODES];
            EACH_NODE own[v] = (vector){0}, down[v] = gk[v] * left[v];
            for (int e = t->run[r]; e < t->run[r + 1]; e++) {
                const vector *right = NUMBER(m, t->right[e]), ce = c[e];
                vector *to = NUMBER(gm, t->right[e]);
                if (want_w) {
                    EACH_NODE product[v] = down[v] * right[v];
                    gc[e] += over_nodes(product, n);
                }
                if (want_x) EACH_NODE own[v] += ce * right[v];
                if (want_x) EACH_NODE to[v] += ce * down[v];
            }
            if (want_x) EACH_NODE NUMBER(gm, t->left[r])[v] += gk[v] * own[v];
        }
    }
}

/* Changes of outputs and of all these gradients, along changes h of the products and, unless it is
 * NULL, hc of the coefficients. */
INLINE void second(const Table *t, const vector *c, const vector *hc, const vector *m,
                   const vector *h, vector *gz, vector *gm, vector *gh, vector *gc,
                   const int want_x, const int want_w, const int n) {
    for (int k = 0; k < t->out; k++) {
        vector *gk = NUMBER(gz, k), sum[NODES];
        EACH_NODE sum[v] = (vector){0};
        for (int r = t->row[k]; r < t->row[k + 1]; r++) {
            const vector *left = NUMBER(m, t->left[r]), *moved = NUMBER(h, t->left[r]);
            vector own[NODES], change[NODES], down[NODES], turn[NODES], product[NODES];
            EACH_NODE own[v] = change[v] = (vector){0};
            EACH_NODE down[v] = gk[v] * left[v], turn[v] = gk[v] * moved[v];
            for (int e = t->run[r]; e < t->run[r + 1]; e++) {
                const vector *right = NUMBER(m, t->right[e]), *rh = NUMBER(h, t->right[e]);
                vector *to = NUMBER(gm, t->right[e]), *along = NUMBER(gh, t->right[e]);
                const vector ce = c[e];
                EACH_NODE own[v] += ce * right[v];
                EACH_NODE change[v] += ce * rh[v];
                if (want_w) {
                    EACH_NODE product[v] = turn[v] * right[v] + down[v] * rh[v];
                    gc[e] += over_nodes(product, n);
                }
                if (want_x) EACH_NODE along[v] += ce * down[v];
                if (want_x) EACH_NODE to[v] += ce * turn[v];
                if (!hc) continue;
                const vector hce = hc[e];
                EACH_NODE change[v] += hce * right[v];
                if (want_x) EACH_NODE to[v] += hce * down[v];
            }
            EACH_NODE sum[v] += moved[v] * own[v] + left[v] * change[v];
            if (!want_x) continue;
            EACH_NODE NUMBER(gh, t->left[r])[v] += gk[v] * own[v];
            EACH_NODE NUMBER(gm, t->left[r])[v] += gk[v] * change[v];
        }
        EACH_NODE gk[v] = sum[v];
    }
}

INLINE void clear(const Table *t, vector *gm, const int n) {
    for (int k = 0; k < t->shorts; k++) EACH_NODE NUMBER(gm, k)[v] = (vector){0};
}

/* What a thread works in, and keeps for the next call. */
typedef struct {
    vector *w, *c, *hc, *gc, *m, *h, *gm, *gh, *z;
} Space;

static int space_of_thread(const Table *t, int parts, Space *s) {
    static __thread vector *start;
    static __thread int64_t held;
    const int64_t blocks = (int64_t)t->shorts * NODES, pairs = (int64_t)t->pairs * parts;
    const int64_t needed = t->numel + 3 * pairs + 4 * blocks + t->out * NODES;
    if (held < needed) {
        free(start);
        start = aligned_alloc(VECTOR_BYTES, (size_t)needed * sizeof(vector));
        held = start ? needed : 0;
    }
    if (!start) return 1;
    vector *at = start;
    s->w = at, at += t->numel;
    s->c = at, at += pairs;
    s->hc = at, at += pairs;
    s->gc = at, at += pairs;
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
    int parts;  /* of a piece */
    int pieces; /* of a chunk */
    int failed;
} Walk;

/* What a piece does at a time, and works with. */
typedef struct {
    Span span;
    const Table *t;
    Space s;
    Lie in, out; /* of the closed form */
} Part;

/* The parts of a piece; their number, 0 for want of memory. */
static int open_parts(Walk *walk, int64_t piece, Part *parts) {
    const Table *t = &walk->table;
    Space s;
    if (space_of_thread(t, walk->parts, &s)) {
        __atomic_store_n(&walk->failed, 1, __ATOMIC_RELAXED);
        return 0;
    }
    const int64_t channels = walk->call->channels;
    int first = (int)(piece % walk->pieces) * walk->parts * LANES, count = 0;
    for (; count < walk->parts && first < channels; count++, first += LANES) {
        Part *p = parts + count;
        *p = (Part){span_of(walk->call, piece / walk->pieces, first), t, s};
        if (t->radial) {
            p->in = lie_of(&p->span, walk->call->places, t->in);
            p->out = lie_of(&p->span, walk->call->places + 2 * t->dim, t->given);
        }
        s.c += t->pairs, s.hc += t->pairs, s.gc += t->pairs;
    }
    return count;
}

/* Weights to coefficients. */
static void weigh(const Part *p, const void *weights, vector *c) {
    read_weights(&p->span, weights, p->span.chunk->row, p->t->numel, 1, p->s.w);
    contract(p->t, p->s.w, c);
}

static void weigh_back(const Part *p) {
    contract_back(p->t, p->s.gc, p->s.w);
    give_weights(&p->span, p->t->numel, p->s.w);
}

INLINE void forward_nodes(const Part *p, int at, const int n) {
    const PowerCall *call = p->span.call;
    const Table *t = p->t;
    load_nodes(&p->span, call->x, call->places, t->dim, at, p->s.m);
    form(t, p->s.m, n);
    forward(t, p->s.c, p->s.m, p->s.z, n);
    store_nodes(&p->span, call->z, call->places + 2 * t->dim, t->out, at, p->s.z);
}

INLINE void backward_nodes(const Part *p, int at, const int n) {
    const PowerCall *call = p->span.call;
    const Table *t = p->t;
    const Space *s = &p->s;
    load_nodes(&p->span, call->x, call->places, t->dim, at, s->m);
    form(t, s->m, n);
    load_gradients(&p->span, call->places + 2 * t->dim, t->out, at, s->z);
    if (!call->want_x) {
        backward(t, s->c, s->m, s->z, s->gm, s->gc, 0, 1, n);
        return;
    }
    clear(t, s->gm, n);
    if (call->want_w) backward(t, s->c, s->m, s->z, s->gm, s->gc, 1, 1, n);
    else backward(t, s->c, s->m, s->z, s->gm, s->gc, 1, 0, n);
    form_back(t, s->m, s->gm, n);
    store_nodes(&p->span, call->gx, call->places, t->dim, at, s->gm);
}

/* With changes of the inputs. */
INLINE void second_nodes(const Part *p, int at, const int n) {
    const PowerCall *call = p->span.call;
    const Table *t = p->t;
    const Space *s = &p->s;
    const vector *hc = call->hw ? s->hc : NULL;
    load_nodes(&p->span, call->x, call->places, t->dim, at, s->m);
    form(t, s->m, n);
    load_nodes(&p->span, call->hx, call->places, t->dim, at, s->h);
    form_change(t, s->m, s->h, n);
    load_gradients(&p->span, call->places + 2 * t->dim, t->out, at, s->z);
    if (call->want_x) {
        clear(t, s->gm, n);
        clear(t, s->gh, n);
    }
    second(t, s->c, hc, s->m, s->h, s->z, s->gm, s->gh, s->gc, call->want_x, call->want_w, n);
    if (call->z) store_nodes(&p->span, call->z, call->places + 2 * t->dim, t->out, at, s->z);
    if (!call->want_x) return;
    form_change_back(t, s->m, s->h, s->gm, s->gh, n);
    store_nodes(&p->span, call->gx, call->places, t->dim, at, s->gm);
}

/* The nodes of a part from number `at`, up to NODES of them, in a function for each walk. */
#define WALK(nodes) \
    static void some_##nodes(const Part *p, int at) { \
        if (p->span.chunk->last - at == 1) nodes(p, at, 1); \
        else nodes(p, at, NODES); \
    }
WALK(forward_nodes)
WALK(backward_nodes)
WALK(second_nodes)

/* The nodes of a part from number `at`, up to MORE_NODES of them. */
static void radial_nodes(const Part *p, int at) {
    const PowerCall *call = p->span.call;
    const Table *t = p->t;
    Radial r = {&p->span, &p->in, &p->out, t->dim * call->channels, t->out * call->channels, at};
    r.end = p->span.chunk->last;
    r.last = at + MORE_NODES < r.end ? at + MORE_NODES : r.end;
    r.c = p->s.c, r.hc = call->hw ? p->s.hc : NULL, r.gc = p->s.gc;
    const int kind = p->span.lanes == LANES ? t->kind : ANYHOW;
    if (call->hx) every_radial_second(&r, kind, t->given);
    else if (call->g) every_radial_backward(&r, kind, t->given);
    else every_radial_forward(&r, kind, t->given);
}

/* Nodes by nodes all parts of a piece, so that features are read in long runs. */
static void walk_nodes(const Part *parts, int count) {
    const PowerCall *call = parts->span.call;
    const int radial = parts->t->radial, step = radial ? MORE_NODES : NODES;
    void (*nodes)(const Part *p, int at) = radial     ? radial_nodes
                                           : call->hx ? some_second_nodes
                                           : call->g  ? some_backward_nodes
                                                      : some_forward_nodes;
    for (int at = parts->span.chunk->first; at < parts->span.chunk->last; at += step)
        for (const Part *p = parts; p < parts + count; p++) nodes(p, at);
}

static void forward_piece(void *walk, int64_t piece) {
    Part parts[MOST_PARTS];
    const int count = open_parts(walk, piece, parts);
    if (!count) return;
    for (const Part *p = parts; p < parts + count; p++) weigh(p, p->span.call->w, p->s.c);
    walk_nodes(parts, count);
}

static void backward_piece(void *walk, int64_t piece) {
    Part parts[MOST_PARTS];
    const int count = open_parts(walk, piece, parts);
    if (!count) return;
    for (const Part *p = parts; p < parts + count; p++) {
        const int weighed = p->span.call->want_x || p->span.call->z;
        if (weighed) weigh(p, p->span.call->w, p->s.c);
        if (weighed && p->span.call->hw) weigh(p, p->span.call->hw, p->s.hc);
        if (p->span.call->want_w) memset(p->s.gc, 0, p->t->pairs * sizeof(vector));
    }
    walk_nodes(parts, count);
    for (const Part *p = parts; p < parts + count; p++)
        if (p->span.call->want_w) weigh_back(p);
}

static int run(const PowerCall *call, int threads, void (*piece)(void *walk, int64_t piece)) {
    const int arrays = call->g ? (call->hw ? 3 : 2) : 1;
    const Table table = read_table(call);
    const int parts = parts_of_piece(call, (int64_t)table.pairs * arrays, threads);
    Walk walk = {call, table, parts, pieces_of_chunk(call, parts), 0};
    etp_parallel(call->n_chunks * walk.pieces, threads, piece, &walk);
    return walk.failed;
}

int NAME(etp_power_forward)(const PowerCall *call, int threads) {
    return run(call, threads, forward_piece);
}

int NAME(etp_power_backward)(const PowerCall *call, int threads) {
    if (run(call, threads, backward_piece)) return 1;
    if (call->want_w) add_spare(call, call->program[2]);
    return 0;
}

/* Rows that hold a one and else zeros, told by how many numbers are not zero, and which. */
int NAME(etp_one_hot)(const void *rows, int64_t n, int64_t width, int32_t *place) {
    const REAL *row = rows;
    for (int64_t k = 0; k < n; k++, row += width) {
        int32_t count = 0, at = 0;
        for (int32_t i = 0; i < (int32_t)width; i++) {
            count += row[i] != 0;
            at += row[i] != 0 ? i : 0;
        }
        if (count != 1 || row[at] != 1) return 0;
        place[k] = at;
    }
    return 1;
}
