//! Case 33: a business row and its event in one transaction. 500 commit, 500 roll back,
//! and exactly the committed ones are delivered.

use std::collections::BTreeSet;

use ringback_testkit::{Receiver, TestStore, fresh_postgres};
use serde_json::{Value, json};
use sqlx::{Connection, PgConnection};

use crate::harness::{Server, eventually};

const APP: &str = "billing";

struct Shop {
    store: TestStore,
    server: Server,
    receiver: Receiver,
}

impl Shop {
    /// A service beside a shop's own table.
    async fn open() -> Self {
        let store = fresh_postgres().await;
        store
            .execute("create table public.orders (id int primary key, total numeric not null)")
            .await;
        let server = Server::spawn(store.url(), &[]);
        let receiver = Receiver::start().await;
        server.api.app(APP).await;
        server
            .api
            .subscribe(APP, &receiver.url("/"), json!({}))
            .await;
        Self {
            store,
            server,
            receiver,
        }
    }

    /// Asserts that what is delivered is what is in the table, each once.
    async fn delivered_what_was_committed(&self) {
        assert_eq!(self.store.count("public.orders", "").await, 500);
        assert_eq!(self.store.count("public.orders", "id % 2 = 0").await, 500);
        eventually("all is picked up and delivered", async || {
            let left = self.store.count("ringback.emitted", "").await;
            let pending = self.store.count("ringback.outbox", "").await;
            match (left, pending, self.receiver.count()) {
                (0, 0, 500) => Ok(()),
                seen => Err(seen),
            }
        })
        .await;
        let requests = self.receiver.requests();
        let order = |body: Value| {
            (
                body["data"]["order"].as_i64(),
                body["data"]["total"].clone(),
            )
        };
        let orders: BTreeSet<_> = requests
            .iter()
            .map(|one| order(one.json()).0.unwrap())
            .collect();
        assert_eq!(orders, (0..500).map(|n| 2 * n).collect());
        let ids: BTreeSet<_> = requests
            .iter()
            .map(|one| one.webhook_id().to_owned())
            .collect();
        assert_eq!((requests.len(), ids.len()), (500, 500));
        let events = self.server.api.all("/v1/events").await;
        assert_eq!(events.len(), 500);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_producer_commits_with_sqlx_is_delivered_and_nothing_else() {
    let shop = Shop::open().await;
    let producers = (0..5).map(|part| {
        let url = shop.store.url().to_owned();
        tokio::spawn(async move {
            let mut connection = PgConnection::connect(&url).await.unwrap();
            for order in (part * 200)..(part * 200 + 200) {
                let mut transaction = connection.begin().await.unwrap();
                sqlx::query("insert into public.orders (id, total) values ($1, 1.10)")
                    .bind(order)
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                sqlx::query("select ringback.emit($1, $2, $3::json, id => $4, labels => $5::json)")
                    .bind(APP)
                    .bind("order.placed")
                    .bind(json!({"order": order, "total": "1.10"}).to_string())
                    .bind(format!("order-{order}"))
                    .bind(json!({"order": order.to_string()}).to_string())
                    .execute(&mut *transaction)
                    .await
                    .unwrap();
                if order % 2 == 0 {
                    transaction.commit().await.unwrap();
                } else {
                    transaction.rollback().await.unwrap();
                }
            }
        })
    });
    for producer in producers.collect::<Vec<_>>() {
        producer.await.unwrap();
    }
    shop.delivered_what_was_committed().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_producer_commits_with_psycopg_is_delivered_and_nothing_else() {
    let shop = Shop::open().await;
    let python = std::env::var("RINGBACK_TEST_PYTHON").expect("run the tests with scripts/test");
    let output = tokio::process::Command::new(python)
        .args(["-c", PSYCOPG, shop.store.url()])
        .output()
        .await
        .unwrap();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{errors}");
    shop.delivered_what_was_committed().await;
}

/// As in `docs/emit.md`.
const PSYCOPG: &str = r#"
import sys
import psycopg
from psycopg.types.json import Json

with psycopg.connect(sys.argv[1]) as connection:
    for order in range(1000):
        with connection.transaction() as transaction:
            connection.execute("insert into public.orders (id, total) values (%s, 1.10)", (order,))
            connection.execute(
                "select ringback.emit(%s, %s, %s, id => %s, labels => %s)",
                ("billing", "order.placed", Json({"order": order, "total": "1.10"}),
                 f"order-{order}", Json({"order": str(order)})),
            )
            if order % 2:
                raise psycopg.Rollback(transaction)
"#;
