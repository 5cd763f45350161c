// SPDX-License-Identifier: GPL-2.0
/*
 * SIGKILL ends LOCK within 100 ms, also while a page waits for I/O that never comes; other signals
 * do not; and the wait costs next to no processor time. The pages come from a FUSE server that
 * holds one back, or from a disk that takes a minute to answer.
 */
#define _GNU_SOURCE
#include "kselftest_harness.h"

#include <fcntl.h>
#include <sched.h>
#include <stdatomic.h>
#include <sys/mount.h>
#include <sys/prctl.h>
#include <sys/stat.h>
#include <sys/swap.h>
#include <sys/syscall.h>
#include <time.h>

#include "fuse_server.h"
#include "mlock_rs_test.h"
#include "slow_disk.h"

#define NR_PAGES	128UL

/* The contract. */
#define KILL_NS		100000000ULL
/* Nothing that works takes as long as this. */
#define HANG_MS		20000
/* A read that a test waits for in vain. */
#define NEVER_MS	60000

/* What the process that locks and the test tell each other. */
struct call {
	char *addr;
	size_t len;
	int dev;
	bool with_mlock;
	atomic_bool begun, returned;
	int ret;
	struct mlock_rs_lock res;
	char states[NR_PAGES + 1];
	atomic_ullong handler_ns;
	/* For a process that shares the memory of the one that locks. */
	int go;
	int (*vm_sharer_fn)(void *arg);
	void *vm_sharer_stack, *vm_sharer_arg;
	atomic_int vm_sharer;
};

static struct call *new_call(int dev, char *addr, size_t nr_pages)
{
	struct call *call = mmap(NULL, sizeof(*call), PROT_READ | PROT_WRITE,
				 MAP_SHARED | MAP_ANONYMOUS, -1, 0);

	if (call == MAP_FAILED)
		abort();
	call->dev = dev;
	call->addr = addr;
	call->len = nr_pages * page_size;
	return call;
}

static struct call *handled_call;

static void handle(int sig)
{
	(void)sig;
	atomic_store(&handled_call->handler_ns, now_ns());
}

/* LOCK in a process of its own, with the same mappings. */
static pid_t start_lock(struct call *call)
{
	pid_t parent = getpid(), child = fork();

	if (child)
		return child;
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	handled_call = call;
	signal(SIGUSR1, handle);
	if (call->vm_sharer_fn)
		atomic_store(&call->vm_sharer,
			     clone(call->vm_sharer_fn, call->vm_sharer_stack,
				   CLONE_VM | CLONE_PARENT | SIGCHLD, call->vm_sharer_arg));
	atomic_store(&call->begun, true);
	if (call->with_mlock)
		call->ret = mlock_2(call->addr, call->len);
	else
		call->ret = mlock_rs(call->dev, call->addr, call->len, &call->res);
	snprintf(call->states, sizeof(call->states), "%s",
		 states(call->addr, call->len / page_size));
	atomic_store(&call->returned, true);
	_exit(0);
}

/* The number in the line of a file of /proc that begins with @field; -1 if there is none. */
static long read_number_of(const char *path, const char *field)
{
	FILE *file = fopen(path, "re");
	char line[128];
	long number = -1;

	if (!file)
		return -1;
	while (number < 0 && fgets(line, sizeof(line), file))
		if (!strncmp(line, field, strlen(field)))
			number = strtol(line + strlen(field), NULL, 10);
	fclose(file);
	return number;
}

static long status_number(pid_t pid, const char *field)
{
	char path[32];

	snprintf(path, sizeof(path), "/proc/%d/status", pid);
	return read_number_of(path, field);
}

static bool give_up(__u64 begin)
{
	usleep(1000);
	return now_ns() - begin > HANG_MS * 1000000ULL;
}

/* Waits until @pid has gone to sleep @times times more than now. */
static bool wait_sleeps(pid_t pid, long times)
{
	long before = status_number(pid, "voluntary_ctxt_switches:");
	__u64 begin = now_ns();

	while (status_number(pid, "voluntary_ctxt_switches:") < before + times)
		if (give_up(begin))
			return false;
	return true;
}

