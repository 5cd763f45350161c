/* SPDX-License-Identifier: GPL-2.0 */
/*
 * The kernel's fault injection: allocations of the calling thread fail, those of nobody else.
 */
#ifndef MLOCK_RS_FAULT_INJECTION_H
#define MLOCK_RS_FAULT_INJECTION_H

#include <stdbool.h>

enum fault_extent {
	FAULT_ONE,
	/* It and all that follow. */
	FAULT_ALL_FROM,
};

/*
 * Slab objects and pages can fail from now on, also where the caller may sleep, and nothing is
 * said of it in the log. Returns 0 or -errno: -ENOENT where the kernel has no fault injection.
 */
int fault_injection_on(void);
/* The settings are for the whole machine: also for a process whose test has died. */
void fault_injection_off(void);

/* Lets the @nth allocation from now on fail. Stops the test where that is not possible. */
void fault_arm(unsigned int nth, enum fault_extent extent);
/* Returns whether an allocation has failed since. None will from now on. */
bool fault_disarm(void);

#endif /* MLOCK_RS_FAULT_INJECTION_H */
