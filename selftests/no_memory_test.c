// SPDX-License-Identifier: GPL-2.0
/*
 * No memory for the call or for the pages, from any point of the call on: it fails with an errno of
 * the manual page, before the downgrade it has changed nothing, after it the result says how far it
 * came, and what it leaves behind can be unlocked and reclaimed. Needs fault injection.
 *
 * atomic_test.c has the same for the VMA step, in more detail, with pages that are resident.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <limits.h>

#include "fault_injection.h"
#include "locker.h"
#include "mlock_rs_test.h"
#include "slow_disk.h"

#define NR_PAGES	16UL
#define DISK_BYTES	(16UL << 20)
/* Both ends of what is locked lie within a VMA. */
#define FIRST		2UL
#define NR_LOCKED	12UL

/* More allocations than any of these calls makes: only a hang gets there. */
#define MOST_ALLOCATIONS	2000
/*
 * From call to call the checkers allocate more or less, so that the Nth allocation is not always
 * the same one: so often from the first one to the last, until each kind of failure was met.
 */
#define MOST_SWEEPS	10

enum memory { ANONYMOUS, MEMFD, PRIVATE_FILE, DISK };

FIXTURE(no_memory)
{
	int dev, file;
	struct slow_disk disk;
	/* Where the memory goes: free, and what one page table maps. */
	char *home;
	/* The memory, and the same file once more, for a look from the side. */
	char *addr, *witness;
	struct snapshot before, after;
	struct mlock_rs_lock res;
};

