// SPDX-License-Identifier: GPL-2.0
/*
 * A memory control group at its limit: LOCK ends as mlock(2) does, killed or with an errno, and
 * leaves nothing behind.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include "locker.h"
#include "memcg.h"
#include "mlock_rs_test.h"
#include "thread_state.h"

#define LIMIT		"8M"
#define NR_PAGES	4096UL

static struct memcg memcg;

FIXTURE(memcg)
{
	int dev;
	char *addr;
	/* Of LOCK and of mlock(2). */
	struct lock_call *call[2];
};

FIXTURE_VARIANT(memcg)
{
	__u32 nr_workers;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(memcg, alone) { .nr_workers = 1 };
FIXTURE_VARIANT_ADD(memcg, with_help) { .nr_workers = 2 };
/* clang-format on */

FIXTURE_SETUP(memcg)
{
	int i;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	for (i = 0; i < 2; i++) {
		self->call[i] = lock_call_new(self->dev, self->addr, NR_PAGES);
		self->call[i]->with_mlock = i;
		self->call[i]->nr_workers = variant->nr_workers;
	}
	if (memcg_create(&memcg, "memcg_test"))
		SKIP(return, "no memory control groups");
	ASSERT_EQ(0, memcg_set(&memcg, "memory.max", LIMIT));
	/* Without swap, where the kernel has it. */
	memcg_set(&memcg, "memory.swap.max", "0");
}

FIXTURE_TEARDOWN(memcg)
{
	memcg_destroy(&memcg);
	close(self->dev);
}

static void enter(const char *oom_score_adj)
{
	if (write_text("/proc/self/oom_score_adj", oom_score_adj) || memcg_enter(&memcg))
		_exit(1);
}

static void be_the_first_to_go(struct lock_call *call)
{
	(void)call;
	enter("1000");
}

/* In the group, lock twice as much as its limit. Returns how the process ended. */
static int lock_too_much(struct __test_metadata *_metadata, struct lock_call *call)
{
	pid_t child;
	int status;

	call->before = be_the_first_to_go;
	child = lock_call_start(call);
	ASSERT_LT(0, child);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	return status;
}

TEST_F(memcg, limit_kills)
{
	long kills;

	ASSERT_EQ(SIGKILL, WTERMSIG(lock_too_much(_metadata, self->call[1])));
	kills = memcg_oom_kills(&memcg);
	ASSERT_LT(0, kills);
	/* The same end for both, */
	EXPECT_EQ(SIGKILL, WTERMSIG(lock_too_much(_metadata, self->call[0])));
	/* by the same hand, */
	EXPECT_EQ(kills + 1, memcg_oom_kills(&memcg));
	/* and the same range can be locked where there is room. */
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(NR_PAGES, resident_pages(self->addr, NR_PAGES));
	EXPECT_EQ(0, munmap(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, vmlck());
}

static void be_the_last_to_go(struct lock_call *call)
{
	/* All that is used after the call until there is room is faulted in before it. */
	memset(call->states, 0, sizeof(call->states));
	mlock_rs(call->dev, NULL, 0, &call->res);
	mlock_2(NULL, 0);
	usleep(1);
	enter("-1000");
}

/* The same with a process that the OOM killer does not touch, which is given room afterwards. */
static void lock_too_much_unkillable(struct __test_metadata *_metadata, struct lock_call *call)
{
	__u64 begin = now_ns();
	pid_t child;
	int status;

	ASSERT_EQ(0, memcg_set(&memcg, "memory.max", LIMIT));
	call->before = be_the_last_to_go;
	atomic_store(&call->stay, true);
	child = lock_call_start(call);
	ASSERT_LT(0, child);
	while (!atomic_load(&call->returned)) {
		ASSERT_FALSE(give_up(begin)) {
			TH_LOG("state %c", thread_state(child));
		}
	}
	ASSERT_EQ(0, memcg_set(&memcg, "memory.max", "max"));
	atomic_store(&call->stay, false);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	ASSERT_EQ(0, WEXITSTATUS(status));
}

TEST_F(memcg, limit_and_nobody_to_kill)
{
	const struct lock_call *mine = self->call[0], *theirs = self->call[1];
	const long kills = memcg_oom_kills(&memcg);
	size_t resident;

	lock_too_much_unkillable(_metadata, self->call[1]);
	lock_too_much_unkillable(_metadata, self->call[0]);
	EXPECT_EQ(kills, memcg_oom_kills(&memcg));
	/* No memory for a page is EAGAIN, and the range is marked. */
	EXPECT_EQ(-EAGAIN, theirs->ret);
	EXPECT_EQ(theirs->ret, mine->ret);
	EXPECT_EQ(theirs->vmlck, mine->vmlck);
	EXPECT_EQ(NR_PAGES * page_size, mine->vmlck);
	EXPECT_EQ(NR_PAGES, count(mine->states, 'l') + count(mine->states, 'L'));
	/* The result says where it ended: at the lowest page that is missing, whoever met it. */
	EXPECT_EQ(variant->nr_workers - 1, mine->res.nr_helpers);
	resident = strspn(mine->states, "L");
	EXPECT_LT(0, resident);
	EXPECT_GT(NR_PAGES, resident);
	if (variant->nr_workers == 1)
		EXPECT_EQ(resident, count(mine->states, 'L'));
	EXPECT_EQ(resident * page_size, mine->res.populated);
	EXPECT_EQ((uintptr_t)self->addr + resident * page_size, mine->res.fail_addr);
	EXPECT_EQ(EAGAIN, mine->res.error);
	EXPECT_EQ(NR_PAGES * page_size, mine->res.locked);
}

TEST_HARNESS_MAIN
