/* Ways of doing the same that are chosen by trying them; see choice.c. */
#ifndef ETP_CHOICE_H
#define ETP_CHOICE_H
#include <stdint.h>

#define MOST_WAYS 4

/* One thing that is tried: `way` is how to do it in this call. */
typedef struct {
    int entry, way; /* entry negative: decided, nothing to report */
    int64_t start;
} Trial;

#ifdef __cplusplus
extern "C" {
#endif
/* How the case `key` (not 0) is to be done, of `ways` ways that give the same result. */
Trial etp_try(uint32_t key, int ways);
/* The call is over; `amount` is what its time is proportional to. */
void etp_tried(Trial trial, double amount);
/* Read what has been decided on this machine, and add to this file what will be. */
void etp_choices(const char *path);
/* The decided way of a case, or -1. */
int etp_choice(uint32_t key);
/* Bytes of the last cache of this processor. */
int64_t etp_last_cache(void);
#ifdef __cplusplus
}
#endif
#endif
