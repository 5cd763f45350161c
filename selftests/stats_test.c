// SPDX-License-Identifier: GPL-2.0
/*
 * What is going on: the counters of an open file in /proc/PID/fdinfo/FD, and those of the whole
 * module in debugfs, count what was done, what was refused, and for how long the lock was held.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <stdarg.h>
#include <sys/ioctl.h>
#include <sys/resource.h>

#include "mlock_rs_test.h"

#define NR_PAGES	16UL
#define TOTALS		"/sys/kernel/debug/mlock_rs/totals"

static const char *const names[] = {
	"lock-calls", "unlock-calls", "query-calls", "locked-bytes", "unlocked-bytes",
	"populated-bytes", "write-held-ns", "read-held-ns", "errors-EPERM", "errors-EINTR",
	"errors-E2BIG", "errors-EAGAIN", "errors-ENOMEM", "errors-EFAULT", "errors-EBUSY",
	"errors-EINVAL", "errors-other",
};

#define NR_NAMES	ARRAY_SIZE(names)

struct counters {
	__u64 value[NR_NAMES];
};

/* Reads all of them; false if one is not there or is there twice. */
static bool read_counters(const char *path, struct counters *c)
{
	unsigned int found[NR_NAMES] = {};
	FILE *f = fopen(path, "re");
	char line[256];
	size_t i;

	memset(c, 0, sizeof(*c));
	if (!f)
		return false;
	while (fgets(line, sizeof(line), f)) {
		char *tab = strchr(line, '\t');

		if (!tab || tab[-1] != ':')
			continue;
		tab[-1] = '\0';
		for (i = 0; i < NR_NAMES; i++) {
			if (!strcmp(line, names[i])) {
				c->value[i] = strtoull(tab + 1, NULL, 10);
				found[i]++;
			}
		}
	}
	fclose(f);
	for (i = 0; i < NR_NAMES; i++)
		if (found[i] != 1)
			return false;
	return true;
}

/* By how much a counter rose. */
static __u64 rise(const struct counters *before, const struct counters *now, const char *name)
{
	size_t i;

	for (i = 0; i < NR_NAMES; i++)
		if (!strcmp(names[i], name))
			return now->value[i] - before->value[i];
	abort();
}

/* All counters that rose, with their names, but for the times. Good until the next call. */
static const char *rises(const struct counters *before, const struct counters *now)
{
	static char text[1024];
	size_t i, len = 0;

	text[0] = '\0';
	for (i = 0; i < NR_NAMES; i++) {
		__u64 n = now->value[i] - before->value[i];

		if (n && !strstr(names[i], "-held-ns"))
			len += snprintf(text + len, sizeof(text) - len, "%s%s %llu",
					len ? ", " : "", names[i], n);
	}
	return text;
}

/* The counters of one file and the totals, twice. */
struct watch {
	char fdinfo[64];
	struct counters before, now, totals_before, totals_now;
};

static void watch_from_now_on(struct __test_metadata *_metadata, struct watch *w, int dev)
{
	snprintf(w->fdinfo, sizeof(w->fdinfo), "/proc/self/fdinfo/%d", dev);
	ASSERT_TRUE(read_counters(w->fdinfo, &w->before));
	ASSERT_TRUE(read_counters(TOTALS, &w->totals_before));
}

static void look(struct __test_metadata *_metadata, struct watch *w)
{
	ASSERT_TRUE(read_counters(w->fdinfo, &w->now));
	ASSERT_TRUE(read_counters(TOTALS, &w->totals_now));
}

/* What rose is @text, for this file and, as nobody else uses the module, in the totals. */
static void expect_rises(struct __test_metadata *_metadata, struct watch *w, const char *text)
{
	look(_metadata, w);
	EXPECT_STREQ(text, rises(&w->before, &w->now));
	EXPECT_STREQ(text, rises(&w->totals_before, &w->totals_now));
}

/* By how much a counter of the file rose, and that of the totals as well. */
static __u64 rose(struct __test_metadata *_metadata, struct watch *w, const char *name)
{
	look(_metadata, w);
	EXPECT_EQ(rise(&w->before, &w->now, name), rise(&w->totals_before, &w->totals_now, name));
	return rise(&w->before, &w->now, name);
}

