// What this machine allows: the calls that a copy with all its metadata cannot do without, from as many threads as are wanted, in C.
//
//   native THREADS clone|write SOURCE DESTINATION
//
// A measure for the benchmarks and nothing to copy with: it stops at the first error, knows files and directories only, and keeps modes and times
// but no owners, links, holes or attributes (it looks for attributes, as who keeps them must). Directories are shared out whole; a tree of
// one directory is split by files; a file of 16 MiB and more by ranges. Nothing is recorded, limited, counted or shown.

#define _GNU_SOURCE
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { MAX_DIRECTORIES = 1 << 16, MAX_THREADS = 64, BLOCK = 256 * 1024, RANGE = 4 * 1024 * 1024, SHARED_FROM = 16 * 1024 * 1024 };

static const char *source, *destination;
static int threads;
static bool clones;
static char *directories[MAX_DIRECTORIES];
static int directoryCount;
static atomic_int nextDirectory;

static void fail(const char *what) {
  fprintf(stderr, "native: %s: %s\n", what, strerror(errno));
  exit(1);
}

static void path(char *out, const char *root, const char *relative) {
  if (snprintf(out, 4096, "%s/%s", root, relative) >= 4096) fail("a path is too long");
}

static void makeDirectories(const char *relative) {
  char from[4096], to[4096], child[4096];
  path(from, source, relative);
  path(to, destination, relative);
  if (mkdir(strcmp(relative, ".") == 0 ? destination : to, 0755) < 0) fail(to);
  if (directoryCount == MAX_DIRECTORIES) fail("too many directories");
  directories[directoryCount++] = strdup(relative);
  DIR *directory = opendir(from);
  if (directory == NULL) fail(from);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_type != DT_DIR || strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) continue;
    path(child, relative, entry->d_name);
    makeDirectories(child);
  }
  closedir(directory);
}

static void copyRange(int from, int to, char *buffer, off_t at, off_t end) {
  while (at < end) {
    ssize_t got = pread(from, buffer, end - at < BLOCK ? end - at : BLOCK, at);
    if (got <= 0) fail("pread");
    if (pwrite(to, buffer, got, at) != got) fail("pwrite");
    at += got;
  }
}

static void copyFile(int fromDirectory, int toDirectory, const char *name, char *buffer) {
  struct stat before, made, after;
  static _Thread_local char names[65536];
  int from = openat(fromDirectory, name, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
  if (from < 0 || fstat(from, &before) < 0) fail(name);
  int to = openat(toDirectory, name, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, before.st_mode & 07777);
  if (to < 0 || fstat(to, &made) < 0) fail(name);
  if (!clones || before.st_size < 4096 || ioctl(to, FICLONE, from) < 0) copyRange(from, to, buffer, 0, before.st_size);
  if (flistxattr(from, names, sizeof names) < 0) fail("flistxattr");
  const struct timespec times[2] = {before.st_atim, before.st_mtim};
  if (futimens(to, times) < 0 || fstat(from, &after) < 0) fail(name);
  close(to);
  close(from);
}

static void *copyDirectories(void *unused) {
  (void)unused;
  char from[4096], to[4096];
  char *buffer = malloc(BLOCK);
  for (int index; (index = nextDirectory++) < directoryCount;) {
    path(from, source, directories[index]);
    path(to, destination, directories[index]);
    DIR *directory = opendir(from);
    int toDirectory = open(to, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (directory == NULL || toDirectory < 0) fail(from);
    for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
      if (entry->d_type == DT_REG) copyFile(dirfd(directory), toDirectory, entry->d_name, buffer);
    }
    closedir(directory);
    close(toDirectory);
  }
  return NULL;
}

static char **flatNames;
static int flatCount, flatFrom, flatTo;
static atomic_int nextName;

static void *copyNames(void *unused) {
  (void)unused;
  char *buffer = malloc(BLOCK);
  for (int index; (index = nextName++) < flatCount;) copyFile(flatFrom, flatTo, flatNames[index], buffer);
  return NULL;
}

static void readNames(void) {
  DIR *directory = opendir(source);
  if (directory == NULL) fail(source);
  for (struct dirent *entry; (entry = readdir(directory)) != NULL;) {
    if (entry->d_type != DT_REG) continue;
    if (flatCount % 1024 == 0) flatNames = realloc(flatNames, (flatCount + 1024) * sizeof *flatNames);
    flatNames[flatCount++] = strdup(entry->d_name);
  }
  flatFrom = dirfd(directory);
  flatTo = open(destination, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
  if (flatTo < 0) fail(destination);
}

static int bigFrom, bigTo;
static off_t bigSize;
static atomic_long nextRange;

static void *copyRanges(void *unused) {
  (void)unused;
  char *buffer = malloc(BLOCK);
  for (off_t at; (at = (nextRange++) * (off_t)RANGE) < bigSize;) copyRange(bigFrom, bigTo, buffer, at, at + RANGE < bigSize ? at + RANGE : bigSize);
  return NULL;
}

static void run(void *(*work)(void *)) {
  pthread_t ids[MAX_THREADS];
  for (int index = 0; index < threads; index++) pthread_create(&ids[index], NULL, work, NULL);
  for (int index = 0; index < threads; index++) pthread_join(ids[index], NULL);
}

static void copyBigFile(const struct stat *status) {
  bigSize = status->st_size;
  bigFrom = open(source, O_RDONLY | O_CLOEXEC);
  bigTo = open(destination, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, status->st_mode & 07777);
  if (bigFrom < 0 || bigTo < 0) fail(destination);
  // As copyd does where it pays; a filesystem that cannot is none of the measure's business.
  (void)fallocate(bigTo, FALLOC_FL_KEEP_SIZE, 0, bigSize);
  if (bigSize < SHARED_FROM) threads = 1;
  run(copyRanges);
  const struct timespec times[2] = {status->st_atim, status->st_mtim};
  if (futimens(bigTo, times) < 0) fail(destination);
}

int main(int count, char **arguments) {
  if (count != 5 || (threads = atoi(arguments[1])) < 1 || threads > MAX_THREADS) {
    fprintf(stderr, "native THREADS clone|write SOURCE DESTINATION\n");
    return 2;
  }
  clones = strcmp(arguments[2], "clone") == 0;
  source = arguments[3];
  destination = arguments[4];
  struct stat status;
  if (stat(source, &status) < 0) fail(source);
  if (S_ISREG(status.st_mode)) {
    copyBigFile(&status);
    return 0;
  }
  makeDirectories(".");
  if (directoryCount > 1) {
    run(copyDirectories);
  } else {
    readNames();
    run(copyNames);
  }
  return 0;
}
