use http::{Method, StatusCode};
use ringback_model::Scope;
use ringback_store::{Hint, Hints};
use serde_json::{Value, json};

use crate::service::{Service, names};

fn event(data: Value) -> Value {
    json!({ "app": "billing", "type": "order.paid", "data": data })
}

#[tokio::test]
async fn an_event_is_accepted_with_its_deliveries_and_reads_back() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    service.subscription("billing").await;
    let paused = service.subscription("billing").await;
    let pause = format!("/v1/subscriptions/{paused}/pause");
    service
        .post(&pause, json!({}))
        .send()
        .await
        .expect(StatusCode::OK);

    let data = r#"{ "total": 1.10, "n": 1e400, "u": "\u0000é\/" }"#;
    let body = format!(
        r#"{{"app":"billing","type":"order.paid","data":{data},"id":"o-1","labels":{{"order":"1"}}}}"#
    );
    let accepted = service
        .call(Method::POST, "/v1/events")
        .body(body)
        .send()
        .await;
    let accepted = accepted.expect(StatusCode::ACCEPTED).json();
    assert_eq!(names(&accepted), ["deliveries", "duplicate", "id"]);
    assert_eq!(
        (&accepted["deliveries"], &accepted["duplicate"]),
        (&json!(2), &json!(false))
    );

    let path = format!("/v1/events/{}", accepted["id"].as_str().unwrap());
    let read = service.get(&path).send().await.expect(StatusCode::OK);
    let text = String::from_utf8(read.body.to_vec()).unwrap();
    assert!(text.contains(data), "{text}");
    let view = json!({
        "id": accepted["id"], "external_id": "o-1", "app": app, "type": "order.paid",
        "labels": { "order": "1" }, "ordering_key": null, "deliver_at": null,
        "created_at": "2026-01-05T09:00:00.000Z",
    });
    // Without the scope, what it contains is not shown.
    let reader = service.key(&[Scope::DeliveriesRead], None).await;
    assert_eq!(service.get(&path).key(&reader).send().await.json(), view);
    let fresh = service
        .get(&path)
        .header("if-none-match", read.header("etag"))
        .send()
        .await;
    fresh.expect(StatusCode::NOT_MODIFIED);
}

#[tokio::test]
async fn lists_of_events_are_filtered() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    service.app("shipping").await;
    for (app, kind, label) in [
        ("billing", "order.paid", "1"),
        ("billing", "refund", "2"),
        ("shipping", "order.paid", "1"),
    ] {
        let body = json!({ "app": app, "type": kind, "data": 1, "labels": { "n": label } });
        service
            .post("/v1/events", body)
            .send()
            .await
            .expect(StatusCode::ACCEPTED);
    }
    let cases = [
        ("", 3),
        ("?app=billing", 2),
        (&*format!("?app={app}"), 2),
        ("?type=order.*", 2),
        ("?event_type=refund", 1),
        ("?app=billing&type=order.paid", 1),
        ("?label=n:1", 2),
        ("?since=1h", 3),
        ("?until=2026-01-05T09:00:00Z", 0),
        ("?limit=1", 1),
    ];
    for (query, expected) in cases {
        let list = service
            .get(&format!("/v1/events{query}"))
            .send()
            .await
            .expect(StatusCode::OK);
        assert_eq!(
            list.json()["data"].as_array().unwrap().len(),
            expected,
            "{query}"
        );
    }
}

#[tokio::test]
async fn the_same_id_again_is_the_same_event_and_another_one_is_refused() {
    let service = Service::new().await;
    service.app("billing").await;
    service.subscription("billing").await;
    let emit = |data: Value| {
        let mut body = event(data);
        body["id"] = json!("o-1");
        service.post("/v1/events", body)
    };
    let first = emit(json!(1))
        .send()
        .await
        .expect(StatusCode::ACCEPTED)
        .json();
    service.subscription("billing").await;
    let again = emit(json!(1))
        .send()
        .await
        .expect(StatusCode::ACCEPTED)
        .json();
    assert_eq!(
        again,
        json!({ "id": first["id"], "deliveries": 1, "duplicate": true })
    );
    let other = emit(json!(2)).send().await.problem(409, "id_reused");
    assert_eq!(other["errors"][0]["pointer"], "/id");
}

