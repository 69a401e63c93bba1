// A FUSE filesystem that passes through to a directory, slowly and faultily as asked: for benchmarks and tests of faults.
//
//   faulty-filesystem ROOT MOUNTPOINT [-o OPTION,...] [fuse options]
//
// Options:
//   delay_us=N       every call that a caller waits for takes N microseconds longer (many calls wait side by side)
//   cache_ms=N       for how long the kernel may keep names and attributes (default 1000, as sshfs and NFS do in spirit)
//   direct_io        reads and writes bypass the page cache: short ones reach the caller as they are
//   rules=FILE       faults to inject, one per line; read again whenever the file is another one (rename a new one over it)
//   log=FILE         a line "OPERATION EFFECT OFFSET PATH" for every fault that was injected
//
// A rule:   OPERATION[,OPERATION...]|*  EFFECT...  [CONDITION...]
//   effects:     errno=EIO          the call fails (a name or a number)
//                short=N            a read or write moves at most N bytes
//                size=N, +N, -N     getattr says this size, or so much more or less than the true one
//                flip=N             the byte at offset N of the file is read with its lowest bit flipped
//                delay_us=N         the call takes this much longer
//   conditions:  name=GLOB          the path from the root, as /dir/file; * matches slashes too
//                from=N to=N        reads, writes, ... that touch a byte of this range (to is exclusive)
//                after=N            not the first N matching calls
//                every=N            only each Nth of the rest
//                times=N            only the first N of those
// Counting is over all the files that match. A name may not hold blanks.

#define _GNU_SOURCE
#define FUSE_USE_VERSION 35
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <fnmatch.h>
#include <fuse.h>
#include <limits.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#define OPERATIONS(X)                                                                                                   \
  X(getattr) X(readlink) X(mknod) X(mkdir) X(unlink) X(rmdir) X(symlink) X(rename) X(link) X(chmod) X(chown) X(truncate) \
  X(open) X(create) X(read) X(write) X(statfs) X(flush) X(release) X(fsync) X(setxattr) X(getxattr) X(listxattr)        \
  X(removexattr) X(opendir) X(readdir) X(fsyncdir) X(utimens) X(fallocate) X(copy_file_range) X(lseek)

#define AS_ENUM(name) OP_##name,
#define AS_NAME(name) #name,
enum operation { OPERATIONS(AS_ENUM) OPERATION_COUNT };
static const char *const operation_names[] = {OPERATIONS(AS_NAME)};

struct rule {
  unsigned long operations;
  int error;
  long short_bytes;
  int size_kind; // 0: leave it, 1: absolute, 2: relative
  long long size;
  long long flip;
  long delay_us;
  char glob[256];
  long long from, to;
  long after, every, times;
  atomic_long matched;
};

// A set of rules is replaced as a whole and never freed: calls under way may still look at the old one.
struct rules {
  int count;
  struct rule list[64];
};

struct verdict {
  int error;
  long short_bytes;
  int size_kind;
  long long size;
  long long flip;
};

static struct {
  char *rules_path, *log_path;
  long delay_us, cache_ms;
  int direct_io;
} settings = {.cache_ms = 1000};

static int root = -1, log_fd = -1;
static _Atomic(struct rules *) current_rules;
static pthread_mutex_t reload_lock = PTHREAD_MUTEX_INITIALIZER;
static struct stat rules_stat;

// --- rules

static const struct { const char *name; int value; } errnos[] = {
    {"EIO", EIO}, {"ENOSPC", ENOSPC}, {"EDQUOT", EDQUOT}, {"EACCES", EACCES}, {"EPERM", EPERM}, {"ENOENT", ENOENT},
    {"ESTALE", ESTALE}, {"ENOTCONN", ENOTCONN}, {"ETIMEDOUT", ETIMEDOUT}, {"EINTR", EINTR}, {"EAGAIN", EAGAIN}, {"EROFS", EROFS},
    {"EOPNOTSUPP", EOPNOTSUPP}, {"ENOSYS", ENOSYS}, {"EXDEV", EXDEV}, {"EINVAL", EINVAL}, {"EFBIG", EFBIG}, {"EMFILE", EMFILE},
    {"ENFILE", ENFILE}, {"ENOMEM", ENOMEM}, {"ENXIO", ENXIO}, {"ENODEV", ENODEV}, {"ENODATA", ENODATA}, {"EEXIST", EEXIST},
    {"ENOTDIR", ENOTDIR}, {"EISDIR", EISDIR}, {"ELOOP", ELOOP}, {"EMLINK", EMLINK}, {"ENAMETOOLONG", ENAMETOOLONG},
    {"EBUSY", EBUSY}, {"ETXTBSY", ETXTBSY}, {"ENOTEMPTY", ENOTEMPTY}, {"EREMOTEIO", EREMOTEIO}, {"EUCLEAN", EUCLEAN}};

