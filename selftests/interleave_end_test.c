// SPDX-License-Identifier: GPL-2.0
/*
 * The process ends, is replaced, is stopped or is traced while LOCK or mlock(2) waits for a page:
 * what kills ends the call, what stops waits until it is over.
 *
 * Documentation/interleavings.md has the results in a table.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <dirent.h>
#include <fcntl.h>
#include <sys/ptrace.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>

#include "held_call.h"
#include "memcg.h"
#include "mlock_rs_test.h"
#include "thread_state.h"

#define HELD_PAGE	5UL
#define EXIT_STATUS	42

static int end_by_exit(struct held_call *h)
{
	(void)h;
	return syscall(SYS_exit_group, EXIT_STATUS);
}

static int end_by_sigkill(struct held_call *h)
{
	return kill(h->pid, SIGKILL) ? -errno : 0;
}

/* The new program has no locked memory. */
static int end_by_exec(struct held_call *h)
{
	(void)h;
	execl("/bin/grep", "grep", "-q", "^VmLck:[[:space:]]*0 kB$", "/proc/self/status", NULL);
	return -errno;
}

static int dump_core(struct held_call *h)
{
	(void)h;
	abort();
}

static int change(struct held_call *h)
{
	return mprotect(h->elsewhere, page_size, PROT_READ) ? -errno : 0;
}

static bool exited_as_it_wanted(int status)
{
	return WIFEXITED(status) && WEXITSTATUS(status) == EXIT_STATUS;
}

static bool killed(int status)
{
	return WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL;
}

static bool exited_with_success(int status)
{
	return WIFEXITED(status) && !WEXITSTATUS(status);
}

/* Reaps the process. Returns false if it hangs. */
static bool reap(struct held_call *h, int *status)
{
	unsigned long long begin = now_ns();
	pid_t pid;

	while (!(pid = waitpid(h->pid, status, WNOHANG)))
		if (give_up(begin))
			return false;
	if (pid != h->pid)
		return false;
	h->pid = 0;
	return true;
}

/* How many calls through the device ended with EINTR, as the device itself counts. */
static long interrupted(int dev)
{
	char path[48];

	snprintf(path, sizeof(path), "/proc/self/fdinfo/%d", dev);
	return read_field(path, "errors-EINTR:");
}

FIXTURE(end)
{
	int dev;
	struct held_call *held;
	/* Of the whole machine, before the call. */
	long mlocked_kb;
};

