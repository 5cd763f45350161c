/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What the Rust code calls in mm/mlock.c: the VMA half of mlock(2), and the inline functions of the
 * kernel that Rust cannot call. bindgen reads this file.
 */
#ifndef MLOCK_RS_MLOCK_H
#define MLOCK_RS_MLOCK_H

#include <linux/types.h>
#include <linux/sched/vhost_task.h>

struct mm_struct;

/* What the VMAs of a range become. */
enum mlock_rs_mode {
	MLOCK_RS_UNLOCKED,	/* neither flag: munlock(2) */
	MLOCK_RS_ONFAULT,	/* VM_LOCKED | VM_LOCKONFAULT: mlock2(MLOCK_ONFAULT) */
	MLOCK_RS_RESIDENT,	/* VM_LOCKED: mlock(2) */
};

int mlock_rs_split_vma(unsigned long addr, enum mlock_rs_mode mode);
void mlock_rs_unsplit_vma(unsigned long addr);
int mlock_rs_change_vmas(unsigned long start, unsigned long end, enum mlock_rs_mode mode);

int mlock_rs_mmap_read_lock_killable(struct mm_struct *mm);
int mlock_rs_mmap_write_lock_killable(struct mm_struct *mm);
void mlock_rs_mmap_write_unlock(struct mm_struct *mm);
void mlock_rs_mmap_write_downgrade(struct mm_struct *mm);
int mlock_rs_mmap_lock_is_contended(struct mm_struct *mm);
unsigned long mlock_rs_untagged_addr(unsigned long addr);

#endif /* MLOCK_RS_MLOCK_H */
