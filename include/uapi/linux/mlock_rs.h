/* SPDX-License-Identifier: GPL-2.0 WITH Linux-syscall-note */
/*
 * The ioctls of /dev/mlock_rs: lock ranges of the caller's memory with one hold of its mmap lock.
 *
 * This file is the only definition of the ABI; the module's Rust types are generated from it.
 *
 * Structures are extended at their end. The size that an ioctl number carries is the size that the
 * caller was built with: a shorter structure counts as filled up with zeroes, a longer one is
 * refused with %E2BIG unless what the module does not know is zero (as copy_struct_from_user()).
 * A structure shorter than its first version gets %EINVAL. All layouts are the same for 32-bit
 * callers.
 *
 * Every structure begins with what the caller asks for ([in]; unknown flags and reserved fields
 * that are not zero get %EINVAL) and ends with the result ([out]; what was there before does not
 * matter, but for what an older module than the caller was built for does not know: who wants to
 * run there, too, begins with a structure of zeroes). The result is written also when the call
 * fails, where the argument could be read (not after %E2BIG) and can be written.
 *
 * An ioctl acts on the memory of the calling thread, whoever opened the device. No lock is held on
 * entry and on exit.
 */
#ifndef _UAPI_LINUX_MLOCK_RS_H
#define _UAPI_LINUX_MLOCK_RS_H

#include <linux/ioctl.h>
#include <linux/types.h>

/* The device node, for programs. */
#define MLOCK_RS_DEVICE		"/dev/mlock_rs"

/* The letter of the ioctl numbers. */
#define MLOCK_RS_IOC_MAGIC	0xBB

/*
 * Lock pages when they are faulted in instead of faulting them in now: MLOCK_ONFAULT of mlock2(2).
 * For MLOCK_RS_LOCK and MLOCK_RS_LOCKV.
 */
#define MLOCK_RS_LOCK_ONFAULT	(1U << 0)

/*
 * Do not let other threads wait for the mmap lock longer than a slice (slice_us), nor for a page
 * that waits for I/O or for a userfaultfd handler. Whenever the lock was given up, the call looks
 * whether the ranges are still what was locked, and fails with %ESTALE if they are not. (Memory
 * that was replaced by memory of the same kind, of the same part of the same open file or
 * anonymous, is found in order if that is locked as well by then.) For MLOCK_RS_LOCK and
 * MLOCK_RS_LOCKV.
 */
#define MLOCK_RS_LOCK_YIELD		(1U << 1)

/*
 * Let any signal end the call, not only a fatal one: %EINTR, with the result filled in. What the
 * kernel wants to run in the thread before it is back in user space ends it as well (io_uring), so
 * that there may have been no signal. For MLOCK_RS_LOCK and MLOCK_RS_LOCKV, with or without
 * %MLOCK_RS_LOCK_YIELD.
 */
#define MLOCK_RS_LOCK_INTERRUPTIBLE	(1U << 2)

/* Most threads that populate in one call, the caller among them. */
#define MLOCK_RS_MAX_WORKERS	64

/* Longest slice of %MLOCK_RS_LOCK_YIELD, and the one that slice_us 0 stands for: microseconds. */
#define MLOCK_RS_MAX_SLICE_US		1000000
#define MLOCK_RS_DEFAULT_SLICE_US	1000

/* Most ranges that MLOCK_RS_LOCKV and MLOCK_RS_UNLOCKV take in one call. */
#define MLOCK_RS_MAX_RANGES	1024

/**
 * struct mlock_rs_range - one range of %MLOCK_RS_LOCKV and %MLOCK_RS_UNLOCKV
 * @addr: First address. Rounded down to a page, as in mlock(2); an address tag is ignored.
 * @len: Length in bytes. @addr + @len is rounded up to a page, as in mlock(2): with 0 and an @addr
 *       at the start of a page the range is empty.
 */
struct mlock_rs_range {
	__aligned_u64 addr;
	__aligned_u64 len;
};

