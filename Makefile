# SPDX-License-Identifier: GPL-2.0
#
# Two ways in: `make` builds the module against a kernel tree (KDIR) with the tools at hand; the
# other targets bring their own toolchain, kernels and VM (tools/toolchain, kernel, vm).

# Absolute, so that it means the same in the kernel's build.
KDIR ?= /lib/modules/$(shell uname -r)/build
KERNEL ?=
PREFIX ?= /usr/local
DESTDIR ?=
# Also if the environment has an empty one, as that of a make within a make.
mod_path = $(or $(INSTALL_MOD_PATH),$(DESTDIR))
export KERNEL PREFIX DESTDIR PROFILE
release = $(shell cat $(KDIR)/include/config/kernel.release 2>/dev/null || uname -r)

.DEFAULT_GOAL := module
MAKEFLAGS += --no-print-directory
run := tools/toolchain run
# The times of the phases are of this run.
begin = rm -f build/phases

##@ The module, against your kernel

.PHONY: module
module:	## Build mlock_rs.ko against KDIR (default: the running kernel)
	@tools/kbuild $(KDIR) modules

modules_install = tools/kbuild $(KDIR) INSTALL_MOD_PATH="$(abspath $(mod_path))" modules_install

.PHONY: modules_install
modules_install:	## Install mlock_rs.ko, the udev rule, mlock_rs(4) (DESTDIR=, PREFIX=)
	$(modules_install)
	tools/install module

.PHONY: install
install:	## Install all that `make` and `make user` built (DESTDIR=, PREFIX=/usr/local)
	tools/install
	$(if $(wildcard mlock_rs.ko),$(modules_install),\
		@echo "Without the module: it is not built. 'make KDIR=...' builds it.")

.PHONY: uninstall
uninstall:	## Remove it again (the same DESTDIR=, PREFIX=, KDIR=)
	tools/install --uninstall
	rm -f "$(mod_path)/lib/modules/$(release)/updates/mlock_rs.ko"*
	@[ -n "$(mod_path)" ] || [ ! -e "/lib/modules/$(release)/modules.dep" ] || depmod $(release)

##@ Everything in a VM: nothing has to be installed beforehand

.PHONY: demo
demo:	## Show mlock(2) and mlock_rs under a race (JSON=1 for scripts)
	@$(begin)
	@tools/toolchain demo tools/demo $(if $(JSON),--json)

.PHONY: check
check:	## Lint, and all tests on Debian's 7.3 amd64 (KERNEL=rt, TESTS=, JSON=1)
	@$(begin)
	@$(run) tools/check $(if $(JSON),--json) $(if $(KERNEL),--kernel $(KERNEL)) $(TESTS)

.PHONY: check-all
check-all:	## The same, and the kselftests on rt, debug and kcsan, the race on cloud
	@$(begin)
	@$(run) tools/check $(if $(JSON),--json) --all

.PHONY: soak
soak:	## Run what is random with new seeds, and what is rare, for a long time (SOAK=90s|30m|2h)
	@$(run) tools/soak $(or $(SOAK),30m)

.PHONY: user
user:	## Build the command line, the crate and the preload library into build/user
	@tools/user-build

.PHONY: user-check
user-check:	## Check them, and test them in the VM (TESTS='on_fault daemon')
	@$(run) tools/user-tests $(TESTS)

.PHONY: programs
programs:	## Try the preload library with programs from Debian in the VM (PROGRAMS='gpg vmtouch')
	@MLOCK_RS_PROGRAMS=$$(tools/toolchain root programs) && export MLOCK_RS_PROGRAMS && \
		$(run) tools/programs $(if $(UPDATE),--update) $(PROGRAMS)

.PHONY: deb
deb:	## Build Debian packages of them and of the module's source into build/deb
	@tools/deb

.PHONY: shell
shell:	## A prompt in the VM with the module loaded (KERNEL=rt, cloud, debug, kcsan)
	@$(run) tools/shell $(or $(KERNEL),amd64)

.PHONY: toolchain
toolchain:	## Make the toolchain now
	@tools/toolchain setup

