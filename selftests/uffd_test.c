// SPDX-License-Identifier: GPL-2.0
/*
 * Memory registered with userfaultfd: its faults wait for a handler in user space, which cannot be
 * while the mmap lock is held. So a strict call is refused before anything changes, whatever kind
 * of memory and registration it is, and a registration that comes in the last moment is seen too.
 * A call with YIELD gives the lock up to wait, and the handler may do as it likes meanwhile.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "mlock_rs_test.h"

#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"
/* Far more than any storm takes: only a hang gets here. */
#define HANG_SECONDS	600

enum memory { ANONYMOUS, SHMEM, HUGETLB };

FIXTURE(memory)
{
	int dev, uffd;
	long nr_hugepages;
	/* Three units, of which the middle one is registered. */
	char *addr;
	size_t unit;
	struct snapshot before, after;
	struct mlock_rs_lock res;
};

FIXTURE_VARIANT(memory)
{
	enum memory memory;
	__u64 mode;
	__u64 features;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(memory, anonymous_missing) {
	.memory = ANONYMOUS, .mode = UFFDIO_REGISTER_MODE_MISSING };
FIXTURE_VARIANT_ADD(memory, anonymous_wp) {
	.memory = ANONYMOUS, .mode = UFFDIO_REGISTER_MODE_WP };
FIXTURE_VARIANT_ADD(memory, anonymous_missing_and_wp) {
	.memory = ANONYMOUS, .mode = UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP };
FIXTURE_VARIANT_ADD(memory, shmem_missing) {
	.memory = SHMEM, .mode = UFFDIO_REGISTER_MODE_MISSING,
	.features = UFFD_FEATURE_MISSING_SHMEM };
FIXTURE_VARIANT_ADD(memory, shmem_minor) {
	.memory = SHMEM, .mode = UFFDIO_REGISTER_MODE_MINOR,
	.features = UFFD_FEATURE_MINOR_SHMEM };
FIXTURE_VARIANT_ADD(memory, shmem_wp) {
	.memory = SHMEM, .mode = UFFDIO_REGISTER_MODE_WP,
	.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
FIXTURE_VARIANT_ADD(memory, hugetlb_missing) {
	.memory = HUGETLB, .mode = UFFDIO_REGISTER_MODE_MISSING,
	.features = UFFD_FEATURE_MISSING_HUGETLBFS };
FIXTURE_VARIANT_ADD(memory, hugetlb_minor) {
	.memory = HUGETLB, .mode = UFFDIO_REGISTER_MODE_MINOR,
	.features = UFFD_FEATURE_MINOR_HUGETLBFS };
FIXTURE_VARIANT_ADD(memory, hugetlb_wp) {
	.memory = HUGETLB, .mode = UFFDIO_REGISTER_MODE_WP,
	.features = UFFD_FEATURE_WP_HUGETLBFS_SHMEM };
/* clang-format on */

static int uffd_register(int uffd, void *addr, size_t len, __u64 mode)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

static int uffd_unregister(int uffd, void *addr, size_t len)
{
	struct uffdio_range range = { .start = (uintptr_t)addr, .len = len };

	return ioctl(uffd, UFFDIO_UNREGISTER, &range) ? -errno : 0;
}

static int lock_onfault(int dev, const void *addr, size_t len, struct mlock_rs_lock *res)
{
	*res = (struct mlock_rs_lock){
		.addr = (uintptr_t)addr,
		.len = len,
		.flags = MLOCK_RS_LOCK_ONFAULT,
	};
	return ioctl(dev, MLOCK_RS_LOCK, res) ? -errno : 0;
}

static int lock_ranges(int dev, const struct mlock_rs_range *ranges, __u32 nr_ranges,
		       struct mlock_rs_lockv *res)
{
	*res = (struct mlock_rs_lockv){
		.ranges = (uintptr_t)ranges,
		.nr_ranges = nr_ranges,
		.locked = -1,
		.populated = -1,
	};
	return ioctl(dev, MLOCK_RS_LOCKV, res) ? -errno : 0;
}

FIXTURE_SETUP(memory)
{
	struct uffdio_api api = { .api = UFFD_API, .features = variant->features };
	int flags = MAP_SHARED | MAP_ANONYMOUS;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->unit = variant->memory == HUGETLB ? HUGE_SIZE : 2 * page_size;
	self->nr_hugepages = read_number(NR_HUGEPAGES);
	if (variant->memory == HUGETLB) {
		write_number(NR_HUGEPAGES, 4);
		if (read_number(NR_HUGEPAGES) < 3)
			SKIP(return, "no hugetlb pages");
	}
	/* Room to align it, and then a VMA of its own; two chunks of work in any case. */
	self->addr = map_region_across((4 * self->unit) / page_size);
	self->addr = (char *)(((uintptr_t)self->addr + self->unit - 1) & ~(self->unit - 1));
	if (variant->memory == ANONYMOUS)
		flags = MAP_PRIVATE | MAP_ANONYMOUS;
	else if (variant->memory == HUGETLB)
		flags |= MAP_HUGETLB;
	ASSERT_EQ(self->addr, mmap(self->addr, 3 * self->unit, PROT_READ | PROT_WRITE,
				   flags | MAP_FIXED, -1, 0)) {
		TH_LOG("mmap: %s", strerror(errno));
	}
	if (variant->memory != HUGETLB)
		no_huge_pages(self->addr, 3 * self->unit);
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (self->uffd < 0)
		SKIP(return, "no userfaultfd");
	if (ioctl(self->uffd, UFFDIO_API, &api) ||
	    uffd_register(self->uffd, self->addr + self->unit, self->unit, variant->mode))
		SKIP(return, "this userfaultfd cannot do it");
}

FIXTURE_TEARDOWN_PARENT(memory)
{
	if (self->nr_hugepages >= 0)
		write_number(NR_HUGEPAGES, self->nr_hugepages);
}

/* Asserts that nothing at all changed since self->before. */
static void expect_unchanged(struct __test_metadata *_metadata, FIXTURE_DATA(memory) * self)
{
	take_snapshot(&self->after);
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
	EXPECT_EQ(0, resident_pages(self->addr, 3 * self->unit / page_size));
}

TEST_F(memory, strict_lock_is_refused)
{
	take_snapshot(&self->before);
	EXPECT_EQ(-EBUSY, mlock_rs(self->dev, self->addr, 3 * self->unit, &self->res));
	/* Not even the part in front of it was touched. */
	expect_unchanged(_metadata, self);
	EXPECT_EQ((uintptr_t)self->addr + self->unit, self->res.fail_addr);
	EXPECT_EQ(EBUSY, self->res.error);
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
	EXPECT_EQ(0, self->res.nr_vmas);
}

TEST_F(memory, strict_lock_that_starts_inside_is_refused)
{
	const size_t last = self->unit - page_size;

	take_snapshot(&self->before);
	EXPECT_EQ(-EBUSY, mlock_rs(self->dev, self->addr + self->unit + last, page_size + last,
				   &self->res));
	expect_unchanged(_metadata, self);
	EXPECT_EQ((uintptr_t)self->addr + self->unit + last, self->res.fail_addr);
}

TEST_F(memory, the_rest_can_be_locked)
{
	const size_t nr_pages = self->unit / page_size;
	size_t i;

	for (i = 0; i < 3; i += 2) {
		char *rest = self->addr + i * self->unit;

		EXPECT_EQ(0, mlock_rs(self->dev, rest, self->unit, &self->res));
		EXPECT_EQ(self->unit, self->res.populated);
		EXPECT_EQ(nr_pages, resident_pages(rest, nr_pages));
	}
	EXPECT_EQ(0, resident_pages(self->addr + self->unit, nr_pages));
}

TEST_F(memory, strict_lockv_is_refused)
{
	/* The registered range comes neither first nor last. */
	const struct mlock_rs_range ranges[] = {
		{ .addr = (uintptr_t)self->addr + 2 * self->unit, .len = self->unit },
		{ .addr = (uintptr_t)self->addr + self->unit, .len = page_size },
		{ .addr = (uintptr_t)self->addr, .len = self->unit },
	};
	struct mlock_rs_lockv res;

	take_snapshot(&self->before);
	EXPECT_EQ(-EBUSY, lock_ranges(self->dev, ranges, 3, &res));
	expect_unchanged(_metadata, self);
	EXPECT_EQ((uintptr_t)self->addr + self->unit, res.fail_addr);
	EXPECT_EQ(0, res.locked);
	EXPECT_EQ(0, res.populated);
}

TEST_F(memory, lock_on_fault_is_as_mlock2)
{
	size_t nr_pages = 3 * self->unit / page_size, before = vmlck();
	int ret;

	take_snapshot(&self->before);
	ret = lock_onfault(self->dev, self->addr, 3 * self->unit, &self->res);
	if (variant->memory == HUGETLB) {
		/* Even mlock2(MLOCK_ONFAULT) faults hugetlb memory in. */
		EXPECT_EQ(-EBUSY, ret);
		expect_unchanged(_metadata, self);
		return;
	}
	EXPECT_EQ(0, ret);
	EXPECT_STREQ(all('f', nr_pages), states(self->addr, nr_pages));
	EXPECT_EQ(3 * self->unit, vmlck() - before);
	EXPECT_EQ(3 * self->unit, self->res.locked);
	/* As mlock2(2) on the same memory. */
	ASSERT_EQ(0, munlock(self->addr, 3 * self->unit));
	EXPECT_EQ(0, mlock_onfault(self->addr, 3 * self->unit));
	EXPECT_STREQ(all('f', nr_pages), states(self->addr, nr_pages));
}

TEST_F(memory, unlock_does_not_mind)
{
	size_t nr_pages = 3 * self->unit / page_size;
	struct mlock_rs_unlock arg = {
		.addr = (uintptr_t)self->addr,
		.len = 3 * self->unit,
	};

	if (variant->memory != HUGETLB)
		ASSERT_EQ(0, mlock_onfault(self->addr, 3 * self->unit));
	EXPECT_EQ(0, ioctl(self->dev, MLOCK_RS_UNLOCK, &arg));
	EXPECT_EQ(0, count(states(self->addr, nr_pages), 'f'));
	EXPECT_EQ(variant->memory == HUGETLB ? 0 : 3 * self->unit, arg.unlocked);
}

TEST_F(memory, after_unregistering_it_locks)
{
	ASSERT_EQ(0, uffd_unregister(self->uffd, self->addr + self->unit, self->unit));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 3 * self->unit, &self->res));
	EXPECT_EQ(3 * self->unit, self->res.populated);
	EXPECT_EQ(3 * self->unit / page_size,
		  resident_pages(self->addr, 3 * self->unit / page_size));
}

