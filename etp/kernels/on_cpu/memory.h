/* Memory of large results; see memory.c. */
#ifndef ETP_MEMORY_H
#define ETP_MEMORY_H
#include <stddef.h>

#ifdef __cplusplus
extern "C" {
#endif

#define ETP_LARGE_PAGE ((size_t)1 << 21)

/* Memory for at least `bytes`, whose number becomes that to give back; NULL where there is none, or
 * where this system has nothing better than malloc. Its numbers are anything. */
void *etp_memory_take(size_t *bytes);
void etp_memory_give(void *start, size_t bytes);

/* Give all that is kept back to the system; its bytes. */
size_t etp_memory_release(void);

#ifdef __cplusplus
}
#endif
#endif
