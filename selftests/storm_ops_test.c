// SPDX-License-Identifier: GPL-2.0
/*
 * Storms of everything that can be done to an address space, at random and by several threads at
 * once, LOCK and UNLOCK among it. When they pause, VmLck has to be what the VMAs add up to, and
 * when all memory is given back nothing may be left of it.
 *
 * $STORM_SECONDS is how long a storm lasts, $SEED repeats its random numbers.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "mlock_rs_test.h"

/* Far more than any storm takes: only a hang gets here. */
#define HANG_SECONDS	600

#define ARENA_PAGES	1024UL
#define NR_THREADS	4
#define ROUND_OPS	40
#define MAX_PAGES	64
#define NR_RANGES	8

static __u64 storm_ns(void)
{
	const char *seconds = getenv("STORM_SECONDS");

	return (seconds ? strtoull(seconds, NULL, 10) : 5) * 1000000000ULL;
}

/* Waits until it is @kb again, which takes as long as pages are freed behind our back. */
static bool mlocked_returns_to(long kb)
{
	__u64 end = now_ns() + 10000000000ULL;

	while (mlocked_kb() != kb) {
		if (now_ns() > end)
			return false;
		usleep(10000);
	}
	return true;
}

struct thread {
	struct arena *arena;
	pthread_t thread;
	__u64 random;
};

struct arena {
	int dev, memfd, zero;
	char *addr;
	pthread_barrier_t begin, end;
	bool quit;
	/* The first answer that nobody may give: which operation, and its errno. */
	atomic_int wrong_op, wrong_errno;
	atomic_uint locked, refused, helped;
	struct thread thread[NR_THREADS];
};

struct piece {
	char *addr;
	size_t len;
};

static struct piece random_piece(struct thread *t)
{
	size_t nr_pages = 1 + random_number(&t->random) % MAX_PAGES;
	size_t first = random_number(&t->random) % (ARENA_PAGES - nr_pages + 1);

	return (struct piece){ t->arena->addr + first * page_size, nr_pages * page_size };
}

/* A piece in which another thread can help to populate: some of it lies in each huge page. */
static struct piece random_piece_across(struct thread *t)
{
	size_t before = 1 + random_number(&t->random) % (MAX_PAGES / 2);
	size_t after = 1 + random_number(&t->random) % (MAX_PAGES / 2);

	return (struct piece){ t->arena->addr + HUGE_SIZE - before * page_size,
			       (before + after) * page_size };
}

static int fill(const struct piece *p)
{
	return mmap(p->addr, p->len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0) == MAP_FAILED ? -errno : 0;
}

/* The operations. Each returns 0 or -errno. */

static int op_replace(struct thread *t)
{
	struct piece p = random_piece(t);

	munmap(p.addr, p.len);
	return fill(&p);
}

static int op_map_shared(struct thread *t)
{
	struct piece p = random_piece(t);
	size_t pos = p.addr - t->arena->addr;

	return mmap(p.addr, p.len, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED, t->arena->memfd,
		    pos) == MAP_FAILED ? -errno : 0;
}

static int op_mremap_move(struct thread *t)
{
	struct piece from = random_piece(t), to = random_piece(t);
	size_t len = from.len < to.len ? from.len : to.len;

	/* EINVAL if they overlap, EFAULT if there is a hole. */
	if (mremap(from.addr, len, len, MREMAP_MAYMOVE | MREMAP_FIXED, to.addr) == MAP_FAILED)
		return -errno;
	from.len = len;
	return fill(&from);
}

static int op_mremap_shrink(struct thread *t)
{
	struct piece p = random_piece(t), rest;
	size_t kept = (p.len / page_size + 1) / 2 * page_size;

	if (mremap(p.addr, p.len, kept, 0) == MAP_FAILED)
		return -errno;
	rest = (struct piece){ p.addr + kept, p.len - kept };
	/* Locked memory that grows is populated by mremap(2) itself. */
	if (rest.len && mremap(p.addr, kept, p.len, 0) == MAP_FAILED)
		return fill(&rest);
	return 0;
}

static int op_mprotect(struct thread *t)
{
	static const int prots[] = {
		PROT_NONE, PROT_READ, PROT_READ | PROT_WRITE, PROT_READ | PROT_WRITE,
	};
	struct piece p = random_piece(t);

	return mprotect(p.addr, p.len, prots[random_number(&t->random) % ARRAY_SIZE(prots)]) ?
		-errno : 0;
}

static int advise(struct thread *t, int advice)
{
	struct piece p = random_piece(t);

	return madvise(p.addr, p.len, advice) ? -errno : 0;
}

static int op_dontneed(struct thread *t)
{
	return advise(t, MADV_DONTNEED);
}

static int op_dontneed_locked(struct thread *t)
{
	return advise(t, 24);
}

