/* SPDX-License-Identifier: GPL-2.0 */
/*
 * One thread locks a range while another one replaces a page of it, once, at a chosen moment; and
 * the judgement whether the locking call has returned success although it should not have.
 */
#ifndef MLOCK_RS_RACE_H
#define MLOCK_RS_RACE_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

/* A thread that replaces pages. */
struct racer;

/* Returns NULL with errno if there can be no such thread. */
struct racer *racer_start(void);
pid_t racer_tid(const struct racer *r);
void racer_stop(struct racer *r);

struct race {
	/* [in] /dev/mlock_rs, or -1 for mlock(2); and what LOCK is asked for beside the range */
	int dev;
	__u32 flags, nr_workers, slice_us;
	/* [in] Or another way to lock the range, which returns 0 or -errno; else NULL. */
	int (*lock)(const struct race *race);
	/* [in] The range. Nobody else may touch it. */
	char *addr;
	size_t nr_pages;
	/* [in] The page that is replaced; not the last one. NO_VICTIM for none. */
	size_t victim;
	/* [in] Not 0: LOCKV of what lies before and behind this page, which is not the victim. */
	size_t left_out;
	/* [in] When: nanoseconds after the call began. */
	__u64 delay_ns;

	/* [out] What the call returned (0 or -errno), where it failed, and how long it took. */
	int ret;
	__u64 fail_addr;
	__u64 ns;
	/* [out] After the replacement a page of the range was not yet resident. */
	bool before_end;
};

#define NO_VICTIM	SIZE_MAX

/* Returns when both threads are done. */
void race_run(struct racer *r, struct race *race);

/*
 * Afterwards, with the memory as the race has left it: success although the page was replaced,
 * unlocked, during the call. Never wrong about a call that kept the promise; may miss one that did
 * not.
 */
bool race_wrong_success(struct racer *r, const struct race *race);

/* Afterwards: whether the page that was replaced is locked. */
bool race_victim_is_locked(const struct race *race);

/*
 * How long it takes to mark the VMAs of a range, without populating it: the first part of a call,
 * and a very small one. The memory must not be locked.
 */
__u64 marking_ns(const char *addr, size_t nr_pages);

/*
 * A random moment of a call that takes @ns, of which it marks VMAs for @marking_ns: three times out
 * of four in that part, as it would hardly ever be met otherwise.
 */
__u64 random_moment(__u64 *state, __u64 marking_ns, __u64 ns);

/* Anonymous memory in @nr_vmas VMAs that do not merge. NULL if there is none. */
char *map_stripes(size_t nr_pages, size_t nr_vmas);

#endif /* MLOCK_RS_RACE_H */
