// SPDX-License-Identifier: GPL-2.0
/*
 * Memory that others have a hand in: System V shared memory, memfd, tmpfs, pages that KSM has
 * merged, sealed mappings, a process that shares the address space but not the descriptors. Same
 * answer and same state as a twin with mlock(2).
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sched.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/shm.h>
#include <sys/syscall.h>

#include "mlock_rs_test.h"
#include "twin.h"

#define NR_PAGES	8UL
#define KPF_KSM_BIT	21
#define KSM_RUN		"/sys/kernel/mm/ksm/run"
#ifndef SYS_mseal
#define SYS_mseal	462
#endif

FIXTURE(shared)
{
	int dev;
	/* Memory for LOCK and its twin for mlock(2). */
	char *mine, *theirs;
	struct mlock_rs_lock res;
};

FIXTURE_SETUP(shared)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->mine = map_region(NR_PAGES);
	self->theirs = map_region(NR_PAGES);
}

FIXTURE_TEARDOWN(shared)
{
	close(self->dev);
}

static void lock_all(struct __test_metadata *_metadata, FIXTURE_DATA(shared) * self)
{
	EXPECT_EQ(0, lock_twins(_metadata, self->dev, self->mine, self->theirs, NR_PAGES,
				&self->res));
	EXPECT_STREQ(all('L', NR_PAGES), states(self->mine, NR_PAGES));
	EXPECT_EQ(NR_PAGES * page_size, self->res.locked);
	drain_lru();
	EXPECT_EQ(count_kpageflag(self->theirs, NR_PAGES, KPF_MLOCKED_BIT),
		  count_kpageflag(self->mine, NR_PAGES, KPF_MLOCKED_BIT));
}

/* What each page holds, written before the call and looked at after it. */
static void fill(char *addr)
{
	size_t i;

	for (i = 0; i < NR_PAGES; i++)
		memset(addr + i * page_size, 'a' + i, page_size);
}

static void expect_filled(struct __test_metadata *_metadata, const char *addr)
{
	size_t i;

	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ((char)('a' + i), addr[i * page_size + 17]);
}

static void attach(struct __test_metadata *_metadata, char *addr)
{
	int id = shmget(IPC_PRIVATE, NR_PAGES * page_size, IPC_CREAT | 0600);

	ASSERT_LE(0, id);
	ASSERT_EQ(0, munmap(addr, NR_PAGES * page_size));
	ASSERT_EQ(addr, shmat(id, addr, 0));
	ASSERT_EQ(0, shmctl(id, IPC_RMID, NULL));
}

TEST_F(shared, system_v)
{
	attach(_metadata, self->mine);
	attach(_metadata, self->theirs);
	fill(self->mine);
	lock_all(_metadata, self);
	expect_filled(_metadata, self->mine);
	/* Detaching unlocks. */
	ASSERT_EQ(0, shmdt(self->mine));
	ASSERT_EQ(0, shmdt(self->theirs));
	EXPECT_EQ(0, vmlck());
}

TEST_F(shared, system_v_never_touched)
{
	attach(_metadata, self->mine);
	attach(_metadata, self->theirs);
	lock_all(_metadata, self);
}

static void map_file(struct __test_metadata *_metadata, char *addr, int fd)
{
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, NR_PAGES * page_size));
	ASSERT_EQ(addr, mmap(addr, NR_PAGES * page_size, PROT_READ | PROT_WRITE,
			     MAP_SHARED | MAP_FIXED, fd, 0));
	no_huge_pages(addr, NR_PAGES * page_size);
	close(fd);
}

TEST_F(shared, memfd)
{
	map_file(_metadata, self->mine, memfd_create("mine", MFD_CLOEXEC));
	map_file(_metadata, self->theirs, memfd_create("theirs", MFD_CLOEXEC));
	fill(self->mine);
	lock_all(_metadata, self);
	expect_filled(_metadata, self->mine);
}

