// SPDX-License-Identifier: GPL-2.0
/*
 * While LOCK with YIELD waits for a page, nobody waits for LOCK. What others have done to the range
 * meanwhile it finds out: memory that was unmapped, replaced or unlocked is ESTALE and the address,
 * never success; all else ends with the range locked and resident.
 *
 * The tests make the order of events, not the clock. Documentation/interleavings.md has the results
 * in a table.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <sys/syscall.h>

#include "held_call.h"
#include "held_ops.h"
#include "mlock_rs_test.h"

#define HELD_PAGE	5UL
/* One that the call has populated already, and one that it has not. */
#define DONE_PAGE	HELD_READY_PAGE
#define NEXT_PAGE	6UL

FIXTURE(yield)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(yield)
{
	int (*run)(struct held_call *h);
	/* The page that it happens to. */
	size_t victim;
	/* What LOCK returns; and whether it may be -ESTALE instead. */
	int ret;
	bool or_stale;
	/* The states() that the page may have in the end. */
	const char *after;
	/* Pages that are locked elsewhere then. */
	size_t more_locked;
	/* Once more with a helper. */
	bool with_helper;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(yield, munmap) {
	.run = op_munmap, .victim = NEXT_PAGE, .ret = -ESTALE, .after = ".", .with_helper = true };
FIXTURE_VARIANT_ADD(yield, munmap_of_what_is_done) {
	.run = op_munmap, .victim = DONE_PAGE, .ret = -ESTALE, .after = "." };
FIXTURE_VARIANT_ADD(yield, munmap_of_the_page) {
	.run = op_munmap, .victim = HELD_PAGE, .ret = -ESTALE, .after = "." };
FIXTURE_VARIANT_ADD(yield, mmap_fixed) {
	.run = op_mmap_fixed, .victim = NEXT_PAGE, .ret = -ESTALE, .after = "u" };
FIXTURE_VARIANT_ADD(yield, mmap_fixed_over_what_is_done) {
	.run = op_mmap_fixed, .victim = DONE_PAGE, .ret = -ESTALE, .after = "u",
	.with_helper = true };
FIXTURE_VARIANT_ADD(yield, mremap) {
	.run = op_mremap, .victim = NEXT_PAGE, .ret = -ESTALE, .after = ".", .more_locked = 1 };
FIXTURE_VARIANT_ADD(yield, munlock) {
	.run = op_munlock, .victim = NEXT_PAGE, .ret = -ESTALE, .after = "u",
	.with_helper = true };
FIXTURE_VARIANT_ADD(yield, munlock_of_what_is_done) {
	.run = op_munlock, .victim = DONE_PAGE, .ret = -ESTALE, .after = "U" };
FIXTURE_VARIANT_ADD(yield, unlock) {
	.run = op_unlock, .victim = NEXT_PAGE, .ret = -ESTALE, .after = "u" };
FIXTURE_VARIANT_ADD(yield, replace_by_the_same) {
	.run = op_replace_by_the_same, .victim = DONE_PAGE, .ret = -ESTALE, .after = "u" };
/* Locked and resident, but not what the caller has asked for. */
FIXTURE_VARIANT_ADD(yield, replace_and_mlock) {
	.run = op_replace_and_mlock, .victim = DONE_PAGE, .ret = -ESTALE, .after = "L" };
FIXTURE_VARIANT_ADD(yield, replace_with_mcl_future) {
	.run = op_replace_with_mcl_future, .victim = NEXT_PAGE, .ret = -ESTALE, .after = "L" };
FIXTURE_VARIANT_ADD(yield, replace_by_another_offset_and_mlock) {
	.run = op_replace_by_another_offset_and_mlock, .victim = DONE_PAGE, .ret = -ESTALE,
	.after = "L" };
/* Nobody can tell these from what was there; if it is success, it is one. */
FIXTURE_VARIANT_ADD(yield, replace_by_the_same_and_mlock) {
	.run = op_replace_by_the_same_and_mlock, .victim = DONE_PAGE, .or_stale = true,
	.after = "L" };
FIXTURE_VARIANT_ADD(yield, replace_and_leave_empty) {
	.run = op_replace_and_leave_empty, .victim = DONE_PAGE, .or_stale = true, .after = "Ll" };
FIXTURE_VARIANT_ADD(yield, munlock_and_mlock) {
	.run = op_munlock_and_mlock, .victim = NEXT_PAGE, .or_stale = true, .after = "L" };
FIXTURE_VARIANT_ADD(yield, mremap_there_and_back) {
	.run = op_mremap_there_and_back, .victim = NEXT_PAGE, .or_stale = true, .after = "Ll" };
/* As for mlock(2): it is still locked, and cannot be faulted in. */
FIXTURE_VARIANT_ADD(yield, mprotect_none) {
	.run = op_mprotect, .victim = NEXT_PAGE, .ret = -ENOMEM, .after = "l" };
FIXTURE_VARIANT_ADD(yield, mprotect_none_of_what_is_done) {
	.run = op_mprotect, .victim = DONE_PAGE, .ret = -ENOMEM, .after = "L" };
FIXTURE_VARIANT_ADD(yield, mprotect_read) {
	.run = op_mprotect_read, .victim = NEXT_PAGE, .after = "L" };
FIXTURE_VARIANT_ADD(yield, madvise_dontdump) {
	.run = op_dontdump, .victim = DONE_PAGE, .after = "L" };
FIXTURE_VARIANT_ADD(yield, mmap_elsewhere) {
	.run = op_mmap_elsewhere, .victim = NEXT_PAGE, .after = "L" };
/* Of the page and all behind it: a call within the other one, and both have it all. */
FIXTURE_VARIANT_ADD(yield, lock) {
	.run = op_lock, .victim = NEXT_PAGE, .after = "L", .with_helper = true };
FIXTURE_VARIANT_ADD(yield, fork) {
	.run = op_fork, .victim = NEXT_PAGE, .after = "L", .with_helper = true };
FIXTURE_VARIANT_ADD(yield, mlock) { .run = op_mlock, .victim = NEXT_PAGE, .after = "L" };
/* clang-format on */

static void set_up(struct __test_metadata *_metadata, int *dev, struct held_call **held)
{
	*dev = mlock_rs_open();
	ASSERT_LE(0, *dev);
	*held = held_start(*dev, 1U << HELD_PAGE);
	if (!*held)
		SKIP(return, "no FUSE: %s", strerror(errno));
	(*held)->flags = MLOCK_RS_LOCK_YIELD;
	(*held)->nr_workers = 1;
}

static void tear_down(int dev, struct held_call *held)
{
	if (held)
		held_stop(held);
	close(dev);
}

FIXTURE_SETUP(yield)
{
	set_up(_metadata, &self->dev, &self->held);
}

FIXTURE_TEARDOWN(yield)
{
	tear_down(self->dev, self->held);
}

FIXTURE(yield_waits)
{
	int dev;
	struct held_call *held;
};

FIXTURE_SETUP(yield_waits)
{
	set_up(_metadata, &self->dev, &self->held);
}

FIXTURE_TEARDOWN(yield_waits)
{
	tear_down(self->dev, self->held);
}

/*
 * After the downgrade the thread only ever took the lock for reading, and as often as it says: its
 * VMA edit was the only one. Ends the trace.
 */
static void expect_gaps(struct __test_metadata *_metadata, struct held_call *h)
{
	const pid_t call = h->thread[CALL].tid;
	unsigned int writes = 0, reads = 0;
	size_t i;

	ASSERT_EQ(0, trace_stop(&h->trace));
	for (i = 0; i < h->trace.nr; i++) {
		const struct lock_event *e = &h->trace.event[i];

		if (e->tid != call || e->what != LOCK_ACQUIRED)
			continue;
		writes += e->write;
		/* Read-ahead comes before the VMA edit. */
		reads += !e->write && writes;
	}
	EXPECT_EQ(1, writes);
	/*
	 * The first one is the downgrade. A fault in a gap may try the lock once for each VMA,
	 * to make an anon_vma.
	 */
	EXPECT_LE(h->res.nr_gaps, reads - 1);
	EXPECT_GE(h->res.nr_gaps + h->res.nr_vmas, reads - 1);
	EXPECT_LT(0, h->res.nr_gaps);
}

/* All other pages are locked, and resident after success. */
static void expect_pages(struct __test_metadata *_metadata, struct held_call *h, const char *victim,
			 size_t more_locked, bool success)
{
	const char *pages = held_states(h);
	size_t i, locked = more_locked;

	for (i = 0; i < HELD_NR_PAGES; i++) {
		const char *others = success ? "L" : "Ll";
		const char *allowed = i == h->victim ? victim : others;

		/* After success the page itself has come in as well, where it could. */
		if (i == h->victim && success && !strcmp(victim, "Ll"))
			allowed = "L";
		EXPECT_NE(NULL, strchr(allowed, pages[i])) {
			TH_LOG("page %zu of %s may only be one of %s", i, pages, allowed);
		}
		locked += pages[i] == 'L' || pages[i] == 'l';
	}
	EXPECT_EQ(locked * page_size, h->vmlck);
}

static void expect_success(struct __test_metadata *_metadata, const struct held_call *h)
{
	EXPECT_EQ(0, h->res.error);
	EXPECT_EQ(0, h->res.fail_addr);
	EXPECT_EQ(HELD_NR_PAGES * page_size, h->res.populated);
}

static void expect_failure(struct __test_metadata *_metadata, const struct held_call *h, int error)
{
	EXPECT_EQ(error, h->res.error);
	EXPECT_EQ((uintptr_t)h->addr + h->victim * page_size, h->res.fail_addr);
	/* Not more than what lies before the page that is lost. */
	EXPECT_GE(h->victim * page_size, h->res.populated);
}

static void nobody_waits(struct __test_metadata *_metadata, struct held_call *h,
			 const FIXTURE_VARIANT(yield) * variant, __u32 nr_workers)
{
	int ret;

	h->victim = variant->victim;
	h->nr_workers = nr_workers;
	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, variant->run);
	ASSERT_TRUE(held_returns(h, OTHER));
	EXPECT_EQ(0, h->thread[OTHER].ret);
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));

	ret = h->thread[CALL].ret;
	EXPECT_TRUE(ret == variant->ret || (variant->or_stale && ret == -ESTALE)) {
		TH_LOG("LOCK: %s", strerror(-ret));
	}
	EXPECT_EQ(HELD_NR_PAGES * page_size, h->res.locked);
	EXPECT_EQ(1, h->res.nr_vmas);
	EXPECT_EQ(nr_workers - 1, h->res.nr_helpers);
	if (ret)
		expect_failure(_metadata, h, -ret);
	else
		expect_success(_metadata, h);
	expect_gaps(_metadata, h);
	EXPECT_TRUE(other_writer_inside(&h->trace, h->thread[CALL].tid));
	expect_pages(_metadata, h, variant->after, variant->more_locked, !ret);
}