static int op_free(struct thread *t)
{
	return advise(t, MADV_FREE);
}

static int op_collapse(struct thread *t)
{
	size_t huge = random_number(&t->random) % (ARENA_PAGES * page_size / HUGE_SIZE);

	return madvise(t->arena->addr + huge * HUGE_SIZE, HUGE_SIZE, 25) ? -errno : 0;
}

static int op_fork(struct thread *t)
{
	pid_t child = fork();
	int status;

	(void)t;
	if (child < 0)
		return -errno;
	/* A child has nothing locked, whatever the parent was in the middle of. */
	if (!child)
		_exit(vmlck() != 0);
	if (waitpid(child, &status, 0) != child)
		return -errno;
	return WIFEXITED(status) && !WEXITSTATUS(status) ? 0 : -EBADMSG;
}

static int op_touch(struct thread *t)
{
	struct piece p = random_piece(t);

	/* A write that fails where it must not go, instead of a signal. */
	return read(t->arena->zero, p.addr, p.len) < 0 ? -errno : 0;
}

static int lock_piece(struct thread *t, __u32 flags, __u32 nr_workers)
{
	struct piece p = nr_workers > 1 ? random_piece_across(t) : random_piece(t);
	struct mlock_rs_lock arg = {
		.addr = (uintptr_t)p.addr,
		.len = p.len,
		.flags = flags,
		.nr_workers = nr_workers,
		.slice_us = flags & MLOCK_RS_LOCK_YIELD ? 1 + random_number(&t->random) % 100 : 0,
	};
	const size_t populated = flags & MLOCK_RS_LOCK_ONFAULT ? 0 : p.len;
	int ret = ioctl(t->arena->dev, MLOCK_RS_LOCK, &arg) ? -errno : 0;

	atomic_fetch_add(ret ? &t->arena->refused : &t->arena->locked, 1);
	if (arg.nr_helpers)
		atomic_fetch_add(&t->arena->helped, 1);
	if (-ret != (int)arg.error || arg.locked > p.len)
		return -EBADMSG;
	if (!ret && (arg.populated != populated || arg.fail_addr || !arg.nr_vmas))
		return -EBADMSG;
	/* A failure before the first change has changed nothing. */
	if (ret && !arg.nr_vmas && (arg.locked || arg.populated))
		return -EBADMSG;
	return ret;
}

static int op_lock(struct thread *t)
{
	return lock_piece(t, 0, 0);
}

static int op_lock_helped(struct thread *t)
{
	return lock_piece(t, 0, 2);
}

static int op_lock_yield(struct thread *t)
{
	return lock_piece(t, MLOCK_RS_LOCK_YIELD, 1 + random_number(&t->random) % 2);
}

static int op_lock_onfault(struct thread *t)
{
	return lock_piece(t, MLOCK_RS_LOCK_ONFAULT, 0);
}

static int op_unlock(struct thread *t)
{
	struct piece p = random_piece(t);
	struct mlock_rs_unlock arg = { .addr = (uintptr_t)p.addr, .len = p.len };
	int ret = ioctl(t->arena->dev, MLOCK_RS_UNLOCK, &arg) ? -errno : 0;

	return -ret != (int)arg.error || arg.unlocked > p.len ? -EBADMSG : ret;
}

static void random_ranges(struct thread *t, struct mlock_rs_range *ranges)
{
	size_t i;

	for (i = 0; i < NR_RANGES; i++) {
		struct piece p = random_piece(t);

		ranges[i] = (struct mlock_rs_range){ (uintptr_t)p.addr, p.len / 4 };
	}
}

static int op_lockv(struct thread *t)
{
	struct mlock_rs_range ranges[NR_RANGES];
	struct mlock_rs_lockv arg = { .ranges = (uintptr_t)ranges, .nr_ranges = NR_RANGES };
	int ret;

	random_ranges(t, ranges);
	ret = ioctl(t->arena->dev, MLOCK_RS_LOCKV, &arg) ? -errno : 0;
	if (-ret != (int)arg.error || (!ret && arg.locked > arg.populated))
		return -EBADMSG;
	return ret;
}

static int op_unlockv(struct thread *t)
{
	struct mlock_rs_range ranges[NR_RANGES];
	struct mlock_rs_unlockv arg = { .ranges = (uintptr_t)ranges, .nr_ranges = NR_RANGES };
	int ret;

	random_ranges(t, ranges);
	ret = ioctl(t->arena->dev, MLOCK_RS_UNLOCKV, &arg) ? -errno : 0;
	return -ret != (int)arg.error ? -EBADMSG : ret;
}

