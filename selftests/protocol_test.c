// SPDX-License-Identifier: GPL-2.0
/*
 * The protocol, as the kernel's own mmap_lock trace events show it: the lock is acquired once, for
 * writing, downgraded while it is held, and released once.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sys/resource.h>

#include "mlock_rs_test.h"
#include "trace.h"

#define NR_PAGES	64UL

FIXTURE(protocol)
{
	int dev;
	char *addr;
	pid_t tid;
	struct trace trace;
	struct mlock_rs_lock *arg;
};

FIXTURE_SETUP(protocol)
{
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->tid = gettid();
	ret = trace_open(&self->trace, &self->tid, 1);
	ASSERT_EQ(0, ret) {
		TH_LOG("no mmap_lock trace events: %s", strerror(-ret));
	}
	self->addr = map_region(NR_PAGES);
	self->arg = (void *)map_region(1);
	/* Once outside of any assertion: code and data of this program are resident afterwards. */
	trace_start(&self->trace);
	mlock_rs(self->dev, self->arg, 1, self->arg);
	mlock_2(self->arg, 1);
	trace_stop(&self->trace);
}

FIXTURE_TEARDOWN(protocol)
{
	trace_close(&self->trace);
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

/* LOCK between two marks, and not a fault of our own in between. */
static int traced_lock(struct __test_metadata *_metadata, FIXTURE_DATA(protocol) * self,
		       const char *addr, size_t len, unsigned int flags)
{
	int ret;

	*self->arg = (struct mlock_rs_lock) {
		.addr = (uintptr_t)addr, .len = len, .flags = flags
	};
	ASSERT_EQ(0, trace_ioctl(&self->trace, self->dev, MLOCK_RS_LOCK, self->arg, &ret));
	return ret;
}

TEST_F(protocol, one_vma)
{
	EXPECT_EQ(0, traced_lock(_metadata, self, self->addr, NR_PAGES * page_size, 0));
	EXPECT_STREQ(TRACE_STRICT, lock_sequence(&self->trace, self->tid));
}

TEST_F(protocol, many_vmas_some_of_them_resident)
{
	size_t i;

	/* Both ends in the middle of a VMA, resident and locked pages in between. */
	for (i = 8; i < NR_PAGES; i += 16)
		ASSERT_EQ(0, mprotect(self->addr + i * page_size, 8 * page_size, PROT_READ));
	memset(self->addr, 1, 6 * page_size);
	ASSERT_EQ(0, mlock_2(self->addr + 18 * page_size, 3 * page_size));

	EXPECT_EQ(0, traced_lock(_metadata, self, self->addr + 4 * page_size,
				 (NR_PAGES - 8) * page_size, 0));
	EXPECT_STREQ(TRACE_STRICT, lock_sequence(&self->trace, self->tid));
}

TEST_F(protocol, nothing_left_to_do)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, traced_lock(_metadata, self, self->addr, NR_PAGES * page_size, 0));
	EXPECT_STREQ(TRACE_STRICT, lock_sequence(&self->trace, self->tid));
}

/*
 * A file with nothing of it in memory: on a disk where there is one, so that a call has to read.
 * Returns the file, mapped.
 */
static char *map_cold_file(struct __test_metadata *_metadata)
{
	const char *dir = getenv("TEST_DISK");
	char path[256], page[4096] = "x";
	char *file;
	size_t i;
	int fd;

	snprintf(path, sizeof(path), "%s/mlock_rs_XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	ASSERT_LE(0, fd);
	unlink(path);
	for (i = 0; i < NR_PAGES * page_size / sizeof(page); i++)
		ASSERT_EQ((ssize_t)sizeof(page), write(fd, page, sizeof(page)));
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	/* No read-ahead by the fault handler: every page has to wait for its own. */
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_RANDOM));
	file = mmap(NULL, NR_PAGES * page_size, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, file);
	close(fd);
	return file;
}

