// SPDX-License-Identifier: GPL-2.0
/*
 * A memory control group at its limit: LOCK ends as mlock(2) does, killed or with an errno, and
 * leaves nothing behind.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sys/stat.h>

#include "mlock_rs_test.h"

#define CGROUPS		"/sys/fs/cgroup"
#define CGROUP		CGROUPS "/mlock_rs_memcg_test"
#define LIMIT		"8M"
#define NR_PAGES	4096UL

static int write_text(const char *path, const char *text)
{
	int fd = open(path, O_WRONLY | O_CLOEXEC), ret = 0;

	if (fd < 0)
		return -errno;
	if (write(fd, text, strlen(text)) < 0)
		ret = -errno;
	close(fd);
	return ret;
}

/* How often the group's OOM killer has killed. */
static long oom_kills(void)
{
	FILE *events = fopen(CGROUP "/memory.events", "re");
	char line[128];
	long kills = -1;

	while (events && fgets(line, sizeof(line), events))
		sscanf(line, "oom_kill %ld", &kills);
	if (events)
		fclose(events);
	return kills;
}

/* What the process in the group tells about its call. */
struct report {
	int ret;
	size_t vmlck, resident;
	struct mlock_rs_lock res;
};

FIXTURE(memcg)
{
	int dev;
	char *addr;
	/* Of LOCK and of mlock(2). */
	struct report *report;
	int status[2];
};

FIXTURE_SETUP(memcg)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->report = mmap(NULL, 2 * sizeof(*self->report), PROT_READ | PROT_WRITE,
			    MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	ASSERT_NE(MAP_FAILED, self->report);
	self->addr = map_region(NR_PAGES);
	if (write_text(CGROUPS "/cgroup.subtree_control", "+memory") ||
	    (mkdir(CGROUP, 0700) && errno != EEXIST))
		SKIP(return, "no memory control groups");
	ASSERT_EQ(0, write_text(CGROUP "/memory.max", LIMIT));
	/* Without swap, where the kernel has it. */
	write_text(CGROUP "/memory.swap.max", "0");
}

FIXTURE_TEARDOWN(memcg)
{
	rmdir(CGROUP);
	close(self->dev);
}

/* In the group, LOCK or mlock(2) twice as much as its limit. Returns how the process ended. */
static int lock_too_much(struct __test_metadata *_metadata, FIXTURE_DATA(memcg) * self,
			 bool with_mlock, const char *oom_score_adj)
{
	struct report *report = &self->report[with_mlock];
	pid_t child = fork();
	int status;

	ASSERT_LE(0, child);
	if (!child) {
		const size_t len = NR_PAGES * page_size;

		if (write_text("/proc/self/oom_score_adj", oom_score_adj) ||
		    write_text(CGROUP "/cgroup.procs", "0"))
			_exit(1);
		if (with_mlock)
			report->ret = mlock_2(self->addr, len);
		else
			report->ret = mlock_rs(self->dev, self->addr, len, &report->res);
		report->vmlck = vmlck();
		report->resident = resident_pages(self->addr, NR_PAGES);
		_exit(0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	return status;
}

TEST_F(memcg, limit_kills)
{
	long kills;

	ASSERT_EQ(SIGKILL, WTERMSIG(lock_too_much(_metadata, self, true, "1000")));
	kills = oom_kills();
	ASSERT_LT(0, kills);
	/* The same end for both, */
	EXPECT_EQ(SIGKILL, WTERMSIG(lock_too_much(_metadata, self, false, "1000")));
	/* by the same hand, */
	EXPECT_EQ(kills + 1, oom_kills());
	/* and the same range can be locked where there is room. */
	EXPECT_EQ(0, mlock_rs(self->dev, self->addr, NR_PAGES * page_size, NULL));
	EXPECT_EQ(NR_PAGES, resident_pages(self->addr, NR_PAGES));
	EXPECT_EQ(0, munmap(self->addr, NR_PAGES * page_size));
	EXPECT_EQ(0, vmlck());
}

TEST_HARNESS_MAIN
