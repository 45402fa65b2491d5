use http::StatusCode;
use serde_json::json;

use crate::service::{Service, names};

#[tokio::test]
async fn an_application_is_created_read_changed_and_deleted() {
    let service = Service::new().await;
    let body = json!({ "slug": "billing", "name": "Billing", "metadata": { "team": "pay" } });
    let created = service
        .post("/v1/apps", body)
        .send()
        .await
        .expect(StatusCode::CREATED);
    let app = created.json();
    assert_eq!(
        names(&app),
        [
            "created_at",
            "effective_quotas",
            "id",
            "metadata",
            "name",
            "quotas",
            "slug",
            "updated_at"
        ]
    );
    assert_eq!(app["created_at"], "2026-01-05T09:00:00.000Z");
    let location = created.header("location").to_owned();
    assert_eq!(
        location,
        format!("/v1/apps/{}", app["id"].as_str().unwrap())
    );

    for path in [&*location, "/v1/apps/billing"] {
        let read = service.get(path).send().await.expect(StatusCode::OK);
        assert_eq!(read.json(), app);
        assert_eq!(read.header("etag"), created.header("etag"));
    }

    let patch = json!({ "name": null, "metadata": { "team": null, "tier": "1" } });
    let changed = service
        .patch("/v1/apps/billing", patch)
        .send()
        .await
        .expect(StatusCode::OK);
    assert_eq!(changed.json()["name"], "billing");
    assert_eq!(changed.json()["metadata"], json!({ "tier": "1" }));
    assert_ne!(changed.header("etag"), created.header("etag"));

    service
        .delete(&location)
        .send()
        .await
        .expect(StatusCode::NO_CONTENT);
    service
        .get(&location)
        .send()
        .await
        .problem(404, "not_found");
    service
        .delete(&location)
        .send()
        .await
        .problem(404, "not_found");
    // Its slug is free again.
    service.app("billing").await;
}

#[tokio::test]
async fn only_who_knows_the_present_version_changes_it() {
    let service = Service::new().await;
    service.app("billing").await;
    let path = "/v1/apps/billing";
    let first = service.get(path).send().await.header("etag").to_owned();
    let fresh = service
        .get(path)
        .header("if-none-match", &first)
        .send()
        .await;
    assert!(fresh.expect(StatusCode::NOT_MODIFIED).body.is_empty());

    let rename = |name: &str| service.patch(path, json!({ "name": name }));
    rename("One")
        .header("if-match", &first)
        .send()
        .await
        .expect(StatusCode::OK);
    rename("Two")
        .header("if-match", &first)
        .send()
        .await
        .problem(412, "out_of_date");
    service
        .delete(path)
        .header("if-match", &first)
        .send()
        .await
        .problem(412, "out_of_date");
    let read = service
        .get(path)
        .header("if-none-match", &first)
        .send()
        .await;
    let read = read.expect(StatusCode::OK);
    assert_eq!(read.json()["name"], "One");
    let present = read.header("etag");
    service
        .delete(path)
        .header("if-match", present)
        .send()
        .await
        .expect(StatusCode::NO_CONTENT);
}

#[tokio::test]
async fn a_patch_is_a_merge_patch_and_nothing_else() {
    let service = Service::new().await;
    service.app("billing").await;
    let patch = |kind: &str| {
        service
            .patch("/v1/apps/billing", json!({ "name": "x" }))
            .header("content-type", kind)
    };
    patch("application/merge-patch+json")
        .send()
        .await
        .expect(StatusCode::OK);
    patch("application/json-patch+json")
        .send()
        .await
        .problem(415, "unsupported_media_type");
    let refused = service
        .patch("/v1/apps/billing", json!({ "slug": null }))
        .send()
        .await;
    refused.problem(422, "missing");
}

#[tokio::test]
async fn lists_are_read_page_by_page() {
    let service = Service::new().await;
    let mut ids = Vec::new();
    for slug in ["a", "b", "c", "d", "e"] {
        ids.insert(0, service.app(slug).await);
    }
    let (mut path, mut seen) = ("/v1/apps?limit=2".to_owned(), Vec::new());
    loop {
        let page = service.get(&path).send().await.expect(StatusCode::OK);
        let list = page.json();
        assert_eq!(names(&list), ["data", "next_cursor"]);
        let data = list["data"].as_array().unwrap();
        seen.extend(
            data.iter()
                .map(|app| app["id"].as_str().unwrap().to_owned()),
        );
        let Some(cursor) = list["next_cursor"].as_str() else {
            assert!(!page.headers.contains_key("link"));
            break;
        };
        assert_eq!(data.len(), 2);
        path = format!("/v1/apps?limit=2&cursor={cursor}");
        assert_eq!(page.header("link"), format!("<{path}>; rel=\"next\""));
    }
    assert_eq!(seen, ids);
}
