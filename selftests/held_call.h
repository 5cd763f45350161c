/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A process in which one thread calls LOCK or mlock(2) and waits for a page of a file that does not
 * come until the test says so, while other threads of it, and another process, do one thing each.
 *
 * The test itself is outside: whatever waits for the mmap lock of that process, the test does not.
 */
#ifndef MLOCK_RS_HELD_CALL_H
#define MLOCK_RS_HELD_CALL_H

#include <linux/mlock_rs.h>
#include <semaphore.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#include "fuse_server.h"
#include "thread_state.h"
#include "trace.h"

#define HELD_NR_PAGES	8UL
/* A page that has come while a later one is held back. */
#define HELD_READY_PAGE	2UL
/* For a test: it starts three processes, which takes long on a kernel with checkers. */
#define HELD_TEST_SECONDS	120

/* CALL, OTHER and THIRD belong to the process; OUTSIDE is a process of its own. */
enum held_thread_name { CALL, OTHER, THIRD, OUTSIDE, NR_HELD_THREADS };

struct held_call;

struct held_thread {
	pid_t tid;
	sem_t ready, go;
	int (*run)(struct held_call *h);
	int ret;
	atomic_bool returned;
};

/* Shared by the test and all of its processes. */
struct held_call {
	int dev, file;
	struct fuse_server *server;
	pid_t pid, outside;

	/* HELD_NR_PAGES of the file, private and writable. */
	char *addr;
	/* Anonymous memory of the process: 4 pages of which the first is there. */
	char *anon;
	/* 4 pages that nobody has touched. */
	char *fresh;
	/* A page of the file that nobody has read, behind those of @addr. */
	char *cold;
	/* A page, for what is moved away. */
	char *elsewhere;
	/* HUGE_SIZE, of which a page is there. */
	char *huge;

	/* What LOCK is asked for beside the range, and what it wrote back. */
	__u32 flags, nr_workers;
	struct mlock_rs_lock res;
	/* What a thread of the process has got from PROGRESS. */
	struct mlock_rs_progress progress;
	/* The page that other threads take away, see held_ops.h. */
	size_t victim;
	struct held_thread thread[NR_HELD_THREADS];
	/* The mmap lock events of all of them, since they were started. */
	struct trace trace;

	sem_t ready, look, looked;
	char states[HELD_NR_PAGES + 1];
	char elsewhere_state;
	size_t vmlck;
};

/*
 * Starts all of it. Of the file all pages are in the page cache but those in @cold, a bit mask.
 * Returns NULL with errno if there is no FUSE.
 */
struct held_call *held_start(int dev, unsigned int cold);
/* Lets everything go and ends it. */
void held_stop(struct held_call *h);

/* For CALL: all of the file, by LOCK and by mlock(2). */
int held_lock(struct held_call *h);
int held_mlock(struct held_call *h);

/* Has the thread do it, which returns 0 or -errno. */
void held_go(struct held_call *h, enum held_thread_name who, int (*run)(struct held_call *h));

/*
 * Has CALL do it, and waits until it has marked @nr_pages and waits for @page. Returns false if it
 * does not get there.
 */
bool held_back(struct held_call *h, int (*run)(struct held_call *h), size_t nr_pages, size_t page);

/* Waits until the thread has returned, or has exited. Returns false if it hangs. */
bool held_returns(struct held_call *h, enum held_thread_name who);
bool held_returned(struct held_call *h, enum held_thread_name who);

/*
 * Waits until the thread sleeps in a function of the kernel (but for those of the scheduler and of
 * locks, which the kernel does not show). Returns false if it returns instead, or hangs.
 */
bool held_sleeps_in(struct held_call *h, enum held_thread_name who, const char *function);
/* The same for the mmap lock: the last that the thread did is to start to wait, and it sleeps. */
bool held_waits_to_write(struct held_call *h, enum held_thread_name who);
bool held_waits_to_read(struct held_call *h, enum held_thread_name who);

/* Has the thread get SIGUSR1, which interrupts system calls and does nothing else. */
bool held_signal(struct held_call *h, enum held_thread_name who);

/* Looks at the process from inside: its states, its VmLck. Returns the states of the pages. */
const char *held_states(struct held_call *h);

#endif /* MLOCK_RS_HELD_CALL_H */
