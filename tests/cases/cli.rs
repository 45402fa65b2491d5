//! The command line, against a server.

use std::{
    io,
    process::{Output, Stdio},
};

use ringback_testkit::{Receiver, TestStore};
use serde_json::{Value, json};
use tokio::task::spawn_blocking;

use super::APP;
use crate::harness::{Api, Server, ringback, run};

on_both_databases! {
    an_event_is_followed_from_the_application_to_the_replay,
    a_key_that_the_command_line_makes_can_do_what_it_is_for,
    exit_codes_say_what_went_wrong,
    a_command_whose_output_nobody_reads_ends_without_a_word,
}

async fn an_event_is_followed_from_the_application_to_the_replay(store: TestStore) {
    let server = Server::spawn(store.url(), &[]);
    let receiver = Receiver::start().await;
    let cli = Cli {
        api: server.api.clone(),
    };

    let app = cli.id(&["apps", "create", APP, "--name", "Billing"]).await;
    assert!(app.starts_with("app_"), "{app}");
    assert_eq!(cli.id(&["apps", "list"]).await, app);
    assert_eq!(cli.json(&["apps", "get", APP]).await["name"], "Billing");

    let url = receiver.url("/hooks");
    let create = [
        "subscriptions",
        "create",
        "--app",
        APP,
        "--url",
        &url,
        "--events",
        "order.*",
        "--filter",
        r#"{"data.total":1.1}"#,
    ];
    let subscription = cli.json(&create).await;
    assert!(
        subscription["secret"]
            .as_str()
            .unwrap()
            .starts_with("whsec_")
    );
    let id = subscription["id"].as_str().unwrap();
    assert_eq!(cli.id(&["subscriptions", "list", "--app", APP]).await, id);
    assert_eq!(
        cli.json(&["subscriptions", "get", id]).await["event_types"],
        json!(["order.*"])
    );
    assert_eq!(subscription["payload_filter"], json!({"data.total": 1.1}));

    let trigger = [
        "trigger",
        "order.paid",
        "--app",
        APP,
        "--data",
        r#"{"total":1.10}"#,
    ];
    let event = cli.id(&trigger).await;
    let request = receiver.wait_for(1).await.remove(0);
    assert_eq!(request.webhook_id(), event);
    assert!(
        request.body.ends_with(br#""data":{"total":1.10}}"#),
        "{request:?}"
    );
    let other = cli
        .id(&[
            "events",
            "create",
            "refund.created",
            "--app",
            APP,
            "--id",
            "r-1",
        ])
        .await;
    assert_eq!(
        cli.id(&["events", "list", "--app", APP, "--type", "order.*"])
            .await,
        event
    );
    assert_eq!(
        cli.json(&["events", "get", &other]).await["external_id"],
        "r-1"
    );

    let delivery = server.api.delivery_in("delivered", &event, id).await;
    let delivery = delivery["id"].as_str().unwrap();
    let list = [
        "deliveries",
        "list",
        "--app",
        APP,
        "--status",
        "delivered",
        "--since",
        "1h",
    ];
    assert_eq!(cli.id(&list).await, delivery);
    let table = cli.said(&list).await;
    assert!(
        table.contains("STATUS") && table.contains("delivered"),
        "{table}"
    );
    assert!(
        !table.contains('\u{1b}'),
        "colours where nobody sees them: {table}"
    );
    assert_eq!(
        cli.json(&["deliveries", "attempts", delivery]).await[0]["status_code"],
        204
    );

    assert_eq!(cli.id(&["deliveries", "replay", delivery]).await, delivery);
    assert_eq!(receiver.wait_for(2).await[1].webhook_id(), event);
    server.api.delivery_in("delivered", &event, id).await;
    assert_eq!(
        cli.json(&["deliveries", "get", delivery]).await["event"],
        event
    );
}

async fn a_key_that_the_command_line_makes_can_do_what_it_is_for(store: TestStore) {
    let server = Server::spawn(store.url(), &[]);
    server.api.app(APP).await;
    let create = [
        "keys",
        "create",
        "--scopes",
        "events:write,deliveries:read",
        "--app",
        APP,
    ];
    let made: Value =
        serde_json::from_str(&run(store.url(), &[&create[..], &["-o", "json"]].concat())).unwrap();
    let alone = run(store.url(), &[&create[..], &["-o", "id"]].concat());
    let listed = server.api.all("/v1/keys").await;
    assert!(
        listed.iter().any(|key| key["id"] == made["id"]),
        "{listed:?}"
    );
    for key in [made["key"].as_str().unwrap(), alone.trim()] {
        let api = server.api.with_key(key);
        let event = api.emit(APP, "order.paid", json!({})).await;
        assert_eq!(api.get(&format!("/v1/events/{event}")).await.status, 200);
        assert_eq!(api.get("/v1/apps").await.status, 403);
    }
}

async fn exit_codes_say_what_went_wrong(store: TestStore) {
    let server = Server::spawn(store.url(), &[]);
    server.api.app(APP).await;
    let cli = Cli {
        api: server.api.clone(),
    };
    let stranger = Cli {
        api: server.api.with_key("rbk_stranger"),
    };
    let nobody = Cli {
        api: Api::new("http://127.0.0.1:1".to_owned(), "rbk_x".to_owned()),
    };
    let bad_url = [
        "subscriptions",
        "create",
        "--app",
        APP,
        "--url",
        "ftp://r.example",
    ];
    let cases: [(&Cli, &[&str], i32, &str); 7] = [
        (&cli, &["apps", "list"], 0, ""),
        (&cli, &["apps", "list", "--nonsense"], 2, "--nonsense"),
        (&cli, &["apps", "get", "nowhere"], 3, "no such application"),
        (&cli, &["apps", "create", APP], 4, "slug"),
        (&cli, &bad_url, 4, "https://"),
        (&stranger, &["apps", "list"], 5, "key"),
        (&nobody, &["apps", "list"], 6, "http://127.0.0.1:1"),
    ];
    for (cli, args, code, told) in cases {
        let output = cli.run(args).await;
        let errors = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(code), "{args:?}: {errors}");
        assert!(errors.contains(told), "{args:?}: {errors}");
        assert!(!errors.contains(cli.api.key()), "{errors}");
    }
    let keyless = spawn_blocking(|| {
        ringback()
            .env_remove("RINGBACK_KEY")
            .args(["apps", "list"])
            .output()
            .unwrap()
    });
    assert_eq!(keyless.await.unwrap().status.code(), Some(5));
}

