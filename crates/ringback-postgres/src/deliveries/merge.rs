//! Merges what was found in several places into one page.

use std::cmp::Reverse;

use ringback_model::DeliveryId;
use ringback_store::{Delivery, Page};

/// What one place had.
#[derive(Debug)]
pub(super) struct Part {
    /// Newest first.
    pub(super) rows: Vec<Delivery>,
    /// Everything down to this pair was examined; `None`: everything there is.
    pub(super) down_to: Option<DeliveryId>,
}

/// Merges the parts, live ones before the settled ones, as far down as all of them
/// were examined.
pub(super) fn merge(parts: Vec<Part>, limit: usize) -> Page<Delivery, DeliveryId> {
    let floor = parts.iter().filter_map(|part| part.down_to).max();
    let rows = parts.into_iter().flat_map(|part| part.rows);
    let mut items: Vec<Delivery> = rows
        .filter(|row| floor.is_none_or(|floor| row.id >= floor))
        .collect();
    // Stable: of two rows of one delivery, the live one stays first.
    items.sort_by_key(|row| Reverse(row.id));
    items.dedup_by_key(|row| row.id);
    let mut next = floor;
    if items.len() > limit {
        items.truncate(limit);
        next = items.last().map(|row| row.id);
    }
    Page { items, next }
}

#[cfg(test)]
mod tests {
    use ringback_model::{AppId, DeliveryStatus, EventId, SubscriptionId};

    use super::*;

    fn id(event: i64, subscription: i64) -> DeliveryId {
        DeliveryId {
            event: EventId::new(event),
            subscription: SubscriptionId::new(subscription),
        }
    }

    fn part(ids: &[DeliveryId], status: DeliveryStatus, down_to: Option<DeliveryId>) -> Part {
        let row = |&id| Delivery {
            id,
            app: AppId::new(1),
            event_type: "order.paid".parse().unwrap(),
            status,
            attempts: 0,
            next_attempt_at: None,
            last_status_code: None,
            last_error: None,
            dead_reason: None,
            settled_at: None,
        };
        Part {
            rows: ids.iter().map(row).collect(),
            down_to,
        }
    }

    #[test]
    fn a_page_is_newest_first_and_a_live_row_outranks_a_settled_one() {
        let live = part(&[id(9, 1), id(7, 2)], DeliveryStatus::Retrying, None);
        let settled = part(&[id(9, 2), id(9, 1), id(1, 1)], DeliveryStatus::Dead, None);
        let page = merge(vec![live, settled], 10);
        let got: Vec<_> = page.items.iter().map(|row| (row.id, row.status)).collect();
        let expected = [
            (id(9, 2), DeliveryStatus::Dead),
            (id(9, 1), DeliveryStatus::Retrying),
            (id(7, 2), DeliveryStatus::Retrying),
            (id(1, 1), DeliveryStatus::Dead),
        ];
        assert_eq!(got, expected);
        assert_eq!(page.next, None);
    }

    #[test]
    fn a_page_ends_where_the_first_place_was_no_longer_examined() {
        let cut = part(&[id(9, 1)], DeliveryStatus::Pending, Some(id(6, 0)));
        let whole = part(&[id(8, 1), id(5, 1)], DeliveryStatus::Dead, None);
        let page = merge(vec![cut, whole], 10);
        assert_eq!(
            page.items.iter().map(|row| row.id).collect::<Vec<_>>(),
            [id(9, 1), id(8, 1)]
        );
        assert_eq!(page.next, Some(id(6, 0)));
    }

    #[test]
    fn a_full_page_goes_on_behind_its_last_row() {
        let rows = part(
            &[id(9, 1), id(8, 1), id(7, 1)],
            DeliveryStatus::Dead,
            Some(id(7, 1)),
        );
        let page = merge(vec![rows], 2);
        assert_eq!((page.items.len(), page.next), (2, Some(id(8, 1))));
    }
}
