/* Memory of large results, kept for the next call.
 *
 * Large memory that is freed goes back to the system, and what the next call asks for comes from it
 * page by page, each zeroed as it is first written: that takes longer than most products. Blocks of
 * large pages are kept here instead when a result is freed. They remain the system's to take
 * (MADV_FREE): it does so, without writing them anywhere, as soon as anybody runs short of memory,
 * and zeroes a page for the next call only where it did.
 *
 * Nobody waits for the lock, so that none is missed in a child that was forked while it was held:
 * who does not get it at once asks the system.
 */
#include "memory.h"

#ifdef __linux__
#include <stdatomic.h>
#include <stdint.h>
#include <sys/mman.h>
#include <unistd.h>

#define SLOTS 16
#define SHARE 8 /* of the machine's memory one part in so many is kept at most */

typedef struct {
    void *start;
    size_t bytes;
} Block;

static Block kept[SLOTS]; /* the one kept longest first */
static int count;
static size_t total;
static atomic_flag busy = ATOMIC_FLAG_INIT;

static int lock(void) { return !atomic_flag_test_and_set(&busy); }

static void unlock(void) { atomic_flag_clear(&busy); }

static Block taken_out(int slot) {
    const Block block = kept[slot];
    total -= block.bytes;
    count--;
    for (int k = slot; k < count; k++) kept[k] = kept[k + 1];
    return block;
}

/* The smallest block that is large enough, and not twice too large. */
static Block fitting(size_t bytes) {
    int best = -1;
    if (!lock()) return (Block){0};
    for (int k = 0; k < count; k++)
        if (kept[k].bytes >= bytes && kept[k].bytes / 2 <= bytes &&
            (best < 0 || kept[k].bytes < kept[best].bytes))
            best = k;
    const Block block = best < 0 ? (Block){0} : taken_out(best);
    unlock();
    return block;
}

/* New memory that begins with a large page. */
static void *mapped(size_t bytes) {
    const size_t more = bytes + ETP_LARGE_PAGE;
    char *start = mmap(NULL, more, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (start == MAP_FAILED) return NULL;
    const size_t before = -(uintptr_t)start % ETP_LARGE_PAGE, after = ETP_LARGE_PAGE - before;
    if (before) munmap(start, before);
    if (after) munmap(start + before + bytes, after);
#ifdef MADV_HUGEPAGE
    madvise(start + before, bytes, MADV_HUGEPAGE);
#endif
    return start + before;
}

void *etp_memory_take(size_t *bytes) {
    const size_t whole = (*bytes + ETP_LARGE_PAGE - 1) / ETP_LARGE_PAGE * ETP_LARGE_PAGE;
    const Block block = fitting(whole);
    *bytes = block.start ? block.bytes : whole;
    if (block.start) return block.start;
    void *start = mapped(whole);
    if (start || !etp_memory_release()) return start;
    return mapped(whole);
}

void etp_memory_give(void *start, size_t bytes) {
    Block gone[SLOTS + 1];
    int n = 0; /* of those that are unmapped */
    const size_t most = (size_t)sysconf(_SC_PHYS_PAGES) / SHARE * (size_t)sysconf(_SC_PAGESIZE);
    int keeps = bytes <= most;
#ifdef MADV_FREE
    /* A page alone is not worth asking: the processor looks it up anew after that. */
    keeps = keeps && (bytes <= ETP_LARGE_PAGE || !madvise(start, bytes, MADV_FREE)) && lock();
#else
    keeps = 0;
#endif
    if (keeps) {
        while (count == SLOTS || (count && total + bytes > most)) gone[n++] = taken_out(0);
        kept[count++] = (Block){start, bytes};
        total += bytes;
        unlock();
    } else {
        gone[n++] = (Block){start, bytes};
    }
    while (n--) munmap(gone[n].start, gone[n].bytes);
}

size_t etp_memory_release(void) {
    size_t bytes = 0;
    while (lock()) {
        const Block block = count ? taken_out(0) : (Block){0};
        unlock();
        if (!block.start) break;
        munmap(block.start, block.bytes);
        bytes += block.bytes;
    }
    return bytes;
}
#else
void *etp_memory_take(size_t *bytes) {
    (void)bytes;
    return NULL;
}

void etp_memory_give(void *start, size_t bytes) { (void)start, (void)bytes; }

size_t etp_memory_release(void) { return 0; }
#endif
