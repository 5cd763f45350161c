/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the tests and the demo share: to call LOCK, and to ask the kernel's other witnesses (status,
 * smaps, pagemap, kpageflags) what became of the memory.
 */
#ifndef MLOCK_RS_TEST_H
#define MLOCK_RS_TEST_H

#include <linux/mlock_rs.h>
#include <linux/types.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* Of the running kernel, known before main(). */
extern size_t page_size;

/* Of a huge page, and what one page table maps. */
#define HUGE_SIZE	(2UL << 20)

/* For a test that may take half of kselftest's 30 seconds, on a debug kernel and a busy host. */
#define SLOW_SECONDS	120
/* A busy host may not run another thread while a call is at work; not each time. */
#define MOST_ROUNDS	3

/* What a test cannot do without, a witness that speaks above all: stops if it is not there. */
void must(bool ok, const char *what);

/* Opens the device. Returns a file descriptor or -errno. */
int mlock_rs_open(void);

/* LOCK. Returns 0 or -errno; @res (may be NULL) gets what the kernel wrote back. */
int mlock_rs(int fd, const void *addr, size_t len, struct mlock_rs_lock *res);

/*
 * LOCK with all that @arg asks for, which also gets what the kernel wrote back. Returns 0 or
 * -errno.
 */
int mlock_rs_call(int fd, struct mlock_rs_lock *arg);

/* LOCK with flags, and the other ioctls, in the same way. */
int mlock_rs_flags(int fd, const void *addr, size_t len, __u32 flags, struct mlock_rs_lock *res);
int mlock_rs_unlock(int fd, const void *addr, size_t len, struct mlock_rs_unlock *res);
int mlock_rs_lockv_call(int fd, struct mlock_rs_lockv *arg);
/*
 * LOCKV of what lies before and behind the page @left_out of the range, with all else that @arg
 * asks for; LOCK of all of it if that is 0. @arg gets the result.
 */
int mlock_rs_parts(int fd, struct mlock_rs_lock *arg, size_t left_out);
int mlock_rs_lockv(int fd, const struct mlock_rs_range *ranges, size_t nr, __u32 flags,
		   struct mlock_rs_lockv *res);
int mlock_rs_unlockv(int fd, const struct mlock_rs_range *ranges, size_t nr,
		     struct mlock_rs_unlockv *res);
int mlock_rs_query(int fd, const void *addr, size_t len, struct mlock_rs_query *res);
int mlock_rs_progress(int fd, struct mlock_rs_progress *res);

/* Whether the module has all of these MLOCK_RS_FEATURE_*. */
bool mlock_rs_has(int fd, __u64 features);

/* mlock(2) and mlock2(2), with -errno. */
int mlock_2(const void *addr, size_t len);
int mlock_onfault(const void *addr, size_t len);

/* VmLck of this process in bytes. */
size_t vmlck(void);

/*
 * One letter per page, so that an assertion can show a whole range:
 *
 *	.  no VMA
 *	u  U	not locked
 *	l  L	locked
 *	f  F	locked on fault
 *
 * A capital letter is a page that is in the page table. The answer is good for 8 more calls.
 */
const char *states(const void *addr, size_t nr_pages);

/* @nr_pages times @state, to compare with. Shares its buffers with states(). */
const char *all(char state, size_t nr_pages);

/* How often @state occurs in @s. */
size_t count(const char *s, char state);

/* Number of pages of the range whose /proc/kpageflags have the bit @kpf (0 needs CAP_SYS_ADMIN). */
size_t count_kpageflag(const void *addr, size_t nr_pages, unsigned int kpf);

#define KPF_DIRTY_BIT		4
#define KPF_UNEVICTABLE_BIT	18
/* Not uapi, but the kernel has shown it in kpageflags since 2.6.31. */
#define KPF_MLOCKED_BIT		33

/* Number of pages of the range that are in the page table. Needs no capability. */
size_t resident_pages(const void *addr, size_t nr_pages);

/* Number of pages of the range whose page table entry says where in the swap they are. */
size_t swapped_pages(const void *addr, size_t nr_pages);

/* The page frame that is mapped at @addr, 0 if none is. Needs CAP_SYS_ADMIN. */
__u64 page_frame(const void *addr);
/* Those of @nr_pages pages. */
void page_frames(const void *addr, size_t nr_pages, __u64 *frame);

/* Sum of one field of smaps, "Locked:" or "Rss:", over the VMAs inside the range. In bytes. */
size_t smaps_bytes(const void *addr, size_t len, const char *field);

/* Has every CPU put the pages that it still batches on their LRU list. */
void drain_lru(void);

/* "Mlocked:" of the whole machine in kB, with nothing left in a batch. */
long mlocked_kb(void);

/* The address space as smaps has it. */
struct snapshot {
	size_t vmlck;
	size_t nr_vmas;
	struct vma_shot {
		unsigned long start;
		unsigned long end;
		char perms[5];
		/* 'u', 'l' or 'f', as for states() */
		char lock;
	} vma[2048];
};

void take_snapshot(struct snapshot *s);

/*
 * As states(), with the VMAs of the snapshot, which costs the kernel nothing; whether a page is in
 * the page table is asked now.
 */
const char *states_in(const struct snapshot *s, const void *addr, size_t nr_pages);

/* The first difference in words, or "" if the address spaces are equal. */
const char *snapshot_diff(const struct snapshot *before, const struct snapshot *now);

/* The same, but a VMA that was split or merged without a change of its lock flags is equal. */
const char *lock_diff(const struct snapshot *before, const struct snapshot *now);

/* Bytes in VMAs with VM_LOCKED: what VmLck has to be. */
size_t locked_bytes(const struct snapshot *s);

/* An anonymous, writable VMA of its own: PROT_NONE on both sides keeps it from merging. */
char *map_region(size_t nr_pages);
/*
 * The same, with a multiple of HUGE_SIZE in the middle: two chunks of work, so that another thread
 * can help to populate it.
 */
char *map_region_across(size_t nr_pages);
void unmap_region(char *region, size_t nr_pages);

/* Memory that is never resident by accident: no huge pages. */
void no_huge_pages(void *addr, size_t len);

/*
 * From now on this process may have @spare more VMAs: sets vm.max_map_count, which is for the whole
 * machine and has to be put back. Returns 0 or -errno.
 */
#define MAX_MAP_COUNT_PATH	"/proc/sys/vm/max_map_count"
int allow_more_vmas(int spare);

/* Whether the kernel has checkers, as debug.config or kcsan.config: it is several times slower. */
bool is_debug_kernel(void);

/* What stands in a file of /proc or /sys. Returns 0 or -errno. */
int write_text(const char *path, const char *text);
int write_number(const char *path, long value);
long read_number(const char *path);
/* The number in the first line that begins with @field, -1 if there is none. */
long read_field(const char *path, const char *field);

/* What each byte of a page of a file is, where a test wants to know the page again. */
char page_byte(size_t page);
/* Fills @fd with pages of page_byte() and takes them from the page cache. Returns 0 or -errno. */
int write_cold(int fd, size_t nr_pages);

/* $SEED if it is set, or a new one; and the numbers that follow from it. */
__u64 seed(void);
__u64 random_number(__u64 *state);

__u64 now_ns(void);

/* Takes all capabilities from the caller but those in @keep (a bit mask); uid and gid 65534. */
int drop_privileges(__u64 keep);

#endif /* MLOCK_RS_TEST_H */
