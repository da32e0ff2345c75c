/* Randomness and time of a process that runs one seed.
 *
 * Hash maps, select! and identifiers draw from the operating system, and some libraries read the system's clock. With
 * ATOLL_SIM_SEED in the environment they get the same numbers in every run instead, and the clock stands still, so that
 * a seed reproduces a run exactly; without it, nothing changes. The simulation has its own clock.
 */
#define _GNU_SOURCE
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <time.h>
#include <unistd.h>

static int seeded;
static uint64_t state;

__attribute__((constructor)) static void begin(void) {
    const char *seed = getenv("ATOLL_SIM_SEED");
    if (seed != NULL) {
        state = strtoull(seed, NULL, 10);
        seeded = 1;
    }
}

/* splitmix64 */
static uint64_t next(void) {
    uint64_t z = (state += 0x9e3779b97f4a7c15ULL);
    z = (z ^ (z >> 30)) * 0xbf58476d1ce4e5b9ULL;
    z = (z ^ (z >> 27)) * 0x94d049bb133111ebULL;
    return z ^ (z >> 31);
}

ssize_t getrandom(void *buffer, size_t length, unsigned int flags) {
    if (!seeded) {
        return syscall(SYS_getrandom, buffer, length, flags);
    }
    for (size_t done = 0; done < length; done += 8) {
        uint64_t word = next();
        memcpy((char *)buffer + done, &word, length - done < 8 ? length - done : 8);
    }
    return (ssize_t)length;
}

int clock_gettime(clockid_t clock, struct timespec *now) {
    if (!seeded) {
        return (int)syscall(SYS_clock_gettime, clock, now);
    }
    now->tv_sec = 1000000000;
    now->tv_nsec = 0;
    return 0;
}
