# SPDX-License-Identifier: GPL-2.0
"""Finds trouble in a kernel log: what the kernel reports about itself and its checkers."""

import itertools
import re

# What no good run prints.  Case matters: "kasan: KernelAddressSanitizer initialized" is fine.
TROUBLE = re.compile("|".join((
    r"WARNING:",
    r"\bBUG\b",
    r"\bKASAN:", r"\bKCSAN:", r"\bKFENCE:", r"\bUBSAN:", r"\bKMSAN:",
    r"possible recursive locking", r"circular locking", r"inconsistent lock state",
    r"lockdep:.*(?:off|corrupt|bad)", r"DEBUG_LOCKS_WARN_ON", r"MAX_LOCK\w+ too low",
    r"unreferenced object", r"new suspected memory leaks",
    r"kmemleak: (?:.*[Dd]isabl|Kernel memory leak detector disabled)",
    r"INFO: .*stall", r"blocked for more than", r"hung task",
    r"\bOops\b", r"general protection fault", r"Kernel panic", r"unable to handle",
    r"Call Trace",
    r"refcount_t:", r"list_(?:add|del) corruption",
    r"scheduling while atomic", r"sleeping function called",
    r"rust_kernel: panicked",
)))

# Reports that a test asks for; the stack that follows them is theirs.
ASKED_FOR = re.compile(r"FAULT_INJECTION: forcing a failure|page allocation failure:"
                       r"|invoked oom-killer:")
# How many lines may lie between such a report and its stack.
REACH = 12

# Functions of the kernel that read without a mark what others change in marked or uninstrumented
# ways. KCSAN may see the value change and no second access: it does not know of one in assembler,
# and looks at one in C only before it takes place. Nothing that they read can be the module's, or
# be written by it. A race with an access that KCSAN has seen counts.
MARKED_BY_ONE_SIDE = {
    "osq_unlock": "osq_wait_next() reads node->next; osq_lock() sets it with WRITE_ONCE()",
    "osq_lock": "as osq_unlock(), in its way out of the queue",
    "__percpu_counter_sum": "reads counters that other CPUs add to with this_cpu_add()",
    "proc_pid_status": "reads how often a task was switched, which the scheduler counts; what it"
                       " says of the memory is read by another function",
}
KCSAN_REPORT = re.compile(r"BUG: KCSAN: data-race in (\w+)\+0x")
# The maple tree marks a node dead by setting its parent, the first word in it, to itself; readers
# under RCU, every page fault among them, look for that and start over. Neither side is marked.
DEAD_NODE = re.compile(
    r"BUG: KCSAN: data-race in (?:mas|mtree)_\w+ / (?:mas|mtree)_\w+$"
    r".*?\bwrite to (0x[0-9a-f]+) of 8 bytes by [^\n]*\n"
    r"[^\n]*\bmas_(?:wr_node_store|topiary_replace)\+"
    r".*?\bread to \1 of 8 bytes by [^\n]*\n[^\n]*\b(?:mas|mtree)_\w+\+"
    r".*?\bvalue changed: 0x[0-9a-f]+ -> \1$", re.M | re.S)


def read_alone(reader, caller, what, rest=""):
    """A report of a read in `reader`, called by `caller`, without a second access that was seen."""
    return re.compile(
        rf"BUG: KCSAN: data-race in {reader}\+0x[^\n]*\n[^\n]*\n"
        rf"[^\n]*race at unknown origin, with read to [^\n]* {what}[^\n]*\n"
        rf"[^\n]*\b{reader}\+[^\n]*\n[^\n]*\b{caller}{rest}", re.M | re.S)


def between(one, other):
    """A report of a race that only these two have, whichever KCSAN names first."""
    return re.compile(
        rf"BUG: KCSAN: data-race in (?:(?:{one}) / (?:{other})|(?:{other}) / (?:{one}))$", re.M)


# An idle CPU looks which others are idle, while they set their bits.
IDLE_MASK = read_alone("_find_first_bit", r"_nohz_idle_balance\b", "by task 0 on ")
# The counters per CPU look at their sum without its lock to see whether they need the lock, and are
# exact all the same. What these functions share is the counter that they were given.
COUNTERS = between(r"(?:__)?percpu_counter_\w+", r"(?:__)?percpu_counter_\w+")
# A thread that ends looks whether it is the one that the memory is charged to, while the one that
# is hands that on to another thread, with WRITE_ONCE().
OWNER = between("mm_update_next_owner", "try_to_set_owner")
# A thread that is being made looks how many there are in the process, which says how large its
# table of futexes may have to be, while others begin or end and count themselves.
NR_THREADS = between("futex_hash_allocate_default", "copy_process|release_task|__exit_signal")
# A kworker reads how long it has run so far, which the scheduler counts. What it reads of a work,
# which may be the module's, are addresses, or small numbers that are not read as words.
RUN_TIME = read_alone("process_one_work", r"worker_thread\+", "of 8 bytes by ",
                      r".*?\bvalue changed: 0x0000[0-9a-f]{12} -> 0x0000[0-9a-f]{12}$")
# Reclaim takes a folio off its list, which is one bit of its flags, while the end of writeback looks
# at another one.
FOLIO_FLAGS = between("__folio_end_writeback", "isolate_lru_folios")
# Who frees an interrupt, as each shutdown does, reads without a lock whether a handler is at work,
# "might give the wrong answer", and looks once more with it.
IRQ_STATE = between("__synchronize_hardirq",
                    r"handle_irq_event|handle_(?:fasteoi|edge|level)_irq|(?:un)?mask_irq")
END_OF_REPORT = 66 * "="
UNKNOWN_ORIGIN = "race at unknown origin, with read to "


def is_known_race(lines, number):
    """Whether this begins a report of KCSAN about a race in the kernel that is known."""
    if "BUG: KCSAN:" not in lines[number]:
        return False
    report = "\n".join(itertools.takewhile(lambda line: END_OF_REPORT not in line, lines[number:]))
    beginning = report.index("BUG:")
    if any(race.match(report, beginning) for race in
           (DEAD_NODE, IDLE_MASK, COUNTERS, OWNER, NR_THREADS, RUN_TIME, FOLIO_FLAGS,
            IRQ_STATE)):
        return True
    function = KCSAN_REPORT.search(lines[number])
    return (function is not None and function[1] in MARKED_BY_ONE_SIDE
            and UNKNOWN_ORIGIN in report)


def trouble(lines):
    """The numbers of the lines that fail a run."""
    found, asked = [], -REACH - 1
    for number, line in enumerate(lines):
        if is_known_race(lines, number):
            continue
        if ASKED_FOR.search(line):
            asked = number
        elif "Call Trace" in line and number - asked <= REACH:
            asked = -REACH - 1
        elif TROUBLE.search(line):
            found.append(number)
    return found


def excerpt(lines, numbers, before=2, after=15, most=80):
    """The lines in question with what stands around them."""
    wanted = sorted({n for number in numbers for n in range(max(0, number - before),
                                                            min(len(lines), number + after))})
    shown, last = [], -1
    for n in wanted[:most]:
        if n != last + 1:
            shown.append("  ...")
        shown.append(("> " if n in numbers else "  ") + lines[n])
        last = n
    if len(wanted) > most:
        shown.append(f"  ... and {len(wanted) - most} lines more")
    return "\n".join(shown)
