// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings that mlock(2) treats in a way of their own (hugetlb, vdso, secretmem, droppable memory,
 * device memory) get the same answer and end in the same state. userfaultfd is the deliberate
 * difference: such a range is refused.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <linux/userfaultfd.h>
#include <sys/auxv.h>
#include <sys/ioctl.h>
#include <sys/syscall.h>

#include "mlock_rs_test.h"

#define HUGE_SIZE		(2UL << 20)
#define NR_HUGEPAGES		"/proc/sys/vm/nr_hugepages"
#define MAP_DROPPABLE_FLAG	0x08

FIXTURE(special)
{
	int dev;
	long nr_hugepages;
	struct mlock_rs_lock res;
};

FIXTURE_SETUP(special)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->nr_hugepages = read_number(NR_HUGEPAGES);
}

FIXTURE_TEARDOWN_PARENT(special)
{
	if (self->nr_hugepages >= 0)
		write_number(NR_HUGEPAGES, self->nr_hugepages);
}

/* The same call on twins: same answer, same VmLck, same pages. */
static void same_as_mlock(struct __test_metadata *_metadata, FIXTURE_DATA(special) * self,
			  char *mine, char *theirs, size_t nr_pages)
{
	size_t before = vmlck(), between;
	int expected = mlock_2(theirs, nr_pages * page_size);

	between = vmlck();
	EXPECT_EQ(expected, mlock_rs(self->dev, mine, nr_pages * page_size, &self->res));
	EXPECT_EQ(between - before, vmlck() - between);
	EXPECT_EQ(between - before, self->res.locked);
	EXPECT_STREQ(states(theirs, nr_pages), states(mine, nr_pages));
	EXPECT_EQ(-expected, (int)self->res.error);
	if (!expected)
		EXPECT_EQ(nr_pages * page_size, self->res.populated);
}

/* Ordinary memory, one special piece in it (@len bytes at @offset), ordinary memory. */
static char *sandwich(struct __test_metadata *_metadata, size_t nr_pages, size_t offset, size_t len,
		      int prot, int flags, int fd, off_t pos)
{
	char *addr = map_region(nr_pages);

	if (mmap(addr + offset, len, prot, flags | MAP_FIXED, fd, pos) == MAP_FAILED) {
		TH_LOG("mmap: %s", strerror(errno));
		unmap_region(addr, nr_pages);
		return NULL;
	}
	return addr;
}

TEST_F(special, hugetlb)
{
	size_t huge_pages = HUGE_SIZE / page_size, nr_pages = 3 * huge_pages;
	char *maps[2];
	int i;

	write_number(NR_HUGEPAGES, 2);
	if (read_number(NR_HUGEPAGES) < 2)
		SKIP(return, "no hugetlb pages");
	for (i = 0; i < 2; i++) {
		char *addr = map_region(nr_pages);
		char *huge = (char *)(((uintptr_t)addr + HUGE_SIZE) & ~(HUGE_SIZE - 1));

		ASSERT_NE(MAP_FAILED, mmap(huge, HUGE_SIZE, PROT_READ | PROT_WRITE,
					   MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_FIXED,
					   -1, 0));
		maps[i] = huge - page_size;
	}
	/* hugetlb is never swapped: populated, but not counted in VmLck and without the flag. */
	same_as_mlock(_metadata, self, maps[0], maps[1], huge_pages + 2);
	EXPECT_EQ(2 * page_size, self->res.locked);
	EXPECT_EQ(3, self->res.nr_vmas);
}

TEST_F(special, vdso)
{
	unsigned long vdso = getauxval(AT_SYSINFO_EHDR);
	size_t before = vmlck();

	if (!vdso)
		SKIP(return, "no vdso");
	/* There is only one: the same call twice. It is never counted. */
	EXPECT_EQ(0, mlock_2((void *)vdso, page_size));
	EXPECT_EQ(before, vmlck());
	EXPECT_EQ(0, mlock_rs(self->dev, (void *)vdso, page_size, &self->res));
	EXPECT_EQ(before, vmlck());
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(page_size, self->res.populated);
}

static bool is_vvar(const char *line)
{
	return strstr(line, "[vvar]") || strstr(line, "[vvar_vclock]");
}