TEST_F(protocol, pages_of_a_file)
{
	char *file = map_cold_file(_metadata);

	/* It may not drop the lock to read. */
	EXPECT_EQ(0, traced_lock(_metadata, self, file, NR_PAGES * page_size, 0));
	EXPECT_STREQ(TRACE_STRICT, lock_sequence(&self->trace, self->tid));
	munmap(file, NR_PAGES * page_size);
}

TEST_F(protocol, failure_while_populating)
{
	ASSERT_EQ(0, mprotect(self->addr + 9 * page_size, page_size, PROT_NONE));
	EXPECT_EQ(-ENOMEM, traced_lock(_metadata, self, self->addr, NR_PAGES * page_size, 0));
	EXPECT_EQ(9 * page_size, self->arg->populated);
	EXPECT_STREQ(TRACE_STRICT, lock_sequence(&self->trace, self->tid));
}

TEST_F(protocol, hole)
{
	ASSERT_EQ(0, munmap(self->addr + 9 * page_size, page_size));
	EXPECT_EQ(-ENOMEM, traced_lock(_metadata, self, self->addr, NR_PAGES * page_size, 0));
	/* Never downgraded: there was nothing to populate. */
	EXPECT_STREQ(TRACE_LOOKED, lock_sequence(&self->trace, self->tid));
}

TEST_F(protocol, limit)
{
	struct rlimit limit = { .rlim_cur = page_size, .rlim_max = page_size };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(1ULL << 1 /* CAP_DAC_OVERRIDE, for the trace */));
	EXPECT_EQ(-ENOMEM, traced_lock(_metadata, self, self->addr, NR_PAGES * page_size, 0));
	EXPECT_STREQ(TRACE_LOOKED, lock_sequence(&self->trace, self->tid));
}

TEST_F(protocol, bad_argument_does_not_take_the_lock)
{
	EXPECT_EQ(-EINVAL, traced_lock(_metadata, self, self->addr, page_size, 1U << 31));
	EXPECT_STREQ("", full_sequence(&self->trace, self->tid));
}

TEST_F(protocol, no_permission_does_not_take_the_lock)
{
	struct rlimit limit = { .rlim_cur = 0, .rlim_max = 0 };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(1ULL << 1));
	EXPECT_EQ(-EPERM, traced_lock(_metadata, self, self->addr, NR_PAGES * page_size, 0));
	EXPECT_STREQ("", full_sequence(&self->trace, self->tid));
}

/*
 * The difference that all of this is about, and the proof that the tests above would see it.
 */
TEST_F(protocol, mlock_gives_the_lock_up_before_it_populates)
{
	trace_start(&self->trace);
	EXPECT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	ASSERT_EQ(0, trace_stop(&self->trace));
	EXPECT_STREQ(TRACE_GAVE_UP, lock_sequence(&self->trace, self->tid));
}

/* Once it populates, it goes from one VMA to the next without giving the lock up again, */
TEST_F(protocol, mlock_populates_many_vmas_with_one_more_hold)
{
	size_t i;

	for (i = 1; i < NR_PAGES; i += 2)
		ASSERT_EQ(0, mprotect(self->addr + i * page_size, page_size, PROT_READ));
	trace_start(&self->trace);
	EXPECT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	ASSERT_EQ(0, trace_stop(&self->trace));
	EXPECT_STREQ(TRACE_GAVE_UP, lock_sequence(&self->trace, self->tid));
}

/* but for each page that it has to wait for. */
TEST_F(protocol, mlock_gives_the_lock_up_to_wait_for_a_page)
{
	const char *once_more = TRACE_GAVE_UP " " TRACE_READ, *sequence;
	char *file;

	if (!getenv("TEST_DISK"))
		SKIP(return, "no disk to wait for");
	file = map_cold_file(_metadata);
	trace_start(&self->trace);
	EXPECT_EQ(0, mlock_2(file, NR_PAGES * page_size));
	ASSERT_EQ(0, trace_stop(&self->trace));
	sequence = lock_sequence(&self->trace, self->tid);
	EXPECT_EQ(sequence, strstr(sequence, once_more)) {
		TH_LOG("%s", sequence);
	}
	munmap(file, NR_PAGES * page_size);
}

TEST_HARNESS_MAIN