/// As in `ringback deliveries list | head -1`, when `head` has ended.
async fn a_command_whose_output_nobody_reads_ends_without_a_word(store: TestStore) {
    let server = Server::spawn(store.url(), &[]);
    server.api.app(APP).await;
    let cli = Cli {
        api: server.api.clone(),
    };
    for format in ["table", "json", "id"] {
        for command in ["list", "get"] {
            let app = if command == "get" { &[APP][..] } else { &[] };
            let args = [&["apps", command, "-o", format], app].concat();
            let output = cli.run_into_nothing(&args).await;
            let errors = String::from_utf8_lossy(&output.stderr);
            assert_eq!((output.status.code(), &*errors), (Some(0), ""), "{args:?}");
        }
    }
}

/// The command line of somebody with a key.
struct Cli {
    api: Api,
}

impl Cli {
    async fn run(&self, args: &[&str]) -> Output {
        self.run_into(args, Stdio::piped()).await
    }

    /// Runs it when whoever was to read what it prints is gone.
    async fn run_into_nothing(&self, args: &[&str]) -> Output {
        let (reader, writer) = io::pipe().unwrap();
        drop(reader);
        self.run_into(args, writer.into()).await
    }

    async fn run_into(&self, args: &[&str], stdout: Stdio) -> Output {
        let mut command = ringback();
        command.args(args).stdout(stdout);
        command
            .env("RINGBACK_SERVER", self.api.base())
            .env("RINGBACK_KEY", self.api.key());
        // The receiver lives on this thread.
        spawn_blocking(move || command.output().unwrap())
            .await
            .unwrap()
    }

    async fn said(&self, args: &[&str]) -> String {
        let output = self.run(args).await;
        let errors = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success(), "{args:?}: {errors}");
        String::from_utf8(output.stdout).unwrap()
    }

    /// The one id that is printed.
    async fn id(&self, args: &[&str]) -> String {
        let said = self.said(&[args, &["-o", "id"]].concat()).await;
        let id = said.strip_suffix('\n').unwrap();
        assert!(!id.contains('\n'), "{said}");
        id.to_owned()
    }

    async fn json(&self, args: &[&str]) -> Value {
        serde_json::from_str(&self.said(&[args, &["-o", "json"]].concat()).await).unwrap()
    }
}
