/* Edge products and convolutions of one precision; see edge.c. */
#ifndef ETP_EDGE_H
#define ETP_EDGE_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* One call. Rows of x, hx and gx are nodes (or edges, where senders is NULL), rows of g and z are
 * nodes (or edges, where receivers is NULL), all others are edges. Edges are visited group by group:
 * those of one row of the result, order[starts[n]] .. order[starts[n + 1] - 1]. Without starts each
 * edge is a group, without order edges are in the order of their groups. */
typedef struct {
    const int32_t *program; /* kernels/edge_table.py: _Program */
    const void *values;
    const void *x, *y, *w, *g, *hx, *hy, *hw;
    void *z, *gx, *gy, *gw;
    const int32_t *senders, *receivers, *order, *starts;
    int64_t edges, in_rows, out_rows;
    int64_t w_stride; /* 0 where all edges share their weights */
    int32_t want_x;   /* whether gx is asked for */
} EdgeCall;

/* z = T(x, y, w), or, with hx, hy and hw, its change along them. 0, or 1 for want of memory. */
int etp_edge_forward_float(const EdgeCall *call, int threads);
int etp_edge_forward_double(const EdgeCall *call, int threads);
/* gx, gy, gw: gradients of g . T(x, y, w), or, with hx, hy and hw, their change along them. */
int etp_edge_backward_float(const EdgeCall *call, int threads);
int etp_edge_backward_double(const EdgeCall *call, int threads);

#ifdef __cplusplus
}
#endif
#endif
