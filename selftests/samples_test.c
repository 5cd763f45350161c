// SPDX-License-Identifier: GPL-2.0
/*
 * The programs in samples/ do what they say: each is run as a user would run it, and its output,
 * its exit status and what it leaves behind are looked at.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <sys/resource.h>
#include <sys/stat.h>

#include "mlock_rs_test.h"

/* What a sample printed, on both channels. */
struct output {
	char text[8192];
	int status;
};

/* Runs the sample as it was built, beside this program. */
static void run(struct output *o, const char *command)
{
	char self[PATH_MAX] = {}, line[2 * PATH_MAX];
	size_t len;
	FILE *f;

	must(readlink("/proc/self/exe", self, sizeof(self) - 1) > 0, "/proc/self/exe");
	snprintf(line, sizeof(line), "%s/samples/%s 2>&1", dirname(self), command);
	f = popen(line, "r");
	must(f, "a shell");
	len = fread(o->text, 1, sizeof(o->text) - 1, f);
	o->text[len] = 0;
	o->status = pclose(f);
}

FIXTURE(sample)
{
	struct output o;
};

FIXTURE_SETUP(sample)
{
}

FIXTURE_TEARDOWN(sample)
{
}

TEST_F(sample, lock_buffer)
{
	run(&self->o, "lock_buffer");
	EXPECT_STREQ("of 1048576 bytes 0 are locked and 0 in memory\n"
		     "of 1048576 bytes 1048576 are locked and 1048576 in memory\n"
		     "of 1048576 bytes 0 are locked and 1048576 in memory\n", self->o.text);
	EXPECT_EQ(0, self->o.status);
}

TEST_F(sample, lock_buffer_that_is_too_large)
{
	struct rlimit limit = { .rlim_cur = 64 << 10, .rlim_max = 64 << 10 };

	/* The udev rule does this. */
	ASSERT_EQ(0, chmod(MLOCK_RS_DEVICE, 0666));
	ASSERT_EQ(0, setrlimit(RLIMIT_MEMLOCK, &limit));
	ASSERT_EQ(0, drop_privileges(0));
	run(&self->o, "lock_buffer");
	/* What goes to a pipe is written when the program ends. */
	EXPECT_STREQ("lock_buffer: lock: Cannot allocate memory\n"
		     "of 1048576 bytes 0 are locked and 0 in memory\n", self->o.text);
	EXPECT_EQ(1, WEXITSTATUS(self->o.status));
}

TEST_F(sample, lock_secret)
{
	run(&self->o, "lock_secret");
	EXPECT_STREQ("a key of 32 bytes, in use, locked and in memory\nzeroed and gone\n",
		     self->o.text);
	EXPECT_EQ(0, self->o.status);
}

TEST_F(sample, lock_ranges)
{
	run(&self->o, "lock_ranges");
	EXPECT_STREQ("with a hole 252 KiB into buffer 2: Cannot allocate memory\n"
		     "buffer 1: 64 KiB mapped, 0 KiB locked\n"
		     "buffer 2: 252 KiB mapped, 0 KiB locked\n"
		     "buffer 3: 128 KiB mapped, 0 KiB locked\n"
		     "without: 444 KiB locked at once\n"
		     "buffer 1: 64 KiB mapped, 64 KiB locked\n"
		     "buffer 2: 252 KiB mapped, 252 KiB locked\n"
		     "buffer 3: 128 KiB mapped, 128 KiB locked\n", self->o.text);
	EXPECT_EQ(0, self->o.status);
}

TEST_F_TIMEOUT(sample, lock_file, SLOW_SECONDS)
{
	const char *dir = getenv("TEST_DISK") ?: "/tmp";
	const size_t nr_pages = (9 << 20) / page_size;
	char path[PATH_MAX], command[PATH_MAX + 16];
	int percent, found, fd, n = 0;
	size_t done, of;
	char *line;
	double rate;

	snprintf(path, sizeof(path), "%s/sample", dir);
	fd = open(path, O_RDWR | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
	ASSERT_LE(0, fd);
	ASSERT_EQ(0, write_cold(fd, nr_pages));
	snprintf(command, sizeof(command), "lock_file %s", path);
	run(&self->o, command);
	close(fd);
	unlink(path);

	/* 4, 8 and 9 of 9 MiB. */
	for (line = strtok(self->o.text, "\n"); line; line = strtok(NULL, "\n"), n++) {
		found = sscanf(line, "%d %% %zu of %zu MiB, %lf MiB/s", &percent, &done, &of,
			       &rate);
		ASSERT_EQ(4, found)
			TH_LOG("%s", line);
		EXPECT_EQ(9, of);
		EXPECT_EQ(n < 2 ? 4 * (n + 1) : 9, done);
		EXPECT_LT(0, rate);
	}
	EXPECT_EQ(3, n);
	EXPECT_EQ(100, percent);
	EXPECT_EQ(0, self->o.status);
}

TEST_F(sample, lock_file_that_is_not_there)
{
	run(&self->o, "lock_file /no/such/file");
	EXPECT_STREQ("lock_file: /no/such/file: No such file or directory\n", self->o.text);
	EXPECT_EQ(1, WEXITSTATUS(self->o.status));
}

TEST_F(sample, fault_latency)
{
	long faults[2] = { -1, -1 }, us[2] = { -1, -1 };
	int found;

	run(&self->o, "fault_latency");
	found = sscanf(self->o.text,
		       "not locked %ld page faults in 1000 rounds, worst access %ld us\n"
		       "locked %ld page faults in 1000 rounds, worst access %ld us\n",
		       &faults[0], &us[0], &faults[1], &us[1]);
	EXPECT_EQ(4, found)
		TH_LOG("%s", self->o.text);
	/* How long one takes is for people to see, not for a test: the machine may be busy. */
	EXPECT_LE(1000, faults[0]);
	EXPECT_EQ(0, faults[1]);
	EXPECT_EQ(0, self->o.status);
}

TEST_F_TIMEOUT(sample, replaced_page, 300)
{
	const int calls = is_debug_kernel() ? 8 : 64;
	int by_mlock = -1, by_device = -1, found, of[2] = {};
	char command[32];

	snprintf(command, sizeof(command), "replaced_page %d", calls);
	run(&self->o, command);
	found = sscanf(self->o.text,
		       "mlock(2): %d of %d calls returned 0 with a page that is not locked\n"
		       "mlock_rs: %d of %d calls returned 0 with a page that is not locked\n",
		       &by_mlock, &of[0], &by_device, &of[1]);
	EXPECT_EQ(4, found)
		TH_LOG("%s", self->o.text);
	EXPECT_EQ(calls, of[0]);
	EXPECT_EQ(calls, of[1]);
	EXPECT_EQ(0, by_device);
	EXPECT_EQ(0, self->o.status);
	TH_LOG("mlock(2) was wrong in %d of %d calls", by_mlock, calls);
}

/* The one of `make demo`; shorter. */
TEST_F_TIMEOUT(sample, demo, 120)
{
	static const char row[] = "{\"method\": \"mlock_rs\", ";
	static const char good[] = "\"calls\": 2, \"failed\": 0, \"wrong_success\": 0, ";
	const char *found;

	run(&self->o, "../demo --json --calls 2 --anon 8 --vmas 16");
	found = strstr(self->o.text, row);
	EXPECT_TRUE(found && strstr(found, good))
		TH_LOG("%s", self->o.text);
	EXPECT_EQ(0, self->o.status);
}

TEST_HARNESS_MAIN