TEST_F(memory, after_closing_it_locks)
{
	close(self->uffd);
	self->uffd = -1;
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 3 * self->unit, &self->res));
	EXPECT_EQ(3 * self->unit, self->res.populated);
}

/* A handler, for one fault after the other. */
struct handler {
	int uffd;
	size_t unit;
	/* What it does before the fault is resolved, or instead of it. */
	void (*meanwhile)(struct handler *h, char *at);
	bool leaves_it;
	atomic_bool quit;
	atomic_uint faults, failed;
};

/* Brings the page in, or gives the one that is there to the mapping. Returns 0 or -errno. */
static int resolve(struct handler *h, __u64 at, __u64 flags)
{
	struct uffdio_copy copy = { .dst = at, .len = h->unit };
	struct uffdio_continue cont = { .range = { at, h->unit } };
	struct uffdio_writeprotect wp = { .range = { at, h->unit } };
	static char zeroes[HUGE_SIZE];

	copy.src = (uintptr_t)zeroes;
	if (flags & UFFD_PAGEFAULT_FLAG_WP)
		return ioctl(h->uffd, UFFDIO_WRITEPROTECT, &wp) ? -errno : 0;
	if (flags & UFFD_PAGEFAULT_FLAG_MINOR)
		return ioctl(h->uffd, UFFDIO_CONTINUE, &cont) ? -errno : 0;
	return ioctl(h->uffd, UFFDIO_COPY, &copy) ? -errno : 0;
}

