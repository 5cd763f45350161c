// SPDX-License-Identifier: GPL-2.0
/*
 * Threads that help a LOCK to populate: they are threads of the caller for as long as the call
 * takes, and what they do is done as the caller would have done it: the same memory policy, the
 * same control groups, the same limits; the lowest address that fails is the one that is told.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <linux/mempolicy.h>
#include <linux/userfaultfd.h>
#include <pthread.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "fault_injection.h"
#include "memcg.h"
#include "mlock_rs_test.h"
#include "thread_state.h"
#include "trace.h"

/* 32 MiB: worth the help of another thread. */
#define NR_PAGES	8192UL
#define LEN		(NR_PAGES * page_size)
/* More than a call makes before it begins. */
#define MOST_ALLOCATIONS	100
#define NR_HUGEPAGES	"/proc/sys/vm/nr_hugepages"

FIXTURE(workers)
{
	int dev;
	char *addr;
	struct mlock_rs_lock arg;
};

FIXTURE_SETUP(workers)
{
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	if (!mlock_rs_has(self->dev, MLOCK_RS_FEATURE_WORKERS))
		SKIP(return, "the kernel has no CONFIG_VHOST_TASK");
	self->addr = map_region(NR_PAGES);
	no_huge_pages(self->addr, LEN);
	self->arg = (struct mlock_rs_lock) {
		.addr = (uintptr_t)self->addr, .len = LEN, .nr_workers = 2,
	};
}

FIXTURE_TEARDOWN(workers)
{
	close(self->dev);
}

static void expect_all(struct __test_metadata *_metadata, const FIXTURE_DATA(workers) * self)
{
	EXPECT_EQ(0, self->arg.error);
	EXPECT_EQ(0, self->arg.fail_addr);
	EXPECT_EQ(LEN, self->arg.locked);
	EXPECT_EQ(LEN, self->arg.populated);
	EXPECT_EQ(NR_PAGES, resident_pages(self->addr, NR_PAGES));
	EXPECT_EQ(LEN, vmlck());
}

/* The threads of this process. */
static unsigned int nr_threads(void)
{
	DIR *dir = opendir("/proc/self/task");
	unsigned int nr = 0;
	struct dirent *entry;

	if (!dir)
		abort();
	while ((entry = readdir(dir)))
		nr += entry->d_name[0] != '.';
	closedir(dir);
	return nr;
}

/*
 * A helper has left the module when the call returns, and does nothing but to exit. Some of that
 * may still be to come: wait until there are @nr threads, but not for long.
 */
static unsigned int nr_threads_left(unsigned int nr)
{
	int ms;

	for (ms = 0; ms < 1000 && nr_threads() != nr; ms++)
		usleep(1000);
	return nr_threads();
}

TEST_F(workers, help_and_are_gone_afterwards)
{
	const unsigned int before = nr_threads();

	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(1, self->arg.nr_helpers);
	EXPECT_EQ(before, nr_threads_left(before));
	expect_all(_metadata, self);
}

/* The number of threads as another thread of the process sees it. */
struct counter {
	atomic_bool quit;
	atomic_uint most;
};

static void *count_threads(void *arg)
{
	struct counter *c = arg;

	while (!atomic_load(&c->quit)) {
		unsigned int nr = status_number(getpid(), "Threads:");

		if (nr > atomic_load(&c->most))
			atomic_store(&c->most, nr);
	}
	return NULL;
}

/* None of it is locked, and none resident, as before the first call. */
static void start_over(struct __test_metadata *_metadata, FIXTURE_DATA(workers) * self)
{
	ASSERT_EQ(0, munlock(self->addr, LEN));
	ASSERT_EQ(0, madvise(self->addr, LEN, MADV_DONTNEED));
}