/**
 * struct mlock_rs_lock - argument and result of %MLOCK_RS_LOCK
 * @addr: [in] First address, as in struct mlock_rs_range.
 * @len: [in] Length in bytes, as in struct mlock_rs_range.
 * @flags: [in] %MLOCK_RS_LOCK_ONFAULT, %MLOCK_RS_LOCK_YIELD, %MLOCK_RS_LOCK_INTERRUPTIBLE, or 0.
 * @__reserved: [in] Must be 0.
 * @locked: [out] Bytes that this call put under the lock flag (VmLck rose by as much). Bytes that
 *          were locked before, and mappings that can never carry the flag (hugetlb, PFNMAP,
 *          secretmem, droppable, DAX), are not in it.
 * @populated: [out] Bytes from the start of the range that were seen to be resident, without a gap.
 *             Mappings that are never populated (PFNMAP) count as seen. All of the range after
 *             success; 0 with %MLOCK_RS_LOCK_ONFAULT.
 * @fail_addr: [out] After a failure of the range itself: the page address at which it failed. 0 if
 *             the failure has no address (a bad argument, no permission, the limit) and after
 *             success.
 * @nr_vmas: [out] Number of VMAs in the range; 0 if the call failed before it changed anything.
 * @error: [out] 0, or the errno that the call fails with, as a positive number.
 * @nr_workers: [in] How many threads populate, the caller among them: up to
 *              %MLOCK_RS_MAX_WORKERS. 1 is the caller alone. 0 lets the module choose, up to the
 *              number of CPUs that the caller may run on, and not more than the range is worth.
 *              Work is handed out in pieces that end at addresses which are multiples of 2 MiB:
 *              never more threads than the range has of these.
 *              The threads that help are threads of the caller's process for as long as the call
 *              takes (same memory policy, cpuset, cgroup, credentials), and count against its
 *              RLIMIT_NPROC; if they cannot be had, fewer help. When the call returns they do
 *              nothing any more but to exit.
 * @slice_us: [in] With %MLOCK_RS_LOCK_YIELD, how long others may wait for the mmap lock, in
 *            microseconds, up to %MLOCK_RS_MAX_SLICE_US; 0 stands for
 *            %MLOCK_RS_DEFAULT_SLICE_US. Without it 0.
 * @nr_helpers: [out] How many threads there were to help the caller to populate.
 * @nr_gaps: [out] How often the mmap lock was given up and taken again. 0 without
 *           %MLOCK_RS_LOCK_YIELD.
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
	__u32 nr_workers;
	__u32 slice_us;
	__u32 nr_helpers;
	__u32 nr_gaps;
};

#define MLOCK_RS_LOCK_SIZE_VER0	56
#define MLOCK_RS_LOCK_SIZE_VER1	72

/**
 * struct mlock_rs_unlock - argument and result of %MLOCK_RS_UNLOCK
 * @addr: [in] First address, as in struct mlock_rs_range.
 * @len: [in] Length in bytes, as in struct mlock_rs_range.
 * @flags: [in] Must be 0.
 * @__reserved: [in] Must be 0.
 * @unlocked: [out] Bytes that lost the lock flag (VmLck fell by as much).
 * @fail_addr: [out] The page address at which the range failed, or 0.
 * @nr_vmas: [out] Number of VMAs in the range; 0 if the call failed.
 * @error: [out] 0, or the errno that the call fails with, as a positive number.
 */
struct mlock_rs_unlock {
	__aligned_u64 addr;
	__aligned_u64 len;
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 unlocked;
	__aligned_u64 fail_addr;
	__u32 nr_vmas;
	__u32 error;
};

#define MLOCK_RS_UNLOCK_SIZE_VER0	48

/**
 * struct mlock_rs_lockv - argument and result of %MLOCK_RS_LOCKV
 * @ranges: [in] User address of an array of struct mlock_rs_range. They may be in any order,
 *          overlap and be empty; each page counts once.
 * @nr_ranges: [in] Number of ranges, up to %MLOCK_RS_MAX_RANGES.
 * @flags: [in] As in struct mlock_rs_lock.
 * @locked: [out] As in struct mlock_rs_lock, over all ranges.
 * @populated: [out] As in struct mlock_rs_lock: bytes of the ranges, in the order of their
 *             addresses, before the first page that was not seen to be resident.
 * @fail_addr: [out] The lowest page address at which it failed, or 0.
 * @nr_vmas: [out] Number of VMAs in the ranges. A VMA counts for each stretch of ranges in it that
 *           touch each other.
 * @error: [out] 0, or the errno that the call fails with, as a positive number.
 * @nr_workers: [in] As in struct mlock_rs_lock.
 * @slice_us: [in] As in struct mlock_rs_lock.
 * @nr_helpers: [out] As in struct mlock_rs_lock.
 * @nr_gaps: [out] As in struct mlock_rs_lock.
 */
