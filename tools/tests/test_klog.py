#!/usr/bin/env python3
# SPDX-License-Identifier: GPL-2.0
"""Does lib/klog.py find what kernels really print, and nothing in logs of good runs?"""

import pathlib
import sys
import unittest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "lib"))
import klog  # noqa: E402  pylint: disable=wrong-import-position

BAD = """
WARNING: CPU: 1 PID: 61 at mm/gup.c:1325 __get_user_pages+0x9d/0xcd0
[    3.14] WARNING: mm/mlock.c:512 at mlock_fixup+0x1c/0x40, CPU#0: test/77
WARNING: possible circular locking dependency detected
WARNING: possible recursive locking detected
WARNING: inconsistent lock state
WARNING: bad unlock balance detected!
WARNING: lock held when returning to user space!
WARNING: suspicious RCU usage
DEBUG_LOCKS_WARN_ON(depth <= 0)
BUG: MAX_LOCKDEP_CHAINS too low!
BUG: KASAN: slab-use-after-free in mlock_rs_lock+0x1f/0x40 [mlock_rs]
==> BUG: KASAN: null-ptr-deref in range [0x0000000000000000-0x0000000000000007]
KASAN: null-ptr-deref in range [0x0000000000000000-0x0000000000000007]
BUG: KCSAN: data-race in mmap_region / vma_link
BUG: unable to handle page fault for address: ffffc90000a40000
BUG: kernel NULL pointer dereference, address: 0000000000000010
BUG: sleeping function called from invalid context at include/linux/sched/mm.h:321
BUG: scheduling while atomic: mlock_rs_test/91/0x00000002
BUG: Bad page state in process test  pfn:10a3c
BUG: Bad rss-counter state mm:00000000c1bd7a11 type:MM_ANONPAGES val:3
BUG kmalloc-64 (Not tainted): Redzone overwritten
watchdog: BUG: soft lockup - CPU#1 stuck for 26s! [mlock_rs_test:93]
BUG: workqueue lockup - pool cpus=0 node=0 flags=0x0 nice=0 stuck for 31s!
kernel BUG at mm/rmap.c:1260!
Oops: 0000 [#1] SMP KASAN NOPTI
Oops: general protection fault, probably for non-canonical address 0xdffffc0000000002: 0000 [#1]
Oops: invalid opcode: 0000 [#1] SMP
Kernel panic - not syncing: Attempted to kill init! exitcode=0x0000000b
rcu: INFO: rcu_preempt self-detected stall on CPU
rcu: INFO: rcu_preempt detected stalls on CPUs/tasks:
rcu: INFO: rcu_preempt detected expedited stalls on CPUs/tasks: { 1-.... } 21 jiffies s: 145
INFO: task mlock_rs_test:88 blocked for more than 120 seconds.
UBSAN: array-index-out-of-bounds in mm/mlock.c:88:12
refcount_t: underflow; use-after-free.
list_add corruption. prev->next should be next (ffff888), but was dead000000000122.
kmemleak: 3 new suspected memory leaks (see /sys/kernel/debug/kmemleak)
unreferenced object 0xffff88800a1b2c40 (size 64):
kmemleak: Kernel memory leak detector disabled
kmemleak: Cannot allocate a kmemleak_object structure, disabling
rust_kernel: panicked at mlock_rs.rs:12:5:
 Call Trace:
""".strip().splitlines()

