/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The arena of the differential test: pages at a fixed address, and what the kernel says about them
 * (PROCMAP_QUERY, msync, pagemap, kpageflags, smaps, status) as something that can be compared.
 *
 * It lies below everything else in the process, so that a reader of smaps meets it first.
 */
#ifndef MLOCK_RS_ARENA_H
#define MLOCK_RS_ARENA_H

#include "program.h"

#include <stdint.h>

#define ARENA_ADDR	0x100000UL

/* In arena_vma.flags. The first four are those of PROCMAP_QUERY. */
#define VMA_R		0x01
#define VMA_W		0x02
#define VMA_X		0x04
#define VMA_SHARED	0x08
#define VMA_FILE	0x10
#define VMA_LOCKED	0x20
/* Only in a full look. */
#define VMA_ONFAULT	0x40
#define VMA_DROPPABLE	0x80

/* In shot.page. */
#define PAGE_PRESENT	0x0001
#define PAGE_SWAPPED	0x0002
#define PAGE_FILE	0x0004
#define PAGE_GUARD	0x0008
#define PAGE_EXCLUSIVE	0x0010
#define PAGE_ZERO	0x0020
/* Only in a full look: what kpageflags says, but for what depends on when reclaim last came by. */
#define PAGE_MLOCKED	0x0100
#define PAGE_UNEVICTABLE 0x0200
#define PAGE_ANON	0x0400
#define PAGE_LRU	0x0800
#define PAGE_MAPPED	0x1000
#define PAGE_SWAPBACKED	0x2000
#define PAGE_UPTODATE	0x4000

struct arena_vma {
	/* In pages. */
	__u8 first, nr;
	__u8 flags;
	/* Where in the file. */
	__u16 offset;
	/* All of VmFlags, as a number, in a full look. */
	__u32 vmflags;
};

/* How much of it: each is dearer than the one before. */
enum look {
	/* What is resident. */
	LOOK_PAGES,
	/* The VMAs too, and whether they are locked. */
	LOOK_VMAS,
	/* All of their flags too, VmLck, and the flags of the pages. */
	LOOK_FULL,
};

/* The arena at one moment. */
struct shot {
	__u8 look;
	__u8 nr_vmas;
	/* Locked pages of the process, in a full look. */
	__u32 vmlck;
	/* Mlocked pages that were not yet Unevictable; they are when the full look is over. */
	__u8 late;
	struct arena_vma vma[ARENA_PAGES];
	__u16 page[ARENA_PAGES];
};

/* An arena with nothing in it, between two pages that nothing merges with. Stops if it cannot. */
void arena_reserve(void);

char *arena_page(unsigned int page);

/* Opens what a look needs; with CAP_SYS_ADMIN, which is not needed afterwards. */
void look_open(void);

/* Looks at the arena of the caller. */
void look_at_arena(struct shot *shot, enum look look);

/* How many VMAs the caller has outside of the arena. */
unsigned int vmas_outside(void);

/* The VMA of a page, or NULL. */
const struct arena_vma *vma_of(const struct shot *shot, unsigned int page);

/* What two shots differ in first. */
enum difference_kind {
	SAME, DIFFERENT_VMAS, DIFFERENT_LOCKS, DIFFERENT_VMLCK, DIFFERENT_RESIDENCY,
	DIFFERENT_PAGE_FLAGS,
};

/*
 * Whether two pages, by their flags, are the same but for one of them being Mlocked, Unevictable:
 * see MLOCK_COUNT_LOST in allowed.h.
 */
bool is_count_lost(__u16 a, __u16 b);

/* Compares what both have. @text (may be NULL) gets the difference in words. */
enum difference_kind shot_compare(const struct shot *a, const struct shot *b, char *text,
				  size_t size);

/* The same, wherever VMAs begin and end, as long as each page is mapped in the same way. */
enum difference_kind shot_compare_mappings(const struct shot *a, const struct shot *b, char *text,
					   size_t size);

/* Whether the VMAs of both begin and end at the same pages. For shots with VMAs. */
bool same_boundaries(const struct shot *a, const struct shot *b);

#endif /* MLOCK_RS_ARENA_H */