struct mlock_rs_lockv {
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 flags;
	__aligned_u64 locked;
	__aligned_u64 populated;
	__aligned_u64 fail_addr;
	__u32 nr_vmas;
	__u32 error;
	__u32 nr_workers;
	__u32 slice_us;
	__u32 nr_helpers;
	__u32 nr_gaps;
};

#define MLOCK_RS_LOCKV_SIZE_VER0	48
#define MLOCK_RS_LOCKV_SIZE_VER1	64

/**
 * struct mlock_rs_unlockv - argument and result of %MLOCK_RS_UNLOCKV
 * @ranges: [in] As in struct mlock_rs_lockv.
 * @nr_ranges: [in] As in struct mlock_rs_lockv.
 * @flags: [in] Must be 0.
 * @unlocked: [out] As in struct mlock_rs_unlock, over all ranges.
 * @fail_addr: [out] The lowest page address at which it failed, or 0.
 * @nr_vmas: [out] As in struct mlock_rs_lockv.
 * @error: [out] 0, or the errno that the call fails with, as a positive number.
 */
struct mlock_rs_unlockv {
	__aligned_u64 ranges;
	__u32 nr_ranges;
	__u32 flags;
	__aligned_u64 unlocked;
	__aligned_u64 fail_addr;
	__u32 nr_vmas;
	__u32 error;
};

#define MLOCK_RS_UNLOCKV_SIZE_VER0	40

/* In mlock_rs_query.state: every page of the range is mapped, locked and resident. */
#define MLOCK_RS_QUERY_LOCKED_RESIDENT	(1U << 0)

/**
 * struct mlock_rs_query - argument and result of %MLOCK_RS_QUERY
 * @addr: [in] First address, as in struct mlock_rs_range.
 * @len: [in] Length in bytes, as in struct mlock_rs_range. The range may have holes.
 * @flags: [in] Must be 0.
 * @__reserved: [in] Must be 0.
 * @mapped: [out] Bytes of the range that are mapped.
 * @locked: [out] Bytes in VMAs that are locked, on fault or not.
 * @onfault: [out] Bytes in VMAs that are locked on fault.
 * @resident: [out] Bytes whose page is in the caller's page table. Device memory and secretmem do
 *            not count.
 * @nr_vmas: [out] Number of VMAs in the range.
 * @state: [out] %MLOCK_RS_QUERY_LOCKED_RESIDENT or 0. Never set for an empty range.
 * @error: [out] 0, or the errno that the call fails with, as a positive number.
 * @__reserved_out: [out] 0.
 */
struct mlock_rs_query {
	__aligned_u64 addr;
	__aligned_u64 len;
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 mapped;
	__aligned_u64 locked;
	__aligned_u64 onfault;
	__aligned_u64 resident;
	__u32 nr_vmas;
	__u32 state;
	__u32 error;
	__u32 __reserved_out;
};

#define MLOCK_RS_QUERY_SIZE_VER0	72

/**
 * struct mlock_rs_progress - result of %MLOCK_RS_PROGRESS
 * @flags: [in] Must be 0.
 * @__reserved: [in] Must be 0.
 * @wanted: [out] Bytes that the running calls are to populate, all together.
 * @populated: [out] Bytes of them that are populated so far. Not more than @wanted.
 * @nr_calls: [out] Number of %MLOCK_RS_LOCK and %MLOCK_RS_LOCKV calls that are populating.
 * @__reserved_out: [out] 0.
 */
struct mlock_rs_progress {
	__u32 flags;
	__u32 __reserved;
	__aligned_u64 wanted;
	__aligned_u64 populated;
	__u32 nr_calls;
	__u32 __reserved_out;
};

#define MLOCK_RS_PROGRESS_SIZE_VER0	32

