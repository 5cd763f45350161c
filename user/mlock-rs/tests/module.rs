// SPDX-License-Identifier: GPL-2.0

//! The crate against the module. The witnesses are the kernel's: VmLck, smaps, /proc/self/mem.

use mlock_rs::{
    Device, FileMapping, Limits, LockedBox, LockedRegion, LockedVec, Range, Rule, page_size, uapi,
};
use rustix::{
    process::{Resource, Rlimit, getrlimit, setrlimit},
    thread::{CapabilitySet, capabilities, set_capabilities},
};
use std::{
    fs::{self, File},
    io::Write,
    os::unix::fs::FileExt,
    sync::atomic::{AtomicUsize, Ordering},
    thread,
    time::Duration,
};
use zeroize::Zeroize;

const DEVICE: &str = "/dev/mlock_rs";

fn device() -> Device {
    Device::open().expect("the module is loaded")
}

fn vmlck() -> u64 {
    Limits::now().locked
}

/// The VmFlags that smaps has for the mapping at `range`.
fn vm_flags(range: Range) -> Vec<String> {
    let smaps = fs::read_to_string("/proc/self/smaps").unwrap();
    let mut inside = false;
    for line in smaps.lines() {
        let head = line
            .split_once(' ')
            .and_then(|(head, _)| head.split_once('-'));
        if let Some((start, end)) = head {
            let hex = |text| u64::from_str_radix(text, 16).unwrap();
            inside = hex(start) <= range.addr() && range.addr() < hex(end);
        } else if let Some(flags) = line.strip_prefix("VmFlags:").filter(|_| inside) {
            return flags.split_whitespace().map(str::to_owned).collect();
        }
    }
    panic!("nothing is mapped at {range:?}");
}

fn is_locked(range: Range) -> bool {
    vm_flags(range).iter().any(|flag| flag == "lo")
}

/// What is in memory, whatever Rust thinks of it.
fn bytes_at(range: Range) -> Vec<u8> {
    let mut bytes = vec![0; range.len() as usize];
    let memory = File::open("/proc/self/mem").unwrap();
    memory.read_exact_at(&mut bytes, range.addr()).unwrap();
    bytes
}

/// Whole pages in the middle of a vector, which has them alone.
struct Pages {
    memory: Vec<u8>,
    first: usize,
    len: usize,
}

impl Pages {
    fn new(pages: usize) -> Self {
        let (page, len) = (page_size(), pages * page_size());
        let memory = vec![0u8; len + 2 * page];
        let first = memory.as_ptr().align_offset(page);
        Self { memory, first, len }
    }

    fn get(&mut self) -> &mut [u8] {
        &mut self.memory[self.first..self.first + self.len]
    }
}

