// SPDX-License-Identifier: GPL-2.0
/*
 * A disk that fails under the file: LOCK says which page could not be read, and leaves nothing
 * locked that cannot be unlocked. When the disk is well again, so is the range. mlock(2) asks for
 * the page again until then.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>

#include "locker.h"
#include "mlock_rs_test.h"
#include "slow_disk.h"

#define NR_PAGES	64UL
/* More than one read-ahead is on the good side, and not at its end. */
#define NR_GOOD		37UL
#define DISK_BYTES	(16UL << 20)

FIXTURE(io_error)
{
	int dev, file;
	struct slow_disk disk;
	struct mlock_rs_lock res;
};

FIXTURE_VARIANT(io_error)
{
	int prot, flags, advice;
	size_t nr_good;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(io_error, shared) {
	.prot = PROT_READ, .flags = MAP_SHARED, .advice = MADV_NORMAL, .nr_good = NR_GOOD };
FIXTURE_VARIANT_ADD(io_error, shared_random) {
	.prot = PROT_READ, .flags = MAP_SHARED, .advice = MADV_RANDOM, .nr_good = NR_GOOD };
FIXTURE_VARIANT_ADD(io_error, private_writable) {
	.prot = PROT_READ | PROT_WRITE, .flags = MAP_PRIVATE, .advice = MADV_NORMAL,
	.nr_good = NR_GOOD };
FIXTURE_VARIANT_ADD(io_error, from_the_first_page) {
	.prot = PROT_READ, .flags = MAP_SHARED, .advice = MADV_NORMAL, .nr_good = 0 };
/* clang-format on */

FIXTURE_SETUP(io_error)
{
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ret = slow_disk_create(&self->disk, DISK_BYTES);
	if (ret)
		SKIP(return, "no disk that fails: %s", strerror(-ret));
	/* The disk itself is the file: no file system has an opinion of its own about errors. */
	self->file = open(self->disk.path, O_RDWR | O_CLOEXEC);
	ASSERT_LE(0, self->file);
	ASSERT_EQ(0, write_cold(self->file, NR_PAGES));
}

FIXTURE_TEARDOWN(io_error)
{
	close(self->file);
	slow_disk_destroy(&self->disk);
	close(self->dev);
}

/* Maps the file, none of whose pages is cached. */
static char *map_cold(struct __test_metadata *_metadata, FIXTURE_DATA(io_error) * self,
		      const FIXTURE_VARIANT(io_error) * variant)
{
	char *addr = map_region(NR_PAGES);

	ASSERT_EQ(addr, mmap(addr, NR_PAGES * page_size, variant->prot,
			     variant->flags | MAP_FIXED, self->file, 0));
	ASSERT_EQ(0, madvise(addr, NR_PAGES * page_size, variant->advice));
	ASSERT_EQ(0, posix_fadvise(self->file, 0, 0, POSIX_FADV_DONTNEED));
	return addr;
}

static size_t cached_pages(struct __test_metadata *_metadata, FIXTURE_DATA(io_error) * self)
{
	unsigned char cached[NR_PAGES];
	size_t i, nr = 0;
	char *addr = mmap(NULL, NR_PAGES * page_size, PROT_READ, MAP_SHARED, self->file, 0);

	ASSERT_NE(MAP_FAILED, addr);
	ASSERT_EQ(0, mincore(addr, NR_PAGES * page_size, cached));
	for (i = 0; i < NR_PAGES; i++)
		nr += cached[i] & 1;
	munmap(addr, NR_PAGES * page_size);
	return nr;
}

TEST_F(io_error, fails_at_the_page)
{
	char *addr = map_cold(_metadata, self, variant);

	ASSERT_EQ(0, slow_disk_fail_from(&self->disk, variant->nr_good));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, addr, NR_PAGES * page_size, &self->res));
	/* What an access to the page is answered with a SIGBUS for; and all of it is marked. */
	EXPECT_EQ(ENOMEM, self->res.error);
	EXPECT_EQ(NR_PAGES * page_size, vmlck());
	EXPECT_EQ(NR_PAGES * page_size, self->res.locked);
	/* The page that the disk does not give, and all that it does give before it. */
	EXPECT_EQ(variant->nr_good * page_size, self->res.populated);
	EXPECT_EQ((uintptr_t)addr + variant->nr_good * page_size, self->res.fail_addr);
	EXPECT_EQ(variant->nr_good, count(states(addr, NR_PAGES), 'L'));
	EXPECT_EQ(NR_PAGES - variant->nr_good, count(states(addr, NR_PAGES), 'l'));
	unmap_region(addr, NR_PAGES);
}

/*
 * The difference: mlock(2) drops the lock to read the page, does not look at how that ended, and
 * begins anew, without a rest.
 */
TEST_F(io_error, mlock_asks_again_until_the_disk_is_well)
{
	struct lock_call *call;
	pid_t child;
	int status;

	call = lock_call_new(self->dev, map_cold(_metadata, self, variant), NR_PAGES);
	call->with_mlock = true;
	ASSERT_EQ(0, slow_disk_fail_from(&self->disk, variant->nr_good));
	child = lock_call_start(call);
	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_marked(child, call));
	/* Longer than anybody would wait for a disk in memory. */
	usleep(300000);
	EXPECT_FALSE(atomic_load(&call->returned)) {
		TH_LOG("mlock(2) gives up now: change differences.md");
	}
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	EXPECT_EQ(0, status);
	EXPECT_EQ(0, call->ret);
	EXPECT_STREQ(all('L', NR_PAGES), call->states);
}

TEST_F(io_error, nothing_stays_behind)
{
	char *addr = map_cold(_metadata, self, variant);

	ASSERT_EQ(0, slow_disk_fail_from(&self->disk, variant->nr_good));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(0, munlock(addr, NR_PAGES * page_size));
	EXPECT_EQ(0, vmlck());
	drain_lru();
	EXPECT_EQ(0, count_kpageflag(addr, NR_PAGES, KPF_MLOCKED_BIT));
	EXPECT_EQ(0, count_kpageflag(addr, NR_PAGES, KPF_UNEVICTABLE_BIT));
	unmap_region(addr, NR_PAGES);
	/* No reference to a page is left either: all of them can be dropped. */
	drain_lru();
	EXPECT_EQ(0, posix_fadvise(self->file, 0, 0, POSIX_FADV_DONTNEED));
	EXPECT_EQ(0, cached_pages(_metadata, self));
}

TEST_F(io_error, a_disk_that_is_well_again)
{
	char *addr = map_cold(_metadata, self, variant);
	size_t i;

	ASSERT_EQ(0, slow_disk_fail_from(&self->disk, variant->nr_good));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, addr, NR_PAGES * page_size, NULL));
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	EXPECT_EQ(0, mlock_rs(self->dev, addr, NR_PAGES * page_size, &self->res));
	/* It was marked before, and now it is all there. */
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(NR_PAGES * page_size, self->res.populated);
	EXPECT_STREQ(all('L', NR_PAGES), states(addr, NR_PAGES));
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(page_byte(i), addr[i * page_size]);
}

TEST_HARNESS_MAIN
