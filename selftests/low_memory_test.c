// SPDX-License-Identifier: GPL-2.0
/*
 * The whole machine has no memory left for the pages: the OOM killer ends the call as it ends
 * mlock(2), and nothing of what was locked by then stays so. memcg_test.c has the same for a group.
 *
 * Nearly all memory is made hugetlb pages, which nobody uses, so that there is little to fill.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>

#include "locker.h"
#include "mlock_rs_test.h"
#include "thread_state.h"

#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
/* What is left beside the kernel's reserve, and what the CPUs keep for themselves. */
#define LEFT		(32UL << 20)

static const struct way {
	const char *name;
	bool with_mlock;
	__u32 flags, nr_workers;
} ways[] = {
	{ "mlock(2)", .with_mlock = true },
	{ "alone", .nr_workers = 1 },
	{ "with a helper", .nr_workers = 2 },
	{ "with YIELD", .flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 1 },
};

FIXTURE(low_memory)
{
	int dev;
	long nr_hugepages;
	/* What is asked for: all that was free before. */
	size_t len;
};

FIXTURE_SETUP(low_memory)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->nr_hugepages = read_number(NR_HUGEPAGES);
	if (self->nr_hugepages < 0)
		SKIP(return, "no hugetlb pages");
}

FIXTURE_TEARDOWN_PARENT(low_memory)
{
	/* For the whole machine: also put back when the test has failed. */
	if (self->nr_hugepages >= 0)
		write_number(NR_HUGEPAGES, self->nr_hugepages);
}

/* A process that locks too much, and is the first one to be killed. Returns how it ended. */
static int lock_too_much(struct __test_metadata *_metadata, const FIXTURE_DATA(low_memory) * self,
			 const struct way *way)
{
	struct mlock_rs_lock arg = {
		.len = self->len, .flags = way->flags, .nr_workers = way->nr_workers,
	};
	pid_t child = fork_with_test();
	int status;

	ASSERT_LE(0, child);
	if (child) {
		ASSERT_EQ(child, waitpid(child, &status, 0));
		return status;
	}
	if (write_text("/proc/self/oom_score_adj", "1000"))
		_exit(1);
	arg.addr = (uintptr_t)map_region(arg.len / page_size);
	if (way->with_mlock)
		_exit(mlock_2((void *)(uintptr_t)arg.addr, arg.len) ? 2 : 3);
	_exit(mlock_rs_call(self->dev, &arg) ? 2 : 3);
}

TEST_F_TIMEOUT(low_memory, the_oom_killer_ends_the_call, 300)
{
	/* The OOM killer comes when that is touched; a quarter for whoever is woken up by it. */
	const size_t reserve = read_number("/proc/sys/vm/min_free_kbytes") * 1024UL * 5 / 4;
	const long mlocked = mlocked_kb();
	size_t i;

	self->len = read_field("/proc/meminfo", "MemFree:") * 1024UL;
	ASSERT_LT(2 * (reserve + LEFT), self->len);
	ASSERT_EQ(0, write_number(NR_HUGEPAGES, self->nr_hugepages +
				  (self->len - reserve - LEFT) / HUGE_SIZE));
	for (i = 0; i < ARRAY_SIZE(ways); i++) {
		int status = lock_too_much(_metadata, self, &ways[i]);

		/* It did not come back with success, nor at all. */
		EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL) {
			TH_LOG("%s: status %#x", ways[i].name, status);
		}
	}
	ASSERT_EQ(0, write_number(NR_HUGEPAGES, self->nr_hugepages));
	/* None of the pages has kept the mark. */
	ASSERT_TRUE(comes_about(mlocked_kb() == mlocked)) {
		TH_LOG("%ld kB are still locked, not %ld", mlocked_kb(), mlocked);
	}
}

TEST_HARNESS_MAIN
