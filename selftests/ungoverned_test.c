// SPDX-License-Identifier: GPL-2.0
/*
 * What the mmap lock does not govern, as differences.md lists it: requests that take pages away
 * without changing a mapping get through while the call holds the lock, and the call returns 0 all
 * the same. mlock(2) stops none of them either: each test is made with both.
 *
 * The last page of the range belongs to a FUSE server that holds it back. All other pages are
 * locked and resident by then, and the call is not over.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/eventfd.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "fuse_server.h"
#include "locker.h"
#include "mlock_rs_test.h"
#include "slow_disk.h"
#include "thread_state.h"

#define NR_PAGES	8UL
/* For what happens to some page or other. */
#define MOST_PAGES	4096UL
/* The page that is taken away. */
#define TAKEN		2UL
#define DISK_BYTES	(16UL << 20)

/* Not in every libc. */
#define DONTNEED_LOCKED	24
#define COLLAPSE	25
#define SOFT_OFFLINE	101
#define HWPOISON	100

FIXTURE(ungoverned)
{
	int dev;
	struct fuse_server *server;
	/* The pages of the test and then the one that is held back. */
	char *addr;
	size_t nr_pages;
	/* When the range is marked. */
	size_t vmlck;
	pthread_t thread;
	atomic_int tid;
	atomic_bool returned;
	bool with_mlock;
	int ret;
	struct mlock_rs_lock res;
};