FIXTURE(stats)
{
	int dev;
	char *addr;
	struct watch watch;
};

FIXTURE_SETUP(stats)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(NR_PAGES);
	watch_from_now_on(_metadata, &self->watch, self->dev);
}

FIXTURE_TEARDOWN(stats)
{
	unmap_region(self->addr, NR_PAGES);
	close(self->dev);
}

/* The text to compare with. */
static const char *counts(const char *format, ...)
{
	static char text[512];
	va_list args;

	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	return text;
}

TEST_F(stats, new_file_begins_at_0)
{
	struct counters zero = {};

	EXPECT_EQ(0, memcmp(&zero, &self->watch.before, sizeof(zero)));
	/* To look is not a call. */
	expect_rises(_metadata, &self->watch, "");
}

TEST_F(stats, lock)
{
	/* Three pages are locked before, and are not new. All are populated. */
	ASSERT_EQ(0, mlock_2(self->addr, 3 * page_size));
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, 8 * page_size, NULL));
	expect_rises(_metadata, &self->watch,
		     counts("lock-calls 1, locked-bytes %zu, populated-bytes %zu",
			    5 * page_size, 8 * page_size));
}

TEST_F(stats, lock_onfault)
{
	ASSERT_EQ(0, mlock_rs_flags(self->dev, self->addr, 8 * page_size, MLOCK_RS_LOCK_ONFAULT,
				    NULL));
	expect_rises(_metadata, &self->watch,
		     counts("lock-calls 1, locked-bytes %zu", 8 * page_size));
}

TEST_F(stats, unlock)
{
	ASSERT_EQ(0, mlock_2(self->addr, 3 * page_size));
	ASSERT_EQ(0, mlock_rs_unlock(self->dev, self->addr, 8 * page_size, NULL));
	expect_rises(_metadata, &self->watch,
		     counts("unlock-calls 1, unlocked-bytes %zu", 3 * page_size));
}

TEST_F(stats, vectors)
{
	struct mlock_rs_range ranges[] = {
		{ .addr = (uintptr_t)self->addr, .len = 3 * page_size },
		{ .addr = (uintptr_t)self->addr + 2 * page_size, .len = 3 * page_size },
	};

	/* One call, and each page once. */
	ASSERT_EQ(0, mlock_rs_lockv(self->dev, ranges, 2, 0, NULL));
	expect_rises(_metadata, &self->watch,
		     counts("lock-calls 1, locked-bytes %zu, populated-bytes %zu",
			    5 * page_size, 5 * page_size));
	watch_from_now_on(_metadata, &self->watch, self->dev);
	ASSERT_EQ(0, mlock_rs_unlockv(self->dev, ranges, 2, NULL));
	expect_rises(_metadata, &self->watch,
		     counts("unlock-calls 1, unlocked-bytes %zu", 5 * page_size));
}

TEST_F(stats, query)
{
	struct mlock_rs_query res;

	ASSERT_EQ(0, mlock_rs_query(self->dev, self->addr, NR_PAGES * page_size, &res));
	ASSERT_EQ(0, mlock_rs_query(self->dev, self->addr, page_size, &res));
	expect_rises(_metadata, &self->watch, "query-calls 2");
}

TEST_F(stats, calls_add_up)
{
	const __u32 flags = MLOCK_RS_LOCK_ONFAULT;
	int i;

	for (i = 0; i < 5; i++) {
		ASSERT_EQ(0, mlock_rs_flags(self->dev, self->addr, 2 * page_size, flags, NULL));
		ASSERT_EQ(0, mlock_rs_unlock(self->dev, self->addr, page_size, NULL));
	}
	/* Two pages are new the first time, and then the one that was unlocked. */
	expect_rises(_metadata, &self->watch,
		     counts("lock-calls 5, unlock-calls 5, locked-bytes %zu, unlocked-bytes %zu",
			    6 * page_size, 5 * page_size));
}

TEST_F(stats, hole)
{
	ASSERT_EQ(0, munmap(self->addr + 5 * page_size, page_size));
	ASSERT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	ASSERT_EQ(-ENOMEM, mlock_rs_unlock(self->dev, self->addr, NR_PAGES * page_size, NULL));
	expect_rises(_metadata, &self->watch, "lock-calls 1, unlock-calls 1, errors-ENOMEM 2");
}

