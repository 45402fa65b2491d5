//! `/docs`: the description of this API as a page, without scripts or anything from
//! elsewhere.

use std::{fmt::Write, sync::LazyLock};

use serde_json::Value;

use crate::openapi::openapi_json;

/// Nothing but the page's own style.
pub(crate) const POLICY: &str =
    "default-src 'none'; style-src 'unsafe-inline'; frame-ancestors 'none'";

const STYLE: &str = "
body{font:16px/1.5 system-ui,sans-serif;max-width:60rem;margin:2rem auto;padding:0 1rem;color:#1c2024;background:#fff}
h1{font-size:1.6rem}h2{margin-top:2.5rem;border-bottom:1px solid #d0d5da}h3{margin:1.5rem 0 .25rem;font-size:1rem}
code,pre{font:14px/1.4 ui-monospace,monospace}pre{background:#f3f5f7;padding:.75rem;overflow:auto;border-radius:4px}
b.method{display:inline-block;min-width:4.5rem;color:#0b5c8a}.scope{color:#5a6169;font-size:.875rem}
table{border-collapse:collapse;font-size:.9rem}td{padding:.15rem 1rem .15rem 0;vertical-align:top}
@media(prefers-color-scheme:dark){body{background:#15181b;color:#e3e6e8}pre{background:#1f2428}b.method{color:#7cc4ee}.scope{color:#9aa3ab}h2{border-color:#3a4148}}
";

/// The page, made once.
pub(crate) fn html() -> &'static str {
    static HTML: LazyLock<String> = LazyLock::new(|| {
        let document = serde_json::from_str(openapi_json()).unwrap_or_default();
        page(&document)
    });
    &HTML
}

fn page(document: &Value) -> String {
    let mut html = format!(
        "<!doctype html><html lang=en><meta charset=utf-8><meta name=viewport \
         content=\"width=device-width\"><title>Ringback API</title><style>{STYLE}</style>\
         <h1>Ringback API {}</h1><p>{}</p><p>The same for programs: \
         <a href=/openapi.json>openapi.json</a>.</p>",
        text(&document["info"]["version"]),
        text(&document["info"]["description"]),
    );
    let mut tag = None;
    for (path, method, operation) in operations(&document["paths"]) {
        let own = operation["tags"][0].as_str();
        if own != tag {
            tag = own;
            push(
                &mut html,
                format_args!("<h2>{}</h2>", text(&operation["tags"][0])),
            );
        }
        push_operation(&mut html, method, path, operation);
    }
    push(&mut html, format_args!("<h2>what receivers get</h2>"));
    for (_, method, operation) in operations(&document["webhooks"]) {
        push_operation(&mut html, method, "your URL", operation);
    }
    push(&mut html, format_args!("<h2>shapes</h2>"));
    for (name, schema) in members(&document["components"]["schemas"]) {
        push_schema(&mut html, name, schema);
    }
    html
}

fn push_operation(html: &mut String, method: &str, path: &str, operation: &Value) {
    let method = escape(&method.to_uppercase());
    push(
        html,
        format_args!(
            "<h3><b class=method>{method}</b><code>{}</code></h3>",
            escape(path)
        ),
    );
    push(html, format_args!("<p>{}. ", text(&operation["summary"])));
    push(html, format_args!("{}", text(&operation["description"])));
    if let Some(scope) = operation["security"][0]["key"][0].as_str() {
        push(
            html,
            format_args!(
                " <span class=scope>Needs <code>{}</code>.</span>",
                escape(scope)
            ),
        );
    }
    push(html, format_args!("<table>"));
    for parameter in operation["parameters"].as_array().into_iter().flatten() {
        push_row(
            html,
            &text(&parameter["name"]),
            &text(&parameter["description"]),
        );
    }
    for schema in schemas(&operation["requestBody"]) {
        push_row(html, "body", &shape(schema));
    }
    for (status, response) in members(&operation["responses"]) {
        if status != "default" {
            let shapes: String = schemas(response).map(shape).collect();
            push_row(
                html,
                status,
                &format!("{} {shapes}", text(&response["description"])),
            );
        }
    }
    push(html, format_args!("</table>"));
}

fn push_schema(html: &mut String, name: &str, schema: &Value) {
    let name = escape(name);
    push(
        html,
        format_args!(
            "<h3 id=\"{name}\">{name}</h3><p>{}",
            text(&schema["description"])
        ),
    );
    push(html, format_args!("<table>"));
    let own = std::iter::once(schema);
    for part in own.chain(schema["allOf"].as_array().into_iter().flatten()) {
        if part.get("$ref").is_some() {
            push_row(html, "all of", &shape(part));
        }
        for (field, schema) in members(&part["properties"]) {
            push_row(
                html,
                field,
                &format!("{} {}", shape(schema), text(&schema["description"])),
            );
        }
    }
    push(html, format_args!("</table>"));
}

/// - `html`: with nothing in it that is still to be escaped.
fn push_row(page: &mut String, name: &str, html: &str) {
    push(
        page,
        format_args!("<tr><td><code>{}</code><td>{html}", escape(name)),
    );
}

/// Every operation, by tag in the order of their first appearance.
fn operations(paths: &Value) -> Vec<(&str, &str, &Value)> {
    let all = members(paths).flat_map(|(path, item)| {
        let methods = ["post", "get", "patch", "delete"];
        let own = methods
            .into_iter()
            .filter_map(|method| Some((method, item.get(method)?)));
        own.map(move |(method, operation)| (path, method, operation))
    });
    let mut all: Vec<_> = all.collect();
    all.sort_by_key(|(_, _, operation)| operation["tags"][0].as_str().map(rank));
    all
}

fn rank(tag: &str) -> usize {
    let order = [
        "applications",
        "subscriptions",
        "events",
        "deliveries",
        "keys",
        "system",
    ];
    order
        .iter()
        .position(|known| *known == tag)
        .unwrap_or(order.len())
}

fn schemas(message: &Value) -> impl Iterator<Item = &Value> {
    members(&message["content"]).map(|(_, content)| &content["schema"])
}

/// A schema's name, or what kind of value it is.
fn shape(schema: &Value) -> String {
    if let Some(name) = schema["$ref"]
        .as_str()
        .and_then(|path| path.rsplit('/').next())
    {
        let name = escape(name);
        return format!("<a href=\"#{name}\">{name}</a>");
    }
    for choice in ["oneOf", "anyOf"] {
        let options = schema[choice].as_array().into_iter().flatten();
        let named: Vec<String> = options.map(shape).filter(|name| name != "null").collect();
        if !named.is_empty() {
            return named.join(" or ");
        }
    }
    match &schema["type"] {
        Value::String(kind) if kind == "array" => format!("array of {}", shape(&schema["items"])),
        Value::String(kind) => escape(kind),
        Value::Array(kinds) => {
            let kinds = kinds.iter().filter_map(Value::as_str).map(escape);
            kinds.collect::<Vec<_>>().join(" or ")
        }
        _ => "any JSON".to_owned(),
    }
}

fn members(object: &Value) -> impl Iterator<Item = (&str, &Value)> {
    object
        .as_object()
        .into_iter()
        .flatten()
        .map(|(name, value)| (name.as_str(), value))
}

fn text(value: &Value) -> String {
    escape(value.as_str().unwrap_or_default())
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;")
        .replace('<', "&lt;")
        .replace('>', "&gt;")
        .replace('"', "&quot;")
}

fn push(html: &mut String, text: std::fmt::Arguments<'_>) {
    // Writing to a text cannot fail.
    let _ = html.write_fmt(text);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_page_shows_every_route_and_brings_no_script() {
        let html = html();
        for line in crate::routes().table() {
            assert!(
                html.contains(&format!("<code>{}</code>", line.path)),
                "{}",
                line.path
            );
        }
        assert!(html.contains("webhook-signature"));
        for foreign in ["<script", "src=", "href=http", "url("] {
            assert!(!html.contains(foreign), "{foreign}");
        }
    }

    #[test]
    fn what_is_described_cannot_break_out_of_the_page() {
        let schema = serde_json::json!({ "type": "<b>\"&" });
        assert_eq!(shape(&schema), "&lt;b&gt;&quot;&amp;");
    }
}
