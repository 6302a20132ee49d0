/* A tile program as it lies in memory; kernels/tile.py fills it in. */
#ifndef ETP_TILE_H
#define ETP_TILE_H
#include <stdint.h>

typedef struct {
    int32_t code, size, to, first, second, index, table, other;
} Step;

/* Coefficients are floats or doubles, as the function that runs the program. Features have channels:
 * blocks of (channels, width), of the widths that are listed for each side, one after the other;
 * without a list each side is one block. */
typedef struct {
    const Step *steps;
    const int32_t *index;
    const void *table;
    int32_t n_steps, rows, n_in, n_out;
    int32_t in_row[3], in_dim[3], out_row[2], out_dim[2];
    int64_t macs;
    const int32_t *widths;
} Program;

#ifdef __cplusplus
extern "C" {
#endif
/* Run a program on every channel of n rows; inputs and outputs are contiguous, those that are not
 * used null. Returns 0, or 1 where memory for the tile cannot be had. */
int etp_tile_float(const Program *p, const void *const *in, void *const *out, int64_t n,
                   int64_t channels, int threads);
int etp_tile_double(const Program *p, const void *const *in, void *const *out, int64_t n,
                    int64_t channels, int threads);
#ifdef __cplusplus
}
#endif
#endif
