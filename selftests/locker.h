/* SPDX-License-Identifier: GPL-2.0 */
/*
 * LOCK or mlock(2) in a process of its own, with the mappings of the test.
 */
#ifndef MLOCK_RS_LOCKER_H
#define MLOCK_RS_LOCKER_H

#include <linux/mlock_rs.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

#define LOCK_CALL_PAGES	4096

/* What the process that locks and the test tell each other. */
struct lock_call {
	char *addr;
	size_t len;
	int dev;
	bool with_mlock;
	/* What LOCK is asked for beside the range. */
	__u32 flags, nr_workers;
	/* Not 0: LOCKV of what lies before and behind this page. */
	size_t left_out;
	/* What the process does before the call, or NULL. */
	void (*before)(struct lock_call *call);
	/* As long as this is set, it touches no memory after the call but what is here. */
	atomic_bool stay;
	atomic_bool begun, returned;
	int ret;
	struct mlock_rs_lock res;
	/* Looked at after the call. */
	size_t vmlck;
	char states[LOCK_CALL_PAGES + 1];
};

/* Stops the test if there is no memory for it. */
struct lock_call *lock_call_new(int dev, char *addr, size_t nr_pages);
/* Begins the call. Returns the process, or -1. */
pid_t lock_call_start(struct lock_call *call);
/* What it is to lock. */
size_t lock_call_bytes(const struct lock_call *call);

/* fork(), with a child that dies with the test. */
pid_t fork_with_test(void);

/* Both return false if it does not come about. */
/* Waits until the range is marked: from then on the process waits for the pages. */
bool wait_marked(pid_t pid, const struct lock_call *call);
/* Waits until it has marked the range and sleeps: with the lock held, for a while. */
bool wait_held_back(pid_t pid, const struct lock_call *call);

#endif /* MLOCK_RS_LOCKER_H */
