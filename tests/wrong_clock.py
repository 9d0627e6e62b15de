"""A clock that is wrong for one process only: a preloaded library, as libfaketime does it. Needs a C compiler."""

import subprocess
from pathlib import Path

import pytest

WRONG_CLOCK = """
#define _GNU_SOURCE
#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>
#include <sys/time.h>
#include <threads.h>
#include <time.h>
static long ahead_s(void) { const char *said = getenv("AHEAD_S"); return said ? atol(said) : 0; }
int clock_gettime(clockid_t which, struct timespec *at) {
  static int (*real)(clockid_t, struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "clock_gettime");
  int failed = real(which, at);
  if (!failed && which == CLOCK_REALTIME) at->tv_sec += ahead_s();
  return failed;
}
// A wait until a moment of the wrong clock ends at that moment of the right one; small numbers are of another clock.
static struct timespec right(const struct timespec *until) {
  struct timespec made = *until;
  if (made.tv_sec > 1000000000) made.tv_sec -= ahead_s();
  return made;
}
int pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until) {
  static int (*real)(pthread_cond_t *, pthread_mutex_t *, const struct timespec *);
  if (!real) real = dlvsym(RTLD_NEXT, "pthread_cond_timedwait", "GLIBC_2.3.2");
  if (!real) real = dlsym(RTLD_NEXT, "pthread_cond_timedwait");
  struct timespec made = right(until);
  return real(cond, mutex, &made);
}
int cnd_timedwait(cnd_t *cond, mtx_t *mutex, const struct timespec *until) {
  static int (*real)(cnd_t *, mtx_t *, const struct timespec *);
  if (!real) real = dlsym(RTLD_NEXT, "cnd_timedwait");
  struct timespec made = right(until);
  return real(cond, mutex, &made);
}
int gettimeofday(struct timeval *at, void *zone) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  at->tv_sec = now.tv_sec;
  at->tv_usec = now.tv_nsec / 1000;
  return 0;
}
time_t time(time_t *at) {
  struct timespec now;
  clock_gettime(CLOCK_REALTIME, &now);
  if (at) *at = now.tv_sec;
  return now.tv_sec;
}
"""


def wrong_clock(folder: Path, ahead_s: int) -> dict[str, str]:
    """The environment of a process that believes it is so much later."""
    source, library = folder / "wrong_clock.c", folder / "wrong_clock.so"
    source.write_text(WRONG_CLOCK)
    try:
        subprocess.run(
            ["cc", "-shared", "-fPIC", "-o", str(library), str(source), "-ldl"], check=True, capture_output=True
        )
    except (OSError, subprocess.CalledProcessError):
        pytest.skip("no C compiler to make a wrong clock with")
    return {"LD_PRELOAD": str(library), "AHEAD_S": str(ahead_s)}