TEST_F(special, vvar)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start, end;
	char line[256];
	int seen = 0, fields;

	ASSERT_NE(NULL, maps);
	while (fgets(line, sizeof(line), maps)) {
		if (!is_vvar(line))
			continue;
		/* PFNMAP: nothing to populate, nothing to lock, no error. */
		fields = sscanf(line, "%lx-%lx", &start, &end);
		ASSERT_EQ(2, fields);
		EXPECT_EQ(mlock_2((void *)start, end - start),
			  mlock_rs(self->dev, (void *)start, end - start, &self->res));
		EXPECT_EQ(0, self->res.locked);
		EXPECT_EQ(end - start, self->res.populated);
		seen++;
	}
	fclose(maps);
	if (!seen)
		SKIP(return, "no vvar");
}

TEST_F(special, vsyscall_is_not_mapped)
{
	/* The gate VMA is in no mm. */
	const void *vsyscall = (void *)0xffffffffff600000UL;

	EXPECT_GT(0, mlock_2(vsyscall, page_size));
	EXPECT_GT(0, mlock_rs(self->dev, vsyscall, page_size, NULL));
}

TEST_F(special, secretmem)
{
	char *maps[2];
	int i;

	for (i = 0; i < 2; i++) {
		int fd = syscall(SYS_memfd_secret, 0);

		if (fd < 0)
			SKIP(return, "no secretmem");
		ASSERT_EQ(0, ftruncate(fd, 2 * page_size));
		maps[i] = sandwich(_metadata, 6, 2 * page_size, 2 * page_size,
				   PROT_READ | PROT_WRITE, MAP_SHARED, fd, 0);
		ASSERT_NE(NULL, maps[i]);
		close(fd);
	}
	/* It is locked from birth and cannot be populated through its own mapping. */
	same_as_mlock(_metadata, self, maps[0], maps[1], 6);
}

TEST_F(special, droppable)
{
	char *maps[2];
	int i;

	for (i = 0; i < 2; i++) {
		maps[i] = sandwich(_metadata, 6, 2 * page_size, 2 * page_size,
				   PROT_READ | PROT_WRITE, MAP_ANONYMOUS | MAP_DROPPABLE_FLAG, -1,
				   0);
		if (!maps[i])
			SKIP(return, "no MAP_DROPPABLE");
	}
	/* Memory that may be dropped at any moment cannot be locked. */
	same_as_mlock(_metadata, self, maps[0], maps[1], 6);
	EXPECT_EQ(4 * page_size, self->res.locked);
}

TEST_F(special, device_memory)
{
	int fd = open("/dev/mem", O_RDONLY | O_CLOEXEC);
	char *maps[2];
	int i;

	if (fd < 0)
		SKIP(return, "no /dev/mem");
	for (i = 0; i < 2; i++) {
		/* The BIOS of a PC. */
		maps[i] = sandwich(_metadata, 6, 2 * page_size, 2 * page_size, PROT_READ,
				   MAP_SHARED, fd, 0xf0000);
		if (!maps[i])
			SKIP(return, "/dev/mem cannot be mapped");
	}
	same_as_mlock(_metadata, self, maps[0], maps[1], 6);
	/* Its page table entries were made by mmap(2): it counts as populated. */
	EXPECT_EQ(4 * page_size, self->res.locked);
	close(fd);
}