TEST_F_TIMEOUT(yield, nobody_waits_and_it_finds_out, HELD_TEST_SECONDS)
{
	nobody_waits(_metadata, self->held, variant, 1);
	if (!variant->with_helper)
		return;
	/* The helper finds the page that waits, and leaves it and all behind it to the caller. */
	tear_down(self->dev, self->held);
	set_up(_metadata, &self->dev, &self->held);
	ASSERT_NE(NULL, self->held);
	nobody_waits(_metadata, self->held, variant, 2);
}

/* The page after the one that waits cannot be populated, and one before it is empty again. */
static int empty_one_and_protect_another(struct held_call *h)
{
	int ret;

	h->victim = DONE_PAGE;
	ret = op_replace_and_leave_empty(h);
	h->victim = NEXT_PAGE;
	return ret ?: op_mprotect(h);
}

TEST_F_TIMEOUT(yield_waits, what_comes_before_a_failure_is_resident, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	const char *pages;
	size_t i;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, empty_one_and_protect_another);
	ASSERT_TRUE(held_returns(h, OTHER));
	EXPECT_EQ(0, h->thread[OTHER].ret);
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));

	EXPECT_EQ(-ENOMEM, h->thread[CALL].ret);
	EXPECT_EQ((uintptr_t)h->addr + NEXT_PAGE * page_size, h->res.fail_addr);
	EXPECT_EQ(NEXT_PAGE * page_size, h->res.populated);
	pages = held_states(h);
	for (i = 0; i < NEXT_PAGE; i++)
		EXPECT_EQ('L', pages[i]);
}

