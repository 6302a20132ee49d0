/* Powers of a scalar s and a vector v of degree three at most, to a scalar, a vector or both.
 *
 * A power is equivariant, so that there is nothing but polynomials of s and q = v . v in them:
 *
 *     z = c0 s + c1 s^2 + c2 s^3 + c3 q + c4 s q,   y = (c5 + c6 s + c7 s^2 + c8 q) v
 *
 * Nine coefficients in place of those of 27 monomials (power_radial.py), and numbers of a node that
 * stay in registers. Included by power.c.
 */
#ifndef ETP_POWER_RADIAL_H
#define ETP_POWER_RADIAL_H

#define TERMS 9        /* coefficients */
#define MORE_NODES 8   /* at a time: sums over nodes stay in registers meanwhile */

/* First component of either part of input and output, or -1; as in power_radial.py. */
typedef struct {
    int32_t scalar, vector;
} Components;

typedef struct {
    vector s, v[3];
} Four;

/* How the parts lie in features: all numbers of a channel together, the scalar first; each part by
 * channels; by components; or in any way. */
enum { TOGETHER, BLOCKS, ROWS, ANYHOW };

/* Where a vector of channels of both parts lies in the features of a node. */
typedef struct {
    int64_t s, v[3]; /* first number of each component */
    int s_stride, v_stride, lanes;
} Lie;

static Lie lie_of(const Span *p, const int32_t *places, Components at) {
    Lie l = {.lanes = p->lanes, .s_stride = 1, .v_stride = 1};
    if (at.scalar >= 0) {
        l.s_stride = places[2 * at.scalar + 1];
        l.s = places[2 * at.scalar] + (int64_t)p->first * l.s_stride;
    }
    for (int k = 0; at.vector >= 0 && k < 3; k++) {
        l.v_stride = places[2 * (at.vector + k) + 1];
        l.v[k] = places[2 * (at.vector + k)] + (int64_t)p->first * l.v_stride;
    }
    return l;
}

/* ANYHOW where there is no fast way to read or to write whole vectors. */
static int kind_of(const int32_t *places, Components at) {
    const int scalar = at.scalar < 0 ? 1 : places[2 * at.scalar + 1];
    const int vec = at.vector < 0 ? 0 : places[2 * at.vector + 1];
    if (scalar == 4 && vec == 4 && at.scalar < at.vector) return TOGETHER;
    if (scalar == 1 && (vec == 0 || vec == 3)) return BLOCKS;
    return scalar == 1 && vec == 1 ? ROWS : ANYHOW;
}

INLINE vector some_in(const REAL *x, int stride, int lanes) {
    vector out = {0};
    for (int u = 0; u < lanes; u++) out[u] = x[(int64_t)u * stride];
    return out;
}

INLINE void some_out(vector z, REAL *to, int stride, int lanes) {
    for (int u = 0; u < lanes; u++) to[(int64_t)u * stride] = z[u];
}

/* Both parts, those that are there; the others are zero. */
INLINE Four four_in(const Lie *l, const REAL *x, const int kind, const int scalar, const int vec) {
    Four f = {0};
    vector rows[4];
    if (kind == TOGETHER) {
        load_mixed(x + l->s, (REAL *)rows, 4, LANES, LANES);
        return (Four){rows[0], {rows[1], rows[2], rows[3]}};
    }
    if (scalar && kind == ANYHOW) f.s = some_in(x + l->s, l->s_stride, l->lanes);
    else if (scalar) f.s = *(const loose *)(x + l->s);
    if (vec && kind == BLOCKS) {
        load_mixed(x + l->v[0], (REAL *)rows, 3, LANES, LANES);
        for (int k = 0; k < 3; k++) f.v[k] = rows[k];
    }
    for (int k = 0; vec && kind == ROWS && k < 3; k++) f.v[k] = *(const loose *)(x + l->v[k]);
    for (int k = 0; vec && kind == ANYHOW && k < 3; k++)
        f.v[k] = some_in(x + l->v[k], l->v_stride, l->lanes);
    return f;
}

