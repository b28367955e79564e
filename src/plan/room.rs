//! How much memory can be had, and whether a run fits into it.
//!
//! The system's own accounts are read line by line here. The crate `procfs` refuses a whole account that lacks one of its lines, as
//! sandboxes leave some out, and `sysinfo` does not look at the control groups around that of the process: with either, a limit would
//! be passed over without a word.

use std::path::Path;

use burn::tensor::Device;
use faults::Fault;

use super::memory::Memory;
use super::print;

/// Where the system shows what groups of processes may have.
const GROUPS: &str = "/sys/fs/cgroup";

/// Above any memory: what version 1 of control groups has for no limit, less a page.
const NO_LIMIT: u64 = 1 << 62;

/// Bytes that this process can have without swapping, those that it holds already among them; of a GPU, all that it has.
/// `None` where the system does not say.
pub fn available(device: &Device) -> Option<u64> {
    if backbone::device::has_own_memory(device) {
        return device.memory_capacity();
    }
    let free = memory("MemAvailable:").map(|free| free + resident().unwrap_or(0));
    [free, limit().map(|limit| limit.bytes)].into_iter().flatten().min()
}

/// Whether a run fits; a warning where it would have to swap.
///
/// # Errors
/// It needs more than can be had.
pub fn room(needed: &Memory, device: &Device) -> Result<Option<String>, Fault> {
    let (needed, available) = (needed.peak(), available(device));
    let about = format!("the run needs about {} of memory", print::bytes(needed));
    let Some(available) = available.filter(|available| needed > *available) else { return Ok(None) };
    let can_be_had = print::bytes(available);
    if backbone::device::has_own_memory(device) {
        // The estimate for a GPU has not been measured: only where half of it does not fit is the run refused.
        let message = format!("{about}, and this GPU has {can_be_had}");
        return if needed / 2 > available { Err(Fault::new(message)) } else { Ok(Some(message)) };
    }
    let swap = memory("SwapFree:").unwrap_or(0);
    match limit() {
        Some(limit) if needed > limit.bytes => {
            let (limit, whose) = (print::bytes(limit.bytes), limit.whose);
            Err(Fault::new(format!("{about}, and this process may have {limit}: the limit of its {whose}")))
        }
        _ if needed > available + swap => Err(Fault::new(format!("{about}, and {can_be_had} can be had"))),
        _ => Ok(Some(format!("{about}, and {can_be_had} can be had without swapping, which makes it very slow"))),
    }
}

/// Bytes that this process holds; `None` where the system does not say.
pub fn resident() -> Option<u64> {
    line_of(Path::new("/proc/self/status"), "VmRSS:")
}

/// A line of the system's account of its memory, in bytes; `None` where it keeps none.
fn memory(line: &str) -> Option<u64> {
    line_of(Path::new("/proc/meminfo"), line)
}

fn line_of(path: &Path, line: &str) -> Option<u64> {
    let text = fs_err::read_to_string(path).ok()?;
    let line = text.lines().find(|found| found.starts_with(line))?;
    line.split_whitespace().nth(1)?.parse::<u64>().ok()?.checked_mul(1024)
}

/// A limit on the memory of this process, whatever the machine has.
struct Limit {
    bytes: u64,
    whose: &'static str,
}

/// The smallest of what its control groups and its address space leave it.
fn limit() -> Option<Limit> {
    let groups = of_control_groups().map(|bytes| Limit { bytes, whose: "control group" });
    // Whatever is held in memory has an address, so that this is a bound of it.
    let space = of_address_space().map(|bytes| Limit { bytes, whose: "address space (`ulimit -v`)" });
    [groups, space].into_iter().flatten().min_by_key(|limit| limit.bytes)
}

/// `RLIMIT_AS`.
#[cfg(unix)]
fn of_address_space() -> Option<u64> {
    rustix::process::getrlimit(rustix::process::Resource::As).current
}

#[cfg(not(unix))]
fn of_address_space() -> Option<u64> {
    None
}

/// As a container or a batch system sets it.
fn of_control_groups() -> Option<u64> {
    let account = fs_err::read_to_string("/proc/self/cgroup").ok()?;
    smallest_limit(Path::new(GROUPS), &account)
}

/// The smallest limit of a group and of those around it, in either version of control groups: `account` has a line
/// `number:controllers:path` for each tree that the process is in, without a controller in version 2. Inside of a
/// container the path may be one of the machine outside, and what is shown at the root is the container's own.
fn smallest_limit(root: &Path, account: &str) -> Option<u64> {
    let limits = account.lines().filter_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        let (tree, name) = match controllers {
            "" => (root.to_owned(), "memory.max"),
            _ => (root.join("memory"), "memory.limit_in_bytes"),
        };
        let concerned = controllers.is_empty() || controllers.split(',').any(|controller| controller == "memory");
        let path = Path::new(path.trim_start_matches('/'));
        let groups = path.ancestors().map(move |group| tree.join(group).join(name)).filter(move |_| concerned);
        // Without a limit the one has the word `max`, the other a number above any memory.
        let limits = groups.filter_map(|file| fs_err::read_to_string(file).ok()?.trim().parse::<u64>().ok());
        limits.filter(|limit| *limit < NO_LIMIT).min()
    });
    limits.min()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn group(root: &Path, path: &str, file: &str, limit: &str) {
        let folder = root.join(path);
        std::fs::create_dir_all(&folder).unwrap();
        std::fs::write(folder.join(file), format!("{limit}\n")).unwrap();
    }

    #[test]
    fn the_smallest_limit_around_a_process_counts_in_both_versions() {
        let root = tempfile::tempdir().unwrap();
        let root = root.path();
        group(root, "batch", "memory.max", "7000");
        group(root, "batch/job", "memory.max", "max");
        group(root, "memory/batch", "memory.limit_in_bytes", "9223372036854771712");
        group(root, "memory/batch/job", "memory.limit_in_bytes", "6000");
        group(root, "memory/other", "memory.limit_in_bytes", "1");
        group(root, "other", "memory.max", "1");
        assert_eq!(smallest_limit(root, "0::/batch/job\n"), Some(7000));
        assert_eq!(smallest_limit(root, "12:cpu,cpuacct:/other\n9:memory:/batch/job\n"), Some(6000));
        assert_eq!(smallest_limit(root, "9:memory:/batch/job\n0::/batch/job\n"), Some(6000));
        // Of a container that does not see the path it has outside: the root is its own.
        group(root, "", "memory.max", "5000");
        assert_eq!(smallest_limit(root, "0::/machine.slice/it\n"), Some(5000));
        assert_eq!(smallest_limit(root, "9:memory:/batch\n"), None);
        assert_eq!(smallest_limit(root, "3:pids:/batch\n"), None);
        assert_eq!(smallest_limit(root, "nonsense"), None);
    }

    #[test]
    fn what_cannot_be_had_is_refused() {
        let of = |weights: u64| Memory { weights, optimizer: 0, activations: 0, program: 1, loading: 0 };
        let device = Device::flex();
        assert_eq!(room(&of(1 << 20), &device).unwrap(), None);
        let fault = room(&of(1 << 60), &device).unwrap_err();
        assert!(fault.message.starts_with("the run needs about 1073741824.0 GiB of memory, and "), "{}", fault.message);
    }
}
