// SPDX-License-Identifier: GPL-2.0
/*
 * SIGKILL ends LOCK and LOCKV within 100 ms, while they are at work and while a page waits for I/O
 * that never comes; other signals do not; and the wait costs next to no processor time. The pages
 * come from a FUSE server that holds one back, or from a disk that takes a minute to answer.
 *
 * $SEED repeats the moments at which calls at work are killed.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <time.h>

#include "fuse_server.h"
#include "host_stall.h"
#include "locker.h"
#include "memcg.h"
#include "mlock_rs_test.h"
#include "slow_disk.h"
#include "thread_state.h"

#define NR_PAGES	128UL

/* The contract. */
#define KILL_NS		100000000ULL
/* A read that a test waits for in vain. */
#define NEVER_MS	60000

/* What the process that locks tells in addition to the call. */
struct told {
	atomic_ullong handler_ns;
	atomic_int vm_sharer;
};

static struct told *told;

static void handle(int sig)
{
	(void)sig;
	atomic_store(&told->handler_ns, now_ns());
}

static void handle_sigusr1(struct lock_call *call)
{
	(void)call;
	signal(SIGUSR1, handle);
}

static struct lock_call *new_call(int dev, char *addr, size_t nr_pages)
{
	struct lock_call *call = lock_call_new(dev, addr, nr_pages);

	if (!told)
		told = mmap(NULL, sizeof(*told), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	if (told == MAP_FAILED)
		abort();
	call->before = handle_sigusr1;
	return call;
}

/* Begins the call and waits until it is held back with the lock held. */
static pid_t start_held_back(struct __test_metadata *_metadata, struct lock_call *call)
{
	pid_t child = lock_call_start(call);

	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, call));
	ASSERT_EQ(call->nr_workers > 1 ? 2 : 1, status_number(child, "Threads:"));
	return child;
}

/*
 * Kills @pid, which is not reaped, and returns how long it took to be gone. The time in which the
 * host let a processor wait, and which is told in @stalled, is not in it.
 */
static __u64 kill_ns(pid_t pid, __u64 *stalled)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	struct pollfd gone = { .fd = pidfd, .events = POLLIN };
	__u64 begin, ns;

	if (pidfd < 0)
		return UINT64_MAX;
	host_stall_start();
	begin = now_ns();
	ns = !kill(pid, SIGKILL) && poll(&gone, 1, HANG_MS) == 1 ? now_ns() - begin : UINT64_MAX;
	*stalled = host_stall_stop();
	close(pidfd);
	if (ns == UINT64_MAX)
		return ns;
	return ns > *stalled ? ns - *stalled : 0;
}

/*
 * By what the checkers of the debug kernel stretch the death of a process and a look at a page,
 * under emulation. The bounds of the contract are for kernels without them, and asserted there.
 */
static __u64 slowness(void)
{
	return is_debug_kernel() ? 5 : 1;
}

static void expect_killed(struct __test_metadata *_metadata, pid_t pid,
			  const struct lock_call *call)
{
	__u64 stalled = 0, ns = kill_ns(pid, &stalled);
	int status;

	TH_LOG("gone after %llu us, and %llu us in which the host did something else", ns / 1000,
	       stalled / 1000);
	/* The contract: the sleep ends with the signal. */
	EXPECT_GE(KILL_NS * slowness(), ns);
	if (ns == UINT64_MAX)
		return;
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	/* It did not come back to user space before. */
	EXPECT_FALSE(atomic_load(&call->returned));
}

static void expect_locked(struct __test_metadata *_metadata, pid_t pid,
			  const struct lock_call *call)
{
	const size_t bytes = lock_call_bytes(call);
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, call->ret);
	EXPECT_EQ(0, call->res.error);
	EXPECT_EQ(0, call->res.fail_addr);
	EXPECT_EQ(bytes, call->res.locked);
	EXPECT_EQ(bytes, call->res.populated);
	EXPECT_EQ(call->nr_workers > 1, call->res.nr_helpers);
	EXPECT_EQ(bytes / page_size, count(call->states, 'L'));
	EXPECT_EQ(bytes, call->vmlck);
}

