/* A disk that fails where it is told to, for a program that knows nothing of it.
 *
 *     cc -O2 -shared -fPIC -o faults.so faults.c
 *     LD_PRELOAD=./faults.so FAULTS_BELOW=/tmp/work FAULTS_LOG=/tmp/calls trainer run ..
 *
 * The calls by which a process changes files below a folder are counted from 1, in the order in which they come:
 * opening for writing, writing, cutting, syncing, renaming, making and removing names, locking. One of them fails.
 *
 * FAULTS_BELOW   the folder, an absolute path without links
 * FAULTS_LOG     a file to which each call is appended: number, name, path below the folder, bytes, and of a renaming the
 *                name that goes
 * FAULTS_LOOKS   set: what only looks is counted too (opening for reading, reading, listing, asking for the state of)
 * FAULTS_AT      the number of the call that fails
 * FAULTS_HOW     how it fails:
 *     ENOSPC ..  with this error, once, and without having done anything (any name of `ERRORS` below)
 *     ENOSPC+    from here on: every call that would take room (or with another error: every call)
 *     EIO!       it is done, and says that it failed
 *     short      of a write, only half is written, which is what it says
 *     before     the process is killed before the call
 *     torn       of a write, half is written, and the process is killed
 *     after      the process is killed after the call
 *
 * Programs that this one starts are left alone. The functions of the C library are replaced, so a program that makes system calls by itself escapes: `run.py --strace`
 * compares what is counted with what the kernel sees. Linux only.
 */
#define _GNU_SOURCE
#include <dirent.h>
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum how { NOTHING, FAIL, FAIL_ON, FAIL_AFTER, SHORT, BEFORE, TORN, AFTER };