TEST_F(stats, failure_while_populating)
{
	/* An error, but what was done was done. */
	ASSERT_EQ(0, mprotect(self->addr + 5 * page_size, page_size, PROT_NONE));
	ASSERT_EQ(-ENOMEM, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	expect_rises(_metadata, &self->watch,
		     counts("lock-calls 1, locked-bytes %zu, populated-bytes %zu, errors-ENOMEM 1",
			    NR_PAGES * page_size, 5 * page_size));
}

TEST_F(stats, no_permission)
{
	struct rlimit limit = { .rlim_cur = 0, .rlim_max = 0 };

	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(1ULL << 1 /* CAP_DAC_OVERRIDE, for debugfs */));
	ASSERT_EQ(-EPERM, mlock_rs(self->dev, self->addr, page_size, NULL));
	EXPECT_EQ(1, rose(_metadata, &self->watch, "errors-EPERM"));
	EXPECT_EQ(0, rose(_metadata, &self->watch, "locked-bytes"));
}

FIXTURE(stats_errors)
{
	int dev;
	char *addr;
	struct watch watch;
};

FIXTURE_VARIANT(stats_errors)
{
	unsigned int nr;
	/* Of the first version, and of the newest one. */
	size_t first_size, size;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(stats_errors, lock) {
	.nr = _IOC_NR(MLOCK_RS_LOCK), .first_size = MLOCK_RS_LOCK_SIZE_VER0,
	.size = sizeof(struct mlock_rs_lock) };
FIXTURE_VARIANT_ADD(stats_errors, unlock) {
	.nr = _IOC_NR(MLOCK_RS_UNLOCK), .first_size = MLOCK_RS_UNLOCK_SIZE_VER0,
	.size = sizeof(struct mlock_rs_unlock) };
FIXTURE_VARIANT_ADD(stats_errors, lockv) {
	.nr = _IOC_NR(MLOCK_RS_LOCKV), .first_size = MLOCK_RS_LOCKV_SIZE_VER0,
	.size = sizeof(struct mlock_rs_lockv) };
FIXTURE_VARIANT_ADD(stats_errors, unlockv) {
	.nr = _IOC_NR(MLOCK_RS_UNLOCKV), .first_size = MLOCK_RS_UNLOCKV_SIZE_VER0,
	.size = sizeof(struct mlock_rs_unlockv) };
FIXTURE_VARIANT_ADD(stats_errors, query) {
	.nr = _IOC_NR(MLOCK_RS_QUERY), .first_size = MLOCK_RS_QUERY_SIZE_VER0,
	.size = sizeof(struct mlock_rs_query) };
FIXTURE_VARIANT_ADD(stats_errors, abi) {
	.nr = _IOC_NR(MLOCK_RS_ABI), .first_size = MLOCK_RS_ABI_SIZE_VER0,
	.size = sizeof(struct mlock_rs_abi) };
FIXTURE_VARIANT_ADD(stats_errors, progress) {
	.nr = _IOC_NR(MLOCK_RS_PROGRESS), .first_size = MLOCK_RS_PROGRESS_SIZE_VER0,
	.size = sizeof(struct mlock_rs_progress) };
/* clang-format on */

FIXTURE_SETUP(stats_errors)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->addr = map_region(1);
	watch_from_now_on(_metadata, &self->watch, self->dev);
}

FIXTURE_TEARDOWN(stats_errors)
{
	unmap_region(self->addr, 1);
	close(self->dev);
}

static int call(int dev, unsigned int nr, size_t size, void *arg)
{
	return ioctl(dev, _IOC(_IOC_READ | _IOC_WRITE, MLOCK_RS_IOC_MAGIC, nr, size), arg) ?
	       -errno : 0;
}

/* The manual page: "Calls that failed, by errno". Without a range, they count as no call. */
TEST_F(stats_errors, structure_too_short)
{
	ASSERT_EQ(-EINVAL, call(self->dev, variant->nr, variant->first_size - 1, self->addr));
	expect_rises(_metadata, &self->watch, "errors-EINVAL 1");
}

TEST_F(stats_errors, structure_too_long)
{
	self->addr[variant->size] = 1;
	ASSERT_EQ(-E2BIG, call(self->dev, variant->nr, variant->size + 1, self->addr));
	expect_rises(_metadata, &self->watch, "errors-E2BIG 1");
}

