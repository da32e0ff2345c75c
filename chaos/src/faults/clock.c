/* A wall clock that is off by what a file says: preloaded into a node (see clock.rs).
 *
 * It allocates nothing and calls the kernel itself, since it is asked for the time while the node's allocator starts.
 * (libfaketime allocates in its first call, and jemalloc asks for the time in its own: neither gets any further.) */

#define _GNU_SOURCE
#include <fcntl.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/syscall.h>
#include <sys/time.h>
#include <time.h>
#include <unistd.h>

static const volatile int64_t *mapped;

/* Seconds to add. The file has eight bytes and is changed in place. Threads that map it at once map the same. */
static int64_t offset(void)
{
    const volatile int64_t *seconds = __atomic_load_n(&mapped, __ATOMIC_ACQUIRE);
    if (!seconds) {
        const char *path = getenv("ATOLL_CHAOS_CLOCK");
        long file = path ? syscall(SYS_openat, AT_FDCWD, path, O_RDWR | O_CREAT | O_CLOEXEC, 0600) : -1;
        if (file < 0)
            return 0;
        syscall(SYS_ftruncate, file, sizeof(int64_t));
        long at = syscall(SYS_mmap, NULL, sizeof(int64_t), PROT_READ, MAP_SHARED, file, 0);
        syscall(SYS_close, file);
        if (at < 0 && at > -4096)
            return 0;
        seconds = (const volatile int64_t *)at;
        __atomic_store_n(&mapped, seconds, __ATOMIC_RELEASE);
    }
    return *seconds;
}

int clock_gettime(clockid_t clock, struct timespec *now)
{
    long result = syscall(SYS_clock_gettime, clock, now);
    if (result == 0 && (clock == CLOCK_REALTIME || clock == CLOCK_REALTIME_COARSE))
        now->tv_sec += offset();
    return (int)result;
}

int gettimeofday(struct timeval *restrict now, void *restrict zone)
{
    long result = syscall(SYS_gettimeofday, now, zone);
    if (result == 0)
        now->tv_sec += offset();
    return (int)result;
}

time_t time(time_t *at)
{
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    if (at)
        *at = now.tv_sec;
    return now.tv_sec;
}