static int parse_errno(const char *text) {
  for (size_t i = 0; i < sizeof errnos / sizeof *errnos; i++)
    if (strcmp(text, errnos[i].name) == 0) return errnos[i].value;
  return atoi(text);
}

static int parse_operations(char *text, unsigned long *operations) {
  if (strcmp(text, "*") == 0) {
    *operations = ~0UL;
    return 1;
  }
  char *rest;
  for (char *word = strtok_r(text, ",", &rest); word != NULL; word = strtok_r(NULL, ",", &rest)) {
    int at = 0;
    while (at < OPERATION_COUNT && strcmp(word, operation_names[at]) != 0) at++;
    if (at == OPERATION_COUNT) return 0;
    *operations |= 1UL << at;
  }
  return *operations != 0;
}

static int parse_setting(struct rule *rule, char *word) {
  char *value = strchr(word, '=');
  if (value == NULL) return 0;
  *value++ = '\0';
  if (strcmp(word, "errno") == 0) return (rule->error = parse_errno(value)) > 0;
  if (strcmp(word, "short") == 0) return (rule->short_bytes = atol(value)) >= 0 && *value != '\0';
  if (strcmp(word, "size") == 0) {
    rule->size_kind = *value == '+' || *value == '-' ? 2 : 1;
    rule->size = atoll(value);
    return 1;
  }
  if (strcmp(word, "flip") == 0) return (rule->flip = atoll(value)) >= 0;
  if (strcmp(word, "delay_us") == 0) return (rule->delay_us = atol(value)) >= 0;
  if (strcmp(word, "name") == 0) return snprintf(rule->glob, sizeof rule->glob, "%s", value) < (int)sizeof rule->glob;
  if (strcmp(word, "from") == 0) return (rule->from = atoll(value)) >= 0;
  if (strcmp(word, "to") == 0) return (rule->to = atoll(value)) > 0;
  if (strcmp(word, "after") == 0) return (rule->after = atol(value)) >= 0;
  if (strcmp(word, "every") == 0) return (rule->every = atol(value)) > 0;
  if (strcmp(word, "times") == 0) return (rule->times = atol(value)) >= 0;
  return 0;
}

static int parse_rule(struct rule *rule, char *line) {
  *rule = (struct rule){.short_bytes = -1, .flip = -1, .to = LLONG_MAX, .every = 1, .times = LONG_MAX};
  char *rest;
  char *word = strtok_r(line, " \t", &rest);
  if (word == NULL || !parse_operations(word, &rule->operations)) return 0;
  while ((word = strtok_r(NULL, " \t", &rest)) != NULL)
    if (!parse_setting(rule, word)) return 0;
  return 1;
}

// Whether every line could be read; without that, the rules stay as they were.
static int read_rules(void) {
  FILE *file = fopen(settings.rules_path, "re");
  if (file == NULL) return 0;
  struct rules *rules = calloc(1, sizeof *rules);
  char line[1024];
  while (fgets(line, sizeof line, file) != NULL) {
    line[strcspn(line, "\n")] = '\0';
    char copy[1024];
    strcpy(copy, line);
    if (line[strspn(line, " \t")] == '\0' || line[0] == '#') continue;
    if (rules->count == 64 || !parse_rule(&rules->list[rules->count++], line)) {
      fprintf(stderr, "faulty-filesystem: cannot understand the rule: %s\n", copy);
      if (log_fd >= 0) dprintf(log_fd, "error rule 0 %s\n", copy);
      fclose(file);
      free(rules);
      return 0;
    }
  }
  fstat(fileno(file), &rules_stat);
  fclose(file);
  atomic_store(&current_rules, rules);
  return 1;
}

