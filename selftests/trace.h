/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The mmap_lock trace events of some threads, in the order in which the kernel took and gave up the
 * locks: what really happened, as opposed to what a program can see from outside.
 */
#ifndef MLOCK_RS_TRACE_H
#define MLOCK_RS_TRACE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct trace {
	char dir[96];
	int marker;
	/* What it was before, or a negative errno where there is none. */
	long numa_balancing;
	size_t nr;
	struct lock_event {
		pid_t tid;
		enum {
			LOCK_START,
			LOCK_ACQUIRED,
			LOCK_FAILED,
			LOCK_RELEASED,
		} what;
		bool write;
		/* When, by the clock of the trace. */
		__u64 ns;
	} event[8192];
};

/* The program's own trace instance, for the threads @tids. Returns 0 or -errno. */
int trace_open(struct trace *t, const pid_t *tids, size_t nr_tids);
/* For one thread and all that help a call. */
int trace_open_with_helpers(struct trace *t, pid_t tid);
/*
 * Another clock, say "mono", before trace_start(). The one that it begins with tells the order of
 * events and no times.
 */
int trace_use_clock(struct trace *t, const char *clock);
void trace_close(struct trace *t);

/*
 * What lies between these two calls is in @t->event afterwards. trace_stop() returns 0, or
 * -EOVERFLOW if an event was lost.
 */
void trace_start(struct trace *t);
int trace_stop(struct trace *t);

/*
 * One ioctl, and nothing else, between the two. @arg and the code have to be resident, or their
 * faults are traced, too: make the call once without looking at the result. Returns what
 * trace_stop() does; @ret gets 0 or -errno.
 */
int trace_ioctl(struct trace *t, int fd, unsigned long cmd, void *arg, int *ret);

/*
 * What lock_sequence() and full_sequence() say.
 *
 * A downgrade shows as an acquisition for reading that nothing was started for.
 */
#define TRACE_STRICT	"start-write acquired-write acquired-read released-read"
/* What a call does that unlocks, or fails before it downgrades. */
#define TRACE_LOOKED	"start-write acquired-write released-write"
/* A query. */
#define TRACE_READ	"start-read acquired-read released-read"
/* mlock(2). */
#define TRACE_GAVE_UP	TRACE_LOOKED " " TRACE_READ

/*
 * While the trace goes on: whether the last that the thread did with an mmap lock is to begin to
 * wait for it, for writing or for reading.
 */
bool trace_waits(struct trace *t, pid_t tid, bool write);

/*
 * The events of one thread in words, from the first one that has to do with a write lock on, say
 * "start-write acquired-write released-write". Good until the next call.
 */
const char *lock_sequence(const struct trace *t, pid_t tid);

/* All events of the thread, including reads before the first write. */
const char *full_sequence(const struct trace *t, pid_t tid);

/*
 * Whether another thread had the lock for writing after @tid acquired it for writing for the first
 * time and before @tid released it for the last time.
 */
bool other_writer_inside(const struct trace *t, pid_t tid);

/*
 * Whether @writer had the lock for writing after @tid first acquired it for writing and before @tid
 * released it.
 */
bool writer_before_release(const struct trace *t, pid_t writer, pid_t tid);

/*
 * The events of all other threads than @tid in words; only those before @tid released the lock for
 * the last time, or all. Good until the next call.
 */
const char *others_sequence(const struct trace *t, pid_t tid, bool before_release);

#endif /* MLOCK_RS_TRACE_H */
