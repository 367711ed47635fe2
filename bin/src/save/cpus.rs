//! How many CPUs we may use: those of our affinity, and no more than any control group's quota.

use core::ffi::CStr;

use emissary_core::cpus::{self, Group};
use emissary_core::limits::PATH_BYTES;

use crate::pod::template::read_file;

/// CPUs of our affinity mask and of the quotas above us, at least one.
pub(crate) fn available() -> usize {
    let affinity = rustix::thread::sched_getaffinity(None).map_or(1, |set| set.count());
    let mut least = affinity;
    // Without /proc, or without any group: no quota.
    if let Ok(text) = read_file(c"/proc/self/cgroup") {
        for group in cpus::groups(&text) {
            each_quota(group, &mut |quota| least = least.min(quota));
        }
    }
    usize::try_from(least.max(1)).unwrap_or(1)
}

/// The quotas of a group and of those it lies in. Within a container the path may be the host's, of which only the top is there.
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