static void *handle_faults(void *arg)
{
	struct handler *h = arg;
	struct uffd_msg msg;

	while (!atomic_load(&h->quit)) {
		struct pollfd fault = { .fd = h->uffd, .events = POLLIN };
		__u64 at;

		if (poll(&fault, 1, 10) != 1 || read(h->uffd, &msg, sizeof(msg)) != sizeof(msg) ||
		    msg.event != UFFD_EVENT_PAGEFAULT)
			continue;
		at = msg.arg.pagefault.address & ~(__u64)(h->unit - 1);
		atomic_fetch_add(&h->faults, 1);
		if (h->meanwhile)
			h->meanwhile(h, (void *)(uintptr_t)at);
		/* EEXIST: a second fault of the same page. */
		if (!h->leaves_it) {
			int ret = resolve(h, at, msg.arg.pagefault.flags);

			if (ret && ret != -EEXIST)
				atomic_store(&h->failed, -ret);
		}
	}
	return NULL;
}

static void start_handler(struct __test_metadata *_metadata, FIXTURE_DATA(memory) * self,
			  struct handler *h, pthread_t *thread)
{
	h->uffd = self->uffd;
	h->unit = self->unit == HUGE_SIZE ? HUGE_SIZE : page_size;
	ASSERT_EQ(0, pthread_create(thread, NULL, handle_faults, h));
}

