//! What a delivery costs PostgreSQL: no update, hardly a statement, little of the log.

use std::time::Duration;

use ringback_testkit::{
    databases::PrivatePostgres,
    load::{self, Manner, Plan, Processes, Sink, ToldBy},
};
use sqlx::{Connection, PgConnection};

use crate::harness::{Server, eventually, server_address, undisturbed};

const EVENTS: u64 = 10_000;
const WARM_UP: u64 = 5_000;
/// Of all that the server ran meanwhile, per delivery.
const STATEMENTS: f64 = 0.05;
/// Per delivery.
const WAL_BYTES: f64 = 1_750.0;

#[tokio::test(flavor = "multi_thread")]
async fn a_delivery_costs_no_update_few_statements_and_little_of_the_log() {
    let _undisturbed = undisturbed().await;
    let cluster = PrivatePostgres::start();
    let mut observer = Observer::of(&cluster).await;
    let server = Server::spawn(&cluster.url(), &[]);
    let sink = Sink::start(([127, 0, 0, 1], 0).into(), Manner::Status(204)).await;
    let mut plan = Plan {
        server: server_address(&server.api),
        key: server.api.key().to_owned(),
        sink: sink.address(),
        events: WARM_UP,
        rate: None,
        connections: 256,
        subscriptions: 1,
        max_in_flight: 256,
        timeout_s: 15,
        others: 0,
        told_by: ToldBy::Type,
        data_bytes: 1024,
        patience: Duration::from_secs(60),
        processes: Processes::default(),
    };
    load::run(&plan).await;
    observer.all_is_settled().await;

    let before = observer.look().await;
    plan.events = EVENTS;
    let report = load::run(&plan).await;
    observer.all_is_settled().await;
    let after = observer.look().await;
    assert_eq!((report.missing, report.repeats), (0, 0));
    assert_eq!(
        before.checkpoint, after.checkpoint,
        "there was a checkpoint between"
    );

    // Its sessions have told their counts when they have ended.
    assert_eq!(server.terminate(), Some(0));
    let (inserted, updated, deleted) = observer.outbox_changes().await;
    let rows = i64::try_from(WARM_UP + EVENTS).unwrap();
    let per_delivery = |difference: i64| difference as f64 / EVENTS as f64;
    let statements = per_delivery(after.statements - before.statements);
    let wal_bytes = per_delivery(after.wal_bytes - before.wal_bytes);
    println!("per delivery: {statements:.4} statements, {wal_bytes:.0} bytes of WAL\n{report}");
    assert_eq!(
        (inserted, updated, deleted),
        (rows, 0, rows),
        "of the outbox"
    );
    assert!(
        statements <= STATEMENTS,
        "{statements:.4} statements per delivery"
    );
    assert!(
        wal_bytes <= WAL_BYTES,
        "{wal_bytes:.0} bytes of WAL per delivery"
    );
}

/// A session of our own, whose statements are not counted.
struct Observer(PgConnection);

/// What the server has done so far.
#[derive(Debug)]
struct Figures {
    statements: i64,
    wal_bytes: i64,
    /// Where the last checkpoint began.
    checkpoint: String,
}

impl Observer {
    /// Keeps checkpoints away, too: after each, a page's first change logs all of it.
    async fn of(cluster: &PrivatePostgres) -> Self {
        let mut connection = PgConnection::connect(&cluster.url()).await.unwrap();
        for statement in [
            "create extension pg_stat_statements",
            "set pg_stat_statements.track = 'none'",
            "alter system set checkpoint_timeout = '1d'",
            "alter system set max_wal_size = '8GB'",
            "select pg_reload_conf()",
        ] {
            sqlx::raw_sql(statement)
                .execute(&mut connection)
                .await
                .unwrap();
        }
        Self(connection)
    }

    async fn look(&mut self) -> Figures {
        let (statements, wal_bytes, checkpoint) = sqlx::query_as(
            "select (select sum(calls)::int8 from pg_stat_statements), \
                    (pg_current_wal_insert_lsn() - '0/0')::int8, \
                    (select redo_lsn::text from pg_control_checkpoint())",
        )
        .fetch_one(&mut self.0)
        .await
        .unwrap();
        Figures {
            statements,
            wal_bytes,
            checkpoint,
        }
    }

    async fn all_is_settled(&mut self) {
        let connection = tokio::sync::Mutex::new(&mut self.0);
        eventually("the outbox is empty", async || {
            let mut connection = connection.lock().await;
            let left = sqlx::query_scalar("select count(*) from ringback.outbox");
            let left: i64 = left.fetch_one(&mut **connection).await.unwrap();
            if left == 0 { Ok(()) } else { Err(left) }
        })
        .await;
    }

    /// How many rows of the outbox were inserted, updated and deleted.
    async fn outbox_changes(&mut self) -> (i64, i64, i64) {
        sqlx::query_as(
            "select n_tup_ins, n_tup_upd, n_tup_del from pg_stat_user_tables \
             where schemaname = 'ringback' and relname = 'outbox'",
        )
        .fetch_one(&mut self.0)
        .await
        .unwrap()
    }
}
