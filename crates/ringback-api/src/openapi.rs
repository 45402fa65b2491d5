//! The description of this API: OpenAPI 3.1, from the code that serves it.

use std::sync::LazyLock;

use ringback_model::Scope;
use serde::Serialize;
use utoipa::{
    Modify, OpenApi, ToSchema,
    openapi::{
        ContentBuilder, HttpMethod, ObjectBuilder, OpenApi as Document, PathItem, PathsBuilder,
        Ref, RefOr, Required, ResponseBuilder, Type,
        path::{Operation, OperationBuilder, ParameterBuilder, ParameterIn},
        request_body::RequestBodyBuilder,
        security::{HttpAuthScheme, HttpBuilder, SecurityRequirement, SecurityScheme},
    },
};

use crate::{
    problem::ProblemDocument,
    routes::{apps, deliveries, events, keys, subscriptions, system},
};

/// The description as JSON, made once.
pub fn openapi_json() -> &'static str {
    static JSON: LazyLock<String> = LazyLock::new(|| {
        // Built of texts: serialising it cannot fail.
        serde_json::to_string(&Description::openapi()).unwrap_or_default()
    });
    &JSON
}

#[derive(OpenApi)]
#[openapi(
    info(
        title = "Ringback",
        description = "Takes events, and delivers them to the URLs that applications registered: \
            signed, retried, at least once."
    ),
    paths(
        apps::create::create,
        apps::list::list,
        apps::get::get,
        apps::update::update,
        apps::delete::delete,
        subscriptions::create::create,
        subscriptions::list::list,
        subscriptions::get::get,
        subscriptions::update::update,
        subscriptions::delete::delete,
        subscriptions::pause::pause,
        subscriptions::pause::resume,
        subscriptions::secret::rotate_secret,
        subscriptions::secret::secret,
        events::publish::publish,
        events::publish_batch::publish_batch,
        events::list::list,
        events::get::get,
        deliveries::list::list,
        deliveries::get::get,
        deliveries::attempts::attempts,
        deliveries::replay::replay,
        deliveries::cancel::cancel,
        keys::create::create,
        keys::list::list,
        keys::revoke::revoke,
        system::livez,
        system::readyz,
        system::metrics,
        system::openapi,
        system::docs,
        system::problem,
    ),
    components(schemas(ProblemDocument, WebhookBody)),
    modifiers(&Security, &Problems, &Webhooks)
)]
struct Description;

/// When to try again: one of three forms.
#[derive(Serialize, ToSchema)]
#[serde(rename_all = "snake_case")]
#[expect(
    dead_code,
    reason = "shows the schema of `RetrySpec`, whose crate knows no OpenAPI"
)]
pub(crate) enum Retry {
    /// `standard` (5 s, 5 min, 30 min, 2 h, 5 h, 10 h, 14 h, 20 h, 24 h) or `fast`
    /// (1, 5, 30, 120, 600 s).
    Preset(String),
    /// The waits in seconds before the second, third, … attempt.
    ScheduleS(Vec<f64>),
    /// Waits that grow by a factor up to a cap.
    Exponential {
        initial_s: f64,
        factor: f64,
        max_s: f64,
        attempts: u16,
    },
}

/// What a receiver gets as the body of a request.
// `ringback_model::delivery_body` writes it; this shows its schema.
#[derive(Serialize, ToSchema)]
struct WebhookBody {
    /// The event's type.
    #[serde(rename = "type")]
    #[schema(example = "order.paid")]
    event_type: String,
    /// When the event was accepted.
    #[schema(format = DateTime)]
    timestamp: String,
    /// As the producer gave it, byte for byte.
    #[schema(value_type = Value)]
    data: String,
}

/// Which scope a key needs is in the table of routes.
struct Security;

impl Modify for Security {
    fn modify(&self, document: &mut Document) {
        let bearer = HttpBuilder::new()
            .scheme(HttpAuthScheme::Bearer)
            .bearer_format("rbk_…");
        let components = document.components.get_or_insert_default();
        components.add_security_scheme("key", SecurityScheme::Http(bearer.build()));
        for line in crate::routes().table() {
            let item = document.paths.paths.get_mut(line.path);
            let operation = item.and_then(|item| operation(item, line.method));
            if let Some(operation) = operation {
                let needed = |scope: Scope| SecurityRequirement::new("key", [scope.as_str()]);
                operation.security = Some(line.scope.map(needed).into_iter().collect());
            }
        }
    }
}

fn operation<'a>(item: &'a mut PathItem, method: &str) -> Option<&'a mut Operation> {
    match method {
        "GET" => item.get.as_mut(),
        "POST" => item.post.as_mut(),
        "PATCH" => item.patch.as_mut(),
        "DELETE" => item.delete.as_mut(),
        _ => None,
    }
}

/// Everything may be refused, and every refusal looks alike.
struct Problems;