TEST_F(shared, tmpfs)
{
	char dir[] = "/tmp/mlock_rs_tmpfs.XXXXXX";

	ASSERT_NE(NULL, mkdtemp(dir));
	if (mount("tmpfs", dir, "tmpfs", 0, NULL)) {
		rmdir(dir);
		SKIP(return, "no tmpfs: %s", strerror(errno));
	}
	map_file(_metadata, self->mine, open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	map_file(_metadata, self->theirs, open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600));
	umount2(dir, MNT_DETACH);
	rmdir(dir);
	fill(self->mine);
	lock_all(_metadata, self);
	expect_filled(_metadata, self->mine);
}

TEST_F(shared, sealed)
{
	if (syscall(SYS_mseal, self->mine, NR_PAGES * page_size, 0))
		SKIP(return, "no mseal: %s", strerror(errno));
	ASSERT_EQ(0, syscall(SYS_mseal, self->theirs, NR_PAGES * page_size, 0));
	/* A seal is for what the mapping is, not for whether it stays in memory. */
	lock_all(_metadata, self);
}

TEST_F(shared, merged_by_ksm)
{
	const long run = read_number(KSM_RUN);
	__u64 end = now_ns() + 20000000000ULL;
	size_t i;

	if (run < 0)
		SKIP(return, "no KSM");
	memset(self->mine, 'k', NR_PAGES * page_size);
	memset(self->theirs, 'k', NR_PAGES * page_size);
	ASSERT_EQ(0, madvise(self->mine, NR_PAGES * page_size, MADV_MERGEABLE));
	ASSERT_EQ(0, madvise(self->theirs, NR_PAGES * page_size, MADV_MERGEABLE));
	write_number("/sys/kernel/mm/ksm/sleep_millisecs", 1);
	write_number("/sys/kernel/mm/ksm/pages_to_scan", 1000);
	ASSERT_EQ(0, write_number(KSM_RUN, 1));
	while (count_kpageflag(self->mine, NR_PAGES, KPF_KSM_BIT) +
	       count_kpageflag(self->theirs, NR_PAGES, KPF_KSM_BIT) < 2 * NR_PAGES) {
		ASSERT_GT(end, now_ns());
		usleep(1000);
	}
	ASSERT_EQ(0, write_number(KSM_RUN, 0));

	lock_all(_metadata, self);
	/* A locked page is faulted in for writing: each has its own copy now. */
	EXPECT_EQ(count_kpageflag(self->theirs, NR_PAGES, KPF_KSM_BIT),
		  count_kpageflag(self->mine, NR_PAGES, KPF_KSM_BIT));
	EXPECT_EQ(0, count_kpageflag(self->mine, NR_PAGES, KPF_KSM_BIT));
	for (i = 0; i < NR_PAGES * page_size; i++)
		ASSERT_EQ('k', self->mine[i]);
	write_number(KSM_RUN, run);
}

struct sharer {
	struct mlock_rs_lock lock;
	int ret, close_ret;
};

static int lock_with_own_descriptor(void *arg)
{
	struct sharer *s = arg;
	/* Nothing but system calls: the C library's data is that of the other process. */
	int fd = syscall(SYS_openat, AT_FDCWD, MLOCK_RS_DEVICE, O_RDWR);

	s->ret = syscall(SYS_ioctl, fd, MLOCK_RS_LOCK, &s->lock);
	s->close_ret = syscall(SYS_close, fd);
	syscall(SYS_exit_group, 0);
	return 0;
}

TEST_F(shared, address_space_without_the_descriptors)
{
	struct sharer sharer = {
		.lock = { .addr = (uintptr_t)self->mine, .len = NR_PAGES * page_size },
		.ret = -1,
	};
	static max_align_t stack[4096];
	pid_t child;
	int status;

	child = clone(lock_with_own_descriptor, stack + ARRAY_SIZE(stack), CLONE_VM | SIGCHLD,
		      &sharer);
	ASSERT_LE(0, child);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, sharer.ret);
	/* It has locked what is the memory of both, and its end has unlocked nothing. */
	EXPECT_EQ(NR_PAGES * page_size, sharer.lock.locked);
	EXPECT_STREQ(all('L', NR_PAGES), states(self->mine, NR_PAGES));
	EXPECT_EQ(NR_PAGES * page_size, vmlck());
}

TEST_HARNESS_MAIN
