//! What the kernel says of this process, under the names that every Prometheus client
//! uses. Read when it is asked for; where there is no `/proc`, nothing is shown.

use std::{fmt, fs};

use prometheus_client::{
    collector::Collector,
    encoding::{DescriptorEncoder, EncodeMetric},
    metrics::{counter::ConstCounter, gauge::ConstGauge},
    registry::Registry,
};

/// In which `/proc` counts time: Linux promises it to programs on every architecture
/// that Rust runs on, whatever the kernel's own clock does.
const TICKS_PER_SECOND: f64 = 100.0;

pub(crate) fn register(registry: &mut Registry) {
    registry.register_collector(Box::new(Process));
}

#[derive(Debug)]
struct Process;

impl Collector for Process {
    fn encode(&self, mut encoder: DescriptorEncoder<'_>) -> fmt::Result {
        let Some(usage) = Usage::now() else {
            return Ok(());
        };
        counter(
            &mut encoder,
            "process_cpu_seconds",
            "Processor time that was used",
            usage.cpu_seconds,
        )?;
        for (name, help, value) in [
            (
                "process_resident_memory_bytes",
                "Memory in use",
                usage.resident_bytes,
            ),
            (
                "process_virtual_memory_bytes",
                "Address space in use",
                usage.virtual_bytes,
            ),
            ("process_open_fds", "Open file descriptors", usage.open_fds),
            (
                "process_max_fds",
                "The most file descriptors that may be open",
                usage.max_fds,
            ),
            ("process_threads", "Threads", usage.threads),
            (
                "process_start_time_seconds",
                "When the process began, in Unix time",
                usage.start_seconds,
            ),
        ] {
            gauge(&mut encoder, name, help, value)?;
        }
        Ok(())
    }
}

fn counter(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstCounter::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

fn gauge(encoder: &mut DescriptorEncoder<'_>, name: &str, help: &str, value: f64) -> fmt::Result {
    let metric = ConstGauge::new(value);
    metric.encode(encoder.encode_descriptor(name, help, None, metric.metric_type())?)
}

#[derive(Clone, Copy, Debug, PartialEq)]
struct Usage {
    cpu_seconds: f64,
    resident_bytes: f64,
    virtual_bytes: f64,
    open_fds: f64,
    max_fds: f64,
    threads: f64,
    start_seconds: f64,
}

impl Usage {
    fn now() -> Option<Self> {
        let read = |path| fs::read_to_string(path).ok();
        let open_fds = fs::read_dir("/proc/self/fd").ok()?.count();
        Self::parse(
            &read("/proc/self/stat")?,
            &read("/proc/self/status")?,
            &read("/proc/self/limits")?,
            &read("/proc/stat")?,
            open_fds,
        )
    }

    /// - `stat`, `status`, `limits`: those of the process, see proc(5).
    /// - `machine`: `/proc/stat`.
    fn parse(
        stat: &str,
        status: &str,
        limits: &str,
        machine: &str,
        open_fds: usize,
    ) -> Option<Self> {
        // The second field is a name that may hold anything, in brackets.
        let (_, fields) = stat.rsplit_once(") ")?;
        let fields: Vec<&str> = fields.split(' ').collect();
        let ticks = |place: usize| number(fields.get(place - 3)?);
        let started = ticks(22)? / TICKS_PER_SECOND;
        let kib = |name| number(after(status, name)?).map(|kib| kib * 1024.0);
        Some(Self {
            cpu_seconds: (ticks(14)? + ticks(15)?) / TICKS_PER_SECOND,
            resident_bytes: kib("VmRSS:")?,
            virtual_bytes: kib("VmSize:")?,
            open_fds: open_fds as f64,
            max_fds: after(limits, "Max open files").map_or(f64::INFINITY, |text| {
                number(text).unwrap_or(f64::INFINITY) // "unlimited"
            }),
            threads: number(after(status, "Threads:")?)?,
            start_seconds: number(after(machine, "btime ")?)? + started,
        })
    }
}

/// The first word behind `name` at the beginning of a line.
fn after<'a>(text: &'a str, name: &str) -> Option<&'a str> {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line?.split_whitespace().next()
}

fn number(text: &str) -> Option<f64> {
    text.parse().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_the_kernel_says_is_understood() {
        let stat = "42 (a (name) b) S 1 42 42 0 -1 4194560 100 0 0 0 250 150 0 0 20 0 3 0 12345 \
                    1000000 256 18446744073709551615";
        let status = "Name:\ta\nVmSize:\t    2000 kB\nVmRSS:\t     100 kB\nThreads:\t3\n";
        let limits = "Limit                     Soft Limit           Hard Limit           Units\n\
                      Max open files            1024                 524288               files\n";
        let usage = Usage::parse(stat, status, limits, "cpu 1\nbtime 1767603600\n", 7);
        let expected = Usage {
            cpu_seconds: 4.0,
            resident_bytes: 102_400.0,
            virtual_bytes: 2_048_000.0,
            open_fds: 7.0,
            max_fds: 1024.0,
            threads: 3.0,
            start_seconds: 1_767_603_723.45,
        };
        assert_eq!(usage, Some(expected));
    }

    #[test]
    fn what_is_not_understood_is_not_shown() {
        assert_eq!(Usage::parse("42 a", "", "", "", 0), None);
    }

    #[cfg(target_os = "linux")]
    #[test]
    fn a_running_process_has_memory_and_files() {
        let usage = Usage::now().unwrap();
        assert!(usage.resident_bytes > 0.0 && usage.open_fds > 0.0 && usage.threads > 0.0);
    }
}
