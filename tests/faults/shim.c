/* Counts the calls by which a tree of processes changes one folder, and lets one of them fail.

   Preloaded (LD_PRELOAD) it stands before the C library. Each call below that concerns a path or a descriptor under
   FAULTS_DIR, and each that starts a process, gets the next number of a counter that all processes share. The call of
   the armed number fails as it is told to. All calls are logged, in one write each: a line of fields between tabs

       number  process  call  result  errno  fault  flags  offset  bytes  path  other path

   and then, with FAULTS_BYTES, as many bytes as the line says: what a write has written. Without FAULTS_DIR nothing
   happens. `faults_arm` reads the environment again: a process that is forked gets a folder of its own by it. */

#define _GNU_SOURCE
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <spawn.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum fault { NONE, ERROR, SHORT, FULL, BEFORE, AFTER };

/* What all processes share. full: whether the disk is, from the armed call on. */
struct shared {
    _Atomic uint64_t count;
    uint64_t armed, fault, error;
    _Atomic uint64_t full;
};

static struct shared *shared;
static char folder[PATH_MAX];
static size_t folder_length;
static int log_file = -1, with_bytes;

/* One call on its way. */
struct call {
    const char *name;
    uint64_t number;
    enum fault fault;
    int error, flags;
    long offset;
    char path[2 * PATH_MAX], other[2 * PATH_MAX];
};

static int open_log(void) {
    int low = syscall(SYS_openat, AT_FDCWD, getenv("FAULTS_LOG"), O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0666);
    int high = syscall(SYS_fcntl, low, F_DUPFD_CLOEXEC, 900); /* out of the way of those who count descriptors */
    if (high >= 0)
        syscall(SYS_close, low);
    return high >= 0 ? high : low;
}

__attribute__((visibility("default"))) void faults_arm(void) {
    const char *dir = getenv("FAULTS_DIR"), *state = getenv("FAULTS_STATE"), *log = getenv("FAULTS_LOG");
    if (log_file >= 0)
        syscall(SYS_close, log_file);
    if (shared)
        munmap(shared, sizeof *shared);
    shared = NULL;
    log_file = -1;
    if (!dir || !state || !log)
        return;
    int file = syscall(SYS_openat, AT_FDCWD, state, O_RDWR | O_CLOEXEC, 0);
    log_file = open_log();
    if (file < 0 || log_file < 0)
        return;
    void *memory = (void *)syscall(SYS_mmap, NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED, file, 0);
    syscall(SYS_close, file);
    if (memory == MAP_FAILED)
        return;
    folder_length = strlen(strncpy(folder, dir, PATH_MAX - 1));
    with_bytes = getenv("FAULTS_BYTES") != NULL;
    shared = memory;
}

__attribute__((constructor)) static void begin(void) { faults_arm(); }

/* ---- Paths */

static int inside(const char *path) {
    return !strncmp(path, folder, folder_length) && (path[folder_length] == '/' || !path[folder_length]);
}

static int of_descriptor(int descriptor, char *path) {
    char link[64];
    snprintf(link, sizeof link, "/proc/self/fd/%d", descriptor);
    long length = syscall(SYS_readlinkat, AT_FDCWD, link, path, PATH_MAX - 1);
    path[length < 0 ? 0 : length] = 0;
    return length >= 0;
}

/* A path as it is written, made absolute; "." and empty parts are left out, and ".." takes the part before it. */
static void absolute(int at, const char *given, char *path) {
    char whole[2 * PATH_MAX];
    path[0] = 0;
    if (!given)
        return;
    if (given[0] == '/')
        snprintf(whole, sizeof whole, "%s", given);
    else {
        char start[PATH_MAX] = "";
        if (at == AT_FDCWD)
            syscall(SYS_getcwd, start, sizeof start);
        else
            of_descriptor(at, start);
        snprintf(whole, sizeof whole, "%s/%s", start, given);
    }
    size_t end = 0;
    for (char *rest = whole, *part; (part = strsep(&rest, "/"));) {
        if (!*part || !strcmp(part, "."))
            continue;
        if (!strcmp(part, "..")) {
            while (end && path[--end] != '/')
                ;
        } else
            end += sprintf(path + end, "/%s", part);
        path[end] = 0;
    }
}

/* ---- A call: counted, refused if it is its turn, logged */

static int counted(struct call *call) {
    if (!shared)
        return 0;
    call->number = atomic_fetch_add(&shared->count, 1);
    call->fault = call->number == shared->armed ? shared->fault : NONE;
    call->error = shared->error;
    return 1;
}

