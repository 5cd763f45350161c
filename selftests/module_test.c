// SPDX-License-Identifier: GPL-2.0
/*
 * Loading and unloading. $MODULE is the path of mlock_rs.ko; it is loaded when this program ends,
 * whatever happened, so that the other tests find the device.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "mlock_rs_test.h"

#define KMEMLEAK	"/sys/kernel/debug/kmemleak"

static int load_file(const char *path)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	int ret;

	if (fd < 0)
		return -errno;
	ret = syscall(SYS_finit_module, fd, "", 0) ? -errno : 0;
	close(fd);
	return ret;
}

static int load(void)
{
	return load_file(getenv("MODULE"));
}

static int unload(void)
{
	return syscall(SYS_delete_module, "mlock_rs", O_NONBLOCK) ? -errno : 0;
}

static bool is_loaded(void)
{
	return !access("/sys/module/mlock_rs", F_OK);
}

/* A field of /proc/meminfo in bytes. */
static long meminfo_bytes(const char *field)
{
	FILE *f = fopen("/proc/meminfo", "re");
	char line[128];
	long kb = -1;

	while (f && fgets(line, sizeof(line), f))
		if (!strncmp(line, field, strlen(field)))
			kb = strtol(line + strlen(field), NULL, 10);
	if (f)
		fclose(f);
	return kb * 1024;
}

FIXTURE(module)
{
	int dev;
};

FIXTURE_SETUP(module)
{
	self->dev = -1;
	if (!getenv("MODULE"))
		SKIP(return, "MODULE is not set");
	if (is_loaded())
		ASSERT_EQ(0, unload());
}

/*
 * In bytes, without what is freed and not yet taken down: before Linux 7.3 VmallocUsed in
 * /proc/meminfo has that in it, a hundred modules and more.
 */
static long vmalloc_bytes(void)
{
	unsigned long size;
	char line[256];
	long sum = 0;
	FILE *f;

	f = fopen("/proc/vmallocinfo", "r");
	must(f, "cannot read /proc/vmallocinfo");
	while (fgets(line, sizeof(line), f))
		if (!strstr(line, "unpurged") && sscanf(line, "0x%*x-0x%*x %lu", &size) == 1)
			sum += size;
	fclose(f);
	must(sum, "/proc/vmallocinfo is empty");
	return sum;
}

/*
 * What is left when it no longer falls. The code of modules is freed by a work, in blocks of 2 MB:
 * mm/execmem.c, execmem_cache_clean().
 */
static long settled_vmalloc_bytes(void)
{
	long least = vmalloc_bytes(), now;
	int same;

	for (same = 0; same < 20; same++) {
		usleep(10000);
		now = vmalloc_bytes();
		if (now < least) {
			least = now;
			same = 0;
		}
	}
	return least;
}

FIXTURE_TEARDOWN_PARENT(module)
{
	if (getenv("MODULE") && !is_loaded())
		load();
}

TEST_F_TIMEOUT(module, comes_and_goes_many_times, 300)
{
	/* The checkers of the debug kernel see a leak in any of them, and take a second each. */
	const int rounds = getenv("MODULE_ROUNDS") ? atoi(getenv("MODULE_ROUNDS")) :
			   is_debug_kernel() ? 30 : 100;
	long slab = 0, vmalloc = 0;
	int i;

	for (i = 0; i < rounds; i++) {
		/* The first rounds fill caches that stay. */
		if (i == 20) {
			slab = meminfo_bytes("SUnreclaim:");
			vmalloc = settled_vmalloc_bytes();
		}
		ASSERT_EQ(0, load());
		ASSERT_TRUE(is_loaded());
		/* In use in between: what a call takes has to be given back too. */
		self->dev = mlock_rs_open();
		ASSERT_LE(0, self->dev);
		EXPECT_EQ(0, mlock_rs(self->dev, self, sizeof(*self), NULL));
		close(self->dev);
		ASSERT_EQ(0, unload());
		ASSERT_FALSE(is_loaded());
		ASSERT_NE(0, access(MLOCK_RS_DEVICE, F_OK));
	}

	/* KASAN keeps freed memory in quarantine. kmemleak is a better witness there anyway. */
	if (access(KMEMLEAK, F_OK)) {
		/* 80 rounds or more: less than 7 kB each; the module itself is larger than that. */
		EXPECT_GT(slab + 512 * 1024, meminfo_bytes("SUnreclaim:"));
		EXPECT_GT(vmalloc + 512 * 1024, settled_vmalloc_bytes());
	}
}