static void stop_handler(struct handler *h, pthread_t thread)
{
	atomic_store(&h->quit, true);
	pthread_join(thread, NULL);
}

static int lock_yield(FIXTURE_DATA(memory) * self, __u32 flags, __u32 nr_workers)
{
	self->res = (struct mlock_rs_lock) {
		.addr = (uintptr_t)self->addr,
		.len = 3 * self->unit,
		.flags = MLOCK_RS_LOCK_YIELD | flags,
		.nr_workers = nr_workers,
	};
	return mlock_rs_call(self->dev, &self->res);
}

/* Takes the mmap lock for writing, which it could not if the call had kept it. */
static void map_and_unmap(struct handler *h, char *at)
{
	char *page = mmap(NULL, page_size, PROT_READ, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	(void)h;
	(void)at;
	if (page == MAP_FAILED || munmap(page, page_size))
		abort();
}

/* Only these have faults that wait: there is nothing to write-protect, and no page without one. */
static bool faults(const FIXTURE_VARIANT(memory) * variant)
{
	return variant->mode & UFFDIO_REGISTER_MODE_MISSING;
}

static void expect_yielded(struct __test_metadata *_metadata, FIXTURE_DATA(memory) * self,
			   const FIXTURE_VARIANT(memory) * variant, __u32 nr_workers)
{
	struct handler handler = { .meanwhile = map_and_unmap };
	const size_t nr_pages = 3 * self->unit / page_size;
	pthread_t thread;

	start_handler(_metadata, self, &handler, &thread);
	EXPECT_EQ(0, lock_yield(self, 0, nr_workers));
	stop_handler(&handler, thread);
	EXPECT_EQ(0, handler.failed);
	EXPECT_EQ(nr_workers - 1, self->res.nr_helpers);
	EXPECT_EQ(3 * self->unit, self->res.populated);
	EXPECT_EQ(variant->memory == HUGETLB ? 0 : 3 * self->unit, self->res.locked);
	EXPECT_EQ(nr_pages, resident_pages(self->addr, nr_pages));
	if (faults(variant)) {
		EXPECT_LT(0, handler.faults);
		EXPECT_LT(0, self->res.nr_gaps);
	}
}

TEST_F(memory, yield_lets_the_handler_work)
{
	expect_yielded(_metadata, self, variant, 1);
}

TEST_F(memory, yield_with_a_helper)
{
	expect_yielded(_metadata, self, variant, 2);
}

/* The page that is waited for goes away, which sets nobody free by itself. */
static void unmap_it(struct handler *h, char *at)
{
	struct uffdio_range range = { .start = (uintptr_t)at, .len = h->unit };

	if (munmap(at, h->unit) || ioctl(h->uffd, UFFDIO_WAKE, &range))
		abort();
}

TEST_F(memory, yield_and_the_handler_unmaps_the_page)
{
	struct handler handler = { .meanwhile = unmap_it, .leaves_it = true };
	pthread_t thread;

	if (!faults(variant))
		return;
	start_handler(_metadata, self, &handler, &thread);
	EXPECT_EQ(-ESTALE, lock_yield(self, 0, 1));
	stop_handler(&handler, thread);
	EXPECT_EQ((uintptr_t)self->addr + self->unit, self->res.fail_addr);
	EXPECT_GE(self->unit, self->res.populated);
	EXPECT_EQ(1, handler.faults);
}

static void *interrupt_main_thread(void *arg)
{
	struct handler *h = arg;
	__u64 begin = now_ns();

	/* The fault has come, and nobody is going to resolve it. */
	while (!atomic_load(&h->faults))
		if (now_ns() - begin > 20000000000ULL)
			abort();
	while (!atomic_load(&h->quit)) {
		kill(getpid(), SIGUSR1);
		usleep(10000);
	}
	return NULL;
}

static void do_nothing(int sig)
{
	(void)sig;
}

TEST_F(memory, yield_can_be_interrupted)
{
	struct handler handler = { .leaves_it = true };
	pthread_t thread, signaller;
	sigset_t set;

	if (!faults(variant))
		return;
	signal(SIGUSR1, do_nothing);
	/* For this thread alone. */
	sigemptyset(&set);
	sigaddset(&set, SIGUSR1);
	pthread_sigmask(SIG_BLOCK, &set, NULL);
	start_handler(_metadata, self, &handler, &thread);
	ASSERT_EQ(0, pthread_create(&signaller, NULL, interrupt_main_thread, &handler));
	pthread_sigmask(SIG_UNBLOCK, &set, NULL);
	EXPECT_EQ(-EINTR, lock_yield(self, MLOCK_RS_LOCK_INTERRUPTIBLE, 1));
	stop_handler(&handler, thread);
	pthread_join(signaller, NULL);
	EXPECT_EQ((uintptr_t)self->addr + self->unit, self->res.fail_addr);
	EXPECT_EQ(self->unit, self->res.populated);
}

struct registrar {
	int uffd;
	char *addr;
	size_t len;
	__u64 random;
	atomic_bool quit;
	atomic_uint registered, failed;
};

static void *register_and_unregister(void *arg)
{
	static const __u64 modes[] = {
		UFFDIO_REGISTER_MODE_MISSING,
		UFFDIO_REGISTER_MODE_WP,
		UFFDIO_REGISTER_MODE_MISSING | UFFDIO_REGISTER_MODE_WP,
	};
	struct registrar *s = arg;

	while (!atomic_load(&s->quit)) {
		__u64 until = now_ns() + random_number(&s->random) % 300000;

		if (uffd_register(s->uffd, s->addr, s->len,
				  modes[random_number(&s->random) % ARRAY_SIZE(modes)]))
			atomic_fetch_add(&s->failed, 1);
		atomic_fetch_add(&s->registered, 1);
		while (now_ns() < until)
			;
		if (uffd_unregister(s->uffd, s->addr, s->len))
			atomic_fetch_add(&s->failed, 1);
		until = now_ns() + random_number(&s->random) % 900000;
		while (now_ns() < until)
			;
	}
	return NULL;
}

FIXTURE(storm)
{
	int dev;
};

FIXTURE_SETUP(storm)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
}