/* The version that MLOCK_RS_ABI reports. It rises when something is added, with a feature bit. */
#define MLOCK_RS_ABI_VERSION		2

/* Feature bits that MLOCK_RS_ABI reports. */
#define MLOCK_RS_FEATURE_LOCK		(1ULL << 0)	/* LOCK, strict, and UNLOCK */
#define MLOCK_RS_FEATURE_ONFAULT	(1ULL << 1)	/* MLOCK_RS_LOCK_ONFAULT */
#define MLOCK_RS_FEATURE_VECTOR		(1ULL << 2)	/* LOCKV and UNLOCKV */
#define MLOCK_RS_FEATURE_QUERY		(1ULL << 3)	/* QUERY */
#define MLOCK_RS_FEATURE_YIELD		(1ULL << 4)	/* MLOCK_RS_LOCK_YIELD, slice_us, nr_gaps */
#define MLOCK_RS_FEATURE_INTERRUPTIBLE	(1ULL << 5)	/* MLOCK_RS_LOCK_INTERRUPTIBLE */
#define MLOCK_RS_FEATURE_PROGRESS	(1ULL << 6)	/* PROGRESS */
/* nr_workers, nr_helpers. Needs a kernel with CONFIG_VHOST_TASK; without it the caller is alone. */
#define MLOCK_RS_FEATURE_WORKERS	(1ULL << 7)

/**
 * struct mlock_rs_abi - result of %MLOCK_RS_ABI
 * @features: [out] The %MLOCK_RS_FEATURE_* bits of the module.
 * @version: [out] %MLOCK_RS_ABI_VERSION of the module.
 * @max_ranges: [out] %MLOCK_RS_MAX_RANGES of the module.
 */
struct mlock_rs_abi {
	__aligned_u64 features;
	__u32 version;
	__u32 max_ranges;
};

#define MLOCK_RS_ABI_SIZE_VER0	16

/**
 * enum mlock_rs_ioctl - the ioctl numbers (an enum, so that bindgen can read them)
 */