INLINE void four_out(const Lie *l, Four f, REAL *z, const int kind, const int scalar, const int vec) {
    vector rows[4] = {f.s, f.v[0], f.v[1], f.v[2]};
    if (kind == TOGETHER) {
        store_mixed((const REAL *)rows, z + l->s, 4, LANES, LANES);
        return;
    }
    if (scalar && kind == ANYHOW) some_out(f.s, z + l->s, l->s_stride, l->lanes);
    else if (scalar) *(loose *)(z + l->s) = f.s;
    if (vec && kind == BLOCKS) store_mixed((const REAL *)(rows + 1), z + l->v[0], 3, LANES, LANES);
    for (int k = 0; vec && kind == ROWS && k < 3; k++) *(loose *)(z + l->v[k]) = f.v[k];
    for (int k = 0; vec && kind == ANYHOW && k < 3; k++)
        some_out(f.v[k], z + l->v[k], l->v_stride, l->lanes);
}

/* Ask for what will be read soon. */
INLINE void ask_for(const Lie *l, const REAL *x, const int kind, const int scalar, const int vec) {
    const int together = kind == TOGETHER ? 4 : 3;
    if (scalar && kind != TOGETHER) __builtin_prefetch(x + l->s);
    for (int k = 0; vec && k < together; k++) {
        if (kind == ROWS) __builtin_prefetch(x + l->v[k]);
        else __builtin_prefetch(x + (kind == TOGETHER ? l->s : l->v[0]) + k * LANES);
    }
}

INLINE vector dot(const vector *a, const vector *b) { return a[0] * b[0] + a[1] * b[1] + a[2] * b[2]; }

/* The scalar that comes out, and what scales the vector. */
INLINE vector scalar_of(const vector *c, vector s, vector q) {
    return s * (c[0] + s * (c[1] + s * c[2]) + q * c[4]) + q * c[3];
}

INLINE vector scale_of(const vector *c, vector s, vector q) {
    return c[5] + s * (c[6] + s * c[7]) + q * c[8];
}

INLINE Four radial(const vector *c, Four x, const int scalar, const int vec) {
    const vector q = dot(x.v, x.v);
    Four z = {0};
    if (scalar) z.s = scalar_of(c, x.s, q);
    if (vec) {
        const vector scale = scale_of(c, x.s, q);
        for (int k = 0; k < 3; k++) z.v[k] = scale * x.v[k];
    }
    return z;
}

/* Derivatives of the coefficients' sum g . z by them, added to gc. */
INLINE void add_terms(vector *gc, Four x, Four g, const int scalar, const int vec) {
    const vector s = x.s, q = dot(x.v, x.v);
    if (scalar) {
        const vector gs = g.s * s, gss = gs * s;
        gc[0] += gs, gc[1] += gss, gc[2] += gss * s, gc[3] += g.s * q, gc[4] += gs * q;
    }
    if (vec) {
        const vector along = dot(g.v, x.v), by_s = along * s;
        gc[5] += along, gc[6] += by_s, gc[7] += by_s * s, gc[8] += along * q;
    }
}

/* Gradient of g . z by the features. */
INLINE Four radial_back(const vector *c, Four x, Four g, const int scalar, const int vec) {
    const vector s = x.s, q = dot(x.v, x.v);
    vector by_s = {0}, by_q = {0}, scale = {0};
    if (scalar) {
        by_s = g.s * (c[0] + s * (2 * c[1] + s * (3 * c[2])) + q * c[4]);
        by_q = g.s * (c[3] + s * c[4]);
    }
    if (vec) {
        const vector along = dot(g.v, x.v);
        by_s += along * (c[6] + 2 * s * c[7]);
        by_q += along * c[8];
        scale = scale_of(c, s, q);
    }
    Four out = {by_s};
    for (int k = 0; k < 3; k++) {
        out.v[k] = 2 * by_q * x.v[k];
        if (vec) out.v[k] += scale * g.v[k];
    }
    return out;
}