FIXTURE_TEARDOWN(storm)
{
	close(self->dev);
}

/*
 * The thread registers and unregisters pages in the middle all the time. Nobody handles faults: a
 * call that faulted in registered memory would never come back.
 */
TEST_F_TIMEOUT(storm, registered_in_the_last_moment, HANG_SECONDS)
{
	const char *text = getenv("STORM_SECONDS");
	__u64 end = now_ns() + (text ? strtoull(text, NULL, 10) : 5) * 1000000000ULL;
	struct uffdio_api api = { .api = UFFD_API };
	const size_t nr_pages = 64, before = vmlck();
	unsigned int locked = 0, refused = 0;
	struct registrar storm = {};
	pthread_t thread;
	char *addr;

	storm.uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (storm.uffd < 0)
		SKIP(return, "no userfaultfd");
	ASSERT_EQ(0, ioctl(storm.uffd, UFFDIO_API, &api));
	addr = map_region(nr_pages);
	storm.addr = addr + 20 * page_size;
	storm.len = 20 * page_size;
	storm.random = seed();
	TH_LOG("SEED=%llu", storm.random);
	ASSERT_EQ(0, pthread_create(&thread, NULL, register_and_unregister, &storm));

	/* With only one kind of answer it would have tested nothing: go on until there are both. */
	while (now_ns() < end || !locked || !refused) {
		struct mlock_rs_lock res;
		const char *pages;
		int ret = mlock_rs(self->dev, addr, nr_pages * page_size, &res);

		/* Only this thread locks, and registering changes no lock flag. */
		pages = states(addr, nr_pages);
		if (ret) {
			refused++;
			ASSERT_EQ(-EBUSY, ret);
			EXPECT_EQ((uintptr_t)storm.addr, res.fail_addr);
			EXPECT_STREQ(all('u', nr_pages), pages);
			EXPECT_EQ(before, vmlck());
		} else {
			locked++;
			EXPECT_EQ(nr_pages * page_size, res.locked);
			EXPECT_EQ(nr_pages * page_size, res.populated);
			EXPECT_STREQ(all('L', nr_pages), pages);
			EXPECT_EQ(before + nr_pages * page_size, vmlck());
		}
		if (_metadata->exit_code)
			break;
		/* Fresh pages for the next round. */
		ASSERT_EQ(0, munlock(addr, nr_pages * page_size));
		ASSERT_EQ(0, madvise(addr, nr_pages * page_size, MADV_DONTNEED));
	}
	atomic_store(&storm.quit, true);
	pthread_join(thread, NULL);
	EXPECT_EQ(0, atomic_load(&storm.failed));
	unmap_region(addr, nr_pages);
	EXPECT_EQ(before, vmlck());
	TH_LOG("%u locked, %u refused, %u times registered", locked, refused,
	       atomic_load(&storm.registered));
}

TEST_HARNESS_MAIN