GOOD = """
Linux version 7.3.4 (gcc (Debian 14.2.0-19) 14.2.0, GNU ld 2.44) #1 SMP PREEMPT
Spectre V1 : Mitigation: usercopy/swapgs barriers and __user pointer sanitization
Spectre V2 : Spectre BHI mitigation: SW BHB clearing on syscall and VM exit
MDS: Vulnerable: Clear CPU buffers attempted, no microcode
ACPI BIOS Warning (bug): 32/64X length mismatch in FADT/Gpe0Block: 128/32
[Firmware Bug]: TSC doesn't count with P0 frequency!
Lock dependency validator: Copyright (c) 2006 Red Hat, Inc., Ingo Molnar
... MAX_LOCKDEP_SUBCLASSES:  8
... MAX_LOCKDEP_CHAINS:      65536
lockdep is using 32768 entries
kasan: KernelAddressSanitizer initialized (generic)
kmemleak: Kernel memory leak detector initialized (mem pool available: 15753)
kmemleak: Automatic memory scanning thread started
rcu: Preemptible hierarchical RCU implementation.
rcu: RCU callback double-/use-after-free debug is enabled.
rcu: RCU lockdep checking is enabled.
workqueue: blk_mq_run_work_fn hogged CPU for >10000us 4 times, consider switching to WQ_UNBOUND
clocksource: timekeeping watchdog on CPU1: Marking clocksource 'tsc' as unstable
mlock_rs: loading out-of-tree module taints kernel.
Memory failure: 0x10a3c: recovery action for dirty mlocked LRU page: Recovered
mlock_rs_test[88]: segfault at 0 ip 0000000000401a2b sp 00007ffd error 6 in mlock_rs_test
Out of memory: Killed process 91 (hog) total-vm:65536kB, anon-rss:60000kB, file-rss:0kB
printk: legacy console [ttyS0] enabled
reboot: Power down
""".strip().splitlines()

FAULT = """
FAULT_INJECTION: forcing a failure.
name failslab, interval 1, probability 100, space 0, times 1
CPU: 1 UID: 0 PID: 93 Comm: mlock_rs_test Tainted: G           O        7.3.4 #1 PREEMPT(lazy)
Call Trace:
 <TASK>
 dump_stack_lvl+0x5d/0x80
""".strip().splitlines()

RACE = """
==================================================================
BUG: KCSAN: data-race in osq_unlock+0xe6/0x160

race at unknown origin, with read to 0xffff8881643298c0 of 8 bytes by task 367 on cpu 1:
 osq_unlock+0xe6/0x160
 rwsem_down_write_slowpath+0x859/0x1060
""".strip().splitlines()

DEAD_NODE = """
==================================================================
[   69.340081] BUG: KCSAN: data-race in mas_wr_node_store / mtree_range_walk
[   69.340248]
[   69.340374] write to 0xffff8881402dbd00 of 8 bytes by task 195 on cpu 1:
[   69.340542]  mas_wr_node_store+0x831/0xec0
[   69.340662]  mas_wr_store_entry+0x717/0x15e0
[   69.340751]
[   69.341119] read to 0xffff8881402dbd00 of 8 bytes by task 194 on cpu 0:
[   69.341205]  mtree_range_walk+0x188/0x5a0
[   69.341260]  lock_vma_under_rcu+0xd0/0x3b0
[   69.341315]
[   69.341370] value changed: 0xffff888140c8350e -> 0xffff8881402dbd00
[   69.341400]
[   69.341424] Reported by Kernel Concurrency Sanitizer on:
==================================================================
""".strip().splitlines()


IDLE_MASK = """
==================================================================
[  155.952033] BUG: KCSAN: data-race in _find_first_bit+0x2c/0x50
[  155.952255]
[  155.952398] race at unknown origin, with read to 0xffffffff8261d180 of 8 bytes by task 0 on cpu 0:
[  155.952570]  _find_first_bit+0x2c/0x50
[  155.952676]  _nohz_idle_balance.isra.0+0xb4/0x480
[  155.952764]  do_idle+0x1f/0x120
""".strip().splitlines()


RUN_TIME = """
[   65.918834] BUG: KCSAN: data-race in process_one_work+0x168/0x6c0
[   65.919146]
[   65.919300] race at unknown origin, with read to 0xffff888100f0c528 of 8 bytes by task 38 on cpu 0:
[   65.919642]  process_one_work+0x168/0x6c0
[   65.919846]  worker_thread+0x3ab/0x650
[   65.924790]
[   65.924885] value changed: 0x00000000022b2390 -> 0x00000000022ed01e
""".strip().splitlines()


