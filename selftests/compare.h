/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Runs a program in two worlds, and compares what they saw, step by step. What is different and not
 * foretold by allowed.c is a finding.
 */
#ifndef MLOCK_RS_COMPARE_H
#define MLOCK_RS_COMPARE_H

#include "world.h"

enum finding_kind {
	FOUND_NOTHING,
	/* A world did not come to its end. */
	FOUND_DEATH,
	/* What a step returned; what an ioctl wrote back. */
	FOUND_ERRNO,
	FOUND_RESULT,
	/* What the arena looks like: one of these may hide another one. */
	FOUND_VMAS,
	FOUND_LOCKS,
	FOUND_VMLCK,
	FOUND_RESIDENCY,
	FOUND_PAGE_FLAGS,
	/* An allowed difference: the ioctl changed something; the system call something else. */
	FOUND_CHANGE,
	FOUND_UNEXPECTED,
	FOUND_LATE,
};

struct finding {
	enum finding_kind kind;
	size_t step;
	char text[320];
};

/* What the errnos of a step are counted as. */
enum outcome { OUT_OK, OUT_EPERM, OUT_ENOMEM, OUT_EAGAIN, OUT_EINVAL, OUT_OTHER, NR_OUTCOMES };

struct tally {
	unsigned long programs, steps, vma_looks, full_looks;
	unsigned long allowed[NR_ALLOWED];
	unsigned long outcome[NR_OPS][NR_OUTCOMES];
	/* Locking steps that failed in populating. */
	unsigned long partly;
	/* Programs that ended early, as the VMAs were no longer the same: see NO_ROOM_TO_SPLIT. */
	unsigned long parted;
	/* VMAs in the arena, summed up over the looks at them. */
	unsigned long vmas;
	__u64 ns;
};

struct pair {
	struct world world[2];
	struct tally tally;
};

/* System calls on one side, @kind on the other. */
void pair_init(struct pair *pair, enum world_kind kind);

/* Runs @p in both worlds. Returns whether there is something to find. */
bool pair_differs(struct pair *pair, const struct program *p, unsigned int full_every,
		  struct finding *finding);

/* Whether two findings are of one kind, as far as can be expected after a program was shrunk. */
bool findings_alike(enum finding_kind a, enum finding_kind b);

const char *finding_name(enum finding_kind kind);
const char *outcome_name(enum outcome outcome);

#endif /* MLOCK_RS_COMPARE_H */