impl Modify for Problems {
    fn modify(&self, document: &mut Document) {
        let problem = Ref::from_schema_name("Problem");
        let refused = ResponseBuilder::new()
            .description("It is refused; `code` and `errors` say why.")
            .content(
                "application/problem+json",
                ContentBuilder::new().schema(Some(problem)).build(),
            )
            .build();
        for item in document.paths.paths.values_mut() {
            for method in ["GET", "POST", "PATCH", "DELETE"] {
                if let Some(operation) = operation(item, method) {
                    let responses = &mut operation.responses.responses;
                    responses.insert("default".to_owned(), RefOr::T(refused.clone()));
                }
            }
        }
    }
}

/// What receivers get.
struct Webhooks;

impl Modify for Webhooks {
    fn modify(&self, document: &mut Document) {
        let body = ContentBuilder::new()
            .schema(Some(Ref::from_schema_name("WebhookBody")))
            .build();
        let body = RequestBodyBuilder::new()
            .content("application/json", body)
            .required(Some(Required::True))
            .build();
        let taken = ResponseBuilder::new()
            .description("Taken. Anything else is tried again; 410 disables the subscription.");
        let headers = WEBHOOK_HEADERS.map(|(name, description)| {
            ParameterBuilder::new()
                .name(name)
                .parameter_in(ParameterIn::Header)
                .description(Some(description))
                .required(Required::True)
                .schema(Some(ObjectBuilder::new().schema_type(Type::String)))
                .build()
        });
        let operation = OperationBuilder::new()
            .operation_id(Some("receive_event"))
            .tag("webhooks")
            .summary(Some("An event"))
            .description(Some(
                "Sent to a subscription's URL, signed as Standard Webhooks 1.0.0 lays down. \
                 It may come more than once: drop repeats by `webhook-id`.",
            ))
            .parameters(Some(headers))
            .request_body(Some(body))
            .response("2XX", taken)
            .build();
        let item = PathItem::new(HttpMethod::Post, operation);
        document.webhooks = Some(PathsBuilder::new().path("event", item).build());
    }
}

const WEBHOOK_HEADERS: [(&str, &str); 5] = [
    (
        "webhook-id",
        "The event's id: the same at every attempt and every replay.",
    ),
    (
        "webhook-timestamp",
        "When this attempt was made, in Unix seconds.",
    ),
    (
        "webhook-signature",
        "`v1,` and the HMAC-SHA256 of `{webhook-id}.{webhook-timestamp}.{body}` in base64; one \
         per live secret, parted by spaces.",
    ),
    ("user-agent", "`Ringback/` and the version."),
    ("ringback-attempt", "Counted from 1."),
];

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use serde_json::Value;

    use super::*;

    fn document() -> Value {
        serde_json::from_str(openapi_json()).unwrap()
    }

    #[test]
    fn the_description_has_every_route_and_no_more() {
        let document = document();
        let paths = document["paths"].as_object().unwrap();
        let described = paths.iter().flat_map(|(path, item)| {
            let methods = item.as_object().unwrap().iter();
            methods.map(move |(method, operation)| {
                let scope = operation["security"][0]["key"][0]
                    .as_str()
                    .map(str::to_owned);
                (path.clone(), method.to_uppercase(), scope)
            })
        });
        let table = crate::routes();
        let served = table.table().iter().map(|line| {
            let scope = line.scope.map(|scope| scope.as_str().to_owned());
            (line.path.to_owned(), line.method.to_owned(), scope)
        });
        assert_eq!(described.collect::<BTreeSet<_>>(), served.collect());
    }

    #[test]
    fn it_is_openapi_3_1_with_what_receivers_get() {
        let document = document();
        assert_eq!(document["openapi"], "3.1.0");
        let webhook = &document["webhooks"]["event"]["post"];
        assert_eq!(webhook["parameters"][0]["name"], "webhook-id");
        assert_eq!(webhook["parameters"][0]["in"], "header");
    }

    #[test]
    fn every_reference_leads_somewhere() {
        let document = document();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut references = Vec::new();
        collect(&document, &mut references);
        assert!(references.len() > 20);
        for reference in references {
            let name = reference.strip_prefix("#/components/schemas/").unwrap();
            assert!(schemas.contains_key(name), "{reference}");
        }
    }

    fn collect<'a>(value: &'a Value, references: &mut Vec<&'a str>) {
        match value {
            Value::Object(members) => {
                references.extend(members.get("$ref").and_then(Value::as_str));
                members
                    .values()
                    .for_each(|member| collect(member, references));
            }
            Value::Array(items) => items.iter().for_each(|item| collect(item, references)),
            _ => {}
        }
    }

    #[test]
    fn every_operation_has_a_name_of_its_own() {
        let document = document();
        let paths = document["paths"].as_object().unwrap().values();
        let operations = paths.flat_map(|item| item.as_object().unwrap().values());
        let ids: Vec<_> = operations
            .map(|one| one["operationId"].as_str().unwrap())
            .collect();
        let distinct: BTreeSet<_> = ids.iter().collect();
        assert_eq!(distinct.len(), ids.len());
    }
}
