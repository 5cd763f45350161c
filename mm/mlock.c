// SPDX-License-Identifier: GPL-2.0
/*
 * The VMA half of mlock(2) and munlock(2), under a hold of the mmap lock that the caller has.
 *
 * mlock(2) drops the mmap lock between its two halves, and the kernel exports neither. What the
 * functions below call and the kernel does not export is listed in kernel/symbols, and reached
 * through livepatch relocations, see Documentation/relocations.md. It is called by name only: a
 * call through a pointer would stop a machine that has indirect branch tracking.
 *
 * Lock order: the mmap lock, held for writing by the caller; the lock of a VMA, taken for writing
 * until the mmap lock is released or downgraded; the lock of a page table.
 */
#include <linux/hugetlb.h>
#include <linux/mm.h>
#include <linux/mmap_lock.h>
#include <linux/module.h>
#include <linux/pagewalk.h>
#include <linux/secretmem.h>
#include <linux/swap.h>
#include <linux/uaccess.h>

/* The kernel's own, so that a function of mm that changes is an error of the build. */
#include <mm/internal.h>
#include <mm/vma.h>

#include "mlock.h"

/* The loader resolves livepatch relocations only for a module that says this. */
MODULE_INFO(livepatch, "Y");

/* The flags of @vma once its lock flags are those of @mode. */
static vma_flags_t flags_with(const struct vm_area_struct *vma, enum mlock_rs_mode mode)
{
	vma_flags_t flags = vma->flags;

	vma_flags_clear_mask(&flags, VMA_LOCKED_MASK);
	if (mode != MLOCK_RS_UNLOCKED)
		vma_flags_set(&flags, VMA_LOCKED_BIT);
	if (mode == MLOCK_RS_ONFAULT)
		vma_flags_set(&flags, VMA_LOCKONFAULT_BIT);
	return flags;
}

/*
 * Whether the lock flags of @vma can become those in @flags and are not so yet. The same VMAs stay
 * as they are in mlock_fixup(): memory of memfd_secret(2) because it must not be unlocked, the
 * others because they are never locked.
 */
static bool changes(struct vm_area_struct *vma, const vma_flags_t *flags)
{
	return !vma_flags_same_pair(&vma->flags, flags) &&
	       !vma_is_secretmem(vma) && vma_supports_mlock(vma);
}

/*
 * How many pages from @pte on, up to @end, map @folio one after the other: what is counted as
 * mlocked, or no longer, at once.
 */
static unsigned int mapped_pages(struct folio *folio, pte_t *pte, unsigned long addr,
				 unsigned long end)
{
	if (!folio_test_large(folio))
		return 1;
	return folio_pte_batch(folio, pte, ptep_get(pte), (end - addr) >> PAGE_SHIFT);
}

static void count_folio(struct folio *folio, bool locked)
{
	if (locked)
		mlock_folio(folio);
	else
		munlock_folio(folio);
}

/*
 * Count the folios that one page table maps. To lock leaves a large folio alone if not all of it is
 * mapped here, so that it can be split under pressure; to unlock takes it too, because the VMA may
 * have been split since it was locked. A device's own pages are on no list.
 */
static int count_page_table(pmd_t *pmd, unsigned long addr, unsigned long end,
			    struct mm_walk *walk)
{
	struct vm_area_struct *vma = walk->vma;
	const bool locked = vma_test(vma, VMA_LOCKED_BIT);
	const unsigned long start = addr;
	spinlock_t *ptl = pmd_trans_huge_lock(pmd, vma);
	struct folio *folio;
	pte_t *first, *pte;
	unsigned int step;

	if (ptl) {
		folio = pmd_present(*pmd) ? vm_normal_folio_pmd(vma, addr, *pmd) : NULL;
		if (folio && !folio_is_zone_device(folio))
			count_folio(folio, locked);
		spin_unlock(ptl);
		goto out;
	}