/* Calls, more than once if fewer than @enough are seen. */
static unsigned int most_threads_meanwhile(struct __test_metadata *_metadata,
					   FIXTURE_DATA(workers) * self, unsigned int enough)
{
	struct counter counter = {};
	pthread_t thread;
	int rounds;

	ASSERT_EQ(0, pthread_create(&thread, NULL, count_threads, &counter));
	while (!atomic_load(&counter.most))
		sched_yield();
	for (rounds = 0; !rounds || (rounds < MOST_ROUNDS && atomic_load(&counter.most) < enough);
	     rounds++) {
		start_over(_metadata, self);
		EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
		/* A helper that exits is not to be counted with the next one. */
		nr_threads_left(2);
	}
	atomic_store(&counter.quit, true);
	pthread_join(thread, NULL);
	return atomic_load(&counter.most);
}

TEST_F_TIMEOUT(workers, are_threads_of_the_caller, SLOW_SECONDS)
{
	EXPECT_EQ(3, most_threads_meanwhile(_metadata, self, 3));
	expect_all(_metadata, self);
}

TEST_F(workers, one_is_the_caller_alone)
{
	self->arg.nr_workers = 1;
	EXPECT_EQ(2, most_threads_meanwhile(_metadata, self, 2));
	EXPECT_EQ(0, self->arg.nr_helpers);
	expect_all(_metadata, self);
}

TEST_F(workers, many_more_than_cpus)
{
	const unsigned int before = nr_threads();

	self->arg.nr_workers = MLOCK_RS_MAX_WORKERS;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_LT(0, self->arg.nr_helpers);
	EXPECT_GT(MLOCK_RS_MAX_WORKERS, self->arg.nr_helpers);
	EXPECT_EQ(before, nr_threads_left(before));
	expect_all(_metadata, self);
}

/* 0: up to the CPUs that the caller may run on. */
TEST_F(workers, module_chooses)
{
	cpu_set_t cpus;

	ASSERT_EQ(0, sched_getaffinity(0, sizeof(cpus), &cpus));
	self->arg.nr_workers = 0;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(CPU_COUNT(&cpus) - 1, self->arg.nr_helpers);
	EXPECT_EQ(0, self->arg.nr_workers);
	expect_all(_metadata, self);
}

TEST_F(workers, module_chooses_nobody_for_one_cpu)
{
	cpu_set_t cpus;

	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpus), &cpus));
	self->arg.nr_workers = 0;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(0, self->arg.nr_helpers);
	expect_all(_metadata, self);
}

TEST_F(workers, module_chooses_nobody_for_a_page)
{
	self->arg.nr_workers = 0;
	self->arg.len = page_size;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(0, self->arg.nr_helpers);
	EXPECT_EQ(page_size, self->arg.populated);
}

/* Looks at the one thread that is neither the caller nor itself, as long as it is there. */
struct looker {
	pthread_t thread;
	pid_t caller;
	atomic_int tid;
	atomic_bool seen, quit;
	char status[4096];
};

static bool read_status(pid_t tid, char *text, size_t size)
{
	char path[48];
	ssize_t n;
	int fd;

	snprintf(path, sizeof(path), "/proc/self/task/%d/status", tid);
	fd = open(path, O_RDONLY | O_CLOEXEC);
	if (fd < 0)
		return false;
	n = read(fd, text, size - 1);
	close(fd);
	text[n > 0 ? n : 0] = '\0';
	return n > 0;
}

static void look_at_helper(struct looker *l)
{
	DIR *dir = opendir("/proc/self/task");
	char status[sizeof(l->status)];
	struct dirent *entry;

	if (!dir)
		abort();
	while ((entry = readdir(dir))) {
		pid_t tid = atoi(entry->d_name);

		if (tid && tid != l->caller && tid != gettid() &&
		    read_status(tid, status, sizeof(status))) {
			memcpy(l->status, status, sizeof(status));
			atomic_store(&l->seen, true);
		}
	}
	closedir(dir);
}

static void *look_for_helper(void *arg)
{
	struct looker *l = arg;

	atomic_store(&l->tid, gettid());
	while (!atomic_load(&l->quit))
		look_at_helper(l);
	return NULL;
}

