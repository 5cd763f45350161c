/* SPDX-License-Identifier: GPL-2.0 */
/*
 * An ioctl of which everything may be wrong: its number, the size that it claims, where its
 * argument lies, each field and each range; and what the ABI says must come of it.
 */
#ifndef MLOCK_RS_FUZZ_CALL_H
#define MLOCK_RS_FUZZ_CALL_H

#include "choices.h"
#include "lock_model.h"

/* What the calls are about: pages with nothing mapped anywhere near. */
#define ARENA_PAGES	24UL

/*
 * Where arguments lie: pages that can be written, one that can only be read, and then nothing is
 * mapped.
 */
#define VIEW_WRITABLE_PAGES	5UL
#define VIEW_PAGES		(VIEW_WRITABLE_PAGES + 1)

/* Where arrays of ranges end. Nothing is mapped behind it. */
#define ARRAY_PAGES	5UL

struct fuzz_memory {
	int dev;
	__u64 random;
	/* If there are any, calls are made up from these. */
	struct choices *choices;
	/* The arena as it has to be. */
	struct model arena;
	/* The same memory twice: as the ioctl gets it, and to write to and to look at. */
	unsigned char *view, *alias;
	unsigned char *array;
};

/* Maps it all, at addresses far from where the kernel puts mappings. Returns 0 or -errno. */
int fuzz_memory_map(struct fuzz_memory *f);
/* Maps the arena, or the view, as they were at first. Return 0 or -errno. */
int fuzz_memory_map_arena(struct fuzz_memory *f);
int fuzz_memory_map_view(struct fuzz_memory *f);

__u64 fuzz_below(struct fuzz_memory *f, __u64 n);

struct fuzz_command {
	const char *name;
	unsigned long cmd;
	/* Of the newest version, and of the first one. */
	size_t size, first_size;
	/* Offsets: where the kernel begins to write, and of a field, or SIZE_MAX. */
	size_t result, nr_vmas;
	__u32 known_flags;
	bool vector;
	/* What a caller may get that has memory left and no userfaultfd, and is not killed. */
	int errors[6];
};

#define NR_FUZZ_COMMANDS	7
extern const struct fuzz_command fuzz_commands[NR_FUZZ_COMMANDS];

union fuzz_argument {
	struct mlock_rs_lock lock;
	struct mlock_rs_unlock unlock;
	struct mlock_rs_lockv lockv;
	struct mlock_rs_unlockv unlockv;
	struct mlock_rs_query query;
	struct mlock_rs_abi abi;
	struct mlock_rs_progress progress;
	unsigned char bytes[72];
};

struct fuzz_call {
	/* NULL: a number that means nothing. */
	const struct fuzz_command *command;
	unsigned long cmd;
	size_t size;
	/* The argument; in the view at @at, or somewhere where nothing is mapped. */
	unsigned char *arg;
	bool in_view;
	size_t at;
	union fuzz_argument value;
	/* Of them the first @readable_ranges can be read. */
	size_t readable_ranges;

	/* What may come of it: 0 or an errno, twice the same if there is no choice. */
	int errors[2];
	int got;
};

/* A good or a bad value for what the caller asks for, with ranges in @array where it needs some. */
void fuzz_fill_value(struct fuzz_memory *f, struct fuzz_call *c);

/* A call, with its argument in place. */
void fuzz_make_call(struct fuzz_memory *f, struct fuzz_call *c);

/*
 * Makes the call, and says in words what is wrong with what came of it, or NULL. To be called by
 * nobody else meanwhile.
 */
const char *fuzz_check_call(struct fuzz_memory *f, struct fuzz_call *c);

/* In the test's log. */
void fuzz_print_call(const struct fuzz_memory *f, const struct fuzz_call *c);

#endif /* MLOCK_RS_FUZZ_CALL_H */