/* Changes of all these along h and, unless it is NULL, hc. */
INLINE Four radial_change(const vector *c, const vector *hc, Four x, Four h, const int scalar,
                          const int vec) {
    const vector s = x.s, q = dot(x.v, x.v), hq = 2 * dot(x.v, h.v);
    Four z = {0};
    if (scalar) {
        z.s = h.s * (c[0] + s * (2 * c[1] + s * (3 * c[2])) + q * c[4]) + hq * (c[3] + s * c[4]);
        if (hc) z.s += scalar_of(hc, s, q);
    }
    if (vec) {
        const vector scale = scale_of(c, s, q);
        vector change = h.s * (c[6] + 2 * s * c[7]) + hq * c[8];
        if (hc) change += scale_of(hc, s, q);
        for (int k = 0; k < 3; k++) z.v[k] = scale * h.v[k] + change * x.v[k];
    }
    return z;
}

INLINE void add_term_changes(vector *gc, Four x, Four h, Four g, const int scalar, const int vec) {
    const vector s = x.s, q = dot(x.v, x.v), hq = 2 * dot(x.v, h.v);
    if (scalar) {
        const vector gh = g.s * h.s, ghs = gh * s;
        gc[0] += gh, gc[1] += 2 * ghs, gc[2] += 3 * ghs * s;
        gc[3] += g.s * hq, gc[4] += gh * q + g.s * s * hq;
    }
    if (vec) {
        const vector along = dot(g.v, x.v), turn = dot(g.v, h.v), both = turn * s + along * h.s;
        gc[5] += turn, gc[6] += both, gc[7] += s * (both + along * h.s);
        gc[8] += turn * q + along * hq;
    }
}

INLINE Four radial_back_change(const vector *c, const vector *hc, Four x, Four h, Four g,
                               const int scalar, const int vec) {
    const vector s = x.s, q = dot(x.v, x.v), hq = 2 * dot(x.v, h.v);
    vector by_s = {0}, by_q = {0}, change_q = {0}, scale_change = {0};
    if (scalar) {
        by_q = g.s * (c[3] + s * c[4]);
        by_s = g.s * (h.s * (2 * c[1] + 6 * s * c[2]) + hq * c[4]);
        change_q = g.s * (h.s * c[4]);
        if (hc) by_s += g.s * (hc[0] + s * (2 * hc[1] + s * (3 * hc[2])) + q * hc[4]);
        if (hc) change_q += g.s * (hc[3] + s * hc[4]);
    }
    if (vec) {
        const vector along = dot(g.v, x.v), turn = dot(g.v, h.v);
        by_q += along * c[8];
        by_s += turn * (c[6] + 2 * s * c[7]) + along * (2 * h.s * c[7]);
        change_q += turn * c[8];
        scale_change = h.s * (c[6] + 2 * s * c[7]) + hq * c[8];
        if (hc) by_s += along * (hc[6] + 2 * s * hc[7]);
        if (hc) change_q += along * hc[8];
        if (hc) scale_change += scale_of(hc, s, q);
    }
    Four out = {by_s};
    for (int k = 0; k < 3; k++) {
        out.v[k] = 2 * (change_q * x.v[k] + by_q * h.v[k]);
        if (vec) out.v[k] += scale_change * g.v[k];
    }
    return out;
}

/* What some nodes of a part are read from and written to. */
typedef struct {
    const Span *span;
    const Lie *in, *out;
    int64_t width, out_width; /* of features */
    int first, last, end;     /* nodes, and those of the chunk */
    const vector *c, *hc;
    vector *gc;
} Radial;

/* The features of these nodes, and of those after them. */
#define INPUT(name, at) ((const REAL *)r->span->call->name + (at) * r->width)
#define OUTPUT(name, at) ((const REAL *)r->span->call->name + (at) * r->out_width)
#define GRADIENT(at) ((const REAL *)r->span->call->g + (at) * r->span->call->g_row)

/* A kind is that of the input; what comes out then lies by channels, or by components. */
#define KIND_OUT (kind == TOGETHER ? BLOCKS : kind)

/* Ask for all that is read of the node some places on, gradients too on the way back. */
INLINE void ask_on(const Radial *r, int n, const int kind, const int scalar, const int vec,
                   const int back) {
    if (n + MORE_NODES >= r->end) return;
    const int64_t next = node_at(r->span, n + MORE_NODES);
    ask_for(r->in, INPUT(x, next), kind, 1, 1);
    if (back) ask_for(r->out, GRADIENT(next), KIND_OUT, scalar, vec);
}