static struct rules *rules_now(void) {
  if (settings.rules_path == NULL) return NULL;
  struct stat now;
  if (stat(settings.rules_path, &now) == 0) {
    pthread_mutex_lock(&reload_lock);
    if (now.st_ino != rules_stat.st_ino || now.st_mtim.tv_sec != rules_stat.st_mtim.tv_sec ||
        now.st_mtim.tv_nsec != rules_stat.st_mtim.tv_nsec) {
      rules_stat = now; // a file that cannot be understood is complained of once
      read_rules();
    }
    pthread_mutex_unlock(&reload_lock);
  }
  return atomic_load(&current_rules);
}

static void wait_us(long us) {
  struct timespec left = {us / 1000000, us % 1000000 * 1000};
  while (us > 0 && nanosleep(&left, &left) != 0 && errno == EINTR) continue;
}

static int applies(struct rule *rule, enum operation operation, const char *path, long long offset, long long length) {
  if ((rule->operations & 1UL << operation) == 0) return 0;
  if (rule->glob[0] != '\0' && (path == NULL || fnmatch(rule->glob, path, 0) != 0)) return 0;
  if (length >= 0 && (offset >= rule->to || offset + length <= rule->from)) return 0;
  // Every flip counts, not only the one call that covers its byte: but it shows only there.
  if (rule->flip >= 0 && (offset > rule->flip || offset + length <= rule->flip)) return 0;
  long number = atomic_fetch_add(&rule->matched, 1) - rule->after;
  if (number < 0 || (number + 1) % rule->every != 0) return 0;
  return (number + 1) / rule->every <= rule->times;
}

static void note(enum operation operation, const char *effect, long long offset, const char *path) {
  if (log_fd >= 0) dprintf(log_fd, "%s %s %lld %s\n", operation_names[operation], effect, offset < 0 ? 0 : offset, path == NULL ? "" : path);
}

// What is to happen to a call; its delay has passed on return. length < 0: the call is not about a range of bytes.
static struct verdict judge_range(enum operation operation, const char *path, long long offset, long long length) {
  struct verdict verdict = {.short_bytes = -1, .flip = -1};
  long delay = operation == OP_release ? 0 : settings.delay_us;
  struct rules *rules = rules_now();
  for (int at = 0; rules != NULL && at < rules->count; at++) {
    struct rule *rule = &rules->list[at];
    if (!applies(rule, operation, path, offset, length)) continue;
    delay += rule->delay_us;
    if (rule->delay_us > 0) note(operation, "delay", offset, path);
    if (rule->error > 0) verdict.error = rule->error, note(operation, "errno", offset, path);
    if (rule->short_bytes >= 0) verdict.short_bytes = rule->short_bytes, note(operation, "short", offset, path);
    if (rule->size_kind > 0) verdict.size_kind = rule->size_kind, verdict.size = rule->size, note(operation, "size", offset, path);
    if (rule->flip >= 0) verdict.flip = rule->flip, note(operation, "flip", rule->flip, path);
  }
  wait_us(delay);
  return verdict;
}

static int judge(enum operation operation, const char *path) { return judge_range(operation, path, 0, -1).error; }

// --- the filesystem: each call, its verdict, and the same call on the directory below

#define ENTER(name, path) do { int error_ = judge(OP_##name, path); if (error_ > 0) return -error_; } while (0)
#define RESULT(call) ((call) < 0 ? -errno : 0)

static const char *below(const char *path) { return path[1] == '\0' ? "." : path + 1; }

static void full(const char *path, char *buffer, size_t size) { snprintf(buffer, size, "/proc/self/fd/%d/%s", root, below(path)); }

static int fs_getattr(const char *path, struct stat *st, struct fuse_file_info *fi) {
  struct verdict verdict = judge_range(OP_getattr, path, 0, -1);
  if (verdict.error > 0) return -verdict.error;
  if ((fi != NULL ? fstat(fi->fh, st) : fstatat(root, below(path), st, AT_SYMLINK_NOFOLLOW)) < 0) return -errno;
  if (verdict.size_kind > 0 && S_ISREG(st->st_mode)) {
    st->st_size = verdict.size_kind == 1 ? verdict.size : st->st_size + verdict.size;
    if (st->st_size < 0) st->st_size = 0;
  }
  return 0;
}

