// SPDX-License-Identifier: GPL-2.0
/*
 * A world of the differential test: runs the steps of a program, one after the other, in a process
 * that has the arena at the same address as the other world. It never waits for the other one: what
 * they saw is compared afterwards.
 */
#define _GNU_SOURCE
#include "world.h"

#include "mlock_rs_test.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/capability.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <sys/wait.h>
#include <unistd.h>

#ifndef MAP_DROPPABLE
#define MAP_DROPPABLE	0x08
#endif

/* One in so many steps at which a difference is allowed gets full looks. */
#define DIFFERENCE_EVERY	8

/* Far more than a program takes: only a hang gets here. */
#define HANG_SECONDS	120

/* What an interpreter works with; one process has one. */
static struct {
	enum world_kind kind;
	int dev, memfd, zero, sink;
	struct privileges privileges;
	unsigned long hard_limit;
	pid_t child;
	struct journal *journal;
	struct entry *entry;
	const struct shot *before;
} self;

static int result(long ret)
{
	return ret < 0 ? -errno : ret;
}

static int result_ptr(const void *ptr)
{
	return ptr == MAP_FAILED ? -errno : 0;
}

static size_t bytes(unsigned int pages)
{
	return pages * page_size;
}

/* The steps that are the same in both worlds. */

static const int prots[] = {
	[PROT_IS_NONE] = PROT_NONE,
	[PROT_IS_R] = PROT_READ,
	[PROT_IS_W] = PROT_WRITE,
	[PROT_IS_RW] = PROT_READ | PROT_WRITE,
	[PROT_IS_X] = PROT_EXEC,
	[PROT_IS_RX] = PROT_READ | PROT_EXEC,
};

static int run_map(const struct step *s)
{
	static const int kinds[] = {
		[KIND_ANON] = MAP_PRIVATE | MAP_ANONYMOUS,
		[KIND_SHARED] = MAP_SHARED,
		[KIND_FILE] = MAP_PRIVATE,
		[KIND_DROPPABLE] = MAP_DROPPABLE | MAP_ANONYMOUS,
	};
	static const int hows[] = {
		[HOW_PLAIN] = 0,
		[HOW_LOCKED] = MAP_LOCKED,
		[HOW_POPULATE] = MAP_POPULATE,
	};
	int flags = kinds[s->arg[0]] | hows[s->arg[2]] | MAP_FIXED;
	bool anon = flags & MAP_ANONYMOUS;

	return result_ptr(mmap(arena_page(s->first), bytes(s->nr), prots[s->arg[1]], flags,
			       anon ? -1 : self.memfd, anon ? 0 : bytes(s->arg[3])));
}

static int run_move(const struct step *s)
{
	unsigned int to = s->arg[0];
	unsigned int nr = s->nr < ARENA_PAGES - to ? s->nr : ARENA_PAGES - to;
	int flags = MREMAP_MAYMOVE | MREMAP_FIXED;

	if (s->arg[1] == MOVE_DONTUNMAP)
		flags |= MREMAP_DONTUNMAP;
	return result_ptr(mremap(arena_page(s->first), bytes(nr), bytes(nr), flags,
				 arena_page(to)));
}

static int run_advise(const struct step *s)
{
	/* By their numbers: the C library does not know all of them. */
	static const int advices[] = {
		MADV_DONTNEED, 24 /* DONTNEED_LOCKED */, MADV_FREE, MADV_DONTFORK, MADV_DOFORK,
		MADV_WIPEONFORK, MADV_KEEPONFORK, 102 /* GUARD_INSTALL */, 103 /* GUARD_REMOVE */,
		22 /* POPULATE_READ */, 23 /* POPULATE_WRITE */, MADV_SEQUENTIAL, MADV_NORMAL,
		MADV_REMOVE,
	};

	return result(madvise(arena_page(s->first), bytes(s->nr), advices[s->arg[0]]));
}

/* One byte of each page, through a system call, which fails where an access would be a signal. */
static int one_byte_each(const struct step *s,
			 ssize_t (*transfer)(int fd, const struct iovec *iov, int nr), int fd)
{
	struct iovec iov[ARENA_PAGES];
	size_t i;

	for (i = 0; i < s->nr; i++)
		iov[i] = (struct iovec){ arena_page(s->first + i), 1 };
	return result(transfer(fd, iov, s->nr));
}

