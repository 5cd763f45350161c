// SPDX-License-Identifier: GPL-2.0
/*
 * Mappings that mlock(2) treats in a way of their own (hugetlb, vdso, secretmem, droppable memory,
 * device memory, stacks) get the same answer and end in the same state.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sys/auxv.h>
#include <sys/syscall.h>

#include "mlock_rs_test.h"
#include "twin.h"

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
	lock_twins(_metadata, self->dev, maps[0], maps[1], huge_pages + 2, &self->res);
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
	lock_twins(_metadata, self->dev, maps[0], maps[1], 6, &self->res);
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
	lock_twins(_metadata, self->dev, maps[0], maps[1], 6, &self->res);
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
	lock_twins(_metadata, self->dev, maps[0], maps[1], 6, &self->res);
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
	lock_twins(_metadata, self->dev, maps[0], maps[1], 6, &self->res);
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

TEST_F(special, locked_stack_grows)
{
	/* Room to grow into: more than the gap that the kernel keeps below a stack. */
	const size_t nr_pages = 1032, nr_stack = 8, first = nr_pages - nr_stack, touched = 4;
	const size_t before = vmlck();
	char *maps[2];
	int i;

	for (i = 0; i < 2; i++) {
		maps[i] = sandwich(_metadata, nr_pages, first * page_size, nr_stack * page_size,
				   PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_ANONYMOUS | MAP_GROWSDOWN, -1, 0);
		ASSERT_NE(NULL, maps[i]);
		ASSERT_EQ(0, munmap(maps[i], first * page_size));
		maps[i] += first * page_size;
	}
	lock_twins(_metadata, self->dev, maps[0], maps[1], nr_stack, &self->res);
	for (i = 0; i < 2; i++)
		memset(maps[i] - touched * page_size, 1, 1);
	/* What it has grown by is locked, and counted, too. */
	EXPECT_STREQ(states(maps[1] - touched * page_size, nr_stack + touched),
		     states(maps[0] - touched * page_size, nr_stack + touched));
	EXPECT_STREQ("LlllLLLLLLLL", states(maps[0] - touched * page_size, nr_stack + touched));
	EXPECT_EQ(2 * (nr_stack + touched) * page_size, vmlck() - before);
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

TEST_HARNESS_MAIN
