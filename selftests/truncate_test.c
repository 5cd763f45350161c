// SPDX-License-Identifier: GPL-2.0
/*
 * The file gets shorter while LOCK waits for its pages: the call fails where mlock(2) does, says
 * how far it came, and can still be killed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <sys/stat.h>

#include "host_stall.h"
#include "locker.h"
#include "mlock_rs_test.h"
#include "slow_disk.h"
#include "thread_state.h"

#define NR_PAGES	64UL
#define NR_LEFT		16UL
#define DISK_BYTES	(16UL << 20)
#define NEVER_MS	60000
/* The contract. */
#define KILL_NS		100000000ULL

FIXTURE(truncate)
{
	int dev;
	struct slow_disk disk;
	/* For LOCK and for mlock(2). */
	int file[2];
	char *addr[2];
	struct lock_call *call[2];
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
	int ret, i;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ret = slow_disk_create(&self->disk, DISK_BYTES);
	if (ret)
		SKIP(return, "no slow disk: %s", strerror(-ret));
	ret = slow_disk_mount(&self->disk);
	if (ret)
		SKIP(return, "no ext4: %s", strerror(-ret));
	for (i = 0; i < 2; i++) {
		self->file[i] = slow_disk_file(&self->disk);
		ASSERT_LE(0, self->file[i]);
		ASSERT_EQ(0, write_cold(self->file[i], NR_PAGES));
		self->addr[i] = map_region(NR_PAGES);
		ASSERT_EQ(self->addr[i], mmap(self->addr[i], NR_PAGES * page_size, PROT_READ,
					      MAP_SHARED | MAP_FIXED, self->file[i], 0));
		/* A page at a time. */
		ASSERT_EQ(0, madvise(self->addr[i], NR_PAGES * page_size, MADV_RANDOM));
		self->call[i] = lock_call_new(self->dev, self->addr[i], NR_PAGES);
		self->call[i]->with_mlock = i;
	}
}

FIXTURE_TEARDOWN(truncate)
{
	int i;

	slow_disk_read_ms(&self->disk, 0);
	for (i = 0; i < 2; i++) {
		if (self->addr[i])
			munmap(self->addr[i], NR_PAGES * page_size);
		close(self->file[i]);
	}
	slow_disk_destroy(&self->disk);
}

/* Shortens the file in a process of its own, which waits for the pages as well. */
static pid_t start_truncation(struct __test_metadata *_metadata, FIXTURE_DATA(truncate) * self,
			      bool with_mlock)
{
	const int file = self->file[with_mlock];
	pid_t child = fork_with_test();
	__u64 begin = now_ns();
	struct stat st;

	ASSERT_LE(0, child);
	if (!child)
		_exit(ftruncate(file, NR_LEFT * page_size) ? 1 : 0);
	/*
	 * Under LOCK the size changes first, and then the truncation waits for the pages. mlock(2)
	 * holds the invalidate lock of the file while it waits for a page; so that the truncation
	 * gets in, it is given one page after the other.
	 */
	do {
		ASSERT_FALSE(give_up(begin));
		if (with_mlock) {
			usleep(10000);
			ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
		}
		ASSERT_EQ(0, fstat(file, &st));
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
	struct lock_call *call = self->call[with_mlock];
	pid_t locker, truncater;

	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
	locker = lock_call_start(call);
	ASSERT_LT(0, locker);
	ASSERT_TRUE(wait_marked(locker, call));
	truncater = start_truncation(_metadata, self, with_mlock);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	join(_metadata, locker);
	join(_metadata, truncater);
}

TEST_F(truncate, fails_beyond_the_new_end_as_mlock)
{
	const struct lock_call *mine = self->call[0], *theirs = self->call[1];

	truncate_during(_metadata, self, true);
	truncate_during(_metadata, self, false);

	/* No page beyond the new end; but the VMA is marked, as after any failure to populate. */
	EXPECT_EQ(-ENOMEM, theirs->ret);
	EXPECT_EQ(theirs->ret, mine->ret);
	EXPECT_EQ(NR_PAGES * page_size, mine->vmlck);
	EXPECT_EQ(theirs->vmlck, mine->vmlck);
	EXPECT_STREQ(all('l', NR_PAGES - NR_LEFT), mine->states + NR_LEFT);
	/*
	 * mlock(2) reads a page at a time here, and LOCK into large folios. That with the new end
	 * in it is split, which unmaps what is left of it until the next access. It was there
	 * before.
	 */
	EXPECT_EQ(NR_LEFT, count(theirs->states, 'L'));
	EXPECT_EQ(NR_PAGES, count(mine->states, 'L') + count(mine->states, 'l'));
	EXPECT_STREQ(theirs->states + NR_LEFT, mine->states + NR_LEFT);
	EXPECT_EQ((uintptr_t)self->addr[0] + NR_LEFT * page_size, mine->res.fail_addr);
	EXPECT_EQ(NR_LEFT * page_size, mine->res.populated);
	EXPECT_EQ(ENOMEM, mine->res.error);
}

static void sigkill_meanwhile(struct __test_metadata *_metadata, FIXTURE_DATA(truncate) * self,
			      const char *asleep_in)
{
	pid_t locker, truncater, pid;
	__u64 begin, ns, stalled;
	int status;

	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
	locker = lock_call_start(self->call[0]);
	ASSERT_LT(0, locker);
	ASSERT_TRUE(wait_held_back(locker, self->call[0]));
	truncater = start_truncation(_metadata, self, false);
	EXPECT_TRUE(wait_in(locker, asleep_in));
	host_stall_start();
	begin = now_ns();
	ASSERT_EQ(0, kill(locker, SIGKILL));
	do {
		pid = waitpid(locker, &status, WNOHANG);
		ns = now_ns() - begin;
	} while (!pid && ns < 10 * KILL_NS);
	stalled = host_stall_stop();
	TH_LOG("%s after %llu us, in %llu of which the host did something else",
	       pid ? "gone" : "not gone", ns / 1000, stalled / 1000);
	/* The contract, whoever else waits for the same pages. */
	EXPECT_GE(KILL_NS + (pid ? stalled : 0), ns);
	if (pid)
		EXPECT_TRUE(WIFSIGNALED(status));
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	join(_metadata, truncater);
}

/* The call and the truncation wait for the same page. */
TEST_F(truncate, sigkill_meanwhile)
{
	sigkill_meanwhile(_metadata, self, "folio_wait_bit");
}

/*
 * The contract says 100 ms, the kernel does not keep it for a call that looks for the page again:
 * filemap_fault() waits for the file's invalidate lock, which the truncation holds while it waits
 * for the disk, also with FOLL_NOWAIT, and nothing can end that. mlock_rs(4) lists it under
 * "Waiting".
 */
TEST_F(truncate, sigkill_of_an_interruptible_call_meanwhile)
{
	self->call[0]->flags = MLOCK_RS_LOCK_INTERRUPTIBLE;
	/* Until then it sleeps in a way that SIGKILL ends, and that is not what this is about. */
	sigkill_meanwhile(_metadata, self, "filemap_fault");
}

XFAIL_ADD(truncate, slow_disk, sigkill_of_an_interruptible_call_meanwhile);

TEST_HARNESS_MAIN
