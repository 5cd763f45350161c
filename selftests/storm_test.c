// SPDX-License-Identifier: GPL-2.0
/*
 * Storms: other threads change the range while LOCK is at work on it, at random, for a while. The
 * kernel's own order of events and what becomes of the pages have to agree that a call that
 * succeeded kept its promise.
 *
 * $STORM_SECONDS is how long a storm lasts, $SEED repeats its random numbers.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>

#include "mlock_rs_test.h"
#include "race.h"
#include "trace.h"

/* So short that the lock is given up as soon as somebody waits for it. */
#define SLICE_US	20

/* Far more than any storm takes: only a hang gets here. */
#define HANG_SECONDS	600

static __u64 storm_ns(void)
{
	const char *seconds = getenv("STORM_SECONDS");

	return (seconds ? strtoull(seconds, NULL, 10) : 3) * 1000000000ULL;
}

FIXTURE(storm)
{
	/* -1: mlock(2) */
	int dev;
	__u64 random;
	struct trace trace;
};

FIXTURE_VARIANT(storm)
{
	bool is_mlock;
	__u32 flags, nr_workers;
	/* LOCKV of two ranges with a page between them. */
	bool vector;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(storm, mlock_rs) { .nr_workers = 1 };
FIXTURE_VARIANT_ADD(storm, workers) { .nr_workers = 2 };
/* Here the mapping may change within the call, and the call has to tell. */
FIXTURE_VARIANT_ADD(storm, yield) { .flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(storm, yield_and_workers) {
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(storm, vector_and_workers) { .nr_workers = 2, .vector = true };
FIXTURE_VARIANT_ADD(storm, vector_yield_and_workers) {
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2, .vector = true };
/*
 * The same storms over mlock(2), which is known to fall into the gap. How often depends on the
 * machine, so it is only told; but each time that the cheap oracle of race.h sees it, the trace has
 * to confirm it.
 */
FIXTURE_VARIANT_ADD(storm, mlock) { .is_mlock = true };
/* clang-format on */

/* What is known of mlock(2) is only there to see that it would be seen. */
static __u64 ns_of(const FIXTURE_VARIANT(storm) * variant)
{
	if (variant->is_mlock)
		return storm_ns() / 3;
	return variant->vector ? storm_ns() * 2 / 3 : storm_ns();
}

FIXTURE_SETUP(storm)
{
	self->dev = variant->is_mlock ? -1 : mlock_rs_open();
	if (!variant->is_mlock)
		ASSERT_LE(0, self->dev);
	self->random = seed();
	TH_LOG("SEED=%llu", self->random);
}

FIXTURE_TEARDOWN(storm)
{
	trace_close(&self->trace);
	if (self->dev >= 0)
		close(self->dev);
}

#define NR_STRIPES	64

/*
 * Pages in many VMAs, and one of them is replaced during each call. With workers they are so many
 * that there is something to do for each.
 */
TEST_F_TIMEOUT(storm, replace, HANG_SECONDS)
{
	struct racer *racer = racer_start();
	struct race race = {
		.dev = self->dev,
		.flags = variant->flags,
		.nr_workers = variant->nr_workers,
		.slice_us = variant->flags ? SLICE_US : 0,
		.nr_pages = 512,
		.victim = NO_VICTIM,
	};
	unsigned int calls = 0, inside = 0, wrong = 0, stale = 0;
	__u64 end = now_ns() + ns_of(variant), marking = 0, typical_ns = 0;
	pid_t tids[2];
	size_t i;

	ASSERT_NE(NULL, racer);
	tids[0] = gettid();
	tids[1] = racer_tid(racer);
	ASSERT_EQ(0, trace_open(&self->trace, tids, 2));

	/* A call that yields has to be found out at least once. */
	while (now_ns() < end || calls < 2 || (variant->flags && !stale)) {
		bool inside_this, wrong_this;

		/* The last one with something to do is the caller or a worker. */
		if (variant->nr_workers > 1)
			race.nr_pages = NR_STRIPES * (16 + random_number(&self->random) % 33);
		if (variant->vector)
			race.left_out = 1 + random_number(&self->random) % (race.nr_pages - 2);
		race.addr = map_stripes(race.nr_pages, NR_STRIPES);
		ASSERT_NE(NULL, race.addr);
		/* While a writer waits, only the caller can bring in the first page of a VMA. */
		for (i = 0; variant->nr_workers > 1 && i < NR_STRIPES; i++)
			race.addr[i * (race.nr_pages / NR_STRIPES) * page_size] = 1;
		/* The first call shows how long they take. */
		if (calls++) {
			race.victim = random_number(&self->random) % (race.nr_pages - 1);
			if (variant->vector && race.victim == race.left_out)
				race.victim--;
			race.delay_ns = random_moment(&self->random, marking, typical_ns);
		} else {
			marking = marking_ns(race.addr, race.nr_pages);
		}

		trace_start(&self->trace);
		race_run(racer, &race);
		ASSERT_EQ(0, trace_stop(&self->trace));
		typical_ns = typical_ns ? (7 * typical_ns + race.ns) / 8 : race.ns;

		inside_this = other_writer_inside(&self->trace, tids[0]);
		if (variant->flags) {
			/* The replacement is all that happens: within the call it is told. */
			ASSERT_EQ(inside_this ? -ESTALE : 0, race.ret);
			EXPECT_EQ(race.ret ? (uintptr_t)race.addr + race.victim * page_size : 0,
				  race.fail_addr);
			EXPECT_FALSE(race.ret && race_victim_is_locked(&race));
			stale += !!race.ret;
		} else {
			/* Nobody takes a page away, so there is no reason to fail. */
			ASSERT_EQ(0, race.ret);
		}
		wrong_this = race_wrong_success(racer, &race);
		inside += inside_this;
		wrong += wrong_this;

		if (!variant->is_mlock && !variant->flags && inside == 1 && inside_this)
			TH_LOG("call %u: the mapping changed within the call: %s", calls,
			       lock_sequence(&self->trace, tids[0]));
		/* The cheap oracle accuses nobody without reason. */
		if (wrong_this)
			EXPECT_TRUE(inside_this);
		munmap(race.addr, race.nr_pages * page_size);
	}
	racer_stop(racer);
	TH_LOG("%u calls, %u changed within the call, %u of them successful with a page unlocked",
	       calls, inside, wrong);
	if (!variant->is_mlock) {
		EXPECT_EQ(stale, inside);
		EXPECT_EQ(0, wrong);
	}
}

#define CHAOS_PAGES	64UL
#define CHAOS_THREADS	2
/* Of LOCKV: one of the first chunk, so that there are three with work. */
#define LEFT_OUT	20UL

/* How long a thread leaves all mapped after a change, at the most; and if that is too short. */
#define CALM_NS		400000U
#define CALM_MAX_NS	100000000U

struct chaos {
	char *addr;
	/* What is mapped, at the same offset as from @addr; -1: anonymous memory. */
	int file;
	atomic_bool blow, quit;
	atomic_uint blowing, calm_ns;
	/* Pages that were unmapped in this round. */
	atomic_bool touched[CHAOS_PAGES];
	struct chaos_thread {
		struct chaos *chaos;
		pthread_t thread;
		__u64 random;
	} thread[CHAOS_THREADS];
};

/* Maps the pages from @page on anew. */
static bool map_again(const struct chaos *c, size_t page, size_t nr)
{
	char *addr = c->addr + page * page_size;
	int flags = MAP_FIXED | (c->file < 0 ? MAP_PRIVATE | MAP_ANONYMOUS : MAP_SHARED);

	return mmap(addr, nr * page_size, PROT_READ | PROT_WRITE, flags, c->file,
		    c->file < 0 ? 0 : page * page_size) == addr;
}

static void *unmap_and_map(void *arg)
{
	struct chaos_thread *t = arg;
	struct chaos *c = t->chaos;

	while (!atomic_load(&c->quit)) {
		atomic_fetch_add(&c->blowing, 1);
		while (atomic_load(&c->blow)) {
			size_t page = random_number(&t->random) % CHAOS_PAGES;
			__u64 until;

			atomic_store(&c->touched[page], true);
			munmap(c->addr + page * page_size, page_size);
			/* The hole lasts a moment, and another moment passes without one. */
			until = now_ns() + random_number(&t->random) % 200000;
			while (now_ns() < until)
				;
			if (!map_again(c, page, 1))
				abort();
			until = now_ns() + random_number(&t->random) % atomic_load(&c->calm_ns);
			while (atomic_load(&c->blow) && now_ns() < until)
				;
		}
		atomic_fetch_sub(&c->blowing, 1);
		sched_yield();
	}
	return NULL;
}

/* All pages mapped, none locked, none resident. */
static void start_round(struct __test_metadata *_metadata, struct chaos *c)
{
	size_t i;

	ASSERT_TRUE(map_again(c, 0, CHAOS_PAGES));
	no_huge_pages(c->addr, CHAOS_PAGES * page_size);
	for (i = 0; i < CHAOS_PAGES; i++)
		atomic_store(&c->touched[i], false);
	atomic_store(&c->blow, true);
}

static void end_round(struct chaos *c)
{
	atomic_store(&c->blow, false);
	/* Threads in their outer loop come and go; none of them is within a change any more. */
	while (atomic_load(&c->blowing))
		sched_yield();
}

/*
 * Pages that were left alone have to be what the call said. Those that were not may be locked (the
 * new page was there first), fresh, or missing; but never populated and not locked ('U'), which
 * would be a call that went on with a range that it no longer had.
 */
static unsigned int check_pages(struct __test_metadata *_metadata, const struct chaos *c, int ret,
				const FIXTURE_VARIANT(storm) * variant)
{
	const char *pages = states(c->addr, CHAOS_PAGES);
	unsigned int lost = 0;
	size_t i;

	for (i = 0; i < CHAOS_PAGES; i++) {
		const char *allowed;

		if (variant->vector && i == LEFT_OUT)
			allowed = "u.";
		else if (!ret && !atomic_load(&c->touched[i]))
			allowed = "L";
		else if (ret == -ESTALE)
			/* All were marked, and some populated. */
			allowed = atomic_load(&c->touched[i]) ? "Llu." : "Ll";
		else if (variant->is_mlock)
			/* Locks the part before a hole, and goes on with a range that it lost. */
			allowed = "LluU.";
		else
			allowed = ret ? "u." : "Lu.";

		EXPECT_NE(NULL, strchr(allowed, pages[i])) {
			TH_LOG("page %zu of %s may only be one of %s", i, pages, allowed);
			return 0;
		}
		lost += !ret && pages[i] == 'U';
	}
	return lost;
}

/* A storm of unmap_and_map(), of anonymous memory or of a @file. */
static void storm_over(struct __test_metadata *_metadata, FIXTURE_DATA(storm) * self,
		       const FIXTURE_VARIANT(storm) * variant, int file)
{
	unsigned int calls = 0, locked = 0, refused = 0, stale = 0, lost = 0, helped = 0, i;
	const size_t before = vmlck(), bytes = (CHAOS_PAGES - variant->vector) * page_size;
	__u64 end = now_ns() + ns_of(variant);
	static struct chaos c;
	struct snapshot now;

	c.addr = map_region_across(CHAOS_PAGES);
	c.file = file;
	atomic_store(&c.calm_ns, CALM_NS);
	for (i = 0; i < CHAOS_THREADS; i++) {
		c.thread[i].chaos = &c;
		c.thread[i].random = random_number(&self->random);
		ASSERT_EQ(0, pthread_create(&c.thread[i].thread, NULL, unmap_and_map,
					    &c.thread[i]));
	}

	/* With only one kind of answer it would have tested nothing: go on until there are both. */
	while (now_ns() < end || !locked || !refused) {
		struct mlock_rs_lock res = {
			.addr = (uintptr_t)c.addr,
			.len = CHAOS_PAGES * page_size,
			.flags = variant->flags,
			.nr_workers = variant->nr_workers,
			.slice_us = variant->flags ? SLICE_US : 0,
		};
		__u64 until;
		int ret;

		/* On a slow kernel hardly a call gets through: let the storm abate then. */
		if (now_ns() > end && !locked && atomic_load(&c.calm_ns) < CALM_MAX_NS)
			atomic_store(&c.calm_ns, 2 * atomic_load(&c.calm_ns));
		start_round(_metadata, &c);
		until = now_ns() + random_number(&self->random) % 300000;
		while (now_ns() < until)
			;
		if (variant->is_mlock)
			ret = mlock_2(c.addr, CHAOS_PAGES * page_size);
		else
			ret = mlock_rs_parts(self->dev, &res, variant->vector ? LEFT_OUT : 0);
		end_round(&c);

		calls++;
		locked += !ret;
		refused += ret == -ENOMEM;
		stale += ret == -ESTALE;
		ASSERT_TRUE(!ret || ret == -ENOMEM || (ret == -ESTALE && variant->flags));
		if (ret == -ESTALE) {
			size_t page = (res.fail_addr - (uintptr_t)c.addr) / page_size;

			/* Not without a reason. */
			ASSERT_GT(CHAOS_PAGES, page);
			EXPECT_TRUE(atomic_load(&c.touched[page]));
			EXPECT_EQ(bytes, res.locked);
			EXPECT_GE(page * page_size, res.populated);
		} else if (!variant->is_mlock) {
			/* All or nothing, in the result as in the pages. */
			EXPECT_EQ(ret ? 0 : bytes, res.locked);
			EXPECT_EQ(ret ? 0 : bytes, res.populated);
		}
		helped += !variant->is_mlock && res.nr_helpers;
		lost += check_pages(_metadata, &c, ret, variant) > 0;
		/* Whatever happened, the accounting follows the VMAs. */
		take_snapshot(&now);
		EXPECT_EQ(locked_bytes(&now), now.vmlck);
		if (_metadata->exit_code)
			break;
	}
	atomic_store(&c.quit, true);
	for (i = 0; i < CHAOS_THREADS; i++)
		pthread_join(c.thread[i].thread, NULL);
	unmap_region(c.addr, CHAOS_PAGES);
	EXPECT_EQ(before, vmlck());
	TH_LOG("%u calls: %u locked, %u refused, %u lost a page and said so; %u did not say so",
	       calls, locked, refused, stale, lost);
	/* Whether there was anything to do for them or not. */
	EXPECT_EQ(variant->nr_workers > 1 ? locked + stale : 0, helped);
}

TEST_F_TIMEOUT(storm, unmap, HANG_SECONDS)
{
	storm_over(_metadata, self, variant, -1);
}

/*
 * Helpers can populate a mapping that is new as soon as it is there, unlike a private one, for
 * which they would have to make an anon_vma first.
 */
FIXTURE(storm_shared)
{
	FIXTURE_DATA(storm) storm;
	int file;
};

FIXTURE_SETUP(storm_shared)
{
	self->storm.dev = mlock_rs_open();
	ASSERT_LE(0, self->storm.dev);
	self->storm.random = seed();
	TH_LOG("SEED=%llu", self->storm.random);
	self->file = memfd_create("storm", MFD_CLOEXEC);
	ASSERT_LE(0, self->file);
	ASSERT_EQ(0, ftruncate(self->file, CHAOS_PAGES * page_size));
}

FIXTURE_TEARDOWN(storm_shared)
{
	close(self->file);
	close(self->storm.dev);
}

TEST_F_TIMEOUT(storm_shared, unmap, HANG_SECONDS)
{
	const FIXTURE_VARIANT(storm) yield_and_workers = {
		.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2,
	};

	storm_over(_metadata, &self->storm, &yield_and_workers, self->file);
}

TEST_HARNESS_MAIN