class Klog(unittest.TestCase):
    def test_every_bad_line_is_found(self):
        for line in BAD:
            with self.subTest(line=line):
                self.assertEqual(klog.trouble(["ok", "[    1.000000] " + line]), [1])

    def test_a_clean_log_stays_clean(self):
        self.assertEqual([GOOD[n] for n in klog.trouble(GOOD)], [])

    def test_the_stack_of_an_injected_fault_is_no_trouble(self):
        self.assertEqual(klog.trouble(FAULT), [])

    def test_only_the_first_stack_after_an_injected_fault_is_excused(self):
        self.assertEqual(klog.trouble(FAULT + FAULT[3:]), [len(FAULT)])

    def test_a_bug_after_an_injected_fault_is_found(self):
        self.assertEqual(klog.trouble(FAULT[:2] + ["BUG: KASAN: x"]), [2])

    def test_a_race_that_the_kernel_has_marked_on_one_side_is_excused(self):
        self.assertEqual(klog.trouble(RACE), [])

    def test_a_race_of_the_same_function_with_an_access_that_was_seen_is_found(self):
        seen = "read to 0xffff8881643298c0 of 8 bytes by task 367 on cpu 1:"
        self.assertEqual(klog.trouble(RACE[:3] + [seen] + RACE[4:]), [1])
        self.assertEqual(klog.trouble(["BUG: KCSAN: data-race in osq_lock / osq_unlock"]), [0])

    def test_the_two_of_a_known_race_are_excused_in_either_order_and_with_nobody_else(self):
        race = "[    1.000000] BUG: KCSAN: data-race in %s / %s"
        count, new = "futex_hash_allocate_default", "copy_process"
        self.assertEqual(klog.trouble([race % (new, count), race % (count, new)]), [])
        self.assertEqual(klog.trouble([race % (new, new), race % (count, "find_vma"),
                                       race % (count, new) + "_x"]), [0, 1, 2])

    def test_a_reader_that_meets_a_dead_node_of_the_maple_tree_is_excused(self):
        self.assertEqual(klog.trouble(DEAD_NODE), [])

    def test_any_reader_of_the_maple_tree_may_meet_a_dead_node(self):
        lines = [line.replace("mas_wr_node_store / mtree_range_walk",
                              "mas_next_slot / mas_wr_node_store")
                 .replace("mtree_range_walk+", "mas_next_slot+") for line in DEAD_NODE]
        self.assertEqual(klog.trouble(lines), [])

    def test_a_node_may_die_with_all_that_it_is_replaced_with(self):
        lines = [line.replace("mas_wr_node_store", "mas_topiary_replace")
                 .replace("mtree_range_walk", "mas_walk") for line in DEAD_NODE]
        self.assertEqual(klog.trouble(lines), [])
        lines = [line.replace("-> 0xffff8881402dbd00", "-> 0xffff8881402dbd08") for line in lines]
        self.assertEqual(klog.trouble(lines), [1])

    def test_an_idle_cpu_that_looks_which_others_are_idle_is_excused(self):
        self.assertEqual(klog.trouble(IDLE_MASK), [])

    def test_any_other_reader_of_such_a_mask_is_found(self):
        for old, new in (("_nohz_idle_balance", "mlock_vmas"), ("task 0 ", "task 12 "),
                         ("race at unknown origin, with read", "read")):
            with self.subTest(new=new):
                lines = [line.replace(old, new) for line in IDLE_MASK]
                self.assertEqual(klog.trouble(lines), [1])

    def test_a_race_with_any_other_change_of_the_maple_tree_is_found(self):
        for old, new in (("-> 0xffff8881402dbd00", "-> 0xffff8881402dbd08"),
                         ("read to 0xffff8881402dbd00", "read to 0xffff8881402dbd08"),
                         ("mas_wr_node_store", "mas_wr_slot_store"),
                         ("mtree_range_walk", "mlock_vmas"), ("8 bytes", "4 bytes")):
            with self.subTest(new=new):
                lines = [line.replace(old, new) for line in DEAD_NODE]
                self.assertEqual(klog.trouble(lines), [1])
        # A report without its end, and one that another one follows.
        self.assertEqual(klog.trouble(DEAD_NODE[:8]), [1])
        self.assertEqual(klog.trouble(DEAD_NODE[:8] + DEAD_NODE), [1])

    def test_a_race_within_the_counters_per_cpu_is_excused(self):
        add, total = "__percpu_counter_limited_add", "percpu_counter_add_batch"
        for one, other in ((add, add), (add, total), (total, add)):
            line = f"[  236.400709] BUG: KCSAN: data-race in {one} / {other}"
            self.assertEqual(klog.trouble([line, "[  236.400889]"]), [])

    def test_a_race_of_a_counter_per_cpu_with_anything_else_is_found(self):
        add = "__percpu_counter_limited_add"
        for one, other in ((add, "mlock_vmas"), ("mlock_vmas", add), (add, "my_percpu_counter_add"),
                           (add, f"{add}+0x10/0x20"), ("x", f"{add} / {add}")):
            line = f"BUG: KCSAN: data-race in {one} / {other}"
            self.assertEqual(klog.trouble([line]), [0])

    def test_the_owner_of_an_address_space_that_changes_is_excused(self):
        line = "[  128.719566] BUG: KCSAN: data-race in mm_update_next_owner / try_to_set_owner"
        self.assertEqual(klog.trouble([line, "[  128.719600]"]), [])
        for other in (line + "+0x2c/0x230", line.replace("try_to_set_owner", "mlock_vmas"),
                      line.replace("mm_update_next_owner", "mlock_vmas")):
            self.assertEqual(klog.trouble([other]), [0])

    def test_how_long_a_kworker_has_run_is_excused(self):
        self.assertEqual(klog.trouble(RUN_TIME), [])
        for old, new in (("0x00000000022ed01e", "0xffff888100f0c500"), ("of 8 bytes", "of 4 bytes"),
                         ("race at unknown origin, with read", "read"),
                         ("process_one_work", "mlock_work"), ("worker_thread", "mlock_thread")):
            lines = [line.replace(old, new) for line in RUN_TIME]
            self.assertEqual(klog.trouble(lines), [0], old)

    def test_flags_of_a_folio_at_the_end_of_writeback_are_excused(self):
        line = "[  200.3] BUG: KCSAN: data-race in __folio_end_writeback / isolate_lru_folios"
        self.assertEqual(klog.trouble([line]), [])
        self.assertEqual(klog.trouble([line.replace("isolate_lru_folios", "mlock_folio")]), [0])

    def test_an_interrupt_that_is_freed_while_its_handler_works_is_excused(self):
        line = "[  599.9] BUG: KCSAN: data-race in __synchronize_hardirq / handle_irq_event"
        self.assertEqual(klog.trouble([line]), [])
        self.assertEqual(klog.trouble([line.replace("handle_irq_event", "mask_irq")]), [])
        self.assertEqual(klog.trouble([line.replace("handle_irq_event", "mlock_vmas")]), [0])

    def test_how_often_a_task_was_switched_is_excused(self):
        lines = [line.replace("osq_unlock", "proc_pid_status") for line in RACE]
        self.assertEqual(klog.trouble(lines), [])
        lines = [line.replace("osq_unlock", "task_mem") for line in RACE]
        self.assertEqual(klog.trouble(lines), [1])

    def test_a_race_of_another_function_is_found(self):
        lines = [line.replace("osq_unlock", "mlock_vmas") for line in RACE]
        self.assertEqual(klog.trouble(lines), [1])
        lines = [line.replace("osq_unlock", "osq_unlock_all") for line in RACE]
        self.assertEqual(klog.trouble(lines), [1])

    def test_excerpt_marks_the_lines_and_cuts_the_rest(self):
        lines = [f"line {n}" for n in range(300)]
        text = klog.excerpt(lines, [100, 200], before=1, after=2, most=80)
        self.assertEqual(text.splitlines(), [
            "  ...", "  line 99", "> line 100", "  line 101",
            "  ...", "  line 199", "> line 200", "  line 201"])
        self.assertIn("lines more", klog.excerpt(lines, [0], after=200))


if __name__ == "__main__":
    unittest.main()
