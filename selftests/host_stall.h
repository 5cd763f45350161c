/* SPDX-License-Identifier: GPL-2.0 */
/*
 * For how long the host let a processor of this VM wait. A bound in time is one for what the kernel
 * does, and on a host with other work no time of the kernel's own passes meanwhile.
 */
#ifndef MLOCK_RS_HOST_STALL_H
#define MLOCK_RS_HOST_STALL_H

#include <linux/types.h>

/*
 * Watch from now on. A thread of the highest priority wakes up every millisecond on each processor;
 * if one of them comes late although nothing here can make it, the processor was not there.
 */
void host_stall_start(void);

/* Ends that. Returns for how many ns not all of the processors were there. */
__u64 host_stall_stop(void);

#endif /* MLOCK_RS_HOST_STALL_H */
