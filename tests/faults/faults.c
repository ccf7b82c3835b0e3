/* Faults, injected into what a process does to the filesystem; to be preloaded (LD_PRELOAD).

   Calls that change something below one of the folders in FAULTS_ROOTS (separated by colons), or that may fail there
   when the disk does, are counted over all processes that share FAULTS_STATE, an 8-byte file, and logged to
   FAULTS_LOG, a line each. At the FAULTS_AT-th one, and with FAULTS_ON at every later one that the fault may befall:

     FAULTS_DO=before    SIGKILL instead of the call
     FAULTS_DO=after     SIGKILL right after it
     FAULTS_DO=short     half of what was to be written is
     FAULTS_DO=-N        the signal N, before the call
     FAULTS_DO=N         the error number N; with FAULTS_ON a write at first writes half, as on a disk that fills

   FAULTS_NO_EXCHANGE: names can't trade places, as on NFS. FAULTS_READS: files opened to be read count, too.
   A process that has set these variables after its start calls faults_start(). */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/types.h>
#include <sys/uio.h>
#include <unistd.h>

#define FICLONE 0x40049409UL
#define FICLONERANGE 0x4020940dUL
#define EXCHANGE 2

#define REAL(name, result, ...) \
    static result (*real)(__VA_ARGS__); \
    if (!real) real = (result (*)(__VA_ARGS__))dlsym(RTLD_NEXT, name)

static long *count;
static int log_fd = -1;
static long at, what;
static int on, after, shorten, no_exchange, reads;
static char roots[PATH_MAX];

static long raw(long number, long a, long b, long c, long d, long e)
{
    REAL("syscall", long, long, long, long, long, long, long);
    return real(number, a, b, c, d, e);
}