static int fs_readlink(const char *path, char *buffer, size_t size) {
  ENTER(readlink, path);
  ssize_t length = readlinkat(root, below(path), buffer, size - 1);
  if (length < 0) return -errno;
  buffer[length] = '\0';
  return 0;
}

// The server runs as root and creates for its callers.
static int own(const char *path) {
  struct fuse_context *caller = fuse_get_context();
  if (caller->uid == 0 && caller->gid == 0) return 0;
  char parent[PATH_MAX];
  snprintf(parent, sizeof parent, "%s", below(path));
  char *slash = strrchr(parent, '/');
  strcpy(slash == NULL ? parent : slash, slash == NULL ? "." : "");
  struct stat st;
  gid_t gid = fstatat(root, parent, &st, 0) == 0 && (st.st_mode & S_ISGID) != 0 ? (gid_t)-1 : caller->gid;
  return fchownat(root, below(path), caller->uid, gid, AT_SYMLINK_NOFOLLOW);
}

static int fs_mknod(const char *path, mode_t mode, dev_t device) {
  ENTER(mknod, path);
  return mknodat(root, below(path), mode, device) < 0 ? -errno : RESULT(own(path));
}

static int fs_mkdir(const char *path, mode_t mode) {
  ENTER(mkdir, path);
  return mkdirat(root, below(path), mode) < 0 ? -errno : RESULT(own(path));
}

static int fs_unlink(const char *path) {
  ENTER(unlink, path);
  return RESULT(unlinkat(root, below(path), 0));
}

static int fs_rmdir(const char *path) {
  ENTER(rmdir, path);
  return RESULT(unlinkat(root, below(path), AT_REMOVEDIR));
}

static int fs_symlink(const char *target, const char *path) {
  ENTER(symlink, path);
  return symlinkat(target, root, below(path)) < 0 ? -errno : RESULT(own(path));
}

static int fs_rename(const char *from, const char *to, unsigned int flags) {
  ENTER(rename, to);
  return RESULT(renameat2(root, below(from), root, below(to), flags));
}

static int fs_link(const char *from, const char *to) {
  ENTER(link, to);
  return RESULT(linkat(root, below(from), root, below(to), 0));
}

static int fs_chmod(const char *path, mode_t mode, struct fuse_file_info *fi) {
  ENTER(chmod, path);
  return RESULT(fi != NULL ? fchmod(fi->fh, mode) : fchmodat(root, below(path), mode, 0));
}

static int fs_chown(const char *path, uid_t uid, gid_t gid, struct fuse_file_info *fi) {
  ENTER(chown, path);
  return RESULT(fi != NULL ? fchown(fi->fh, uid, gid) : fchownat(root, below(path), uid, gid, AT_SYMLINK_NOFOLLOW));
}

static int fs_truncate(const char *path, off_t size, struct fuse_file_info *fi) {
  ENTER(truncate, path);
  if (fi != NULL) return RESULT(ftruncate(fi->fh, size));
  int fd = openat(root, below(path), O_WRONLY | O_CLOEXEC | O_NOFOLLOW);
  if (fd < 0) return -errno;
  int result = RESULT(ftruncate(fd, size));
  close(fd);
  return result;
}

static int opened(int fd, struct fuse_file_info *fi) {
  if (fd < 0) return -errno;
  fi->fh = fd;
  fi->direct_io = settings.direct_io;
  return 0;
}

// The kernel appends and follows by itself; O_DIRECT is between the caller and this filesystem.
static int flags_below(const struct fuse_file_info *fi) { return (fi->flags & ~(O_APPEND | O_DIRECT)) | O_NOFOLLOW | O_CLOEXEC; }

static int fs_open(const char *path, struct fuse_file_info *fi) {
  ENTER(open, path);
  return opened(openat(root, below(path), flags_below(fi)), fi);
}

static int fs_create(const char *path, mode_t mode, struct fuse_file_info *fi) {
  ENTER(create, path);
  int result = opened(openat(root, below(path), flags_below(fi) | O_CREAT, mode), fi);
  return result < 0 ? result : RESULT(own(path));
}