FIXTURE_VARIANT(ungoverned)
{
	bool with_mlock;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(ungoverned, lock) { .with_mlock = false };
FIXTURE_VARIANT_ADD(ungoverned, mlock) { .with_mlock = true };
/* clang-format on */

FIXTURE_SETUP(ungoverned)
{
	const struct fuse_options options = {
		.nr_pages = 1,
		.max_readahead = FUSE_MUCH_READAHEAD,
	};

	self->with_mlock = variant->with_mlock;
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->server = fuse_start(&options);
	if (!self->server)
		SKIP(return, "no FUSE: %s", strerror(errno));
}

FIXTURE_TEARDOWN(ungoverned)
{
	if (self->server)
		fuse_stop(self->server);
	close(self->dev);
}

/*
 * Room for @nr_pages, aligned to a huge page, which the caller fills; and behind them the page that
 * will be held back.
 */
static void map_pages(struct __test_metadata *_metadata, FIXTURE_DATA(ungoverned) * self,
		      size_t nr_pages)
{
	char *room = map_region(nr_pages + 1 + HUGE_SIZE / page_size);
	int file = fuse_open(self->server);

	self->nr_pages = nr_pages;
	self->addr = (char *)(((uintptr_t)room + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	ASSERT_LE(0, file);
	ASSERT_NE(MAP_FAILED, mmap(self->addr + nr_pages * page_size, page_size, PROT_READ,
				   MAP_PRIVATE | MAP_FIXED, file, 0));
	close(file);
}

static void map_file(struct __test_metadata *_metadata, FIXTURE_DATA(ungoverned) * self, int fd)
{
	ASSERT_LE(0, fd);
	ASSERT_EQ(self->addr, mmap(self->addr, self->nr_pages * page_size, PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_FIXED, fd, 0));
}

static int map_memfd(struct __test_metadata *_metadata, FIXTURE_DATA(ungoverned) * self)
{
	int fd = memfd_create("ungoverned_test", MFD_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, self->nr_pages * page_size));
	map_file(_metadata, self, fd);
	return fd;
}

static void *lock_in_thread(void *arg)
{
	FIXTURE_DATA(ungoverned) * self = arg;
	const size_t len = (self->nr_pages + 1) * page_size;

	atomic_store(&self->tid, gettid());
	if (self->with_mlock)
		self->ret = mlock_2(self->addr, len);
	else
		self->ret = mlock_rs(self->dev, self->addr, len, &self->res);
	atomic_store(&self->returned, true);
	return NULL;
}

/*
 * Begins the call and waits until it waits for the last page. From now on nothing may be mapped,
 * unmapped, locked or forked here: LOCK would hold it up until end().
 */
static void begin(struct __test_metadata *_metadata, FIXTURE_DATA(ungoverned) * self)
{
	pid_t tid;

	self->vmlck = vmlck() + (self->nr_pages + 1) * page_size;
	fuse_hold(self->server, 0);
	ASSERT_EQ(0, pthread_create(&self->thread, NULL, lock_in_thread, self));
	ASSERT_TRUE(fuse_wait_held(self->server, HANG_MS));
	ASSERT_TRUE(comes_about(vmlck() == self->vmlck &&
				resident_pages(self->addr, self->nr_pages) == self->nr_pages));
	/* Of all pages, only the last one is a reason to sleep. */
	tid = atomic_load(&self->tid);
	ASSERT_TRUE(comes_about(thread_state(tid) != 'R'));
	if (!self->with_mlock)
		ASSERT_TRUE(wait_waits(tid));
	ASSERT_FALSE(atomic_load(&self->returned));
}

/* Sets the call free, which has gone on all the time, and expects that it has noticed nothing. */
static void end(struct __test_metadata *_metadata, FIXTURE_DATA(ungoverned) * self)
{
	EXPECT_FALSE(atomic_load(&self->returned));
	fuse_release(self->server);
	ASSERT_EQ(0, pthread_join(self->thread, NULL));
	EXPECT_EQ(0, self->ret);
	EXPECT_EQ(self->vmlck, vmlck());
	if (!self->with_mlock) {
		EXPECT_EQ((self->nr_pages + 1) * page_size, self->res.locked);
		EXPECT_EQ((self->nr_pages + 1) * page_size, self->res.populated);
	}
}

TEST_F(ungoverned, madv_dontneed_locked)
{
	map_pages(_metadata, self, NR_PAGES);
	memset(self->addr, 'x', NR_PAGES * page_size);
	begin(_metadata, self);
	/* Without the last word it would be refused. */
	EXPECT_EQ(-1, madvise(self->addr + TAKEN * page_size, page_size, MADV_DONTNEED));
	EXPECT_EQ(0, madvise(self->addr + TAKEN * page_size, page_size, DONTNEED_LOCKED));
	end(_metadata, self);
	EXPECT_STREQ("LLlLLLLLL", states(self->addr, NR_PAGES + 1));
	/* The next access brings a new page, which is locked. */
	EXPECT_EQ(0, self->addr[TAKEN * page_size]);
}

TEST_F(ungoverned, truncation)
{
	int fd;

	map_pages(_metadata, self, NR_PAGES);
	fd = map_memfd(_metadata, self);
	begin(_metadata, self);
	EXPECT_EQ(0, ftruncate(fd, TAKEN * page_size));
	end(_metadata, self);
	EXPECT_STREQ("LLllllllL", states(self->addr, NR_PAGES + 1));
}

TEST_F(ungoverned, hole_punch)
{
	int fd;

	map_pages(_metadata, self, NR_PAGES);
	fd = map_memfd(_metadata, self);
	begin(_metadata, self);
	EXPECT_EQ(0, fallocate(fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, TAKEN * page_size,
			       page_size));
	end(_metadata, self);
	EXPECT_STREQ("LLlLLLLLL", states(self->addr, NR_PAGES + 1));
}

TEST_F(ungoverned, uffdio_move)
{
	struct uffdio_api api = { .api = UFFD_API, .features = UFFD_FEATURE_MOVE };
	struct uffdio_register reg = { .mode = UFFDIO_REGISTER_MODE_MISSING };
	char *elsewhere = map_region(NR_PAGES);
	struct uffdio_move move = {};
	int uffd;

	map_pages(_metadata, self, NR_PAGES);
	memset(self->addr, 'x', NR_PAGES * page_size);
	uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api))
		SKIP(return, "no UFFDIO_MOVE: %s", strerror(errno));
	/* From locked memory to locked memory, or it is refused. */
	ASSERT_EQ(0, mlock_onfault(elsewhere, NR_PAGES * page_size));
	reg.range.start = (uintptr_t)elsewhere;
	reg.range.len = NR_PAGES * page_size;
	ASSERT_EQ(0, ioctl(uffd, UFFDIO_REGISTER, &reg));
	begin(_metadata, self);
	move.dst = (uintptr_t)elsewhere;
	move.src = (uintptr_t)self->addr + TAKEN * page_size;
	move.len = page_size;
	EXPECT_EQ(0, ioctl(uffd, UFFDIO_MOVE, &move)) {
		TH_LOG("UFFDIO_MOVE: %s", strerror(errno));
	}
	end(_metadata, self);
	EXPECT_STREQ("Ffffffff", states(elsewhere, NR_PAGES));
	EXPECT_EQ('x', elsewhere[0]);
	EXPECT_STREQ("LLlLLLLLL", states(self->addr, NR_PAGES + 1));
	close(uffd);
}

