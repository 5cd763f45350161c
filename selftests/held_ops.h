/* SPDX-License-Identifier: GPL-2.0 */
/*
 * What other threads do while a call is held back: one operation each, on the page that is to be
 * the victim or elsewhere. All return 0 or -errno.
 */
#ifndef MLOCK_RS_HELD_OPS_H
#define MLOCK_RS_HELD_OPS_H

#include "held_call.h"

/* Of the victim, to nothing, to anonymous memory, to elsewhere, to PROT_NONE and to PROT_READ. */
int op_munmap(struct held_call *h);
int op_mmap_fixed(struct held_call *h);
int op_mremap(struct held_call *h);
int op_mprotect(struct held_call *h);
int op_mprotect_read(struct held_call *h);
/* By memory that is locked, too. */
int op_replace_and_mlock(struct held_call *h);
int op_replace_with_mcl_future(struct held_call *h);
int op_replace_by_another_offset_and_mlock(struct held_call *h);
/* By what nobody can tell from what was there. */
int op_replace_by_the_same(struct held_call *h);
int op_replace_by_the_same_and_mlock(struct held_call *h);
int op_replace_and_leave_empty(struct held_call *h);
int op_mremap_there_and_back(struct held_call *h);

int op_munlock(struct held_call *h);
int op_munlock_and_mlock(struct held_call *h);
int op_unlock(struct held_call *h);
int op_mlock(struct held_call *h);
/* From the victim to the end of the range: what the call has marked does not count twice. */
int op_lock(struct held_call *h);

/* Nowhere near the range. */
int op_mmap_elsewhere(struct held_call *h);
/* Of memory that is not in the range. */
int op_collapse(struct held_call *h);
int op_dontdump(struct held_call *h);
int op_dontneed(struct held_call *h);
/* Of the page HELD_READY_PAGE, which has come. */
int op_dontneed_locked(struct held_call *h);
int op_cold(struct held_call *h);
int op_populate(struct held_call *h);
/* The child inherits no lock, however far the call has come. */
int op_fork(struct held_call *h);

#endif /* MLOCK_RS_HELD_OPS_H */