static int fs_read(const char *path, char *buffer, size_t size, off_t offset, struct fuse_file_info *fi) {
  struct verdict verdict = judge_range(OP_read, path, offset, size);
  if (verdict.error > 0) return -verdict.error;
  if (verdict.short_bytes >= 0 && (size_t)verdict.short_bytes < size) size = verdict.short_bytes;
  ssize_t length = pread(fi->fh, buffer, size, offset);
  if (verdict.flip >= offset && verdict.flip < offset + length) buffer[verdict.flip - offset] ^= 1;
  return length < 0 ? -errno : (int)length;
}

static int fs_write(const char *path, const char *buffer, size_t size, off_t offset, struct fuse_file_info *fi) {
  struct verdict verdict = judge_range(OP_write, path, offset, size);
  if (verdict.error > 0) return -verdict.error;
  if (verdict.short_bytes >= 0 && (size_t)verdict.short_bytes < size) size = verdict.short_bytes;
  ssize_t length = pwrite(fi->fh, buffer, size, offset);
  return length < 0 ? -errno : (int)length;
}

static int fs_statfs(const char *path, struct statvfs *st) {
  ENTER(statfs, path);
  return RESULT(fstatvfs(root, st));
}

static int fs_flush(const char *path, struct fuse_file_info *fi) {
  ENTER(flush, path);
  return RESULT(close(dup(fi->fh)));
}

static int fs_release(const char *path, struct fuse_file_info *fi) {
  judge(OP_release, path);
  close(fi->fh);
  return 0;
}

static int fs_fsync(const char *path, int data_only, struct fuse_file_info *fi) {
  ENTER(fsync, path);
  return RESULT(data_only ? fdatasync(fi->fh) : fsync(fi->fh));
}

static int fs_setxattr(const char *path, const char *name, const char *value, size_t size, int flags) {
  ENTER(setxattr, path);
  char at[PATH_MAX];
  full(path, at, sizeof at);
  return RESULT(lsetxattr(at, name, value, size, flags));
}

static int fs_getxattr(const char *path, const char *name, char *value, size_t size) {
  ENTER(getxattr, path);
  char at[PATH_MAX];
  full(path, at, sizeof at);
  ssize_t length = lgetxattr(at, name, value, size);
  return length < 0 ? -errno : (int)length;
}

static int fs_listxattr(const char *path, char *list, size_t size) {
  ENTER(listxattr, path);
  char at[PATH_MAX];
  full(path, at, sizeof at);
  ssize_t length = llistxattr(at, list, size);
  return length < 0 ? -errno : (int)length;
}

static int fs_removexattr(const char *path, const char *name) {
  ENTER(removexattr, path);
  char at[PATH_MAX];
  full(path, at, sizeof at);
  return RESULT(lremovexattr(at, name));
}

static int fs_opendir(const char *path, struct fuse_file_info *fi) {
  ENTER(opendir, path);
  int fd = openat(root, below(path), O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC);
  if (fd < 0) return -errno;
  fi->fh = fd;
  return 0;
}

static int fs_readdir(const char *path, void *buffer, fuse_fill_dir_t fill, off_t offset, struct fuse_file_info *fi, enum fuse_readdir_flags flags) {
  (void)offset, (void)flags;
  ENTER(readdir, path);
  DIR *directory = fdopendir(openat(fi->fh, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC));
  if (directory == NULL) return -errno;
  struct dirent *entry;
  while ((entry = readdir(directory)) != NULL) {
    struct stat st = {.st_ino = entry->d_ino, .st_mode = entry->d_type << 12};
    if (fill(buffer, entry->d_name, &st, 0, 0) != 0) break;
  }
  closedir(directory);
  return 0;
}

static int fs_releasedir(const char *path, struct fuse_file_info *fi) {
  (void)path;
  close(fi->fh);
  return 0;
}

static int fs_fsyncdir(const char *path, int data_only, struct fuse_file_info *fi) {
  (void)data_only;
  ENTER(fsyncdir, path);
  return RESULT(fsync(fi->fh));
}

static int fs_utimens(const char *path, const struct timespec times[2], struct fuse_file_info *fi) {
  ENTER(utimens, path);
  return RESULT(fi != NULL ? futimens(fi->fh, times) : utimensat(root, below(path), times, AT_SYMLINK_NOFOLLOW));
}