/* A line of a status, which begins with @label; valid until the call after the next one. */
static const char *status_line(const char *text, const char *label)
{
	static char line[2][512];
	static unsigned int next;
	char *copy = line[next++ % 2];
	const char *found = text;

	while (found && strncmp(found, label, strlen(label))) {
		found = strchr(found, '\n');
		found += !!found;
	}
	snprintf(copy, sizeof(line[0]), "%.*s", found ? (int)strcspn(found, "\n") : 0,
		 found ?: "");
	return copy;
}

/* Who they are, what they may, and where they run. */
TEST_F(workers, are_like_the_caller)
{
	static const char *const same[] = {
		"Tgid:", "Uid:", "Gid:", "Groups:", "CapPrm:", "CapEff:", "CapBnd:", "NoNewPrivs:",
		"Cpus_allowed:", "Mems_allowed:",
	};
	struct looker looker = { .caller = gettid() };
	char caller[4096];
	cpu_set_t cpus;
	size_t i;

	ASSERT_EQ(0, drop_privileges(1ULL << 14 /* CAP_IPC_LOCK */));
	ASSERT_EQ(0, pthread_create(&looker.thread, NULL, look_for_helper, &looker));
	while (!atomic_load(&looker.tid))
		sched_yield();
	/* Unlike all other threads. */
	CPU_ZERO(&cpus);
	CPU_SET(0, &cpus);
	ASSERT_EQ(0, sched_setaffinity(0, sizeof(cpus), &cpus));
	/* A helper may be through before anybody looks. */
	while (!atomic_load(&looker.seen)) {
		start_over(_metadata, self);
		ASSERT_EQ(0, mlock_rs_call(self->dev, &self->arg));
		ASSERT_EQ(1, self->arg.nr_helpers);
	}
	atomic_store(&looker.quit, true);
	pthread_join(looker.thread, NULL);

	ASSERT_TRUE(read_status(looker.caller, caller, sizeof(caller)));
	EXPECT_NE(atomic_load(&looker.tid), looker.caller);
	for (i = 0; i < ARRAY_SIZE(same); i++) {
		EXPECT_STRNE("", status_line(caller, same[i]));
		EXPECT_STREQ(status_line(caller, same[i]), status_line(looker.status, same[i]));
	}
	expect_all(_metadata, self);
}

/*
 * Behind a writer a helper would wait for the caller, which waits for it. The caller makes what
 * they need for that first of all.
 */
TEST_F(workers, leave_the_mmap_lock_alone)
{
	static const __u32 flags[] = { 0, MLOCK_RS_LOCK_YIELD };
	const unsigned int before = nr_threads();
	const pid_t caller = gettid();
	static struct trace trace;
	size_t i;

	for (i = 0; i < ARRAY_SIZE(flags); i++) {
		start_over(_metadata, self);
		self->arg.flags = flags[i];
		ASSERT_EQ(0, trace_open_with_helpers(&trace, caller));
		trace_start(&trace);
		EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
		EXPECT_EQ(before, nr_threads_left(before));
		ASSERT_EQ(0, trace_stop(&trace));
		EXPECT_EQ(1, self->arg.nr_helpers);
		EXPECT_STREQ("", others_sequence(&trace, caller, true));
		/* The proof that it would be seen: a thread that exits takes it, in exit_mm(). */
		EXPECT_STREQ(TRACE_READ, others_sequence(&trace, caller, false));
		trace_close(&trace);
		expect_all(_metadata, self);
	}
}

/* Without help it is the same call. */

TEST_F(workers, limit_of_processes)
{
	const struct rlimit limit = { 1, 1 };

	/* For a user that has no other process, and may not have more. */
	ASSERT_EQ(0, setrlimit(RLIMIT_NPROC, &limit));
	ASSERT_EQ(0, drop_privileges(1ULL << 14 /* CAP_IPC_LOCK */));
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(0, self->arg.nr_helpers);
	expect_all(_metadata, self);
}

#define PIDS	"/sys/fs/cgroup/mlock_rs_pids"