TEST_F(module, second_load_is_refused)
{
	ASSERT_EQ(0, load());
	EXPECT_EQ(-EEXIST, load());
	EXPECT_EQ(0, unload());
}

TEST_F(module, open_descriptor_keeps_it_loaded)
{
	char *addr = map_region(1);

	ASSERT_EQ(0, load());
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	EXPECT_TRUE(is_loaded());
	EXPECT_EQ(0, mlock_rs(self->dev, addr, page_size, NULL));

	/* A copy of the descriptor counts as well, until the last one is closed. */
	ASSERT_LE(0, dup2(self->dev, 100));
	close(self->dev);
	EXPECT_EQ(-EWOULDBLOCK, unload());
	close(100);
	EXPECT_EQ(0, unload());
}

TEST_F(module, locked_memory_stays_locked_without_it)
{
	char *addr = map_region(4);

	ASSERT_EQ(0, load());
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ASSERT_EQ(0, mlock_rs(self->dev, addr, 4 * page_size, NULL));
	close(self->dev);
	ASSERT_EQ(0, unload());

	/* The lock is the kernel's own flag. munlock(2) does not need the module. */
	EXPECT_STREQ("LLLL", states(addr, 4));
	EXPECT_EQ(0, munlock(addr, 4 * page_size));
	EXPECT_STREQ("UUUU", states(addr, 4));
}

/*
 * Write a copy of the module that calls @name where the module calls split_vma(), in the form that
 * the kernel's loader resolves: .klp.sym.OBJECT.SYMBOL,POSITION.
 */
static void write_with_symbol(const char *path, const char *name)
{
	static const char symbol[] = ".klp.sym.vmlinux.split_vma,0";
	struct stat status;
	char *image, *at;
	int fd;

	fd = open(getenv("MODULE"), O_RDONLY | O_CLOEXEC);
	must(fd >= 0 && !fstat(fd, &status), "cannot open the module");
	image = mmap(NULL, status.st_size, PROT_READ | PROT_WRITE, MAP_PRIVATE, fd, 0);
	must(image != MAP_FAILED, "cannot map the module");
	close(fd);

	at = memmem(image, status.st_size, symbol, sizeof(symbol));
	must(at, "the module does not call split_vma()");
	must(snprintf(at, sizeof(symbol), ".klp.sym.vmlinux.%s,0", name) < (int)sizeof(symbol),
	     "the name is too long");

	fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	must(fd >= 0 && write(fd, image, status.st_size) == status.st_size, "cannot write");
	close(fd);
	munmap(image, status.st_size);
}

FIXTURE(symbol)
{
	char path[sizeof("/tmp/module-XXXXXX")];
	int log;
};

FIXTURE_VARIANT(symbol)
{
	const char *name, *complaint;
};

FIXTURE_VARIANT_ADD(symbol, missing) {
	.name = "split_vmb", .complaint = "symbol 'split_vmb' not found",
};

/* A name that many static functions of the kernel have. */
FIXTURE_VARIANT_ADD(symbol, ambiguous) {
	.name = "t_next", .complaint = "unresolvable ambiguity for symbol 't_next'",
};

FIXTURE_SETUP(symbol)
{
	if (!getenv("MODULE"))
		SKIP(return, "MODULE is not set");
	if (is_loaded())
		ASSERT_EQ(0, unload());
	snprintf(self->path, sizeof(self->path), "/tmp/module-XXXXXX");
	close(mkstemp(self->path));
	write_with_symbol(self->path, variant->name);
	/* What comes from now on. */
	self->log = open("/dev/kmsg", O_RDONLY | O_NONBLOCK | O_CLOEXEC);
	ASSERT_LE(0, self->log);
	lseek(self->log, 0, SEEK_END);
}

FIXTURE_TEARDOWN_PARENT(symbol)
{
	if (getenv("MODULE") && !is_loaded())
		load();
}

TEST_F(symbol, is_refused_and_named_in_the_log)
{
	bool named = false;
	char line[1024];
	ssize_t len;

	EXPECT_EQ(-EINVAL, load_file(self->path));
	unlink(self->path);
	EXPECT_FALSE(is_loaded());
	EXPECT_NE(0, access(MLOCK_RS_DEVICE, F_OK));

	while ((len = read(self->log, line, sizeof(line) - 1)) > 0) {
		line[len] = 0;
		named |= !!strstr(line, variant->complaint);
	}
	close(self->log);
	EXPECT_TRUE(named);

	/* Nothing is left of it that could be in the way. */
	ASSERT_EQ(0, load());
	EXPECT_EQ(0, unload());
}

TEST_HARNESS_MAIN
