//! Bytes of `data` go out as they came in, and the signature is over these bytes.

use ringback_testkit::{Receiver, TestStore, judges};
use serde_json::json;

use super::APP;
use crate::harness::Ringback;

on_both_databases! {
    what_is_sent_is_what_was_posted_byte_for_byte,
}

/// Case 12.
async fn what_is_sent_is_what_was_posted_byte_for_byte(store: TestStore) {
    let ringback = Ringback::start_now(store).await;
    ringback.api.app(APP).await;
    let receiver = Receiver::start().await;
    let subscription = ringback
        .api
        .subscribe(APP, &receiver.url("/"), json!({}))
        .await;

    let mut requests = Vec::new();
    for data in payloads() {
        // White space around `data` is not of it, and neither is the final newline.
        let body = format!("{{\"app\":\"{APP}\",\"type\":\"order.paid\",\"data\": \n{data}\t }}\n");
        let event = ringback.api.post_raw("/v1/events", body).await.ok();
        let request = receiver.wait_for(requests.len() + 1).await.pop().unwrap();
        assert_eq!(event["id"], request.webhook_id());
        assert_eq!(data_of(&request.body), data);

        let shown = ringback
            .api
            .get(&format!("/v1/events/{}", request.webhook_id()))
            .await;
        assert!(
            shown.text.contains(&format!("\"data\":{data}")),
            "{}",
            shown.text
        );
        requests.push(request);
    }
    judges::all_accept(&subscription.secret, &requests);
    ringback.finish().await;
}

fn payloads() -> Vec<String> {
    let literal = [
        r#"{"total":1.10,"large":1e400,"exact":12345678901234567890123}"#,
        r#"{"city":"Orléans","escaped":"Orl\u00e9ans","emoji":"🔔"}"#,
        r#"{"path":"a\/b","nul":"\u0000","half":"\ud800"}"#,
        r#"{"b":1,"a":2,"b":3,"B":4}"#,
        "{ \"spaced\" :\n[ 1 ,\r\n 2 ]\t}",
        r#""text""#,
        "null",
        "-0.0",
        "[]",
    ];
    let deep = format!("{}{}", "[".repeat(100), "]".repeat(100));
    literal
        .map(str::to_owned)
        .into_iter()
        .chain([deep])
        .collect()
}

/// What stands for `data` in a delivered body.
fn data_of(body: &[u8]) -> &str {
    let text = std::str::from_utf8(body).unwrap();
    let (_, data) = text.split_once(r#","data":"#).unwrap();
    data.strip_suffix('}').unwrap()
}