/* Waits until @pid has marked the range and sleeps with the lock held, again and again. */
static bool wait_held_back(pid_t pid, const struct call *call)
{
	__u64 begin = now_ns();

	while (status_number(pid, "VmLck:") * 1024L != (long)call->len)
		if (atomic_load(&call->returned) || give_up(begin))
			return false;
	return wait_sleeps(pid, 3) && !atomic_load(&call->returned);
}

/* Kills @pid, which is not reaped, and returns how long it took to be gone. */
static __u64 kill_ns(pid_t pid)
{
	int pidfd = syscall(SYS_pidfd_open, pid, 0);
	struct pollfd gone = { .fd = pidfd, .events = POLLIN };
	__u64 begin = now_ns(), end;

	if (pidfd < 0 || kill(pid, SIGKILL))
		return UINT64_MAX;
	end = poll(&gone, 1, HANG_MS) == 1 ? now_ns() : UINT64_MAX;
	close(pidfd);
	return end == UINT64_MAX ? end : end - begin;
}

/*
 * By what the checkers of the debug kernel stretch the death of a process and a look at a page,
 * under emulation. The bounds of the contract are for kernels without them, and asserted there.
 */
static __u64 slowness(void)
{
	return access("/proc/lockdep", F_OK) ? 1 : 5;
}

static void expect_killed(struct __test_metadata *_metadata, pid_t pid, const struct call *call)
{
	__u64 ns = kill_ns(pid);
	int status;

	TH_LOG("gone after %llu us", ns / 1000);
	/* The contract: the sleep ends with the signal. */
	EXPECT_GE(KILL_NS * slowness(), ns);
	if (ns == UINT64_MAX)
		return;
	EXPECT_EQ(pid, waitpid(pid, &status, 0));
	EXPECT_TRUE(WIFSIGNALED(status));
	EXPECT_EQ(SIGKILL, WTERMSIG(status));
	/* It did not come back to user space before. */
	EXPECT_FALSE(atomic_load(&call->returned));
}

static void expect_locked(struct __test_metadata *_metadata, pid_t pid, const struct call *call)
{
	size_t nr_pages = call->len / page_size;
	int status;

	ASSERT_EQ(pid, waitpid(pid, &status, 0));
	ASSERT_TRUE(WIFEXITED(status));
	EXPECT_EQ(0, call->ret);
	EXPECT_EQ(0, call->res.error);
	EXPECT_EQ(0, call->res.fail_addr);
	EXPECT_EQ(call->len, call->res.locked);
	EXPECT_EQ(call->len, call->res.populated);
	EXPECT_STREQ(all('L', nr_pages), call->states);
}

FIXTURE(fuse)
{
	int dev, file;
	struct fuse_server *server;
	char *addr;
	struct call *call;
};

FIXTURE_VARIANT(fuse)
{
	size_t held_page;
	/* MADV_RANDOM */
	bool random;
	__u32 max_readahead;
};

/* clang-format off */
FIXTURE_VARIANT_ADD(fuse, first_page) {
	.held_page = 0, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, in_the_middle) {
	.held_page = 70, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, last_page) {
	.held_page = NR_PAGES - 1, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, random_access) {
	.held_page = 70, .random = true, .max_readahead = FUSE_MUCH_READAHEAD };
FIXTURE_VARIANT_ADD(fuse, little_readahead) {
	.held_page = 70, .max_readahead = 4096 };
FIXTURE_VARIANT_ADD(fuse, no_readahead) {
	.held_page = 70, .max_readahead = 0 };
/* clang-format on */

FIXTURE_SETUP(fuse)
{
	struct fuse_options options = {
		.nr_pages = NR_PAGES,
		.max_readahead = variant->max_readahead,
	};

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	self->server = fuse_start(&options);
	if (!self->server)
		SKIP(return, "no FUSE: %s", strerror(errno));
	self->file = fuse_open(self->server);
	ASSERT_LE(0, self->file);
	self->addr = map_region(NR_PAGES);
	ASSERT_EQ(self->addr, mmap(self->addr, NR_PAGES * page_size, PROT_READ,
				   MAP_PRIVATE | MAP_FIXED, self->file, 0));
	if (variant->random)
		ASSERT_EQ(0, madvise(self->addr, NR_PAGES * page_size, MADV_RANDOM));
	self->call = new_call(self->dev, self->addr, NR_PAGES);
	fuse_hold(self->server, variant->held_page);
}

