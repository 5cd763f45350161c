/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The differences between mlock(2) and the module that the differential test allows: those in the
 * table of Documentation/differences.md that a program of one thread can meet. Each has a name, and
 * is foretold from the state before the step, for both sides and in full.
 */
#ifndef MLOCK_RS_ALLOWED_H
#define MLOCK_RS_ALLOWED_H

#include "arena.h"

enum allowed {
	NO_DIFFERENCE,
	/* A hole: mlock(2) locks, munlock(2) unlocks what lies before it. Here nothing changes. */
	HOLE_LOCK,
	HOLE_UNLOCK,
	/* A length that rounds up to 0 at the end of the address space: success, here EINVAL. */
	LENGTH_ROUNDS_TO_0,
	/* A bad argument, and no permission, or over the limit: EPERM, ENOMEM, here EINVAL. */
	ARGUMENT_BEFORE_PERMISSION,
	ARGUMENT_BEFORE_LIMIT,
	/*
	 * At vm.max_map_count: mlock(2) changes what lies before the VMA that cannot be split, or
	 * gets by with moving a boundary. Here ENOMEM, and nothing changes but where VMAs begin and
	 * end. Not foretold but told by what the ioctl wrote back.
	 */
	NO_ROOM_TO_SPLIT,
	/*
	 * Mlocked pages are Unevictable at once after mlock(2); here up to two batches of them are
	 * so later. Of a state, not of a step: not foretold.
	 */
	UNEVICTABLE_LATE,
	/*
	 * A page of a file that is locked through several mappings: the kernel loses count of them
	 * while the page is in a batch, and may take the mark with the first mapping that goes.
	 */
	MLOCK_COUNT_LOST,
	NR_ALLOWED,
};

const char *allowed_name(enum allowed allowed);

/* What the caller may lock. */
struct privileges {
	bool capable;
	unsigned long limit;
};

/* The pages of a locking step, and the arguments that ask for them. */
struct lock_range {
	unsigned long addr, len;
	unsigned int first, nr;
};

struct lock_range lock_range(const struct step *s);

/* The first page of the range that is not mapped, or its end. */
unsigned int hole_in(const struct shot *shot, const struct lock_range *range);

/* Whether a difference is possible. */
bool may_differ(const struct step *s, const struct shot *before);

/* Whether it depends on VmLck, so that the state before it has to be known in full. */
bool depends_on_vmlck(const struct step *s, const struct privileges *privileges);

struct expectation {
	enum allowed difference;
	/* What the system call and the ioctl return, where there is a difference. */
	int mlock_ret, ioctl_ret;
	/* The pages whose lock flags the system call changes. */
	unsigned int first, nr;
};

/* @before has to be full if it may_differ() and depends_on_vmlck(). */
struct expectation expect(const struct step *s, const struct shot *before,
			  const struct privileges *privileges);

/*
 * For full looks: whether @after is @before, with the lock flags as the step sets them in the
 * expected pages.
 */
bool is_as_expected(const struct expectation *e, const struct step *s, const struct shot *before,
		    const struct shot *after, char *text, size_t size);

#endif /* MLOCK_RS_ALLOWED_H */