/* A call for which there may be so many threads more. Those have to be the helpers. */
static void lock_with_pids_for(struct __test_metadata *_metadata, FIXTURE_DATA(workers) * self,
			       int more)
{
	pid_t child;
	int status;

	if (write_text("/sys/fs/cgroup/cgroup.subtree_control", "+pids") ||
	    (mkdir(PIDS, 0700) && errno != EEXIST))
		SKIP(return, "no control group for pids");
	ASSERT_EQ(0, write_number(PIDS "/pids.max", 1 + more));
	self->arg.nr_workers = 4;
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (write_text(PIDS "/cgroup.procs", "0"))
			_exit(1);
		if (mlock_rs_call(self->dev, &self->arg))
			_exit(2);
		if (self->arg.nr_helpers != (__u32)more)
			_exit(3);
		_exit(self->arg.populated != LEN ||
		      resident_pages(self->addr, NR_PAGES) != NR_PAGES ? 4 : 0);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	rmdir(PIDS);
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

TEST_F(workers, control_group_with_no_more_pids)
{
	lock_with_pids_for(_metadata, self, 0);
}

/* One that cannot be had is no reason to do without the one that can. */
TEST_F(workers, control_group_with_one_more_pid)
{
	lock_with_pids_for(_metadata, self, 1);
}

/* Whoever finds it first: the lowest address is the one that counts. */
TEST_F(workers, lowest_of_several_failures)
{
	/* Where the caller begins, where a helper might, and at the end. */
	const size_t bad[] = { NR_PAGES / 4, NR_PAGES / 2 + 1, NR_PAGES - 1 };
	size_t i;
	int times;

	for (i = 0; i < ARRAY_SIZE(bad); i++)
		ASSERT_EQ(0, mprotect(self->addr + bad[i] * page_size, page_size, PROT_NONE));
	for (times = 0; times < 8; times++) {
		EXPECT_EQ(-ENOMEM, mlock_rs_call(self->dev, &self->arg));
		EXPECT_EQ((uintptr_t)self->addr + bad[0] * page_size, self->arg.fail_addr);
		EXPECT_EQ(bad[0] * page_size, self->arg.populated);
		EXPECT_EQ(ENOMEM, self->arg.error);
		/* What it says is there, is there. */
		EXPECT_EQ(bad[0], resident_pages(self->addr, bad[0]));
		start_over(_metadata, self);
	}
}

/*
 * The last page of a stretch that one thread has in hand and the first page of the next stretch, of
 * another thread, which finds its page at once: it has to wait for what the other one finds.
 */
TEST_F(workers, lower_one_of_two_neighbours)
{
	const size_t huge_pages = HUGE_SIZE / page_size;
	char *huge = (char *)(((uintptr_t)self->addr + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	size_t stretch;

	for (stretch = 2; stretch < NR_PAGES / huge_pages - 1; stretch += 2) {
		char *bad = huge + stretch * HUGE_SIZE - page_size;

		ASSERT_EQ(0, mprotect(bad, 2 * page_size, PROT_NONE));
		EXPECT_EQ(-ENOMEM, mlock_rs_call(self->dev, &self->arg));
		EXPECT_EQ((uintptr_t)bad, self->arg.fail_addr);
		EXPECT_EQ(bad - self->addr, self->arg.populated);
		EXPECT_EQ((bad - self->addr) / page_size,
			  resident_pages(self->addr, (bad - self->addr) / page_size));
		ASSERT_EQ(0, mprotect(bad, 2 * page_size, PROT_READ | PROT_WRITE));
		start_over(_metadata, self);
	}
}

TEST_F(workers, end_of_a_file)
{
	const size_t in_file = NR_PAGES - 100;
	int fd = memfd_create("workers", MFD_CLOEXEC);

	ASSERT_LE(0, fd);
	ASSERT_EQ(0, ftruncate(fd, in_file * page_size));
	ASSERT_EQ(self->addr, mmap(self->addr, LEN, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_FIXED,
				   fd, 0));
	EXPECT_EQ(-ENOMEM, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(in_file * page_size, self->arg.populated);
	EXPECT_EQ((uintptr_t)self->addr + in_file * page_size, self->arg.fail_addr);
	EXPECT_EQ(in_file, resident_pages(self->addr, in_file));
}

/* All of it in many VMAs, of which some are never populated, and a few are there already. */
TEST_F(workers, many_vmas)
{
	size_t i;

	for (i = 0; i < NR_PAGES; i += 128)
		ASSERT_EQ(0, mprotect(self->addr + i * page_size, 64 * page_size, PROT_READ));
	memset(self->addr + 64 * page_size, 1, 32 * page_size);
	ASSERT_EQ(0, mlock_2(self->addr + 1000 * page_size, 1000 * page_size));
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(LEN - 1000 * page_size, self->arg.locked);
	EXPECT_EQ(LEN, self->arg.populated);
	EXPECT_EQ(NR_PAGES, resident_pages(self->addr, NR_PAGES));
}

TEST_F(workers, private_and_writable_file)
{
	char path[] = "/tmp/mlock_rs_workers.XXXXXX";
	int fd = mkstemp(path);

	ASSERT_LE(0, fd);
	unlink(path);
	ASSERT_EQ(0, ftruncate(fd, LEN));
	ASSERT_EQ(self->addr, mmap(self->addr, LEN, PROT_READ | PROT_WRITE,
				   MAP_PRIVATE | MAP_FIXED, fd, 0));
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	expect_all(_metadata, self);
	/* Copies of its own, as after mlock(2): nobody's writes would go to the file. */
	EXPECT_EQ(LEN, smaps_bytes(self->addr, LEN, "Anonymous:"));
}

/*
 * A file on a disk, where there is one. Returns it, mapped instead of the region, with all of it in
 * the page cache.
 */
static int map_disk_file(struct __test_metadata *_metadata, FIXTURE_DATA(workers) * self)
{
	static const char data[1 << 16] = "x";
	const char *dir = getenv("TEST_DISK");
	char path[256];
	size_t done;
	int fd;

	snprintf(path, sizeof(path), "%s/mlock_rs_workers.XXXXXX", dir ? dir : "/tmp");
	fd = mkstemp(path);
	ASSERT_LE(0, fd);
	unlink(path);
	for (done = 0; done < LEN; done += sizeof(data))
		ASSERT_EQ((ssize_t)sizeof(data), write(fd, data, sizeof(data)));
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(self->addr, mmap(self->addr, LEN, PROT_READ, MAP_SHARED | MAP_FIXED, fd, 0));
	return fd;
}

TEST_F_TIMEOUT(workers, file_in_the_page_cache, SLOW_SECONDS)
{
	close(map_disk_file(_metadata, self));
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(1, self->arg.nr_helpers);
	expect_all(_metadata, self);
}

/* What has to be read is left to the caller. */
TEST_F_TIMEOUT(workers, file_of_which_half_has_to_be_read, SLOW_SECONDS)
{
	int fd = map_disk_file(_metadata, self);
	size_t piece = LEN / 16, at;

	for (at = 0; at < LEN; at += 2 * piece)
		ASSERT_EQ(0, posix_fadvise(fd, at, piece, POSIX_FADV_DONTNEED));
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	expect_all(_metadata, self);
	close(fd);
}

/* Far more than it takes in hand: helpers have to wait until the caller has caught up. */
TEST_F(workers, all_of_it_is_left_to_the_caller)
{
	struct uffdio_api api = { .api = UFFD_API };
	struct uffdio_register reg = {
		.range = { .start = (uintptr_t)self->addr, .len = LEN },
		.mode = UFFDIO_REGISTER_MODE_WP,
	};
	static struct mlock_rs_range ranges[MLOCK_RS_MAX_RANGES];
	struct mlock_rs_lockv arg = {
		.ranges = (uintptr_t)ranges,
		.nr_ranges = MLOCK_RS_MAX_RANGES,
		.flags = MLOCK_RS_LOCK_YIELD,
		.nr_workers = 2,
	};
	int uffd = syscall(SYS_userfaultfd, O_CLOEXEC | O_NONBLOCK);
	size_t i;

	/* Of such memory helpers keep their hands off, although no fault has to wait. */
	if (uffd < 0 || ioctl(uffd, UFFDIO_API, &api) || ioctl(uffd, UFFDIO_REGISTER, &reg))
		SKIP(return, "no userfaultfd");
	for (i = 0; i < MLOCK_RS_MAX_RANGES; i++)
		ranges[i] = (struct mlock_rs_range) {
			(uintptr_t)self->addr + 2 * i * page_size, page_size
		};
	EXPECT_EQ(0, ioctl(self->dev, MLOCK_RS_LOCKV, &arg));
	EXPECT_EQ(1, arg.nr_helpers);
	EXPECT_EQ(MLOCK_RS_MAX_RANGES * page_size, arg.populated);
	EXPECT_EQ(MLOCK_RS_MAX_RANGES, resident_pages(self->addr, NR_PAGES));
	EXPECT_EQ(MLOCK_RS_MAX_RANGES * page_size, vmlck());
	close(uffd);
}

/* A caller that signals may end does not wait for its helpers in one go. */
TEST_F_TIMEOUT(workers, interruptible, SLOW_SECONDS)
{
	int times;

	self->arg.flags = MLOCK_RS_LOCK_INTERRUPTIBLE;
	for (times = 0; times < 8; times++) {
		EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
		expect_all(_metadata, self);
		start_over(_metadata, self);
	}
}

/* SIGKILL in the middle of work, from another process, again and again. */
TEST_F(workers, sigkill)
{
	int times;

	for (times = 0; times < 10; times++) {
		pid_t child = fork();
		int status;

		ASSERT_LE(0, child);
		if (!child) {
			mlock_rs_call(self->dev, &self->arg);
			pause();
		}
		/* It has begun, and is not through. */
		ASSERT_TRUE(comes_about(status_number(child, "VmLck:") > 0));
		ASSERT_EQ(0, kill(child, SIGKILL));
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
	}
}

/* No memory for what it takes to have help: the caller does it alone. */
TEST_F(workers, no_memory_for_help)
{
	int ret = fault_injection_on();
	unsigned int nth, alone = 0;

	if (ret)
		SKIP(return, "no fault injection here (KERNEL=debug has it): %s", strerror(-ret));
	/* Two chunks of work, at least. */
	self->arg.len = 3 * HUGE_SIZE;
	/*
	 * Up to the first allocation of a new thread. The next one is its stack, and if that fails
	 * the kernel says so in its log.
	 */
	for (nth = 1; nth <= MOST_ALLOCATIONS && !alone; nth++) {
		fault_arm(nth, FAULT_ONE);
		ret = mlock_rs_call(self->dev, &self->arg);
		fault_disarm();
		ASSERT_EQ(0, ret);
		EXPECT_EQ(self->arg.len, self->arg.populated);
		alone += !self->arg.nr_helpers;
		ASSERT_EQ(0, munlock(self->addr, self->arg.len));
		ASSERT_EQ(0, madvise(self->addr, self->arg.len, MADV_DONTNEED));
	}
	fault_injection_off();
	EXPECT_LT(0, alone);
}

/* Memory and time are the caller's. */

static struct memcg memcg;

static long group_number(const char *file, const char *field)
{
	char path[128];

	snprintf(path, sizeof(path), "%s/%s", memcg.dir, file);
	return field ? read_field(path, field) : read_number(path);
}

static long thread_us(void)
{
	struct rusage usage;

	getrusage(RUSAGE_THREAD, &usage);
	return (usage.ru_utime.tv_sec + usage.ru_stime.tv_sec) * 1000000 +
	       usage.ru_utime.tv_usec + usage.ru_stime.tv_usec;
}

/* In the group: what it and the caller have used by the end of the call. */
static int use_the_group(struct mlock_rs_lock *arg, int dev, long *us_of_caller)
{
	long before;
	int ret;

	if (memcg_enter(&memcg))
		return -EIO;
	before = thread_us();
	ret = mlock_rs_call(dev, arg);
	*us_of_caller = thread_us() - before;
	return ret;
}

TEST_F_TIMEOUT(workers, memory_and_time_count_in_the_group_of_the_caller, SLOW_SECONDS)
{
	long memory, us = 0, us_of_caller = 0;
	int rounds;

	if (memcg_create(&memcg, "workers_test"))
		SKIP(return, "no memory control groups");
	for (rounds = 0; rounds < MOST_ROUNDS && us <= us_of_caller + us_of_caller / 4; rounds++) {
		start_over(_metadata, self);
		memory = group_number("memory.current", NULL);
		us = group_number("cpu.stat", "usage_usec");
		EXPECT_EQ(0, use_the_group(&self->arg, self->dev, &us_of_caller));
		EXPECT_EQ(1, self->arg.nr_helpers);
		memory = group_number("memory.current", NULL) - memory;
		us = group_number("cpu.stat", "usage_usec") - us;
		ASSERT_EQ(0, memcg_leave());
		/* All pages, and not only those that the caller has populated itself. */
		if (!rounds)
			EXPECT_LE((long)LEN, memory);
		TH_LOG("%ld us in the group, %ld us of it by the caller", us, us_of_caller);
	}
	/* So is the time: two threads were at work, with much to do for each. */
	EXPECT_LT(us_of_caller + us_of_caller / 4, us);
	expect_all(_metadata, self);
	munmap(self->addr, LEN);
	memcg_destroy(&memcg);
}

TEST_F(workers, control_group_at_its_limit)
{
	pid_t child;
	int status;

	if (memcg_create(&memcg, "workers_test"))
		SKIP(return, "no memory control groups");
	ASSERT_EQ(0, memcg_set(&memcg, "memory.max", "8M"));
	memcg_set(&memcg, "memory.swap.max", "0");
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (memcg_enter(&memcg))
			_exit(1);
		mlock_rs_call(self->dev, &self->arg);
		_exit(2);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	/* The OOM killer of the group, which has the helper's pages in view as well. */
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	memcg_destroy(&memcg);
}

/* The memory policy is the caller's, for all pages. */

#define NODE		1
/* All of node 1 is 128 MiB, and not all of it is free. */
#define NR_NODE_PAGES	4096UL

static bool has_node(void)
{
	return !access("/sys/devices/system/node/node1", F_OK);
}

/* How many pages of the range are on another node. */
static size_t elsewhere(char *addr, size_t nr_pages)
{
	static void *page[NR_NODE_PAGES];
	static int status[NR_NODE_PAGES];
	size_t i, nr = 0;

	for (i = 0; i < nr_pages; i++)
		page[i] = addr + i * page_size;
	if (syscall(SYS_move_pages, 0, nr_pages, page, NULL, status, 0))
		return nr_pages;
	for (i = 0; i < nr_pages; i++)
		nr += status[i] != NODE;
	return nr;
}

TEST_F(workers, memory_policy_of_the_caller)
{
	unsigned long nodes = 1UL << NODE;

	if (!has_node())
		SKIP(return, "only one node");
	ASSERT_EQ(0, syscall(SYS_set_mempolicy, MPOL_BIND, &nodes, 8 * sizeof(nodes)));
	self->arg.len = NR_NODE_PAGES * page_size;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(1, self->arg.nr_helpers);
	EXPECT_EQ(0, elsewhere(self->addr, NR_NODE_PAGES));
}

TEST_F(workers, memory_policy_of_the_range)
{
	unsigned long nodes = 1UL << NODE;

	if (!has_node())
		SKIP(return, "only one node");
	ASSERT_EQ(0, syscall(SYS_mbind, self->addr, NR_NODE_PAGES * page_size, MPOL_BIND, &nodes,
			     8 * sizeof(nodes), 0));
	self->arg.len = NR_NODE_PAGES * page_size;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(1, self->arg.nr_helpers);
	EXPECT_EQ(0, elsewhere(self->addr, NR_NODE_PAGES));
}

#define CPUSET	"/sys/fs/cgroup/mlock_rs_cpuset"

TEST_F(workers, cpuset_of_the_caller)
{
	pid_t child;
	int status;

	if (!has_node())
		SKIP(return, "only one node");
	if (write_text("/sys/fs/cgroup/cgroup.subtree_control", "+cpuset") ||
	    (mkdir(CPUSET, 0700) && errno != EEXIST) ||
	    write_text(CPUSET "/cpuset.mems", "1"))
		SKIP(return, "no control group for nodes");
	self->arg.len = NR_NODE_PAGES * page_size;
	child = fork();
	ASSERT_LE(0, child);
	if (!child) {
		if (write_text(CPUSET "/cgroup.procs", "0"))
			_exit(1);
		if (mlock_rs_call(self->dev, &self->arg))
			_exit(2);
		_exit(elsewhere(self->addr, NR_NODE_PAGES) ? 3 : self->arg.nr_helpers != 1);
	}
	ASSERT_EQ(child, waitpid(child, &status, 0));
	rmdir(CPUSET);
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, WEXITSTATUS(status));
}

/* Pages of other sizes. */

TEST_F(workers, transparent_huge_pages)
{
	char *huge = (char *)(((uintptr_t)self->addr + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	const size_t len = LEN - HUGE_SIZE;

	if (madvise(huge, len, MADV_HUGEPAGE))
		SKIP(return, "no transparent huge pages");
	self->arg.addr = (uintptr_t)huge;
	self->arg.len = len;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &self->arg));
	EXPECT_EQ(len, self->arg.populated);
	EXPECT_EQ(len / page_size, resident_pages(huge, len / page_size));
	/* Huge ones, whoever has brought them in; one may have been out of luck. */
	EXPECT_LE(len / 2, smaps_bytes(huge, len, "AnonHugePages:"));
}

FIXTURE(hugetlb)
{
	int dev;
	long nr_hugepages;
};

FIXTURE_SETUP(hugetlb)
{
	self->nr_hugepages = -1;
	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	if (!mlock_rs_has(self->dev, MLOCK_RS_FEATURE_WORKERS))
		SKIP(return, "the kernel has no CONFIG_VHOST_TASK");
	self->nr_hugepages = read_number(NR_HUGEPAGES);
}

FIXTURE_TEARDOWN_PARENT(hugetlb)
{
	if (self->nr_hugepages >= 0)
		write_number(NR_HUGEPAGES, self->nr_hugepages);
}

TEST_F(hugetlb, all_of_it_and_the_first_page_that_is_missing)
{
	const size_t nr = 8, len = nr * HUGE_SIZE;
	struct mlock_rs_lock arg = { .len = len, .nr_workers = 2 };
	char *addr;

	write_number(NR_HUGEPAGES, nr);
	if (read_number(NR_HUGEPAGES) < (long)nr)
		SKIP(return, "no hugetlb pages");
	addr = mmap(NULL, len, PROT_READ | PROT_WRITE,
		    MAP_PRIVATE | MAP_ANONYMOUS | MAP_HUGETLB | MAP_NORESERVE, -1, 0);
	ASSERT_NE(MAP_FAILED, addr);
	arg.addr = (uintptr_t)addr;
	EXPECT_EQ(0, mlock_rs_call(self->dev, &arg));
	EXPECT_EQ(len, arg.populated);
	EXPECT_EQ(0, arg.locked);
	EXPECT_EQ(len / page_size, resident_pages(addr, len / page_size));

	/* Two of them are taken away, and nobody has more. */
	ASSERT_EQ(0, madvise(addr + len - 2 * HUGE_SIZE, 2 * HUGE_SIZE, MADV_DONTNEED));
	write_number(NR_HUGEPAGES, nr - 1);
	EXPECT_EQ(-ENOMEM, mlock_rs_call(self->dev, &arg));
	EXPECT_EQ(ENOMEM, arg.error);
	EXPECT_EQ(arg.populated, arg.fail_addr - (uintptr_t)addr);
	EXPECT_LE(len - 2 * HUGE_SIZE, arg.populated);
	EXPECT_GT(len, arg.populated);
	munmap(addr, len);
}

TEST_HARNESS_MAIN
