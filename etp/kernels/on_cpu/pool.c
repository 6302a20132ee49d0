/* A pool of threads in which nobody waits for a thread that has no core.
 *
 * A call is a job with a number of pieces. The caller claims pieces as its helpers do, by one atomic
 * word, and goes on until none is left; then it waits only for pieces that a helper has claimed and
 * not finished. A helper that the system does not run takes no part, and costs nothing: where
 * another process holds the second core, the caller does the work alone. (OpenMP gives each thread a
 * share beforehand and waits for all of them at a barrier, a time slice where one has no core.)
 *
 * Jobs are kept for later calls and never freed, so that a helper may look at one at any time. What
 * it reads before its claim may be out of date, and is not used: whoever has claimed a piece knows
 * that the call cannot end before that piece is done. No lock is held but to start helpers. Helpers
 * sleep between calls, after a short while of looking for the next one.
 */
#include "pool.h"

#include <pthread.h>
#include <sched.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#ifdef __APPLE__
#include <dispatch/dispatch.h>
typedef dispatch_semaphore_t Semaphore;
static int semaphore_init(Semaphore *s) { return (*s = dispatch_semaphore_create(0)) ? 0 : -1; }
static void semaphore_post(Semaphore *s) { dispatch_semaphore_signal(*s); }
static void semaphore_wait(Semaphore *s) { dispatch_semaphore_wait(*s, DISPATCH_TIME_FOREVER); }
#else
#include <errno.h>
#include <semaphore.h>
typedef sem_t Semaphore;
static int semaphore_init(Semaphore *s) { return sem_init(s, 0, 0); }
static void semaphore_post(Semaphore *s) { sem_post(s); }
static void semaphore_wait(Semaphore *s) {
    while (sem_wait(s) && errno == EINTR) continue;
}
#endif

/* The word by which pieces are claimed: pieces left, helpers that may still join, number of the
 * call, which a helper needs to see that the job it was in has become another. */
#define PIECE ((uint64_t)1)
#define SEAT ((uint64_t)1 << 32)
#define CALL ((uint64_t)1 << 42)
#define PIECES(ticket) ((ticket) & (SEAT - 1))
#define SEATS(ticket) ((ticket) & (CALL - SEAT))
#define MOST_HELPERS 1023
#define MOST_PIECES ((int64_t)1 << 30)

#define HELPER_LOOKS_NS 50000 /* about what it takes to wake a helper */
#define CALLER_LOOKS_NS 20000 /* then it gives its core to the helper that it waits for */

#define SHARES 8 /* of what is left per thread: a claim is large first, and a piece in the end */

typedef struct Job {
    _Alignas(64) _Atomic uint64_t ticket;
    _Alignas(64) _Atomic int64_t unfinished; /* pieces, and one for the caller */
    atomic_int taken, shares;
    Semaphore finished;
    void (*piece)(void *context, int64_t index);
    void *context;
    int64_t end; /* of the indices */
    struct Job *next;
} Job;

typedef struct Helper {
    atomic_int asleep;
    Semaphore wake;
    struct Helper *next;
} Helper;

static pthread_mutex_t starting = PTHREAD_MUTEX_INITIALIZER;
static _Atomic(Helper *) helpers;
static atomic_int helper_count;
static _Atomic(Job *) jobs;

int etp_helpers(void) { return atomic_load(&helper_count); }

static int64_t now(void) {
    struct timespec t;
    clock_gettime(CLOCK_MONOTONIC, &t);
    return (int64_t)t.tv_sec * 1000000000 + t.tv_nsec;
}

static void pause_shortly(void) {
    for (int k = 0; k < 8; k++) {
#if defined(__x86_64__) || defined(__i386__)
        __builtin_ia32_pause();
#elif defined(__aarch64__)
        __asm__ volatile("yield");
#endif
    }
}

/* A moment of waiting, in which somebody else on this core may go on. */
static void breathe(void) {
    pause_shortly();
    sched_yield();
}

/* Take some of the pieces of a call. */
typedef struct {
    int64_t call, left, count; /* pieces before the claim, and in it; 0 where there was nothing to take */
} Claim;

/* A helper joins with its first claim, `call` negative; later ones are in the call it has joined. */
static Claim claim(Job *job, int64_t call) {
    uint64_t seen = atomic_load(&job->ticket), next, count;
    do {
        if (PIECES(seen) == 0) return (Claim){0};
        if (call < 0 ? SEATS(seen) == 0 : seen / CALL != (uint64_t)call) return (Claim){0};
        count = 1 + PIECES(seen) / (uint64_t)atomic_load(&job->shares);
        next = seen - count * PIECE - (call < 0 ? SEAT : 0);
    } while (!atomic_compare_exchange_weak(&job->ticket, &seen, next));
    return (Claim){(int64_t)(seen / CALL), (int64_t)PIECES(seen), (int64_t)count};
}

static void work(Job *job, Claim c) {
    const int64_t first = job->end - c.left;
    for (int64_t index = first; index < first + c.count; index++) job->piece(job->context, index);
}

/* Whether a piece was found to do in any job. */
static int help_somebody(void) {
    int helped = 0;
    for (Job *job = atomic_load(&jobs); job; job = job->next)
        for (Claim c = claim(job, -1); c.count; c = claim(job, c.call)) {
            work(job, c);
            helped = 1;
            if (atomic_fetch_sub(&job->unfinished, c.count) == c.count)
                semaphore_post(&job->finished);
        }
    return helped;
}