void faults_start(void)
{
    const char *list = getenv("FAULTS_ROOTS"), *state = getenv("FAULTS_STATE"), *log = getenv("FAULTS_LOG");
    const char *doing = getenv("FAULTS_DO"), *n = getenv("FAULTS_AT");
    count = NULL;
    if (!list || !state)
        return;
    snprintf(roots, sizeof roots, "%s", list);
    int fd = raw(SYS_openat, AT_FDCWD, (long)state, O_RDWR | O_CLOEXEC, 0, 0);
    if (fd < 0)
        abort();
    long *mapped = mmap(NULL, sizeof *mapped, PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
    raw(SYS_close, fd, 0, 0, 0, 0);
    if (mapped == MAP_FAILED)
        abort();
    if (log)
        log_fd = raw(SYS_openat, AT_FDCWD, (long)log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600, 0);
    at = n ? atol(n) : 0;
    after = doing && !strcmp(doing, "after");
    shorten = doing && !strcmp(doing, "short");
    what = !doing || after || shorten ? 0 : !strcmp(doing, "before") ? -SIGKILL : atol(doing);
    on = getenv("FAULTS_ON") != NULL;
    no_exchange = getenv("FAULTS_NO_EXCHANGE") != NULL;
    reads = getenv("FAULTS_READS") != NULL;
    count = mapped;
}

__attribute__((constructor)) static void start(void) { faults_start(); }

static void whole_path(int dir, const char *path, char *out)
{
    char link[64];
    ssize_t length;
    if (path && path[0] == '/') {
        snprintf(out, PATH_MAX, "%s", path);
        return;
    }
    if (dir == AT_FDCWD)
        snprintf(link, sizeof link, "/proc/self/cwd");
    else
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
    length = raw(SYS_readlinkat, AT_FDCWD, (long)link, (long)out, PATH_MAX - 1, 0);
    out[length < 0 ? 0 : length] = 0;
    if (path && *path && length >= 0)
        snprintf(out + length, PATH_MAX - length, "/%s", path);
}

static int is_below(const char *path)
{
    for (const char *root = roots; *root;) {
        size_t length = strcspn(root, ":");
        if (!strncmp(path, root, length) && (path[length] == '/' || !path[length]))
            return 1;
        root += length + (root[length] == ':');
    }
    return 0;
}

static void die(int number)
{
    raw(SYS_kill, getpid(), number, 0, 0, 0);
}

enum { PROCEED, KILL_AFTER, HALF };
enum { CHANGES = 0, TAKES_SPACE = 1, SYNCS = 2, LOCKS = 4, WRITES = 8, READS = 16 };

/* What becomes of a call: one of the above, or -1 with errno set. */
static int point(const char *name, int kind, int dir, const char *path, int dir2, const char *path2)
{
    char one[PATH_MAX], two[PATH_MAX], line[2 * PATH_MAX + 64];
    if (!count)
        return PROCEED;
    int was = errno;
    whole_path(dir, path, one);
    two[0] = 0;
    if (path2)
        whole_path(dir2, path2, two);
    errno = was;
    if (!is_below(one) && !(path2 && is_below(two)))
        return PROCEED;
    long n = __sync_add_and_fetch(count, 1);
    if (log_fd >= 0) {
        int length = snprintf(line, sizeof line, "%ld %s %d %s%s%s\n", n, name, kind, one, path2 ? " -> " : "", two);
        raw(SYS_write, log_fd, (long)line, length, 0, 0);
        errno = was;
    }
    if (!at || n < at || (n > at && !on))
        return PROCEED;
    if (after)
        return KILL_AFTER;
    if (shorten)
        return kind & WRITES ? HALF : PROCEED;
    if (what < 0) {
        die(-what);
        return PROCEED;
    }
    int full = what == ENOSPC || what == EDQUOT;
    if (kind & LOCKS) {
        if (on)
            return PROCEED;
        errno = ENOLCK;
        return -1;
    }
    if (on && full && (!(kind & TAKES_SPACE) || kind & SYNCS))
        return PROCEED; /* a full disk lets files be removed, and what could be written be synced */
    if (kind & READS && full)
        return PROCEED;
    if (on && full && n == at && kind & WRITES)
        return HALF;
    errno = what;
    return -1;
}

#define AROUND(...) \
    int fate = point(__VA_ARGS__); \
    if (fate < 0) \
        return -1
#define RETURN(call) \
    do { \
        __auto_type result = (call); \
        if (fate == KILL_AFTER) \
            die(SIGKILL); \
        return result; \
    } while (0)

static int open_at(int dir, const char *path, int flags, mode_t mode)
{
    int kind = flags & O_CREAT ? TAKES_SPACE : CHANGES;
    if (!(flags & (O_CREAT | O_WRONLY | O_RDWR | O_TRUNC))) {
        if (!reads)
            return raw(SYS_openat, dir, (long)path, flags, mode, 0);
        kind = READS;
    }
    AROUND(kind == READS ? "read" : "open", kind, dir, path, 0, NULL);
    RETURN((int)raw(SYS_openat, dir, (long)path, flags, mode, 0));
}

#define MODE(flags) \
    mode_t mode = 0; \
    if ((flags) & (O_CREAT | __O_TMPFILE)) { \
        va_list rest; \
        va_start(rest, flags); \
        mode = va_arg(rest, int); \
        va_end(rest); \
    }

int open(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return open_at(AT_FDCWD, path, flags, mode); }
int openat(int dir, const char *path, int flags, ...) { MODE(flags) return open_at(dir, path, flags, mode); }
int openat64(int dir, const char *path, int flags, ...) { MODE(flags) return open_at(dir, path, flags, mode); }
int __open_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __open64_2(const char *path, int flags) { return open_at(AT_FDCWD, path, flags, 0); }
int __openat_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }
int __openat64_2(int dir, const char *path, int flags) { return open_at(dir, path, flags, 0); }
int creat(const char *path, mode_t mode) { return open_at(AT_FDCWD, path, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

ssize_t write(int fd, const void *data, size_t size)
{
    AROUND("write", TAKES_SPACE | WRITES, fd, NULL, 0, NULL);
    if (fate == HALF && size > 1)
        size /= 2;
    RETURN((ssize_t)raw(SYS_write, fd, (long)data, size, 0, 0));
}

ssize_t pwrite64(int fd, const void *data, size_t size, off64_t offset)
{
    AROUND("pwrite", TAKES_SPACE | WRITES, fd, NULL, 0, NULL);
    if (fate == HALF && size > 1)
        size /= 2;
    RETURN((ssize_t)raw(SYS_pwrite64, fd, (long)data, size, offset, 0));
}
ssize_t pwrite(int fd, const void *data, size_t size, off_t offset) { return pwrite64(fd, data, size, offset); }

ssize_t writev(int fd, const struct iovec *pieces, int n)
{
    AROUND("writev", TAKES_SPACE | WRITES, fd, NULL, 0, NULL);
    if (fate == HALF && n > 1)
        n /= 2;
    RETURN((ssize_t)raw(SYS_writev, fd, (long)pieces, n, 0, 0));
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags)
{
    AROUND("copy_file_range", TAKES_SPACE | WRITES, out, NULL, 0, NULL);
    if (fate == HALF && size > 1)
        size /= 2;
    REAL("copy_file_range", ssize_t, int, off64_t *, int, off64_t *, size_t, unsigned);
    RETURN(real(in, from, out, to, size, flags));
}

ssize_t sendfile64(int out, int in, off64_t *offset, size_t size)
{
    AROUND("sendfile", TAKES_SPACE | WRITES, out, NULL, 0, NULL);
    if (fate == HALF && size > 1)
        size = 1;
    RETURN((ssize_t)raw(SYS_sendfile, out, in, (long)offset, size, 0));
}
ssize_t sendfile(int out, int in, off_t *offset, size_t size) { return sendfile64(out, in, offset, size); }

static int rename_at(int dir, const char *old, int dir2, const char *new, unsigned flags)
{
    AROUND(flags & EXCHANGE ? "exchange" : "rename", CHANGES, dir, old, dir2, new);
    if (flags & EXCHANGE && no_exchange) {
        if (fate == KILL_AFTER)
            die(SIGKILL);
        errno = EINVAL;
        return -1;
    }
    RETURN((int)raw(SYS_renameat2, dir, (long)old, dir2, (long)new, flags));
}
int rename(const char *old, const char *new) { return rename_at(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int dir, const char *old, int dir2, const char *new) { return rename_at(dir, old, dir2, new, 0); }
int renameat2(int dir, const char *old, int dir2, const char *new, unsigned flags)
{
    return rename_at(dir, old, dir2, new, flags);
}

int linkat(int dir, const char *old, int dir2, const char *new, int flags)
{
    AROUND("link", TAKES_SPACE, dir, old, dir2, new);
    RETURN((int)raw(SYS_linkat, dir, (long)old, dir2, (long)new, flags));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }

int symlinkat(const char *target, int dir, const char *path)
{
    AROUND("symlink", TAKES_SPACE, dir, path, 0, NULL);
    RETURN((int)raw(SYS_symlinkat, (long)target, dir, (long)path, 0, 0));
}
int symlink(const char *target, const char *path) { return symlinkat(target, AT_FDCWD, path); }

int unlinkat(int dir, const char *path, int flags)
{
    AROUND(flags & AT_REMOVEDIR ? "rmdir" : "unlink", CHANGES, dir, path, 0, NULL);
    RETURN((int)raw(SYS_unlinkat, dir, (long)path, flags, 0, 0));
}
int unlink(const char *path) { return unlinkat(AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinkat(AT_FDCWD, path, AT_REMOVEDIR); }

int mkdirat(int dir, const char *path, mode_t mode)
{
    AROUND("mkdir", TAKES_SPACE, dir, path, 0, NULL);
    RETURN((int)raw(SYS_mkdirat, dir, (long)path, mode, 0, 0));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int chmod(const char *path, mode_t mode)
{
    AROUND("chmod", CHANGES, AT_FDCWD, path, 0, NULL);
    RETURN((int)raw(SYS_fchmodat, AT_FDCWD, (long)path, mode, 0, 0));
}
int fchmodat(int dir, const char *path, mode_t mode, int flags)
{
    AROUND("chmod", CHANGES, dir, path, 0, NULL);
    REAL("fchmodat", int, int, const char *, mode_t, int);
    RETURN(real(dir, path, mode, flags));
}
int fchmod(int fd, mode_t mode)
{
    AROUND("fchmod", CHANGES, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_fchmod, fd, mode, 0, 0, 0));
}

int utimensat(int dir, const char *path, const struct timespec times[2], int flags)
{
    AROUND("utimens", CHANGES, dir, path, 0, NULL);
    RETURN((int)raw(SYS_utimensat, dir, (long)path, (long)times, flags, 0));
}
int futimens(int fd, const struct timespec times[2])
{
    AROUND("utimens", CHANGES, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_utimensat, fd, 0, (long)times, 0, 0));
}

int ftruncate64(int fd, off64_t size)
{
    AROUND("truncate", CHANGES, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_ftruncate, fd, size, 0, 0, 0));
}
int ftruncate(int fd, off_t size) { return ftruncate64(fd, size); }
int truncate64(const char *path, off64_t size)
{
    AROUND("truncate", CHANGES, AT_FDCWD, path, 0, NULL);
    RETURN((int)raw(SYS_truncate, (long)path, size, 0, 0, 0));
}
int truncate(const char *path, off_t size) { return truncate64(path, size); }
int fallocate64(int fd, int mode, off64_t offset, off64_t size)
{
    AROUND("fallocate", TAKES_SPACE, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_fallocate, fd, mode, offset, size, 0));
}
int fallocate(int fd, int mode, off_t offset, off_t size) { return fallocate64(fd, mode, offset, size); }

int fsync(int fd)
{
    AROUND("fsync", SYNCS | TAKES_SPACE, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_fsync, fd, 0, 0, 0, 0));
}
int fdatasync(int fd)
{
    AROUND("fdatasync", SYNCS | TAKES_SPACE, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_fdatasync, fd, 0, 0, 0, 0));
}
int syncfs(int fd)
{
    AROUND("syncfs", SYNCS | TAKES_SPACE, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_syncfs, fd, 0, 0, 0, 0));
}

int ioctl(int fd, unsigned long request, ...)
{
    va_list rest;
    va_start(rest, request);
    long argument = va_arg(rest, long);
    va_end(rest);
    if (request != FICLONE && request != FICLONERANGE)
        return raw(SYS_ioctl, fd, request, argument, 0, 0);
    AROUND("clone", TAKES_SPACE, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_ioctl, fd, request, argument, 0, 0));
}

int flock(int fd, int how)
{
    AROUND("flock", LOCKS, fd, NULL, 0, NULL);
    RETURN((int)raw(SYS_flock, fd, how, 0, 0, 0));
}

long syscall(long number, ...)
{
    long a[6];
    va_list rest;
    va_start(rest, number);
    for (int i = 0; i < 6; i++)
        a[i] = va_arg(rest, long);
    va_end(rest);
    if (number == SYS_renameat2)
        return rename_at(a[0], (const char *)a[1], a[2], (const char *)a[3], a[4]);
    REAL("syscall", long, long, long, long, long, long, long, long);
    return real(number, a[0], a[1], a[2], a[3], a[4], a[5]);
}
