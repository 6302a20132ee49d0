/* Powers of one precision; see power.c. */
#ifndef ETP_POWER_H
#define ETP_POWER_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

/* Nodes order[first] .. order[last - 1], which share row `row` of the weights. Gradients of the
 * weights go there if all nodes of the row are here (spare < 0), else to row `spare` of gw_spare.
 * Row EACH_ITS_OWN: node n has row n, for what takes steps only. */
#define EACH_ITS_OWN (-1)
typedef struct {
    int32_t row, first, last, spare;
} PowerChunk;

typedef struct {
    const int32_t *program; /* kernels/power_table.py: PowerProgram, or kernels/on_cpu/polynomial.py */
    const void *values;
    const int32_t *places; /* first number and stride of each component, of input and output */
    const void *x, *w, *g, *hx, *hw; /* hx, hw: changes, NULL for none */
    void *z, *gx, *gw, *gw_spare;    /* z: NULL where a walk back does not ask for it */
    const int32_t *order; /* NULL: nodes as they come */
    const PowerChunk *chunks;
    int64_t n_chunks, channels;
    int64_t g_row; /* numbers from the gradient of one node to the next: 0, the same for all */
    int32_t want_x, want_w; /* which gradients are asked for */
} PowerCall;

/* z = T(x, w). 0, or 1 for want of memory. */
int etp_power_forward_float(const PowerCall *call, int threads);
int etp_power_forward_double(const PowerCall *call, int threads);
/* gx, gw: gradients of g . T(x, w). With hx, and hw or none, their change along them, and, where it
 * is asked for, z: that of T(x, w). */
int etp_power_backward_float(const PowerCall *call, int threads);
int etp_power_backward_double(const PowerCall *call, int threads);
/* Whether each of n rows holds one 1 and else zeros; place: where. */
int etp_one_hot_float(const void *rows, int64_t n, int64_t width, int32_t *place);
int etp_one_hot_double(const void *rows, int64_t n, int64_t width, int32_t *place);

/* Either of these, for powers that are given by steps. */
int etp_power_steps_float(const PowerCall *call, int threads);
int etp_power_steps_double(const PowerCall *call, int threads);

#ifdef __cplusplus
}
#endif
#endif
