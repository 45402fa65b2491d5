use super::*;

const APP: AppId = AppId::new(1);
const OTHER: AppId = AppId::new(2);

fn at(seconds: i64) -> DateTime<Utc> {
    DateTime::from_timestamp(1_767_603_600 + seconds, 0).unwrap()
}

fn pending(limit: u64) -> Quotas {
    Quotas {
        pending_deliveries: Some(limit),
        ..Quotas::default()
    }
}

fn bytes(limit: u64) -> Quotas {
    Quotas {
        stored_bytes: Some(limit),
        ..Quotas::default()
    }
}

fn demand(app: AppId, events: u32, deliveries: u64, bytes: u64) -> BTreeMap<AppId, Demand> {
    let demand = Demand {
        events,
        deliveries,
        bytes,
        index: 0,
    };
    [(app, demand)].into()
}

/// With one application's quotas; its figures were read as these.
fn ledger(own: Quotas, present: u64) -> Ledger {
    let mut ledger = Ledger::new(Quotas::default());
    let wanted = ledger.learn(&[APP], &[(APP, own)], at(0));
    for wanted in wanted {
        read(&mut ledger, wanted, present);
    }
    ledger
}

fn read(ledger: &mut Ledger, wanted: Wanted, present: u64) {
    ledger.read(Figures {
        wanted,
        pending: wanted.pending_up_to.map(|_| present),
        bytes: wanted.bytes.then_some(present),
    });
}

/// Reserves, counts as accepted, and releases.
fn bring(ledger: &mut Ledger, deliveries: u64, bytes: u64) -> Result<(), u64> {
    let demand = demand(APP, 1, deliveries, bytes);
    match ledger.reserve(&demand, at(0)) {
        Ok(_) => {
            ledger.accepted(APP, at(0).date_naive(), deliveries, bytes);
            ledger.release(&demand);
            Ok(())
        }
        Err(refusal) => {
            let digits = refusal.detail.rsplit(' ').next().unwrap();
            Err(digits.parse().unwrap())
        }
    }
}

#[test]
fn what_comes_below_the_limit_passes_whole() {
    let mut ledger = ledger(pending(10), 8);
    assert_eq!(bring(&mut ledger, 1, 0), Ok(()));
    assert_eq!(bring(&mut ledger, 500, 0), Ok(())); // one request beyond
    assert_eq!(bring(&mut ledger, 1, 0), Err(509));
    assert_eq!(bring(&mut ledger, 0, 9), Ok(())); // makes none pending
}

#[test]
fn what_is_under_way_counts_until_it_is_not_accepted() {
    let mut ledger = ledger(pending(10), 0);
    let first = demand(APP, 1, 10, 0);
    ledger.reserve(&first, at(0)).unwrap();
    assert_eq!(bring(&mut ledger, 1, 0), Err(10));
    ledger.release(&first);
    assert_eq!(bring(&mut ledger, 1, 0), Ok(()));
}

#[test]
fn what_comes_while_it_is_read_is_counted_once() {
    let mut ledger = ledger(pending(100), 0);
    bring(&mut ledger, 40, 0).unwrap();
    let wanted = ledger.wanted(APP).unwrap();
    bring(&mut ledger, 5, 0).unwrap();
    read(&mut ledger, wanted, 30); // ten of the forty were delivered
    bring(&mut ledger, 100, 0).unwrap();
    assert_eq!(bring(&mut ledger, 1, 0), Err(135));
}

#[test]
fn bytes_count_before_and_after_they_are_in_the_sum() {
    let mut ledger = ledger(bytes(100), 0);
    bring(&mut ledger, 0, 60).unwrap();
    let flushed = ledger.unflushed();
    assert_eq!(
        flushed.iter().map(|one| one.bytes).collect::<Vec<_>>(),
        [60]
    );
    bring(&mut ledger, 0, 7).unwrap(); // while they are added
    ledger.flushed(&flushed);
    let wanted = ledger.wanted(APP).unwrap();
    read(&mut ledger, wanted, 60);
    bring(&mut ledger, 0, 50).unwrap();
    assert_eq!(bring(&mut ledger, 0, 1), Err(117));
    let left: u64 = ledger.unflushed().iter().map(|one| one.bytes).sum();
    assert_eq!(left, 57);
}

