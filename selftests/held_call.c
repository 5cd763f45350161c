// SPDX-License-Identifier: GPL-2.0
/*
 * A process in which one thread calls LOCK or mlock(2) and waits for a page of a file that does not
 * come until the test says so, while other threads of it, and another process, do one thing each.
 */
#define _GNU_SOURCE
#include "held_call.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "mlock_rs_test.h"

#ifndef PR_THP_DISABLE_EXCEPT_ADVISED
#define PR_THP_DISABLE_EXCEPT_ADVISED	2
#endif

#define STACK_SIZE	(64UL << 10)

/* At the same address in all processes: it was there before they were forked. */
static struct held_call *shared;

static void stop_unless(bool ok, const char *what)
{
	if (!ok) {
		perror(what);
		abort();
	}
}

int held_lock(struct held_call *h)
{
	h->res = (struct mlock_rs_lock) {
		.addr = (uintptr_t)h->addr,
		.len = HELD_NR_PAGES * page_size,
		.flags = h->flags,
		.nr_workers = h->nr_workers,
	};
	return mlock_rs_call(h->dev, &h->res);
}

int held_mlock(struct held_call *h)
{
	return mlock_2(h->addr, HELD_NR_PAGES * page_size);
}

static void *act(void *arg)
{
	struct held_thread *t = arg;

	t->tid = gettid();
	sem_post(&t->ready);
	for (;;) {
		while (sem_wait(&t->go))
			;
		t->ret = t->run(shared);
		atomic_store(&t->returned, true);
	}
	return NULL;
}

/* What the thread does for the first time may fault, and take the mmap lock for that. */
static int warm_up(struct held_call *h)
{
	char *page = h->anon;

	if (mlock_rs(h->dev, page, page_size, NULL) || munlock(page, page_size) ||
	    mlock_2(page, page_size) || munlock(page, page_size))
		return -errno;
	return 0;
}

static void start_threads(struct held_call *h)
{
	pthread_attr_t attr;
	pthread_t thread;
	int i;

	pthread_attr_init(&attr);
	pthread_attr_setstacksize(&attr, STACK_SIZE);
	for (i = CALL; i <= THIRD; i++) {
		errno = pthread_create(&thread, &attr, act, &h->thread[i]);
		stop_unless(!errno, "pthread_create");
		while (sem_wait(&h->thread[i].ready))
			;
	}
}