	first = pte_offset_map_lock(vma->vm_mm, pmd, addr, &ptl);
	if (!first) {
		/* It was replaced meanwhile. */
		walk->action = ACTION_AGAIN;
		return 0;
	}
	for (pte = first; addr < end; pte += step, addr += step * PAGE_SIZE) {
		const pte_t entry = ptep_get(pte);

		step = 1;
		folio = pte_present(entry) ? vm_normal_folio(vma, addr, entry) : NULL;
		if (!folio || folio_is_zone_device(folio))
			continue;

		step = mapped_pages(folio, pte, addr, end);
		if (!locked || !folio_test_large(folio) ||
		    (folio_within_range(folio, vma, start, end) &&
		     step == folio_nr_pages(folio)))
			count_folio(folio, locked);
	}
	pte_unmap_unlock(first, ptl);
out:
	cond_resched();
	return 0;
}

/*
 * Give @vma its new flags, and count the pages that are there already as mlocked, or no longer.
 *
 * The walk must not be skipped, also not for lock-on-fault: reclaim that tested VM_LOCKED before it
 * was set clears page table entries until the walk has had the lock of their page table, and none
 * afterwards.
 */
static void set_flags_and_count(struct vm_area_struct *vma, unsigned long start, unsigned long end,
				vma_flags_t *flags)
{
	static const struct mm_walk_ops ops = {
		.pmd_entry = count_page_table,
		.walk_lock = PGWALK_WRLOCK_VERIFY,
	};
	const bool locks = vma_flags_test(flags, VMA_LOCKED_BIT);

	/*
	 * Migration and reclaim that meet a page of this VMA before the walk does would count it,
	 * and the walk once more, so that it stayed unevictable for ever. VM_IO, which no VMA with
	 * VM_LOCKED has otherwise, tells mlock_vma_folio() to leave it alone; hence both become
	 * visible at once.
	 */
	if (locks)
		vma_flags_set(flags, VMA_IO_BIT);
	vma_start_write(vma);
	vma_flags_reset_once(vma, flags);

	/* Pages that are still on their way to the LRU lists cannot be moved between them. */
	lru_add_drain();
	walk_page_range_vma(vma, start, end, &ops, NULL);
	lru_add_drain();

	if (locks) {
		vma_flags_clear(flags, VMA_IO_BIT);
		vma_flags_reset_once(vma, flags);
	}
}

/* What mlock_fixup() does with one VMA. Returns the VMA that has become of it, or an errno. */
static struct vm_area_struct *change_vma(struct vma_iterator *vmi, struct vm_area_struct *prev,
					 struct vm_area_struct *vma, unsigned long start,
					 unsigned long end, enum mlock_rs_mode mode)
{
	const bool was_locked = vma_test(vma, VMA_LOCKED_BIT);
	const long nr_pages = (end - start) >> PAGE_SHIFT;
	vma_flags_t flags = flags_with(vma, mode);
	struct vm_area_struct *modified;
	bool locks;

	if (!changes(vma, &flags))
		return vma;

	modified = vma_modify_flags(vmi, prev, vma, start, end, &flags);
	if (!IS_ERR(modified))
		vma = modified;
	else if (start > vma->vm_start || end < vma->vm_end)
		return modified;
	/* Otherwise only a merge has failed, and a VMA that changes as a whole does without. */

	locks = vma_flags_test(&flags, VMA_LOCKED_BIT);
	if (locks && was_locked) {
		/* Only lock-on-fault changes. The pages are counted. */
		vma_start_write(vma);
		vma->flags = flags;
		return vma;
	}
	vma->vm_mm->locked_vm += locks ? nr_pages : -nr_pages;
	set_flags_and_count(vma, start, end, &flags);
	return vma;
}

/**
 * mlock_rs_split_vma() - Make an address the boundary of VMAs before mlock_rs_change_vmas().
 * @addr: Page aligned address in current->mm, an end of the range to come.
 * @mode: What mlock_rs_change_vmas() is going to be called with.
 *
 * Does nothing where mlock_rs_change_vmas() would leave the VMA as it is. Splits also where
 * mlock_rs_change_vmas() might get by with moving a boundary to a neighbour.
 *
 * Context: Process context, mmap lock held for writing.
 * Return: 1 after a split, 0 if there was nothing to do, or a negative errno.
 */
