/* Fails, or kills, at the n-th call that changes files under a folder. For benchmarks/chaos.py:
 *   cc -shared -fPIC -O2 -o faults.so benchmarks/faults.c -ldl
 *   LD_PRELOAD=./faults.so python benchmarks/chaos.py ...
 * arm(folder, n, errno_or_minus_one, lasting): -1 kills the process group; lasting: from n on. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

static char under[PATH_MAX];
static long at = -1, calls = 0;
static int code = 0, lasting = 0;

void arm(const char *folder, long n, int error, int from_then_on) {
    snprintf(under, sizeof under, "%s", folder);
    at = n; calls = 0; code = error; lasting = from_then_on;
}

long count(void) { return calls; }

static int ours_path(const char *path) {
    return under[0] && path && strncmp(path, under, strlen(under)) == 0;
}

static int ours(int fd) {
    char link[64], path[PATH_MAX];
    if (!under[0]) return 0;
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    if (n <= 0) return 0;
    path[n] = 0;
    return ours_path(path);
}

static int hit(void) {
    long n = calls++;
    if (at < 0 || !(lasting ? n >= at : n == at)) return 0;
    if (code < 0) { kill(0, SIGKILL); pause(); }
    errno = code;
    return 1;
}

#define REAL(type, name, ...) \
    static type (*real)(__VA_ARGS__); \
    if (!real) real = (type (*)(__VA_ARGS__)) dlsym(RTLD_NEXT, name)

ssize_t write(int fd, const void *b, size_t n) {
    REAL(ssize_t, "write", int, const void *, size_t);
    if (ours(fd) && hit()) { if (n > 1 && code > 0) { real(fd, b, n / 2); errno = code; } return -1; }
    return real(fd, b, n);
}
ssize_t writev(int fd, const struct iovec *v, int n) {
    REAL(ssize_t, "writev", int, const struct iovec *, int);
    return ours(fd) && hit() ? -1 : real(fd, v, n);
}
ssize_t pwrite64(int fd, const void *b, size_t n, off64_t o) {
    REAL(ssize_t, "pwrite64", int, const void *, size_t, off64_t);
    return ours(fd) && hit() ? -1 : real(fd, b, n, o);
}
int fsync(int fd) {
    REAL(int, "fsync", int);
    return ours(fd) && hit() ? -1 : real(fd);
}
int ftruncate64(int fd, off64_t n) {
    REAL(int, "ftruncate64", int, off64_t);
    return ours(fd) && hit() ? -1 : real(fd, n);
}
int rename(const char *a, const char *b) {
    REAL(int, "rename", const char *, const char *);
    return ours_path(b) && hit() ? -1 : real(a, b);
}
int mkdir(const char *p, mode_t m) {
    REAL(int, "mkdir", const char *, mode_t);
    return ours_path(p) && hit() ? -1 : real(p, m);
}
int unlink(const char *p) {
    REAL(int, "unlink", const char *);
    return ours_path(p) && hit() ? -1 : real(p);
}
static int creates(int flags) { return flags & (O_CREAT | O_TRUNC); }
int open64(const char *p, int flags, ...) {
    va_list list; va_start(list, flags); mode_t m = va_arg(list, mode_t); va_end(list);
    REAL(int, "open64", const char *, int, ...);
    return creates(flags) && ours_path(p) && hit() ? -1 : real(p, flags, m);
}
int open(const char *p, int flags, ...) {
    va_list list; va_start(list, flags); mode_t m = va_arg(list, mode_t); va_end(list);
    REAL(int, "open", const char *, int, ...);
    return creates(flags) && ours_path(p) && hit() ? -1 : real(p, flags, m);
}