FIXTURE_TEARDOWN(fuse)
{
	if (self->server)
		fuse_stop(self->server);
}

TEST_F(fuse, sigkill)
{
	pid_t child = start_lock(self->call);

	ASSERT_LT(0, child);
	ASSERT_TRUE(fuse_wait_held(self->server, HANG_MS));
	ASSERT_TRUE(wait_held_back(child, self->call));
	expect_killed(_metadata, child, self->call);
}

TEST_F(fuse, sigkill_as_soon_as_it_waits)
{
	pid_t child = start_lock(self->call);

	/* The read-ahead may not even be over. */
	ASSERT_LT(0, child);
	ASSERT_TRUE(fuse_wait_held(self->server, HANG_MS));
	expect_killed(_metadata, child, self->call);
}

TEST_F(fuse, after_release_it_succeeds)
{
	pid_t child = start_lock(self->call);
	size_t i;

	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	fuse_release(self->server);
	expect_locked(_metadata, child, self->call);
	for (i = 0; i < NR_PAGES; i++)
		EXPECT_EQ(fuse_byte(i), self->addr[i * page_size]);
}

TEST_F(fuse, other_signals_wait)
{
	pid_t child = start_lock(self->call);
	__u64 released;

	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	ASSERT_EQ(0, kill(child, SIGUSR1));
	/* It has looked for the page again since, and could have noticed. */
	ASSERT_TRUE(wait_sleeps(child, 3));
	EXPECT_FALSE(atomic_load(&self->call->returned));
	EXPECT_EQ(0, atomic_load(&self->call->handler_ns));
	released = now_ns();
	fuse_release(self->server);
	/* As mlock(2): the call is not interrupted, and the handler runs when it is over. */
	expect_locked(_metadata, child, self->call);
	EXPECT_LE(released, atomic_load(&self->call->handler_ns));
}

TEST_F(fuse, sigkill_after_another_signal)
{
	pid_t child = start_lock(self->call);

	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	ASSERT_EQ(0, kill(child, SIGUSR1));
	ASSERT_TRUE(wait_sleeps(child, 3));
	expect_killed(_metadata, child, self->call);
}

TEST_F(fuse, the_wait_is_no_busy_wait)
{
	struct timespec second = { .tv_sec = 1 }, before, after;
	pid_t child = start_lock(self->call);
	clockid_t cpu;
	long us;

	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	ASSERT_EQ(0, clock_getcpuclockid(child, &cpu));
	ASSERT_EQ(0, clock_gettime(cpu, &before));
	/* Not to wait for something: this is the second that is measured. */
	ASSERT_EQ(0, clock_nanosleep(CLOCK_MONOTONIC, 0, &second, NULL));
	ASSERT_EQ(0, clock_gettime(cpu, &after));
	ASSERT_FALSE(atomic_load(&self->call->returned));
	us = (after.tv_sec - before.tv_sec) * 1000000 + (after.tv_nsec - before.tv_nsec) / 1000;
	TH_LOG("%ld us of processor time in a second of waiting", us);
	EXPECT_GT(50000 * slowness(), us);
	fuse_release(self->server);
	expect_locked(_metadata, child, self->call);
}

/* A process of its own that shares the memory: a signal for the one does not kill the other. */
static int lock_in_vm_sharer(void *arg)
{
	struct call *call = arg;
	char byte;

	/* Nothing but system calls: the C library's data is that of the other process. */
	syscall(SYS_prctl, PR_SET_PDEATHSIG, SIGKILL);
	syscall(SYS_read, call->go, &byte, 1);
	atomic_store(&call->begun, true);
	call->res.addr = (uintptr_t)call->addr;
	call->res.len = call->len;
	call->ret = syscall(SYS_ioctl, call->dev, MLOCK_RS_LOCK, &call->res);
	atomic_store(&call->returned, true);
	syscall(SYS_exit_group, 0);
	return 0;
}