int mlock_rs_split_vma(unsigned long addr, enum mlock_rs_mode mode)
{
	VMA_ITERATOR(vmi, current->mm, addr);
	struct vm_area_struct *vma;
	vma_flags_t flags;

	mmap_assert_write_locked(current->mm);
	vma = vma_iter_load(&vmi);
	if (!vma || vma->vm_start == addr)
		return 0;

	flags = flags_with(vma, mode);
	if (!changes(vma, &flags))
		return 0;
	return split_vma(&vmi, vma, addr, 1) ?: 1;
}

/**
 * mlock_rs_unsplit_vma() - Take back what mlock_rs_split_vma() did, if possible.
 * @addr: The address.
 *
 * A merge needs memory, and does not remove VMAs that have a close operation.
 *
 * Context: Process context, mmap lock held for writing since the split.
 */
void mlock_rs_unsplit_vma(unsigned long addr)
{
	VMA_ITERATOR(vmi, current->mm, addr);
	struct vm_area_struct *vma, *prev;
	vma_flags_t flags;

	mmap_assert_write_locked(current->mm);
	vma = vma_iter_load(&vmi);
	if (!vma || vma->vm_start != addr)
		return;

	prev = vma_prev(&vmi);
	vma = vma_next(&vmi);
	flags = vma->flags;
	vma = vma_modify_flags(&vmi, prev, vma, vma->vm_start, vma->vm_end, &flags);
	/* If they cannot be merged, two VMAs do as well as one. */
	(void)vma;
}

/**
 * mlock_rs_change_vmas() - Change the lock flags of all VMAs in a range.
 * @start: Page aligned start of the range in current->mm.
 * @end: Page aligned end of it, above @start.
 * @mode: What they become.
 *
 * Leaves permission, limits and faulting pages in to the caller. Cannot fail after
 * mlock_rs_split_vma() at both ends of a range without holes.
 *
 * Context: Process context, mmap lock held for writing.
 * Return: 0 or a negative errno. VMAs before the one that failed are changed.
 */
int mlock_rs_change_vmas(unsigned long start, unsigned long end, enum mlock_rs_mode mode)
{
	VMA_ITERATOR(vmi, current->mm, start);
	struct vm_area_struct *vma, *prev;
	unsigned long addr = start;

	mmap_assert_write_locked(current->mm);
	vma = vma_iter_load(&vmi);
	if (!vma)
		return -ENOMEM;

	prev = vma_prev(&vmi);
	if (start > vma->vm_start)
		prev = vma;

	for_each_vma_range(vmi, vma, end) {
		if (vma->vm_start > addr)
			return -ENOMEM;

		prev = change_vma(&vmi, prev, vma, addr, min(vma->vm_end, end), mode);
		if (IS_ERR(prev))
			return PTR_ERR(prev);
		/*
		 * Where the iterator is: what was merged reaches further than the VMA did. If a
		 * VMA could not be removed, it comes again, and nothing is left to change.
		 */
		addr = vma_iter_end(&vmi);
	}
	return addr < end ? -ENOMEM : 0;
}

int mlock_rs_mmap_read_lock_killable(struct mm_struct *mm)
{
	return mmap_read_lock_killable(mm);
}

int mlock_rs_mmap_write_lock_killable(struct mm_struct *mm)
{
	return mmap_write_lock_killable(mm);
}

void mlock_rs_mmap_write_unlock(struct mm_struct *mm)
{
	mmap_write_unlock(mm);
}

void mlock_rs_mmap_write_downgrade(struct mm_struct *mm)
{
	mmap_write_downgrade(mm);
}

int mlock_rs_mmap_lock_is_contended(struct mm_struct *mm)
{
	return mmap_lock_is_contended(mm);
}

unsigned long mlock_rs_untagged_addr(unsigned long addr)
{
	return untagged_addr(addr);
}