static int run_read(const struct step *s)
{
	must(!lseek(self.sink, 0, SEEK_SET), "sink");
	return one_byte_each(s, writev, self.sink);
}

static int run_write(const struct step *s)
{
	return one_byte_each(s, readv, self.zero);
}

static int run_punch(const struct step *s)
{
	return result(fallocate(self.memfd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE,
				bytes(s->first), bytes(s->nr)));
}

static int run_all(const struct step *s)
{
	switch ((enum all_how)s->arg[0]) {
	case ALL_UNLOCK:
		return result(munlockall());
	case ALL_FUTURE:
		return result(mlockall(MCL_FUTURE));
	case ALL_FUTURE_ONFAULT:
		return result(mlockall(MCL_FUTURE | MCL_ONFAULT));
	}
	abort();
}

static int set_limit(unsigned long limit)
{
	struct rlimit rlimit = { .rlim_cur = limit, .rlim_max = self.hard_limit };

	self.privileges.limit = limit;
	return result(setrlimit(RLIMIT_MEMLOCK, &rlimit));
}

static int run_limit(const struct step *s)
{
	return set_limit(bytes(s->arg[0]) + (s->arg[1] == LIMIT_AND_A_BIT ? 100 : 0));
}

static int set_capable(bool on)
{
	struct __user_cap_header_struct header = { .version = _LINUX_CAPABILITY_VERSION_3 };
	struct __user_cap_data_struct caps[2] = {};

	caps[0].permitted = 1U << CAP_IPC_LOCK;
	caps[0].effective = on ? 1U << CAP_IPC_LOCK : 0;
	self.privileges.capable = on;
	return result(syscall(SYS_capset, &header, caps));
}

static int run_reap(void)
{
	int status;

	if (!self.child)
		return 0;
	kill(self.child, SIGKILL);
	must(waitpid(self.child, &status, 0) == self.child, "waitpid");
	self.child = 0;
	return 0;
}

/* A child has what its parent has mapped, and none of it is locked. */
static bool nothing_is_locked(void)
{
	return !vmlck() && (!msync((void *)ARENA_ADDR, bytes(ARENA_PAGES), MS_INVALIDATE) ||
			    errno != EBUSY);
}

static void be_child(int says)
{
	char nothing = nothing_is_locked();

	prctl(PR_SET_PDEATHSIG, SIGKILL);
	must(write(says, &nothing, 1) == 1, "pipe");
	for (;;)
		pause();
}

/* Returns 0 if the child has nothing locked. One that stays shares its pages with the parent. */
static int run_fork(const struct step *s)
{
	char nothing = 0;
	int hears[2];

	run_reap();
	must(!pipe2(hears, O_CLOEXEC), "pipe");
	self.child = fork();
	must(self.child >= 0, "fork");
	if (!self.child)
		be_child(hears[1]);
	close(hears[1]);
	must(read(hears[0], &nothing, 1) == 1, "the child has died");
	close(hears[0]);
	if (s->arg[0] == CHILD_EXITS)
		run_reap();
	return nothing ? 0 : -EBUSY;
}

/* The steps that are not. */

static int lock_by_syscall(const struct step *s)
{
	struct lock_range r = lock_range(s);

	if (s->op == OP_UNLOCK)
		return result(munlock((void *)r.addr, r.len));
	if (s->op == OP_LOCK)
		return mlock_2((void *)r.addr, r.len);
	return mlock_onfault((void *)r.addr, r.len);
}

static int lock_by_ioctl(const struct step *s)
{
	struct ioctl_result *res = &self.entry->result;
	struct lock_range r = lock_range(s);
	int ret;

	if (s->op == OP_UNLOCK) {
		struct mlock_rs_unlock unlock;

		ret = mlock_rs_unlock(self.dev, (void *)r.addr, r.len, &unlock);
		*res = (struct ioctl_result){ unlock.unlocked, 0, unlock.fail_addr,
					      unlock.nr_vmas, unlock.error };
	} else {
		struct mlock_rs_lock lock;

		ret = mlock_rs_flags(self.dev, (void *)r.addr, r.len,
				     s->op == OP_ONFAULT ? MLOCK_RS_LOCK_ONFAULT : 0, &lock);
		*res = (struct ioctl_result){ lock.locked, lock.populated, lock.fail_addr,
					      lock.nr_vmas, lock.error };
	}
	return ret;
}