FIXTURE_VARIANT(end)
{
	enum held_thread_name who;
	int (*run)(struct held_call *h);
	bool (*is_right)(int status);
	/* Of LOCK. */
	__u32 flags, nr_workers;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(end, sigkill) {
	.who = OUTSIDE, .run = end_by_sigkill, .is_right = killed, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(end, exit_group) {
	.who = THIRD, .run = end_by_exit, .is_right = exited_as_it_wanted, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(end, execve) {
	.who = THIRD, .run = end_by_exec, .is_right = exited_with_success, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(end, sigkill_with_help) {
	.who = OUTSIDE, .run = end_by_sigkill, .is_right = killed, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(end, exit_group_with_help) {
	.who = THIRD, .run = end_by_exit, .is_right = exited_as_it_wanted, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(end, execve_with_help) {
	.who = THIRD, .run = end_by_exec, .is_right = exited_with_success, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(end, sigkill_yield) {
	.who = OUTSIDE, .run = end_by_sigkill, .is_right = killed, .nr_workers = 2,
	.flags = MLOCK_RS_LOCK_YIELD };
FIXTURE_VARIANT_ADD(end, exit_group_yield) {
	.who = THIRD, .run = end_by_exit, .is_right = exited_as_it_wanted, .nr_workers = 2,
	.flags = MLOCK_RS_LOCK_YIELD };
FIXTURE_VARIANT_ADD(end, execve_yield) {
	.who = THIRD, .run = end_by_exec, .is_right = exited_with_success, .nr_workers = 2,
	.flags = MLOCK_RS_LOCK_YIELD };
/* clang-format on */

static void set_up(struct __test_metadata *_metadata, int *dev, struct held_call **held,
		   __u32 flags, __u32 nr_workers)
{
	*dev = mlock_rs_open();
	ASSERT_LE(0, *dev);
	*held = held_start(*dev, 1U << HELD_PAGE);
	if (!*held)
		SKIP(return, "no FUSE: %s", strerror(errno));
	(*held)->flags = flags;
	(*held)->nr_workers = nr_workers;
}

static void tear_down(int dev, struct held_call *held)
{
	if (held)
		held_stop(held);
	close(dev);
}

FIXTURE_SETUP(end)
{
	set_up(_metadata, &self->dev, &self->held, variant->flags, variant->nr_workers);
	self->mlocked_kb = mlocked_kb();
}

FIXTURE_TEARDOWN(end)
{
	tear_down(self->dev, self->held);
}

TEST_F_TIMEOUT(end, while_lock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	int status;

	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, variant->who, variant->run);
	/* The page has not come. */
	ASSERT_TRUE(reap(h, &status));
	EXPECT_TRUE(variant->is_right(status));
	/* Nothing of it stays locked. */
	EXPECT_EQ(self->mlocked_kb, mlocked_kb());
	EXPECT_EQ(1, interrupted(self->dev));
	EXPECT_EQ(-EINPROGRESS, h->thread[CALL].ret);
}

/* An exiting thread takes the lock for reading, and nothing can end that. */
TEST_F_TIMEOUT(end, while_lock_and_a_writer_wait, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	int status;

	/* No writer waits for a call that yields. */
	if (variant->flags & MLOCK_RS_LOCK_YIELD)
		return;
	ASSERT_TRUE(held_back(h, held_lock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, OTHER, change);
	ASSERT_TRUE(held_waits_to_write(h, OTHER));
	held_go(h, variant->who, variant->run);
	ASSERT_TRUE(reap(h, &status));
	EXPECT_TRUE(variant->is_right(status));
	/* Nothing of it stays locked. */
	EXPECT_EQ(self->mlocked_kb, mlocked_kb());
	EXPECT_EQ(1, interrupted(self->dev));
	/*
	 * The threads get their signals one after the other, and LOCK may be over before the writer
	 * has got its own. Not before LOCK is over, though.
	 */
	if (h->thread[OTHER].ret)
		EXPECT_EQ(-EINPROGRESS, h->thread[OTHER].ret);
	ASSERT_EQ(0, trace_stop(&h->trace));
	EXPECT_FALSE(writer_before_release(&h->trace, h->thread[OTHER].tid, h->thread[CALL].tid));
}

TEST_F_TIMEOUT(end, while_mlock_waits, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	int status;

	/* It has no other ways to be called. */
	if (variant->flags || variant->nr_workers > 1)
		return;
	ASSERT_TRUE(held_back(h, held_mlock, HELD_NR_PAGES, HELD_PAGE));
	held_go(h, variant->who, variant->run);
	ASSERT_TRUE(reap(h, &status));
	EXPECT_TRUE(variant->is_right(status));
	/* Nothing of it stays locked. */
	EXPECT_EQ(self->mlocked_kb, mlocked_kb());
	EXPECT_EQ(-EINPROGRESS, h->thread[CALL].ret);
}

/* What happens to a call that goes on: LOCK and mlock(2) are the same in this. */
FIXTURE(stop)
{
	int dev;
	struct held_call *held;
};

FIXTURE_VARIANT(stop)
{
	int (*run)(struct held_call *h);
	long interrupted;
	__u32 flags, nr_workers;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(stop, lock) { .run = held_lock, .interrupted = 1, .nr_workers = 1 };
FIXTURE_VARIANT_ADD(stop, with_help) { .run = held_lock, .interrupted = 1, .nr_workers = 2 };
FIXTURE_VARIANT_ADD(stop, yield) {
	.run = held_lock, .interrupted = 1, .nr_workers = 2, .flags = MLOCK_RS_LOCK_YIELD };
FIXTURE_VARIANT_ADD(stop, mlock) { .run = held_mlock };
/* clang-format on */

FIXTURE_SETUP(stop)
{
	set_up(_metadata, &self->dev, &self->held, variant->flags, variant->nr_workers);
}

FIXTURE_TEARDOWN(stop)
{
	tear_down(self->dev, self->held);
}

static bool wait_state(pid_t tid, char state)
{
	unsigned long long begin = now_ns();

	while (thread_state(tid) != state)
		if (give_up(begin))
			return false;
	return true;
}

/* Ends the wait, and expects the call to have got what it wanted. */
static void expect_success(struct __test_metadata *_metadata, struct held_call *h)
{
	ASSERT_TRUE(held_returns(h, CALL));
	EXPECT_EQ(0, h->thread[CALL].ret);
	EXPECT_STREQ("LLLLLLLL", held_states(h));
	EXPECT_EQ(HELD_NR_PAGES * page_size, h->vmlck);
}

/* The other threads stop at once, the call when it is over: the process is not stopped before. */
TEST_F_TIMEOUT(stop, sigstop_and_sigcont, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	const pid_t pid = h->pid, call = h->thread[CALL].tid;
	int status;

	ASSERT_TRUE(held_back(h, variant->run, HELD_NR_PAGES, HELD_PAGE));
	ASSERT_EQ(0, kill(pid, SIGSTOP));
	ASSERT_TRUE(wait_state(pid, 'T'));
	ASSERT_TRUE(wait_state(h->thread[OTHER].tid, 'T'));
	EXPECT_NE('T', thread_state(call));
	EXPECT_EQ(0, waitpid(pid, &status, WUNTRACED | WNOHANG));

	fuse_release(h->server);
	ASSERT_EQ(pid, waitpid(pid, &status, WUNTRACED));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ('T', thread_state(call));
	EXPECT_EQ(-EINPROGRESS, h->thread[CALL].ret);
	ASSERT_EQ(0, kill(pid, SIGCONT));
	expect_success(_metadata, h);
}

/* Threads of the workqueues that are in an uninterruptible sleep. */
static unsigned int nr_stuck_kworkers(void)
{
	DIR *proc = opendir("/proc");
	struct dirent *entry;
	unsigned int nr = 0;
	char name[64], comm[32], state;

	if (!proc)
		abort();
	while ((entry = readdir(proc))) {
		FILE *stat;

		if (entry->d_name[0] < '1' || entry->d_name[0] > '9')
			continue;
		snprintf(name, sizeof(name), "/proc/%.16s/stat", entry->d_name);
		stat = fopen(name, "re");
		if (!stat)
			continue;
		if (fscanf(stat, "%*d (%31[^)]) %c", comm, &state) == 2)
			nr += state == 'D' && !strncmp(comm, "kworker", 7);
		fclose(stat);
	}
	closedir(proc);
	return nr;
}

/*
 * The thread that helps is frozen with all others, and cannot end before it goes on. Nobody waits
 * for it without a way out: the kernel would call that a hung task.
 */
TEST_F_TIMEOUT(stop, frozen_group, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	const long threads = status_number(h->pid, "Threads:");
	const long helpers = variant->nr_workers > 1;
	unsigned int looks = 0;
	struct memcg group = {};
	char pid[16], events[128];

	if (memcg_create(&group, "interleave_end_test"))
		SKIP(return, "no control groups");
	snprintf(pid, sizeof(pid), "%d", h->pid);
	ASSERT_EQ(0, memcg_set(&group, "cgroup.procs", pid));
	ASSERT_TRUE(held_back(h, variant->run, HELD_NR_PAGES, HELD_PAGE));
	ASSERT_EQ(0, memcg_set(&group, "cgroup.freeze", "1"));
	/* The call goes on, and freezes when it is over. */
	fuse_release(h->server);
	snprintf(events, sizeof(events), "%s/cgroup.events", group.dir);
	EXPECT_TRUE(comes_about(read_field(events, "frozen ") == 1));
	EXPECT_EQ(-EINPROGRESS, h->thread[CALL].ret);
	EXPECT_EQ(threads + helpers, status_number(h->pid, "Threads:"));
	/* Whatever they are busy with otherwise, it does not take so long. */
	while (nr_stuck_kworkers() && looks++ < 50)
		usleep(20000);
	EXPECT_GT(50, looks);
	ASSERT_EQ(0, memcg_set(&group, "cgroup.freeze", "0"));
	expect_success(_metadata, h);
	EXPECT_EQ(helpers, h->res.nr_helpers);
	ASSERT_TRUE(comes_about(status_number(h->pid, "Threads:") == threads));
	write_text("/sys/fs/cgroup/cgroup.procs", pid);
	memcg_destroy(&group);
}

/* A debugger can attach and look at the memory; the thread in the call stops when it is over. */
TEST_F_TIMEOUT(stop, ptrace_attach, HELD_TEST_SECONDS)
{
	struct held_call *h = self->held;
	const pid_t main = h->pid, call = h->thread[CALL].tid;
	int status;
	long word;

	ASSERT_TRUE(held_back(h, variant->run, HELD_NR_PAGES, HELD_PAGE));
	ASSERT_EQ(0, ptrace(PTRACE_ATTACH, main, NULL, NULL));
	ASSERT_EQ(main, waitpid(main, &status, __WALL));
	ASSERT_TRUE(WIFSTOPPED(status));
	errno = 0;
	word = ptrace(PTRACE_PEEKDATA, main, h->addr + HELD_READY_PAGE * page_size, NULL);
	EXPECT_EQ(0, errno);
	EXPECT_EQ(page_byte(HELD_READY_PAGE), (char)word);
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, main, NULL, NULL));

	ASSERT_EQ(0, ptrace(PTRACE_ATTACH, call, NULL, NULL));
	/* Time enough for a call that minds. */
	usleep(100000);
	ASSERT_EQ(0, waitpid(call, &status, __WALL | WNOHANG));
	EXPECT_FALSE(held_returned(h, CALL));

	fuse_release(h->server);
	ASSERT_EQ(call, waitpid(call, &status, __WALL));
	ASSERT_TRUE(WIFSTOPPED(status));
	EXPECT_EQ(-EINPROGRESS, h->thread[CALL].ret);
	ASSERT_EQ(0, ptrace(PTRACE_DETACH, call, NULL, NULL));
	expect_success(_metadata, h);
}

#define CORE_PATTERN	"/proc/sys/kernel/core_pattern"

/* Returns 0 or -errno. @old, if there is one, gets what was there. */
static int set_core_pattern(const char *new, char *old, size_t size)
{
	int fd = open(CORE_PATTERN, O_RDWR | O_CLOEXEC);
	ssize_t n;

	if (fd < 0)
		return -errno;
	if (old) {
		n = read(fd, old, size - 1);
		old[n > 0 ? n : 0] = '\0';
	}
	n = pwrite(fd, new, strlen(new), 0);
	close(fd);
	return n == (ssize_t)strlen(new) ? 0 : -EIO;
}

/*
 * The dump begins when all other threads have come to their end, so the call has. It goes on to
 * read the memory, and waits for the page like any other reader, without the mmap lock.
 */
TEST_F_TIMEOUT(stop, core_dump, HELD_TEST_SECONDS)
{
	const struct rlimit limit = { RLIM_INFINITY, RLIM_INFINITY };
	struct held_call *h = self->held;
	char dir[] = "/tmp/mlock_rs_core.XXXXXX", core[64], old[256];
	struct stat st;
	int status;
	bool ended;

	ASSERT_NE(NULL, mkdtemp(dir));
	snprintf(core, sizeof(core), "%s/core", dir);
	ASSERT_EQ(0, prlimit(h->pid, RLIMIT_CORE, &limit, NULL));
	ASSERT_TRUE(held_back(h, variant->run, HELD_NR_PAGES, HELD_PAGE));
	ASSERT_EQ(0, set_core_pattern(core, old, sizeof(old)));
	held_go(h, THIRD, dump_core);
	EXPECT_TRUE(held_sleeps_in(h, THIRD, "get_dump_page"));
	EXPECT_EQ(variant->interrupted, interrupted(self->dev));
	EXPECT_EQ(-EINPROGRESS, h->thread[CALL].ret);
	EXPECT_EQ(0, waitpid(h->pid, &status, WNOHANG));

	fuse_release(h->server);
	ended = reap(h, &status);
	EXPECT_EQ(0, set_core_pattern(old, NULL, 0));
	ASSERT_TRUE(ended);
	EXPECT_TRUE(WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT && WCOREDUMP(status));
	EXPECT_EQ(0, stat(core, &st));
	EXPECT_LT(HELD_NR_PAGES * page_size, st.st_size);
	unlink(core);
	rmdir(dir);
}

TEST_HARNESS_MAIN