enum mlock_rs_ioctl {
	/**
	 * @MLOCK_RS_LOCK:
	 * Lock a range and populate it, like mlock(2), without a moment in which another thread
	 * could change the mapping unseen.
	 *
	 * The caller's mmap lock is taken for writing (killable), every VMA of the range is marked,
	 * the lock is downgraded, the pages are faulted in under the read lock, which is never
	 * given up, and the lock is released. Success means that there was an instant before the
	 * return at which every page of the range was mapped by a VM_LOCKED VMA and resident.
	 * (Mappings that can never carry the flag are treated as mlock(2) treats them: hugetlb, DAX
	 * and droppable memory is populated, PFNMAP is left alone.)
	 *
	 * Other threads' mmap, munmap, mprotect and the like wait while the call populates. Their
	 * page faults do not, but for some, once another thread waits for the lock to write: those
	 * that have to read a file or the swap, the first one in a new anonymous mapping, and those
	 * of the kernel, when a system call reads or writes memory that is not there. A stack that
	 * has to grow waits in any case.
	 *
	 * Errors that leave every lock flag and VmLck as they were:
	 *
	 * =========== =============================================================================
	 * EFAULT      The argument, or the array of ranges, cannot be read.
	 * EINVAL      An unknown flag, a reserved field that is not zero, a structure that is too
	 *             short, too many ranges or workers, a slice that is too long or without
	 *             %MLOCK_RS_LOCK_YIELD, or a range that wraps around the end of the address
	 *             space.
	 * E2BIG       The structure is longer than the module knows and its tail is not zero.
	 * ENOTTY      An ioctl number that the module does not know.
	 * EPERM       RLIMIT_MEMLOCK is 0 and the caller has no CAP_IPC_LOCK (can_do_mlock()).
	 * ENOMEM      Part of the range is not mapped (@fail_addr); or a VMA could not be split at
	 *             an end of the range (@fail_addr): out of memory or at vm.max_map_count; or
	 *             the range would exceed RLIMIT_MEMLOCK, as even an empty one does if more is
	 *             locked already; or there is no memory for the call itself.
	 * EBUSY       Part of the range is registered with userfaultfd (@fail_addr): its faults
	 *             cannot be resolved while the mmap lock is held. Not with
	 *             %MLOCK_RS_LOCK_YIELD, and not with %MLOCK_RS_LOCK_ONFAULT unless that part is
	 *             hugetlb memory.
	 * EINTR       A fatal signal arrived while the call had to wait for the mmap lock.
	 * =========== =============================================================================
	 *
	 * Errors in populating; the VMAs stay locked, as after a failing mlock(2), and @populated
	 * and @fail_addr say how far it came (a helper may have populated more behind that):
	 *
	 * =========== =============================================================================
	 * ENOMEM      The page cannot be faulted in: PROT_NONE, a guard region, past the end of the
	 *             file, an I/O error, a poisoned page, secretmem, a protection key, or no huge
	 *             page left in the pool.
	 * EAGAIN      No memory for the page.
	 * EREMOTEIO   Peer-to-peer memory of a device.
	 * EINTR       A fatal signal arrived, or with %MLOCK_RS_LOCK_INTERRUPTIBLE any signal. The
	 *             next call may begin at @fail_addr.
	 * ESTALE      Only with %MLOCK_RS_LOCK_YIELD: another thread has unmapped, replaced or
	 *             unlocked the page while the mmap lock was given up.
	 * EFAULT      Everything was done, but the result could not be written.
	 * =========== =============================================================================
	 */
	MLOCK_RS_LOCK		= _IOWR(MLOCK_RS_IOC_MAGIC, 1, struct mlock_rs_lock),
	/**
	 * @MLOCK_RS_UNLOCK:
	 * Unlock a range, like munlock(2), but all of it or nothing: a range with a hole is left as
	 * it is. One hold of the mmap lock for writing. Errors: %EFAULT, %EINVAL, %E2BIG, %ENOMEM
	 * (a hole, or a VMA could not be split), %EINTR, as for %MLOCK_RS_LOCK.
	 */
	MLOCK_RS_UNLOCK		= _IOWR(MLOCK_RS_IOC_MAGIC, 2, struct mlock_rs_unlock),
	/**
	 * @MLOCK_RS_LOCKV:
	 * %MLOCK_RS_LOCK for many ranges in one hold of the mmap lock: the lock flags change in all
	 * of them or in none, and success means that there was one instant at which all of them
	 * were locked and resident. Errors as for %MLOCK_RS_LOCK.
	 */
	MLOCK_RS_LOCKV		= _IOWR(MLOCK_RS_IOC_MAGIC, 3, struct mlock_rs_lockv),
	/**
	 * @MLOCK_RS_UNLOCKV:
	 * %MLOCK_RS_UNLOCK for many ranges in one hold of the mmap lock, all of them or none.
	 */
	MLOCK_RS_UNLOCKV	= _IOWR(MLOCK_RS_IOC_MAGIC, 4, struct mlock_rs_unlockv),
	/**
	 * @MLOCK_RS_QUERY:
	 * What is mapped, locked and resident in a range, at one instant as far as mapping and lock
	 * flags go: in one hold of the mmap lock for reading (killable). Changes nothing but that
	 * resident pages count as referenced. Errors: %EFAULT, %EINVAL, %E2BIG; %EINTR for a fatal
	 * signal.
	 */
	MLOCK_RS_QUERY		= _IOWR(MLOCK_RS_IOC_MAGIC, 5, struct mlock_rs_query),
	/**
	 * @MLOCK_RS_ABI:
	 * What this module can do. Errors: %EFAULT, %EINVAL, %E2BIG.
	 */
	MLOCK_RS_ABI		= _IOWR(MLOCK_RS_IOC_MAGIC, 6, struct mlock_rs_abi),
	/**
	 * @MLOCK_RS_PROGRESS:
	 * How far the calls are that run now through this open file, of whatever thread: open the
	 * device once more to follow one call alone. Takes no lock; the numbers may not fit
	 * together while calls begin and end. Errors: %EFAULT, %EINVAL, %E2BIG.
	 */
	MLOCK_RS_PROGRESS	= _IOWR(MLOCK_RS_IOC_MAGIC, 7, struct mlock_rs_progress),
};

#endif /* _UAPI_LINUX_MLOCK_RS_H */