static char process_state(pid_t pid)
{
	char path[32], text[256] = "", *comm_end;
	FILE *stat;

	snprintf(path, sizeof(path), "/proc/%d/stat", pid);
	stat = fopen(path, "re");
	if (!stat)
		return 0;
	if (!fgets(text, sizeof(text), stat))
		text[0] = '\0';
	fclose(stat);
	comm_end = strrchr(text, ')');
	return comm_end ? comm_end[2] : 0;
}

TEST_F(fuse, sigkill_while_it_waits_for_the_mmap_lock)
{
	struct call *waiter = new_call(self->dev, map_region(NR_PAGES), NR_PAGES);
	static max_align_t stack[4096];
	pid_t holder, sharer;
	__u64 begin;
	int go[2];

	ASSERT_EQ(0, pipe2(go, O_CLOEXEC));
	waiter->go = go[0];
	/* Makes the waiter, as a child of the test, and is then held back with the lock of both. */
	self->call->vm_sharer_fn = lock_in_vm_sharer;
	self->call->vm_sharer_stack = stack + ARRAY_SIZE(stack);
	self->call->vm_sharer_arg = waiter;
	holder = start_lock(self->call);
	ASSERT_LT(0, holder);
	ASSERT_TRUE(wait_held_back(holder, self->call));
	sharer = atomic_load(&self->call->vm_sharer);
	ASSERT_LT(0, sharer);

	ASSERT_EQ(1, write(go[1], "", 1));
	begin = now_ns();
	while (!atomic_load(&waiter->begun) || process_state(sharer) != 'D')
		ASSERT_FALSE(give_up(begin));
	EXPECT_FALSE(atomic_load(&waiter->returned));
	expect_killed(_metadata, sharer, waiter);

	/* The one with the lock has not noticed. */
	EXPECT_FALSE(atomic_load(&self->call->returned));
	fuse_release(self->server);
	expect_locked(_metadata, holder, self->call);
}

/*
 * A limit of the kernel, the same for both calls: a FUSE server that was mounted without
 * asynchronous reads is waited for without a way out.
 */
TEST(a_server_without_asynchronous_reads_is_not_killable)
{
	struct fuse_options options = {
		.nr_pages = NR_PAGES,
		.sync_reads = true,
		.max_readahead = FUSE_MUCH_READAHEAD,
	};
	int i, dev = mlock_rs_open();

	ASSERT_LE(0, dev);
	for (i = 0; i < 2; i++) {
		struct fuse_server *server = fuse_start(&options);
		struct call *call;
		__u64 begin;
		pid_t child;
		char *addr;
		int status;

		if (!server)
			SKIP(return, "no FUSE: %s", strerror(errno));
		addr = map_region(NR_PAGES);
		ASSERT_EQ(addr, mmap(addr, NR_PAGES * page_size, PROT_READ, MAP_PRIVATE | MAP_FIXED,
				     fuse_open(server), 0));
		call = new_call(dev, addr, NR_PAGES);
		call->with_mlock = i;
		fuse_hold(server, 0);
		child = start_lock(call);
		ASSERT_LT(0, child);
		ASSERT_TRUE(fuse_wait_held(server, HANG_MS));
		begin = now_ns();
		while (process_state(child) != 'D' && process_state(child) != 'S')
			ASSERT_FALSE(give_up(begin));
		ASSERT_EQ(0, kill(child, SIGKILL));
		/* Longer than the contract allows; LOCK keeps it everywhere else. */
		usleep(3 * KILL_NS / 1000);
		EXPECT_EQ(0, waitpid(child, &status, WNOHANG)) {
			TH_LOG("the kernel can kill it now: change the manual page");
		}
		/* The answer sets it free. */
		fuse_release(server);
		ASSERT_EQ(child, waitpid(child, &status, 0));
		EXPECT_TRUE(WIFSIGNALED(status));
		fuse_stop(server);
	}
}

FIXTURE(disk)
{
	int dev;
	struct slow_disk disk;
	char *addr;
	struct call *call;
	bool swapping, mounted;
	char mountpoint[32];
};

/* A header of mkswap(8). */
static int make_swap(int disk, size_t bytes)
{
	char header[page_size];
	__u32 info[3] = { 1, bytes / page_size - 1, 0 };

	memset(header, 0, sizeof(header));
	memcpy(header + 1024, info, sizeof(info));
	memcpy(header + page_size - 10, "SWAPSPACE2", 10);
	if (pwrite(disk, header, sizeof(header), 0) != (ssize_t)sizeof(header) || fsync(disk))
		return -errno;
	return 0;
}