INLINE void radial_forward(const Radial *r, const int kind, const int scalar, const int vec) {
    for (int n = r->first; n < r->last; n++) {
        const int64_t node = node_at(r->span, n);
        ask_on(r, n, kind, scalar, vec, 0);
        const Four z = radial(r->c, four_in(r->in, INPUT(x, node), kind, 1, 1), scalar, vec);
        four_out(r->out, z, (REAL *)OUTPUT(z, node), KIND_OUT, scalar, vec);
    }
}

INLINE void radial_backward(const Radial *r, const int kind, const int scalar, const int vec) {
    const int want_x = r->span->call->want_x, want_w = r->span->call->want_w;
    vector sums[TERMS];
    for (int k = 0; k < TERMS; k++) sums[k] = want_w ? r->gc[k] : (vector){0};
    for (int n = r->first; n < r->last; n++) {
        const int64_t node = node_at(r->span, n);
        ask_on(r, n, kind, scalar, vec, 1);
        const Four x = four_in(r->in, INPUT(x, node), kind, 1, 1);
        const Four g = four_in(r->out, GRADIENT(node), KIND_OUT, scalar, vec);
        if (want_w) add_terms(sums, x, g, scalar, vec);
        if (!want_x) continue;
        const Four gx = radial_back(r->c, x, g, scalar, vec);
        four_out(r->in, gx, (REAL *)INPUT(gx, node), kind, 1, 1);
    }
    for (int k = 0; want_w && k < TERMS; k++) r->gc[k] = sums[k];
}

INLINE void radial_second(const Radial *r, const int kind, const int scalar, const int vec) {
    const PowerCall *call = r->span->call;
    const int want_x = call->want_x, want_w = call->want_w;
    vector sums[TERMS];
    for (int k = 0; k < TERMS; k++) sums[k] = want_w ? r->gc[k] : (vector){0};
    for (int n = r->first; n < r->last; n++) {
        const int64_t node = node_at(r->span, n);
        ask_on(r, n, kind, scalar, vec, 1);
        if (n + MORE_NODES < r->end)
            ask_for(r->in, INPUT(hx, node_at(r->span, n + MORE_NODES)), kind, 1, 1);
        const Four x = four_in(r->in, INPUT(x, node), kind, 1, 1);
        const Four h = four_in(r->in, INPUT(hx, node), kind, 1, 1);
        const Four g = four_in(r->out, GRADIENT(node), KIND_OUT, scalar, vec);
        if (call->z) {
            const Four z = radial_change(r->c, r->hc, x, h, scalar, vec);
            four_out(r->out, z, (REAL *)OUTPUT(z, node), KIND_OUT, scalar, vec);
        }
        if (want_w) add_term_changes(sums, x, h, g, scalar, vec);
        if (!want_x) continue;
        const Four gx = radial_back_change(r->c, r->hc, x, h, g, scalar, vec);
        four_out(r->in, gx, (REAL *)INPUT(gx, node), kind, 1, 1);
    }
    for (int k = 0; want_w && k < TERMS; k++) r->gc[k] = sums[k];
}

/* Each walk for every kind and every output. */
#define OF_KIND(walk, kind) \
    if (out.vector < 0) walk(r, kind, 1, 0); \
    else if (out.scalar < 0) walk(r, kind, 0, 1); \
    else walk(r, kind, 1, 1);
#define OF_EVERY_KIND(walk) \
    static void every_##walk(const Radial *r, int kind, Components out) { \
        switch (kind) { \
            case TOGETHER: OF_KIND(walk, TOGETHER) break; \
            case BLOCKS: OF_KIND(walk, BLOCKS) break; \
            case ROWS: OF_KIND(walk, ROWS) break; \
            default: OF_KIND(walk, ANYHOW) \
        } \
    }
OF_EVERY_KIND(radial_forward)
OF_EVERY_KIND(radial_backward)
OF_EVERY_KIND(radial_second)
#endif
