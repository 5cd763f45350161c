// SPDX-License-Identifier: GPL-2.0
/*
 * While LOCK waits for a page, another thread changes the address space, and waits until the range
 * is locked and resident; while mlock(2) waits for a page, it does not wait, and mlock(2) returns
 * success all the same. One operation each, in an order that the test makes, not the clock.
 *
 * Documentation/interleavings.md has the results in a table.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "held_call.h"
#include "held_ops.h"
#include "mlock_rs_test.h"

/* The page that does not come, and the one that is next. */
#define HELD_PAGE	5UL
#define VICTIM_PAGE	6UL

/* One hold of the mmap lock, see protocol_test. */
#define STRICT	"start-write acquired-write acquired-read released-read"

FIXTURE(meanwhile)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(meanwhile)
{
	int (*run)(struct held_call *h);
	/* What it returns. */
	int ret;
	/* Whether it waits for LOCK. Nothing waits for mlock(2). */
	bool waits;
	/* What mlock(2) returns; LOCK returns 0. */
	int mlock_ret;
	/* The pages when all is over, and the page elsewhere if it matters. */
	const char *after_lock, *after_mlock;
	char elsewhere_after_lock, elsewhere_after_mlock;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(meanwhile, munmap) {
	.run = op_munmap, .waits = true,
	.after_lock = "LLLLLL.L", .after_mlock = "LLLLLL.L" };
/* The new page was there before mlock(2) came to it: resident, not locked. */
FIXTURE_VARIANT_ADD(meanwhile, mmap_fixed) {
	.run = op_mmap_fixed, .waits = true,
	.after_lock = "LLLLLLuL", .after_mlock = "LLLLLLUL" };
FIXTURE_VARIANT_ADD(meanwhile, mremap) {
	.run = op_mremap, .waits = true,
	.after_lock = "LLLLLL.L", .elsewhere_after_lock = 'L',
	.after_mlock = "LLLLLL.L", .elsewhere_after_mlock = 'l' };
FIXTURE_VARIANT_ADD(meanwhile, mprotect) {
	.run = op_mprotect, .waits = true, .mlock_ret = -ENOMEM,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLll" };
FIXTURE_VARIANT_ADD(meanwhile, mmap_elsewhere) {
	.run = op_mmap_elsewhere, .waits = true,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
FIXTURE_VARIANT_ADD(meanwhile, madvise_dontdump) {
	.run = op_dontdump, .waits = true,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
FIXTURE_VARIANT_ADD(meanwhile, madvise_collapse) {
	.run = op_collapse, .waits = true,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
/* Refused, for the memory is locked already. */
FIXTURE_VARIANT_ADD(meanwhile, madvise_dontneed) {
	.run = op_dontneed, .ret = -EINVAL,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
/* Takes the page away, not the mapping: this is not what the mmap lock is for. */
FIXTURE_VARIANT_ADD(meanwhile, madvise_dontneed_locked) {
	.run = op_dontneed_locked,
	.after_lock = "LLlLLLLL", .after_mlock = "LLlLLLLL" };
FIXTURE_VARIANT_ADD(meanwhile, madvise_cold) {
	.run = op_cold, .ret = -EINVAL,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
FIXTURE_VARIANT_ADD(meanwhile, madvise_populate_read) {
	.run = op_populate,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
FIXTURE_VARIANT_ADD(meanwhile, munlock) {
	.run = op_munlock, .waits = true,
	.after_lock = "LLLLLLUL", .after_mlock = "LLLLLLUL" };
FIXTURE_VARIANT_ADD(meanwhile, unlock) {
	.run = op_unlock, .waits = true,
	.after_lock = "LLLLLLUL", .after_mlock = "LLLLLLUL" };
FIXTURE_VARIANT_ADD(meanwhile, lock) {
	.run = op_lock, .waits = true,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
FIXTURE_VARIANT_ADD(meanwhile, mlock) {
	.run = op_mlock, .waits = true,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
FIXTURE_VARIANT_ADD(meanwhile, fork) {
	.run = op_fork, .waits = true,
	.after_lock = "LLLLLLLL", .after_mlock = "LLLLLLLL" };
/* clang-format on */

FIXTURE_SETUP(meanwhile)
{
	self->held = NULL;
	self->dev = -1;
	if (variant->run == op_collapse && access("/sys/kernel/mm/transparent_hugepage", F_OK))
		SKIP(return, "no transparent huge pages, as with PREEMPT_RT");
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->held = held_start(self->dev, 1U << HELD_PAGE);
	if (!self->held)
		SKIP(return, "no FUSE: %s", strerror(errno));
	self->held->victim = VICTIM_PAGE;
}

FIXTURE_TEARDOWN(meanwhile)
{
	if (self->held)
		held_stop(self->held);
	if (self->dev >= 0)
		close(self->dev);
}

static void expect_locked(struct __test_metadata *_metadata, const struct mlock_rs_lock *res)
{
	EXPECT_EQ(HELD_NR_PAGES * page_size, res->locked);
	EXPECT_EQ(HELD_NR_PAGES * page_size, res->populated);
	EXPECT_EQ(0, res->fail_addr);
	EXPECT_EQ(1, res->nr_vmas);
	EXPECT_EQ(0, res->error);
}

static void expect_pages(struct __test_metadata *_metadata, struct held_call *h, const char *pages,
			 char elsewhere)
{
	EXPECT_STREQ(pages, held_states(h));
	if (elsewhere)
		EXPECT_EQ(elsewhere, h->elsewhere_state);
	EXPECT_EQ((count(pages, 'L') + count(pages, 'l') + !!elsewhere) * page_size, h->vmlck);
}

static void while_lock_waits(struct __test_metadata *_metadata, FIXTURE_DATA(meanwhile) * self,
			     const FIXTURE_VARIANT(meanwhile) * variant, __u32 nr_workers)
{
	struct held_call *h = self->held;

	h->nr_workers = nr_workers;
	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, variant->run);
	ASSERT_TRUE(variant->waits ? held_waits_to_write(h, OTHER) : held_returns(h, OTHER))
	{
		TH_LOG("it returned %d", h->thread[OTHER].ret);
	}
	EXPECT_EQ(!variant->waits, held_returned(h, OTHER));
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	ASSERT_TRUE(held_returns(h, OTHER));
	ASSERT_EQ(0, trace_stop(&h->trace));

	EXPECT_EQ(0, h->thread[CALL].ret);
	expect_locked(_metadata, &h->res);
	EXPECT_EQ(nr_workers - 1, h->res.nr_helpers);
	EXPECT_EQ(variant->ret, h->thread[OTHER].ret);
	expect_pages(_metadata, h, variant->after_lock, variant->elsewhere_after_lock);
	/* One hold, and nobody else in it. */
	EXPECT_FALSE(writer_before_release(&h->trace, h->thread[OTHER].tid, h->thread[CALL].tid));
	if (variant->run == op_fork) {
		/* What the thread writes to afterwards may be its child's as well: a fault. */
		EXPECT_EQ(0, strncmp(STRICT, lock_sequence(&h->trace, h->thread[CALL].tid),
				     strlen(STRICT)));
	} else {
		EXPECT_STREQ(STRICT, lock_sequence(&h->trace, h->thread[CALL].tid));
		EXPECT_FALSE(other_writer_inside(&h->trace, h->thread[CALL].tid));
	}
}

TEST_F_TIMEOUT(meanwhile, while_lock_waits, HELD_TEST_SECONDS)
{
	while_lock_waits(_metadata, self, variant, 1);
}

TEST_F_TIMEOUT(meanwhile, while_lock_with_a_helper_waits, HELD_TEST_SECONDS)
{
	while_lock_waits(_metadata, self, variant, 2);
}

TEST_F_TIMEOUT(meanwhile, while_mlock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	ASSERT_TRUE(held_back(h, held_mlock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, variant->run);
	ASSERT_TRUE(held_returns(h, OTHER));
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, CALL));
	ASSERT_EQ(0, trace_stop(&h->trace));

	/* Success, although it has happened during the call. */
	EXPECT_EQ(variant->mlock_ret, h->thread[CALL].ret);
	EXPECT_EQ(variant->ret, h->thread[OTHER].ret);
	expect_pages(_metadata, h, variant->after_mlock, variant->elsewhere_after_mlock);
	/* The proof that the test of LOCK would see it. */
	EXPECT_EQ(variant->waits, other_writer_inside(&h->trace, h->thread[CALL].tid));
}

/*
 * Two calls and a writer behind the second one. When the first call is over, the second one gets
 * the lock to mark its half, and the writer is next: this is the moment at which mlock(2) lets go.
 */
#define HALF		(HELD_NR_PAGES / 2)
#define FIRST_HELD	2UL
#define SECOND_HELD	HELD_PAGE

static int lock_first_half(struct held_call *h)
{
	return mlock_rs(h->dev, h->addr, HALF * page_size, NULL);
}

static int lock_second_half(struct held_call *h)
{
	return mlock_rs(h->dev, h->addr + HALF * page_size, HALF * page_size, NULL);
}

static int mlock_second_half(struct held_call *h)
{
	return mlock_2(h->addr + HALF * page_size, HALF * page_size);
}

FIXTURE(queue)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(queue)
{
	/* The second call, and whether the writer waits until it is over. */
	int (*run)(struct held_call *h);
	bool writer_waits;
	const char *after;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(queue, lock) {
	.run = lock_second_half, .writer_waits = true, .after = "LLLLLLuL" };
FIXTURE_VARIANT_ADD(queue, mlock) {
	.run = mlock_second_half, .after = "LLLLLLUL" };
/* clang-format on */

FIXTURE_SETUP(queue)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->held = held_start(self->dev, 1U << FIRST_HELD | 1U << SECOND_HELD);
	if (!self->held)
		SKIP(return, "no FUSE: %s", strerror(errno));
	self->held->victim = VICTIM_PAGE;
}

FIXTURE_TEARDOWN(queue)
{
	if (self->held)
		held_stop(self->held);
	close(self->dev);
}

/* Waits until both halves are marked. */
static bool wait_marked(const struct held_call *h)
{
	unsigned long long begin = now_ns();

	while (status_number(h->pid, "VmLck:") * 1024L != (long)(HELD_NR_PAGES * page_size))
		if (give_up(begin))
			return false;
	return true;
}

TEST_F_TIMEOUT(queue, a_writer_that_was_there_before_the_downgrade, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	const pid_t second = h->thread[OTHER].tid;

	ASSERT_TRUE(held_back(h, lock_first_half, HALF, FIRST_HELD));
	fuse_hold(h->server, SECOND_HELD);
	held_go(h, OTHER, variant->run);
	ASSERT_TRUE(held_waits_to_write(h, OTHER));
	held_go(h, THIRD, op_mmap_fixed);
	ASSERT_TRUE(held_waits_to_write(h, THIRD));

	fuse_answer(h->server, FIRST_HELD);
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	if (variant->writer_waits) {
		ASSERT_TRUE(wait_marked(h));
		/* Time enough for the writer. */
		ASSERT_TRUE(wait_waits(second));
		EXPECT_FALSE(held_returned(h, THIRD));
	} else {
		ASSERT_TRUE(held_returns(h, THIRD));
	}
	EXPECT_FALSE(held_returned(h, OTHER));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, OTHER));
	ASSERT_TRUE(held_returns(h, THIRD));
	ASSERT_EQ(0, trace_stop(&h->trace));

	EXPECT_EQ(0, h->thread[OTHER].ret);
	EXPECT_EQ(0, h->thread[THIRD].ret);
	expect_pages(_metadata, h, variant->after, 0);
	EXPECT_EQ(!variant->writer_waits, other_writer_inside(&h->trace, second));
	/* A reader may take the lock before a writer that is waiting: luck is not enough. */
	if (variant->writer_waits)
		EXPECT_STREQ(STRICT, lock_sequence(&h->trace, second));
}

/*
 * The file gets shorter: no business of the mmap lock. LOCK looks for its page again, as it lies in
 * private and writable memory, and finds the end of the file before it; mlock(2) sleeps until the
 * page comes and finds it then.
 */
#define NR_LEFT		2UL

static int do_truncate(struct held_call *h)
{
	return ftruncate(h->file, NR_LEFT * page_size) ? -errno : 0;
}

FIXTURE(truncate)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(truncate)
{
	__u32 flags, nr_workers;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(truncate, strict) { .nr_workers = 1 };
FIXTURE_VARIANT_ADD(truncate, with_a_helper) { .nr_workers = 2 };
FIXTURE_VARIANT_ADD(truncate, yield) { .flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(truncate, yield_with_a_helper) {
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2 };
/* clang-format on */

FIXTURE_SETUP(truncate)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->held = held_start(self->dev, 1U << HELD_PAGE);
	if (!self->held)
		SKIP(return, "no FUSE: %s", strerror(errno));
}

FIXTURE_TEARDOWN(truncate)
{
	if (self->held)
		held_stop(self->held);
	close(self->dev);
}

TEST_F_TIMEOUT(truncate, while_lock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	h->flags = variant->flags;
	h->nr_workers = variant->nr_workers;
	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, do_truncate);
	/* It has changed the size, and then waits for the page, as the call does. */
	ASSERT_TRUE(held_sleeps_in(h, OTHER, "truncate_inode_pages_range"));
	/* Without the lock it sleeps until the page comes, as mlock(2) does. */
	if (!(variant->flags & MLOCK_RS_LOCK_YIELD)) {
		ASSERT_TRUE(held_returns(h, CALL));
		EXPECT_FALSE(held_returned(h, OTHER));
	}
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, OTHER));
	ASSERT_TRUE(held_returns(h, CALL));

	EXPECT_EQ(0, h->thread[OTHER].ret);
	EXPECT_EQ(-ENOMEM, h->thread[CALL].ret);
	EXPECT_EQ((uintptr_t)h->addr + HELD_PAGE * page_size, h->res.fail_addr);
	EXPECT_EQ(HELD_PAGE * page_size, h->res.populated);
	EXPECT_EQ(variant->nr_workers - 1, h->res.nr_helpers);
	EXPECT_STREQ("LLllllll", held_states(h));
	EXPECT_EQ(HELD_NR_PAGES * page_size, h->vmlck);
}

TEST_F_TIMEOUT(truncate, while_mlock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;

	/* Once is enough. */
	if (variant->flags || variant->nr_workers > 1)
		return;
	ASSERT_TRUE(held_back(h, held_mlock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, do_truncate);
	ASSERT_TRUE(held_sleeps_in(h, OTHER, "truncate_inode_pages_range"));
	EXPECT_FALSE(held_returned(h, CALL));
	fuse_release(h->server);
	ASSERT_TRUE(held_returns(h, OTHER));
	ASSERT_TRUE(held_returns(h, CALL));

	EXPECT_EQ(0, h->thread[OTHER].ret);
	EXPECT_EQ(-ENOMEM, h->thread[CALL].ret);
	EXPECT_STREQ("LLllllll", held_states(h));
	EXPECT_EQ(HELD_NR_PAGES * page_size, h->vmlck);
}

TEST_HARNESS_MAIN