#define CGROUPS		"/sys/fs/cgroup"
#define CGROUP		CGROUPS "/mlock_rs_kill_test"

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

/*
 * What this process maps from now on belongs to a group of its own, so that it can be reclaimed
 * and nothing else is: whoever else were swapped out would wait for the slow disk, too.
 */
static int enter_cgroup(void)
{
	int ret = write_text(CGROUPS "/cgroup.subtree_control", "+memory");

	if (ret)
		return ret;
	if (mkdir(CGROUP, 0700) && errno != EEXIST)
		return -errno;
	return write_text(CGROUP "/cgroup.procs", "0");
}

#define DISK_BYTES	(16UL << 20)
#define NR_DISK_PAGES	64UL

FIXTURE_SETUP(disk)
{
	int ret;

	self->dev = mlock_rs_open();
	ASSERT_LE(0, self->dev);
	ret = slow_disk_create(&self->disk, DISK_BYTES);
	if (ret)
		SKIP(return, "no slow disk: %s", strerror(-ret));
}

FIXTURE_TEARDOWN(disk)
{
	slow_disk_read_ms(&self->disk, 0);
	if (self->swapping)
		swapoff(self->disk.path);
	write_text(CGROUPS "/cgroup.procs", "0");
	rmdir(CGROUP);
	if (self->addr)
		munmap(self->addr, NR_DISK_PAGES * page_size);
	if (self->mounted)
		umount2(self->mountpoint, MNT_DETACH);
	slow_disk_destroy(&self->disk);
}

/* Pages of the range that are swapped out, as pagemap has it. */
static size_t swapped_pages(const char *addr, size_t nr_pages)
{
	int pagemap = open("/proc/self/pagemap", O_RDONLY | O_CLOEXEC);
	size_t i, swapped = 0;
	__u64 entry;

	for (i = 0; i < nr_pages; i++)
		if (pread(pagemap, &entry, 8, ((uintptr_t)addr / page_size + i) * 8) == 8)
			swapped += entry >> 62 & 1;
	close(pagemap);
	return swapped;
}

/* Anonymous memory in swap, and the swap is slow from now on. */
static void swap_out(struct __test_metadata *_metadata, FIXTURE_DATA(disk) * self)
{
	int fd = open(self->disk.path, O_RDWR | O_CLOEXEC);
	__u64 begin = now_ns();
	size_t i;

	ASSERT_LE(0, fd);
	/* Its own pages are not for the swap. */
	ASSERT_EQ(0, mlockall(MCL_CURRENT));
	ASSERT_EQ(0, enter_cgroup());
	ASSERT_EQ(0, make_swap(fd, DISK_BYTES));
	close(fd);
	ASSERT_EQ(0, swapon(self->disk.path, 0)) {
		TH_LOG("swapon: %s", strerror(errno));
	}
	self->swapping = true;
	self->addr = map_region(NR_DISK_PAGES);
	for (i = 0; i < NR_DISK_PAGES; i++)
		memset(self->addr + i * page_size, fuse_byte(i), page_size);
	while (swapped_pages(self->addr, NR_DISK_PAGES) < NR_DISK_PAGES) {
		ASSERT_EQ(0, madvise(self->addr, NR_DISK_PAGES * page_size, MADV_PAGEOUT));
		ASSERT_FALSE(give_up(begin));
	}
	/* Written pages stay cached until somebody reclaims them, and would be no wait. */
	while (read_number_of("/proc/meminfo", "SwapCached:") > 0) {
		/* EAGAIN if there is not as much: what became of it is asked above. */
		write_text(CGROUP "/memory.reclaim", "4M");
		ASSERT_FALSE(give_up(begin)) {
			TH_LOG("swap stays cached");
		}
	}
	self->call = new_call(self->dev, self->addr, NR_DISK_PAGES);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
}

TEST_F(disk, sigkill_with_a_swapped_out_page)
{
	pid_t child;

	swap_out(_metadata, self);
	child = start_lock(self->call);
	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	expect_killed(_metadata, child, self->call);
}

