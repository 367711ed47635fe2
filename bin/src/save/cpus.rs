//! Counts the CPUs that this process may use (sched_getaffinity(2), cgroups(7)).
//!
//! Enters: the process's affinity mask and the quotas of its control groups, v1 and v2. Leaves: a number, at least 1 and at most the lowest quota.
//! Refuses nothing: a missing file means that there is no quota.

use core::ffi::CStr;

use emissary_core::cpus::{self, Group};
use emissary_core::limits::PATH_BYTES;

use crate::pod::template::read_file;

/// Returns the number of CPUs in our affinity mask, reduced to the lowest quota above us; at least 1.
pub(crate) fn available() -> usize {
    let affinity = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let mut least = affinity;
    // Without /proc or without control groups there is no quota.
    if let Ok(text) = read_file(c"/proc/self/cgroup") {
        for group in cpus::groups(&text) {
            each_quota(group, &mut |quota| least = least.min(quota));
        }
    }
    usize::try_from(least.max(1)).unwrap_or(1)
}

/// Reports the quota of a group and of each group above it. Inside a container the path may be the host's; then only its top exists here.
fn each_quota(group: Group<'_>, found: &mut dyn FnMut(u32)) {
    let (mount, path): (&[u8], _) = match group {
        Group::V2(path) => (b"/sys/fs/cgroup", path),
        Group::V1(path) => (b"/sys/fs/cgroup/cpu", path),
    };
    let mut path = path;
    loop {
        path = path.strip_suffix(b"/").unwrap_or(path);
        let read = |name: &[u8]| {
            let mut room = [0; PATH_BYTES];
            let mut out = emissary_core::buf::Writer::new(&mut room);
            out.bytes(mount).bytes(path).bytes(name).byte(0);
            let path = out.finish().ok()?;
            read_file(CStr::from_bytes_with_nul(path).ok()?).ok()
        };
        let quota = match group {
            Group::V2(_) => read(b"/cpu.max").and_then(|text| cpus::from_cpu_max(&text)),
            Group::V1(_) => read(b"/cpu.cfs_quota_us")
                .and_then(|quota| read(b"/cpu.cfs_period_us").and_then(|period| cpus::from_quota(&quota, &period))),
        };
        if let Some(quota) = quota {
            found(quota);
        }
        match path.iter().rposition(|&byte| byte == b'/') {
            Some(slash) => path = &path[..slash],
            None => return,
        }
    }
}