#[tokio::test]
async fn many_at_once_with_one_id_make_one_event() {
    let service = Service::new().await;
    service.app("billing").await;
    let mut body = event(json!(1));
    body["id"] = json!("o-1");
    let calls = (0..20).map(|_| {
        let call = service.post("/v1/events", body.clone()).send();
        Box::pin(call)
    });
    let mut ids = std::collections::BTreeSet::new();
    for answer in join_all(calls).await {
        ids.insert(answer.expect(StatusCode::ACCEPTED).text("id"));
    }
    assert_eq!(ids.len(), 1);
}

/// Runs them all at once.
async fn join_all<F: Future + Unpin>(futures: impl IntoIterator<Item = F>) -> Vec<F::Output> {
    let mut running: Vec<(F, Option<F::Output>)> = futures.into_iter().map(|f| (f, None)).collect();
    std::future::poll_fn(|context| {
        for (future, output) in running.iter_mut().filter(|(_, output)| output.is_none()) {
            if let std::task::Poll::Ready(ready) = std::pin::Pin::new(future).poll(context) {
                *output = Some(ready);
            }
        }
        match running.iter().all(|(_, output)| output.is_some()) {
            true => std::task::Poll::Ready(()),
            false => std::task::Poll::Pending,
        }
    })
    .await;
    running
        .into_iter()
        .filter_map(|(_, output)| output)
        .collect()
}

#[tokio::test]
async fn a_subscription_that_was_answered_misses_nothing() {
    let service = Service::new().await;
    service.app("billing").await;
    let emit = || service.post("/v1/events", event(json!(1)));
    for expected in 0..4 {
        let accepted = emit().send().await.expect(StatusCode::ACCEPTED).json();
        assert_eq!(accepted["deliveries"], expected);
        service.subscription("billing").await;
    }
}

#[tokio::test]
async fn what_changed_behind_the_cache_is_loaded_anew() {
    let service = Service::new().await;
    let app = service.app("billing").await;
    let id = service.subscription("billing").await;
    let emit = || service.post("/v1/events", event(json!(1)));
    assert_eq!(emit().send().await.json()["deliveries"], 1);
    // As another node would do it.
    let within = ringback_store::Within::Everything;
    let now = service.clock.now();
    use ringback_store::Registry;
    service
        .store
        .delete_subscription(id.parse().unwrap(), within, now)
        .await
        .unwrap();
    assert_eq!(
        emit().send().await.expect(StatusCode::ACCEPTED).json()["deliveries"],
        0
    );
    service
        .store
        .delete_app(app.parse().unwrap(), now)
        .await
        .unwrap();
    emit().send().await.problem(404, "not_found");
}

#[tokio::test]
async fn what_changed_is_loaded_anew_under_every_name_in_a_batch() {
    use ringback_store::{Registry, Within};
    let service = Service::new().await;
    let app = service.app("billing").await;
    let id = service.subscription("billing").await;
    let one = |app: &str| json!({ "app": app, "type": "a", "data": 1 });
    let batch = async || {
        let body = json!({ "events": [one("billing"), one(&app), one("billing")] });
        let answer = service.post("/v1/events/batch", body).send().await;
        let answer = answer.expect(StatusCode::ACCEPTED).json();
        let deliveries = |index: usize| answer["data"][index]["deliveries"].as_u64();
        [deliveries(0), deliveries(1), deliveries(2)]
    };
    assert_eq!(batch().await, [Some(1); 3]);
    // As another node would do it.
    let (id, now) = (id.parse().unwrap(), service.clock.now());
    let delete = service
        .store
        .delete_subscription(id, Within::Everything, now);
    delete.await.unwrap();
    assert_eq!(batch().await, [Some(0); 3]);
}