static atomic_int poisoned;

static void count_sigbus(int sig)
{
	(void)sig;
	atomic_fetch_add(&poisoned, 1);
}

TEST_F(ungoverned, memory_failure)
{
	/* Who asks for it is told of it. */
	signal(SIGBUS, count_sigbus);
	map_pages(_metadata, self, NR_PAGES);
	memset(self->addr, 'x', NR_PAGES * page_size);
	begin(_metadata, self);
	if (madvise(self->addr + TAKEN * page_size, page_size, HWPOISON)) {
		TH_LOG("MADV_HWPOISON: %s", strerror(errno));
		EXPECT_EQ(EINVAL, errno);
		end(_metadata, self);
		SKIP(return, "no memory failure handling");
	}
	end(_metadata, self);
	EXPECT_EQ(1, atomic_load(&poisoned));
	/* Gone for good: who touches it is sent SIGBUS. The VMA stays locked. */
	EXPECT_STREQ("LLlLLLLLL", states(self->addr, NR_PAGES + 1));
}

TEST_F(ungoverned, migration)
{
	__u64 frame;

	map_pages(_metadata, self, NR_PAGES);
	memset(self->addr, 'x', NR_PAGES * page_size);
	begin(_metadata, self);
	frame = page_frame(self->addr + TAKEN * page_size);
	ASSERT_NE(0, frame);
	/* The page frame is taken out of use, and what it holds goes elsewhere. */
	if (madvise(self->addr + TAKEN * page_size, page_size, SOFT_OFFLINE)) {
		TH_LOG("MADV_SOFT_OFFLINE: %s", strerror(errno));
		EXPECT_EQ(EINVAL, errno);
		end(_metadata, self);
		SKIP(return, "no memory failure handling");
	}
	end(_metadata, self);
	EXPECT_STREQ("LLLLLLLLL", states(self->addr, NR_PAGES + 1));
	EXPECT_NE(frame, page_frame(self->addr + TAKEN * page_size));
	EXPECT_EQ('x', self->addr[TAKEN * page_size]);
	EXPECT_EQ(1, count_kpageflag(self->addr + TAKEN * page_size, 1, KPF_MLOCKED_BIT));
}

