//! Finds events by a label.

use std::sync::LazyLock;

use ringback_model::{AppId, EventId};
use ringback_store::StoreError;

use crate::{
    failure::failed,
    kept::{first_of_days, in_kept},
    transaction::Tx,
};

/// Events with a label, newest first, with their applications.
///
/// - `app`: `None` asks each application.
/// - `from`, `to`: the first and the last that count.
pub(crate) async fn events_with(
    tx: &mut Tx,
    app: Option<AppId>,
    (name, value): &(String, String),
    (from, to): (EventId, EventId),
    limit: usize,
) -> Result<Vec<(EventId, AppId)>, StoreError> {
    static OF_APP_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(OF_APP));
    static OF_EACH_APP_IN_KEPT: LazyLock<String> = LazyLock::new(|| in_kept(OF_EACH_APP));
    let (of_days, in_kept) = match app {
        Some(_) => (OF_APP, OF_APP_IN_KEPT.as_str()),
        None => (OF_EACH_APP, OF_EACH_APP_IN_KEPT.as_str()),
    };
    let first = first_of_days(&mut **tx).await?;
    // What outlives its day is older than all days, so it comes behind them.
    let last_kept = EventId::new(first.get() - 1);
    let mut rows: Vec<(i64, i64)> = Vec::new();
    for (sql, from, to) in [
        (of_days, from.max(first), to),
        (in_kept, from, to.min(last_kept)),
    ] {
        if from > to || rows.len() >= limit {
            continue;
        }
        let found: Vec<(i64, i64)> = sqlx::query_as(sql)
            .bind(name)
            .bind(value)
            .bind(from.get())
            .bind(to.get())
            .bind(i64::try_from(limit - rows.len()).unwrap_or(i64::MAX))
            .bind(app.map(AppId::get))
            .fetch_all(&mut **tx)
            .await
            .map_err(failed)?;
        rows.extend(found);
    }
    Ok(rows
        .into_iter()
        .map(|(event, app)| (EventId::new(event), AppId::new(app)))
        .collect())
}

const OF_APP: &str = r#"
    select event_id, app_id from ringback.event_labels
    where app_id = $6 and name = $1 and value = $2 and event_id >= $3 and event_id <= $4
    order by event_id desc limit $5
"#;

const OF_EACH_APP: &str = r#"
    select l.event_id, l.app_id
    from ringback.apps a
    cross join lateral (
        select event_id, app_id from ringback.event_labels
        where app_id = a.id and name = $1 and value = $2 and event_id >= $3 and event_id <= $4
        order by event_id desc limit $5
    ) l
    where $6::int8 is null
    order by l.event_id desc limit $5
"#;