/* Who only reads, waits for nobody either, also when a writer has come. */
static int read_cmdline(struct held_call *h)
{
	char path[48], buf[256];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/%d/cmdline", h->pid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return -errno;
	n = read(fd, buf, sizeof(buf));
	close(fd);
	return n < 0 ? -errno : 0;
}

static int exit_thread(struct held_call *h)
{
	(void)h;
	return syscall(SYS_exit, 0);
}

TEST_F_TIMEOUT(yield_waits, reader_after_a_writer, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, op_mmap_elsewhere);
	ASSERT_TRUE(held_returns(h, OTHER));
	held_go(h, OUTSIDE, read_cmdline);
	ASSERT_TRUE(held_returns(h, OUTSIDE));
	EXPECT_EQ(0, h->thread[OUTSIDE].ret);
	held_go(h, THIRD, exit_thread);
	ASSERT_TRUE(held_returns(h, THIRD));
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
}

/* Signals: with and without INTERRUPTIBLE, with and without YIELD. */

FIXTURE(signals)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(signals)
{
	__u32 flags;
	__u32 nr_workers;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(signals, strict) { .nr_workers = 1 };
FIXTURE_VARIANT_ADD(signals, yield) { .flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(signals, workers) { .nr_workers = 2 };
FIXTURE_VARIANT_ADD(signals, yield_and_workers) {
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2 };
/* clang-format on */

FIXTURE_SETUP(signals)
{
	set_up(_metadata, &self->dev, &self->held);
	if (self->held) {
		self->held->flags = variant->flags;
		self->held->nr_workers = variant->nr_workers;
	}
}

FIXTURE_TEARDOWN(signals)
{
	tear_down(self->dev, self->held);
}

/* A second call, from where the first one came to. */
static int lock_the_rest(struct held_call *h)
{
	size_t done = h->res.fail_addr - (uintptr_t)h->addr;
	struct mlock_rs_lock rest = {
		.addr = h->res.fail_addr,
		.len = HELD_NR_PAGES * page_size - done,
		.flags = h->flags,
		.nr_workers = h->nr_workers,
	};
	int ret = mlock_rs_call(h->dev, &rest);

	return ret || (!rest.locked && rest.populated == rest.len) ? ret : -EBADMSG;
}

TEST_F_TIMEOUT(signals, end_an_interruptible_call, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	h->flags |= MLOCK_RS_LOCK_INTERRUPTIBLE;
	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	ASSERT_TRUE(held_signal(h, CALL));
	/* The page has not come. */
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(-EINTR, h->thread[CALL].ret);
	EXPECT_EQ(EINTR, h->res.error);
	EXPECT_EQ(h->nr_workers - 1, h->res.nr_helpers);
	EXPECT_EQ(HELD_NR_PAGES * page_size, h->res.locked);
	EXPECT_EQ(HELD_PAGE * page_size, h->res.populated);
	EXPECT_EQ((uintptr_t)h->addr + HELD_PAGE * page_size, h->res.fail_addr);
	EXPECT_EQ(HELD_NR_PAGES, count(held_states(h), 'L') + count(held_states(h), 'l'));

	fuse_release(h->server);
	held_go(h, CALL, lock_the_rest);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
	EXPECT_EQ(HELD_NR_PAGES * page_size, h->vmlck);
}

TEST_F_TIMEOUT(signals, do_not_end_another_call, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	ASSERT_TRUE(held_signal(h, CALL));
	/* It waits as it did before; kill_test sees to it that it does so without a busy wait. */
	usleep(200000);
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_EQ(h->nr_workers - 1, h->res.nr_helpers);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
}

/* A signal that is there when the call begins: as much is done as without it, or EINTR says so. */
static int lock_with_a_signal_pending(struct held_call *h)
{
	sigset_t set, old;
	int ret;

	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	/* Blocked, it is nobody's business. */
	pthread_sigmask(SIG_BLOCK, &set, &old);
	held_signal(h, CALL);
	ret = held_lock(h);
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return ret;
}

TEST_F_TIMEOUT(signals, that_are_blocked_end_nothing, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	h->flags |= MLOCK_RS_LOCK_INTERRUPTIBLE;
	ASSERT_TRUE(held_back(h, lock_with_a_signal_pending, HELD_NR_PAGES, HELD_PAGE));
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_EQ(h->nr_workers - 1, h->res.nr_helpers);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
}

TEST_HARNESS_MAIN