TEST_F(special, grows_down)
{
	char *maps[2];
	int i;

	for (i = 0; i < 2; i++) {
		maps[i] = sandwich(_metadata, 6, 2 * page_size, 2 * page_size,
				   PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
		ASSERT_NE(NULL, maps[i]);
	}
	same_as_mlock(_metadata, self, maps[0], maps[1], 6);
	EXPECT_STREQ("LLLLLL", states(maps[0], 6));
}

TEST_F(special, stack_does_not_grow_for_it)
{
	char *maps[2];
	int i;

	/* A hole below memory that could grow into it is a hole. */
	for (i = 0; i < 2; i++) {
		maps[i] = sandwich(_metadata, 6, 4 * page_size, 2 * page_size,
				   PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
		ASSERT_NE(NULL, maps[i]);
		ASSERT_EQ(0, munmap(maps[i], 4 * page_size));
	}
	EXPECT_EQ(-ENOMEM, mlock_2(maps[1] + 3 * page_size, 3 * page_size));
	EXPECT_EQ(-ENOMEM, mlock_rs(self->dev, maps[0] + 3 * page_size, 3 * page_size,
				    &self->res));
	EXPECT_EQ((uintptr_t)maps[0] + 3 * page_size, self->res.fail_addr);
	EXPECT_STREQ("....uu", states(maps[0], 6));
}

TEST_F(special, whole_stack)
{
	FILE *maps = fopen("/proc/self/maps", "r");
	unsigned long start = 0, end = 0;
	char line[256];
	int fields = 0;

	ASSERT_NE(NULL, maps);
	while (fgets(line, sizeof(line), maps))
		if (strstr(line, "[stack]"))
			fields = sscanf(line, "%lx-%lx", &start, &end);
	fclose(maps);
	ASSERT_EQ(2, fields);
	/* The argument of the call lies in the range as well. */
	EXPECT_EQ(0, mlock_rs(self->dev, (void *)start, end - start, &self->res));
	EXPECT_EQ(end - start, self->res.locked);
}

FIXTURE(uffd)
{
	int dev, uffd;
	char *addr;
	struct snapshot before, after;
	struct mlock_rs_lock res;
};

FIXTURE_VARIANT(uffd)
{
	__u64 mode;
	__u64 features;
	bool shared;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(uffd, missing) { .mode = UFFDIO_REGISTER_MODE_MISSING };
FIXTURE_VARIANT_ADD(uffd, missing_shared) {
	.mode = UFFDIO_REGISTER_MODE_MISSING, .features = UFFD_FEATURE_MISSING_SHMEM,
	.shared = true };
FIXTURE_VARIANT_ADD(uffd, write_protect) { .mode = UFFDIO_REGISTER_MODE_WP };
FIXTURE_VARIANT_ADD(uffd, minor) {
	.mode = UFFDIO_REGISTER_MODE_MINOR, .features = UFFD_FEATURE_MINOR_SHMEM,
	.shared = true };
/* clang-format on */

static int uffd_register(int uffd, void *addr, size_t len, __u64 mode)
{
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)addr, .len = len },
		.mode = mode,
	};

	return ioctl(uffd, UFFDIO_REGISTER, &reg) ? -errno : 0;
}

FIXTURE_SETUP(uffd)
{
	struct uffdio_api api = { .api = UFFD_API, .features = variant->features };

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(8);
	if (variant->shared)
		ASSERT_NE(MAP_FAILED, mmap(self->addr, 8 * page_size, PROT_READ | PROT_WRITE,
					   MAP_SHARED | MAP_ANONYMOUS | MAP_FIXED, -1, 0));
	self->uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	if (self->uffd < 0)
		SKIP(return, "no userfaultfd");
	if (ioctl(self->uffd, UFFDIO_API, &api))
		SKIP(return, "userfaultfd cannot do this");
	if (uffd_register(self->uffd, self->addr + 3 * page_size, 2 * page_size, variant->mode))
		SKIP(return, "userfaultfd cannot do this");
}

FIXTURE_TEARDOWN(uffd)
{
	close(self->uffd);
	unmap_region(self->addr, 8);
	close(self->dev);
}

TEST_F(uffd, registered_part_is_refused)
{
	ASSERT_EQ(0, mlock_2(self->addr, page_size));
	take_snapshot(&self->before);
	EXPECT_EQ(-EBUSY, mlock_rs(self->dev, self->addr, 8 * page_size, &self->res));
	take_snapshot(&self->after);
	/* Waiting for user space with the lock held could be for ever. So: not at all. */
	EXPECT_STREQ("", snapshot_diff(&self->before, &self->after));
	EXPECT_STREQ("Luuuuuuu", states(self->addr, 8));
	EXPECT_EQ((uintptr_t)self->addr + 3 * page_size, self->res.fail_addr);
	EXPECT_EQ(EBUSY, self->res.error);
	EXPECT_EQ(0, self->res.locked);
	EXPECT_EQ(0, self->res.populated);
}

TEST_F(uffd, range_that_starts_inside_the_registered_part)
{
	EXPECT_EQ(-EBUSY, mlock_rs(self->dev, self->addr + 4 * page_size, 2 * page_size,
				   &self->res));
	EXPECT_EQ((uintptr_t)self->addr + 4 * page_size, self->res.fail_addr);
}

TEST_F(uffd, the_rest_can_be_locked)
{
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 3 * page_size, NULL));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr + 5 * page_size, 3 * page_size, NULL));
	EXPECT_STREQ("LLLuuLLL", states(self->addr, 8));
}

TEST_F(uffd, after_unregistering_it_locks)
{
	struct uffdio_range range = {
		.start = (uintptr_t)self->addr + 3 * page_size,
		.len = 2 * page_size,
	};

	ASSERT_EQ(0, ioctl(self->uffd, UFFDIO_UNREGISTER, &range));
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, 8 * page_size, NULL));
	EXPECT_STREQ("LLLLLLLL", states(self->addr, 8));
}

TEST_HARNESS_MAIN
