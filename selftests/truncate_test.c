// SPDX-License-Identifier: GPL-2.0
/*
 * The file gets shorter while LOCK waits for its pages: the call fails where mlock(2) does, says
 * how far it came, and can still be killed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>

#include "mlock_rs_test.h"
#include "slow_disk.h"

#define NR_PAGES	64UL
#define NR_LEFT		16UL
#define DISK_BYTES	(16UL << 20)
#define NEVER_MS	60000
#define HANG_NS		20000000000ULL
/* The contract. */
#define KILL_NS		100000000ULL

struct report {
	int ret;
	size_t vmlck;
	struct mlock_rs_lock res;
	char states[NR_PAGES + 1];
};

FIXTURE(truncate)
{
	int dev, file;
	struct slow_disk disk;
	char mountpoint[32];
	bool mounted;
	char *addr;
	struct report *report;
};

FIXTURE_VARIANT(truncate)
{
	int unused;
};

FIXTURE_VARIANT_ADD(truncate, slow_disk)
{
	.unused = 0,
};

FIXTURE_SETUP(truncate)
{
	char text[128], page[page_size];
	size_t i;
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ret = slow_disk_create(&self->disk, DISK_BYTES);
	if (ret)
		SKIP(return, "no slow disk: %s", strerror(-ret));
	snprintf(text, sizeof(text), "mke2fs %s >/dev/null 2>&1", self->disk.path);
	if (system(text))
		SKIP(return, "no mke2fs");
	snprintf(self->mountpoint, sizeof(self->mountpoint), "/tmp/mlock_rs_ext4.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->mountpoint));
	ASSERT_EQ(0, mount(self->disk.path, self->mountpoint, "ext4", 0, NULL));
	self->mounted = true;
	self->file = open(self->mountpoint, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	ASSERT_LE(0, self->file);
	memset(page, 'x', sizeof(page));
	for (i = 0; i < NR_PAGES; i++)
		ASSERT_EQ((ssize_t)sizeof(page), write(self->file, page, sizeof(page)));
	ASSERT_EQ(0, fsync(self->file));
	ASSERT_EQ(0, posix_fadvise(self->file, 0, 0, POSIX_FADV_DONTNEED));
	self->addr = map_region(NR_PAGES);
	ASSERT_EQ(self->addr, mmap(self->addr, NR_PAGES * page_size, PROT_READ,
				   MAP_SHARED | MAP_FIXED, self->file, 0));
	self->report = mmap(NULL, sizeof(*self->report), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->report);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
}

FIXTURE_TEARDOWN(truncate)
{
	slow_disk_read_ms(&self->disk, 0);
	if (self->addr)
		munmap(self->addr, NR_PAGES * page_size);
	close(self->file);
	if (self->mounted)
		umount2(self->mountpoint, MNT_DETACH);
	rmdir(self->mountpoint);
	slow_disk_destroy(&self->disk);
}

/* A process that dies with the test. */
static pid_t start(void)
{
	pid_t parent = getpid(), child = fork();

	if (!child) {
		prctl(PR_SET_PDEATHSIG, SIGKILL);
		if (getppid() != parent)
			_exit(1);
	}
	return child;
}

static pid_t start_lock(FIXTURE_DATA(truncate) * self, bool with_mlock)
{
	const size_t len = NR_PAGES * page_size;
	pid_t child = start();

	if (child)
		return child;
	if (with_mlock)
		self->report->ret = mlock_2(self->addr, len);
	else
		self->report->ret = mlock_rs(self->dev, self->addr, len, &self->report->res);
	self->report->vmlck = vmlck();
	snprintf(self->report->states, sizeof(self->report->states), "%s",
		 states(self->addr, NR_PAGES));
	_exit(0);
}

static long status_number(pid_t pid, const char *field)
{
	char path[32], line[128];
	long number = -1;
	FILE *file;

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	file = fopen(path, "re");
	while (file && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, strlen(field)))
			number = strtol(line + strlen(field), NULL, 10);
	if (file)
		fclose(file);
	return number;
}

/* Waits until @pid has marked the range: from then on it waits for the pages. */
static bool wait_marked(pid_t pid)
{
	__u64 end = now_ns() + HANG_NS;

	while (status_number(pid, "VmLck:") * 1024L != (long)(NR_PAGES * page_size)) {
		if (now_ns() > end)
			return false;
		usleep(1000);
	}
	return true;
}

/* Shortens the file in a process of its own, which waits for the pages as well. */
static pid_t start_truncation(struct __test_metadata *_metadata, FIXTURE_DATA(truncate) * self,
			      bool with_mlock)
{
	__u64 end = now_ns() + HANG_NS;
	pid_t child = start();
	struct stat st;

	ASSERT_LE(0, child);
	if (!child)
		_exit(ftruncate(self->file, NR_LEFT * page_size) ? 1 : 0);
	/* mlock(2) waits with the invalidate lock of the file, and the size changes after it. */
	if (with_mlock)
		return child;
	/* LOCK does not: the size changes, and then the truncation waits for the pages. */
	do {
		ASSERT_GT(end, now_ns());
		usleep(1000);
		ASSERT_EQ(0, fstat(self->file, &st));
	} while (st.st_size != (off_t)(NR_LEFT * page_size));
	return child;
}

static void join(struct __test_metadata *_metadata, pid_t child)
{
	int status;

	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(0, WEXITSTATUS(status));
}

static void truncate_during(struct __test_metadata *_metadata, FIXTURE_DATA(truncate) * self,
			    bool with_mlock)
{
	pid_t locker = start_lock(self, with_mlock), truncater;

	ASSERT_LT(0, locker);
	ASSERT_TRUE(wait_marked(locker));
	truncater = start_truncation(_metadata, self, with_mlock);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	join(_metadata, locker);
	join(_metadata, truncater);

	/* No page beyond the new end; but the VMA is marked, as after any failure to populate. */
	EXPECT_EQ(-ENOMEM, self->report->ret);
	EXPECT_EQ(NR_PAGES * page_size, self->report->vmlck);
	EXPECT_EQ(NR_LEFT, count(self->report->states, 'L'));
	EXPECT_EQ(NR_PAGES - NR_LEFT, count(self->report->states, 'l'));
}

TEST_F(truncate, fails_beyond_the_new_end)
{
	truncate_during(_metadata, self, false);
	EXPECT_EQ((uintptr_t)self->addr + NR_LEFT * page_size, self->report->res.fail_addr);
	EXPECT_EQ(NR_LEFT * page_size, self->report->res.populated);
	EXPECT_EQ(ENOMEM, self->report->res.error);
}

/*
 * The contract says 100 ms, the kernel does not keep it: filemap_fault() waits for the file's
 * invalidate lock, which the truncation holds while it waits for the disk, also with FOLL_NOWAIT,
 * and nothing can end that. mlock_rs(4) lists it under "Waiting".
 */
/* Waits until the process sleeps in the kernel function. */
static bool wait_in(pid_t pid, const char *function)
{
	__u64 end = now_ns() + HANG_NS;
	char path[32], text[64];
	ssize_t len;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/wchan", pid);
	do {
		fd = open(path, O_RDONLY | O_CLOEXEC);
		len = fd < 0 ? -1 : read(fd, text, sizeof(text) - 1);
		close(fd);
		if (len > 0) {
			text[len] = '\0';
			if (!strcmp(text, function))
				return true;
		}
	} while (now_ns() < end);
	return false;
}

TEST_F(truncate, sigkill_meanwhile)
{
	pid_t locker = start_lock(self, false), truncater, pid;
	__u64 begin, ns;
	int status;

	ASSERT_LT(0, locker);
	ASSERT_TRUE(wait_marked(locker));
	truncater = start_truncation(_metadata, self, false);
	/* Until then it sleeps in a way that SIGKILL ends, and that is not what this is about. */
	EXPECT_TRUE(wait_in(locker, "filemap_fault"));
	begin = now_ns();
	ASSERT_EQ(0, kill(locker, SIGKILL));
	do {
		pid = waitpid(locker, &status, WNOHANG);
		ns = now_ns() - begin;
	} while (!pid && ns < 10 * KILL_NS);
	TH_LOG("%s after %llu us", pid ? "gone" : "not gone", ns / 1000);
	/* The contract, whoever else waits for the same pages. */
	EXPECT_GE(KILL_NS, ns);
	if (pid)
		EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	join(_metadata, truncater);
}

XFAIL_ADD(truncate, slow_disk, sigkill_meanwhile);

TEST_HARNESS_MAIN