FIXTURE(fuse)
{
	int dev, file;
	struct fuse_server *server;
	char *addr;
	struct lock_call *call;
};

FIXTURE_VARIANT(fuse)
{
	size_t held_page;
	/* MADV_RANDOM */
	bool random;
	/* Pages of its own take the place of the file's: the call looks again and again. */
	bool writable;
	__u32 max_readahead;
	__u32 flags, nr_workers;
	/* Not 0: LOCKV of all but this page. */
	size_t left_out;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(fuse, first_page) {
	.held_page = 0, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, in_the_middle) {
	.held_page = 70, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, last_page) {
	.held_page = NR_PAGES - 1, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, random_access) {
	.held_page = 70, .random = true, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, little_readahead) {
	.held_page = 70, .max_readahead = 4096 };
FIXTURE_VARIANT_ADD(fuse, no_readahead) {
	.held_page = 70, .max_readahead = 0 };
FIXTURE_VARIANT_ADD(fuse, private_and_writable) {
	.held_page = 70, .writable = true, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, workers) {
	.held_page = 70, .max_readahead = FUSE_MUCH_READAHEAD, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(fuse, yield) {
	.held_page = 70, .max_readahead = FUSE_MUCH_READAHEAD,
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(fuse, yield_and_workers) {
	.held_page = 70, .max_readahead = FUSE_MUCH_READAHEAD,
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(fuse, vector) {
	.held_page = 70, .max_readahead = FUSE_MUCH_READAHEAD, .nr_workers = 1, .left_out = 64 };
FIXTURE_VARIANT_ADD(fuse, vector_yield_and_workers) {
	.held_page = 70, .max_readahead = FUSE_MUCH_READAHEAD,
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2, .left_out = 66 };
/* clang-format on */

FIXTURE_SETUP(fuse)
{
	struct fuse_options options = {
		.nr_pages = NR_PAGES,
		.max_readahead = variant->max_readahead,
	};

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->server = fuse_start(&options);
	if (!self->server)
		SKIP(return, "no FUSE: %s", strerror(errno));
	self->file = fuse_open(self->server);
	ASSERT_LE(0, self->file);
	self->addr = map_region_across(NR_PAGES);
	ASSERT_EQ(self->addr, mmap(self->addr, NR_PAGES * page_size,
				   PROT_READ | (variant->writable ? PROT_WRITE : 0),
				   MAP_PRIVATE | MAP_FIXED, self->file, 0));
	if (variant->random)
		ASSERT_EQ(0, madvise(self->addr, NR_PAGES * page_size, MADV_RANDOM));
	self->call = new_call(self->dev, self->addr, NR_PAGES);
	self->call->flags = variant->flags;
	self->call->nr_workers = variant->nr_workers;
	self->call->left_out = variant->left_out;
	fuse_hold(self->server, variant->held_page);
}

FIXTURE_TEARDOWN(fuse)
{
	if (self->server)
		fuse_stop(self->server);
}

TEST_F(fuse, sigkill)
{
	pid_t child = lock_call_start(self->call);

	ASSERT_LT(0, child);
	ASSERT_TRUE(fuse_wait_held(self->server, HANG_MS));
	ASSERT_TRUE(wait_held_back(child, self->call));
	/* The helper has to go as well. */
	ASSERT_EQ(self->call->nr_workers > 1 ? 2 : 1, status_number(child, "Threads:"));
	expect_killed(_metadata, child, self->call);
}

TEST_F(fuse, sigkill_as_soon_as_it_waits)
{
	pid_t child = lock_call_start(self->call);

	/* The read-ahead may not even be over. */
	ASSERT_LT(0, child);
	ASSERT_TRUE(fuse_wait_held(self->server, HANG_MS));
	expect_killed(_metadata, child, self->call);
}

TEST_F(fuse, after_release_it_succeeds)
{
	pid_t child = start_held_back(_metadata, self->call);
	size_t i;

	fuse_release(self->server);
	expect_locked(_metadata, child, self->call);
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(page_byte(i), self->addr[i * page_size]);
}

static void wait_ms(long ms)
{
	struct timespec t = { .tv_sec = ms / 1000, .tv_nsec = ms % 1000 * 1000000 };

	clock_nanosleep(CLOCK_MONOTONIC, 0, &t, NULL);
}

/* Gives the call the time to notice something. */
static bool has_looked_again(pid_t pid, const struct lock_call *call)
{
	/* Without the lock it may sleep until the page is there. */
	if (!(call->flags & MLOCK_RS_LOCK_YIELD))
		return wait_waits(pid);
	wait_ms(100);
	return true;
}

TEST_F(fuse, other_signals_wait)
{
	pid_t child = start_held_back(_metadata, self->call);
	__u64 released;

	ASSERT_EQ(0, kill(child, SIGUSR1));
	/* It has looked for the page again since, and could have noticed. */
	ASSERT_TRUE(has_looked_again(child, self->call));
	EXPECT_FALSE(atomic_load(&self->call->returned));
	EXPECT_EQ(0, atomic_load(&told->handler_ns));
	released = now_ns();
	fuse_release(self->server);
	/* As mlock(2): the call is not interrupted, and the handler runs when it is over. */
	expect_locked(_metadata, child, self->call);
	EXPECT_LE(released, atomic_load(&told->handler_ns));
}

TEST_F(fuse, any_signal_ends_an_interruptible_call)
{
	pid_t child;
	int status;

	self->call->flags |= MLOCK_RS_LOCK_INTERRUPTIBLE;
	child = start_held_back(_metadata, self->call);
	ASSERT_EQ(0, kill(child, SIGUSR1));
	ASSERT_TRUE(comes_about(atomic_load(&self->call->returned)));
	fuse_release(self->server);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(-EINTR, self->call->ret);
	/* What was left out before it does not count. */
	EXPECT_EQ((uintptr_t)self->addr + self->call->res.populated +
		  (variant->left_out && self->call->res.populated >= variant->left_out * page_size ?
		   page_size : 0), self->call->res.fail_addr);
}

TEST_F(fuse, sigkill_after_another_signal)
{
	pid_t child = start_held_back(_metadata, self->call);

	ASSERT_EQ(0, kill(child, SIGUSR1));
	ASSERT_TRUE(has_looked_again(child, self->call));
	expect_killed(_metadata, child, self->call);
}

/*
 * If it looks for the page again and again, the sleep between two looks is as long as it gets by
 * then, or longer than the bound if it never stopped to grow.
 */
TEST_F(fuse, sigkill_after_a_while)
{
	pid_t child = start_held_back(_metadata, self->call);

	wait_ms(is_debug_kernel() ? 1500 : 500);
	expect_killed(_metadata, child, self->call);
}

/* Not to wait for something: this is the time that is measured. */
#define MEASURED_MS	1000

/*
 * The processor time that @pid takes meanwhile, for a second of it. If the host lets its processor
 * wait, that counts as its time, and may be all of it; it is left out.
 */
static long us_of_a_second(struct __test_metadata *_metadata, pid_t pid)
{
	struct timespec before, after;
	long us, stalled;
	clockid_t cpu;

	ASSERT_EQ(0, clock_getcpuclockid(pid, &cpu));
	host_stall_start();
	ASSERT_EQ(0, clock_gettime(cpu, &before));
	wait_ms(MEASURED_MS);
	ASSERT_EQ(0, clock_gettime(cpu, &after));
	stalled = host_stall_stop() / 1000;
	us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
	TH_LOG("%ld us of processor time, %ld us in which the host did something else", us,
	       stalled);
	return us > stalled ? (us - stalled) * 1000 / MEASURED_MS : 0;
}

static void expect_no_busy_wait(struct __test_metadata *_metadata, FIXTURE_DATA(fuse) * self,
				pid_t child)
{
	long us = us_of_a_second(_metadata, child);

	ASSERT_FALSE(atomic_load(&self->call->returned));
	TH_LOG("%ld us of processor time for a second of waiting", us);
	EXPECT_GT(50000 * slowness(), us);
	fuse_release(self->server);
	expect_locked(_metadata, child, self->call);
}

/*
 * It does not look for the page again and again, which would find it late, but sleeps until it is
 * there.
 */
TEST_F(fuse, sleeps_until_the_page_comes)
{
	long sleeps, before;
	int looks = 0;
	pid_t child;

	/* Where it has given the lock up it looks now and then, too. */
	if (variant->writable || variant->flags & MLOCK_RS_LOCK_YIELD)
		return;
	child = start_held_back(_metadata, self->call);
	sleeps = status_number(child, "voluntary_ctxt_switches:");
	/* The first time it may have been a page before. */
	do {
		before = sleeps;
		wait_ms(200);
		sleeps = status_number(child, "voluntary_ctxt_switches:");
	} while (sleeps != before && ++looks < 3);
	EXPECT_EQ(before, sleeps);
	EXPECT_FALSE(atomic_load(&self->call->returned));
	fuse_release(self->server);
	expect_locked(_metadata, child, self->call);
}

TEST_F(fuse, the_wait_is_no_busy_wait)
{
	if (is_debug_kernel())
		SKIP(return, "the checkers take more time than the wait");
	expect_no_busy_wait(_metadata, self, start_held_back(_metadata, self->call));
}

TEST_F(fuse, a_signal_makes_it_no_busy_wait)
{
	pid_t child;

	if (is_debug_kernel())
		SKIP(return, "the checkers take more time than the wait");
	child = start_held_back(_metadata, self->call);
	ASSERT_EQ(0, kill(child, SIGUSR1));
	expect_no_busy_wait(_metadata, self, child);
}

/* A process of its own that shares the memory: a signal for the one does not kill the other. */
static struct lock_call *waiter;
static int go[2];

static int lock_in_vm_sharer(void *arg)
{
	char byte;

	(void)arg;
	/* Nothing but system calls: the C library's data is that of the other process. */
	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	syscall(SYS_read, go[0], &byte, 1);
	atomic_store(&waiter->begun, true);
	waiter->res.addr = (uintptr_t)waiter->addr;
	waiter->res.len = waiter->len;
	waiter->ret = syscall(SYS_ioctl, waiter->dev, MLOCK_RS_LOCK, &waiter->res);
	atomic_store(&waiter->returned, true);
	syscall(SYS_exit_group, 0);
	return 0;
}

static void make_vm_sharer(struct lock_call *call)
{
	static max_align_t stack[4096];

	(void)call;
	/* A child of the test. */
	atomic_store(&told->vm_sharer,
		     clone(lock_in_vm_sharer, stack + ARRAY_SIZE(stack),
			   CLONE_VM | CLONE_PARENT | SIGCHLD, NULL));
}

TEST_F(fuse, sigkill_while_it_waits_for_the_mmap_lock)
{
	pid_t holder, sharer;

	/* Nobody has to wait for a call that yields. */
	if (variant->flags & MLOCK_RS_LOCK_YIELD)
		return;
	waiter = new_call(self->dev, map_region(NR_PAGES), NR_PAGES);
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	/* Makes the waiter, and is then held back with the lock of both. */
	self->call->before = make_vm_sharer;
	holder = start_held_back(_metadata, self->call);
	sharer = atomic_load(&told->vm_sharer);
	ASSERT_LT(0, sharer);

	ASSERT_EQ(1, write(go[1], "", 1));
	ASSERT_TRUE(comes_about(atomic_load(&waiter->begun) && thread_state(sharer) == 'D'));
	EXPECT_FALSE(atomic_load(&waiter->returned));
	expect_killed(_metadata, sharer, waiter);

	/* The one with the lock has not noticed. */
	EXPECT_FALSE(atomic_load(&self->call->returned));
	fuse_release(self->server);
	expect_locked(_metadata, holder, self->call);
}

/*
 * A limit of the kernel, the same for both calls: a FUSE server that was mounted without
 * asynchronous reads is waited for without a way out.
 */
TEST(a_server_without_asynchronous_reads_is_not_killable)
{
	struct fuse_options options = {
		.nr_pages = NR_PAGES,
		.sync_reads = true,
		.max_readahead = FUSE_MUCH_READAHEAD,
	};
	int i, dev = mlock_rs_open();

	ASSERT_LE(0, dev);
	for (i = 0; i < 2; i++) {
		struct fuse_server *server = fuse_start(&options);
		struct lock_call *call;
		pid_t child;
		char *addr;
		int status;

		if (!server)
			SKIP(return, "no FUSE: %s", strerror(errno));
		addr = map_region(NR_PAGES);
		ASSERT_EQ(addr, mmap(addr, NR_PAGES * page_size, PROT_READ, MAP_PRIVATE | MAP_FIXED,
				     fuse_open(server), 0));
		call = new_call(dev, addr, NR_PAGES);
		call->with_mlock = i;
		fuse_hold(server, 0);
		child = lock_call_start(call);
		ASSERT_LT(0, child);
		ASSERT_TRUE(fuse_wait_held(server, HANG_MS));
		ASSERT_TRUE(comes_about(thread_state(child) == 'D' || thread_state(child) == 'S'));
		ASSERT_EQ(0, kill(child, SIGKILL));
		/* Longer than the contract allows; LOCK keeps it everywhere else. */
		usleep(3 * KILL_NS / 1000);
		EXPECT_EQ(0, waitpid(child, &status, WNOHANG)) {
			TH_LOG("the kernel can kill it now: change the manual page");
		}
		/* The answer sets it free. */
		fuse_release(server);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		fuse_stop(server);
	}
}

#define DISK_BYTES	(16UL << 20)
#define NR_DISK_PAGES	64UL

FIXTURE(disk)
{
	int dev;
	struct slow_disk disk;
	struct memcg memcg;
	char *addr;
	struct lock_call *call;
};

FIXTURE_SETUP(disk)
{
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ret = slow_disk_create(&self->disk, DISK_BYTES);
	if (ret)
		SKIP(return, "no slow disk: %s", strerror(-ret));
}

FIXTURE_TEARDOWN(disk)
{
	slow_disk_read_ms(&self->disk, 0);
	memcg_leave();
	memcg_destroy(&self->memcg);
	if (self->addr)
		munmap(self->addr, NR_DISK_PAGES * page_size);
	slow_disk_destroy(&self->disk);
}

/*
 * Anonymous memory in swap, and the swap is slow from now on. With a @file, the pages have taken
 * the place of the file's.
 */
static void swap_out(struct __test_metadata *_metadata, FIXTURE_DATA(disk) * self, int file)
{
	__u64 begin = now_ns();
	size_t i;

	/* Its own pages are not for the swap. */
	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	/*
	 * What this process maps from now on is in a group of its own, so that it can be reclaimed
	 * and nothing else is: whoever else were swapped out would wait for the slow disk, too.
	 */
	ASSERT_EQ(0, memcg_create(&self->memcg, "kill_test"));
	ASSERT_EQ(0, memcg_enter(&self->memcg));
	ASSERT_EQ(0, slow_disk_swapon(&self->disk));
	self->addr = map_region(NR_DISK_PAGES);
	if (file >= 0)
		ASSERT_EQ(self->addr,
			  mmap(self->addr, NR_DISK_PAGES * page_size, PROT_READ | PROT_WRITE,
			       MAP_PRIVATE | MAP_FIXED, file, 0));
	for (i = 0; i < NR_DISK_PAGES; i++)
		memset(self->addr + i * page_size, page_byte(i), page_size);
	while (swapped_pages(self->addr, NR_DISK_PAGES) < NR_DISK_PAGES) {
		ASSERT_EQ(0, madvise(self->addr, NR_DISK_PAGES * page_size, MADV_PAGEOUT));
		ASSERT_FALSE(give_up(begin));
	}
	/* Written pages stay cached until somebody reclaims them, and would be no wait. */
	while (read_field("/proc/meminfo", "SwapCached:") > 0) {
		/* EAGAIN if there is not as much: what became of it is asked above. */
		memcg_set(&self->memcg, "memory.reclaim", "4M");
		ASSERT_FALSE(give_up(begin)) {
			TH_LOG("swap stays cached");
		}
	}
	self->call = new_call(self->dev, self->addr, NR_DISK_PAGES);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
}

TEST_F(disk, sigkill_with_a_swapped_out_page)
{
	pid_t child;

	swap_out(_metadata, self, -1);
	child = start_held_back(_metadata, self->call);
	expect_killed(_metadata, child, self->call);
}

TEST_F(disk, swapped_out_pages_come_back)
{
	size_t i;
	pid_t child;

	swap_out(_metadata, self, -1);
	child = start_held_back(_metadata, self->call);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	expect_locked(_metadata, child, self->call);
	for (i = 0; i < NR_DISK_PAGES; i++)
		EXPECT_EQ(page_byte(i), self->addr[i * page_size]);
}

/*
 * A private page has taken the place of the file's and waits for the swap. Whoever reads the file's
 * page meanwhile, and for however long, is nobody to wait for.
 */
TEST_F(disk, page_in_the_swap_does_not_wait_for_the_file)
{
	struct fuse_options options = {
		.nr_pages = NR_DISK_PAGES,
		.max_readahead = FUSE_MUCH_READAHEAD,
	};
	struct fuse_server *server = fuse_start(&options);
	pid_t child;
	int file;

	if (!server)
		SKIP(return, "no FUSE: %s", strerror(errno));
	file = fuse_open(server);
	ASSERT_LE(0, file);
	swap_out(_metadata, self, file);
	/* The read-ahead of the call asks for it. */
	ASSERT_EQ(0, posix_fadvise(file, 0, 0, POSIX_FADV_DONTNEED));
	fuse_hold(server, 0);
	child = start_held_back(_metadata, self->call);
	ASSERT_TRUE(fuse_wait_held(server, HANG_MS));

	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	ASSERT_TRUE(comes_about(atomic_load(&self->call->returned)));
	expect_locked(_metadata, child, self->call);
	fuse_release(server);
	fuse_stop(server);
}

/* A file that is not cached, and from now on slow. */
static void map_cold(struct __test_metadata *_metadata, FIXTURE_DATA(disk) * self, int fd,
		     int advice)
{
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, write_cold(fd, NR_DISK_PAGES));
	self->addr = map_region(NR_DISK_PAGES);
	ASSERT_EQ(self->addr, mmap(self->addr, NR_DISK_PAGES * page_size, PROT_READ,
				   MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, madvise(self->addr, NR_DISK_PAGES * page_size, advice));
	close(fd);
	self->call = new_call(self->dev, self->addr, NR_DISK_PAGES);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
}

/* The disk itself. */
static void map_cold_disk(struct __test_metadata *_metadata, FIXTURE_DATA(disk) * self, int advice)
{
	map_cold(_metadata, self, open(self->disk.path, O_RDWR | O_CLOEXEC), advice);
}

TEST_F(disk, sigkill_with_a_cold_block_device)
{
	pid_t child;

	map_cold_disk(_metadata, self, MADV_NORMAL);
	child = start_held_back(_metadata, self->call);
	expect_killed(_metadata, child, self->call);
}

TEST_F(disk, sigkill_with_a_cold_block_device_read_at_random)
{
	pid_t child;

	map_cold_disk(_metadata, self, MADV_RANDOM);
	child = start_held_back(_metadata, self->call);
	expect_killed(_metadata, child, self->call);
}

TEST_F(disk, cold_block_device_comes_in)
{
	pid_t child;
	size_t i;

	map_cold_disk(_metadata, self, MADV_NORMAL);
	child = start_held_back(_metadata, self->call);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	expect_locked(_metadata, child, self->call);
	for (i = 0; i < NR_DISK_PAGES; i++)
		EXPECT_EQ(page_byte(i), self->addr[i * page_size]);
}

/* A cold file on ext4. Its own description is cached, as it is for every open file. */
TEST_F(disk, sigkill_with_a_cold_file_on_ext4)
{
	int ret = slow_disk_mount(&self->disk);
	pid_t child;

	if (ret)
		SKIP(return, "no ext4: %s", strerror(-ret));
	map_cold(_metadata, self, slow_disk_file(&self->disk), MADV_NORMAL);
	child = start_held_back(_metadata, self->call);
	expect_killed(_metadata, child, self->call);
}

#define NR_REQUESTS	64
#define QUEUE_BYTES	(96UL << 20)

/*
 * A device takes only so many requests; who has one too many waits for an answer without a way out.
 * Read-ahead of a file in one piece does not get there.
 */
FIXTURE(queue)
{
	int dev, file;
	struct slow_disk disk;
	char *addr;
	struct lock_call *call;
};

FIXTURE_SETUP(queue)
{
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ret = slow_disk_create(&self->disk, QUEUE_BYTES);
	if (!ret)
		ret = slow_disk_queue(&self->disk, NR_REQUESTS);
	if (ret)
		SKIP(return, "no slow disk: %s", strerror(-ret));
	self->file = open(self->disk.queue_path, O_RDONLY | O_CLOEXEC);
	ASSERT_LE(0, self->file);
	self->addr = mmap(NULL, QUEUE_BYTES, PROT_READ, MAP_SHARED, self->file, 0);
	ASSERT_NE(MAP_FAILED, self->addr);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
	self->call = new_call(self->dev, self->addr, 1);
	self->call->len = QUEUE_BYTES;
	/* Far too much for a look at its pages. */
	atomic_store(&self->call->stay, true);
}

FIXTURE_TEARDOWN(queue)
{
	slow_disk_read_ms(&self->disk, 0);
	if (self->addr)
		munmap(self->addr, QUEUE_BYTES);
	close(self->file);
	slow_disk_destroy(&self->disk);
}

/* Begins the call and waits until it waits, with as many requests under way as it makes. */
static pid_t start_reading_ahead(struct __test_metadata *_metadata, FIXTURE_DATA(queue) * self)
{
	pid_t child = lock_call_start(self->call);
	long requests, before = -1;
	__u64 begin = now_ns();

	ASSERT_LT(0, child);
	for (;; before = requests) {
		requests = slow_disk_requests(&self->disk);
		if (requests > 0 && requests == before && thread_state(child) != 'R')
			break;
		ASSERT_FALSE(give_up(begin));
		wait_ms(200);
	}
	TH_LOG("%ld requests are under way", requests);
	/* There was work for more of them. */
	EXPECT_GT(NR_REQUESTS, requests);
	EXPECT_LT(NR_REQUESTS / 4, requests);
	EXPECT_FALSE(atomic_load(&self->call->returned));
	return child;
}

TEST_F(queue, sigkill)
{
	expect_killed(_metadata, start_reading_ahead(_metadata, self), self->call);
}

TEST_F(queue, any_signal_ends_an_interruptible_call)
{
	pid_t child;

	self->call->flags = MLOCK_RS_LOCK_INTERRUPTIBLE;
	child = start_reading_ahead(_metadata, self);
	ASSERT_EQ(0, kill(child, SIGUSR1));
	ASSERT_TRUE(comes_about(atomic_load(&self->call->returned)));
	EXPECT_EQ(-EINTR, self->call->ret);
	ASSERT_EQ(0, kill(child, SIGKILL));
	ASSERT_EQ(child, waitpid(child, NULL, 0));
}

#define BUSY_BYTES	(1024UL << 20)
#define BUSY_KILLS	4
/* A call may be over by then, on a fast machine. */
#define BUSY_US		10000

/* A call that has more to do than the time in which it has to end, and waits for nothing. */
FIXTURE(busy)
{
	int dev;
	char *addr;
	struct lock_call *call;
	__u64 random;
};

FIXTURE_VARIANT(busy)
{
	__u32 flags, nr_workers;
	bool vector;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(busy, strict) { .nr_workers = 1 };
FIXTURE_VARIANT_ADD(busy, workers) { .nr_workers = 2 };
FIXTURE_VARIANT_ADD(busy, more_workers_than_cpus) { .nr_workers = 8 };
FIXTURE_VARIANT_ADD(busy, yield) { .flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(busy, yield_and_workers) {
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(busy, interruptible) {
	.flags = MLOCK_RS_LOCK_INTERRUPTIBLE, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(busy, vector) { .nr_workers = 1, .vector = true };
FIXTURE_VARIANT_ADD(busy, vector_yield_and_workers) {
	.flags = MLOCK_RS_LOCK_YIELD, .nr_workers = 2, .vector = true };
/* clang-format on */

FIXTURE_SETUP(busy)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->random = seed();
	TH_LOG("SEED=%llu", self->random);
	self->addr = mmap(NULL, BUSY_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS,
			  -1, 0);
	ASSERT_NE(MAP_FAILED, self->addr);
	no_huge_pages(self->addr, BUSY_BYTES);
	self->call = new_call(self->dev, self->addr, 1);
	self->call->len = BUSY_BYTES;
	self->call->flags = variant->flags;
	self->call->nr_workers = variant->nr_workers;
	if (variant->vector)
		self->call->left_out = 1;
	/* Far too much for a look at its pages. */
	atomic_store(&self->call->stay, true);
}

FIXTURE_TEARDOWN(busy)
{
	munmap(self->addr, BUSY_BYTES);
	close(self->dev);
}

TEST_F(busy, sigkill)
{
	int kills = 0, tries;

	for (tries = 0; kills < BUSY_KILLS && tries < 10 * BUSY_KILLS; tries++) {
		pid_t child;

		atomic_store(&self->call->returned, false);
		child = lock_call_start(self->call);
		ASSERT_LT(0, child);
		if (wait_marked(child, self->call))
			usleep(random_number(&self->random) % BUSY_US);
		if (atomic_load(&self->call->returned)) {
			ASSERT_EQ(0, kill(child, SIGKILL));
			ASSERT_EQ(child, waitpid(child, NULL, 0));
			continue;
		}
		expect_killed(_metadata, child, self->call);
		kills++;
	}
	EXPECT_LT(0, kills);
}

/* 64 GiB of pages that the kernel hands to nobody: it is asked for one after the other. */
TEST(sigkill_during_a_query)
{
	const size_t len = 64UL << 30;
	struct lock_call call = {};
	int fd, dev = mlock_rs_open();
	pid_t child;
	char *addr;

	ASSERT_LE(0, dev);
	fd = syscall(SYS_memfd_secret, 0);
	if (fd < 0)
		SKIP(return, "no secretmem");
	ASSERT_EQ(0, ftruncate(fd, len));
	addr = mmap(NULL, len, PROT_READ, MAP_SHARED, fd, 0);
	ASSERT_NE(MAP_FAILED, addr);
	child = fork_with_test();
	ASSERT_LE(0, child);
	if (!child) {
		struct mlock_rs_query res;

		mlock_rs_query(dev, addr, len, &res);
		_exit(0);
	}
	wait_ms(300);
	expect_killed(_metadata, child, &call);
}

TEST_HARNESS_MAIN