/// Calls `run` without CAP_IPC_LOCK and with this RLIMIT_MEMLOCK.
fn with_limit<T>(bytes: u64, run: impl FnOnce() -> T) -> T {
    let (sets, limit) = (capabilities(None).unwrap(), getrlimit(Resource::Memlock));
    let mut fewer = sets;
    fewer.effective.remove(CapabilitySet::IPC_LOCK);
    let lower = Rlimit {
        current: Some(bytes),
        maximum: limit.maximum,
    };
    set_capabilities(None, fewer).unwrap();
    setrlimit(Resource::Memlock, lower).unwrap();
    let result = run();
    setrlimit(Resource::Memlock, limit).unwrap();
    set_capabilities(None, sets).unwrap();
    result
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn the_module_says_what_it_can_do() {
    let abi = device().abi().unwrap();
    assert!(abi.version >= 1);
    assert_eq!(abi.features & 0xf, 0xf);
    assert_eq!(abi.max_ranges, 1024);
    assert!(abi.has(uapi::MLOCK_RS_FEATURE_LOCK | uapi::MLOCK_RS_FEATURE_QUERY));
    assert!(!abi.has(1 << 31));
    assert!(device().fallback().is_none());
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_vector_is_locked_resident_and_not_dumped() {
    let before = vmlck();
    let vec = LockedVec::<u8>::with_capacity(&device(), 3 * page_size()).unwrap();
    let all = 3 * page_size() as u64;

    assert_eq!(vmlck() - before, all);
    let flags = vm_flags(vec.range());
    assert!(flags.contains(&"lo".into()), "{flags:?}");
    assert!(flags.contains(&"dd".into()), "{flags:?}");
    let query = device().query(vec.range()).unwrap();
    assert!(query.locked_resident);
    assert_eq!((query.locked, query.resident), (all, all));

    drop(vec);
    assert_eq!(vmlck(), before);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_vector_that_grows_leaves_nothing_behind() {
    let before = vmlck();
    let mut vec = LockedVec::from_slice(&device(), b"secret").unwrap();
    let place = vec.range();
    vec.write_all(&vec![b'x'; page_size()]).unwrap();

    assert!(vec.starts_with(b"secretxxx"));
    assert_eq!(vec.len(), page_size() + 6);
    assert!(is_locked(vec.range()));
    assert_ne!(vec.range(), place);
    // The place where it was is not mapped any more; growing doubles the pages.
    assert_eq!(vmlck() - before, 2 * page_size() as u64);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_vector_that_cannot_grow_stays_as_it_is() {
    let mut vec = LockedVec::from_slice(&device(), &vec![7u8; page_size()]).unwrap();
    let locked = vmlck();
    let error = with_limit(locked, || vec.try_push(8)).unwrap_err();

    assert!(matches!(error.rule(), Rule::OverLimit { .. }), "{error}");
    assert_eq!(*vec, vec![7u8; page_size()]);
    assert!(is_locked(vec.range()));
    assert_eq!(vmlck(), locked);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn what_is_taken_out_is_zeroed() {
    let mut vec = LockedVec::from_slice(&device(), b"0123456789").unwrap();
    let place = Range::new(vec.range().addr() as usize, 10);

    assert_eq!(bytes_at(place), b"0123456789");
    assert_eq!(vec.pop(), Some(b'9'));
    assert_eq!(bytes_at(place), b"012345678\0");
    vec.truncate(4);
    assert_eq!(bytes_at(place), b"0123\0\0\0\0\0\0");
    vec.zeroize();
    assert_eq!(bytes_at(place), [0; 10]);
}

/// Counts what becomes of it.
#[derive(Clone)]
struct Witness;
static ZEROED: AtomicUsize = AtomicUsize::new(0);
static DROPPED: AtomicUsize = AtomicUsize::new(0);

/// Of a size, so that it can be locked.
struct Secret(#[expect(dead_code)] u64, Witness);

impl Zeroize for Secret {
    fn zeroize(&mut self) {
        ZEROED.fetch_add(1, Ordering::Relaxed);
    }
}

impl Drop for Witness {
    fn drop(&mut self) {
        DROPPED.fetch_add(1, Ordering::Relaxed);
    }
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn every_element_is_zeroed_and_dropped_once() {
    let mut vec = LockedVec::with_capacity(&device(), 1).unwrap();
    let many = vec.capacity() + 1;
    for n in 0..many {
        vec.try_push(Secret(n as u64, Witness)).unwrap();
    }
    assert_eq!(ZEROED.load(Ordering::Relaxed), 0, "moving is no end");
    drop(vec);
    assert_eq!(ZEROED.load(Ordering::Relaxed), many);
    assert_eq!(DROPPED.load(Ordering::Relaxed), many);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_box_is_filled_in_place() {
    let key = LockedBox::<[u8; 32]>::with(&device(), |key| key.fill(0x5a)).unwrap();
    assert_eq!(*key, [0x5a; 32]);
    assert_eq!(bytes_at(Range::of(&*key)), [0x5a; 32]);
    assert!(is_locked(key.range()));
    assert!(device().query(Range::of(&*key)).unwrap().locked_resident);
    assert_eq!(format!("{key:?}"), "LockedBox(..)");
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_region_is_locked_until_dropped() {
    let mut pages = Pages::new(4);
    let (range, before) = (Range::of(pages.get()), vmlck());
    let mut region = LockedRegion::new(&device(), pages.get()).unwrap();
    region[0] = 1;

    assert!(is_locked(range));
    assert_eq!(vmlck() - before, 4 * page_size() as u64);
    drop(region);
    assert!(!is_locked(range));
    assert_eq!(vmlck(), before);
    assert_eq!(pages.get()[0], 1);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_region_gives_its_memory_back() {
    let memory = vec![3u8; 8 * page_size()];
    let before = vmlck();
    let region = LockedRegion::new(&device(), memory).unwrap();
    assert!(device().query(region.range()).unwrap().locked_resident);
    let memory = region.unlock().unwrap();
    assert_eq!(vmlck(), before);
    assert!(memory.iter().all(|&byte| byte == 3));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_region_is_locked_as_the_lock_says() {
    let device = device();
    let (mut pages, before) = (Pages::new(8192), vmlck());
    let lock = device.lock().workers(2).on_fault();
    let region = LockedRegion::with(lock, pages.get()).unwrap();
    let query = device.query(region.range()).unwrap();
    assert_eq!(
        (query.locked, query.on_fault),
        (region.range().len(), query.locked)
    );
    drop(region);
    assert_eq!(vmlck(), before);

    let none = device.lock().workers(65);
    let error = LockedRegion::with(none, pages.get()).unwrap_err();
    assert_eq!(*error.rule(), Rule::TooManyWorkers { most: 64 });
    assert_eq!(vmlck(), before);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn on_fault_leaves_out_what_was_not_touched() {
    let mut pages = Pages::new(64);
    let region = LockedRegion::on_fault(&device(), pages.get()).unwrap();
    let query = device().query(region.range()).unwrap();
    assert_eq!(query.locked, 64 * page_size() as u64);
    assert_eq!(query.on_fault, query.locked);
    assert!(query.resident < query.locked, "{query:?}");
    assert!(!query.locked_resident);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_file_is_locked_whole() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![1; 5 * page_size() + 1]).unwrap();
    let before = vmlck();
    let region = LockedRegion::new(&device(), FileMapping::new(&file).unwrap()).unwrap();

    assert!(is_locked(region.range()));
    assert_eq!(vmlck() - before, 6 * page_size() as u64);
    let mapping = region.unlock().unwrap();
    assert_eq!(mapping.in_core().unwrap(), [true; 6]);
    assert_eq!(vmlck(), before);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_file_that_became_shorter_says_where_and_stays_unlocked() {
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![1; 4 * page_size()]).unwrap();
    let mapping = FileMapping::new(&file).unwrap();
    file.set_len(page_size() as u64).unwrap();
    let (range, before, page) = (mapping.range(), vmlck(), page_size() as u64);

    let error = device().lock().range(range).run().unwrap_err();
    let expected = Rule::CannotPopulate {
        addr: range.addr() + page,
        populated: page,
    };
    assert_eq!(*error.rule(), expected);
    assert!(!error.nothing_changed());
    assert_eq!(vmlck() - before, 4 * page, "locked, as the error says");

    LockedRegion::new(&device(), mapping).unwrap_err();
    assert_eq!(vmlck(), before);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn many_ranges_are_locked_at_once_or_not_at_all() {
    let (mut one, mut two) = (Pages::new(2), Pages::new(2));
    let (one, two, before) = (Range::of(one.get()), Range::of(two.get()), vmlck());
    let device = device();

    let hole = Range::new(page_size(), page_size());
    let error = device.lock().ranges([one, hole, two]).run().unwrap_err();
    assert_eq!(*error.rule(), Rule::NotMapped { addr: hole.addr() });
    assert!(error.nothing_changed());
    assert_eq!(vmlck(), before);

    let done = device.lock().ranges([one, two]).run().unwrap();
    let all = 4 * page_size() as u64;
    assert_eq!((done.newly_locked, done.populated), (Some(all), Some(all)));
    assert!(is_locked(one) && is_locked(two));

    let error = device.unlock().ranges([one, hole]).run().unwrap_err();
    assert_eq!(*error.rule(), Rule::NotMapped { addr: hole.addr() });
    assert_eq!(vmlck() - before, all);
    let done = device.unlock().ranges([one, two]).run().unwrap();
    assert_eq!(done.unlocked, Some(all));
    assert_eq!(vmlck(), before);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn each_rule_has_its_error() {
    let device = device();
    let mut pages = Pages::new(4);
    let range = Range::of(pages.get());
    let rule = |range| device.lock().range(range).run().unwrap_err().rule().clone();

    assert_eq!(rule(Range::new(0, 1)), Rule::NotMapped { addr: 0 });
    assert_eq!(rule(Range::new(usize::MAX - 9, 100)), Rule::BadRange);
    let error = device.lock().ranges(vec![range; 1025]).run().unwrap_err();
    assert_eq!(*error.rule(), Rule::TooManyRanges { most: 1024 });

    let page = page_size() as u64;
    let locked = vmlck();
    let over = Rule::OverLimit {
        limit: locked + 3 * page,
        locked,
        wanted: locked + 4 * page,
    };
    assert_eq!(with_limit(locked + 3 * page, || rule(range)), over);
    with_limit(locked + 4 * page, || device.lock().range(range).run()).unwrap();
    device.unlock().range(range).run().unwrap();
    let refused = Rule::NotPermitted { wanted: 4 * page };
    assert_eq!(with_limit(0, || rule(range)), refused);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn too_many_mappings_are_not_taken_for_a_hole() {
    const MOST: &str = "/proc/sys/vm/max_map_count";
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&vec![1; 3 * page_size()]).unwrap();
    let mapping = FileMapping::new(&file).unwrap();
    let middle = Range::new(mapping.range().addr() as usize + page_size(), 1);
    let device = device();
    let normal = fs::read_to_string(MOST).unwrap();
    let maps = fs::read_to_string("/proc/self/maps").unwrap();

    fs::write(MOST, maps.lines().count().to_string()).unwrap();
    let result = device.lock().range(middle).run();
    fs::write(MOST, normal).unwrap();

    let error = result.unwrap_err();
    assert!(matches!(error.rule(), Rule::CannotSplit { .. }), "{error}");
    assert!(error.nothing_changed());
    assert!(!is_locked(mapping.range()));
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn the_device_may_be_another_or_none() {
    let rule = |path| Device::open_at(path).unwrap_err().rule().clone();
    let none = "/dev/none".into();
    assert_eq!(rule("/dev/none"), Rule::NoDevice { path: none });
    let null = "/dev/null".into();
    assert_eq!(rule("/dev/null"), Rule::NotTheDevice { path: null });
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn mlock_is_used_only_when_asked_for_and_only_without_the_device() {
    assert!(Device::open_or_mlock().fallback().is_none());

    let away = format!("{DEVICE}.away");
    fs::rename(DEVICE, &away).unwrap();
    let (strict, lenient) = (Device::open(), Device::open_or_mlock());
    fs::rename(&away, DEVICE).unwrap();

    let path = DEVICE.into();
    assert_eq!(*strict.unwrap_err().rule(), Rule::NoDevice { path });
    assert!(lenient.fallback().is_some());
    let before = vmlck();
    let vec = LockedVec::from_slice(&lenient, b"secret").unwrap();
    assert!(is_locked(vec.range()));
    assert!(vmlck() > before);
    assert_eq!(
        *lenient.query(vec.range()).unwrap_err().rule(),
        Rule::NeedsModule
    );
    let region = LockedRegion::new(&lenient, vec![0u8; page_size()]).unwrap();
    let locked = vmlck();
    drop(region);
    assert!(vmlck() < locked);
}

/// Whether the module has it; one that has not must say so instead of doing something else.
fn has(feature: u32) -> bool {
    device().abi().unwrap().has(feature)
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn workers_help_if_there_are_any() {
    let mut pages = Pages::new(8192);
    let range = Range::of(pages.get());
    let device = device();
    let (bytes, helpers) = (
        Some(range.len()),
        u32::from(has(uapi::MLOCK_RS_FEATURE_WORKERS)),
    );

    let done = device.lock().range(range).workers(1).run().unwrap();
    assert_eq!((done.populated, done.helpers), (bytes, Some(0)));
    device.unlock().range(range).run().unwrap();

    // Other pages: these are there.
    let mut pages = Pages::new(8192);
    let range = Range::of(pages.get());
    let done = device.lock().range(range).workers(2).run().unwrap();
    assert_eq!((done.populated, done.helpers), (bytes, Some(helpers)));
    assert!(device.query(range).unwrap().locked_resident);

    // Two ranges go another way.
    let mut pages = Pages::new(8192);
    let (start, half) = (pages.get().as_ptr().addr(), 4096 * page_size());
    let both = [start, start + half].map(|addr| Range::new(addr, half - page_size()));
    let done = device.lock().ranges(both).workers(2).run().unwrap();
    assert_eq!(done.populated, Some(2 * both[0].len()));
    assert_eq!(done.helpers, Some(helpers));

    let error = device.lock().range(range).workers(65).run().unwrap_err();
    assert_eq!(*error.rule(), Rule::TooManyWorkers { most: 64 });
    assert!(error.nothing_changed());
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn yielding_gives_up_the_lock_now_and_then() {
    // Enough to be at work when a busy host runs the other thread.
    let mut pages = Pages::new(32768);
    let range = Range::of(pages.get());
    let device = device();
    let lock = || device.lock().range(range).workers(1);
    if !has(uapi::MLOCK_RS_FEATURE_YIELD) {
        let rule = Rule::NotSupported { what: "YIELD" };
        assert_eq!(*lock().yielding().run().unwrap_err().rule(), rule);
        assert!(!is_locked(range));
        return;
    }
    let slice = Duration::from_micros(1);
    // Only if somebody waits for it.
    let done = thread::scope(|scope| {
        let call = scope.spawn(|| lock().yielding_every(slice).run().unwrap());
        while !call.is_finished() {
            drop(FileMapping::open("/proc/self/exe").unwrap());
        }
        call.join().unwrap()
    });
    assert_eq!(done.populated, Some(range.len()));
    assert!(done.gaps > Some(0), "{done:?}");
    assert!(device.query(range).unwrap().locked_resident);

    let done = lock().run().unwrap();
    assert_eq!(done.gaps, Some(0), "strict");
    let error = lock().yielding_every(Duration::from_secs(2)).run();
    assert_eq!(*error.unwrap_err().rule(), Rule::BadSlice);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn what_others_change_meanwhile_makes_a_yielding_call_fail() {
    if !has(uapi::MLOCK_RS_FEATURE_YIELD) {
        return;
    }
    let mut pages = Pages::new(65536);
    let range = Range::of(pages.get());
    let last = Range::new(
        (range.addr() + range.len()) as usize - page_size(),
        page_size(),
    );
    let device = device();
    let slice = Duration::from_micros(1);
    let result = thread::scope(|scope| {
        let lock = device.lock().range(range).workers(1).yielding_every(slice);
        let call = scope.spawn(move || lock.run());
        while device.progress().unwrap().populated == 0 && !call.is_finished() {}
        // Gets in between, because the call yields; the page is locked, and not yet there.
        device.unlock().range(last).run().unwrap();
        call.join().unwrap()
    });
    let error = result.unwrap_err();
    assert!(matches!(error.rule(), Rule::Changed { .. }), "{error}");
    assert!(!error.nothing_changed());
    device.unlock().range(range).run().unwrap();
}

/// Has a handler, so that the signal interrupts, and does not end the process.
fn with_a_handler() -> signal_hook::SigId {
    let flag = std::sync::Arc::new(std::sync::atomic::AtomicBool::new(false));
    signal_hook::flag::register(signal_hook::consts::SIGUSR1, flag).unwrap()
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn a_signal_ends_an_interruptible_call_and_says_where_to_go_on() {
    let device = device();
    let mut pages = Pages::new(65536);
    let range = Range::of(pages.get());
    let lock = || device.lock().range(range).workers(1).interruptible();
    if !has(uapi::MLOCK_RS_FEATURE_INTERRUPTIBLE) {
        let what = "INTERRUPTIBLE";
        assert_eq!(
            *lock().run().unwrap_err().rule(),
            Rule::NotSupported { what }
        );
        return;
    }
    let id = with_a_handler();
    let result = thread::scope(|scope| {
        let (tell, told) = std::sync::mpsc::channel();
        let lock = lock();
        let call = scope.spawn(move || {
            tell.send(rustix::thread::gettid()).unwrap();
            lock.run()
        });
        let thread = told.recv().unwrap();
        while device.progress().unwrap().populated == 0 && !call.is_finished() {}
        let (group, signal) = (rustix::process::getpid(), signal_hook::consts::SIGUSR1);
        // SAFETY: there is a handler.
        unsafe {
            libc::syscall(
                libc::SYS_tgkill,
                group.as_raw_pid(),
                thread.as_raw_pid(),
                signal,
            )
        };
        call.join().unwrap()
    });
    signal_hook::low_level::unregister(id);

    let error = result.unwrap_err();
    let &Rule::Interrupted { addr, populated } = error.rule() else {
        panic!("{error}");
    };
    assert!(populated < range.len());
    assert_eq!(addr, range.addr() + populated);
    assert!(!error.nothing_changed());
    let rest = Range::new(addr as usize, (range.len() - populated) as usize);
    device.lock().range(rest).run().unwrap();
    assert!(device.query(range).unwrap().locked_resident);
}

#[test]
#[ignore = "needs the module: tools/user-tests"]
fn progress_is_told_while_a_call_runs() {
    let device = device();
    if !has(uapi::MLOCK_RS_FEATURE_PROGRESS) {
        let what = "PROGRESS";
        let error = device.progress().unwrap_err();
        assert_eq!(*error.rule(), Rule::NotSupported { what });
        return;
    }
    let mut pages = Pages::new(65536);
    let range = Range::of(pages.get());
    // Room from the start: to map more would have to wait for the mmap lock until the call ends.
    let mut seen = Vec::with_capacity(1 << 20);
    thread::scope(|scope| {
        let lock = device.lock().range(range);
        let call = scope.spawn(move || lock.run());
        while !call.is_finished() && seen.len() < seen.capacity() {
            seen.push(device.progress().unwrap());
        }
        call.join().unwrap().unwrap();
    });
    let during: Vec<_> = seen.iter().filter(|state| state.calls == 1).collect();
    assert!(during.iter().any(|state| state.wanted == range.len()));
    assert!(during.iter().all(|state| state.populated <= state.wanted));
    assert!(during.is_sorted_by_key(|state| state.populated));
    let on_its_way = during
        .iter()
        .any(|state| 0 < state.populated && state.populated < state.wanted);
    assert!(on_its_way, "{} answers", during.len());
    let after = device.progress().unwrap();
    assert_eq!((after.calls, after.wanted), (0, 0));
}
