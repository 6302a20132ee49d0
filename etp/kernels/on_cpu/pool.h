/* A pool of threads that share the pieces of a call; see pool.c. */
#ifndef ETP_POOL_H
#define ETP_POOL_H
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif
/* Call piece(context, 0 .. pieces - 1), each once, in any order, on the caller and on up to
 * `threads` - 1 helpers; returns when all are done. May be called from several threads at once, from
 * inside a piece, and after fork. */
void etp_parallel(int64_t pieces, int threads, void (*piece)(void *context, int64_t index),
                  void *context);
/* Helpers that have been started in this process. */
int etp_helpers(void);
#ifdef __cplusplus
}
#endif
#endif