/* The mistakes. */

static bool starts_in_shared(const struct step *s)
{
	const struct arena_vma *vma = vma_of(self.before, s->first);

	return vma && vma->flags & VMA_SHARED;
}

static int lock_with_mistake(const struct step *s)
{
	struct step other = *s;
	struct rlimit less;
	int ret;

	if (self.kind == WORLD_ONFAULT_POPULATES && s->op == OP_ONFAULT)
		other.op = OP_LOCK;
	if (self.kind == WORLD_UNLOCK_MISSES_LAST_PAGE && s->op == OP_UNLOCK && s->nr > 1)
		other.nr--;
	if (self.kind == WORLD_LOCK_SKIPS_SHARED && s->op == OP_LOCK && starts_in_shared(s))
		other.op = OP_ONFAULT;
	if (self.kind != WORLD_LIMIT_OFF_BY_ONE || self.privileges.limit < page_size)
		return lock_by_syscall(&other);

	less = (struct rlimit){ self.privileges.limit - page_size, self.hard_limit };
	setrlimit(RLIMIT_MEMLOCK, &less);
	ret = lock_by_syscall(&other);
	set_limit(self.privileges.limit);
	return ret;
}

/*
 * Where a difference is allowed the ioctl has to leave everything as it was, which is for the test
 * to check. Then the world catches up by the system call itself, so that both of them go on from
 * the same state.
 */
static int run_lock(const struct step *s, struct shot *uncaught)
{
	struct expectation e;

	if (self.kind == WORLD_SYSCALLS)
		return lock_by_syscall(s);
	if (self.kind != WORLD_IOCTLS)
		return lock_with_mistake(s);

	e = expect(s, self.before, &self.privileges);
	self.entry->ioctl_ret = lock_by_ioctl(s);
	if (e.difference == NO_DIFFERENCE &&
	    !split_failed(s, self.entry, self.before, self.journal))
		return self.entry->ioctl_ret;
	look_at_arena(uncaught, self.before->look);
	return lock_by_syscall(s);
}

static int run_step(const struct step *s, struct shot *uncaught)
{
	char *addr = arena_page(s->first);

	switch ((enum op)s->op) {
	case OP_MAP:
		return run_map(s);
	case OP_UNMAP:
		return result(munmap(addr, bytes(s->nr)));
	case OP_PROTECT:
		return result(mprotect(addr, bytes(s->nr), prots[s->arg[0]]));
	case OP_MOVE:
		return run_move(s);
	case OP_RESIZE:
		return result_ptr(mremap(addr, bytes(s->nr), bytes(s->arg[0]), 0));
	case OP_ADVISE:
		return run_advise(s);
	case OP_READ:
		return run_read(s);
	case OP_WRITE:
		return run_write(s);
	case OP_TRUNCATE:
		return result(ftruncate(self.memfd, bytes(s->arg[0])));
	case OP_PUNCH:
		return run_punch(s);
	case OP_ALL:
		return run_all(s);
	case OP_LIMIT:
		return run_limit(s);
	case OP_UNLIMITED:
		return set_limit(self.hard_limit);
	case OP_CAPABLE:
		return set_capable(s->arg[0]);
	case OP_FORK:
		return run_fork(s);
	case OP_REAP:
		return run_reap();
	case OP_LOCK:
	case OP_ONFAULT:
	case OP_UNLOCK:
		return run_lock(s, uncaught);
	case NR_OPS:
		break;
	}
	abort();
}

/* The process. */

static void stay_on(int cpu)
{
	cpu_set_t set;

	CPU_ZERO(&set);
	CPU_SET(cpu % sysconf(_SC_NPROCESSORS_ONLN), &set);
	must(!sched_setaffinity(0, sizeof(set), &set), "sched_setaffinity");
}

