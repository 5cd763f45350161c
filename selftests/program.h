/* SPDX-License-Identifier: GPL-2.0 */
/*
 * Programs for the differential test: what a process does with the memory of its arena, step by
 * step. They are made at random, and have a text form, so that one can be printed and run again.
 */
#ifndef MLOCK_RS_PROGRAM_H
#define MLOCK_RS_PROGRAM_H

#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>

/* Pages of the arena; a page is called by its number in it. */
#define ARENA_PAGES	64
#define MAX_STEPS	256
#define NR_ARGS		4

enum op {
	OP_MAP, OP_UNMAP, OP_PROTECT, OP_MOVE, OP_RESIZE, OP_ADVISE, OP_READ, OP_WRITE,
	OP_TRUNCATE, OP_PUNCH, OP_ALL, OP_LIMIT, OP_UNLIMITED, OP_CAPABLE, OP_FORK, OP_REAP,
	/* From here on the two worlds do it in different ways. */
	OP_LOCK, OP_ONFAULT, OP_UNLOCK,
	NR_OPS,
};

/* The arguments of the operations that are words, the plainest one first. */
enum map_kind { KIND_ANON, KIND_SHARED, KIND_FILE, KIND_DROPPABLE };
enum map_prot { PROT_IS_RW, PROT_IS_R, PROT_IS_NONE, PROT_IS_W, PROT_IS_X, PROT_IS_RX };
enum map_how { HOW_PLAIN, HOW_LOCKED, HOW_POPULATE };
enum move_how { MOVE_PLAIN, MOVE_DONTUNMAP };
enum all_how { ALL_UNLOCK, ALL_FUTURE, ALL_FUTURE_ONFAULT };
enum limit_bytes { LIMIT_PAGES, LIMIT_AND_A_BIT };
enum fork_child { CHILD_EXITS, CHILD_STAYS };

/* Which bytes of the pages of a range are asked for. */
enum lock_edge {
	/* all of them; 77 bytes less at the start and 22 at the end; from the last byte of the
	 * first page to the first one of the last page
	 */
	EDGE_PAGES, EDGE_INSIDE, EDGE_CORNERS,
	/* no byte at the start of a page, which is nothing; no byte inside of a page: that page */
	EDGE_EMPTY, EDGE_NO_BYTE,
	/* a length that is 0 when it is rounded up; one with an end beyond the last address */
	EDGE_ROUNDS_TO_0, EDGE_WRAPS,
};

struct step {
	__u8 op;
	/* The range, where the operation has one. */
	__u8 first, nr;
	__u8 arg[NR_ARGS];
};

struct program {
	size_t nr;
	struct step step[MAX_STEPS];
};

static inline bool is_lock_op(const struct step *s)
{
	return s->op >= OP_LOCK;
}

/* @nr steps at random. */
void program_random(struct program *p, size_t nr, __u64 *random);

/* One step, or all of them with "; " in between. The text is good until the next call. */
const char *step_text(const struct step *s);
const char *program_text(const struct program *p);

/* The other way round; steps end with ';' or a new line. Returns false if it is not a program. */
bool program_parse(struct program *p, const char *text);

bool program_equal(const struct program *a, const struct program *b);

/* How many arguments a step has, and whether it has a range: what there is to simplify. */
size_t step_nr_args(const struct step *s);
bool step_has_range(const struct step *s);

/* The name of an operation. */
const char *op_name(enum op op);

#endif /* MLOCK_RS_PROGRAM_H */