static int of_path(struct call *call, const char *name, int at, const char *path) {
    call->name = name;
    call->flags = 0, call->offset = -1;
    call->other[0] = 0;
    if (!shared)
        return 0;
    absolute(at, path, call->path);
    return inside(call->path) && counted(call);
}

static int of_file(struct call *call, const char *name, int descriptor) {
    call->name = name;
    call->flags = 0, call->offset = -1;
    call->other[0] = 0;
    return shared && of_descriptor(descriptor, call->path) && inside(call->path) && counted(call);
}

/* A file that is locked or mapped: what it is short of is no room on a disk. */
static int of_file_short(struct call *call, const char *name, int descriptor, int error) {
    int counts = of_file(call, name, descriptor);
    if (counts && call->error == ENOSPC)
        call->error = error;
    return counts;
}

static int of_process(struct call *call, const char *name, const char *path) {
    call->name = name;
    call->flags = 0, call->offset = -1;
    call->other[0] = 0;
    if (!shared)
        return 0;
    snprintf(call->path, sizeof call->path, "%s", path ? path : "");
    int counts = counted(call);
    call->error = call->error == ENOSPC ? ENOMEM : EAGAIN; /* a process needs no disk */
    return counts;
}

static void note(struct call *call, long result, const void *bytes, size_t length) {
    int error = errno;
    char line[5 * PATH_MAX];
    size_t kept = with_bytes && bytes ? length : 0;
    int size = snprintf(line, sizeof line, "%lu\t%d\t%s\t%ld\t%d\t%d\t%d\t%ld\t%zu\t%s\t%s\n",
                        (unsigned long)call->number, (int)syscall(SYS_getpid), call->name, result,
                        result < 0 ? error : 0, call->fault, call->flags, call->offset, kept, call->path, call->other);
    struct iovec parts[2] = {{line, (size_t)size}, {(void *)bytes, kept}};
    if (syscall(SYS_writev, log_file, parts, kept ? 2 : 1) < 0 && errno == EBADF) { /* closed, before another program */
        log_file = open_log();
        syscall(SYS_writev, log_file, parts, kept ? 2 : 1);
    }
    errno = error;
}

static void die(struct call *call) {
    note(call, -1, NULL, 0);
    syscall(SYS_kill, syscall(SYS_getpid), SIGKILL);
    for (;;)
        pause();
}

/* Whether a call is to be made. needs_room: a full disk refuses it. Otherwise errno says why not. */
static int allowed(struct call *call, int needs_room) {
    if (call->fault == BEFORE)
        die(call);
    int error = call->fault == ERROR ? call->error : 0;
    if (call->fault == FULL)
        atomic_store(&shared->full, 1);
    if (needs_room && shared->full)
        error = ENOSPC;
    if (!error)
        return 1;
    errno = error;
    note(call, -1, NULL, 0);
    return 0;
}

static long made(struct call *call, long result, const void *bytes, size_t length) {
    if (call->fault == AFTER)
        die(call);
    note(call, result, bytes, length);
    return result;
}

#define PLAIN(call, room, action) (allowed(call, room) ? made(call, action, NULL, 0) : -1)

/* ---- Files */

static int opened(const char *name, int at, const char *path, int flags, mode_t mode) {
    struct call call;
    int changes = (flags & O_ACCMODE) != O_RDONLY || flags & (O_CREAT | O_TRUNC);
    if (!changes || !of_path(&call, name, at, path))
        return syscall(SYS_openat, at, path, flags, mode);
    call.flags = flags;
    return PLAIN(&call, flags & (O_CREAT | O_TMPFILE), syscall(SYS_openat, at, path, flags, mode));
}

#define MODE(flags)                                                                                                    \
    mode_t mode = 0;                                                                                                   \
    if ((flags) & (O_CREAT | O_TMPFILE)) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, flags);                                                                                         \
        mode = va_arg(rest, mode_t);                                                                                   \
        va_end(rest);                                                                                                  \
    }

