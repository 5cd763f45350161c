/* SPDX-License-Identifier: GPL-2.0 */
/*
 * A world of the differential test: a process that runs a program in the arena, and writes down
 * after each step what it returned and what the arena looks like. Two worlds that run the same
 * program differ in how they lock.
 */
#ifndef MLOCK_RS_WORLD_H
#define MLOCK_RS_WORLD_H

#include "allowed.h"
#include "arena.h"
#include "program.h"

#include <sys/types.h>

enum world_kind {
	/* mlock(2), mlock2(2), munlock(2); and the ioctls. */
	WORLD_SYSCALLS,
	WORLD_IOCTLS,
	/* The system calls with a mistake, to see that the test finds it. */
	WORLD_ONFAULT_POPULATES,
	WORLD_UNLOCK_MISSES_LAST_PAGE,
	WORLD_LOCK_SKIPS_SHARED,
	WORLD_LIMIT_OFF_BY_ONE,
};

/* What an ioctl wrote back; the fields that it has. */
struct ioctl_result {
	__u64 changed, populated, fail_addr;
	__u32 nr_vmas, error;
};

struct entry {
	/* Before the step. */
	struct privileges privileges;
	/* 0 or more, or -errno. After an allowed difference: of the system call that catches up. */
	int ret;
	struct shot after;
	/* Of the ioctl itself. */
	int ioctl_ret;
	struct ioctl_result result;
};

/* What a world writes down, in memory that is shared with the test. */
struct journal {
	/* Steps that are over; and for a world that ended early, what it was in the middle of. */
	size_t nr_done;
	/* Most VMAs that there can be in the arena. */
	unsigned int max_vmas;
	struct shot start;
	struct entry entry[MAX_STEPS];
	/* After an ioctl with an expected difference, before the world caught up. */
	struct shot uncaught[MAX_STEPS];
};

struct world {
	enum world_kind kind;
	int cpu;
	pid_t pid;
	struct journal *journal;
};

/* A world without a process. Stops if there is no memory. */
void world_init(struct world *w, enum world_kind kind, int cpu);

/* Runs a program in a process of its own. Every @full_every-th look is a full one. */
void world_start(struct world *w, const struct program *p, unsigned int full_every);

/* Waits for its end. Returns what waitpid() says; 0 if it ran to its end. */
int world_wait(struct world *w);

/* Whether a range of several VMAs may be too much to split at both of its ends. */
bool is_crowded(const struct journal *j, const struct shot *before);

/* Whether the ioctl failed because it could not split a VMA, which is allowed then. */
bool split_failed(const struct step *s, const struct entry *entry, const struct shot *before,
		  const struct journal *j);

/* The state before a step. */
const struct shot *shot_before(const struct journal *j, size_t step);

#endif /* MLOCK_RS_WORLD_H */
