//! What processes have used, as Linux says in `/proc`.

use std::{fs, time::Duration};

/// Linux tells processes' times in hundredths of a second, on every machine.
const TICKS_PER_SECOND: u64 = 100;

/// The processes to measure.
#[derive(Clone, Debug, Default)]
pub struct Processes {
    /// The service's.
    pub service: Vec<u32>,
    /// PostgreSQL's first, whose children do the work.
    pub postmaster: Option<u32>,
}

impl Processes {
    /// CPU time so far: of the service, and of PostgreSQL with all the children that it
    /// has or had.
    ///
    /// # Panics
    ///
    /// If one of the processes is not there.
    pub fn cpu(&self) -> (Duration, Duration) {
        let service = self
            .service
            .iter()
            .map(|&pid| Stat::of(pid).unwrap().own)
            .sum();
        let database = self.postmaster.map_or(0, |pid| {
            let postmaster = Stat::of(pid).unwrap();
            postmaster.own + postmaster.gone_children + children(pid)
        });
        (time(service), time(database))
    }

    /// Resident memory of the service.
    pub fn memory_bytes(&self) -> u64 {
        self.service.iter().map(|&pid| resident_bytes(pid)).sum()
    }
}

/// Times in ticks, from `/proc/{pid}/stat`: see proc(5).
struct Stat {
    parent: u32,
    own: u64,
    gone_children: u64,
}

impl Stat {
    /// `None` if there is no such process.
    fn of(pid: u32) -> Option<Self> {
        let text = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
        // The name, in parentheses, may hold anything; field 3 follows it.
        let (_, rest) = text.rsplit_once(") ")?;
        let fields: Vec<u64> = rest
            .split(' ')
            .map(|field| field.trim().parse().unwrap_or_default())
            .collect();
        let field = |number: usize| fields.get(number - 3).copied();
        Some(Self {
            parent: u32::try_from(field(4)?).ok()?,
            own: field(14)? + field(15)?,
            gone_children: field(16)? + field(17)?,
        })
    }
}

fn children(parent: u32) -> u64 {
    let entries = fs::read_dir("/proc").unwrap();
    let pids = entries.filter_map(|entry| entry.ok()?.file_name().to_str()?.parse().ok());
    pids.filter_map(Stat::of)
        .filter(|stat| stat.parent == parent)
        .map(|stat| stat.own)
        .sum()
}

fn resident_bytes(pid: u32) -> u64 {
    let text = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    let line = text.lines().find_map(|line| line.strip_prefix("VmRSS:"));
    let kib = line.and_then(|line| line.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or_default() * 1024
}

fn time(ticks: u64) -> Duration {
    Duration::from_millis(ticks * 1000 / TICKS_PER_SECOND)
}