int open(const char *path, int flags, ...) { MODE(flags) return opened("open", AT_FDCWD, path, flags, mode); }
int open64(const char *path, int flags, ...) { MODE(flags) return opened("open", AT_FDCWD, path, flags, mode); }
int openat(int at, const char *path, int flags, ...) { MODE(flags) return opened("open", at, path, flags, mode); }
int openat64(int at, const char *path, int flags, ...) { MODE(flags) return opened("open", at, path, flags, mode); }
int creat(const char *path, mode_t mode) {
    return opened("open", AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}
int creat64(const char *path, mode_t mode) { return creat(path, mode); }

/* offset: -1 for where the file stands. */
static ssize_t written(const char *name, int file, const void *bytes, size_t length, off_t offset) {
    struct call call;
    int counts = of_file(&call, name, file);
    if (counts && (call.fault == SHORT || call.fault == FULL) && length > 1) {
        length /= 2; /* what there was room for */
        if (call.fault == FULL)
            atomic_store(&shared->full, 1);
        call.fault += 100; /* once */
    } else if (counts && !allowed(&call, 1))
        return -1;
    ssize_t result = offset < 0 ? syscall(SYS_write, file, bytes, length)
                                : syscall(SYS_pwrite64, file, bytes, length, offset);
    if (!counts)
        return result;
    if (call.fault > 100)
        call.fault -= 100;
    int error = errno;
    call.offset = offset >= 0 ? offset : syscall(SYS_lseek, file, 0, SEEK_CUR) - (result > 0 ? result : 0);
    errno = error;
    return made(&call, result, bytes, result > 0 ? (size_t)result : 0);
}

ssize_t write(int file, const void *bytes, size_t length) { return written("write", file, bytes, length, -1); }
ssize_t pwrite(int file, const void *bytes, size_t length, off_t at) { return written("write", file, bytes, length, at); }
ssize_t pwrite64(int file, const void *bytes, size_t length, off64_t at) {
    return written("write", file, bytes, length, at);
}
/* The first part alone: those who call it go on with the rest. */
ssize_t writev(int file, const struct iovec *parts, int count) {
    char path[PATH_MAX];
    if (!shared || !of_descriptor(file, path) || !inside(path))
        return syscall(SYS_writev, file, parts, count);
    for (; count && !parts->iov_len; parts++)
        count--;
    return count ? written("write", file, parts->iov_base, parts->iov_len, -1) : 0;
}

static int cut(int file, off_t length) {
    struct call call;
    if (!of_file(&call, "ftruncate", file))
        return syscall(SYS_ftruncate, file, length);
    call.offset = length;
    return PLAIN(&call, 0, syscall(SYS_ftruncate, file, length));
}
int ftruncate(int file, off_t length) { return cut(file, length); }
int ftruncate64(int file, off64_t length) { return cut(file, length); }

int fsync(int file) {
    struct call call;
    return of_file(&call, "fsync", file) ? PLAIN(&call, 0, syscall(SYS_fsync, file)) : syscall(SYS_fsync, file);
}
int fdatasync(int file) {
    struct call call;
    return of_file(&call, "fsync", file) ? PLAIN(&call, 0, syscall(SYS_fdatasync, file)) : syscall(SYS_fdatasync, file);
}

static void *mapped(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    struct call call;
    if (file < 0 || !of_file_short(&call, "mmap", file, ENOMEM))
        return (void *)syscall(SYS_mmap, at, length, protection, flags, file, offset);
    return (void *)PLAIN(&call, 0, syscall(SYS_mmap, at, length, protection, flags, file, offset));
}
void *mmap(void *at, size_t length, int protection, int flags, int file, off_t offset) {
    return mapped(at, length, protection, flags, file, offset);
}
void *mmap64(void *at, size_t length, int protection, int flags, int file, off64_t offset) {
    return mapped(at, length, protection, flags, file, offset);
}

/* ---- Names */

static int renamed(int from_at, const char *from, int to_at, const char *to, unsigned flags) {
    struct call call;
    int counts = of_path(&call, "rename", to_at, to) || of_path(&call, "rename", from_at, from);
    if (!counts)
        return syscall(SYS_renameat2, from_at, from, to_at, to, flags);
    absolute(from_at, from, call.path);
    absolute(to_at, to, call.other);
    return PLAIN(&call, 0, syscall(SYS_renameat2, from_at, from, to_at, to, flags));
}
int rename(const char *from, const char *to) { return renamed(AT_FDCWD, from, AT_FDCWD, to, 0); }
int renameat(int a, const char *from, int b, const char *to) { return renamed(a, from, b, to, 0); }
int renameat2(int a, const char *from, int b, const char *to, unsigned flags) { return renamed(a, from, b, to, flags); }

static int unlinked(const char *name, int at, const char *path, int flags) {
    struct call call;
    if (!of_path(&call, name, at, path))
        return syscall(SYS_unlinkat, at, path, flags);
    return PLAIN(&call, 0, syscall(SYS_unlinkat, at, path, flags));
}
int unlink(const char *path) { return unlinked("unlink", AT_FDCWD, path, 0); }
int rmdir(const char *path) { return unlinked("rmdir", AT_FDCWD, path, AT_REMOVEDIR); }
int unlinkat(int at, const char *path, int flags) {
    return unlinked(flags & AT_REMOVEDIR ? "rmdir" : "unlink", at, path, flags);
}

int mkdirat(int at, const char *path, mode_t mode) {
    struct call call;
    if (!of_path(&call, "mkdir", at, path))
        return syscall(SYS_mkdirat, at, path, mode);
    return PLAIN(&call, 1, syscall(SYS_mkdirat, at, path, mode));
}
int mkdir(const char *path, mode_t mode) { return mkdirat(AT_FDCWD, path, mode); }

int linkat(int from_at, const char *from, int at, const char *path, int flags) {
    struct call call;
    if (!of_path(&call, "link", at, path))
        return syscall(SYS_linkat, from_at, from, at, path, flags);
    absolute(from_at, from, call.other);
    return PLAIN(&call, 1, syscall(SYS_linkat, from_at, from, at, path, flags));
}
int link(const char *from, const char *path) { return linkat(AT_FDCWD, from, AT_FDCWD, path, 0); }
int symlinkat(const char *from, int at, const char *path) {
    struct call call;
    if (!of_path(&call, "symlink", at, path))
        return syscall(SYS_symlinkat, from, at, path);
    return PLAIN(&call, 1, syscall(SYS_symlinkat, from, at, path));
}
int symlink(const char *from, const char *path) { return symlinkat(from, AT_FDCWD, path); }

/* ---- Locks */

int flock(int file, int how) {
    struct call call;
    if (!of_file_short(&call, "flock", file, ENOLCK))
        return syscall(SYS_flock, file, how);
    return PLAIN(&call, 0, syscall(SYS_flock, file, how));
}

static int controlled(int file, int command, void *argument) {
    struct call call;
    int locks = command == F_SETLK || command == F_SETLKW || command == F_OFD_SETLK || command == F_OFD_SETLKW;
    if (!locks || !of_file_short(&call, "fcntl", file, ENOLCK))
        return syscall(SYS_fcntl, file, command, argument);
    return PLAIN(&call, 0, syscall(SYS_fcntl, file, command, argument));
}

#define CONTROL(name)                                                                                                  \
    int name(int file, int command, ...) {                                                                             \
        va_list rest;                                                                                                  \
        va_start(rest, command);                                                                                       \
        void *argument = va_arg(rest, void *);                                                                         \
        va_end(rest);                                                                                                  \
        return controlled(file, command, argument);                                                                    \
    }
CONTROL(fcntl)
CONTROL(fcntl64)

/* ---- Processes */

pid_t fork(void) {
    pid_t (*next)(void) = (pid_t (*)(void))dlsym(RTLD_NEXT, "fork");
    struct call call;
    if (!of_process(&call, "fork", ""))
        return next();
    if (!allowed(&call, 0))
        return -1;
    pid_t child = next();
    return child ? (pid_t)made(&call, child, NULL, 0) : 0;
}
pid_t vfork(void) { return fork(); } /* it could not return here: parent and child would share this frame */

int execve(const char *path, char *const arguments[], char *const environment[]) {
    struct call call;
    if (!of_process(&call, "exec", path))
        return syscall(SYS_execve, path, arguments, environment);
    if (!allowed(&call, 0))
        return -1;
    if (call.fault == AFTER) /* there is none: the process is another then */
        die(&call);
    note(&call, 0, NULL, 0);
    return syscall(SYS_execve, path, arguments, environment);
}
int execv(const char *path, char *const arguments[]) { return execve(path, arguments, environ); }

#define SPAWN(function)                                                                                                \
    int function(pid_t *child, const char *path, const posix_spawn_file_actions_t *actions,                            \
                 const posix_spawnattr_t *attributes, char *const arguments[], char *const environment[]) {            \
        int (*next)(pid_t *, const char *, const posix_spawn_file_actions_t *, const posix_spawnattr_t *,              \
                    char *const[], char *const[]) = dlsym(RTLD_NEXT, #function);                                       \
        struct call call;                                                                                              \
        if (!of_process(&call, "spawn", path))                                                                         \
            return next(child, path, actions, attributes, arguments, environment);                                     \
        if (!allowed(&call, 0))                                                                                        \
            return errno;                                                                                              \
        return (int)made(&call, next(child, path, actions, attributes, arguments, environment), NULL, 0);              \
    }
SPAWN(posix_spawn)
SPAWN(posix_spawnp)
