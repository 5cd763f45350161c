/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The contract as a sequential model: what LOCK, UNLOCK, LOCKV, UNLOCKV and QUERY, and the
 * mmap(2), munmap(2) and mprotect(2) of private anonymous memory, make of a few pages and answer,
 * one call after the other.
 *
 * A LOCK has two parts, as it has for a QUERY that runs meanwhile: the VMA edit, and then the
 * pages, one by one in the order of their addresses, or in any order with helpers. No other change
 * may come between the two.
 */
#ifndef MLOCK_RS_LOCK_MODEL_H
#define MLOCK_RS_LOCK_MODEL_H

#include <linux/mlock_rs.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define MODEL_PAGES	64
#define NO_LIMIT	SIZE_MAX

/* A page of the model; 0 is a hole. */
#define PAGE_MAPPED	0x01
#define PAGE_LOCKED	0x02
/* Only together with PAGE_LOCKED. */
#define PAGE_ONFAULT	0x04
#define PAGE_RESIDENT	0x08
#define PAGE_READ	0x10
#define PAGE_WRITE	0x20
/*
 * Not PAGE_RESIDENT, but a LOCK may have brought it in, unless it did not get there: one with
 * YIELD, or one with helpers, which may have failed at a page before this one.
 */
#define PAGE_MAYBE	0x40
/* A LOCK with YIELD may have found that it could not be populated, although it could be now. */
#define PAGE_FAILED	0x80

struct model {
	/* Nothing else is mapped where a call may look. */
	__u64 start;
	size_t nr_pages;
	/* RLIMIT_MEMLOCK of a caller without CAP_IPC_LOCK. */
	size_t limit_pages;
	/* Pages that the LOCK at work has still to bring in: a bit for each. */
	__u64 pending;
	unsigned char page[MODEL_PAGES];
};

enum lock_mode { UNLOCK, LOCK_ONFAULT, LOCK_RESIDENT };

/* What a call answers. Where the model cannot know better, it is a pair of bounds. */
struct answer {
	/* 0 or an errno */
	int error;
	/* LOCK, UNLOCK, LOCKV, UNLOCKV; @changed is locked or unlocked */
	__u64 changed, populated, fail_addr;
	/* QUERY. An observed answer has twice the same. */
	__u64 mapped, locked, onfault, resident, max_resident;
	__u32 state;
	/* VMAs that look the same may be one or several. An observed answer has twice the same. */
	__u32 min_vmas, max_vmas;
};

/* Whether the model's @expected allows for @seen. */
bool answer_allows(const struct answer *expected, const struct answer *seen);

/* The VMA edit of LOCK, UNLOCK, LOCKV or UNLOCKV. What is to be brought in is then pending. */
void model_edit(struct model *m, enum lock_mode mode, const struct mlock_rs_range *ranges,
		size_t nr, struct answer *answer);

/* Brings in the next pending page, or all of them. */
void model_populate_next(struct model *m);
void model_populate(struct model *m);

/*
 * A LOCK or LOCKV that has done its edit had helpers: they bring pages in as they come to them,
 * also behind the page at which the call fails.
 */
void model_helped(struct model *m, const struct mlock_rs_range *ranges, size_t nr);

/*
 * LOCK or LOCKV with YIELD has two instants, and other changes may come between them. The first
 * one is the VMA edit; an @answer with an errno or without VMAs is the end. Otherwise all of it may
 * come in until the second one, model_yield_end(), which says whether @seen can be the answer.
 */
void model_yield_begin(struct model *m, const struct mlock_rs_range *ranges, size_t nr,
		       struct answer *answer);
/* While the call is between its two instants, after each change of others. */
void model_yield_goes_on(struct model *m, const struct mlock_rs_range *ranges, size_t nr);
/* No such call is between its two instants. */
void model_nobody_yields(struct model *m);
bool model_yield_end(struct model *m, const struct mlock_rs_range *ranges, size_t nr,
		     const struct answer *seen);

void model_query(const struct model *m, __u64 addr, __u64 len, struct answer *answer);

/* Of whole pages. Return 0 or -errno. */
int model_munmap(struct model *m, __u64 addr, __u64 len);
int model_mmap(struct model *m, __u64 addr, __u64 len);
int model_mprotect(struct model *m, __u64 addr, __u64 len, int prot);

/* The pages in the notation of states(). */
void model_states(const struct model *m, char *text);

/* The same, but as in @seen where the model cannot know better. */
void model_states_like(const struct model *m, const char *seen, char *text);

size_t model_locked_pages(const struct model *m);

#endif /* MLOCK_RS_LOCK_MODEL_H */
