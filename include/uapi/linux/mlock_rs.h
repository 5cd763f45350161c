/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctls of /dev/mlock_rs: lock a range of the caller's memory with one hold of its mmap lock.
 *
 * This file is the only definition of the ABI; the module's Rust types are generated from it.
 *
 * Structures are extended at their end. The size that an ioctl number carries is the size that the
 * caller was built with: a shorter structure counts as filled up with zeroes, a longer one is
 * refused with %E2BIG unless what the module does not know is zero (as copy_struct_from_user()).
 * All layouts are the same for 32-bit callers.
 */
#ifndef _UAPI_LINUX_MLOCK_RS_H
#define _UAPI_LINUX_MLOCK_RS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The device node, for programs. */
#define MLOCK_RS_DEVICE		"/dev/mlock_rs"

/* The letter of the ioctl numbers. */
#define MLOCK_RS_IOC_MAGIC	0xBB

/**
 * struct mlock_rs_lock - argument and result of %MLOCK_RS_LOCK
 * @addr: [in] First address. Rounded down to a page, as in mlock(2); an address tag is ignored.
 * @len: [in] Length in bytes. @addr + @len is rounded up to a page, as in mlock(2): with 0 and an
 *       @addr at the start of a page nothing is locked.
 * @flags: [in] Must be 0.
 * @__reserved: [in] Must be 0.
 * @locked: [out] Bytes that this call put under the lock flag (VmLck rose by as much). Bytes that
 *          were locked before, and mappings that can never carry the flag (hugetlb, PFNMAP,
 *          secretmem, droppable, DAX), are not in it.
 * @populated: [out] Bytes from the start of the range that were seen to be resident, without a gap.
 *             Mappings that are never populated (PFNMAP) count as seen. All of the range after
 *             success.
 * @fail_addr: [out] After a failure of the range itself: the page address at which it failed. 0 if
 *             the failure has no address (a bad argument, no permission, the limit).
 * @nr_vmas: [out] Number of VMAs in the range.
 * @error: [out] 0, or the errno that the call fails with, as a positive number.
 *
 * What was there in the [out] fields does not matter. They are written also when the call fails,
 * where @addr could be read and the argument can be written.
 */
struct mlock_rs_lock {
	__aligned_u64 addr;
	__aligned_u64 len;
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 locked;
	__aligned_u64 populated;
	__aligned_u64 fail_addr;
	__u32 nr_vmas;
	__u32 error;
};

/* Size of the first published struct mlock_rs_lock; a shorter one gets %EINVAL. */
#define MLOCK_RS_LOCK_SIZE_VER0	56

/**
 * enum mlock_rs_ioctl - the ioctl numbers (an enum, so that bindgen can read them)
 * @MLOCK_RS_LOCK:
 *
 *	Lock the range and populate it, like mlock(2), without a moment in which another thread
 *	could change the mapping unseen.
 *
 *	The caller's mmap lock is taken for writing (killable), every VMA of the range is marked,
 *	the lock is downgraded, the pages are faulted in under the read lock, which is never given
 *	up, and the lock is released. Success means that there was an instant before the return at
 *	which every page of the range was mapped by a VM_LOCKED VMA and resident.
 *
 *	No lock is held on entry and on exit. Other threads' mmap, munmap, mprotect and the like
 *	wait while the call populates; their page faults do not.
 *
 *	Errors that leave every lock flag and VmLck as they were:
 *
 *	=========== ================================================================================
 *	%EFAULT     The argument cannot be read.
 *	%EINVAL     An unknown flag, a reserved field that is not zero, a structure shorter than
 *	            %MLOCK_RS_LOCK_SIZE_VER0, or a range that does not fit into the address space.
 *	%E2BIG      The structure is longer than the module knows and its tail is not zero.
 *	%EPERM      RLIMIT_MEMLOCK is 0 and the caller has no CAP_IPC_LOCK (can_do_mlock()).
 *	%ENOMEM     The range would exceed RLIMIT_MEMLOCK; or part of it is not mapped (@fail_addr);
 *	            or a VMA could not be split: out of memory or over vm.max_map_count (@fail_addr).
 *	%EBUSY      Part of the range is registered with userfaultfd (@fail_addr): its faults cannot
 *	            be resolved while the mmap lock is held.
 *	%EINTR      A fatal signal arrived while the call waited for the mmap lock.
 *	=========== ================================================================================
 *
 *	Errors in populating; the VMAs stay locked, as after a failing mlock(2), and @populated and
 *	@fail_addr say how far it came:
 *
 *	=========== ================================================================================
 *	%ENOMEM     The page cannot be faulted in: PROT_NONE, a guard region, past the end of the
 *	            file, or an I/O error.
 *	%EAGAIN     No memory for the page.
 *	%EHWPOISON  The page is poisoned.
 *	%EINTR      A fatal signal arrived.
 *	%EFAULT     Everything was done, but the result could not be written.
 *	=========== ================================================================================
 */
enum mlock_rs_ioctl {
	MLOCK_RS_LOCK = _IOWR(MLOCK_RS_IOC_MAGIC, 1, struct mlock_rs_lock),
};

#endif /* _UAPI_LINUX_MLOCK_RS_H */