static const struct { const char *name; int number; } ERRORS[] = {
    {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EIO", EIO},       {"EACCES", EACCES},   {"EPERM", EPERM},
    {"EROFS", EROFS},   {"EINTR", EINTR},   {"EINVAL", EINVAL}, {"ENOTSUP", ENOTSUP}, {"ENOSYS", ENOSYS},
    {"EMFILE", EMFILE}, {"ENOLCK", ENOLCK}, {"ESTALE", ESTALE}, {"EBUSY", EBUSY},     {"ENOENT", ENOENT},
};

static char below[PATH_MAX];
static size_t below_length;
static int log_file = -1;
static int counts_looks;
static long at;
static enum how how;
static int error;
static atomic_long counted;

static void stop(const char *why) {
    fprintf(stderr, "faults: %s\n", why);
    _exit(99);
}

__attribute__((constructor)) static void begin(void) {
    const char *folder = getenv("FAULTS_BELOW"), *log = getenv("FAULTS_LOG");
    const char *number = getenv("FAULTS_AT"), *word = getenv("FAULTS_HOW");
    if (!folder) return;
    /* This process alone: what it starts has its own numbers. */
    unsetenv("LD_PRELOAD");
    if (folder[0] != '/' || strlen(folder) >= sizeof below) stop("FAULTS_BELOW is no absolute path");
    strcpy(below, folder);
    below_length = strlen(below);
    counts_looks = getenv("FAULTS_LOOKS") != NULL;
    if (log) {
        log_file = syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
        if (log_file < 0) stop("FAULTS_LOG cannot be opened");
        /* Out of the way of a program that counts its open files. */
        int high = syscall(SYS_fcntl, log_file, F_DUPFD_CLOEXEC, 500);
        if (high >= 0) {
            syscall(SYS_close, log_file);
            log_file = high;
        }
    }
    if (!number || !word) return;
    at = strtol(number, NULL, 10);
    if (!strcmp(word, "before")) how = BEFORE;
    else if (!strcmp(word, "torn")) how = TORN;
    else if (!strcmp(word, "after")) how = AFTER;
    else if (!strcmp(word, "short")) how = SHORT;
    for (size_t i = 0; how == NOTHING && i < sizeof ERRORS / sizeof *ERRORS; i++) {
        size_t length = strlen(ERRORS[i].name);
        if (strncmp(word, ERRORS[i].name, length)) continue;
        error = ERRORS[i].number;
        if (!word[length]) how = FAIL;
        else if (!strcmp(word + length, "+")) how = FAIL_ON;
        else if (!strcmp(word + length, "!")) how = FAIL_AFTER;
    }
    if (how == NOTHING) stop("FAULTS_HOW is none that is known");
}

/* The whole path of a name, or of an open file where there is no name. */
static int whole(int folder, const char *name, char *path) {
    size_t length = 0;
    if (!name || name[0] != '/') {
        if (name && folder == AT_FDCWD) {
            if (syscall(SYS_getcwd, path, PATH_MAX) < 0) return 0;
            length = strlen(path);
        } else {
            char link[64];
            snprintf(link, sizeof link, "/proc/self/fd/%d", folder);
            long found = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
            if (found < 0) return 0;
            path[length = found] = 0;
        }
    }
    if (name && length + strlen(name) + 2 > PATH_MAX) return 0;
    if (name && *name) sprintf(path + length, "%s%s", length ? "/" : "", name);
    return 1;
}

struct call {
    int counts, strikes;
};

/* Counts a call, and says whether it is the one that fails. `takes_room`: a full disk refuses it. `old`: what is
 * renamed. */
static struct call call_of(const char *kind, int takes_room, int folder, const char *name, long bytes,
                           const char *old) {
    struct call call = {0, 0};
    char path[PATH_MAX], line[2 * PATH_MAX + 100];
    int before = errno;
    if (below_length && whole(folder, name, path) && !strncmp(path, below, below_length) &&
        (path[below_length] == '/' || !path[below_length])) {
        long number = atomic_fetch_add(&counted, 1) + 1;
        call.counts = 1;
        call.strikes = how && (number == at || (how == FAIL_ON && number > at && (takes_room || error != ENOSPC)));
        if (log_file >= 0) {
            const char *inside = path[below_length] ? path + below_length + 1 : ".";
            int length = snprintf(line, sizeof line, "%ld\t%s\t%s\t%ld\t%s\n", number, kind, inside, bytes, old);
            syscall(SYS_write, log_file, line, length);
        }
    }
    errno = before;
    return call;
}

static struct call call(const char *kind, int takes_room, int folder, const char *name, long bytes) {
    return call_of(kind, takes_room, folder, name, bytes, "");
}

static void die(void) {
    syscall(SYS_kill, getpid(), SIGKILL);
    for (;;) pause();
}

/* What stands before and after the call itself; `FAILED` is what the call returns where it failed. */
#define BEFORE_CALL(c, FAILED)                                                                                         \
    if ((c).strikes && (how == FAIL || how == FAIL_ON)) {                                                              \
        errno = error;                                                                                                 \
        return FAILED;                                                                                                 \
    }                                                                                                                  \
    if ((c).strikes && how == BEFORE) die();
#define AFTER_CALL(c, FAILED)                                                                                          \
    if ((c).strikes && (how == AFTER || how == TORN)) die();                                                           \
    if ((c).strikes && how == FAIL_AFTER) {                                                                            \
        errno = error;                                                                                                 \
        return FAILED;                                                                                                 \
    }

#define CHANGE(kind, takes_room, folder, name, bytes, made)                                                            \
    do {                                                                                                               \
        struct call c = call(kind, takes_room, folder, name, bytes);                                                   \
        BEFORE_CALL(c, -1)                                                                                             \
        long result = made;                                                                                            \
        AFTER_CALL(c, -1)                                                                                              \
        return result;                                                                                                 \
    } while (0)

#define LOOK(kind, folder, name, FAILED, made)                                                                         \
    do {                                                                                                               \
        struct call c = {0, 0};                                                                                        \
        if (counts_looks) c = call(kind, 0, folder, name, 0);                                                          \
        BEFORE_CALL(c, FAILED)                                                                                         \
        __typeof__(made) result = made;                                                                                \
        AFTER_CALL(c, FAILED)                                                                                          \
        return result;                                                                                                 \
    } while (0)

#define NEXT(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

static int opened(int folder, const char *name, int flags, mode_t mode) {
    int changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    if (changes) CHANGE("open", 1, folder, name, 0, syscall(SYS_openat, folder, name, flags, mode));
    LOOK("open-to-read", folder, name, -1, (int)syscall(SYS_openat, folder, name, flags, mode));
}

static int has_mode(int flags) { return flags & O_CREAT || (flags & O_TMPFILE) == O_TMPFILE; }

#define OPEN(function, folder, parameters, last)                                                                       \
    int function parameters {                                                                                          \
        mode_t mode = 0;                                                                                               \
        if (has_mode(flags)) {                                                                                         \
            va_list more;                                                                                              \
            va_start(more, last);                                                                                      \
            mode = va_arg(more, mode_t);                                                                               \
            va_end(more);                                                                                              \
        }                                                                                                              \
        return opened(folder, name, flags, mode);                                                                      \
    }
OPEN(open, AT_FDCWD, (const char *name, int flags, ...), flags)
OPEN(open64, AT_FDCWD, (const char *name, int flags, ...), flags)
OPEN(openat, folder, (int folder, const char *name, int flags, ...), flags)
OPEN(openat64, folder, (int folder, const char *name, int flags, ...), flags)

int creat(const char *name, mode_t mode) { return opened(AT_FDCWD, name, O_CREAT | O_WRONLY | O_TRUNC, mode); }
int creat64(const char *name, mode_t mode) { return creat(name, mode); }

/* Of a write that is cut short, so many bytes are written. */
static size_t half(struct call c, size_t bytes) {
    return c.strikes && (how == SHORT || how == TORN) && bytes > 1 ? bytes / 2 : bytes;
}

ssize_t write(int file, const void *data, size_t bytes) {
    struct call c = call("write", 1, file, NULL, bytes);
    BEFORE_CALL(c, -1)
    ssize_t result = syscall(SYS_write, file, data, half(c, bytes));
    AFTER_CALL(c, -1)
    return result;
}

static ssize_t written_at(int file, const void *data, size_t bytes, off64_t place) {
    struct call c = call("write", 1, file, NULL, bytes);
    BEFORE_CALL(c, -1)
    ssize_t result = syscall(SYS_pwrite64, file, data, half(c, bytes), place);
    AFTER_CALL(c, -1)
    return result;
}
ssize_t pwrite(int file, const void *data, size_t bytes, off_t place) { return written_at(file, data, bytes, place); }
ssize_t pwrite64(int file, const void *data, size_t bytes, off64_t place) {
    return written_at(file, data, bytes, place);
}

ssize_t writev(int file, const struct iovec *parts, int count) {
    size_t bytes = 0;
    for (int i = 0; i < count; i++) bytes += parts[i].iov_len;
    struct call c = call("write", 1, file, NULL, bytes);
    BEFORE_CALL(c, -1)
    /* Cut short, it writes the first part alone. */
    int cut = c.strikes && (how == SHORT || how == TORN) && count > 1;
    ssize_t result = syscall(SYS_writev, file, parts, cut ? 1 : count);
    AFTER_CALL(c, -1)
    return result;
}

static const char *sync_of(int file) {
    struct stat64 found;
    return !NEXT(fstat64)(file, &found) && S_ISDIR(found.st_mode) ? "sync-folder" : "sync";
}
int fsync(int file) { CHANGE(sync_of(file), 1, file, NULL, 0, syscall(SYS_fsync, file)); }
int fdatasync(int file) { CHANGE(sync_of(file), 1, file, NULL, 0, syscall(SYS_fdatasync, file)); }
int ftruncate(int file, off_t length) { CHANGE("cut", 1, file, NULL, length, syscall(SYS_ftruncate, file, length)); }
int ftruncate64(int file, off64_t length) {
    CHANGE("cut", 1, file, NULL, length, syscall(SYS_ftruncate, file, length));
}
int flock(int file, int operation) { CHANGE("lock", 0, file, NULL, 0, syscall(SYS_flock, file, operation)); }

static int renamed(int from, const char *old, int to, const char *new, unsigned flags) {
    /* Counted by where it goes, which is what appears. */
    struct call c = call_of("rename", 0, to, new, 0, strrchr(old, '/') ? strrchr(old, '/') + 1 : old);
    BEFORE_CALL(c, -1)
    int result = syscall(SYS_renameat2, from, old, to, new, flags);
    AFTER_CALL(c, -1)
    return result;
}
int rename(const char *old, const char *new) { return renamed(AT_FDCWD, old, AT_FDCWD, new, 0); }
int renameat(int from, const char *old, int to, const char *new) { return renamed(from, old, to, new, 0); }
int renameat2(int from, const char *old, int to, const char *new, unsigned flags) {
    return renamed(from, old, to, new, flags);
}

int mkdirat(int folder, const char *name, mode_t mode) {
    CHANGE("mkdir", 1, folder, name, 0, syscall(SYS_mkdirat, folder, name, mode));
}
int mkdir(const char *name, mode_t mode) { return mkdirat(AT_FDCWD, name, mode); }

int unlinkat(int folder, const char *name, int flags) {
    CHANGE(flags & AT_REMOVEDIR ? "rmdir" : "unlink", 0, folder, name, 0,
           syscall(SYS_unlinkat, folder, name, flags));
}
int unlink(const char *name) { return unlinkat(AT_FDCWD, name, 0); }
int rmdir(const char *name) { return unlinkat(AT_FDCWD, name, AT_REMOVEDIR); }

int linkat(int from, const char *old, int to, const char *new, int flags) {
    CHANGE("link", 1, to, new, 0, syscall(SYS_linkat, from, old, to, new, flags));
}
int link(const char *old, const char *new) { return linkat(AT_FDCWD, old, AT_FDCWD, new, 0); }
int symlinkat(const char *target, int folder, const char *name) {
    CHANGE("link", 1, folder, name, 0, syscall(SYS_symlinkat, target, folder, name));
}
int symlink(const char *target, const char *name) { return symlinkat(target, AT_FDCWD, name); }

int fchmod(int file, mode_t mode) { CHANGE("chmod", 0, file, NULL, 0, syscall(SYS_fchmod, file, mode)); }
int chmod(const char *name, mode_t mode) {
    CHANGE("chmod", 0, AT_FDCWD, name, 0, syscall(SYS_fchmodat, AT_FDCWD, name, mode));
}

ssize_t copy_file_range(int from, off64_t *here, int to, off64_t *there, size_t bytes, unsigned flags) {
    struct call c = call("write", 1, to, NULL, bytes);
    BEFORE_CALL(c, -1)
    ssize_t result = syscall(SYS_copy_file_range, from, here, to, there, half(c, bytes), flags);
    AFTER_CALL(c, -1)
    return result;
}
ssize_t sendfile64(int to, int from, off64_t *here, size_t bytes) {
    struct call c = call("write", 1, to, NULL, bytes);
    BEFORE_CALL(c, -1)
    ssize_t result = syscall(SYS_sendfile, to, from, here, half(c, bytes));
    AFTER_CALL(c, -1)
    return result;
}
ssize_t sendfile(int to, int from, off_t *here, size_t bytes) { return sendfile64(to, from, here, bytes); }

/* What only looks. */
ssize_t read(int file, void *data, size_t bytes) {
    LOOK("read", file, NULL, -1, (ssize_t)syscall(SYS_read, file, data, bytes));
}
ssize_t pread64(int file, void *data, size_t bytes, off64_t place) {
    LOOK("read", file, NULL, -1, (ssize_t)syscall(SYS_pread64, file, data, bytes, place));
}
/* An empty name means the open file itself. */
static const char *named(const char *name) { return name && *name ? name : NULL; }
int statx(int folder, const char *name, int flags, unsigned mask, struct statx *found) {
    LOOK("stat", folder, named(name), -1, (int)syscall(SYS_statx, folder, name, flags, mask, found));
}
int stat64(const char *name, struct stat64 *found) { LOOK("stat", AT_FDCWD, name, -1, NEXT(stat64)(name, found)); }
int lstat64(const char *name, struct stat64 *found) { LOOK("stat", AT_FDCWD, name, -1, NEXT(lstat64)(name, found)); }
int fstat64(int file, struct stat64 *found) { LOOK("stat", file, NULL, -1, NEXT(fstat64)(file, found)); }
int fstatat64(int folder, const char *name, struct stat64 *found, int flags) {
    LOOK("stat", folder, name, -1, NEXT(fstatat64)(folder, name, found, flags));
}
DIR *opendir(const char *name) { LOOK("list", AT_FDCWD, name, NULL, NEXT(opendir)(name)); }
struct dirent64 *readdir64(DIR *folder) { LOOK("list", dirfd(folder), NULL, NULL, NEXT(readdir64)(folder)); }