static int fs_fallocate(const char *path, int mode, off_t offset, off_t length, struct fuse_file_info *fi) {
  int error = judge_range(OP_fallocate, path, offset, length).error;
  return error > 0 ? -error : RESULT(fallocate(fi->fh, mode, offset, length));
}

static ssize_t fs_copy_file_range(const char *from, struct fuse_file_info *in, off_t in_offset, const char *to, struct fuse_file_info *out,
                                  off_t out_offset, size_t size, int flags) {
  (void)from;
  struct verdict verdict = judge_range(OP_copy_file_range, to, out_offset, size);
  if (verdict.error > 0) return -verdict.error;
  if (verdict.short_bytes >= 0 && (size_t)verdict.short_bytes < size) size = verdict.short_bytes;
  ssize_t length = copy_file_range(in->fh, &in_offset, out->fh, &out_offset, size, flags);
  return length < 0 ? -errno : length;
}

static off_t fs_lseek(const char *path, off_t offset, int whence, struct fuse_file_info *fi) {
  ENTER(lseek, path);
  off_t result = lseek(fi->fh, offset, whence);
  return result < 0 ? -errno : result;
}

static void *fs_init(struct fuse_conn_info *connection, struct fuse_config *config) {
  config->use_ino = 1;
  config->hard_remove = 1;
  config->entry_timeout = config->attr_timeout = settings.cache_ms / 1000.0;
  config->negative_timeout = 0;
  // A listing is a listing: with attributes in it, looking at a file would cost nothing.
  connection->want &= ~(unsigned)(FUSE_CAP_READDIRPLUS | FUSE_CAP_READDIRPLUS_AUTO);
  // As many calls at once as are asked for: read-ahead counts as background.
  connection->max_background = 512;
  connection->congestion_threshold = 512;
  return NULL;
}

static const struct fuse_operations operations = {
    .init = fs_init, .getattr = fs_getattr, .readlink = fs_readlink, .mknod = fs_mknod, .mkdir = fs_mkdir, .unlink = fs_unlink,
    .rmdir = fs_rmdir, .symlink = fs_symlink, .rename = fs_rename, .link = fs_link, .chmod = fs_chmod, .chown = fs_chown,
    .truncate = fs_truncate, .open = fs_open, .create = fs_create, .read = fs_read, .write = fs_write, .statfs = fs_statfs,
    .flush = fs_flush, .release = fs_release, .fsync = fs_fsync, .setxattr = fs_setxattr, .getxattr = fs_getxattr,
    .listxattr = fs_listxattr, .removexattr = fs_removexattr, .opendir = fs_opendir, .readdir = fs_readdir,
    .releasedir = fs_releasedir, .fsyncdir = fs_fsyncdir, .utimens = fs_utimens, .fallocate = fs_fallocate,
    .copy_file_range = fs_copy_file_range, .lseek = fs_lseek};

#define OPTION(text, field) {text, offsetof(__typeof__(settings), field), 1}
static const struct fuse_opt options[] = {OPTION("rules=%s", rules_path), OPTION("log=%s", log_path), OPTION("delay_us=%ld", delay_us),
                                          OPTION("cache_ms=%ld", cache_ms), OPTION("direct_io", direct_io), FUSE_OPT_END};

int main(int argc, char **argv) {
  if (argc < 3) {
    fprintf(stderr, "usage: %s ROOT MOUNTPOINT [-o OPTION,...]\n", argv[0]);
    return 2;
  }
  root = open(argv[1], O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (root < 0) {
    perror(argv[1]);
    return 2;
  }
  argv[1] = argv[0];
  struct fuse_args arguments = FUSE_ARGS_INIT(argc - 1, argv + 1);
  if (fuse_opt_parse(&arguments, &settings, options, NULL) < 0) return 2;
  if (settings.log_path != NULL) {
    log_fd = open(settings.log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC, 0600);
    if (log_fd < 0) {
      perror(settings.log_path);
      return 2;
    }
  }
  if (settings.rules_path != NULL && !read_rules()) return 2;
  umask(0);
  return fuse_main(arguments.argc, arguments.argv, &operations, NULL);
}
