//! Events from the producer's own transaction, on PostgreSQL: `ringback.emit`.

mod producers;

use std::{collections::BTreeSet, time::Duration};

use ringback_testkit::{Receiver, TestStore, fresh_postgres};
use serde_json::{Value, json};
use sqlx::{AssertSqlSafe, Connection, PgConnection};

use super::{APP, service, subscribe};
use crate::harness::{Ringback, Server, eventually};

/// A connection of a producer's.
async fn connect(store: &TestStore) -> PgConnection {
    PgConnection::connect(store.url()).await.unwrap()
}

/// Runs what a producer would write.
async fn run(connection: &mut PgConnection, sql: &str) -> Result<(), sqlx::Error> {
    sqlx::raw_sql(AssertSqlSafe(sql.to_owned()))
        .execute(connection)
        .await
        .map(drop)
}

/// Waits until nothing that was emitted is left to be accepted.
async fn picked_up(ringback: &Ringback) {
    ringback
        .eventually("all that was emitted is picked up", async || match ringback
            .store
            .count("ringback.emitted", "")
            .await
        {
            0 => Ok(()),
            left => Err(left),
        })
        .await;
}

async fn events(ringback: &Ringback) -> Vec<Value> {
    ringback.api.all("/v1/events").await
}

#[tokio::test]
async fn what_is_emitted_is_an_event_like_any_other() {
    let ringback = service(fresh_postgres().await).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await;
    let mut producer = connect(&ringback.store).await;
    let data = r#"{ "id":"1042", "total":1.10, "big":12345678901234567890123, "s":"\u0000é" }"#;
    run(
        &mut producer,
        &format!(
            "select ringback.emit('{APP}', 'order.paid', ' {data}\n', id => 'order-1042-paid', \
             labels => '{{\"order\":\"1042\"}}', ordering_key => 'order-1042', \
             traceparent => '00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01')"
        ),
    )
    .await
    .unwrap();
    picked_up(&ringback).await;

    let request = receiver.wait_for(1).await.remove(0);
    let body = String::from_utf8(request.body.to_vec()).unwrap();
    assert!(body.ends_with(&format!(r#","data":{data}}}"#)), "{body}");
    assert!(
        request
            .header("traceparent")
            .is_some_and(|sent| sent.starts_with("00-4bf92f3577b34da6a3ce929d0e0e4736-"))
    );
    let event = events(&ringback).await.remove(0);
    assert_eq!(event["id"], request.webhook_id());
    assert_eq!(event["external_id"], "order-1042-paid");
    assert_eq!(event["labels"], json!({"order": "1042"}));
    assert_eq!(event["ordering_key"], "order-1042");
    let id = event["id"].as_str().unwrap();
    ringback
        .delivery_in("delivered", id, &subscription.id)
        .await;
    ringback.finish().await;
}

#[tokio::test]
async fn an_event_with_a_time_waits_for_it() {
    let ringback = service(fresh_postgres().await).await;
    let receiver = Receiver::start().await;
    let subscription = subscribe(&ringback, &receiver, json!({})).await;
    let mut producer = connect(&ringback.store).await;
    // The service's clock is the test's, the database's is not.
    let at = "2026-01-05T10:00:00Z";
    let emit = format!("select ringback.emit('{APP}', 'order.paid', '1', deliver_at => '{at}')");
    run(&mut producer, &emit).await.unwrap();
    picked_up(&ringback).await;
    let event = events(&ringback).await.remove(0);
    assert_eq!(event["deliver_at"], "2026-01-05T10:00:00.000Z");
    let id = event["id"].as_str().unwrap();
    ringback.delivery_in("pending", id, &subscription.id).await;
    assert_eq!(receiver.count(), 0);
    ringback.later(Duration::from_secs(3600)).await;
    ringback
        .delivery_in("delivered", id, &subscription.id)
        .await;
    ringback.finish().await;
}

#[tokio::test]
async fn the_id_of_an_emitted_event_is_the_one_of_the_api() {
    let ringback = service(fresh_postgres().await).await;
    let mut producer = connect(&ringback.store).await;
    let event = json!({"app": APP, "type": "order.paid", "data": {"n": 1}, "id": "order-1"});
    let accepted = ringback.api.post("/v1/events", event.clone()).await.ok();
    let app = ringback.api.get(&format!("/v1/apps/{APP}")).await.ok();
    let app = app["id"].as_str().unwrap();
    // Twice as a duplicate, and once with other content, which nobody can be told any more.
    run(
        &mut producer,
        &format!(
            "select ringback.emit('{app}', 'order.paid', '{{\"n\":1}}', id => 'order-1'); \
             select ringback.emit('{APP}', 'order.paid', '{{\"n\":1}}', id => 'order-1'); \
             select ringback.emit('{APP}', 'order.paid', '{{\"n\":2}}', id => 'order-1'); \
             select ringback.emit('{APP}', 'order.paid', '{{\"n\":3}}', id => 'order-3'); \
             select ringback.emit('{APP}', 'order.paid', '{{\"n\":3}}', id => 'order-3')"
        ),
    )
    .await
    .unwrap();
    picked_up(&ringback).await;
    let ids: Vec<_> = events(&ringback)
        .await
        .iter()
        .map(|event| (event["external_id"].clone(), event["data"].clone()))
        .collect();
    assert_eq!(
        ids,
        [
            (json!("order-3"), json!({"n": 3})),
            (json!("order-1"), json!({"n": 1}))
        ]
    );
    let again = ringback.api.post("/v1/events", event).await.ok();
    assert_eq!(
        (&again["id"], &again["duplicate"]),
        (&accepted["id"], &json!(true))
    );
    ringback.finish().await;
}

#[tokio::test]
async fn what_is_wrong_fails_in_the_producers_transaction() {
    let ringback = service(fresh_postgres().await).await;
    let mut producer = connect(&ringback.store).await;
    let nested = |depth: usize| format!("repeat('[', {depth}) || repeat(']', {depth})");
    let long = "x".repeat(256);
    let cases = [
        ("'nobody', 'a', '1'".to_owned(), "no application 'nobody'"),
        ("'app_0000000000001', 'a', '1'".to_owned(), "no application"),
        ("'app_zzzzzzzzzzzzz', 'a', '1'".to_owned(), "no application"),
        ("null, 'a', '1'".to_owned(), "no application NULL"),
        (format!("'{APP}', 'a b', '1'"), "'a b' is not an event type"),
        (format!("'{APP}', E'a\\n', '1'"), "is not an event type"),
        (format!("'{APP}', null, '1'"), "is not an event type"),
        (
            format!("'{APP}', 'ringback.x', '1'"),
            "that Ringback emits itself",
        ),
        (
            format!("'{APP}', 'ringback', '1'"),
            "that Ringback emits itself",
        ),
        (format!("'{APP}', 'a', null"), "data is missing"),
        (
            format!("'{APP}', 'a', '{{'"),
            "invalid input syntax for type json",
        ),
        (
            format!("'{APP}', 'a', to_json(repeat('x', 262143))"),
            "data is 262145 bytes",
        ),
        (
            format!("'{APP}', 'a', ({})::json", nested(128)),
            "deeper than 127",
        ),
        (format!("'{APP}', 'a', '1', id => ''"), "id is empty"),
        (
            format!("'{APP}', 'a', '1', id => '{long}'"),
            "longer than 255",
        ),
        (
            format!("'{APP}', 'a', '1', ordering_key => ''"),
            "ordering_key is empty",
        ),
        (
            format!("'{APP}', 'a', '1', labels => '[]'"),
            "not an object",
        ),
        (
            format!("'{APP}', 'a', '1', labels => '{{\"n\":1}}'"),
            "'n' is not a text",
        ),
        (
            format!("'{APP}', 'a', '1', labels => '{{\"a:b\":\"\"}}'"),
            "'a:b' is no name",
        ),
        (
            format!("'{APP}', 'a', '1', deliver_at => now() + interval '31 days'"),
            "more than 30 days ahead",
        ),
        (
            format!("'{APP}', 'a', '1', deliver_at => 'infinity'"),
            "no time at all",
        ),
    ];
    for (arguments, expected) in cases {
        let failed = run(&mut producer, &format!("select ringback.emit({arguments})"))
            .await
            .unwrap_err();
        let failed = failed.as_database_error().unwrap();
        assert!(failed.message().contains(expected), "{arguments}: {failed}");
        let code = failed.code().unwrap();
        assert!(["22023", "22P02"].contains(&&*code), "{arguments}: {code}");
    }
    assert_eq!(ringback.store.count("ringback.emitted", "").await, 0);
    // And what is just within the limits is taken.
    for arguments in [
        format!("'{APP}', 'a', to_json(repeat('x', 262142))"),
        format!("'{APP}', 'a', ({})::json", nested(127)),
        format!("'{APP}', 'a', to_json(repeat('[{{\"', 1000))"),
        format!("'{APP}', 'a', 'null', labels => '{{}}', traceparent => 'none'"),
        format!("'{APP}', 'a', '\"\\u0000\\ud800\"', id => repeat('é', 255)"),
    ] {
        run(&mut producer, &format!("select ringback.emit({arguments})"))
            .await
            .unwrap();
    }
    picked_up(&ringback).await;
    assert_eq!(ringback.store.count("ringback.events", "").await, 5);
    ringback.finish().await;
}

#[tokio::test]
async fn a_role_that_is_granted_emit_can_do_nothing_else() {
    let ringback = service(fresh_postgres().await).await;
    let mut admin = connect(&ringback.store).await;
    // Roles are of the whole server.
    let role = "select 'producer_of_' || current_database()";
    let role: String = sqlx::query_scalar(role)
        .fetch_one(&mut admin)
        .await
        .unwrap();
    let grants = format!(
        "create role {role}; grant usage on schema ringback to {role}; \
         grant execute on function ringback.emit to {role};"
    );
    run(&mut admin, &grants).await.unwrap();
    let mut producer = connect(&ringback.store).await;
    run(&mut producer, &format!("set session authorization {role}"))
        .await
        .unwrap();

    let emit = format!("select ringback.emit('{APP}', 'order.paid', '1')");
    run(&mut producer, &emit).await.unwrap();
    let tables: Vec<String> =
        sqlx::query_scalar("select tablename::text from pg_tables where schemaname = 'ringback'")
            .fetch_all(&mut admin)
            .await
            .unwrap();
    assert!(tables.iter().any(|table| table == "emitted"));
    for table in &tables {
        for sql in [
            format!("select from ringback.{table}"),
            format!("delete from ringback.{table}"),
            format!("insert into ringback.{table} default values"),
        ] {
            denied(&mut producer, &sql).await;
        }
    }
    denied(&mut producer, "create table ringback.mine (id int)").await;
    // What it puts in the way of names is not what the function finds.
    run(
        &mut producer,
        "create function pg_temp.strpos(text, text) returns int language sql as 'select 1/0'; \
         create temporary table emitted (id int); create temporary table apps (id int);",
    )
    .await
    .unwrap();
    run(&mut producer, &format!("set search_path = pg_temp; {emit}"))
        .await
        .unwrap();
    // Without the grant, not even that.
    run(
        &mut admin,
        &format!("revoke execute on function ringback.emit from {role}"),
    )
    .await
    .unwrap();
    denied(&mut producer, &emit).await;

    picked_up(&ringback).await;
    assert_eq!(events(&ringback).await.len(), 2);
    drop(producer);
    run(
        &mut admin,
        &format!("drop owned by {role}; drop role {role}"),
    )
    .await
    .unwrap();
    ringback.finish().await;
}

async fn denied(producer: &mut PgConnection, sql: &str) {
    let failed = run(producer, sql).await.unwrap_err();
    let code = failed
        .as_database_error()
        .unwrap()
        .code()
        .unwrap()
        .into_owned();
    assert_eq!(code, "42501", "{sql}: {failed}");
}

#[tokio::test]
async fn what_becomes_visible_late_is_not_missed() {
    let ringback = service(fresh_postgres().await).await;
    let [mut slow, mut quick] = [
        connect(&ringback.store).await,
        connect(&ringback.store).await,
    ];
    let emit = |n: u32| format!("select ringback.emit('{APP}', 'order.paid', '{n}')");
    run(&mut slow, &format!("begin; {}", emit(1)))
        .await
        .unwrap();
    for n in 2..5 {
        run(&mut quick, &emit(n)).await.unwrap();
        picked_up(&ringback).await;
        // Long enough for whoever reads to pass over what was before.
        ringback.later(Duration::from_secs(8)).await;
    }
    run(&mut slow, "commit").await.unwrap();
    picked_up(&ringback).await;
    let data: Vec<_> = events(&ringback)
        .await
        .iter()
        .map(|event| event["data"].clone())
        .collect();
    assert_eq!(data, [json!(1), json!(4), json!(3), json!(2)]);
    ringback.finish().await;
}

/// Written around the function, or for an application that is gone meanwhile: dropped,
/// and nothing behind it is held up.
#[tokio::test]
async fn what_can_never_be_accepted_holds_up_nothing() {
    let ringback = service(fresh_postgres().await).await;
    ringback.api.app("gone").await;
    let mut producer = connect(&ringback.store).await;
    let write = |columns: &str, values: &str| {
        format!(
            "insert into ringback.emitted (app_id, {columns}) \
             select id, {values} from ringback.apps where slug = '{APP}'; "
        )
    };
    let mut sql = [
        "begin; select ringback.emit('gone', 'order.paid', '1'); ",
        &write("type, data", "'order paid', '1'::bytea"),
        &write("type, data", "'order.paid', '{'::bytea"),
        &write("type, data", "'order.paid', '\\xff'::bytea"),
        &write(
            "type, data",
            "'order.paid', convert_to(repeat('1', 262145), 'UTF8')",
        ),
        &write(
            "type, data, labels",
            "'order.paid', '1'::bytea, '{\"a\":1}'",
        ),
        &write("type, data, labels", "'order.paid', '1'::bytea, 'none'"),
        &write("type, data, external_id", "'order.paid', '1'::bytea, ''"),
        &write(
            "type, data, deliver_at",
            "'order.paid', '1'::bytea, now() + interval '99 days'",
        ),
    ]
    .concat();
    sql += "insert into ringback.emitted (app_id, type, data) values (7, 'a', '1'); ";
    sql += &format!("select ringback.emit('{APP}', 'order.paid', '2'); ");
    run(&mut producer, &sql).await.unwrap();
    ringback.api.delete("/v1/apps/gone").await.ok();
    run(&mut producer, "commit").await.unwrap();
    picked_up(&ringback).await;
    let events = events(&ringback).await;
    assert_eq!(events.len(), 1, "{events:?}");
    assert_eq!(events[0]["data"], 2);
    ringback.finish().await;
}

/// A row that somebody else has in hand is left alone, and nothing waits for it.
#[tokio::test]
async fn a_row_in_anothers_hands_is_accepted_once_it_is_let_go() {
    let ringback = service(fresh_postgres().await).await;
    let [mut producer, mut other] = [
        connect(&ringback.store).await,
        connect(&ringback.store).await,
    ];
    // Nothing is picked up as long as the clock stands still.
    for n in 1..=3 {
        let emit = format!("select ringback.emit('{APP}', 'order.paid', '{n}')");
        run(&mut producer, &emit).await.unwrap();
    }
    let hold = "begin; select from ringback.emitted where data = '2' for update";
    run(&mut other, hold).await.unwrap();
    let data = async || -> Vec<Value> {
        let events = events(&ringback).await;
        events.iter().map(|event| event["data"].clone()).collect()
    };
    let others = [json!(3), json!(1)];
    ringback
        .eventually("the others are accepted", async || match data().await {
            some if some == others => Ok(()),
            some => Err(some),
        })
        .await;
    ringback.later(Duration::from_secs(8)).await;
    assert_eq!(data().await, others);
    run(&mut other, "rollback").await.unwrap();
    picked_up(&ringback).await;
    assert_eq!(data().await, [json!(2), json!(3), json!(1)]);
    ringback.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_node_that_is_killed_while_it_picks_up_loses_nothing() {
    let store = fresh_postgres().await;
    let receiver = Receiver::start().await;
    let server = Server::spawn(store.url(), &["--node-name", "one"]);
    server.api.app(APP).await;
    let fields = json!({"event_types": ["order.*"]});
    server.api.subscribe(APP, &receiver.url("/"), fields).await;
    let key = server.api.key().to_owned();
    let mut producer = connect(&store).await;
    let mut servers = vec![server];
    for round in 0..5 {
        run(
            &mut producer,
            &format!(
                "select ringback.emit('{APP}', 'order.paid', to_json(n), id => 'order-' || n) \
                 from generate_series({round} * 500, {round} * 500 + 499) n"
            ),
        )
        .await
        .unwrap();
        // While it is at it.
        let begun = async || match store.count("ringback.emitted", "").await {
            0..=499 => Ok(()),
            left => Err(left),
        };
        eventually("some are picked up", begun).await;
        servers.pop().unwrap().kill();
        servers.push(Server::spawn_with_key(
            store.url(),
            &key,
            &["--node-name", "one"],
        ));
    }
    let server = servers.pop().unwrap();
    let arrived = || -> BTreeSet<u64> {
        let numbers = receiver.requests().into_iter();
        numbers
            .map(|request| request.json()["data"].as_u64().unwrap())
            .collect()
    };
    eventually("all have come", async || match arrived().len() {
        2500 => Ok(()),
        some => Err(some),
    })
    .await;
    let events = server.api.all("/v1/events").await;
    assert_eq!(events.len(), 2500);
    assert_eq!(store.count("ringback.emitted", "").await, 0);
}

#[tokio::test(flavor = "multi_thread")]
async fn another_node_reads_on_when_the_one_that_read_is_killed_or_stopped() {
    let store = fresh_postgres().await;
    let first = Server::spawn(store.url(), &["--node-name", "one"]);
    first.api.app(APP).await;
    let key = first.api.key().to_owned();
    let mut producer = connect(&store).await;
    let emit = format!("select ringback.emit('{APP}', 'order.paid', '1')");
    let accepted = async |api: &crate::harness::Api, count: usize| {
        eventually("it is accepted", async || {
            match api.all("/v1/events").await.len() {
                some if some == count => Ok(()),
                some => Err(some),
            }
        })
        .await;
    };
    run(&mut producer, &emit).await.unwrap();
    accepted(&first.api, 1).await;
    let second = Server::spawn_with_key(store.url(), &key, &["--node-name", "two"]);
    first.kill();
    run(&mut producer, &emit).await.unwrap();
    accepted(&second.api, 2).await;
    let third = Server::spawn_with_key(store.url(), &key, &["--node-name", "three"]);
    // Frozen, it would hold what it reads by for ever.
    second.signal("STOP");
    run(&mut producer, &emit).await.unwrap();
    accepted(&third.api, 3).await;
    second.signal("CONT");
}