static void map_memory(struct held_call *h)
{
	char *reserved = mmap(NULL, 2 * HUGE_SIZE, PROT_READ | PROT_WRITE,
			      MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	stop_unless(reserved != MAP_FAILED, "mmap");
	h->huge = (char *)(((uintptr_t)reserved + HUGE_SIZE - 1) & ~(HUGE_SIZE - 1));
	/* A small page, also for khugepaged, until MADV_COLLAPSE. Fails without huge pages. */
	prctl(PR_SET_THP_DISABLE, 1, PR_THP_DISABLE_EXCEPT_ADVISED, 0, 0);
	h->huge[0] = 1;
	h->anon = map_region(4);
	h->anon[0] = 1;
	h->fresh = map_region(4);
	h->elsewhere = map_region(1);
	h->cold = mmap(NULL, page_size, PROT_READ, MAP_SHARED, h->file, HELD_NR_PAGES * page_size);
	stop_unless(h->cold != MAP_FAILED, "mmap");
	h->addr = map_region_across(HELD_NR_PAGES);
	/* For writing: each page has a fault of its own then, and none comes in with another. */
	stop_unless(mmap(h->addr, HELD_NR_PAGES * page_size, PROT_READ | PROT_WRITE,
			 MAP_PRIVATE | MAP_FIXED, h->file, 0) == h->addr, "mmap");
}

static void look(struct held_call *h)
{
	snprintf(h->states, sizeof(h->states), "%s", states(h->addr, HELD_NR_PAGES));
	h->elsewhere_state = states(h->elsewhere, 1)[0];
	h->vmlck = vmlck();
}

static void die_with(pid_t parent)
{
	prctl(PR_SET_PDEATHSIG, SIGKILL);
	if (getppid() != parent)
		_exit(0);
}

static void do_nothing(int sig)
{
	(void)sig;
}

static void inside(struct held_call *h)
{
	/* As signal() does it: a call that can be restarted is. */
	signal(SIGUSR1, do_nothing);
	start_threads(h);
	/*
	 * Brings in all there is, code and stacks too: a fault that has to read waits for the mmap
	 * lock as well.
	 */
	stop_unless(!mlockall(MCL_CURRENT) && !munlockall(), "mlockall");
	map_memory(h);
	sem_post(&h->ready);
	for (;;) {
		while (sem_wait(&h->look))
			;
		look(h);
		sem_post(&h->looked);
	}
}

/* All pages of the file but those in @cold, and no other. */
static bool fill_cache(struct held_call *h, unsigned int cold)
{
	char byte;
	size_t i;

	if (posix_fadvise(h->file, 0, 0, POSIX_FADV_RANDOM))
		return false;
	for (i = 0; i < HELD_NR_PAGES; i++)
		if (!(cold & 1U << i) && pread(h->file, &byte, 1, i * page_size) != 1)
			return false;
	return !posix_fadvise(h->file, 0, 0, POSIX_FADV_NORMAL);
}

static bool wait_semaphore(sem_t *sem)
{
	struct timespec end;

	clock_gettime(CLOCK_REALTIME, &end);
	end.tv_sec += HANG_MS / 1000;
	while (sem_timedwait(sem, &end))
		if (errno != EINTR)
			return false;
	return true;
}

/* Every mmap lock event of the four threads from now on. */
static bool start_trace(struct held_call *h)
{
	pid_t tids[NR_HELD_THREADS];
	int i;

	for (i = 0; i < NR_HELD_THREADS; i++)
		tids[i] = h->thread[i].tid;
	if (trace_open(&h->trace, tids, NR_HELD_THREADS))
		return false;
	trace_start(&h->trace);
	return true;
}

static bool start_processes(struct held_call *h)
{
	pid_t parent = getpid(), child = fork();
	int i;

	if (!child) {
		die_with(parent);
		inside(h);
	}
	h->pid = child;
	if (child < 0 || !wait_semaphore(&h->ready))
		return false;
	child = fork();
	if (!child) {
		die_with(parent);
		act(&h->thread[OUTSIDE]);
	}
	h->outside = child;
	if (child < 0 || !wait_semaphore(&h->thread[OUTSIDE].ready))
		return false;

	for (i = CALL; i <= THIRD; i++) {
		held_go(h, i, warm_up);
		if (!held_returns(h, i) || h->thread[i].ret)
			return false;
	}
	return true;
}

struct held_call *held_start(int dev, unsigned int cold)
{
	struct fuse_options options = {
		.nr_pages = HELD_NR_PAGES + 1,
		/* A fault reads the page that it is for, and no other. */
		.max_readahead = page_size,
	};
	struct held_call *h = mmap(NULL, sizeof(*h), PROT_READ | PROT_WRITE,
				   MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	int i;

	if (h == MAP_FAILED)
		return NULL;
	shared = h;
	h->dev = dev;
	h->server = fuse_start(&options);
	if (!h->server)
		return NULL;
	sem_init(&h->ready, 1, 0);
	sem_init(&h->look, 1, 0);
	sem_init(&h->looked, 1, 0);
	for (i = 0; i < NR_HELD_THREADS; i++) {
		sem_init(&h->thread[i].ready, 1, 0);
		sem_init(&h->thread[i].go, 1, 0);
	}
	h->file = fuse_open(h->server);
	/* Where there is FUSE there has to be all the rest. */
	must(h->file >= 0 && fill_cache(h, cold) && start_processes(h) && start_trace(h),
	     "cannot start what is held back");
	return h;
}

static void end_process(pid_t pid)
{
	if (pid > 0) {
		kill(pid, SIGKILL);
		waitpid(pid, NULL, 0);
	}
}

void held_stop(struct held_call *h)
{
	/* First of all: nothing waits for a page any more. */
	fuse_stop(h->server);
	trace_close(&h->trace);
	end_process(h->pid);
	end_process(h->outside);
	close(h->file);
	munmap(h, sizeof(*h));
}

void held_go(struct held_call *h, enum held_thread_name who, int (*run)(struct held_call *h))
{
	struct held_thread *t = &h->thread[who];

	atomic_store(&t->returned, false);
	t->ret = -EINPROGRESS;
	t->run = run;
	sem_post(&t->go);
}

bool held_returned(struct held_call *h, enum held_thread_name who)
{
	struct held_thread *t = &h->thread[who];

	return atomic_load(&t->returned) || !thread_state(t->tid);
}

bool held_returns(struct held_call *h, enum held_thread_name who)
{
	unsigned long long begin = now_ns();

	while (!held_returned(h, who))
		if (give_up(begin))
			return false;
	return true;
}

bool held_sleeps_in(struct held_call *h, enum held_thread_name who, const char *function)
{
	unsigned long long begin = now_ns();

	while (!thread_sleeps_in(h->thread[who].tid, function))
		if (held_returned(h, who) || give_up(begin))
			return false;
	return true;
}

static bool waits(struct held_call *h, enum held_thread_name who, bool write)
{
	unsigned long long begin = now_ns();
	pid_t tid = h->thread[who].tid;

	while (!trace_waits(&h->trace, tid, write) || thread_state(tid) != 'D')
		if (held_returned(h, who) || give_up(begin))
			return false;
	return true;
}

bool held_waits_to_write(struct held_call *h, enum held_thread_name who)
{
	return waits(h, who, true);
}

bool held_waits_to_read(struct held_call *h, enum held_thread_name who)
{
	return waits(h, who, false);
}

bool held_back(struct held_call *h, int (*run)(struct held_call *h), size_t nr_pages, size_t page)
{
	unsigned long long begin = now_ns();

	fuse_hold(h->server, page);
	held_go(h, CALL, run);
	if (!fuse_wait_held(h->server, HANG_MS))
		return false;
	/* LOCK reads ahead before it takes the lock: the VMAs say when it has. */
	while (status_number(h->pid, "VmLck:") * 1024L != (long)(nr_pages * page_size) ||
	       !thread_sleeps(h->thread[CALL].tid))
		if (held_returned(h, CALL) || give_up(begin))
			return false;
	return true;
}

bool held_signal(struct held_call *h, enum held_thread_name who)
{
	return !syscall(SYS_tgkill, h->pid, h->thread[who].tid, SIGUSR1);
}

const char *held_states(struct held_call *h)
{
	sem_post(&h->look);
	return wait_semaphore(&h->looked) ? h->states : "no answer";
}