#[test]
fn a_request_passes_by_all_its_applications_rates_or_takes_of_none() {
    let mut ledger = Ledger::new(Quotas {
        events_per_s: Some(1.0),
        ..Quotas::default()
    });
    ledger.learn(
        &[APP, OTHER],
        &[(APP, Quotas::default()), (OTHER, Quotas::default())],
        at(0),
    );
    ledger.pay(&demand(OTHER, 2, 0, 0), at(0)).unwrap();
    let mut both = demand(APP, 2, 0, 0);
    both.extend(demand(OTHER, 2, 0, 0));
    let refusal = ledger.pay(&both, at(0)).unwrap_err();
    assert_eq!(refusal.retry_after.as_secs(), 2);
    ledger.pay(&demand(APP, 2, 0, 0), at(0)).unwrap();
    ledger.pay(&both, at(2)).unwrap();
}

#[test]
fn own_quotas_outrank_the_operators_and_end_with_the_application() {
    let mut ledger = Ledger::new(pending(1));
    assert_eq!(ledger.unknown([APP].into_iter()), [APP]);
    for (own, expected) in [
        (Some(Quotas::default()), Some(2)),
        (Some(pending(7)), Some(8)),
        (None, None), // it is gone
    ] {
        let own: Vec<_> = own.map(|own| (APP, own)).into_iter().collect();
        let wanted = ledger.learn(&[APP], &own, at(0));
        let up_to = wanted.first().and_then(|wanted| wanted.pending_up_to);
        assert_eq!(up_to, expected);
    }
    assert!(ledger.unknown([APP].into_iter()).is_empty());
    ledger.changed(APP);
    assert_eq!(ledger.unknown([APP].into_iter()), [APP]);
}

#[test]
fn an_application_is_known_only_when_its_figures_are() {
    let mut ledger = Ledger::new(pending(1));
    let wanted = ledger.learn(&[APP], &[(APP, Quotas::default())], at(0));
    assert_eq!(ledger.unknown([APP].into_iter()), [APP]);
    read(&mut ledger, wanted[0], 0);
    assert!(ledger.unknown([APP].into_iter()).is_empty());
}

#[test]
fn only_what_something_came_for_is_read_again() {
    let mut ledger = ledger(pending(10), 0);
    assert!(ledger.due().is_empty());
    bring(&mut ledger, 1, 0).unwrap();
    assert_eq!((ledger.due(), ledger.urgent().len()), (vec![APP], 0));
    bring(&mut ledger, 4, 0).unwrap();
    let urgent = ledger.urgent();
    assert_eq!(urgent.len(), 1); // half of its quota
    read(&mut ledger, urgent[0], 2);
    assert!(ledger.due().is_empty() && ledger.urgent().is_empty());
    bring(&mut ledger, 10, 0).unwrap();
    let urgent = ledger.urgent();
    read(&mut ledger, urgent[0], 11);
    assert_eq!(
        ledger.due(),
        [APP],
        "it is refused: it must learn when it is not"
    );
}

#[test]
fn what_is_idle_is_forgotten_but_not_what_it_owes() {
    let own = Quotas {
        events_per_s: Some(1.0),
        ..pending(10)
    };
    let mut ledger = ledger(own, 0);
    let demand = demand(APP, 1_000, 1, 1);
    ledger.pay(&demand, at(0)).unwrap();
    ledger.reserve(&demand, at(0)).unwrap();
    ledger.tidy(at(2_000));
    assert_eq!(ledger.accounts.len(), 1, "something is under way");
    ledger.release(&demand);
    ledger.tidy(at(900));
    assert_eq!(ledger.accounts.len(), 1, "it has not paid back");
    ledger.tidy(at(1_000));
    assert!(ledger.accounts.is_empty());
}