TEST_F(ungoverned, move_pages)
{
	const int other_node = 1, move = MPOL_MF_MOVE;
	int status = -1;
	void *page;

	if (access("/sys/devices/system/node/node1", F_OK))
		SKIP(return, "only one NUMA node");
	map_pages(_metadata, self, NR_PAGES);
	memset(self->addr, 'x', NR_PAGES * page_size);
	page = self->addr + TAKEN * page_size;
	begin(_metadata, self);
	ASSERT_EQ(0, syscall(SYS_move_pages, 0, 1UL, &page, NULL, &status, 0));
	ASSERT_EQ(0, status);
	EXPECT_EQ(0, syscall(SYS_move_pages, 0, 1UL, &page, &other_node, &status, move));
	EXPECT_EQ(other_node, status);
	end(_metadata, self);
	EXPECT_STREQ("LLLLLLLLL", states(self->addr, NR_PAGES + 1));
	EXPECT_EQ('x', self->addr[TAKEN * page_size]);
	EXPECT_EQ(1, count_kpageflag(page, 1, KPF_MLOCKED_BIT));
}

static __u64 frames[MOST_PAGES];

static size_t count_moved(const char *addr)
{
	static __u64 now[MOST_PAGES];
	size_t i, moved = 0;

	page_frames(addr, MOST_PAGES, now);
	for (i = 0; i < MOST_PAGES; i++)
		moved += frames[i] != now[i];
	return moved;
}

/* Compaction in a process of its own, once @go is written to. */
static pid_t start_compaction(int go)
{
	pid_t child = fork_with_test();
	eventfd_t value;

	if (child)
		return child;
	_exit(eventfd_read(go, &value) || write_number("/proc/sys/vm/compact_memory", 1));
}

TEST_F_TIMEOUT(ungoverned, compaction, 120)
{
	char *between = map_region(MOST_PAGES);
	size_t i, moved = 0;
	pid_t child;
	int go, status;

	if (read_number("/proc/sys/vm/compact_unevictable_allowed") != 1)
		SKIP(return, "compaction leaves locked pages alone");
	go = eventfd(0, EFD_CLOEXEC);
	ASSERT_LE(0, go);
	/* Before there are pages, which it would share. */
	child = start_compaction(go);
	ASSERT_LT(0, child);
	map_pages(_metadata, self, MOST_PAGES);
	/* Every other page of the memory becomes free. */
	for (i = 0; i < MOST_PAGES; i++) {
		self->addr[i * page_size] = page_byte(i);
		between[i * page_size] = 1;
	}
	ASSERT_EQ(0, madvise(between, MOST_PAGES * page_size, MADV_DONTNEED));
	begin(_metadata, self);
	page_frames(self->addr, MOST_PAGES, frames);
	ASSERT_EQ(0, eventfd_write(go, 1));
	/* When it meets the page that is held back, it waits for that one as well. */
	for (i = 0; i < 100 && thread_state(child) != 'Z'; i++)
		usleep(20000);
	moved = count_moved(self->addr);
	/* Those that it has in hand are not mapped for a moment. */
	EXPECT_TRUE(comes_about(resident_pages(self->addr, MOST_PAGES) == MOST_PAGES));
	end(_metadata, self);
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	/* It may have met that page first. */
	if (!moved)
		moved = count_moved(self->addr);
	close(go);
	EXPECT_STREQ(all('L', MOST_PAGES), states(self->addr, MOST_PAGES));
	for (i = 0; i < MOST_PAGES; i++)
		ASSERT_EQ(page_byte(i), self->addr[i * page_size]);
	TH_LOG("%zu of %lu pages have moved", moved, MOST_PAGES);
	/* It moves pages up; what is up already stays. */
	if (!moved)
		SKIP(return, "the pages were where compaction wants them");
}