static int op_query(struct thread *t)
{
	struct piece p = random_piece(t);
	struct mlock_rs_query arg = { .addr = (uintptr_t)p.addr, .len = p.len };

	if (ioctl(t->arena->dev, MLOCK_RS_QUERY, &arg))
		return -errno;
	/* One instant: these cannot contradict each other. */
	if (arg.mapped > p.len || arg.locked > arg.mapped || arg.onfault > arg.locked ||
	    arg.resident > arg.mapped)
		return -EBADMSG;
	return 0;
}

static int op_mlock(struct thread *t)
{
	struct piece p = random_piece(t);

	return mlock_2(p.addr, p.len);
}

static int op_munlock(struct thread *t)
{
	struct piece p = random_piece(t);

	return munlock(p.addr, p.len) ? -errno : 0;
}

static const struct op {
	const char *name;
	int (*run)(struct thread *t);
	/* What it may answer but 0. */
	int allowed[3];
} ops[] = {
	/* clang-format off */
	{ "replace", op_replace, {} },
	{ "map shared", op_map_shared, {} },
	/* A piece that is not one VMA, or not there at all. */
	{ "mremap to another place", op_mremap_move, { EINVAL, EFAULT, ENOMEM } },
	{ "mremap to another size", op_mremap_shrink, { EINVAL, EFAULT, ENOMEM } },
	{ "mprotect", op_mprotect, { ENOMEM } },
	{ "DONTNEED", op_dontneed, { EINVAL, ENOMEM } },
	{ "DONTNEED_LOCKED", op_dontneed_locked, { ENOMEM } },
	{ "FREE", op_free, { EINVAL, ENOMEM } },
	{ "COLLAPSE", op_collapse, { EINVAL, EAGAIN, ENOMEM } },
	{ "fork", op_fork, {} },
	{ "touch", op_touch, { EFAULT } },
	{ "LOCK", op_lock, { ENOMEM } },
	{ "LOCK with a helper", op_lock_helped, { ENOMEM } },
	{ "LOCK with YIELD", op_lock_yield, { ENOMEM, ESTALE } },
	{ "LOCK on fault", op_lock_onfault, { ENOMEM } },
	{ "UNLOCK", op_unlock, { ENOMEM } },
	{ "LOCKV", op_lockv, { ENOMEM } },
	{ "UNLOCKV", op_unlockv, { ENOMEM } },
	{ "QUERY", op_query, {} },
	{ "mlock", op_mlock, { ENOMEM, EAGAIN } },
	{ "munlock", op_munlock, { ENOMEM } },
	/* clang-format on */
};

static void *blow(void *arg)
{
	struct thread *t = arg;
	struct arena *a = t->arena;
	int i, ret, none;

	for (;;) {
		pthread_barrier_wait(&a->begin);
		if (a->quit)
			return NULL;
		for (i = 0; i < ROUND_OPS; i++) {
			int op = random_number(&t->random) % ARRAY_SIZE(ops);
			const int *allowed = ops[op].allowed;

			ret = -ops[op].run(t);
			if (!ret || ret == allowed[0] || ret == allowed[1] || ret == allowed[2])
				continue;
			none = -1;
			if (atomic_compare_exchange_strong(&a->wrong_op, &none, op))
				atomic_store(&a->wrong_errno, ret);
		}
		pthread_barrier_wait(&a->end);
	}
}

FIXTURE(storm)
{
	int dev;
	__u64 random;
};

FIXTURE_SETUP(storm)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->random = seed();
	TH_LOG("SEED=%llu", self->random);
}

FIXTURE_TEARDOWN(storm)
{
	close(self->dev);
}