#[tokio::test]
async fn a_batch_is_all_or_nothing_and_says_where_it_fails() {
    let service = Service::new().await;
    service.app("billing").await;
    let batch = |events: Value| service.post("/v1/events/batch", json!({ "events": events }));
    let good = event(json!(1));
    let accepted = batch(json!([good, good, good]))
        .send()
        .await
        .expect(StatusCode::ACCEPTED);
    assert_eq!(names(&accepted.json()), ["data"]);
    assert_eq!(accepted.json()["data"].as_array().unwrap().len(), 3);

    let mut bad = good.clone();
    bad["type"] = json!("order paid");
    let refused = batch(json!([good, good, good, bad])).send().await;
    let refused = refused.problem(422, "bad_event_type");
    assert_eq!(refused["errors"][0]["pointer"], "/events/3/type");
    let mut stranger = good.clone();
    stranger["app"] = json!("nobody");
    let refused = batch(json!([good, stranger]))
        .send()
        .await
        .problem(404, "not_found");
    assert_eq!(refused["errors"][0]["pointer"], "/events/1/app");
    batch(json!([])).send().await.problem(422, "bad_count");
    batch(json!(vec![good.clone(); 501]))
        .send()
        .await
        .problem(422, "bad_count");
    let count = service.get("/v1/events").send().await.json();
    assert_eq!(count["data"].as_array().unwrap().len(), 3);

    let named =
        |id: &str, data: i64| json!({ "app": "billing", "type": "a", "data": data, "id": id });
    let accepted = batch(json!([named("x", 1), named("x", 1), named("y", 1)]))
        .send()
        .await
        .json();
    assert_eq!(accepted["data"][0]["id"], accepted["data"][1]["id"]);
    assert_eq!(accepted["data"][1]["duplicate"], true);
    assert_eq!(accepted["data"][2]["duplicate"], false);
    for clash in [
        json!([named("z", 1), named("z", 2)]),
        json!([named("new", 1), named("x", 2)]),
    ] {
        let refused = batch(clash).send().await.problem(409, "id_reused");
        assert_eq!(refused["errors"][0]["pointer"], "/events/1/id");
    }
}

#[tokio::test]
async fn what_cannot_be_accepted_is_refused() {
    let service = Service::new().await;
    service.app("billing").await;
    let emit = |body: Value| service.post("/v1/events", body);
    let large = json!("x".repeat(256 * 1024));
    assert_eq!(
        emit(event(large)).send().await.problem(413, "too_large")["errors"][0]["pointer"],
        "/data"
    );
    let with = |name: &str, value: Value| {
        let mut body = event(json!(1));
        body[name] = value;
        body
    };
    let cases = [
        (
            with("deliver_at", json!("tomorrow")),
            "/deliver_at",
            "bad_time",
        ),
        (with("ordering_key", json!("")), "/ordering_key", "empty"),
        (with("id", json!("a\0")), "/id", "nul"),
        (with("labels", json!({ "a": "\0" })), "/labels/a", "nul"),
        (with("type", json!("a..b")), "/type", "bad_event_type"),
        (with("type", json!("*")), "/type", "bad_event_type"),
    ];
    for (body, pointer, code) in cases {
        let problem = emit(body).send().await.problem(422, code);
        assert_eq!(problem["errors"][0]["pointer"], pointer);
    }
    emit(with("app", json!("nobody")))
        .send()
        .await
        .problem(404, "not_found");
    let nested = format!("{}1{}", "[".repeat(128), "]".repeat(128));
    let nested = format!(r#"{{"app":"billing","type":"a","data":{nested}}}"#);
    let refused = service
        .call(Method::POST, "/v1/events")
        .body(nested)
        .send()
        .await;
    refused.problem(422, "too_deep");
}

#[tokio::test]
async fn the_owners_of_the_lanes_are_told() {
    let service = Service::new().await;
    service.app("billing").await;
    let id = service.subscription("billing").await;
    let mut hints = service.store.listen();
    service.event("billing").await;
    let lane = ringback_model::Lane::of(id.parse().unwrap());
    assert_eq!(hints.recv().await.unwrap(), Hint::Lane(lane));
}