static int anything_open(void) {
    for (Job *job = atomic_load(&jobs); job; job = job->next) {
        const uint64_t seen = atomic_load(&job->ticket);
        if (PIECES(seen) && SEATS(seen)) return 1;
    }
    return 0;
}

static void *help(void *given) {
    Helper *me = given;
    for (;;) {
        const int64_t until = now() + HELPER_LOOKS_NS;
        /* It does not yield: a thread that waits for work by turning on this core, as those of OpenMP
         * do, would take a whole time slice, and nobody wakes a helper that is not asleep. */
        while (!anything_open() && now() < until) pause_shortly();
        if (help_somebody()) continue;
        atomic_store(&me->asleep, 1);
        /* A job opened meanwhile may have found this helper awake; who resets the flag decides. */
        if (!anything_open() || !atomic_exchange(&me->asleep, 0)) semaphore_wait(&me->wake);
    }
    return NULL;
}

static int start_helper(void) {
    Helper *helper = calloc(1, sizeof(Helper));
    if (!helper) return 0;
    sigset_t all, before; /* signals are for the threads of the program */
    pthread_t thread;
    sigfillset(&all);
    pthread_sigmask(SIG_SETMASK, &all, &before);
    const int started = semaphore_init(&helper->wake) == 0 &&
                        pthread_create(&thread, NULL, help, helper) == 0;
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    if (!started) {
        free(helper);
        return 0;
    }
    pthread_detach(thread);
    helper->next = atomic_load(&helpers);
    atomic_store(&helpers, helper);
    atomic_fetch_add(&helper_count, 1);
    return 1;
}

static void start_helpers(int wanted) {
    if (atomic_load(&helper_count) >= wanted) return;
    pthread_mutex_lock(&starting);
    while (atomic_load(&helper_count) < wanted && start_helper()) continue;
    pthread_mutex_unlock(&starting);
}

static void wake_helpers(int wanted) {
    for (Helper *h = atomic_load(&helpers); h && wanted > 0; h = h->next)
        if (atomic_load(&h->asleep) && atomic_exchange(&h->asleep, 0)) {
            semaphore_post(&h->wake);
            wanted--;
        }
}

/* A job that no call uses, a new one if need be; NULL where there is no memory. */
static Job *take_job(void) {
    for (Job *job = atomic_load(&jobs); job; job = job->next)
        if (!atomic_load(&job->taken) && !atomic_exchange(&job->taken, 1)) return job;
    Job *job = aligned_alloc(64, sizeof(Job));
    if (!job) return NULL;
    memset(job, 0, sizeof(Job));
    atomic_store(&job->shares, SHARES);
    if (semaphore_init(&job->finished)) {
        free(job);
        return NULL;
    }
    atomic_store(&job->taken, 1);
    job->next = atomic_load(&jobs);
    while (!atomic_compare_exchange_weak(&jobs, &job->next, job)) continue;
    return job;
}

/* Indices below job->end, `count` of them, with helpers. */
static void share(Job *job, int64_t count, int seats) {
    /* The number of the call starts anew when its bits are used up. */
    const uint64_t ticket = (atomic_load(&job->ticket) / CALL + 1) * CALL;
    int64_t done = 1;
    atomic_store(&job->shares, SHARES * (seats + 1));
    atomic_store(&job->unfinished, count + 1);
    atomic_store(&job->ticket, ticket + (uint64_t)seats * SEAT + (uint64_t)count);
    wake_helpers(seats);
    for (Claim c; (c = claim(job, (int64_t)(ticket / CALL))).count; done += c.count) work(job, c);
    if (atomic_fetch_sub(&job->unfinished, done) == done) return;
    const int64_t until = now() + CALLER_LOOKS_NS;
    while (atomic_load(&job->unfinished) && now() < until) breathe();
    semaphore_wait(&job->finished);
}

void etp_parallel(int64_t pieces, int threads, void (*piece)(void *context, int64_t index),
                  void *context) {
    Job *job = threads > 1 && pieces > 1 ? take_job() : NULL;
    if (!job) {
        for (int64_t index = 0; index < pieces; index++) piece(context, index);
        return;
    }
    const int64_t most = pieces < threads ? pieces - 1 : threads - 1;
    const int seats = most < MOST_HELPERS ? (int)most : MOST_HELPERS;
    start_helpers(seats);
    job->piece = piece;
    job->context = context;
    for (int64_t first = 0; first < pieces; first = job->end) {
        const int64_t count = pieces - first < MOST_PIECES ? pieces - first : MOST_PIECES;
        job->end = first + count;
        share(job, count, seats);
    }
    atomic_store(&job->taken, 0);
}

/* A child has the thread that forked and no other: it starts afresh, whatever the others were in. */
static void before_fork(void) { pthread_mutex_lock(&starting); }
static void after_fork_in_parent(void) { pthread_mutex_unlock(&starting); }
static void after_fork_in_child(void) {
    static const pthread_mutex_t unlocked = PTHREAD_MUTEX_INITIALIZER;
    starting = unlocked;
    atomic_store(&helpers, NULL);
    atomic_store(&helper_count, 0);
    atomic_store(&jobs, NULL);
}

__attribute__((constructor)) static void heed_forks(void) {
    pthread_atfork(before_fork, after_fork_in_parent, after_fork_in_child);
}