static void prepare(const struct world *w)
{
	struct rlimit limit;

	self.kind = w->kind;
	self.journal = w->journal;
	/* The batches of the kernel are per CPU: keep them together. */
	stay_on(w->cpu);
	arena_reserve();
	look_open();
	self.dev = w->kind == WORLD_IOCTLS ? mlock_rs_open() : 0;
	self.memfd = memfd_create("arena", MFD_CLOEXEC);
	self.sink = memfd_create("sink", MFD_CLOEXEC);
	self.zero = open("/dev/zero", O_RDONLY | O_CLOEXEC);
	must(self.memfd >= 0 && self.sink >= 0 && self.zero >= 0, "files");
	must(self.dev >= 0, MLOCK_RS_DEVICE);
	must(!ftruncate(self.memfd, bytes(ARENA_PAGES)), "ftruncate");
	must(!getrlimit(RLIMIT_MEMLOCK, &limit), "getrlimit");
	self.hard_limit = limit.rlim_max;
	must(!set_limit(limit.rlim_max), "setrlimit");
	must(!drop_privileges(1ULL << CAP_IPC_LOCK), "privileges");
	must(!set_capable(false), "capset");
	w->journal->max_vmas = read_number(MAX_MAP_COUNT_PATH) - vmas_outside();
}

/* A full look is dear: not before and after each difference, unless it cannot be foretold then. */
static bool look_closer(const struct step *s, size_t i, const struct shot *before)
{
	if (may_differ(s, before))
		return i % DIFFERENCE_EVERY == 0 || depends_on_vmlck(s, &self.privileges);
	return is_lock_op(s) && i % DIFFERENCE_EVERY == 0 && is_crowded(self.journal, before);
}

/* How to look after a step: at the VMAs before and after each step that locks or unlocks. */
static enum look look_after(const struct program *p, size_t i, unsigned int full_every)
{
	bool last = i + 1 == p->nr;

	if (last || (i + 1) % full_every == 0)
		return LOOK_FULL;
	return is_lock_op(&p->step[i]) || is_lock_op(&p->step[i + 1]) ? LOOK_VMAS : LOOK_PAGES;
}

static void run(struct journal *j, const struct program *p, unsigned int full_every)
{
	struct shot *before = &j->start;
	size_t i;

	look_at_arena(before, LOOK_FULL);
	for (i = 0; i < p->nr; i++) {
		const struct step *s = &p->step[i];
		struct entry *entry = &j->entry[i];
		bool closer = look_closer(s, i, before);

		if (closer && before->look != LOOK_FULL)
			look_at_arena(before, LOOK_FULL);
		self.before = before;
		self.entry = entry;
		entry->privileges = self.privileges;
		entry->ret = run_step(s, &j->uncaught[i]);
		look_at_arena(&entry->after, closer ? LOOK_FULL : look_after(p, i, full_every));
		before = &entry->after;
		__atomic_store_n(&j->nr_done, i + 1, __ATOMIC_RELEASE);
	}
}

void world_init(struct world *w, enum world_kind kind, int cpu)
{
	w->kind = kind;
	w->cpu = cpu;
	w->journal = mmap(NULL, sizeof(*w->journal), PROT_READ | PROT_WRITE,
			  MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	must(w->journal != MAP_FAILED, "journal");
}

void world_start(struct world *w, const struct program *p, unsigned int full_every)
{
	pid_t parent = getpid(), pid;

	w->journal->nr_done = 0;
	pid = fork();
	must(pid >= 0, "fork");
	if (pid) {
		w->pid = pid;
		return;
	}
	prepare(w);
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(1);
	alarm(HANG_SECONDS);
	run(w->journal, p, full_every);
	run_reap();
	_exit(0);
}

int world_wait(struct world *w)
{
	int status;

	must(waitpid(w->pid, &status, 0) == w->pid, "waitpid");
	return status;
}

bool is_crowded(const struct journal *j, const struct shot *before)
{
	return before->nr_vmas + 2U > j->max_vmas;
}

bool split_failed(const struct step *s, const struct entry *entry, const struct shot *before,
		  const struct journal *j)
{
	const struct ioctl_result *result = &entry->result;
	struct lock_range range = lock_range(s);
	unsigned long first = (unsigned long)arena_page(range.first);

	return is_crowded(j, before) && entry->ioctl_ret == -ENOMEM && !result->nr_vmas &&
	       range.nr && hole_in(before, &range) == range.first + range.nr &&
	       (result->fail_addr == first ||
		result->fail_addr == first + range.nr * page_size);
}

const struct shot *shot_before(const struct journal *j, size_t step)
{
	return step ? &j->entry[step - 1].after : &j->start;
}