TEST_F(ungoverned, direct_write)
{
	struct slow_disk disk;
	char *page;
	int ret, fd;

	ret = slow_disk_create(&disk, DISK_BYTES);
	if (!ret)
		ret = slow_disk_mount(&disk);
	if (ret)
		SKIP(return, "no ext4: %s", strerror(-ret));
	fd = slow_disk_file(&disk);
	map_pages(_metadata, self, NR_PAGES);
	ASSERT_EQ(0, write_cold(fd, NR_PAGES));
	map_file(_metadata, self, fd);
	page = map_region(1);
	memset(page, 'x', page_size);
	ASSERT_EQ(0, fcntl(fd, F_SETFL, O_DIRECT));
	begin(_metadata, self);
	/* It goes past the page cache, which has to forget the folio with the page. */
	EXPECT_EQ((ssize_t)page_size, pwrite(fd, page, page_size, TAKEN * page_size));
	end(_metadata, self);
	EXPECT_EQ('l', states(self->addr, NR_PAGES + 1)[TAKEN]);
	EXPECT_EQ('L', states(self->addr, NR_PAGES + 1)[NR_PAGES]);
	EXPECT_EQ(NR_PAGES + 1, strspn(states(self->addr, NR_PAGES + 1), "Ll"));
	EXPECT_EQ('x', self->addr[TAKEN * page_size]);
	ASSERT_EQ(0, munmap(self->addr, NR_PAGES * page_size));
	close(fd);
	slow_disk_destroy(&disk);
}

TEST_F(ungoverned, fuse_invalidation)
{
	const struct fuse_options options = { .nr_pages = NR_PAGES };
	struct fuse_server *server = fuse_start(&options);
	int file;

	ASSERT_NE(NULL, server);
	file = fuse_open(server);
	map_pages(_metadata, self, NR_PAGES);
	ASSERT_EQ(self->addr, mmap(self->addr, NR_PAGES * page_size, PROT_READ,
				   MAP_SHARED | MAP_FIXED, file, 0));
	begin(_metadata, self);
	fuse_invalidate(server, TAKEN);
	ASSERT_TRUE(comes_about(!resident_pages(self->addr + TAKEN * page_size, 1)));
	end(_metadata, self);
	EXPECT_STREQ("LLlLLLLLL", states(self->addr, NR_PAGES + 1));
	EXPECT_EQ(page_byte(TAKEN), self->addr[TAKEN * page_size]);
	fuse_stop(server);
}

/* Another process, which makes a huge page of the memory of both when it is told to. */
static pid_t start_collapse(FIXTURE_DATA(ungoverned) * self, int go)
{
	pid_t child = fork_with_test();
	char byte;

	if (child)
		return child;
	if (read(go, &byte, 1) != 1)
		_exit(1);
	_exit(madvise(self->addr, HUGE_SIZE, COLLAPSE) ? errno : 0);
}

TEST_F(ungoverned, collapse)
{
	const size_t nr_pages = HUGE_SIZE / page_size;
	int go[2], status;
	pid_t child;
	size_t i;

	if (access("/sys/kernel/mm/transparent_hugepage", F_OK))
		SKIP(return, "no transparent huge pages, as with PREEMPT_RT");
	map_pages(_metadata, self, nr_pages);
	map_memfd(_metadata, self);
	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	child = start_collapse(self, go[0]);
	ASSERT_LT(0, child);
	for (i = 0; i < nr_pages; i++)
		self->addr[i * page_size] = page_byte(i);
	ASSERT_EQ(0, smaps_bytes(self->addr, HUGE_SIZE, "ShmemPmdMapped:"));
	begin(_metadata, self);
	ASSERT_EQ(1, write(go[1], "", 1));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status) {
		TH_LOG("MADV_COLLAPSE: %s", strerror(WEXITSTATUS(status)));
	}
	end(_metadata, self);
	/* The small pages are gone, and the huge one comes with the next access. */
	EXPECT_STREQ(all('l', nr_pages), states(self->addr, nr_pages));
	EXPECT_EQ(page_byte(0), self->addr[0]);
	EXPECT_STREQ(all('L', nr_pages), states(self->addr, nr_pages));
	EXPECT_EQ(HUGE_SIZE, smaps_bytes(self->addr, HUGE_SIZE, "ShmemPmdMapped:"));
	for (i = 0; i < nr_pages; i++)
		ASSERT_EQ(page_byte(i), self->addr[i * page_size]);
}

TEST_HARNESS_MAIN