.PHONY: kernel
kernel:	## Get a kernel now (KERNEL=rt, cloud, debug, kcsan)
	@$(run) tools/kernel get $(or $(KERNEL),amd64)

##@ Working on it

.PHONY: lint
lint:	## rustfmt, clippy, checkpatch --strict, shellcheck: no warnings
	@$(run) tools/lint

.PHONY: rustfmt
rustfmt:	## Format the Rust code with the kernel's settings
	@$(run) tools/lint --fix

.PHONY: docs
docs:	## Write the generated documentation: the ABI reference, the drawings
	@$(run) tools/docs

.PHONY: rustdoc
rustdoc:	## Write the documentation of the module's internals into build/rustdoc
	@$(run) tools/rustdoc

.PHONY: rust-analyzer
rust-analyzer:	## Write rust-project.json for rust-analyzer
	@$(run) tools/rust-analyzer

.PHONY: mutants
mutants:	## Run the tests with modules that are wrong on purpose (MUTANTS='010 042', JSON=1)
	@$(run) tools/mutants $(if $(JSON),--json) $(MUTANTS)

.PHONY: coverage
coverage:	## Which lines `make check` reached last (UPDATE=1 for the documentation)
	@$(run) tools/coverage $(if $(UPDATE),--update)

.PHONY: bench
bench:	## Compare with mlock(2) and others; results in bench/results (BENCH=full, BENCH_HOST=1)
	@$(run) tools/bench $(if $(BENCH_HOST),--build && tools/bench --host) \
		$(if $(filter full,$(BENCH)),--full)
	@tools/plots

.PHONY: bench-insn
bench-insn:	## Count instructions and compare with bench/insn.csv (UPDATE=1 writes that)
	@$(run) tools/bench-insn $(if $(UPDATE),--update)

.PHONY: clean
clean:	## Remove what was built in this directory
	rm -rf build
	find . -maxdepth 3 \( -name '*.o' -o -name '*.ko' -o -name '*.mod' -o -name '*.mod.c' \
		-o -name '.*.cmd' -o -name '.*.d' -o -name '*_generated.rs' \
		-o -name klp.symvers -o -name Module.symvers -o -name modules.order -o -name rust-project.json \) -type f -delete

.PHONY: distclean
distclean: clean	## Remove the cache too: toolchain, kernel source, kernels
	tools/toolchain clean

.PHONY: help
help:	## This list
	@awk 'BEGIN { FS = ":.*\t## " } \
		/^##@ / { printf "\n%s\n", substr($$0, 5) } \
		/^[a-z_-]+:.*\t## / { printf "  make %-16s %s\n", $$1, $$2 }' $(firstword $(MAKEFILE_LIST))
	@echo
	@echo 'Variables'
	@echo '  KDIR=DIR              kernel tree to build the module against'
	@echo "  KERNEL=NAME           kernel of the VM: Debian's amd64 (the default), cloud or rt, or debug"
	@echo '                        or kcsan, which are built'
	@echo '  MLOCK_RS_CACHE=DIR    where toolchain and kernels go (default ~/.cache/mlock_rs)'
	@echo '  MLOCK_RS_ACCEL=tcg    do not try KVM'
	@echo "  TESTS='a_test b_test' only these tests, also one: TESTS=hole_test:hole.at_the_end"
	@echo '  VERBOSE=1             show what all tests write, not only what failing tests write'
	@echo '  SEED=N                seed of the random tests, the soak and the demo, as a run printed it'
	@echo '  STORM_SECONDS=N       how long each storm and each test of concurrent histories lasts'
	@echo '  FUZZ_CALLS=N          how many calls the fuzzer makes'
	@echo '  DIFF_STEPS=N          how many steps to compare with mlock(2)'
	@echo '  COVERAGE=1|0          fail for a line that no test reaches and no page lists; count none'
	@echo '  REPLAY=PROGRAM        only this program, as differential_test printed it'
	@echo '  BENCH=full            the benchmark with more sizes and runs, an hour or more'
	@echo '  BENCH_HOST=1          the benchmark on this machine, with the module loaded, as root'