FIXTURE_VARIANT(no_memory)
{
	enum memory memory;
	__u32 flags;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(no_memory, anonymous) { .memory = ANONYMOUS };
FIXTURE_VARIANT_ADD(no_memory, anonymous_on_fault) {
	.memory = ANONYMOUS, .flags = MLOCK_RS_LOCK_ONFAULT };
FIXTURE_VARIANT_ADD(no_memory, anonymous_yield) {
	.memory = ANONYMOUS, .flags = MLOCK_RS_LOCK_YIELD };
FIXTURE_VARIANT_ADD(no_memory, memfd) { .memory = MEMFD };
FIXTURE_VARIANT_ADD(no_memory, private_file) { .memory = PRIVATE_FILE };
FIXTURE_VARIANT_ADD(no_memory, cold_file) { .memory = DISK };
/* clang-format on */

static bool on_fault(const FIXTURE_VARIANT(no_memory) * variant)
{
	return variant->flags & MLOCK_RS_LOCK_ONFAULT;
}

/*
 * What one page table maps, free, between mappings that stay: the table goes with what is mapped
 * here, and the next call needs a new one. For a file that was read ahead it is all that it needs.
 */
static char *free_page_table(void)
{
	const size_t size = page_size * page_size / sizeof(__u64);
	char *reserved = mmap(NULL, 3 * size, PROT_NONE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
	char *home = (char *)(((uintptr_t)reserved + 2 * size - 1) & -size);

	must(reserved != MAP_FAILED, "mmap");
	must(!munmap(home, size), "munmap");
	return home;
}

FIXTURE_SETUP(no_memory)
{
	int ret = fault_injection_on();

	self->file = -1;
	if (ret)
		SKIP(return, "no fault injection here (KERNEL=debug has it): %s", strerror(-ret));
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	if (variant->memory == DISK) {
		ret = slow_disk_create(&self->disk, DISK_BYTES);
		if (ret)
			SKIP(return, "no disk: %s", strerror(-ret));
		self->file = open(self->disk.path, O_RDWR | O_CLOEXEC);
		ASSERT_LE(0, self->file);
	} else if (variant->memory != ANONYMOUS) {
		self->file = memfd_create("no_memory_test", MFD_CLOEXEC);
		ASSERT_LE(0, self->file);
	}
	if (self->file >= 0) {
		ASSERT_EQ(0, write_cold(self->file, NR_PAGES));
		self->witness = mmap(NULL, NR_PAGES * page_size, PROT_READ, MAP_SHARED,
				     self->file, 0);
		ASSERT_NE(MAP_FAILED, self->witness);
	}
	self->home = free_page_table();
}

FIXTURE_TEARDOWN(no_memory)
{
	fault_injection_off();
	if (variant->memory == DISK) {
		close(self->file);
		slow_disk_destroy(&self->disk);
	}
}

/* The memory as new: no page of it is in the page table, and none of a file on disk in memory. */
static void map_memory(struct __test_metadata *_metadata, FIXTURE_DATA(no_memory) * self,
		       const FIXTURE_VARIANT(no_memory) * variant)
{
	const int flags = variant->memory == PRIVATE_FILE ? MAP_PRIVATE : MAP_SHARED;

	ASSERT_EQ(self->home, mmap(self->home, (NR_PAGES + 2) * page_size, PROT_NONE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED_NOREPLACE, -1, 0));
	self->addr = self->home + page_size;
	ASSERT_EQ(self->addr, mmap(self->addr, NR_PAGES * page_size, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	no_huge_pages(self->addr, NR_PAGES * page_size);
	if (variant->memory == DISK)
		ASSERT_EQ(0, posix_fadvise(self->file, 0, 0, POSIX_FADV_DONTNEED));
	if (variant->memory == MEMFD)
		ASSERT_EQ(0, fallocate(self->file, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, 0,
				       NR_PAGES * page_size));
	if (self->file >= 0)
		ASSERT_EQ(self->addr, mmap(self->addr, NR_PAGES * page_size,
					   PROT_READ | PROT_WRITE, flags | MAP_FIXED, self->file,
					   0));
	ASSERT_EQ(0, mprotect(self->addr + 6 * page_size, 4 * page_size, PROT_READ));
}

static int call(FIXTURE_DATA(no_memory) * self, const FIXTURE_VARIANT(no_memory) * variant)
{
	return mlock_rs_flags(self->dev, self->addr + FIRST * page_size, NR_LOCKED * page_size,
			      variant->flags, &self->res);
}

static void expect_locked(struct __test_metadata *_metadata, FIXTURE_DATA(no_memory) * self,
			  const FIXTURE_VARIANT(no_memory) * variant)
{
	const char *start = self->addr + FIRST * page_size;

	EXPECT_STREQ(all(on_fault(variant) ? 'f' : 'L', NR_LOCKED), states(start, NR_LOCKED));
	EXPECT_EQ(NR_LOCKED * page_size, self->res.locked);
	EXPECT_EQ(on_fault(variant) ? 0 : NR_LOCKED * page_size, self->res.populated);
}

/* Failed before the downgrade: ENOMEM, and nothing has changed. */
static void expect_refused(struct __test_metadata *_metadata, FIXTURE_DATA(no_memory) * self,
			   int ret)
{
	EXPECT_EQ(-ENOMEM, ret);
	take_snapshot(&self->after);
	EXPECT_STREQ("", lock_diff(&self->before, &self->after));
	EXPECT_STREQ(all('u', NR_PAGES), states_in(&self->after, self->addr, NR_PAGES));
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
}

/* Failed while it populated: EAGAIN, marked all over, resident as far as the result says. */
static void expect_incomplete(struct __test_metadata *_metadata, FIXTURE_DATA(no_memory) * self,
			      int ret)
{
	const char *start = self->addr + FIRST * page_size;
	const char *pages = states(start, NR_LOCKED);
	const size_t done = self->res.populated / page_size;

	EXPECT_EQ(-EAGAIN, ret);
	EXPECT_GT(NR_LOCKED, done);
	/* A page behind it may be there, too, which the fault of its neighbour has mapped. */
	EXPECT_LE(done, strspn(pages, "L"));
	EXPECT_EQ(NR_LOCKED, count(pages, 'l') + count(pages, 'L'));
	EXPECT_EQ((uintptr_t)start + self->res.populated, self->res.fail_addr);
	EXPECT_EQ(NR_LOCKED * page_size, self->res.locked);
	EXPECT_EQ(NR_LOCKED * page_size, vmlck());
}

/* Once unmapped, no page of it is locked, in whatever way the call has ended. */
static void expect_nothing_left(struct __test_metadata *_metadata, FIXTURE_DATA(no_memory) * self)
{
	unmap_region(self->addr, NR_PAGES);
	EXPECT_EQ(0, vmlck());
	if (!self->witness)
		return;
	ASSERT_EQ(0, madvise(self->witness, NR_PAGES * page_size, MADV_POPULATE_READ));
	/* A CPU batches the pages that are no longer locked. */
	drain_lru();
	EXPECT_EQ(0, count_kpageflag(self->witness, NR_PAGES, KPF_MLOCKED_BIT));
	ASSERT_EQ(0, madvise(self->witness, NR_PAGES * page_size, MADV_DONTNEED));
}

/* How the calls of a test have failed. */
struct failures {
	unsigned int allocations, refused, incomplete;
};

/* Each allocation of the call in turn fails. */
static void sweep(struct __test_metadata *_metadata, FIXTURE_DATA(no_memory) * self,
		  const FIXTURE_VARIANT(no_memory) * variant, enum fault_extent extent,
		  struct failures *seen)
{
	unsigned int nth;
	bool failed = true;

	for (nth = 1; failed && !_metadata->exit_code; nth++) {
		int ret;

		ASSERT_GT(MOST_ALLOCATIONS, nth);
		map_memory(_metadata, self, variant);
		take_snapshot(&self->before);
		fault_arm(nth, extent);
		ret = call(self, variant);
		failed = fault_disarm();

		EXPECT_EQ(-ret, (int)self->res.error);
		if (!ret) {
			/* Nothing failed, or what can be done without. */
			expect_locked(_metadata, self, variant);
		} else if (!self->res.nr_vmas) {
			expect_refused(_metadata, self, ret);
			seen->refused++;
		} else {
			expect_incomplete(_metadata, self, ret);
			seen->incomplete++;
		}
		expect_nothing_left(_metadata, self);
		if (_metadata->exit_code)
			TH_LOG("allocation %u: %s", nth, strerror(-ret));
		seen->allocations += failed;
	}
}

static void fail_each(struct __test_metadata *_metadata, FIXTURE_DATA(no_memory) * self,
		      const FIXTURE_VARIANT(no_memory) * variant, enum fault_extent extent)
{
	struct failures seen = {};
	unsigned int sweeps;

	/* Once without a failure: what the program itself touches is resident afterwards. */
	map_memory(_metadata, self, variant);
	fault_arm(INT_MAX, extent);
	ASSERT_EQ(0, call(self, variant));
	fault_disarm();
	expect_nothing_left(_metadata, self);

	for (sweeps = 0; sweeps < MOST_SWEEPS && !_metadata->exit_code; sweeps++) {
		if (seen.refused && (on_fault(variant) || seen.incomplete))
			break;
		sweep(_metadata, self, variant, extent, &seen);
	}
	TH_LOG("%u times %u allocations, %u times refused, %u times incomplete", sweeps,
	       seen.allocations / (sweeps ? sweeps : 1), seen.refused, seen.incomplete);
	EXPECT_LT(0, seen.refused);
	/* Where nothing is populated, nothing can remain undone. */
	EXPECT_EQ(!on_fault(variant), !!seen.incomplete);
}

TEST_F_TIMEOUT(no_memory, for_one_allocation, 300)
{
	fail_each(_metadata, self, variant, FAULT_ONE);
}

TEST_F_TIMEOUT(no_memory, from_one_allocation_on, 300)
{
	fail_each(_metadata, self, variant, FAULT_ALL_FROM);
}

/* A process that ends with what a failed call has left. */
TEST_F_TIMEOUT(no_memory, exit_cleans_up, 300)
{
	unsigned int nth, incomplete = 0;
	int status;

	if (variant->memory != MEMFD && variant->memory != DISK)
		SKIP(return, "nobody else sees these pages");
	for (nth = 1; nth < 64; nth++) {
		pid_t child;

		map_memory(_metadata, self, variant);
		child = fork_with_test();
		ASSERT_LE(0, child);
		if (!child) {
			int ret = fault_injection_on();

			if (ret)
				_exit(2);
			fault_arm(INT_MAX, FAULT_ALL_FROM);
			mlock_rs(self->dev, NULL, 0, &self->res);
			fault_disarm();
			fault_arm(nth, FAULT_ALL_FROM);
			ret = call(self, variant);
			fault_disarm();
			_exit(ret && self->res.nr_vmas);
		}
		ASSERT_EQ(child, waitpid(child, &status, 0));
		ASSERT_TRUE(WIFEXITED(status));
		ASSERT_GT(2, WEXITSTATUS(status));
		incomplete += WEXITSTATUS(status);
		expect_nothing_left(_metadata, self);
		if (variant->memory == DISK) {
			unsigned char cached[NR_PAGES];

			/* All of them can be reclaimed. */
			drain_lru();
			ASSERT_EQ(0, posix_fadvise(self->file, 0, 0, POSIX_FADV_DONTNEED));
			ASSERT_EQ(0, mincore(self->witness, NR_PAGES * page_size, cached));
			EXPECT_EQ(NULL, memchr(cached, 1, NR_PAGES));
		}
	}
	EXPECT_LT(0, incomplete);
}

/* Without a VMA to split and a page to fault in, there is nothing that memory is needed for. */
TEST(a_whole_mapping_that_is_resident_takes_no_memory)
{
	char *addr = map_region(NR_PAGES);
	int ret, i, dev = mlock_rs_open();
	struct mlock_rs_unlock unlocked;
	struct mlock_rs_lock locked;

	ASSERT_LE(0, dev);
	ret = fault_injection_on();
	if (ret)
		SKIP(return, "no fault injection here (KERNEL=debug has it): %s", strerror(-ret));
	no_huge_pages(addr, NR_PAGES * page_size);
	memset(addr, 1, NR_PAGES * page_size);
	/* What the program itself touches is resident the second time. */
	for (i = 0; i < 2; i++) {
		fault_arm(i ? 1 : INT_MAX, FAULT_ALL_FROM);
		EXPECT_EQ(0, mlock_rs(dev, addr, NR_PAGES * page_size, &locked));
		fault_disarm();
		EXPECT_STREQ(all('L', NR_PAGES), states(addr, NR_PAGES));

		fault_arm(i ? 1 : INT_MAX, FAULT_ALL_FROM);
		EXPECT_EQ(0, mlock_rs_unlock(dev, addr, NR_PAGES * page_size, &unlocked));
		fault_disarm();
		EXPECT_STREQ(all('U', NR_PAGES), states(addr, NR_PAGES));
	}
	fault_injection_off();
	unmap_region(addr, NR_PAGES);
}

TEST_HARNESS_MAIN
