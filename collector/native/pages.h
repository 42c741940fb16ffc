/* Memory that stays reserved and is not needed any more. */
#ifndef BYOC_PAGES_H
#define BYOC_PAGES_H

#include <stddef.h>
#include <stdint.h>
#if defined(__linux__)
#include <sys/mman.h>
#include <unistd.h>
#endif

/* Whole pages within [from, to) go back to the system; what stands there is lost. Elsewhere than on Linux: nothing. */
static inline void give_back(uint8_t *from, uint8_t *to)
{
#if defined(__linux__)
    uintptr_t page = (uintptr_t)sysconf(_SC_PAGESIZE);
    uintptr_t first = ((uintptr_t)from + page - 1) / page * page, last = (uintptr_t)to / page * page;
    if (last > first)
        madvise((void *)first, last - first, MADV_DONTNEED);
#else
    (void)from, (void)to;
#endif
}

#endif