TEST_F(disk, swapped_out_pages_come_back)
{
	size_t i;
	pid_t child;

	swap_out(_metadata, self);
	child = start_lock(self->call);
	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	expect_locked(_metadata, child, self->call);
	for (i = 0; i < NR_DISK_PAGES; i++)
		EXPECT_EQ(fuse_byte(i), self->addr[i * page_size]);
}

/* The disk itself, as a file that is not cached. */
static void map_cold_disk(struct __test_metadata *_metadata, FIXTURE_DATA(disk) * self, int advice)
{
	int fd = open(self->disk.path, O_RDWR | O_CLOEXEC);
	char page[page_size];
	size_t i;

	ASSERT_LE(0, fd);
	for (i = 0; i < NR_DISK_PAGES; i++) {
		memset(page, fuse_byte(i), sizeof(page));
		ASSERT_EQ((ssize_t)sizeof(page), write(fd, page, sizeof(page)));
	}
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	self->addr = map_region(NR_DISK_PAGES);
	ASSERT_EQ(self->addr, mmap(self->addr, NR_DISK_PAGES * page_size, PROT_READ,
				   MAP_SHARED | MAP_FIXED, fd, 0));
	ASSERT_EQ(0, madvise(self->addr, NR_DISK_PAGES * page_size, advice));
	close(fd);
	self->call = new_call(self->dev, self->addr, NR_DISK_PAGES);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
}

TEST_F(disk, sigkill_with_a_cold_block_device)
{
	pid_t child;

	map_cold_disk(_metadata, self, MADV_NORMAL);
	child = start_lock(self->call);
	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	expect_killed(_metadata, child, self->call);
}

TEST_F(disk, sigkill_with_a_cold_block_device_read_at_random)
{
	pid_t child;

	map_cold_disk(_metadata, self, MADV_RANDOM);
	child = start_lock(self->call);
	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	expect_killed(_metadata, child, self->call);
}

TEST_F(disk, cold_block_device_comes_in)
{
	pid_t child;
	size_t i;

	map_cold_disk(_metadata, self, MADV_NORMAL);
	child = start_lock(self->call);
	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, 0));
	expect_locked(_metadata, child, self->call);
	for (i = 0; i < NR_DISK_PAGES; i++)
		EXPECT_EQ(fuse_byte(i), self->addr[i * page_size]);
}

/* A cold file on ext4. Its own description is cached, as it is for every open file. */
TEST_F(disk, sigkill_with_a_cold_file_on_ext4)
{
	char command[128], path[64], page[page_size];
	pid_t child;
	size_t i;
	int fd;

	snprintf(command, sizeof(command), "mke2fs %s >/dev/null 2>&1", self->disk.path);
	if (system(command))
		SKIP(return, "no mke2fs");
	snprintf(self->mountpoint, sizeof(self->mountpoint), "/tmp/mlock_rs_ext4.XXXXXX");
	ASSERT_NE(NULL, mkdtemp(self->mountpoint));
	ASSERT_EQ(0, mount(self->disk.path, self->mountpoint, "ext4", 0, NULL));
	self->mounted = true;
	snprintf(path, sizeof(path), "%s/file", self->mountpoint);
	fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0600);
	ASSERT_LE(0, fd);
	for (i = 0; i < NR_DISK_PAGES; i++) {
		memset(page, fuse_byte(i), sizeof(page));
		ASSERT_EQ((ssize_t)sizeof(page), write(fd, page, sizeof(page)));
	}
	ASSERT_EQ(0, fsync(fd));
	ASSERT_EQ(0, posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED));
	self->addr = map_region(NR_DISK_PAGES);
	ASSERT_EQ(self->addr, mmap(self->addr, NR_DISK_PAGES * page_size, PROT_READ,
				   MAP_SHARED | MAP_FIXED, fd, 0));
	close(fd);
	self->call = new_call(self->dev, self->addr, NR_DISK_PAGES);
	ASSERT_EQ(0, slow_disk_read_ms(&self->disk, NEVER_MS));
	child = start_lock(self->call);
	ASSERT_LT(0, child);
	ASSERT_TRUE(wait_held_back(child, self->call));
	expect_killed(_metadata, child, self->call);
}

TEST_HARNESS_MAIN
