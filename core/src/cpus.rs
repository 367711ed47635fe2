//! The number of CPUs that the control groups of a container allow (cgroups(7); the kernel's cgroup-v2.rst and sched-bwc.rst).
//!
//! Enters: `/proc/self/cgroup`, and a group's quota files. Leaves: the groups' paths, and a number of CPUs, rounded up. Refuses: nothing. A file that
//! sets no limit, or that cannot be parsed, counts as «no limit».

/// A control group that can limit CPUs, by its path in its hierarchy.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Group<'a> {
    /// A group of the unified hierarchy. Its limit is in `cpu.max`.
    V2(&'a [u8]),
    /// A group of version 1's controller `cpu`. Its limit is in `cpu.cfs_quota_us` and `cpu.cfs_period_us`.
    V1(&'a [u8]),
}

/// The groups in `/proc/self/cgroup` that can limit CPUs. Each line of that file is `ID:CONTROLLERS:PATH`.
pub fn groups(text: &[u8]) -> impl Iterator<Item = Group<'_>> {
    text.split(|&byte| byte == b'\n').filter_map(|line| {
        let mut fields = line.splitn(3, |&byte| byte == b':');
        let (id, controllers, path) = (fields.next()?, fields.next()?, fields.next()?);
        match (id, controllers) {
            (b"0", b"") => Some(Group::V2(path)),
            _ if controllers.split(|&byte| byte == b',').any(|name| name == b"cpu") => Some(Group::V1(path)),
            _ => None,
        }
    })
}

/// CPUs that `cpu.max` allows: `QUOTA PERIOD` in microseconds, or `max PERIOD` for no limit. `None` for no limit.
#[must_use]
pub fn from_cpu_max(text: &[u8]) -> Option<u32> {
    let mut fields = text.trim_ascii().split(|&byte| byte == b' ');
    let quota = fields.next()?;
    from_quota(quota, fields.next().unwrap_or(b"100000"))
}

/// CPUs that the two files of version 1 allow, both in microseconds. A quota of -1 sets no limit. `None` for no limit.
#[must_use]
pub fn from_quota(quota: &[u8], period: &[u8]) -> Option<u32> {
    let number = |text: &[u8]| core::str::from_utf8(text.trim_ascii()).ok()?.parse::<u64>().ok().filter(|&number| number > 0);
    let (quota, period) = (number(quota)?, number(period)?);
    // A part of a CPU counts as one. `div_ceil` would add a panic for a divisor of zero: the compiler cannot see that `period` is not zero.
    let cpus = quota.saturating_sub(1).checked_div(period)?.saturating_add(1);
    Some(u32::try_from(cpus).unwrap_or(u32::MAX))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::vec::Vec;

    #[test]
    fn groups_of_both_versions() {
        let text = b"12:pids:/a\n5:cpu,cpuacct:/docker/4f\n1:name=systemd:/x\n0::/system.slice/a:b\n";
        assert_eq!(groups(text).collect::<Vec<_>>(), [Group::V1(b"/docker/4f"), Group::V2(b"/system.slice/a:b")]);
        assert_eq!(groups(b"0::/\n").collect::<Vec<_>>(), [Group::V2(b"/")]);
        assert_eq!(groups(b"3:cpuset:/\n:\n0:\n\n4:cpuacct:/q").count(), 0);
    }

    #[test]
    fn quotas() {
        for (text, want) in [
            (&b"max 100000\n"[..], None),
            (b"100000 100000\n", Some(1)),
            (b"50000 100000", Some(1)),
            (b"100001 100000", Some(2)),
            (b"150000 100000", Some(2)),
            (b"400000 100000", Some(4)),
            (b"200000", Some(2)),
            (b"99999999999999999999 100000", None),
            (b"18446744073709551615 1", Some(u32::MAX)),
            (b"0 100000", None),
            (b"100000 0", None),
            (b"-1 100000", None),
            (b"", None),
            (b"a b", None),
            (b"\xff 1", None),
        ] {
            assert_eq!(from_cpu_max(text), want, "{text:?}");
        }
        assert_eq!(from_quota(b"-1\n", b"100000\n"), None);
        assert_eq!(from_quota(b"250000\n", b"100000\n"), Some(3));
    }
}