TEST_F(stats_errors, argument_that_cannot_be_read)
{
	ASSERT_EQ(-EFAULT, call(self->dev, variant->nr, variant->size, NULL));
	expect_rises(_metadata, &self->watch, "errors-EFAULT 1");
}

TEST_F(stats_errors, result_that_cannot_be_written)
{
	/* Nothing but zeroes: an empty range, or no ranges. */
	ASSERT_EQ(0, mprotect(self->addr, page_size, PROT_READ));
	ASSERT_EQ(-EFAULT, call(self->dev, variant->nr, variant->size, self->addr));
	EXPECT_EQ(1, rose(_metadata, &self->watch, "errors-EFAULT"));
}

TEST_F(stats, unknown_flag_is_not_a_call)
{
	/* "LOCK and LOCKV that came as far as their ranges": this one did not. */
	ASSERT_EQ(-EINVAL, mlock_rs_flags(self->dev, self->addr, page_size, 1U << 31, NULL));
	expect_rises(_metadata, &self->watch, "errors-EINVAL 1");
}

TEST_F(stats, unknown_ioctl)
{
	ASSERT_EQ(-ENOTTY, call(self->dev, 255, MLOCK_RS_LOCK_SIZE_VER0, self->addr));
	expect_rises(_metadata, &self->watch, "errors-other 1");
}

TEST_F(stats, each_file_counts_for_itself)
{
	struct watch *w = &self->watch;
	const struct counters none = {};
	struct counters other;
	char path[64], text[128];
	int fd = mlock_rs_open();

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, page_size, NULL));
	ASSERT_EQ(0, mlock_rs(fd, self->addr, 3 * page_size, NULL));
	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", fd);
	ASSERT_TRUE(read_counters(path, &other));
	close(fd);
	look(_metadata, w);
	/* All of a new file's counters begin at 0; the lock flag counts once for each page. */
	snprintf(text, sizeof(text), "lock-calls 1, locked-bytes %zu, populated-bytes %zu",
		 2 * page_size, 3 * page_size);
	EXPECT_STREQ(text, rises(&none, &other));
	snprintf(text, sizeof(text), "lock-calls 1, locked-bytes %zu, populated-bytes %zu",
		 page_size, page_size);
	EXPECT_STREQ(text, rises(&w->before, &w->now));
	/* The totals have both, also when a file is closed. */
	snprintf(text, sizeof(text), "lock-calls 2, locked-bytes %zu, populated-bytes %zu",
		 3 * page_size, 4 * page_size);
	EXPECT_STREQ(text, rises(&w->totals_before, &w->totals_now));
}

TEST_F(stats, duplicate_and_inherited_file_descriptors_are_one_file)
{
	int fd = dup(self->dev), status;
	pid_t child;

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, mlock_rs(fd, self->addr, page_size, NULL));
	child = fork();
	ASSERT_LE(0, child);
	if (!child)
		_exit(!!mlock_rs(self->dev, self->addr, page_size, NULL));
	ASSERT_EQ(child, waitpid(child, &status, 0));
	ASSERT_EQ(0, status);
	/* The child locked its own memory. */
	expect_rises(_metadata, &self->watch,
		     counts("lock-calls 2, locked-bytes %zu, populated-bytes %zu",
			    2 * page_size, 2 * page_size));
	close(fd);
}

TEST_F(stats, time_that_the_lock_is_held)
{
	__u64 begin = now_ns(), write, read, took;

	ASSERT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	took = now_ns() - begin;
	write = rose(_metadata, &self->watch, "write-held-ns");
	read = rose(_metadata, &self->watch, "read-held-ns");
	EXPECT_LT(0, write);
	EXPECT_LT(0, read);
	/* One after the other, within the call. */
	EXPECT_LE(write + read, took);
}

TEST_F(stats, unlock_never_holds_it_for_reading)
{
	ASSERT_EQ(0, mlock_2(self->addr, NR_PAGES * page_size));
	ASSERT_EQ(0, mlock_rs_unlock(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(0, rose(_metadata, &self->watch, "read-held-ns"));
}

TEST_HARNESS_MAIN