TEST_F_TIMEOUT(storm, every_operation_at_once, HANG_SECONDS)
{
	static struct snapshot now;
	const size_t before = vmlck();
	const long mlocked = mlocked_kb();
	__u64 end = now_ns() + storm_ns();
	static struct arena a;
	unsigned int rounds = 0;
	struct piece whole;
	char *reserved;
	int i;

	a.dev = self->dev;
	a.memfd = memfd_create("storm", MFD_CLOEXEC);
	a.zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	a.wrong_op = -1;
	ASSERT_LE(0, a.memfd);
	ASSERT_LE(0, a.zero);
	ASSERT_EQ(0, ftruncate(a.memfd, ARENA_PAGES * page_size));
	reserved = map_region(2 * ARENA_PAGES);
	a.addr = (char *)(((uintptr_t)reserved + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	whole = (struct piece){ a.addr, ARENA_PAGES * page_size };
	ASSERT_EQ(0, pthread_barrier_init(&a.begin, NULL, NR_THREADS + 1));
	ASSERT_EQ(0, pthread_barrier_init(&a.end, NULL, NR_THREADS + 1));
	for (i = 0; i < NR_THREADS; i++) {
		a.thread[i].arena = &a;
		a.thread[i].random = random_number(&self->random);
		ASSERT_EQ(0, pthread_create(&a.thread[i].thread, NULL, blow, &a.thread[i]));
	}

	/* With only one kind of answer it would have tested nothing: go on until there are both. */
	while (now_ns() < end || !a.locked || !a.refused) {
		/* Now and then from the start, or there would be nothing but splinters. */
		if (rounds++ % 8 == 0)
			ASSERT_EQ(0, fill(&whole));
		pthread_barrier_wait(&a.begin);
		pthread_barrier_wait(&a.end);

		take_snapshot(&now);
		/* Whatever happened, the accounting follows the VMAs. */
		EXPECT_EQ(locked_bytes(&now), now.vmlck);
		EXPECT_EQ(-1, a.wrong_op) {
			TH_LOG("%s: %s", ops[a.wrong_op].name, strerror(a.wrong_errno));
		}
		if (_metadata->exit_code)
			break;
	}
	a.quit = true;
	pthread_barrier_wait(&a.begin);
	for (i = 0; i < NR_THREADS; i++)
		pthread_join(a.thread[i].thread, NULL);

	ASSERT_EQ(0, munmap(a.addr, ARENA_PAGES * page_size));
	EXPECT_EQ(before, vmlck());
	close(a.memfd);
	/* Nor has a page kept its mark: it would never be reclaimed. */
	EXPECT_TRUE(mlocked_returns_to(mlocked));
	TH_LOG("%u rounds, %u locked, %u refused, %u had help", rounds, a.locked, a.refused,
	       a.helped);
	if (mlock_rs_has(self->dev, MLOCK_RS_FEATURE_WORKERS))
		EXPECT_LT(0, a.helped);
}

struct locker {
	int dev;
	struct mlock_rs_lock arg;
	atomic_uint calls;
};

static void *lock_and_unlock(void *arg)
{
	struct locker *l = arg;
	struct mlock_rs_unlock unlock = { .addr = l->arg.addr, .len = l->arg.len };

	for (;;) {
		if (mlock_rs_call(l->dev, &l->arg))
			abort();
		atomic_fetch_add(&l->calls, 1);
		if (ioctl(l->dev, MLOCK_RS_UNLOCK, &unlock))
			abort();
		madvise((void *)(uintptr_t)l->arg.addr, l->arg.len, MADV_DONTNEED);
	}
	return NULL;
}

/* How a process can end while its threads lock. */
enum end { EXIT, KILL, EXEC, NR_ENDS };

static void lock_until_the_end(int dev, __u64 random, enum end how)
{
	static struct locker lockers[2];
	__u64 until;
	int i;

	for (i = 0; i < 2; i++) {
		pthread_t thread;

		lockers[i].dev = dev;
		lockers[i].arg.len = 256 * page_size;
		lockers[i].arg.addr = (uintptr_t)map_region_across(256);
		/* One of them strict and alone, the other one not. */
		lockers[i].arg.flags = i ? MLOCK_RS_LOCK_YIELD : 0;
		lockers[i].arg.nr_workers = i + 1;
		if (pthread_create(&thread, NULL, lock_and_unlock, &lockers[i]))
			_exit(1);
	}
	while (!atomic_load(&lockers[0].calls) && !atomic_load(&lockers[1].calls))
		;
	/* At a random moment of the calls that follow. */
	until = now_ns() + random_number(&random) % 10000000;
	while (now_ns() < until)
		;
	if (how == KILL)
		kill(getpid(), SIGKILL);
	if (how == EXEC)
		execl("/bin/true", "true", NULL);
	_exit(0);
}

TEST_F_TIMEOUT(storm, exit_during_a_call, HANG_SECONDS)
{
	const long mlocked = mlocked_kb();
	__u64 end = now_ns() + storm_ns();
	unsigned int processes = 0;

	/* Each way to end at least once. */
	while (now_ns() < end || processes < NR_ENDS) {
		enum end how = processes++ % NR_ENDS;
		__u64 random = random_number(&self->random);
		pid_t child = fork();
		int status;

		ASSERT_LE(0, child);
		if (!child)
			lock_until_the_end(self->dev, random, how);
		/* It ends, and in its own way: no call hangs, none fails. */
		ASSERT_EQ(child, waitpid(child, &status, 0));
		if (how == KILL) {
			ASSERT_TRUE(WIFSIGNALED(status));
			ASSERT_EQ(SIGKILL, WTERMSIG(status));
		} else {
			ASSERT_TRUE(WIFEXITED(status));
			ASSERT_EQ(0, WEXITSTATUS(status));
		}
	}
	/* What they had locked is locked no more. */
	EXPECT_TRUE(mlocked_returns_to(mlocked));
	TH_LOG("%u processes", processes);
}

TEST_HARNESS_MAIN
